"""The fit of a judgement on cases whose errors follow a rule that is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.level_calibration import (
    NAMES,
    Judged,
    confidence_error,
    cross_fitted,
    fit_judgement,
    interval,
    plain,
    reliability,
    report,
)
from ivdjax.discs.signs import Sign
from ivdjax.discs.verdict import judgement_of

SHARP = 2.0
"""Log odds of a level are this many times too far from 0."""


def case(index, kind="phantom"):
    """Errors come with `uncertain` alone; `slope` says nothing; a level's true chance is the root of the odds."""
    draw = np.random.default_rng(index)
    uncertain = float(draw.random())
    wrong = bool(draw.random() < 1 / (1 + np.exp(3 - 6 * uncertain)))
    odds = draw.normal(2, 1.5, 7)
    right = draw.random(7) < 1 / (1 + np.exp(-odds))
    signs = {name: Sign(0.0) for name in NAMES} | {"uncertain": Sign(uncertain), "slope": Sign(float(draw.random()))}
    said = tuple((1 / (1 + np.exp(-SHARP * odds))).tolist())
    return Judged(f"p{index // 2}", kind, str(index), signs, wrong, said, tuple(right.tolist()))


@pytest.fixture(scope="module")
def cases():
    return [case(index, "patient" if index % 3 else "phantom") for index in range(500)]


@pytest.fixture(scope="module")
def tried(cases):
    return cross_fitted(cases)


def test_what_predicts_errors_gets_weight_and_what_does_not_gets_none(cases):
    judgement = fit_judgement(cases)
    assert 3.5 < judgement.weights["uncertain"] < 8 and judgement.bias < -1.5
    assert judgement.weights["slope"] < 0.4
    assert all(weight == 0 for name, weight in judgement.weights.items() if name not in ("uncertain", "slope"))
    assert judgement.slope == pytest.approx(1 / SHARP, abs=0.08)
    assert set(plain(judgement)["weights"]) <= {"uncertain", "slope"}
    assert judgement_of(plain(judgement)).bias == pytest.approx(judgement.bias, abs=1e-4)


def test_kinds_count_alike_however_many_cases_they_have():
    few = [case(index, "patient") for index in range(30)]
    always = [Judged(c.group, "real", c.name, c.signs, True, (0.9,), (False,)) for c in map(case, range(600, 900))]
    once, doubled = (fit_judgement([*few, *others]) for others in (always, [*always, *always]))
    assert once.bias == pytest.approx(doubled.bias, abs=0.02) and once.offset == pytest.approx(doubled.offset, abs=0.02)


def test_calibration_brings_the_error_down_on_patients_that_took_no_part(cases, tried):
    assert [pair[0] for pair in tried] == cases
    plainly = reliability([(p, r) for c in cases for p, r in zip(c.confidence, c.right, strict=True)])[0]
    assert confidence_error(tried) < 0.03 < plainly
    low, high = interval(tried, confidence_error)
    assert 0 <= low < high < 0.08


def test_reliability_by_hand():
    error, rows = reliability([(0.95, True), (0.97, True), (0.91, False), (0.45, False)])
    assert rows == [(pytest.approx(0.45), 0.0, 1), (pytest.approx(0.9433, abs=1e-4), pytest.approx(2 / 3), 3)]
    assert error == pytest.approx((0.45 + 3 * abs(2 / 3 - 2.83 / 3)) / 4)


def test_the_report_counts_what_each_threshold_costs(cases, tried):
    text = report("phantom", tried)
    wrong = sum(case.wrong for case in cases)
    assert f"500 cases, {wrong} with something wrong" in text
    strict, loose = (line for line in text.splitlines() if line.startswith(("| 0.02 |", "| 0.5 |")))
    assert strict.endswith(f"| 0 of {wrong} |") or int(strict.split("|")[3].split(" of ")[0]) < 10
    assert int(loose.split("|")[2].split(" of ")[0]) < int(strict.split("|")[2].split(" of ")[0])
