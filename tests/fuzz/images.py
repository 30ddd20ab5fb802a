"""Mutations of image files that know their headers: NIfTI, MetaImage and NRRD."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from functools import lru_cache

import numpy as np

from tests.fuzz.spoiling import TEXTS, number, packed, patched

_NIFTI_1 = {
    "<i": (0,), "<h": (40, 42, 44, 46, 48, 50, 52, 54, 68, 70, 70, 72, 72, 74, 252, 252, 254, 254),
    "<f": (76, 80, 84, 88, 92, 108, 108, 112, 112, 116, 124, 128, 256, 260, 264, 268, 272, 276, *range(280, 328, 4)),
    "<B": (39, 123), "<q": (344, 348),
}  # fmt: skip
_NIFTI_2 = {
    "<i": (0, 344, 344, 348, 348, 500), "<h": (12, 12, 14), "<q": (4, *range(16, 80, 8), 168, 168, 540),
    "<d": (*range(104, 168, 8), 176, 184, *range(352, 400, 8), *range(400, 496, 8)),
}  # fmt: skip
_DATATYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 255, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304)
_BOMB_MEMBERS = 40
_BOMB_BYTES = 1 << 26

OUTSIDE = ("{outside}/secret.raw", "../../../../outside/secret.raw", "../../../outside/secret.raw")
"""Ways out of an input's folder, to a file that nobody may read."""

SEGMENTS = (
    "Segment0_Name:=L4/5", "Segment1_Name:=L4-5", "Segment0_LabelValue:=-1", "Segment0_Layer:=7", "Segment2_ID:=x",
    "Segment1_LabelValue:=99999999999999999999", "Segment9999_Name:=L1/2", "Segment0_Name:=", "Segment0_LabelValue:=²",
    "Segment1_Tags:=TerminologyEntry:~SCT^84020006^x~|",
)  # fmt: skip
"""Fields of 3D Slicer's segments that contradict others."""

METAIMAGE_WORDS = (
    "2", "3", "4", "-1", "10000000000 10000000000 1", "0 0 0", "7 24 20 3", "MET_UCHAR", "MET_DOUBLE",
    "MET_LONG_LONG", "MET_STRING", "MET_UCHAR_ARRAY", "MET_OTHER", "True", "False", "1 0 0 0 1 0 0 0 0",
    "nan nan nan", "1e300 1 1", *OUTSIDE, *(f"LIST\n{path}" for path in OUTSIDE), "LIST 2D", "%d.raw 1 100000000 1",
    "/etc/passwd", "LOCAL", "Local", "500 500 500", "65535 65535 100", "3000000000 1 1",
)  # fmt: skip
"""Values that a header of MetaImage or NRRD may be given."""

NRRD_WORDS = (
    *METAIMAGE_WORDS, "raw", "gzip", "bzip2", "hex", "txt", "ascii", "little", "big", "uint8", "double", "block",
    "int64", "none none none", "(1,0,0) (0,1,0) (0,0,0)", "(nan,0,0) (0,1,0) (0,0,1)", "left-posterior-superior",
    "space", "domain domain domain domain", "list domain domain", "LIST 2", "SKIPLIST", '"mm" "mm" "mm"', "-1",
    "100000",
)  # fmt: skip


def spoiled_nifti(content: bytes, chance: random.Random) -> bytes:
    """One to three header fields, the voxels or the compression of a NIfTI file changed."""
    packed_file = content.startswith(b"\x1f\x8b")
    plain = gzip.decompress(content) if packed_file else content
    for _ in range(chance.choice((1, 1, 2, 3))):
        plain = _spoiled_plain(plain, chance)
    if not packed_file:
        return plain
    return _spoiled_gzip(gzip.compress(plain, 1, mtime=0), plain, chance)


