"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr) files through SimpleITK.

Its world runs to the left and to posterior (LPS).
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.files.content import MOST_DEFLATED, refuse_unreadable
from ivdjax.imaging.files.image import FileImage, checked_affine, checked_shape, checked_values
from ivdjax.imaging.files.packed import check_packed, is_oriented, packed_begin
from ivdjax.imaging.files.source import source_files
from ivdjax.imaging.files.text_header import refuse_unsafe_header
from ivdjax.volume import CaseError, spacing_of

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")

_DETACHED = {".mhd": ".mha", ".nhdr": ".nrrd"}
"""Headers whose voxels lie in a file of their own, and the form that holds both."""

_NO_AXES = "stores no orientation; its axes are taken to run to left, posterior and superior"

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read(path: Path, case: str) -> FileImage:
    """One 3D image; its LPS geometry is turned into RAS.

    Raises:
        CaseError: no such file, or one that cannot be read; empty, truncated or of another format; voxels outside of
            the header's folder or in several files (see `refuse_unsafe_header`); more voxels than an MR volume has, or
            than the file can hold; not 3D; colors or complex values; nothing finite; a singular affine, or voxels or a
            field of view of no plausible size.
    """
    import SimpleITK

    refuse_unreadable(path, case)
    refuse_unsafe_header(path, case)
    reader = SimpleITK.ImageFileReader()
    # By the ending alone: whatever another of ITK's formats does with such a file was not looked at.
    reader.SetImageIO("MetaImageIO" if path.suffix.lower() in (".mha", ".mhd") else "NrrdImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check(reader, path, case)  # before memory is taken for the voxels
        image: Any = reader.Execute()
        remarks = () if is_oriented(path) else (f"{path.name} {_NO_AXES}",)
    except OSError as error:
        raise CaseError(f"case {case}: {path} cannot be read: {error.strerror or error}") from error
    except RuntimeError as error:
        # The last line is ITK's reason, but for a truncated file it is a stale "No such file or directory".
        reason = str(error).strip().splitlines()[-1]
        stale = "No such file" in reason
        raise CaseError(
            f"case {case}: {path} cannot be read, it is truncated, damaged or another format"
            + ("" if stale else f": {reason}")
        ) from error
    return replace(loaded(image, path, case), remarks=remarks)


def loaded(image: Any, path: Path, case: str) -> FileImage:
    """The same of a SimpleITK image that is there already; `path` is what messages call it.

    Raises:
        CaseError: not 3D; colors or complex values; nothing finite; a singular affine.
    """
    import SimpleITK

    if image.GetNumberOfComponentsPerPixel() != 1:
        raise _many_values(image.GetNumberOfComponentsPerPixel(), path, case)
    shape = checked_shape(tuple(image.GetSize()), path, case)
    affine = checked_affine(_affine_ras(image), shape, path, case)
    array = np.transpose(SimpleITK.GetArrayFromImage(image)).reshape(shape)
    return FileImage(checked_values(array, path, case), affine)


def write(path: Path, array: NDArray, affine: NDArray[np.float64]) -> None:
    """Stores an array (I, J, K) in its own type, compressed.

    Raises:
        ValueError: a .mhd or .nhdr, whose two files cannot appear as one; write .mha or .nrrd.
    """
    import SimpleITK

    if path.suffix.lower() in _DETACHED:
        raise ValueError(
            f"{path.name} would be two files, which cannot appear as one; write {_DETACHED[path.suffix.lower()]}"
        )
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(np.transpose(array)))
    spacing = spacing_of(affine)
    image.SetSpacing(spacing)
    image.SetDirection((_LPS_TO_RAS @ (affine[:3, :3] / np.array(spacing))).ravel().tolist())
    image.SetOrigin((_LPS_TO_RAS @ affine[:3, 3]).tolist())
    SimpleITK.WriteImage(image, str(path), True)


def _check(reader: Any, path: Path, case: str) -> None:
    """Lets a header pass that promises one volume of gray values, and no more than its files hold."""
    import SimpleITK

    i, j, k = checked_shape(tuple(reader.GetSize()), path, case)
    if reader.GetNumberOfComponents() != 1:
        raise _many_values(reader.GetNumberOfComponents(), path, case)
    wanted = i * j * k * SimpleITK.Image([1, 1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()
    files = source_files(path)
    if path.suffix.lower() in _DETACHED and len(files) == 1:
        return  # its voxels lie in files that it names in another way
    if wanted > MOST_DEFLATED * sum(file.stat().st_size for file in files):
        raise CaseError(
            f"case {case}: {path} is truncated or damaged: its header tells of {wanted} bytes, more than it can hold"
        )
    begin = packed_begin(path)
    if begin is None:
        return
    try:
        check_packed(files[-1], begin, wanted)
    except (EOFError, ValueError, zlib.error) as error:
        raise CaseError(
            f"case {case}: {path} is truncated or damaged, or the checksum of its voxels is wrong ({error}); copy or "
            "export it again"
        ) from error


def _many_values(count: int, path: Path, case: str) -> CaseError:
    return CaseError(
        f"case {case}: {path} holds {count} values a voxel (colors, vectors or complex numbers); one gray value is "
        "needed"
    )


def _affine_ras(image: Any) -> NDArray[np.float64]:
    """The affine to RAS mm of an image whose axes beyond the third have the length 1."""
    n = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(n, n)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = _LPS_TO_RAS @ direction @ np.diag(image.GetSpacing()[:3])
    affine[:3, 3] = _LPS_TO_RAS @ np.array(image.GetOrigin()[:3])
    return affine
