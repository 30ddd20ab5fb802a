"""NIfTI-1 and NIfTI-2 files, plain or gzipped, through nibabel."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.files.content import Content, opened
from ivdjax.imaging.files.image import (
    PLAUSIBLE_SPACING_MM,
    FileImage,
    checked_affine,
    checked_shape,
    checked_type,
    checked_values,
    is_plausible_mm,
)
from ivdjax.volume import CaseError, Grid, spacing_of

SUFFIXES = (".nii.gz", ".nii")

_GZIP_FORMAT = 16 + zlib.MAX_WBITS
"""Makes zlib write gzip's header, without a time."""
_NIFTI_1_HEADER, _NIFTI_2_HEADER = 348, 540


_LONGEST_NOTES = 1 << 26
"""Bytes that header extensions may take before the voxels: they hold DICOM headers at most."""

_FORMS_APART_MM = 1.0
_FORMS_TURNED_DEG = 45.0
"""An axis that sform and qform turn apart by more than this has two names, or runs both ways."""
_ZOOMS_OFF = 0.01
"""Share by which the header's voxel sizes may differ from those of the affine."""


def read(path: Path, case: str) -> FileImage:
    """One 3D image with its intensity scale applied; the sform is preferred, then the qform.

    Raises:
        CaseError: no such file, or one that cannot be read; empty, truncated or not NIfTI; more voxels than an MR
            volume has, or more data than its header states; not 3D; colors or complex values; nothing finite; a
            singular affine, or voxels or a field of view of no plausible size; sform and qform that name the axes
            differently.
    """
    import nibabel

    with opened(path, case) as content, damage_told(path, case, "NIfTI"):
        head = content.peek(_NIFTI_2_HEADER)
        second = _NIFTI_2_HEADER in (int.from_bytes(head[:4], order) for order in ("little", "big"))
        image_type = nibabel.Nifti2Image if second else nibabel.Nifti1Image
        head = head if second else head[:_NIFTI_1_HEADER]
        refuse_unsized(image_type.header_class(head, check=False), path, case)
        # Four bytes behind the header tell whether extensions follow.
        wanted = promised_bytes(image_type.header_class(head), len(head) + 4, path, case)
        found = loaded(image_type.from_bytes(promised_content(content, wanted, path, case)), path, case)
        return replace(found, remarks=(*found.remarks, *trailing_remark(content, path)))


@contextmanager
def damage_told(path: Path, case: str, form: str) -> Iterator[None]:
    """Turns what nibabel and zlib raise of a file that is no sound one of a format into a CaseError."""
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    damaged = f"case {case}: {path} cannot be read as {form}, it is truncated, damaged or another format"
    try:
        yield
    except CaseError:
        raise
    except MemoryError:
        raise CaseError(f"case {case}: {path} does not fit into memory") from None
    except zlib.error as error:
        raise CaseError(f"{damaged}: its gzip stream is damaged, or its checksum is wrong ({error})") from error
    except (OSError, EOFError, ValueError, KeyError, OverflowError, ImageFileError, HeaderDataError,
            WrapStructError) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno is not None:
            raise CaseError(f"case {case}: {path} cannot be read: {error.strerror}") from error
        raise CaseError(f"{damaged}: {error}") from error


def promised_content(content: Content, wanted: int, path: Path, case: str) -> bytes:
    """The bytes up to the end of the voxels, `wanted` by the header's word; the file is read on to its end.

    Raises:
        CaseError: far more data than that.
        ValueError: more than the file can hold; see `Content.take` for what else a damaged file raises.
    """
    if wanted > content.most_bytes:
        raise ValueError(f"its header states {wanted} bytes, more than the file can hold")
    taken = content.take(wanted)
    if not content.finish():
        raise CaseError(
            f"case {case}: {path} holds far more data than its header states ({wanted} bytes); is the header "
            "damaged? Export the image again"
        )
    return taken


def trailing_remark(content: Content, path: Path) -> tuple[str, ...]:
    """What is to be said of other bytes behind a file's gzip stream."""
    said = f"{path.name}: bytes that follow the end of its gzip stream are passed over"
    return (said,) if content.trailing else ()


def loaded(image: Any, path: Path, case: str) -> FileImage:
    """The same of a nibabel image that is open already; `path` is what messages call it.

    Raises:
        CaseError: not 3D; colors or complex values; nothing finite; a singular affine, or voxels or a field of view of
            no plausible size; sform and qform that name the axes differently.
    """
    shape = checked_shape(image.shape, path, case)
    affine, remarks = _placed(image, shape, path, case)
    remarks += _units_remark(image, affine, path, case)
    affine = checked_affine(affine, shape, path, case)
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


