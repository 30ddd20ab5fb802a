from __future__ import annotations

import math

import pytest

from ivdjax.discs.change import (
    Change,
    Visit,
    changes_between,
    detectable_changes,
    is_measure,
    numeric_measures,
    unit_of,
)

DETECTABLE = {"middle_height_mm": 0.5, "wedge_angle_deg": 2.0}


def disc(height: float | None = 8.0, **columns):
    return {
        "level": 1, "level_confidence": 0.99, "centroid_x_mm": 1.0, "middle_height_mm": height, "wat_mean": 100.0
    } | columns  # fmt: skip


def visit(name: str, verdict: str = "ok", pinned: bool = False, **discs) -> Visit:
    """A visit of discs by level, written as l1, l2, ..."""
    return Visit(name, verdict, {int(key[1:]): row for key, row in discs.items()}, pinned)


def only(changes: list[Change]) -> Change:
    assert len(changes) == 1
    return changes[0]


@pytest.mark.parametrize(
    ("after", "beyond"), [(8.5, "no"), (8.51, "yes"), (7.49, "yes"), (7.6, "no"), (8.0, "no")]
)  # fmt: skip
def test_a_change_is_beyond_the_noise_where_it_is_larger_than_the_smallest_detectable_one(after, beyond):
    change = only(changes_between(visit("a", l2=disc()), visit("b", l2=disc(after)), DETECTABLE))
    assert (change.beyond_noise, change.smallest_detectable_change) == (beyond, 0.5)
    assert (change.level, change.level_name, change.measure, change.unit) == (2, "L4/5", "middle_height_mm", "mm")
    assert (change.visit_from, change.visit_to, change.before, change.after) == ("a", "b", 8.0, after)
    assert change.change == pytest.approx(after - 8) and change.change_percent == pytest.approx((after - 8) / 0.08)
    assert change.remark == ""


def test_without_repeatability_it_is_not_known():
    change = only(changes_between(visit("a", l1=disc()), visit("b", l1=disc(80.0)), {}))
    assert (change.beyond_noise, change.smallest_detectable_change, change.change) == ("unknown", None, 72.0)


@pytest.mark.parametrize(("before", "after", "percent"), [(-4.0, -5.0, -25.0), (0.0, 2.0, None)])
def test_percent_is_of_the_size_before_and_not_told_of_zero(before, after, percent):
    first, later = (visit(n, l1=disc(None, slope_mm=v)) for n, v in (("a", before), ("b", after)))
    assert only(changes_between(first, later, {})).change_percent == percent


def test_angles_have_no_percent():
    first, later = (visit(n, l1=disc(None, wedge_angle_deg=v)) for n, v in (("a", 2.0), ("b", 5.0)))
    change = only(changes_between(first, later, DETECTABLE))
    assert (change.change, change.change_percent, change.unit, change.beyond_noise) == (3.0, None, "deg", "yes")


def test_a_disc_or_a_measure_that_one_visit_lacks_is_listed_with_a_remark():
    first = visit("a", l4=disc(), l2=disc(None, ap_width_mm=30.0), l3=disc(None))
    later = visit("b", l2=disc(9.0, ap_width_mm=30.0), l3=disc(None))
    height, width, lost = changes_between(first, later, DETECTABLE)
    assert (lost.level, lost.before, lost.after, lost.change, lost.beyond_noise) == (4, 8.0, None, None, "unknown")
    assert lost.remark == "b: disc not found"
    assert (height.level, height.before, height.change, height.remark) == (2, None, None, "a: not measured")
    assert (width.measure, width.change, width.beyond_noise, width.remark) == ("ap_width_mm", 0.0, "unknown", "")


def test_a_measure_after_one_that_both_visits_lack_is_listed():
    first, later = (visit(n, l1=disc(), l2=disc(None, ap_width_mm=30.0)) for n in ("a", "b"))
    assert [(change.level, change.measure) for change in changes_between(first, later, DETECTABLE)] == [
        (1, "middle_height_mm"), (2, "ap_width_mm")
    ]  # fmt: skip


def test_what_may_have_shifted_the_numbers_is_told():
    first, later = visit("a", l1=disc()), visit("b", "review", l1=disc(level_confidence=0.8))
    change = only(changes_between(first, later, DETECTABLE))
    assert change.remark == "the discs may be numbered differently (b: verdict review, confidence in the level 0.80)"
    assert change.beyond_noise == "unknown", "nor can it be judged"
    both = changes_between(visit("a", "review", l1=disc(level_confidence=0.9)), later, DETECTABLE)
    assert "(a: verdict review and b: verdict review, confidence" in only(both).remark


@pytest.mark.parametrize(
    ("first", "later", "words"),
    [
        ({"verdict": "review"}, {}, "a: verdict review"),
        ({}, {"pinned": True}, "a level was pinned in b alone; pin the same disc in a"),
        ({}, {"l1": None}, "the lowest disc is L5/S1 in a and L4/5 in b"),
        ({"l2": disc(level_confidence=0.5)}, {}, "confidence in the level 0.50"),
        ({"l2": disc(cut_at="left")}, {}, "a: the field of view cuts the disc"),
    ],
)
def test_no_change_is_judged_where_other_discs_may_be_meant_or_one_is_cut(first, later, words):
    def scan(name, height, changed):
        given = {"l1": disc(), "l2": disc(height)} | changed
        return visit(name, **{key: value for key, value in given.items() if value is not None})

    change = next(c for c in changes_between(scan("a", 8.0, first), scan("b", 5.0, later), DETECTABLE) if c.level == 2)
    assert change.beyond_noise == "unknown" and words in change.remark and change.smallest_detectable_change == 0.5
    both = changes_between(scan("a", 8.0, {"pinned": True}), scan("b", 5.0, {"pinned": True}), DETECTABLE)
    assert [change.beyond_noise for change in both] == ["no", "yes"]


