"""What ITK does not look at in MetaImage and NRRD files: whether compressed voxels are whole and their checksum is
right, and whether the header says how the axes lie. Of a MetaImage with one wrong bit it gives another image without a
word.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from ivdjax.imaging.files.content import SLACK_BYTES

_LONGEST_HEADER = 1 << 20
_CHUNK = 1 << 20
_ANY_FORMAT = 32 + zlib.MAX_WBITS
"""Makes zlib take its own header and gzip's."""

_META = re.compile(rb"^CompressedData *= *[Tt1]", re.M)
_META_END = re.compile(rb"^ElementDataFile *=.*\n", re.M)
_NRRD = re.compile(rb"^encoding: *gz(ip)? *\r?$", re.M | re.I)
_NRRD_END = re.compile(rb"\n\r?\n")
_META_AXES = re.compile(rb"^(TransformMatrix|Orientation|Rotation) *=", re.M)
_NRRD_AXES = re.compile(rb"^space( dimension)?:", re.M)
_NRRD_SKIP = re.compile(rb"^(line|byte) ?skip: *-?[1-9]", re.M)


def packed_begin(path: Path) -> int | None:
    """The first byte of compressed voxels behind the header of a .mha or .nrrd file, or in the file that a .mhd or
    .nhdr header names (0); None where voxels are not compressed, or where they begin cannot be told.

    Raises:
        OSError: the file cannot be read.
    """
    meta = path.suffix.lower() in (".mha", ".mhd")
    head, whole = _head(path)
    if not (_META if meta else _NRRD).search(head) or (not meta and _NRRD_SKIP.search(head)):
        return None
    if path.suffix.lower() in (".mhd", ".nhdr"):
        return 0
    return len(head) if whole else None


def is_oriented(path: Path) -> bool:
    """Whether the header of a MetaImage or NRRD file says how its axes lie.

    Raises:
        OSError: the file cannot be read.
    """
    return bool((_META_AXES if path.suffix.lower() in (".mha", ".mhd") else _NRRD_AXES).search(_head(path)[0]))


def check_packed(path: Path, begin: int, wanted: int) -> None:
    """Inflates compressed voxels, which keeps nothing of them.

    Args:
        path: the file that holds them.
        begin: their first byte.
        wanted: how many bytes they are to inflate to.

    Raises:
        EOFError: they end too early.
        ValueError: they go on for long after that.
        zlib.error: they are damaged, or their checksum is wrong.
        OSError: the file cannot be read.
    """
    total = 0
    with path.open("rb") as stream:
        stream.seek(begin)
        waiting = b""
        while total < wanted:
            inflater = zlib.decompressobj(_ANY_FORMAT)
            while not inflater.eof:
                waiting = waiting or stream.read(_CHUNK)
                part = inflater.decompress(waiting, _CHUNK)
                total += len(part)
                if not waiting and not part and not inflater.eof:
                    raise EOFError(f"{total} of {wanted} bytes are there")
                if total > wanted + SLACK_BYTES:
                    raise ValueError(f"more than the {wanted} bytes that the header tells of are there")
                waiting = inflater.unconsumed_tail
            waiting = inflater.unused_data
            if not waiting and total < wanted and not (waiting := stream.read(_CHUNK)):
                raise EOFError(f"{total} of {wanted} bytes are there")


def _head(path: Path) -> tuple[bytes, bool]:
    """The header of a file, and whether its end was found."""
    with path.open("rb") as stream:
        start = stream.read(_LONGEST_HEADER)
    found = (_META_END if path.suffix.lower() in (".mha", ".mhd") else _NRRD_END).search(start)
    return (start[: found.end()], True) if found else (start, False)