def refuse_unsized(header: Any, path: Path, case: str) -> None:
    """Refuses a header without an sform whose voxel sizes are none: nibabel would take them for 1 mm."""
    zooms = np.abs(np.asarray(header["pixdim"][1:4], dtype=float))
    if not int(header["sform_code"]) and not (zooms > 0).all():
        sizes = " x ".join(f"{size:g}" for size in zooms)
        low, high = PLAUSIBLE_SPACING_MM
        raise CaseError(
            f"case {case}: voxels of {path} must be {low:g} to {high:g} mm long, not {sizes}; export the image again"
        )


def promised_bytes(header: Any, first: int, path: Path, case: str) -> int:
    """Bytes from the beginning of the file of the voxels to their end, as the header tells; `first` is where they can
    begin at the earliest.

    Raises:
        CaseError: no volume of gray values, or more voxels than one has.
        ValueError, HeaderDataError, KeyError: a header that makes no sense.
    """
    i, j, k = checked_shape(header.get_data_shape(), path, case)
    kind = header.get_data_dtype()
    checked_type(kind, path, case)
    begin = max(int(header.get_data_offset()), first)
    if begin > _LONGEST_NOTES:
        raise ValueError(f"its header says that voxels begin at byte {begin}")
    return begin + i * j * k * int(kind.itemsize)


def _units_remark(image: Any, affine: NDArray[np.float64], path: Path, case: str) -> tuple[str, ...]:
    """What is to be said of a header that counts in other units than mm. Many programs write such a unit and mean mm.

    Raises:
        CaseError: voxels of no plausible size in mm. They are not scaled: a result has to lie on the image in viewers
            that pass over the unit, which most do.
    """
    try:
        unit = image.header.get_xyzt_units()[0]
    except (AttributeError, KeyError):
        return ()
    if unit not in ("meter", "micron"):
        return ()
    sizes = " x ".join(f"{size:g}" for size in spacing_of(affine))
    if not is_plausible_mm(affine):
        raise CaseError(
            f"case {case}: {path} gives lengths in {unit}s (voxels of {sizes}); millimetres are needed: convert its "
            "affine and export it again"
        )
    return (f"{path.name}: the header says {unit}s, but voxels of {sizes} are plausible in mm; taken as mm",)


def _placed(
    image: Any, shape: tuple[int, int, int], path: Path, case: str
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The affine to RAS mm, and what is to be said about it.

    Raises:
        CaseError: sform and qform name the axes differently.
    """
    if not hasattr(image, "get_qform"):  # another of nibabel's formats, opened by the caller
        from nibabel import AnalyzeImage

        said = f"{path.name}: an Analyze header stores no orientation; the affine that nibabel holds is taken"
        return image.affine, (said,) if isinstance(image, AnalyzeImage) else ()
    sform, qform = _form(image.get_sform), _form(image.get_qform)
    if sform is None and qform is None:
        return image.affine, (f"{path.name} stores no sound orientation (sform, qform); NIfTI's default is taken",)
    if sform is None:
        return np.asarray(qform), ()
    if qform is None:
        return sform, _zooms_remark(image, sform, path)
    if not np.isfinite(sform).all() or abs(np.linalg.det(sform[:3, :3])) < 1e-9:
        return qform, (f"{path.name}: the sform is singular or not finite; the qform is taken",)
    turned_deg = _turned_deg(sform, qform)
    if turned_deg > _FORMS_TURNED_DEG:
        raise CaseError(
            f"case {case}: sform and qform of {path} turn its axes apart by {turned_deg:.0f} degrees, so that up, "
            "front or left differ; find out which of them is right and remove the other (set its code to 0)"
        )
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


def _turned_deg(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The largest angle in degrees between like axes of two affines; 0 where one of them has an axis without length."""
    directions = [form[:3, :3] / np.maximum(np.linalg.norm(form[:3, :3], axis=0), 1e-12) for form in (one, other)]
    if not all(np.isfinite(d).all() and np.linalg.norm(d, axis=0).min() > 0.5 for d in directions):
        return 0.0
    cosines = (directions[0] * directions[1]).sum(axis=0)
    return float(np.degrees(np.arccos(np.clip(cosines.min(), -1.0, 1.0))))


def _zooms_remark(image: Any, sform: NDArray[np.float64], path: Path) -> tuple[str, ...]:
    """What is to be said of voxel sizes in the header (pixdim) that are not those of the sform."""
    zooms = np.array(image.header.get_zooms()[:3], dtype=float)
    spacing = np.array(spacing_of(sform))
    if np.isfinite(zooms).all() and np.allclose(zooms, spacing, rtol=_ZOOMS_OFF, atol=0):
        return ()
    sizes = [" x ".join(f"{size:g}" for size in group) for group in (zooms, spacing)]
    return (f"{path.name}: its header gives voxels of {sizes[0]} mm, its sform of {sizes[1]} mm; the sform is taken",)