def test_a_lost_disc_below_the_review_has_both_remarks():
    change = only(changes_between(visit("a", l1=disc()), visit("b", "review"), DETECTABLE))
    assert change.remark == "b: disc not found; the discs may be numbered differently (b: verdict review)"


def test_the_volume_in_view_of_a_cut_disc_is_not_judged():
    def scan(name, volume, cut):
        return visit(name, l1=disc(None, volume_in_view_mm3=volume, cut_at=cut))

    limit = {"volume_in_view_mm3": 10.0}
    whole = only(changes_between(scan("a", 100.0, ""), scan("b", 200.0, None), limit))
    assert (whole.beyond_noise, whole.unit, whole.remark) == ("yes", "mm3", "")
    cut = only(changes_between(scan("a", 100.0, ""), scan("b", 200.0, "left"), limit))
    assert (cut.beyond_noise, cut.change, cut.remark) == ("unknown", 100.0, "b: the field of view cuts the disc")


def test_the_volume_in_view_of_whole_discs_is_not_told_twice():
    def scan(name, whole):
        return visit(name, l1=disc(None, volume_mm3=whole, volume_in_view_mm3=90.0))

    assert [c.measure for c in changes_between(scan("a", 90.0), scan("b", 90.0), {})] == ["volume_mm3"]
    both = changes_between(scan("a", 90.0), scan("b", None), {})
    assert [(c.measure, c.change) for c in both] == [("volume_mm3", None), ("volume_in_view_mm3", 0.0)]
    lost = changes_between(scan("a", 90.0), visit("b"), {})
    assert [c.measure for c in lost] == ["volume_mm3", "volume_in_view_mm3"]


def test_no_discs_give_no_changes():
    assert changes_between(visit("a"), visit("b"), DETECTABLE) == []


def test_levels_confidences_places_and_signals_are_no_measures():
    columns = ["level", "level_name", "level_confidence", "outline_confidence", "centroid_z_mm", "cut_at", "wat_mean",
               "t2_median", "fat_sd"]  # fmt: skip
    assert not any(map(is_measure, columns))
    assert all(map(is_measure, ["volume_mm3", "fat_fraction", "tilt_deg", "disc_height_index"]))


def test_measures_are_columns_with_a_number_somewhere():
    rows = [{"b_mm": None, "a_mm": math.nan, "c": "text", "whole": True}, {"b_mm": 1, "level": 1, "d_mm": 2.0}]
    assert numeric_measures(rows) == ("b_mm", "d_mm")


@pytest.mark.parametrize(("name", "unit"), [("volume_mm3", "mm3"), ("a_mm", "mm"), ("tilt_deg", "deg"), ("index", "")])
def test_units_stand_in_the_names(name, unit):
    assert unit_of(name) == unit


def test_figures_are_read_from_a_models_facts():
    facts = {
        "a_mm": {"smallest_detectable_change": 0.5, "n": 7},
        "b": {"smallest_detectable_change": None},
        "exact": {"smallest_detectable_change": 0.0},
        "wrong": {"smallest_detectable_change": -0.5},
        "made_of": "x",
    }
    assert detectable_changes(facts) == {"a_mm": 0.5, "exact": 0.0}
    assert detectable_changes(None) == {}


def test_what_no_measure_can_be_counts_as_not_measured():
    for odd in (10**400, 1e300, -(10**400), math.inf):
        (change,) = changes_between(visit("a", l1=disc(odd)), visit("b", l1=disc(8.0)), DETECTABLE)
        assert (change.before, change.after, change.change) == (None, 8.0, None)


def test_a_share_of_next_to_nothing_is_not_told():
    (change,) = changes_between(visit("a", l1=disc(1e-320)), visit("b", l1=disc(8.0)), DETECTABLE)
    assert change.change == 8.0 and change.change_percent is None


@pytest.mark.parametrize(
    ("sides", "noise", "judged"),
    [
        (("left right", "left right"), {}, True),
        (("right", "left"), {}, True),
        (("left right", ""), {}, False),  # the whole disc and a slab of it
        (("left top", "left top"), {}, False),
        (("left right", "left right"), {"volume_mm3": 300.0}, False),  # noise of whole discs
    ],
)
def test_slabs_of_two_visits_are_judged_by_their_heights_and_not_by_their_volume(sides, noise, judged):
    first, later = (
        visit(name, l1=disc(height, volume_in_view_mm3=volume, cut_at=side))
        for name, height, volume, side in (("a", 8.0, 9000.0, sides[0]), ("b", 7.0, 8000.0, sides[1]))
    )
    limits = {"middle_height_mm": 0.5, "volume_in_view_mm3": 170.0} | noise
    changes = {change.measure: change for change in changes_between(first, later, limits)}
    assert changes["middle_height_mm"].beyond_noise == ("yes" if judged else "unknown")
    assert (changes["middle_height_mm"].remark == "") == judged
    assert changes["volume_in_view_mm3"].beyond_noise == "unknown"
