"""Segments of discs: every lumbar level, and those beyond that occur."""

from __future__ import annotations

import pytest

from ivdjax.discs.schemes import SCHEMES
from ivdjax.inference.disc_segments import disc_segments
from ivdjax.reports.colours import level_colour


def test_the_lumbar_table_is_always_whole() -> None:
    found = disc_segments([2])
    assert [segment.value for segment in found] == [1, 2, 3, 4, 5, 6, 7]
    assert [segment.label for segment in found][:2] == ["L5/S1", "L4/5"]
    assert found[0].code == ("715056000", "SCT", "L5/S1 disc")
    assert found[0].category == ("91723000", "SCT", "Anatomical Structure")
    assert [segment.rgb for segment in found] == [level_colour(level) for level in range(1, 8)]


def test_levels_beyond_are_added() -> None:
    found = disc_segments([16, 8, 3])
    assert [segment.value for segment in found] == [*range(1, 9), 16]
    assert [segment.label for segment in found][-2:] == ["T10/11", "T2/T3"]


def test_numbers_of_another_scheme() -> None:
    found = disc_segments([], SCHEMES["totalspineseg"])
    assert [segment.value for segment in found] == [100, 95, 94, 93, 92, 91, 82]
    assert found[0].label == "L5/S1"


def test_no_such_disc() -> None:
    with pytest.raises(ValueError, match="not 24"):
        disc_segments([24])
