"""The estimate of a grade: probabilities by hand, what it rests on, and where it is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivdjax.discs.grades import GRADE_MEASURES, grade_features, graded, grader_of
from ivdjax.volume import Disc

FACTS = {
    "features": {"log_nucleus_csf": {"centre": -1.0, "spread": 0.5, "weight": -2.0},
                 "l5s1": {"centre": 0.0, "spread": 1.0, "weight": 1.0}},
    "thresholds": [-3.0, -1.0, 1.0, 3.0],
}  # fmt: skip


CENTRE = float(np.exp(-1.0))


def disc(level, ratio=CENTRE, **measures):
    own = {"nucleus_signal": None if ratio is None else 100 * ratio, "csf_signal": 100.0, "marrow_signal": 100 * CENTRE}
    own |= {"nucleus_over_annulus": 2.0, "disc_height_index": 0.2}
    return Disc(level, 0.9, (0.0, 0.0, 0.0), 7000.0, own | measures)


def row(found):
    return [found.measures[name] for name in GRADE_MEASURES]


def logistic(value):
    return 1 / (1 + np.exp(-value))


def test_probabilities_are_the_steps_between_cumulative_logits():
    at_centre, brighter = graded([disc(1), disc(2, np.exp(-0.5))], grader_of(FACTS))
    for found, score in ((at_centre, 1.0), (brighter, -2.0)):
        below = [0, *(logistic(threshold - score) for threshold in FACTS["thresholds"]), 1]
        grade, expected, *probabilities = row(found)
        assert probabilities == pytest.approx(np.diff(below)) and sum(probabilities) == pytest.approx(1)
        assert expected == pytest.approx(np.dot(probabilities, [1, 2, 3, 4, 5]))
        assert grade == min(k for k in range(1, 6) if below[k] >= 0.5)
    assert row(at_centre)[0] == 3 and row(brighter)[0] == 2


def test_what_lies_beyond_three_spreads_says_no_more():
    far, further = graded([disc(2, np.exp(2.0)), disc(3, np.exp(9.0))], grader_of(FACTS))
    assert row(far) == row(further)


def test_features_are_those_of_the_disc_and_the_median_of_its_spine():
    found = grade_features([disc(1), disc(2, np.exp(0.0)), disc(3, np.exp(1.0))])
    assert found[2]["spine_log_nucleus_marrow"] == pytest.approx(1.0) == found[2]["log_nucleus_marrow"]
    assert found[1]["spine_log_nucleus_marrow"] == pytest.approx(1.0) and found[1]["log_nucleus_marrow"] == 0.0
    assert [found[level]["l5s1"] for level in (1, 2, 3)] == [1, 0, 0]
    assert [found[level]["l4_to_s1"] for level in (1, 2, 3)] == [1, 1, 0]
    assert found[1]["log_height_index"] == pytest.approx(np.log(0.2))


def test_a_tissue_that_is_not_seen_beside_a_disc_is_taken_from_the_others():
    found = grade_features([disc(1, csf_signal=None), disc(2, csf_signal=200.0), disc(3, csf_signal=50.0), disc(4)])
    assert [found[level]["log_nucleus_csf"] for level in (1, 2)] == pytest.approx([-1.0, -1.0 - np.log(2)])
    (alone,) = grade_features([disc(1, csf_signal=None)]).values()
    assert alone["log_nucleus_csf"] is None and alone["log_nucleus_marrow"] == 0.0


@pytest.mark.parametrize("ratio", [None, 0.0, -0.1])
def test_a_disc_without_signal_an_unsure_outline_and_a_model_without_grades_get_none(ratio):
    blank, given = graded([disc(1, ratio), disc(2)], grader_of(FACTS))
    assert set(row(blank)) == {None} and None not in row(given)
    assert blank.missing == dict.fromkeys(GRADE_MEASURES, "a measure that it rests on is missing")
    told = replace(disc(1, ratio), missing={"csf_signal": "no canal", "nucleus_signal": "no T2"})
    assert graded([told], grader_of(FACTS))[0].missing["pfirrmann_grade"] == "no T2"
    assert set(row(graded([disc(2)], grader_of(FACTS), unsure=[2])[0])) == {None}
    assert grader_of(None) is None and set(row(graded([disc(2)], None)[0])) == {None}
    assert graded([], grader_of(FACTS)) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": {}}, "one or more features"),
        ({"features": {"mood": {"centre": 0, "spread": 1, "weight": 1}}}, "not mood"),
        ({"features": {"l5s1": {"centre": 0, "spread": 0, "weight": 1}}}, "spreads above 0"),
        ({"features": {"l5s1": {"centre": 0, "spread": 1}}}, "'weight'"),
        ({"features": {"l5s1": {"centre": 0, "spread": 1, "weight": float("nan")}}}, "finite"),
        ({"features": 3}, "features with"),
        ({"thresholds": [1, 2, 3]}, "4 thresholds"),
        ({"thresholds": [1, 2, 2, 3]}, "that rise"),
    ],
)
def test_what_is_no_grader_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        grader_of(FACTS | change)
