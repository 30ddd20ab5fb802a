"""NIfTI-1 and NIfTI-2 files, plain or gzipped, through nibabel."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.files.image import FileImage, checked_affine, checked_shape, checked_values
from ivdjax.volume import CaseError, Grid

SUFFIXES = (".nii.gz", ".nii")

_GZIP = b"\x1f\x8b"
_GZIP_FORMAT = 16 + zlib.MAX_WBITS
"""Makes zlib write gzip's header, without a time."""
_NIFTI_2_HEADER = 540

_FORMS_APART_MM = 1.0


def read(path: Path, case: str) -> FileImage:
    """One 3D image with its intensity scale applied; the sform is preferred, then the qform.

    Raises:
        CaseError: empty, truncated or not NIfTI; not 3D; colors or complex values; nothing finite; a singular affine.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    if path.is_file() and path.stat().st_size == 0:
        raise CaseError(f"case {case}: {path} is empty; copy it again")
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP):
            # As a whole, so that gzip's own checksum is looked at; reading only the voxels would never come to it.
            content = gzip.decompress(content)
        second = _NIFTI_2_HEADER in (int.from_bytes(content[:4], order) for order in ("little", "big"))
        return loaded((nibabel.Nifti2Image if second else nibabel.Nifti1Image).from_bytes(content), path, case)
    except CaseError:
        raise
    except FileNotFoundError:
        raise CaseError(f"case {case}: no file {path}") from None
    except MemoryError:
        raise CaseError(f"case {case}: {path} does not fit into memory") from None
    except (OSError, EOFError, ValueError, OverflowError, zlib.error, ImageFileError, HeaderDataError,
            WrapStructError) as error:  # fmt: skip
        raise CaseError(
            f"case {case}: {path} cannot be read as NIfTI, it is truncated, damaged or another format: {error}"
        ) from error


def loaded(image: Any, path: Path, case: str) -> FileImage:
    """The same of a nibabel image that is open already; `path` is what messages call it.

    Raises:
        CaseError: not 3D; colors or complex values; nothing finite; a singular affine.
    """
    shape = checked_shape(image.shape, path, case)
    affine, remarks = _placed(image, shape, path)
    affine = checked_affine(affine, path, case)
    values = checked_values(np.asanyarray(image.dataobj), path, case)
    return FileImage(np.asarray(values).reshape(shape), affine, remarks)


def write(path: Path, array: NDArray, affine: NDArray[np.float64]) -> None:
    """Stores an array (I, J, K) in its own type, with the affine as sform and, where it has no shear, as qform."""
    import nibabel

    nibabel.save(_image(array, affine), path)


def encoded(array: NDArray, affine: NDArray[np.float64]) -> bytes:
    """The gzipped bytes of a NIfTI-1 file as `write` stores it; equal for equal input.

    Packed by runs of equal bytes alone: for 8-bit images and label maps that is several times as fast as zlib's own
    search, and as small.
    """
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP_FORMAT, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return packer.compress(_image(array, affine).to_bytes()) + packer.flush()


def _image(array: NDArray, affine: NDArray[np.float64]) -> Any:
    import nibabel

    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # A quaternion cannot hold a shear; a reader that prefers the qform would then be misled.
    orthogonal = np.allclose(directions.T @ directions, np.eye(3), atol=1e-4)
    image.set_qform(affine if orthogonal else None, code=1 if orthogonal else 0)
    return image


def _placed(image: Any, shape: tuple[int, int, int], path: Path) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The affine to RAS mm, and what is to be said about it."""
    if not hasattr(image, "get_qform"):  # another of nibabel's formats, opened by the caller
        return image.affine, ()
    sform, qform = _form(image.get_sform), _form(image.get_qform)
    if sform is None and qform is None:
        return image.affine, (f"{path.name} stores no sound orientation (sform, qform); NIfTI's default is taken",)
    if sform is None:
        return np.asarray(qform), ()
    if qform is None:
        return sform, ()
    if not np.isfinite(sform).all() or abs(np.linalg.det(sform[:3, :3])) < 1e-9:
        return qform, (f"{path.name}: the sform is singular or not finite; the qform is taken",)
    apart_mm = Grid(shape, sform).displacement_mm(Grid(shape, qform))
    if apart_mm > _FORMS_APART_MM:
        return sform, (f"{path.name}: sform and qform differ by up to {apart_mm:.1f} mm; the sform is taken",)
    return sform, ()


def _form(get: Callable[..., tuple[NDArray[np.float64] | None, int]]) -> NDArray[np.float64] | None:
    """One of the header's two affines; None if its code says that it is unset, or its quaternion is none."""
    from nibabel.spatialimages import HeaderDataError

    try:
        affine, code = get(coded=True)
    except (HeaderDataError, ValueError):
        return None
    return affine if code else None
