"""What a segment must be, so that every format can hold it."""

from __future__ import annotations

import pytest

from ivdjax.imaging.files.segment import Segment, ordered

SOUND = {
    "value": 1,
    "label": "L5/S1",
    "category": ("91723000", "SCT", "Anatomical Structure"),
    "code": ("715056000", "SCT", "L5/S1 disc"),
    "rgb": (0.0, 0.5, 1.0),
}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"value": 0}, "must be 1 to 65535, not 0"),
        ({"value": 65536}, "must be 1 to 65535, not 65536"),
        ({"rgb": (0.0, 1.5, 0.0)}, "red, green and blue must be 0 to 1"),
        ({"label": 'L5"S1'}, "reword it"),
        ({"label": "two\nlines"}, "reword it"),
        ({"label": " "}, "is empty"),
        ({"code": ("1", "SCT", "a~b")}, "reword it"),
        ({"category": ("", "SCT", "a")}, "is empty"),
    ],
)
def test_what_no_format_can_hold(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Segment(**(SOUND | fields))


def test_colours_in_bytes() -> None:
    assert Segment(**SOUND).rgb_bytes == (0, 128, 255)


def test_order() -> None:
    first, second = Segment(**SOUND), Segment(**(SOUND | {"value": 4, "label": "L2/3"}))
    assert ordered([second, first]) == [first, second] and ordered([]) == []
    with pytest.raises(ValueError, match="'L5/S1' and 'x' both have the value 1"):
        ordered([first, second, Segment(**(SOUND | {"label": "x"}))])
