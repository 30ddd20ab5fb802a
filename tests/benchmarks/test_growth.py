"""How the cost of a run grows with its size."""

from __future__ import annotations

import pytest

from benchmarks.growth import Point, growth, table
from benchmarks.infer import Measured


def point(axis: str, size: int, cpu_s: float) -> Point:
    return Point(axis, size, Measured(cpu_s, cpu_s, [{"read": {"wall_s": 1.0, "cpu_s": 1.0, "peak_mib": 700.0}}]))


def test_growth_is_the_exponent_of_what_comes_on_top_of_the_smallest_size():
    linear = [point("slices", size, 5.0 + 0.1 * size) for size in (13, 60, 120)]
    square = [point("slices", size, 5.0 + 0.1 * (size - 13) ** 2) for size in (13, 60, 120)]
    pixels = [point("in_plane", size, 5.0 + 1e-4 * size**2) for size in (128, 512, 768)]
    assert [growth(of) for of in (linear, square, pixels)] == pytest.approx([1.0, 2.0, 1.0])


def test_the_table_tells_the_growth_once_an_axis():
    rows = table([point("cases", size, 5.0 + size) for size in (1, 10, 50)]).splitlines()
    assert rows[-1] == "| cases | 50 | 55.0 | 55.0 | 700 | 1.00 |" and rows[-2].endswith("| 700 |  |")
    flat = table([point("channels", size, 8.0 + 0.1 * size) for size in (1, 2, 3)]).splitlines()
    assert flat[-1].endswith("| none |"), "the exponent would be noise"
