"""The reference mask of a model: the most typical numbered spine of its training set (paper, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.imaging.components import component_list
from ivdjax.imaging.geometry import cropped
from ivdjax.volume import LUMBAR_DISCS, Grid, LabelMap

_MARGIN_VOXELS = 2

Labels = NDArray[np.uint8]
Centroids = Mapping[int, NDArray[np.float64]]


def reference_mask(cases: Sequence[tuple[Labels, Grid]]) -> LabelMap:
    """The medoid of a training set: of the cases with all of levels 1 to 7, the one most like the others.

    Centroids of the seven discs are aligned by translation; the case whose centroids lie nearest (mean square) to the
    mean of the other cases' is taken, the first among equals. Where no case has all seven, the first of those with the
    most of them is. Only levels 1 to 7 are kept, cropped to their bounding box and two voxels around it, on the case's
    own grid otherwise.

    Args:
        cases: numbered labels (D, H, W), 1 = L5/S1 upward, and the grid of each.

    Raises:
        ValueError: no case has any of levels 1 to 7.
    """
    spines = [_centroids(labels, grid) for labels, grid in cases]
    most = max((len(spine) for spine in spines), default=0)
    if most == 0:
        raise ValueError(f"a reference needs a case with numbered discs, and none of {len(cases)} has any of levels "
                         f"1 to {LUMBAR_DISCS}; look at the labels of the training set")  # fmt: skip
    fullest = [place for place, spine in enumerate(spines) if len(spine) == most]
    chosen = fullest[_medoid([spines[place] for place in fullest])] if most == LUMBAR_DISCS else fullest[0]
    return _lumbar(*cases[chosen])


def _centroids(labels: Labels, grid: Grid) -> Centroids:
    return {found.number: np.array(found.centroid_mm) for found in component_list(labels, grid)
            if found.number <= LUMBAR_DISCS}  # fmt: skip


def _medoid(spines: Sequence[Centroids]) -> int:
    """Place of the spine nearest to the mean of the others; all have the same levels."""
    points = np.array([[spine[level] for level in sorted(spine)] for spine in spines])
    points -= points.mean(axis=1, keepdims=True)
    # With N spines p, the mean of the others is (sum - p) / (N - 1), so p lies N / (N - 1) as far from it as from the
    # mean of all: the order is the same.
    return int(((points - points.mean(axis=0)) ** 2).sum(axis=(1, 2)).argmin())


def _lumbar(labels: Labels, grid: Grid) -> LabelMap:
    kept = np.where(labels <= LUMBAR_DISCS, labels, 0).astype(np.uint8)
    tight = ndimage.find_objects((kept > 0).astype(np.uint8))[0]
    d, h, w = (slice(max(part.start - _MARGIN_VOXELS, 0), min(part.stop + _MARGIN_VOXELS, size))
               for part, size in zip(tight, grid.shape, strict=True))  # fmt: skip
    return LabelMap(np.ascontiguousarray(kept[d, h, w]), cropped(grid, (d, h, w)).affine)
