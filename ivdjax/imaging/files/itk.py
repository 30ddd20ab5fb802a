"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr) files through SimpleITK.

Its world runs to the left and to posterior (LPS).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.files.image import FileImage, checked_affine, checked_shape, checked_values
from ivdjax.volume import CaseError, spacing_of

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")

_DETACHED = {".mhd": ".mha", ".nhdr": ".nrrd"}
"""Headers whose voxels lie in a file of their own, and the form that holds both."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read(path: Path, case: str) -> FileImage:
    """One 3D image; its LPS geometry is turned into RAS.

    Raises:
        CaseError: empty, truncated or of another format; not 3D; colors or complex values; nothing finite; a
            singular affine.
    """
    import SimpleITK

    if not path.is_file():
        raise CaseError(f"case {case}: no file {path}")
    if path.stat().st_size == 0:
        raise CaseError(f"case {case}: {path} is empty; copy it again")
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check(reader, path, case)  # before memory is taken for the voxels
        image: Any = reader.Execute()
    except RuntimeError as error:
        # The last line is ITK's reason, but for a truncated file it is a stale "No such file or directory".
        reason = str(error).strip().splitlines()[-1]
        stale = "No such file" in reason
        raise CaseError(
            f"case {case}: {path} cannot be read, it is truncated, damaged or another format"
            + ("" if stale else f": {reason}")
        ) from error
    return loaded(image, path, case)


def loaded(image: Any, path: Path, case: str) -> FileImage:
    """The same of a SimpleITK image that is there already; `path` is what messages call it.

    Raises:
        CaseError: not 3D; colors or complex values; nothing finite; a singular affine.
    """
    import SimpleITK

    if image.GetNumberOfComponentsPerPixel() != 1:
        raise _many_values(image.GetNumberOfComponentsPerPixel(), path, case)
    shape = checked_shape(tuple(image.GetSize()), path, case)
    affine = checked_affine(_affine_ras(image), path, case)
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
    checked_shape(tuple(reader.GetSize()), path, case)
    if reader.GetNumberOfComponents() != 1:
        raise _many_values(reader.GetNumberOfComponents(), path, case)


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
