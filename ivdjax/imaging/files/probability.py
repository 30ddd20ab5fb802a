"""Probability maps as NIfTI: 8 bits a voxel with a scale in the header.

NIfTI has no 16-bit float, and 32-bit floats make files many times as large for digits that mean nothing. So 0 to 1 is
stored as 0 to 255 with the scale (`scl_slope`) 1/255, which every NIfTI reader applies: what is read back differs from
what was written by at most half a step, 1/510.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.files import nifti
from ivdjax.imaging.folders import whole_file
from ivdjax.imaging.geometry import from_canonical
from ivdjax.volume import Grid

STEP = 1.0 / 255.0
"""The distance of neighbouring values in a file."""

_SLACK = 1e-3


def write_probability(path: Path, probability: NDArray[np.floating], native: Grid) -> None:
    """Stores a canonical (D, H, W) map of probabilities on the file grid `native`; whole or not at all.

    Args:
        path: ending in .nii.gz or .nii.
        probability: (D, H, W), 0 to 1; rounding errors of a float beyond either end are cut off.
        native: the grid of the file that the map belongs to.

    Raises:
        ValueError: another ending, values that are no probabilities, or an array that does not fit the grid.
        OSError: the file cannot be written.
    """
    import nibabel

    path = Path(path)
    suffix = next((suffix for suffix in nifti.SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise ValueError(f"{path.name} must end in {' or '.join(nifti.SUFFIXES)}: other formats have no scale")
    low, high = float(np.min(probability)), float(np.max(probability))
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # written so that NaN is refused too
        raise ValueError(f"{path.name}: probabilities must be 0 to 1, not {low:g} to {high:g}")
    stored = np.rint(np.clip(from_canonical(np.asarray(probability), native), 0, 1) / STEP).astype(np.uint8)
    affine = np.asarray(native.affine, dtype=np.float64)
    image = nibabel.Nifti1Image(stored, affine)
    image.set_sform(affine, code="scanner")  # alone: a qform could not hold a shear
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(STEP, 0.0)
    image.header["cal_max"] = 1.0
    with whole_file(path, path.name[-len(suffix) :]) as part:
        nibabel.save(image, part)
