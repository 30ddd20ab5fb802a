"""The voxels behind the text header of a MetaImage or NRRD file: all that it promises, or none.

ITK's readers trust the sizes that a header gives: of a MetaImage whose CompressedDataSize is wrong they hand over
memory that nothing was written to, and of one with a wrong bit in its compressed voxels another image, both without a
word. So voxels are read here, to the last one, with the checksums of what is packed.
"""

from __future__ import annotations

import bz2
import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.files.content import MOST_DEFLATED, SLACK_BYTES, size_of_file
from ivdjax.imaging.files.text_header import TextHeader
from ivdjax.volume import CaseError

_CHUNK = 1 << 20
_ANY_FORMAT = 32 + zlib.MAX_WBITS
"""Makes zlib take its own header and gzip's."""

_META_TYPES = {"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4",
               "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
               "MET_FLOAT": "f4", "MET_DOUBLE": "f8"}  # fmt: skip
_NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TYPE_OF_NRRD = {name: kind for kind, names in _NRRD_TYPES.items() for name in names}
_PACKED: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(_ANY_FORMAT),
    "bzip2": bz2.BZ2Decompressor,
}
_ENCODINGS = {"raw": "raw", "txt": "text", "text": "text", "ascii": "text", "gz": "gzip", "gzip": "gzip",
              "bz2": "bzip2", "bzip2": "bzip2"}  # fmt: skip
_TRUE = ("true", "t", "1")


def promised_voxels(header: TextHeader) -> int:
    """How many values a header promises, over all axes and channels; 0 where it does not say."""
    sizes = header.fields.get("DimSize" if header.is_meta else "sizes", "").split()
    channels = header.fields.get("ElementNumberOfChannels", "1") if header.is_meta else "1"
    if not sizes or not all(text.isascii() and text.isdigit() for text in (*sizes, channels)):
        return 0
    return math.prod(int(text[:20]) for text in (*sizes, channels))


def read_voxels(header: TextHeader, case: str) -> tuple[NDArray, tuple[str, ...]]:
    """The values in the order of the file, the first axis fastest, in native byte order; and remarks.

    The header's sizes have been looked at: memory is taken for them.

    Raises:
        CaseError: a type or an encoding that is not read; fewer values than the header promises, or far more; packed
            ones that are damaged, or whose checksum is wrong.
        OSError: the file cannot be read.
    """
    kind, encoding = _type(header, case), _encoding(header, case)
    wanted = promised_voxels(header) * kind.itemsize
    file_bytes = size_of_file(header.voxels)
    most = {"gzip": MOST_DEFLATED, "raw": 1, "text": kind.itemsize}.get(encoding)
    if most is not None and wanted > most * file_bytes:
        raise _damaged(header, case, f": its header states {wanted} bytes, more than it can hold")
    try:
        content, more = _bytes(header, encoding, wanted, file_bytes, kind)
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _damaged(header, case, f", or the checksum of its voxels is wrong ({error})") from error
    remarks = (f"{header.voxels.name}: what follows the end of its compressed voxels is passed over",) if more else ()
    array = np.frombuffer(content, kind)
    return array.astype(kind.newbyteorder("="), copy=False), remarks


def _bytes(header: TextHeader, encoding: str, wanted: int, file_bytes: int, kind: np.dtype) -> tuple[bytearray, bool]:
    """The bytes of the voxels, and whether something strange follows them in a packed file.

    Raises:
        EOFError: they end too early.
        ValueError: they go on for long after that, or a skip that makes no sense.
        zlib.error: they are damaged, or their checksum is wrong.
        OSError: the file cannot be read, or (without a number) bzip2's data are damaged.
    """
    lines, skipped = _skips(header)
    with header.voxels.open("rb") as stream:
        stream.seek(header.begin)
        for _ in range(lines):
            if not stream.readline(_CHUNK):
                raise EOFError("it has fewer lines than are to be skipped")
        if encoding == "raw":
            stream.seek(file_bytes - wanted if skipped == -1 else stream.tell() + skipped)
            content = bytearray(stream.read(wanted))
            if len(content) < wanted:
                raise EOFError(f"{len(content)} of {wanted} bytes are there")
            if skipped != -1 and file_bytes - stream.tell() > SLACK_BYTES:
                raise ValueError(f"more than the {wanted} bytes that the header tells of are there")
            return content, False
        if skipped < 0:
            raise ValueError("voxels cannot be counted from the end of packed data")
        if encoding == "text":
            stream.seek(stream.tell() + skipped)
            count = wanted // kind.itemsize
            values = stream.read().split()
            if len(values) < count:
                raise EOFError(f"{len(values)} of {count} values are there")
            return bytearray(np.array(values[:count]).astype(kind).tobytes()), False
        content, more = _unpacked(stream, _PACKED[encoding], wanted + skipped)
        return content[skipped:], more


