"""Contrasts made from a scan by fixed rules, to see what a network does with a sequence that it was not trained on.

Nothing is random: the same scan gives the same image. Air stays dark throughout, anatomy and outlines stay as they are.
The brightnesses stand for a sequence as a radiologist knows it; they are no physics, and no scanner made these images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.data.preparation import Prepared
from ivdjax.imaging.intensity import to_uint8
from ivdjax.learning.contrast import AIR, CANAL, S1_BLOCK, VERTEBRA
from ivdjax.model.targets import class_brightness, with_classes
from ivdjax.volume import TISSUES, UserError

SLICE_MM = 4.4
"""Thickness of the slices of a clinical scan."""

BLUR_MM = 2.0
"""Standard deviation of the blur, in plane."""

_DISC = TISSUES.index("disc") + 1
_LIGAMENT, _MUSCLE, _MARROW, _FAT = range(S1_BLOCK + 1, S1_BLOCK + 5)
"""Clusters of what has no outline, from dark to bright, by what each mostly holds in a T2 image."""

_T1: Mapping[int, tuple[float, float]] = {
    _DISC: (0.32, 0.25), VERTEBRA: (0.5, 0.6), S1_BLOCK: (0.5, 0.6), CANAL: (0.18, -0.3),
    _LIGAMENT: (0.1, 0.6), _MUSCLE: (0.3, 0.6), _MARROW: (0.5, 0.6), _FAT: (0.85, 0.6),
}  # fmt: skip
"""Brightness of a class and the share of its texture that stays: discs show no nucleus, fluid is darker than nerves."""

_FAT_SUPPRESSED: Mapping[int, tuple[float, float]] = {
    _DISC: (0.35, 1.5), VERTEBRA: (0.22, 0.6), S1_BLOCK: (0.22, 0.6), CANAL: (0.8, 0.6),
    _LIGAMENT: (0.1, 0.6), _MUSCLE: (0.25, 0.6), _MARROW: (0.22, 0.6), _FAT: (0.12, 0.3),
}  # fmt: skip
"""With fat out of the way, water spreads over the whole range: discs and muscle stand above marrow."""


def inverted(case: Prepared) -> Prepared:
    """Bright and dark exchanged."""
    lit = with_classes(case).classes != AIR
    return replace(case, image=np.where(lit, 255 - case.image, case.image))


def like_t1(case: Prepared) -> Prepared:
    """Each tissue as bright as in a T1 image: fat brightest, then marrow, discs below it, fluid dark.

    Raises:
        UserError: the case has no tissue map.
    """
    return _with_means(case, _T1)


def like_fat_suppressed(case: Prepared) -> Prepared:
    """Each tissue as bright as in a T2 image with fat suppressed: fluid brightest, discs above marrow, fat dark.

    Raises:
        UserError: the case has no tissue map.
    """
    return _with_means(case, _FAT_SUPPRESSED)


def in_thick_slices(case: Prepared) -> Prepared:
    """Each slice averaged over `SLICE_MM`; the outlines stay those of the thin slice at its middle."""
    reach = SLICE_MM / case.grid.spacing_mm[0] / 2
    offsets = np.arange(-np.ceil(reach), np.ceil(reach) + 1)
    share = np.clip(reach + 0.5 - np.abs(offsets), 0.0, 1.0)  # of each slice, what lies within the thick one
    mean = ndimage.correlate1d(case.image / 255.0, share / share.sum(), axis=1, mode="nearest")
    return replace(case, image=to_uint8(mean))


def blurred(case: Prepared) -> Prepared:
    """A Gaussian blur of `BLUR_MM` in plane."""
    return replace(case, image=_smoothed(case, case.image / 255.0, BLUR_MM))


CONTRASTS: Mapping[str, Callable[[Prepared], Prepared]] = {
    "inverted": inverted,
    "like T1": like_t1,
    "like fat-suppressed T2": like_fat_suppressed,
    "thick slices": in_thick_slices,
    "blurred": blurred,
}
"""What can be made of a T2 scan, by the name in a table."""


def _with_means(case: Prepared, wanted: Mapping[int, tuple[float, float]]) -> Prepared:
    """The case with classes at other brightnesses, each with a share of its own texture."""
    if case.tissues is None:
        raise UserError(f"case {case.name} has no tissue map to make another contrast from; add one to its folder")
    classes = with_classes(case).classes
    assert classes is not None
    means, _ = class_brightness(case.image, classes)
    image = case.image / 255.0
    for value, (mean, texture) in wanted.items():
        there = classes == value
        image[:, there] = mean + texture * (image[:, there] - means[value][:, None])
    # One class a voxel leaves hard edges where tissues share a voxel; half a voxel of blur stands for that.
    return replace(case, image=_smoothed(case, image, case.grid.spacing_mm[1] / 2))


def _smoothed(case: Prepared, image: NDArray[np.floating], sigma_mm: float) -> NDArray[np.uint8]:
    _, row_mm, column_mm = case.grid.spacing_mm
    return to_uint8(ndimage.gaussian_filter(image, (0, 0, sigma_mm / row_mm, sigma_mm / column_mm), mode="nearest"))
