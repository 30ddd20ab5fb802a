"""FreeSurfer's images (.mgz, .mgh), through nibabel."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

from ivdjax.imaging.files.content import opened
from ivdjax.imaging.files.image import FileImage, checked_shape
from ivdjax.imaging.files.nifti import damage_told, loaded, promised_content, trailing_remark
from ivdjax.volume import CaseError

SUFFIXES = (".mgz", ".mgh")

_VOXELS_AT = 284
_VERSION = slice(0, 4)
_IS_PLACED = slice(28, 30)
"""The header's goodRASFlag: whether its voxel sizes and directions mean anything."""


def read(path: Path, case: str) -> FileImage:
    """One 3D image.

    Raises:
        CaseError: no such file, or one that cannot be read; empty, truncated or of another format; more voxels than an
            MR volume has, or more data than its header states; not 3D; nothing finite; no orientation, or a singular
            affine, or voxels or a field of view of no plausible size.
    """
    import nibabel

    with opened(path, case) as content, damage_told(path, case, "MGH"):
        head = content.peek(_VOXELS_AT)
        if len(head) < _VOXELS_AT or int.from_bytes(head[_VERSION], "big") != 1:
            raise ValueError("it does not begin as such a file does")
        header = nibabel.MGHImage.header_class(head[:_VOXELS_AT])
        i, j, k = checked_shape(tuple(int(size) for size in header.get_data_shape()), path, case)
        wanted = _VOXELS_AT + i * j * k * header.get_data_bytespervox()
        if not any(head[_IS_PLACED]):
            raise CaseError(
                f"case {case}: {path} stores no orientation (its goodRASFlag is 0): nothing tells left from right, or "
                "how the axes run; make it anew from the original images"
            )
        parts = nibabel.MGHImage.make_file_map()
        parts["image"].fileobj = BytesIO(promised_content(content, wanted, path, case))
        found = loaded(nibabel.MGHImage.from_file_map(parts), path, case)
        return replace(found, remarks=(*found.remarks, *trailing_remark(content, path)))
