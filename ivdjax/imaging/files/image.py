"""What every image file gives once it is read, and the checks that all formats share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivdjax.volume import CaseError, Grid, spacing_of

MAX_VOXELS = 500_000_000
"""More voxels than any MR volume has: a header that promises more is damaged."""

PLAUSIBLE_SPACING_MM = (0.01, 100.0)

LONGEST_VIEW_MM = 3000.0
"""A field of view that is longer along an axis holds no person: its voxel sizes are wrong, or not in mm."""


@dataclass(frozen=True, eq=False)
class FileImage:
    """One 3D image as it lies in its file: array (I, J, K) in the file's axis order, affine to RAS+ mm, remarks."""

    array: NDArray
    affine: NDArray[np.float64]
    remarks: tuple[str, ...] = ()

    @property
    def grid(self) -> Grid:
        """The file's own grid."""
        i, j, k = self.array.shape
        return Grid((i, j, k), self.affine)


def checked_shape(shape: tuple[int, ...], path: Path, case: str) -> tuple[int, int, int]:
    """The three sizes of a 3D image whose further axes, if any, have the length 1.

    Raises:
        CaseError: fewer than three axes, several frames, an empty axis, or more voxels than an MR volume can have.
    """
    if len(shape) < 3:
        raise CaseError(f"case {case}: {path} holds a 2D image {shape}; a volume of sagittal slices is needed")
    if any(n != 1 for n in shape[3:]):
        raise CaseError(
            f"case {case}: {path} holds several frames, shape {shape}; give one 3D file for each channel or frame"
        )
    if min(shape) < 1:
        raise CaseError(f"case {case}: {path} has an axis without voxels, shape {shape}; export it again")
    i, j, k = shape[:3]
    if i * j * k > MAX_VOXELS:
        raise CaseError(f"case {case}: {path} claims {i} x {j} x {k} voxels, more than {MAX_VOXELS}; is it damaged?")
    return i, j, k


def is_plausible_mm(affine: NDArray) -> bool:
    """Whether an affine's voxels are of a size that those of an MR image may have in mm."""
    low, high = PLAUSIBLE_SPACING_MM
    return all(low <= size <= high for size in spacing_of(affine))


def checked_affine(affine: NDArray, shape: tuple[int, int, int], path: Path, case: str) -> NDArray[np.float64]:
    """The (4, 4) affine of an image of a shape (I, J, K), as float64.

    Raises:
        CaseError: it is not finite, singular, or its voxels or its field of view are of no plausible size.
    """
    affine = np.array(affine, dtype=np.float64)
    if not np.isfinite(affine).all():
        raise CaseError(f"case {case}: the affine of {path} is not finite; export the image again")
    spacing = spacing_of(affine)
    low, high = PLAUSIBLE_SPACING_MM
    if min(spacing) > 0 and abs(np.linalg.det(affine[:3, :3] / np.array(spacing))) < 1e-3:
        raise CaseError(f"case {case}: the affine of {path} is singular: its axes lie in one plane; export it again")
    if not is_plausible_mm(affine):
        sizes = " x ".join(f"{s:g}" for s in spacing)
        raise CaseError(
            f"case {case}: voxels of {path} must be {low:g} to {high:g} mm long, not {sizes}; "
            "the affine is singular or not in millimetres"
        )
    longest_mm = max(size * step for size, step in zip(shape, spacing, strict=True))
    if longest_mm > LONGEST_VIEW_MM:
        raise CaseError(
            f"case {case}: the field of view of {path} is {longest_mm / 1000:.1f} m long; its voxel sizes must be "
            "wrong or not in millimetres"
        )
    return affine


def checked_type(kind: np.dtype, path: Path, case: str) -> None:
    """Lets one gray value a voxel pass.

    Raises:
        CaseError: colors or complex values.
    """
    if kind.fields is not None:
        raise CaseError(f"case {case}: {path} holds colors ({kind}); one gray value a voxel is needed")
    if kind.kind == "c":
        raise CaseError(f"case {case}: {path} holds complex values; write its magnitude as a file of its own")


def checked_values(array: NDArray, path: Path, case: str) -> NDArray:
    """The array in native byte order, booleans as uint8.

    Raises:
        CaseError: colors, complex values, or no finite value at all.
    """
    checked_type(array.dtype, path, case)
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if array.dtype.kind == "f" and not np.isfinite(array).any():
        raise CaseError(f"case {case}: {path} holds no finite value; export the image again")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
