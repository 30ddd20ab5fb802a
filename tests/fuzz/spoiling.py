"""Mutations that know nothing of a format: bits, bytes and blocks."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

NUMBERS = (0, 1, 2, 3, 4, 7, 8, 16, 31, 127, 128, 255, 256, 511, 512, 1023, 4096, 32767, 32768, 65535, 65536, 10**6,
           2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1)  # fmt: skip
"""Whole numbers at which counting goes wrong."""

TEXTS = (
    "", "0", "-1", "1", "2", "3", "1.5", "-0.0", "1e400", "-1e38", "1e-320", "nan", "inf", "-inf", "1e10",
    "99999999999", "9" * 5000, "abc", "1 2 3", "1\\2\\3", "0\\0", "\u00b2", "\u0661", "\x00", "../outside/secret.raw",
    "/etc/passwd", "a" * 70000, "%s%n", "${HOME}", "<script>alert(1)</script>", "'; --", "\u202e", "None", "true",
    "LOCAL", "LIST", "[1, 2]", "1e-3",
)  # fmt: skip
"""Words at which reading a number, a name or a path goes wrong."""


def spoiled(content: bytes, chance: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """One to four changes of bytes that a disk, a network or an attacker may make."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        content = chance.choice(_CHANGES)(content, chance, others)
    return content


def number(chance: random.Random) -> int:
    """A whole number, more often odd than not."""
    value = chance.choice(NUMBERS) if chance.random() < 0.8 else chance.getrandbits(chance.choice((4, 8, 16, 32, 63)))
    return -value if chance.random() < 0.3 else value


def packed(chance: random.Random, layout: str) -> bytes:
    """A number in one of struct's layouts, such as "<h"; whatever does not fit is wrapped."""
    kind = layout[-1]
    if kind in "fd":
        odd = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, 1e6, float("nan"), float("inf"), float("-inf"), 0.001, 347.0, 1e9)
        value = chance.choice(odd) if chance.random() < 0.8 else chance.uniform(-1000, 1000)
        return struct.pack(layout, value)
    size = struct.calcsize(layout)
    order = "big" if layout[0] == ">" else "little"
    return (number(chance) % (1 << (8 * size))).to_bytes(size, order)  # type: ignore[arg-type]


def patched(content: bytes, at: int, new: bytes) -> bytes:
    """The content with other bytes at a place; nothing grows."""
    return (content[:at] + new + content[at + len(new) :])[: len(content)]


def _place(content: bytes, chance: random.Random) -> int:
    """Somewhere, more often in the first kilobyte, where headers are."""
    end = len(content) if chance.random() < 0.4 else min(len(content), chance.choice((64, 352, 1024)))
    return chance.randrange(end) if end else 0


def _flip(content: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 8, 64)) if content else 0):
        changed[_place(content, chance)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _set(content: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    value = packed(chance, chance.choice(("<h", ">h", "<i", ">i", "<q", "<f", "<d", "<B")))
    return patched(content, _place(content, chance), value)


def _cut(content: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    return content[: chance.randrange(len(content))] if content else b""


def _drop(content: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    at = _place(content, chance)
    return content[:at] + content[at + chance.choice((1, 2, 4, 16, 1000)) :]


def _double(content: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    at, length = _place(content, chance), chance.choice((1, 4, 32, 1000))
    return content[: at + length] + content[at : at + length] * chance.choice((1, 2, 100)) + content[at + length :]


def _insert(content: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    at = _place(content, chance)
    return content[:at] + chance.randbytes(chance.choice((1, 2, 8, 300))) + content[at:]


def _word(content: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    at = _place(content, chance)
    return content[:at] + chance.choice(TEXTS).encode()[:2000] + content[at:]


def _splice(content: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    if not others:
        return content
    other = chance.choice(others)
    return content[: _place(content, chance)] + other[_place(other, chance) :]


def _blank(content: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    at = _place(content, chance)
    length = min(len(content) - at, chance.choice((4, 64, 4096)))
    return content[:at] + bytes([chance.choice((0, 0, 255, 32))]) * length + content[at + length :]


def _append(content: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    return content + chance.randbytes(chance.choice((1, 100)))


_CHANGES = (_flip, _flip, _set, _set, _cut, _cut, _drop, _double, _insert, _word, _splice, _blank, _append)
