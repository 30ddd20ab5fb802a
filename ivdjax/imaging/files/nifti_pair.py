"""NIfTI pairs: a header (.hdr) and its voxels (.img) in two files, plain or gzipped, through nibabel.

Analyze 7.5 has the same endings and stores no orientation; it is told by its content, and refused.
"""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from ivdjax.imaging.files.content import opened
from ivdjax.imaging.files.image import FileImage
from ivdjax.imaging.files.nifti import (
    damage_told,
    loaded,
    promised_bytes,
    promised_content,
    refuse_unsized,
    trailing_remark,
)
from ivdjax.volume import CaseError

SUFFIXES = (".hdr.gz", ".hdr")

VOXEL_SUFFIXES = (".img.gz", ".img")
"""Endings of the files of voxels, which are no images by themselves."""

_HEADERS = {348: "Nifti1Pair", 540: "Nifti2Pair"}
"""nibabel's class by the size of the header, with which a header begins."""


def read(path: Path, case: str) -> FileImage:
    """One 3D image by its header's path, with its intensity scale applied; the sform is preferred, then the qform.

    Raises:
        CaseError: as `nifti.read`, of either file; no file of voxels beside the header, or two; Analyze 7.5.
    """
    with opened(path, case) as content, damage_told(path, case, "the header of a NIfTI pair"):
        head = content.take(max(_HEADERS))
        content.finish()  # so that gzip's checksum is looked at; extensions follow at most
        image_type, head = _header(head, path, case)
        refuse_unsized(image_type.header_class(head, check=False), path, case)
        wanted = promised_bytes(image_type.header_class(head), 0, path, case)
        remarks = trailing_remark(content, path)
    voxels = _only(voxel_files(path), path, case)
    with opened(voxels, case) as content, damage_told(voxels, case, "the voxels of a NIfTI pair"):
        parts = image_type.make_file_map()
        parts["header"].fileobj = BytesIO(head)
        parts["image"].fileobj = BytesIO(promised_content(content, wanted, voxels, case))
        found = loaded(image_type.from_file_map(parts), path, case)
        return replace(found, remarks=(*found.remarks, *remarks, *trailing_remark(content, voxels)))


def voxel_files(path: Path) -> tuple[Path, ...]:
    """The files beside a header in which its voxels can lie: one of a sound pair; none for files of other endings.

    Raises:
        OSError: the folder cannot be read.
    """
    return _beside(path, SUFFIXES, VOXEL_SUFFIXES)


def has_header(path: Path) -> bool:
    """Whether a header lies beside a file of voxels.

    Raises:
        OSError: the folder cannot be read.
    """
    return bool(_beside(path, VOXEL_SUFFIXES, SUFFIXES))


def _beside(path: Path, own: tuple[str, ...], others: tuple[str, ...]) -> tuple[Path, ...]:
    """The files that are called like one with an ending of `own`, but with one of `others`; endings in any case."""
    suffix = next((suffix for suffix in own if path.name.lower().endswith(suffix)), None)
    if suffix is None or not path.parent.is_dir():
        return ()
    stem = path.name[: -len(suffix)]
    return tuple(other for other in sorted(path.parent.iterdir())
                 if other.name.startswith(stem) and other.name[len(stem) :].lower() in others)  # fmt: skip


def _header(head: bytes, path: Path, case: str) -> tuple[Any, bytes]:
    """nibabel's class for a header, and the header's own bytes.

    Raises:
        CaseError: Analyze 7.5, or a whole NIfTI file under this ending.
        ValueError: no header at all.
    """
    from nibabel import nifti1, nifti2

    size = next((int.from_bytes(head[:4], order) for order in ("little", "big")
                 if int.from_bytes(head[:4], order) in _HEADERS), 0)  # fmt: skip
    if not size:
        raise ValueError("it does not begin with the size of a NIfTI header")
    magic = head[4:7] if size == 540 else head[344:347]
    if magic in (b"n+1", b"n+2"):
        raise CaseError(f"case {case}: {path} is a whole NIfTI file by its content; rename it to .nii")
    if magic not in (b"ni1", b"ni2"):
        raise CaseError(
            f"case {case}: {path} is an Analyze 7.5 header, which stores no orientation: nothing tells left from "
            "right, or how the axes run. Make NIfTI of the original images (DICOM, with dcm2niix)"
        )
    return getattr(nifti2 if size == 540 else nifti1, _HEADERS[size]), head[:size]


def _only(found: tuple[Path, ...], path: Path, case: str) -> Path:
    if not found:
        stem = path.name[: path.name.lower().rindex(".hdr")]
        raise CaseError(f"case {case}: {path} is a header; its voxels, {stem}.img, must lie beside it: copy them too")
    if len(found) > 1:
        names = " and ".join(other.name for other in found)
        raise CaseError(f"case {case}: {names} can both be the voxels of {path}; keep one of them")
    return found[0]
