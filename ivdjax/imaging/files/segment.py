"""One value of a label map, for those who look at it: its name, its colour, and what it is in coded terms."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

Term = tuple[str, str, str]
"""A coded concept as (value, scheme, meaning), such as ("715056000", "SCT", "L5/S1 disc")."""

MAX_VALUE = 65535
"""The largest value a segment may have; viewers read label maps of up to 16 bits."""

_RESERVED = '"|~^\t\r\n'


@dataclass(frozen=True)
class Segment:
    """What viewers are told of one value of a label map.

    Attributes:
        value: in the label map, 1 or more.
        label: the name that a viewer shows.
        category: what kind of thing it is, such as "Anatomical Structure".
        code: what it is.
        rgb: its colour, red, green and blue, 0 to 1.

    Raises:
        ValueError: a value below 1 or above `MAX_VALUE`, a colour outside 0 to 1, or a text that is empty or holds a
            character that a file format keeps for itself: quote, bar, tilde, caret, tab or line break.
    """

    value: int
    label: str
    category: Term
    code: Term
    rgb: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not 1 <= self.value <= MAX_VALUE:
            raise ValueError(f"segment {self.label!r}: its value must be 1 to {MAX_VALUE}, not {self.value}")
        if not all(0.0 <= part <= 1.0 for part in self.rgb):
            raise ValueError(f"segment {self.label!r}: red, green and blue must be 0 to 1, not {self.rgb}")
        for text in (self.label, *self.category, *self.code):
            if not text.strip() or any(sign in text for sign in _RESERVED):
                raise ValueError(f"segment {self.value}: {text!r} is empty or holds one of {_RESERVED!r}; reword it")

    @property
    def rgb_bytes(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
        red, green, blue = (round(255 * part) for part in self.rgb)
        return red, green, blue


def ordered(segments: Iterable[Segment]) -> list[Segment]:
    """The segments in rising order of their values.

    Raises:
        ValueError: two of them have one value.
    """
    found = sorted(segments, key=lambda segment: segment.value)
    for first, second in pairwise(found):
        if first.value == second.value:
            raise ValueError(f"segments {first.label!r} and {second.label!r} both have the value {first.value}")
    return found
