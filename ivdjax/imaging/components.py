"""Connected components of a mask, in the order of the spine: from the lowest upward."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.volume import Grid, to_world_mm


@dataclass(frozen=True)
class Component:
    """One component: its number in the label array, centroid in RAS+ mm, volume in mm3."""

    number: int
    centroid_mm: tuple[float, float, float]
    volume_mm3: float


def components(mask: NDArray[np.bool_], grid: Grid, min_mm3: float = 0.0) -> NDArray[np.int32]:
    """Connected components of a mask (D, H, W), numbered 1, 2, ... from the lowest centroid (smallest RAS z) upward.

    Voxels connect through faces only: a disc is several voxels thick everywhere and holds together, while two discs
    whose bulging rims meet at an edge or a corner stay two. Components below `min_mm3` are left out; an empty mask
    gives zeros.
    """
    raw, count = ndimage.label(np.asarray(mask, dtype=bool))
    if count == 0:
        return np.zeros(grid.shape, np.int32)
    # A whole number of voxels may equal the bound; the last bit of their size must not decide.
    found = [c for c in component_list(raw, grid) if c.volume_mm3 >= min_mm3 * (1 - 1e-6)]
    found.sort(key=lambda c: c.centroid_mm[2])
    order = np.zeros(count + 1, np.int32)
    for number, component in enumerate(found, start=1):
        order[component.number] = number
    return order[raw]


def component_list(labels: NDArray[np.integer], grid: Grid) -> list[Component]:
    """Centroid and volume of each positive number in an array (D, H, W), by rising number; empty for zeros."""
    place = np.nonzero(labels)
    numbers = labels[place].astype(np.int64)
    if numbers.size == 0:
        return []
    voxels = np.bincount(numbers)
    sums = [np.bincount(numbers, weights=axis) for axis in place]
    present = np.nonzero(voxels)[0]
    means = np.stack([total[present] / voxels[present] for total in sums], axis=1)
    centroids = to_world_mm(grid.affine, means)
    return [
        Component(int(n), (float(x), float(y), float(z)), float(voxels[n] * grid.voxel_mm3))
        for n, (x, y, z) in zip(present, centroids, strict=True)
    ]
