"""Boxes of one fixed size over the slices of a volume, and the way back: cut and blend.

Every slice, or the part of it that a region takes, is covered by boxes that overlap; a slice smaller than a box is
padded with zeros at its end. The boxes' size is the one that the network was trained with, because its attention and
normalisation see the whole box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Origin = tuple[int, int, int]
"""Slice index d and first row and column (h, w) of a box."""


def box_origins(shape: tuple[int, int, int], box: tuple[int, int], overlap: float) -> list[Origin]:
    """Origins of boxes (H, W) that cover every slice of a volume (D, H, W), evenly spread.

    Args:
        shape: the volume's size.
        box: the boxes' size.
        overlap: smallest share, at least 0 and below 1, that neighbouring boxes have in common.
    """
    rows, columns = (starts(side, part, overlap) for side, part in zip(shape[1:], box, strict=True))
    return [(d, h, w) for d in range(shape[0]) for h in rows for w in columns]


def region_origins(region: NDArray[np.bool_], box: tuple[int, int], overlap: float) -> list[Origin]:
    """Origins of boxes (H, W) that cover every voxel of a region (D, H, W) and follow it.

    In each slice the rows that the region takes are tiled; in each tile so are the columns that it takes in those rows.
    A span that fits into one box lies in its middle, as far as the slice allows. Slices and tiles without the region
    get no box, an empty region gives none.

    Args:
        region: the voxels to cover.
        box: the boxes' size.
        overlap: smallest share, at least 0 and below 1, that neighbouring boxes have in common.
    """
    height, width = box
    origins = []
    for d in np.flatnonzero(region.any(axis=(1, 2))):
        for h in _tiles(region[d], 0, height, overlap):
            tile = region[d, h : h + height]
            origins += [(int(d), h, w) for w in _tiles(tile, 1, width, overlap)]
    return origins


def cut_boxes(
    image: NDArray[np.uint8], origins: Sequence[Origin], box: tuple[int, int], batch_size: int
) -> Iterator[NDArray[np.uint8]]:
    """Batches (batch_size, H, W, C) of boxes of an image (C, D, H, W); the last is filled up with zeros."""
    channels = image.shape[0]
    for start in range(0, len(origins), batch_size):
        batch = np.zeros((batch_size, *box, channels), image.dtype)
        for place, (d, h, w) in enumerate(origins[start : start + batch_size]):
            part = image[:, d, h : h + box[0], w : w + box[1]]
            batch[place, : part.shape[1], : part.shape[2]] = np.moveaxis(part, 0, -1)
        yield batch


def blend_boxes(
    boxes: NDArray[np.float32], origins: Sequence[Origin], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Mean (D, H, W) of overlapping boxes (N, H, W), each weighted by its voxels' distance from its border.

    What lies outside of `shape` is cut off; a voxel that no box covers gets 0.

    Raises:
        ValueError: another number of boxes than of origins.
    """
    height, width = boxes.shape[1:]
    weight = np.minimum.outer(ramp(height), ramp(width)).astype(np.float32)
    total = np.zeros(shape, np.float32)
    weights = np.zeros(shape, np.float32)
    for values, (d, h, w) in zip(boxes, origins, strict=True):
        rows, columns = min(height, shape[1] - h), min(width, shape[2] - w)
        total[d, h : h + rows, w : w + columns] += (weight * values)[:rows, :columns]
        weights[d, h : h + rows, w : w + columns] += weight[:rows, :columns]
    # Where no box lies both are 0, and so is the result.
    return np.divide(total, weights, out=total, where=weights > 0)


def starts(side: int, box: int, overlap: float) -> list[int]:
    """First voxels of the boxes of `box` voxels that cover `side` voxels along one axis, evenly spread."""
    if side <= box:
        return [0]
    # A whole stride, so that rounding the starts never takes anything from the overlap.
    stride = max(math.floor(box * (1 - overlap)), 1)
    count = math.ceil((side - box) / stride) + 1
    return [round(i * (side - box) / (count - 1)) for i in range(count)]


def _tiles(region: NDArray[np.bool_], axis: int, box: int, overlap: float) -> list[int]:
    """Starts of tiles of `box` places along an axis that cover a region (H, W); each holds some of it."""
    taken = np.asarray(region.any(axis=1 - axis))
    places = np.flatnonzero(taken)
    if not len(places):
        return []
    first, span = int(places[0]), int(places[-1] - places[0]) + 1
    first -= max(box - span, 0) // 2
    tiles = [min(max(first + start, 0), max(len(taken) - box, 0)) for start in starts(span, box, overlap)]
    return [tile for tile in tiles if taken[tile : tile + box].any()]


def ramp(side: int) -> NDArray[np.float64]:
    """Weights that rise linearly from the border of a box to its middle."""
    place = np.arange(side)
    return (np.minimum(place, place[::-1]) + 1) / ((side + 1) // 2)
