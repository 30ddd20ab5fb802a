from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ivdjax.reports.change_chart import _ticks, course_svg


def drawn(*arguments) -> ET.Element:
    return ET.fromstring(course_svg(*arguments))


def kinds(svg: ET.Element) -> dict[str, int]:
    tags = [element.tag for element in svg]
    return {tag: tags.count(tag) for tag in ("rect", "circle", "path", "polyline")}


def test_a_dot_a_visit_and_a_diamond_where_it_leaves_the_band():
    svg = drawn("Height", "mm", {1: [8.0, 8.4, 8.6], 2: [9.0, 9.0, 9.0]}, 0.5)
    assert kinds(svg) == {"rect": 2, "circle": 5, "path": 1, "polyline": 2}
    assert svg.get("aria-label") == "Height, mm, disc by disc, at each visit"
    names = [text.text for text in svg.iter("text") if text.get("text-anchor") == "middle"]
    assert names == ["L4/5", "L5/S1"]
    rect, path = svg.find("rect"), svg.find("path/title")
    assert rect is not None and path is not None and path.text == "visit 3: 8.6"


def test_the_band_is_as_high_as_twice_the_smallest_detectable_change():
    svg = drawn("Height", "mm", {1: [8.0, 9.0]}, 0.5)
    ys = [float(circle.get("cy") or "") for circle in svg.iter("circle")]
    path = (svg.find("path").get("d") or "").split("l")[0]
    later = float(path.split(" ")[1]) + 5.5
    rect = svg.find("rect")
    assert float(rect.get("height")) == pytest.approx(ys[0] - later, abs=0.3)
    assert float(rect.get("y")) + float(rect.get("height")) / 2 == pytest.approx(ys[0], abs=0.2)


def test_without_a_known_noise_there_is_neither_band_nor_diamond():
    assert kinds(drawn("Height", "mm", {1: [8.0, 12.0]}, None)) == {"rect": 0, "circle": 2, "path": 0, "polyline": 1}


def test_a_disc_without_a_baseline_has_no_band():
    assert kinds(drawn("Height", "mm", {1: [None, 12.0]}, 0.5)) == {"rect": 0, "circle": 1, "path": 0, "polyline": 1}


def test_nothing_measured_draws_nothing():
    assert course_svg("Height", "mm", {1: [None, None]}, 0.5) == course_svg("Height", "mm", {}, 0.5) == ""


def test_titles_are_escaped():
    assert "<b>" not in course_svg('<b>"', "mm", {1: [1.0, 2.0]}, None)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (3.2, 11.9, [0, 5, 10, 15]),
        (0.1, 0.4, [0.1, 0.2, 0.3, 0.4]),
        (-3, 3, [-4, -2, 0, 2, 4]),
        (100, 180, [100, 120, 140, 160, 180]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, ticks):
    assert _ticks(low, high) == pytest.approx(ticks)


def test_equal_values_still_have_an_axis():
    first, *_, last = _ticks(8.0, 8.0)
    assert first <= 8.0 <= last and first < last


def test_a_change_that_is_not_judged_is_not_set_off():
    courses = {1: [8.0, 9.0], 2: [8.0, 9.0, 9.0]}
    svg = ET.fromstring(course_svg("Height", "mm", courses, 0.5, {(1, 1), (2, 1)}))
    assert kinds(svg) == {"rect": 1, "circle": 4, "path": 1, "polyline": 2}
    assert svg.find("path/title").text == "visit 3: 9"
