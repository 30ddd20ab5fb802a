"""What the text header of a MetaImage or NRRD file may say before ITK's own readers, written in C, see it.

A header can name the files that its voxels lie in. It is followed to a file in its own folder or below, and nowhere
else: an image that came from somebody must not show what another file on this machine holds. And no line may be so long
that the readers' fixed buffers run over.
"""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath

from ivdjax.volume import CaseError

_LONGEST_HEADER = 1 << 20
_LONGEST_FIELD = 500
_LONGEST_NOTE = 100_000
"""Letters in a line of NRRD's key/value pairs, which are kept as they are."""

_DATA_FILE = re.compile(rb"elementdatafile", re.IGNORECASE)
_DATA_LINE = re.compile(rb"ElementDataFile *= *(.*?) *\r?")
_AXES = re.compile(rb"\s*ndims", re.IGNORECASE)
_FEW_AXES = re.compile(rb"NDims *= *[2-9]\s*")
_NRRD_DATA = re.compile(rb"\s*data ?file\s*:", re.IGNORECASE)
_NRRD_END = re.compile(rb"\r?\n\r?\n")


def refuse_unsafe_header(path: Path, case: str) -> None:
    """Looks at the header of a .mha, .mhd, .nrrd or .nhdr file.

    Raises:
        CaseError: it names voxels outside of its folder, in several files, or in another file where the ending says
            that both are one; a number of axes that no image has, a line that is too long, or the header has no end.
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        start = stream.read(_LONGEST_HEADER)
    suffix = path.suffix.lower()
    if suffix in (".mha", ".mhd"):
        _check_metaimage(start, suffix == ".mhd", path, case)
    else:
        _check_nrrd(start, suffix == ".nhdr", path, case)


def _check_metaimage(start: bytes, detached: bool, path: Path, case: str) -> None:
    found = _DATA_FILE.search(start)
    if found is None:
        raise _no_header(path, case)
    at = start.rfind(b"\n", 0, found.start()) + 1
    header, line = start[:at], start[at:].split(b"\n", 1)[0]
    lines = header.split(b"\n")
    _refuse_long(lines, path, case)
    if not all(_FEW_AXES.fullmatch(line) for line in lines if _AXES.match(line)):
        raise CaseError(f"case {case}: NDims in {path} must be a number from 2 to 9; is it damaged?")
    match = _DATA_LINE.fullmatch(line)
    if match is None or len(line) > _LONGEST_FIELD:
        raise _no_header(path, case)
    name = match.group(1)
    if not detached and name.upper() != b"LOCAL":
        raise _elsewhere(path, case, ".mhd")
    if detached and name.upper() != b"LOCAL":
        _refuse_outside(name, path, case)


def _check_nrrd(start: bytes, detached: bool, path: Path, case: str) -> None:
    end = _NRRD_END.search(start)
    if not start.startswith(b"NRRD") or (end is None and (not detached or len(start) == _LONGEST_HEADER)):
        raise _no_header(path, case)
    header = (start if end is None else start[: end.start()]).replace(b"\r\n", b"\n")
    if b"\r" in header or b"\0" in header:
        raise _no_header(path, case)
    lines = header.split(b"\n")
    _refuse_long([line for line in lines if b":=" not in line], path, case)
    if any(len(line) > _LONGEST_NOTE for line in lines):
        raise _too_long(path, case, _LONGEST_NOTE)
    for line in lines:
        if not _NRRD_DATA.match(line):
            continue
        if not detached:
            raise _elsewhere(path, case, ".nhdr")
        _refuse_outside(line.partition(b":")[2].strip(), path, case)


def _refuse_long(lines: list[bytes], path: Path, case: str) -> None:
    if any(len(line) > _LONGEST_FIELD for line in lines):
        raise _too_long(path, case, _LONGEST_FIELD)


def _refuse_outside(name: bytes, path: Path, case: str) -> None:
    """Refuses voxels that do not lie in one file in the header's folder or below."""
    text = name.decode(errors="surrogateescape")
    if not text or "%" in text or text.split()[0].upper() in ("LIST", "SKIPLIST"):
        raise CaseError(
            f"case {case}: {path} must name one file that holds its voxels; write image and header as one file "
            "(.mha, .nrrd)"
        )
    # As a Windows path too, whose separators ITK understands everywhere.
    parts = PureWindowsPath(text)
    if text.startswith("/") or parts.anchor or ".." in parts.parts:
        raise CaseError(
            f"case {case}: {path} names voxels outside of its own folder, which are not read; put them beside it, or "
            "write image and header as one file (.mha, .nrrd)"
        )


def _elsewhere(path: Path, case: str, ending: str) -> CaseError:
    return CaseError(
        f"case {case}: {path} says that its voxels lie in another file, which a {path.suffix} file does not; it must "
        f"end in {ending}"
    )


def _too_long(path: Path, case: str, limit: int) -> CaseError:
    return CaseError(f"case {case}: the header of {path} has a line of more than {limit} letters; is it damaged?")


def _no_header(path: Path, case: str) -> CaseError:
    kind = "MetaImage" if path.suffix.lower() in (".mha", ".mhd") else "NRRD"
    return CaseError(
        f"case {case}: {path} cannot be read, it is truncated, damaged or another format: it has no sound {kind} header"
    )
