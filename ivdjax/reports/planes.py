"""The two planes of the overview: a mid-sagittal and a mid-coronal one that follow the discs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivdjax.volume import Disc, LabelMap, to_index

NARROW_MM = 60.0
"""A coronal plane of fewer millimetres, that of a slab, is drawn wider than it is, so that it can be read."""
_MOST_WIDENED = 5
_AROUND_AP_MM = 62.0
_AROUND_SIDE_MM = 45.0
_STRAIGHT_MM = 4.0
"""A spine whose centroids stay this near to their median lies in one sagittal slice."""


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane (rows H, columns D or W) of image and labels, its height and width in mm, and its captions."""

    image: NDArray
    labels: NDArray[np.uint8]
    size_mm: tuple[float, float]
    caption: str
    letters: tuple[str, str]


def spine_planes(image: NDArray, labels: LabelMap, discs: Sequence[Disc]) -> tuple[Plane, Plane]:
    """The sagittal plane (H, W) and the coronal one (H, D), cropped round the discs from front to back and sideways."""
    size_d, size_h, size_w = image.shape
    step_d, step_h, step_w = labels.spacing_mm
    rows = np.arange(size_h)
    if discs:
        centres = to_index(labels.affine, np.array([disc.centroid_mm for disc in discs]))
        d, h, w = centres[np.argsort(centres[:, 1])].T
    else:
        d, h, w = np.array([[(size_d - 1) / 2], [(size_h - 1) / 2], [(size_w - 1) / 2]])
    straight = np.abs(d - np.median(d)).max() * step_d <= _STRAIGHT_MM
    d_of_row = np.full(size_h, round(float(np.median(d)))) if straight else np.interp(rows, h, d)
    w_of_row = np.interp(rows, h, w)
    sides, depth = slice(0, size_d), slice(0, size_w)
    if discs:
        used_d, _, used_w = np.nonzero(labels.array)
        sides, depth = _crop(used_d, step_d, size_d, _AROUND_SIDE_MM), _crop(used_w, step_w, size_w, _AROUND_AP_MM)
    height_mm = size_h * step_h
    sagittal = Plane(
        _along(image, d_of_row)[:, depth],
        _along(labels.array, np.rint(d_of_row))[:, depth].astype(np.uint8),
        (height_mm, (depth.stop - depth.start) * step_w),
        f"sagittal, slice {round(float(np.median(d))) + 1} of {size_d}" if straight else "sagittal along the spine",
        ("A", "P"),
    )
    width_mm = (sides.stop - sides.start) * step_d
    times = min(_MOST_WIDENED, max(1, int(np.ceil(NARROW_MM / width_mm))))
    turned_image, turned_labels = image.transpose(2, 1, 0), labels.array.transpose(2, 1, 0)
    coronal = Plane(
        _along(turned_image, w_of_row)[:, sides],
        _along(turned_labels, np.rint(w_of_row))[:, sides].astype(np.uint8),
        (height_mm, width_mm * times),
        ("coronal along the spine" if discs else "coronal") + (f", {times} times as wide" if times > 1 else ""),
        ("R", "L"),
    )
    return sagittal, coronal


def _along(array: NDArray, place: NDArray[np.floating]) -> NDArray:
    """Rows (H, K) of an array (N, H, K), row h taken at the fractional index place[h], linearly."""
    place = np.clip(place, 0, array.shape[0] - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, array.shape[0] - 1)
    share = (place - low)[:, None]
    rows = np.arange(array.shape[1])
    if not share.any():
        return np.asarray(array[low, rows])
    return np.asarray(array[low, rows] * (1 - share) + array[high, rows] * share)


def _crop(used: NDArray, step_mm: float, size: int, around_mm: float) -> slice:
    margin = int(np.ceil(around_mm / step_mm))
    return slice(max(int(used.min()) - margin, 0), min(int(used.max()) + 1 + margin, size))
