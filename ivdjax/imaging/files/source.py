"""Where a channel comes from: an image file or a DICOM series; what is shown of it, and its checksum."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

from ivdjax.imaging.files.content import size_of_file
from ivdjax.imaging.files.dicom import DicomSeries
from ivdjax.imaging.files.nifti_pair import voxel_files
from ivdjax.imaging.files.text_header import voxel_file
from ivdjax.volume import CaseError

Source = Path | DicomSeries


def source_files(source: Source) -> tuple[Path, ...]:
    """Every file that a source's voxels come from, in order: of a series its files; of a header whose voxels lie in a
    file of their own (.mhd, .nhdr, .hdr) both; else the one file.

    Raises:
        OSError: a header or its folder cannot be read.
    """
    return source.files if isinstance(source, DicomSeries) else (source, *_beside(source))


def source_sha256(source: Source) -> str:
    """SHA-256 in hexadecimal: of a lone file's bytes; else over the files' digests and frame numbers, in order.

    Raises:
        CaseError: there is no such file, or it is a link that leads nowhere, a folder, a pipe or a device.
        OSError: a file cannot be read.
    """
    digests = [_sha256(path) for path in source_files(source)]
    if not isinstance(source, DicomSeries) and len(digests) == 1:
        return digests[0]
    total = hashlib.sha256(bytes.fromhex("".join(digests)))
    if isinstance(source, DicomSeries):
        total.update(";".join(",".join(map(str, frames)) for frames in source.frames).encode())
    return total.hexdigest()


def source_name(source: Source) -> str:
    """What logs and provenance show: the file's name, or that of the series' folder."""
    return source.name


def source_folder(source: Source) -> Path:
    """The folder that holds the file or the series' files."""
    return source.folder if isinstance(source, DicomSeries) else source.parent


def _beside(path: Path) -> tuple[Path, ...]:
    """The file that a header names for its voxels; nothing for other files."""
    found = voxel_file(path)
    return voxel_files(path) if found is None else (found,)


def _sha256(path: Path) -> str:
    try:
        size_of_file(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL, errno.EISDIR):
            raise
        raise CaseError(f"{path} cannot be read: {error.strerror}") from None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
