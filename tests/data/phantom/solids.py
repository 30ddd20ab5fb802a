"""Masks of a phantom's solids on any grid, quickly: no image is painted."""

from __future__ import annotations

import numpy as np

from ivdjax.data.phantom.discs import body_distance, disc_distance
from ivdjax.data.phantom.spine import sample_spine
from ivdjax.volume import LabelMap, to_world_mm


def solid_masks(seed, hard, shape, spacing_mm, turn):
    """A spine, and labels and tissues (D, H, W) of its lumbar discs and bodies on a grid turned by `turn` (3, 3)."""
    spine = sample_spine(np.random.default_rng(seed), hard)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(-np.array(spacing_mm)) @ np.eye(3)[[0, 2, 1]]
    middle = spine.disc(3).frame.centre_mm
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    points = to_world_mm(affine, np.moveaxis(np.indices(shape), 0, -1).astype(float))
    points = np.moveaxis(points, -1, 0).astype(np.float32)
    labels, tissues = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for level in range(1, 6):
        index = level - spine.discs[0].level
        for place, distance, value in (
            (spine.body_frames[index], lambda at, i=index: body_distance(spine, i, at), 2),
            (spine.disc(level).frame, lambda at, i=level: disc_distance(spine.disc(i), at), 1),
        ):
            near = (np.abs(points - place.centre_mm.astype(np.float32)[:, None, None, None]) < 34).all(axis=0)
            box = tuple(slice(side.min(), side.max() + 1) for side in np.nonzero(near))
            inside = distance(points[(slice(None), *box)]) <= 0
            tissues[box][inside] = value
            if value == 1:
                labels[box][inside] = level
    return spine, LabelMap(labels, affine), LabelMap(tissues, affine)
