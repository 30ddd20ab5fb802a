"""Which files are DICOM, and how one is opened: with or without the preamble, in silence, told when it is cut short."""

from __future__ import annotations

import contextlib
import re
import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_ONE_AT_A_TIME = threading.RLock()

_MAGIC = b"DICM"
_MAGIC_AT = 128
_START = 1024
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
"""Pixels as floats, as doubles and as whole numbers: the end of every image's header."""

_OTHERS = (".nii", ".gz", ".mha", ".mhd", ".nrrd", ".nhdr", ".hdr", ".mgz", ".mgh", ".zip", ".json", ".csv", ".tsv",
          ".txt", ".xml", ".html", ".pdf", ".png", ".jpg")  # fmt: skip
"""Endings of files of other forms, into which nobody looks for DICOM."""

_VR = re.compile(rb"AE|AS|AT|CS|D[AST]|F[DL]|I[S]|L[OT]|O[BDFLVW]|PN|S[HLQSTV]|TM|U[CILNRSTV]")
_LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_BARE_ELEMENTS = 3
_NO_LENGTH = 0xFFFFFFFF


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its first bytes, with the preamble or without; not one that has the ending of another
    form, nor a folder's table of contents (DICOMDIR).

    Raises:
        OSError: the file cannot be read.
    """
    if path.name.casefold() == "dicomdir" or path.suffix.casefold() in _OTHERS or not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(_START)
    return has_preamble(start) or _begins_bare(start)


def has_preamble(start: bytes) -> bool:
    """Whether a file that begins so has DICOM's preamble."""
    return start[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


def looks_cut(path: Path) -> bool:
    """Whether a file that is not DICOM looks as if it had been: by its ending, or empty, or nothing but zeros where
    DICOM's preamble stands.

    Raises:
        OSError: the file cannot be read.
    """
    if path.name.casefold() == "dicomdir" or path.suffix.casefold() in _OTHERS or not path.is_file():
        return False
    if path.suffix.casefold() in (".dcm", ".ima"):
        return True
    with path.open("rb") as stream:
        start = stream.read(_MAGIC_AT + len(_MAGIC))
    return not any(start[:_MAGIC_AT]) and _MAGIC.startswith(start[_MAGIC_AT:])


def open_header(path: Path, tags: Sequence[str | int]) -> tuple[Any, bool]:
    """A pydicom dataset of some of a file's attributes, read up to the pixels, and whether there are pixels.

    pydicom takes the end of a file for the end of its header; so a header of an image that ends before its pixels is
    cut short.

    Raises:
        Exception: whatever pydicom raises on damaged bytes.
        OSError: the file cannot be read.
    """
    from pydicom.datadict import tag_for_keyword
    from pydicom.filereader import read_partial
    from pydicom.tag import BaseTag

    reached: list[int] = []

    def stop(tag: int, *_: object) -> bool:
        if tag >= _PIXELS[0]:
            reached.append(int(tag))
        return bool(reached)

    known = (tag_for_keyword(tag) or 0 if isinstance(tag, str) else tag for tag in tags)
    numbers: list[BaseTag | int] = [BaseTag(tag) for tag in known]
    with path.open("rb") as stream:
        dataset = read_partial(stream, stop, force=True, specific_tags=numbers)
    return dataset, any(tag in _PIXELS for tag in reached)


@contextlib.contextmanager
def silent_pydicom() -> Iterator[None]:
    """Within it pydicom neither checks values, which are none of our business, nor warns, which would repeat them.

    One thread at a time: both settings are the process's, and a thread that leaves would switch them on for another.
    """
    import pydicom

    with _ONE_AT_A_TIME, pydicom.config.disable_value_validation(), warnings.catch_warnings():
        ignore_header_words()
        yield


def ignore_header_words() -> None:
    """Leaves out warnings of the libraries that read DICOM, whose words may be a header's, from now on."""
    warnings.filterwarnings("ignore", module=r"(pydicom|highdicom|openjpeg|pylibjpeg)\b")


def raise_if_of_the_disk(error: Exception) -> None:
    """Raises an error again that is no fault of a file's content: on damaged bytes pydicom may raise anything else.

    Raises:
        OSError: by the operating system.
        MemoryError: no memory left.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
        raise error


def _begins_bare(start: bytes) -> bool:
    """Whether bytes are the first elements of a DICOM file without preamble (little endian): in rising order, the first
    of the file's meta header or of the group that tells about the study."""
    at, last, count = 0, -1, 0
    while at + 8 <= len(start) and count < _BARE_ELEMENTS:
        group, element = struct.unpack_from("<HH", start, at)
        tag = group << 16 | element
        if tag <= last or group not in ((0x0002, 0x0008) if count == 0 else (0x0002, 0x0008, 0x0009, 0x0010, 0x0018)):
            return False
        kind = start[at + 4 : at + 6]
        if _VR.fullmatch(kind):
            long = kind in _LONG_VRS
            if at + 12 > len(start):
                return False
            length = struct.unpack_from("<I" if long else "<H", start, at + (8 if long else 6))[0]
            at += (12 if long else 8) + length
        else:
            length = struct.unpack_from("<I", start, at + 4)[0]
            at += 8 + length
        if length == _NO_LENGTH:  # a sequence, which never comes first
            return count > 0
        if length > 1 << 16:
            return False
        last, count = tag, count + 1
    return count >= _BARE_ELEMENTS or (count > 0 and at >= len(start) >= _START)
