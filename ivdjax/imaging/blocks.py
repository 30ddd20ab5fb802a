"""Blocks of one fixed size over a whole volume, and the way back: the 3D counterpart of `boxes`.

A volume smaller than a block is padded with zeros at its ends; a larger one is covered by blocks that overlap, so that
volumes of any size pass through one compiled shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.boxes import ramp, starts

Corner = tuple[int, int, int]
"""First slice, row and column of a block."""


def block_origins(shape: Sequence[int], block: Sequence[int], overlap: float) -> list[Corner]:
    """First voxels of the blocks (D, H, W) that cover a volume (D, H, W), evenly spread.

    `overlap` is the smallest share of a block, at least 0 and below 1, that neighbouring blocks have in common.
    """
    places = [starts(side, part, overlap) for side, part in zip(shape, block, strict=True)]
    return [(d, h, w) for d, h, w in product(*places)]


def cut_blocks(
    image: NDArray[np.uint8], origins: Sequence[Corner], block: tuple[int, int, int]
) -> Iterator[NDArray[np.uint8]]:
    """Each block as a batch of one, (1, D, H, W, C), of an image (C, D, H, W)."""
    for d, h, w in origins:
        batch = np.zeros((1, *block, image.shape[0]), image.dtype)
        part = image[:, d : d + block[0], h : h + block[1], w : w + block[2]]
        batch[0, : part.shape[1], : part.shape[2], : part.shape[3]] = np.moveaxis(part, 0, -1)
        yield batch


def blend_blocks(
    blocks: Sequence[NDArray[np.float32]], origins: Sequence[Corner], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Mean (K, D, H, W) of overlapping blocks (D, H, W, K), each weighted by its voxels' distance from its border.

    Raises:
        ValueError: no block, or another number of blocks than of origins.
    """
    if not blocks:
        raise ValueError("there is no block to blend")
    sides, classes = blocks[0].shape[:3], blocks[0].shape[3]
    along = [ramp(side) for side in sides]
    weight = np.minimum.reduce(np.meshgrid(*along, indexing="ij")).astype(np.float32)
    total = np.zeros((classes, *shape), np.float32)
    weights = np.zeros(shape, np.float32)
    for values, origin in zip(blocks, origins, strict=True):
        size = [min(side, n - start) for side, n, start in zip(sides, shape, origin, strict=True)]
        inner = tuple(slice(0, n) for n in size)
        there = tuple(slice(start, start + n) for start, n in zip(origin, size, strict=True))
        total[(slice(None), *there)] += np.moveaxis(values[inner] * weight[inner][..., None], -1, 0)
        weights[there] += weight[inner]
    return np.divide(total, weights[None], out=total, where=weights[None] > 0)
