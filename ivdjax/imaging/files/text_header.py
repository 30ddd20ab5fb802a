"""The text header of a MetaImage (.mha, .mhd) or NRRD (.nrrd, .nhdr) file: the one reader of it.

A header is read here before ITK's own readers, written in C, see it. It can name the files that its voxels lie in. It
is followed to a file in its own folder or below, and nowhere else: an image that came from somebody must not show what
another file on this machine holds. And no line may be so long that the readers' fixed buffers run over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from ivdjax.volume import CaseError

_LONGEST_HEADER = 1 << 20
_LONGEST_FIELD = 500
_LONGEST_NOTE = 100_000
"""Letters in a line of NRRD's key/value pairs, which are kept as they are."""

_META = (".mha", ".mhd")
_DETACHED = (".mhd", ".nhdr")

_META_DATA = re.compile(rb"elementdatafile", re.IGNORECASE)
_META_DATA_LINE = re.compile(rb"ElementDataFile *= *(.*?) *\r?")
_META_FIELD = re.compile(r"\s*(\w+)\s*[=:]\s*(.*?)\s*")
_META_TOLD_TWICE = {"NDims", "DimSize", "ElementType", "ElementNumberOfChannels", "CompressedData", "BinaryData",
                    "HeaderSize", "ElementByteOrderMSB", "BinaryDataByteOrderMSB"}  # fmt: skip
_AXES = re.compile(rb"\s*ndims", re.IGNORECASE)
_FEW_AXES = re.compile(rb"NDims *= *[2-9]\s*")
_NRRD_FIELD = re.compile(r"([^:=]+?)\s*: ?(.*?)\s*")
_NRRD_END = re.compile(rb"\r?\n\r?\n")


@dataclass(frozen=True)
class TextHeader:
    """What a header says.

    Attributes:
        path: of the file that begins with it.
        fields: by name; a MetaImage's as they are spelled, an NRRD's in lower case and without blanks
            ("spacedirections").
        notes: NRRD's key/value pairs; empty for a MetaImage.
        voxels: the file that holds the voxels: `path` itself, or one beside it or in a folder below.
        begin: the first byte behind the header, where the voxels lie in the same file; else 0.
    """

    path: Path
    fields: dict[str, str]
    notes: dict[str, str]
    voxels: Path
    begin: int

    @property
    def is_meta(self) -> bool:
        """Whether it is a MetaImage's header; else it is an NRRD's."""
        return is_meta(self.path)

    @property
    def is_oriented(self) -> bool:
        """Whether it says how the axes lie."""
        names = ("TransformMatrix", "Orientation", "Rotation") if self.is_meta else ("space", "spacedimension")
        return any(name in self.fields for name in names)


def is_meta(path: Path) -> bool:
    """Whether a file is a MetaImage by its ending."""
    return path.suffix.lower() in _META


def voxel_file(path: Path) -> Path | None:
    """The file beside a .mhd or .nhdr header in which its voxels lie; None for other files, and where the header is
    not sound or names none that is there.

    Raises:
        OSError: the header cannot be read.
    """
    if path.suffix.lower() not in _DETACHED:
        return None
    try:
        found = read_header(path, "").voxels
    except CaseError:
        return None
    return found if found != path and found.is_file() else None


def read_header(path: Path, case: str) -> TextHeader:
    """The header of a .mha, .mhd, .nrrd or .nhdr file.

    Raises:
        CaseError: it names voxels outside of its folder, in several files, or in another file where the ending says
            that both are one; a number of axes that no image has, a field that is told twice, a line that is too
            long, or the header has no end.
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        start = stream.read(_LONGEST_HEADER)
    detached = path.suffix.lower() in _DETACHED
    return (_metaimage if is_meta(path) else _nrrd)(start, detached, path, case)


def _metaimage(start: bytes, detached: bool, path: Path, case: str) -> TextHeader:
    found = _META_DATA.search(start)
    if found is None:
        raise _no_header(path, case)
    at = start.rfind(b"\n", 0, found.start()) + 1
    line = start[at:].split(b"\n", 1)[0]
    lines = start[:at].split(b"\n")
    _refuse_long(lines, path, case)
    if not all(_FEW_AXES.fullmatch(line) for line in lines if _AXES.match(line)):
        raise CaseError(f"case {case}: NDims in {path} must be a number from 2 to 9; is it damaged?")
    match = _META_DATA_LINE.fullmatch(line)
    if match is None or len(line) > _LONGEST_FIELD:
        raise _no_header(path, case)
    name = match.group(1)
    local = name.upper() == b"LOCAL"
    if not detached and not local:
        raise _elsewhere(path, case, ".mhd")
    fields: dict[str, str] = {}
    for text in (_text(line) for line in lines):
        field = _META_FIELD.fullmatch(text)
        if field is None:
            continue
        if field.group(1) in _META_TOLD_TWICE and fields.get(field.group(1), field.group(2)) != field.group(2):
            raise _twice(field.group(1), path, case)
        fields[field.group(1)] = field.group(2)
    voxels = path if local else _inside(name, path, case)
    return TextHeader(path, fields, {}, voxels, min(at + len(line) + 1, len(start)) if local else 0)


def _nrrd(start: bytes, detached: bool, path: Path, case: str) -> TextHeader:
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
    fields: dict[str, str] = {}
    notes: dict[str, str] = {}
    for text in (_text(line) for line in lines[1:] if not line.startswith(b"#")):
        key, told, value = text.partition(":=")
        if told:
            notes[key] = value
        elif field := _NRRD_FIELD.fullmatch(text):
            name = field.group(1).replace(" ", "").lower()
            if name in fields:
                raise _twice(field.group(1), path, case)
            fields[name] = field.group(2)
    named = fields.get("datafile")
    if named is not None and not detached:
        raise _elsewhere(path, case, ".nhdr")
    if named is not None:
        return TextHeader(path, fields, notes, _inside(named.encode(errors="surrogateescape"), path, case), 0)
    return TextHeader(path, fields, notes, path, len(start) if end is None else end.end())


def _text(line: bytes) -> str:
    return line.decode(errors="surrogateescape").rstrip("\r")


def _refuse_long(lines: list[bytes], path: Path, case: str) -> None:
    if any(len(line) > _LONGEST_FIELD for line in lines):
        raise _too_long(path, case, _LONGEST_FIELD)


def _inside(name: bytes, path: Path, case: str) -> Path:
    """The one file of voxels that a header names; refuses any that does not lie in the header's folder or below."""
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
    return path.parent / text


def _twice(name: str, path: Path, case: str) -> CaseError:
    return CaseError(f"case {case}: the header of {path} has two fields {name}; is it damaged? Export the image again")


def _elsewhere(path: Path, case: str, ending: str) -> CaseError:
    return CaseError(
        f"case {case}: {path} says that its voxels lie in another file, which a {path.suffix} file does not; it must "
        f"end in {ending}"
    )


def _too_long(path: Path, case: str, limit: int) -> CaseError:
    return CaseError(f"case {case}: the header of {path} has a line of more than {limit} letters; is it damaged?")


def _no_header(path: Path, case: str) -> CaseError:
    kind = "MetaImage" if is_meta(path) else "NRRD"
    return CaseError(
        f"case {case}: {path} cannot be read, it is truncated, damaged or another format: it has no sound {kind} header"
    )
