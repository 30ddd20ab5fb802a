"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr) files: their place through SimpleITK, their voxels by `voxels`.

SimpleITK's world runs to the left and to posterior (LPS).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.files.content import refuse_unreadable
from ivdjax.imaging.files.image import FileImage, checked_affine, checked_shape, checked_values
from ivdjax.imaging.files.text_header import TextHeader, is_meta, read_header
from ivdjax.imaging.files.voxels import promised_voxels, read_voxels
from ivdjax.volume import CaseError, spacing_of

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")

_DETACHED = {".mhd": ".mha", ".nhdr": ".nrrd"}
"""Headers whose voxels lie in a file of their own, and the form that holds both."""

_NO_AXES = "stores no orientation; its axes are taken to run to left, posterior and superior"

MOST_LAYERS = 64
"""Values a voxel may have; as many layers of segments that overlap nobody draws."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read(path: Path, case: str) -> FileImage:
    """One 3D image; its LPS geometry is turned into RAS.

    Raises:
        CaseError: no such file, or one that cannot be read; empty, truncated or of another format; voxels outside of
            the header's folder or in several files (see `read_header`); more voxels than an MR volume has, or fewer in
            the file than its header promises (see `read_voxels`); not 3D; colors or complex values; nothing finite; a
            singular affine, or voxels or a field of view of no plausible size.
    """
    image, layers = read_layers(path, case)
    if len(layers) != 1:
        raise _many_values(len(layers), path, case)
    return replace(image, array=checked_values(layers[0], path, case))


def read_layers(path: Path, case: str, header: TextHeader | None = None) -> tuple[FileImage, list[NDArray]]:
    """One 3D image, and its arrays (I, J, K), one for each value that a voxel has; the image's own array is the first.

    Args:
        path: of the file.
        case: for messages.
        header: of the file, where it has been read.

    Raises:
        CaseError: as `read`, but for the number of values a voxel.
    """
    refuse_unreadable(path, case)
    try:
        header = header or read_header(path, case)
        reader = _geometry(path, case)
        shape = checked_shape(tuple(reader.GetSize()), path, case)  # before memory is taken for the voxels
        count = int(reader.GetNumberOfComponents())
        if promised_voxels(header) != count * int(np.prod(shape)):
            raise CaseError(f"case {case}: the header of {path} contradicts itself about its sizes; is it damaged?")
        if count > MOST_LAYERS:
            raise _many_values(count, path, case)
        affine = checked_affine(_affine_ras(reader), shape, path, case)
        values, remarks = read_voxels(header, case)
    except OSError as error:
        raise CaseError(f"case {case}: {path} cannot be read: {error.strerror or error}") from error
    axis = 0 if count == 1 else _value_axis(header)
    values = values.reshape((*shape[:axis], count, *shape[axis:]), order="F")
    layers = np.moveaxis(values, axis, 0)
    if not header.is_oriented:
        remarks = (f"{path.name} {_NO_AXES}", *remarks)
    return FileImage(layers[0], affine, remarks), list(layers)


def _geometry(path: Path, case: str) -> Any:
    """SimpleITK's reader that has read a file's header."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    # By the ending alone: whatever another of ITK's formats does with such a file was not looked at.
    reader.SetImageIO("MetaImageIO" if is_meta(path) else "NrrdImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        # The last line is ITK's reason, but for a truncated file it is a stale "No such file or directory".
        reason = str(error).strip().splitlines()[-1]
        stale = "No such file" in reason
        raise CaseError(
            f"case {case}: {path} cannot be read, it is truncated, damaged or another format"
            + ("" if stale else f": {reason}")
        ) from error
    return reader


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


def _value_axis(header: TextHeader) -> int:
    """The axis along which a file stores the values of one voxel; ITK brings it to the front from wherever it is."""
    kinds = [] if header.is_meta else header.fields.get("kinds", "").lower().split()
    return next((axis for axis, kind in enumerate(kinds[:4]) if kind not in ("domain", "space")), 0)


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