def _unpacked(stream: Any, unpacker: Callable[[], Any], wanted: int) -> tuple[bytearray, bool]:
    """As many bytes as are wanted of one or several packed streams, read on to the last one's end and checksum; and
    whether something follows that is none."""
    result = bytearray()
    waiting, total = b"", 0
    while total < wanted:
        inflater = unpacker()
        while not inflater.eof:
            if not waiting and getattr(inflater, "needs_input", True):  # bz2 keeps what it has not used yet itself
                waiting = stream.read(_CHUNK)
            part = inflater.decompress(waiting, _CHUNK)
            total += len(part)
            result += part[: max(wanted - len(result), 0)]
            if not waiting and not part and not inflater.eof:
                raise EOFError(f"{total} of {wanted} bytes are there")
            if total > wanted + SLACK_BYTES:
                raise ValueError(f"more than the {wanted} bytes that the header tells of are there")
            waiting = getattr(inflater, "unconsumed_tail", b"")
        waiting = inflater.unused_data
        if not waiting and total < wanted and not (waiting := stream.read(_CHUNK)):
            raise EOFError(f"{total} of {wanted} bytes are there")
    return result, bool((waiting + stream.read(_CHUNK)).strip(b"\0"))


def _type(header: TextHeader, case: str) -> np.dtype:
    """The type of a value as it lies in the file."""
    fields = header.fields
    told = fields.get("ElementType" if header.is_meta else "type", "")
    code = _META_TYPES.get(told) if header.is_meta else _TYPE_OF_NRRD.get(told.lower())
    if code is None:
        raise CaseError(f"case {case}: {header.path} has voxels of a type that is not read; export it as numbers")
    if header.is_meta:
        big = fields.get("ElementByteOrderMSB", fields.get("BinaryDataByteOrderMSB", "")).lower() in _TRUE
        return np.dtype(code).newbyteorder(">" if big else "<")
    endian = fields.get("endian", "").lower()
    if endian not in ("big", "little") and np.dtype(code).itemsize > 1 and _encoding(header, case) != "text":
        raise CaseError(f"case {case}: the header of {header.path} does not state the byte order; export it again")
    return np.dtype(code).newbyteorder(">" if endian == "big" else "<")


def _encoding(header: TextHeader, case: str) -> str:
    """ "raw", "text", or the name in `_PACKED`."""
    fields = header.fields
    if header.is_meta:
        if fields.get("CompressedData", "").lower() in _TRUE:
            return "gzip"
        return "raw" if fields.get("BinaryData", "True").lower() in _TRUE else "text"
    told = fields.get("encoding", "").lower()
    if told not in _ENCODINGS:
        raise CaseError(
            f"case {case}: the voxels of {header.path} are encoded in a way that is not read; export it as raw or gzip"
        )
    return _ENCODINGS[told]


def _skips(header: TextHeader) -> tuple[int, int]:
    """Lines and then bytes to be skipped before the voxels; -1 bytes: they are the last of the file."""
    if header.is_meta:
        return 0, int(header.fields.get("HeaderSize", "0")) if header.begin == 0 else 0
    lines, skipped = int(header.fields.get("lineskip", "0")), int(header.fields.get("byteskip", "0"))
    if lines < 0 or skipped < -1:
        raise ValueError("its header skips a negative number of lines or bytes")
    return lines, skipped


def _damaged(header: TextHeader, case: str, reason: str) -> CaseError:
    return CaseError(f"case {case}: {header.path} is truncated or damaged{reason}; copy or export it again")