def _spoiled_plain(plain: bytes, chance: random.Random) -> bytes:
    fields = _NIFTI_2 if plain[:1] == b"\x1c" else _NIFTI_1
    turn = chance.random()
    if turn < 0.65:
        layout = chance.choice([layout for layout, places in fields.items() for _ in places])
        value = packed(chance, layout)
        at = chance.choice(fields[layout])
        if at in (70, 12) and layout == "<h":
            value = struct.pack("<h", chance.choice(_DATATYPES))
        return patched(plain, at, value)
    if turn < 0.72:
        return plain[:4][::-1] + plain[4:] if chance.random() < 0.5 else _big_endian(plain)
    if turn < 0.8:  # an extension of any length
        extension = b"\1\0\0\0" + packed(chance, "<i") + packed(chance, "<i") + chance.randbytes(16)
        header = 540 if fields is _NIFTI_2 else 348
        return plain[:header] + extension + plain[header + 4 :]
    if turn < 0.9:
        shape = [abs(number(chance)) % 40000 for _ in range(7)]
        count = chance.randrange(1, 8)
        if fields is _NIFTI_2:
            return patched(plain, 16, struct.pack("<8q", count, *shape))
        return patched(plain, 40, struct.pack("<8h", count, *(side % 32768 for side in shape)))
    voxels = np.frombuffer(plain[-4096:], np.uint8).copy()
    voxels[:] = chance.choice((0, 255, 127))
    return plain[: -len(voxels)] + voxels.tobytes()


def _big_endian(plain: bytes) -> bytes:
    """The voxels of the other byte order, or a header that says so."""
    return patched(plain, 0, b"\0\0\1\x5c")


def _spoiled_gzip(content: bytes, plain: bytes, chance: random.Random) -> bytes:
    turn = chance.random()
    if turn < 0.7:
        return content
    if turn < 0.76:  # checksum
        return patched(content, len(content) - 8, chance.randbytes(4))
    if turn < 0.82:  # length
        return patched(content, len(content) - 4, chance.randbytes(4))
    if turn < 0.86:
        return content + gzip.compress(plain, 1, mtime=0)
    if turn < 0.88:
        return gzip.compress(content, 1, mtime=0)
    if turn < 0.91:
        return patched(content, 3, bytes([chance.randrange(256)]))
    if turn < 0.93:
        return content + _zeros() * chance.choice((1, _BOMB_MEMBERS))
    return content[: chance.randrange(len(content))]


@lru_cache(maxsize=1)
def _zeros() -> bytes:
    """A gzip member that unpacks to 64 MiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    return packer.compress(bytes(_BOMB_BYTES)) + packer.flush()


def spoiled_metaimage(content: bytes, chance: random.Random) -> bytes:
    """One to three lines of a MetaImage header changed, dropped or doubled."""
    at = content.find(b"ElementDataFile")
    end = content.find(b"\n", at) + 1 or len(content)
    return _spoiled_lines(content[:end], " = ", METAIMAGE_WORDS, chance) + content[end:]


def spoiled_nrrd(content: bytes, chance: random.Random) -> bytes:
    """One to three lines of an NRRD header changed, dropped, doubled or added."""
    header, gap, voxels = content.partition(b"\n\n")
    if chance.random() < 0.25:
        extra = chance.choice((*(f"data file: {path}" for path in OUTSIDE), f"data file: LIST\n{OUTSIDE[0]}",
                               "byte skip: -1", "line skip: 1000000", "byte skip: 99999999999", "encoding: raw",
                               "content: x", "old min: nan",
                               *SEGMENTS, "sample units: \x00", "key:=" + "v" * 100000))  # fmt: skip
        header += b"\n" + extra.encode()
    return _spoiled_lines(header, ": ", NRRD_WORDS, chance) + gap + voxels


def _spoiled_lines(header: bytes, separator: str, words: tuple[str, ...], chance: random.Random) -> bytes:
    lines = header.decode("latin-1").split("\n")
    for _ in range(chance.choice((1, 1, 2, 3))):
        place = chance.randrange(len(lines))
        key, middle, value = lines[place].partition(separator)
        turn = chance.random()
        if turn < 0.6 and middle:
            parts = value.split()
            if len(parts) > 1 and chance.random() < 0.5:
                parts[chance.randrange(len(parts))] = str(chance.choice((*TEXTS[:17], number(chance))))
                lines[place] = key + middle + " ".join(parts)
            else:
                lines[place] = key + middle + chance.choice(words if chance.random() < 0.8 else TEXTS)
        elif turn < 0.75:
            del lines[place]
        elif turn < 0.85:
            lines.insert(place, lines[place])
        else:
            lines.insert(place, chance.choice(words) + separator + chance.choice(words))
        if not lines:
            return b""
    return "\n".join(lines).encode("utf-8", "replace")
