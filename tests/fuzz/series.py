"""Mutations of DICOM files (explicit VR, little endian) and of folders of them."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

from tests.fuzz.sample import Sample
from tests.fuzz.spoiling import TEXTS, packed, spoiled

WORDS = ("Mustermann", "Erika", "MRN-4711", "19640812")
"""Of the patient; no message may hold one of them."""

_LONG = {b"OB", b"OW", b"OF", b"OD", b"OL", b"SQ", b"UN", b"UT", b"UC", b"UR"}
_ITEM, _START = b"\xfe\xff\x00\xe0", 132
_NO_LENGTH = 0xFFFFFFFF
_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2",
             "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70",
             "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.100", "1.2.3", "Mustermann")  # fmt: skip
_TELLING = (  # rows, columns, place, pixels ...: what a reader relies on
    (0x28, 0x10), (0x28, 0x11), (0x28, 0x02), (0x28, 0x04), (0x28, 0x08), (0x28, 0x30), (0x28, 0x100), (0x28, 0x101),
    (0x28, 0x102), (0x28, 0x103), (0x28, 0x1052), (0x28, 0x1053), (0x20, 0x32), (0x20, 0x37), (0x20, 0x11),
    (0x20, 0x0D), (0x20, 0x0E), (0x20, 0x52), (0x18, 0x81), (0x18, 0x87), (0x08, 0x08), (0x08, 0x16), (0x08, 0x60),
    (0x02, 0x10), (0x08, 0x05), (0x7FE0, 0x10), (0x5200, 0x9229), (0x5200, 0x9230), (0x08, 0x103E),
)  # fmt: skip

_BITS = ((0x28, 0x100), (0x28, 0x101), (0x28, 0x102))


@dataclass(frozen=True)
class Element:
    """Where a data element lies in its file."""

    tag: tuple[int, int]
    vr: bytes
    at: int
    start: int
    length: int

    @property
    def end(self) -> int:
        """Behind its value."""
        return self.start + self.length


def elements(content: bytes, at: int = _START, end: int | None = None) -> list[Element]:
    """The elements of a sound file or of an item, those within sequences too."""
    end = len(content) if end is None else end
    found: list[Element] = []
    while at + 8 <= end:
        group, element = struct.unpack_from("<HH", content, at)
        vr = content[at + 4 : at + 6]
        if vr in _LONG:
            length, start = struct.unpack_from("<I", content, at + 8)[0], at + 12
        else:
            length, start = struct.unpack_from("<H", content, at + 6)[0], at + 8
        known = end - start if length == _NO_LENGTH else length
        found.append(Element((group, element), vr, at, start, known))
        if vr == b"SQ" and length != _NO_LENGTH:
            inner = start
            while inner + 8 <= start + length and content[inner : inner + 4] == _ITEM:
                size = struct.unpack_from("<I", content, inner + 4)[0]
                found += elements(content, inner + 8, min(inner + 8 + size, end))
                inner += 8 + size
        at = start + known
    return found


def spoiled_folder(sample: Sample, chance: random.Random, others: list[bytes]) -> Sample:
    """One file of a series changed, or the folder: a file less, one twice, one of another series."""
    paths = sorted(sample.files)
    path = chance.choice(paths)
    turn = chance.random()
    if turn < 0.04:
        return sample.with_file(path, None)
    if turn < 0.07:
        return sample.with_file(f"{path}x", sample.files[path])
    if turn < 0.1:
        return sample.with_file(f"{path}x", chance.choice(others))
    if turn < 0.12:
        return sample.with_file(
            chance.choice(("case/DICOMDIR", "case/notes.txt", "case/b.dcm", "case/a.nii")), b"x" * 200
        )
    if turn < 0.25:
        return sample.with_file(path, spoiled(sample.files[path], chance, others))
    if turn < 0.4:  # one element of all files in one way
        tag, seed = chance.choice(_TELLING), chance.random()
        for name in paths:
            sample = sample.with_file(name, _with_element(sample.files[name], tag, random.Random(seed)))
        return sample
    content = sample.files[path]
    for _ in range(chance.choice((1, 1, 2))):
        content = spoiled_dicom(content, chance)
    return sample.with_file(path, content)


def spoiled_dicom(content: bytes, chance: random.Random) -> bytes:
    """One element given another value, length or kind; left out; or joined by a strange one."""
    if chance.random() < 0.6:
        return _with_element(content, chance.choice(_TELLING), chance)
    try:
        found = elements(content)
    except struct.error:
        return spoiled(content, chance)
    if not found:
        return spoiled(content, chance)
    return _changed(content, chance.choice(found), chance)


def _with_element(content: bytes, tag: tuple[int, int], chance: random.Random) -> bytes:
    try:
        found = [element for element in elements(content) if element.tag == tag]
    except struct.error:
        return content
    return _changed(content, chance.choice(found), chance) if found else content


def _changed(content: bytes, element: Element, chance: random.Random) -> bytes:
    turn = chance.random()
    if turn < 0.5:
        return _revalued(content, element, _value(element, chance), chance.random() < 0.7)
    if turn < 0.6:  # the length alone
        long = element.vr in _LONG
        at = element.at + (8 if long else 6)
        return content[:at] + packed(chance, "<I" if long else "<H") + content[at + (4 if long else 2) :]
    if turn < 0.7:  # the kind alone
        vr = chance.choice((b"SQ", b"DS", b"IS", b"US", b"UN", b"PN", b"AT", b"FD", b"XX", b"\0\0", b"OW", b"UI"))
        return content[: element.at + 4] + vr + content[element.at + 6 :]
    if turn < 0.8:
        return content[: element.at] + content[element.end :]
    if turn < 0.85:
        return content[: element.end] + content[element.at : element.end] + content[element.end :]
    if turn < 0.9:
        return content[: element.at] + _nested(chance.choice((1, 20, 400, 5000))) + content[element.at :]
    if turn < 0.93:
        return content[: chance.randrange(element.at, element.end + 1)]
    return content[: element.start] + spoiled(content[element.start : element.end], chance) + content[element.end :]


def _revalued(content: bytes, element: Element, value: bytes, honest: bool) -> bytes:
    """Another value; an honest one with its length, the other squeezed into the old length."""
    if not honest:
        value = value[: element.length].ljust(element.length, b" ")
        return content[: element.start] + value + content[element.end :]
    value += b" " * (len(value) % 2)
    if element.vr in _LONG:
        head = content[element.at : element.at + 8] + struct.pack("<I", len(value))
    else:
        value = value[:65534]
        head = content[element.at : element.at + 6] + struct.pack("<H", len(value))
    return content[: element.at] + head + value + content[element.end :]


def _value(element: Element, chance: random.Random) -> bytes:
    if chance.random() < 0.2:
        return chance.choice(WORDS).encode()
    if element.tag == (0x02, 0x10):
        return chance.choice(_SYNTAXES).encode()
    if element.tag in _BITS and chance.random() < 0.5:  # bits that may hold together, or all but
        return struct.pack("<H", chance.choice((1, 7, 8, 11, 12, 15, 16, 17, 31, 32, 64)))
    if element.vr in (b"US", b"SS"):
        return packed(chance, "<h") * chance.choice((1, 1, 1, 0, 2))
    if element.vr in (b"FD", b"FL"):
        return packed(chance, "<d" if element.vr == b"FD" else "<f")
    if element.vr == b"SQ":
        return chance.choice((b"", _ITEM + b"\0\0\0\0", _ITEM + packed(chance, "<I"), chance.randbytes(40)))
    if element.vr in (b"OW", b"OB"):
        return chance.randbytes(chance.choice((0, 1, 2, 50, 480, 961, 2000)))
    count = chance.choice((1, 1, 2, 3, 6))
    return "\\".join(chance.choice(TEXTS[:23]) for _ in range(count)).encode()


def _nested(depth: int) -> bytes:
    """A private sequence within a sequence within ... , all of undefined length."""
    opening = struct.pack("<HH2sHI", 0x0009, 0x1001, b"SQ", 0, _NO_LENGTH) + _ITEM + struct.pack("<I", _NO_LENGTH)
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    return opening * depth + closing * depth
