"""One probability decides the verdict; signs that decide nothing are remarks."""

from __future__ import annotations

import numpy as np
import pytest

from ivdjax.discs.signs import SIGNS, Sign
from ivdjax.discs.verdict import Judgement, judged, judgement_of

PLAIN = Judgement(1.0, 0.0, -2.0, {"a": 3.0, "b": 1.0, "c": 0.0})


def odds(share):
    return np.log(share / (1 - share))


def test_log_odds_are_the_weighted_sum_of_the_signs():
    found = judged({"a": Sign(0.5), "b": Sign(1.0), "c": Sign(9.0), "unknown": Sign(9.0)}, PLAIN, 0.9)
    assert odds(found.probability_wrong) == pytest.approx(-2.0 + 1.5 + 1.0)
    assert judged({}, PLAIN, 0.9).probability_wrong == pytest.approx(1 / (1 + np.exp(2.0)))


def test_a_case_goes_to_review_above_the_threshold_alone():
    signs = {"a": Sign(0.5, "A"), "b": Sign(0.5, "B")}
    wrong = judged(signs, PLAIN, 0.5).probability_wrong
    assert judged(signs, PLAIN, wrong - 0.01).kind == "review"
    below = judged(signs, PLAIN, wrong + 0.01)
    assert (below.kind, below.reasons, below.remarks) == ("ok", (), ("A", "B"))


def test_the_decisive_reason_comes_first_and_what_weighs_nothing_is_a_remark():
    found = judged({"c": Sign(1.0, "C"), "b": Sign(1.0, "B"), "a": Sign(1.0, "A"), "d": Sign(0.0, "")}, PLAIN, 0.1)
    assert found.reasons == ("A", "B") and found.remarks == ("C",)


def test_a_contradiction_is_for_review_whatever_the_weights():
    found = judged({"a": Sign(0.4, "A"), "d": Sign(1.0, "D", least=0.9)}, PLAIN, 0.5)
    assert found.probability_wrong == 0.9 and found.kind == "review" and found.reasons[0] == "D"


def test_no_case_is_surer_than_the_least_sure_of_its_levels_where_confidence_is_calibrated():
    calibrated = Judgement(0.5, 0.0, -4.0, {"a": 1.0})
    signs = {"a": Sign(0.0, "A"), "uncertain": Sign(0.1, "L5/S1 may be L4/5", certainty=0.9)}
    found = judged(signs, calibrated, 0.1)
    assert found.probability_wrong == pytest.approx(1 - calibrated.confidence(0.9)) == pytest.approx(0.25)
    assert found.kind == "review" and found.reasons == ("L5/S1 may be L4/5",)
    assert judged(signs, PLAIN, 0.5).probability_wrong < 0.2, "a plain confidence asks for nothing"


def test_many_small_signs_have_a_reason_too():
    found = judged({"b": Sign(0.1), "a": Sign(0.05, "A")}, PLAIN, 0.1)
    assert found.kind == "review" and found.reasons == (
        "Taken together, the evidence leaves a chance of 15 % that something is wrong",
    )


def test_confidence_is_calibrated_in_order():
    judgement = Judgement(0.5, -0.2, 0.0, {})
    shares = [judgement.confidence(p) for p in (0.0, 0.1, 0.5, 0.9, 0.999, 1.0)]
    assert shares == sorted(shares) and (shares[0], shares[-1]) == (0.0, 1.0)
    assert odds(shares[3]) == pytest.approx(0.5 * odds(0.9) - 0.2)


def test_a_model_without_calibration_has_the_programs_own_verdict_and_plain_confidence():
    own = judgement_of(None)
    assert (own.slope, own.offset) == (1.0, 0.0) and own.confidence(0.73) == pytest.approx(0.73)
    assert own.weights["uncertain"] > 0 and own.weights.keys() <= {*SIGNS, "outline"}
    facts = {"confidence": {"slope": 0.8, "offset": 0.1}, "bias": -3, "weights": {"gaps": 2}}
    assert judgement_of(facts) == Judgement(0.8, 0.1, -3.0, {"gaps": 2.0})


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "must hold confidence, bias and weights"),
        ({"confidence": {"slope": 1, "offset": 0}, "bias": "?", "weights": {}}, "must hold"),
        ({"confidence": {"slope": 0, "offset": 0}, "bias": 0, "weights": {}}, "slope above 0"),
        ({"confidence": {"slope": 1, "offset": 0}, "bias": float("nan"), "weights": {}}, "must be finite"),
        ({"confidence": {"slope": 1, "offset": 0}, "bias": 0, "weights": {"gaps": -1}}, "no weight below 0"),
    ],
)
def test_descriptions_that_are_no_judgement_are_refused(facts, words):
    with pytest.raises(ValueError, match=words):
        judgement_of(facts)
