from __future__ import annotations

import pytest

from ivdjax.review.agreement import Reading, agreement, kappa


def test_kappa_by_hand():
    # 20 things: both yes 9, both no 6, yes and no 3, no and yes 2. Observed 0.75; expected 0.6 x 0.55 + 0.4 x 0.45.
    pairs = [("y", "y")] * 9 + [("n", "n")] * 6 + [("y", "n")] * 3 + [("n", "y")] * 2
    assert kappa(pairs) == pytest.approx((0.75 - 0.51) / (1 - 0.51))
    assert kappa([("a", "a"), ("b", "b")]) == 1.0
    assert kappa([("a", "b"), ("b", "a")]) == -1.0
    assert kappa([]) is None and kappa([("a", "a")] * 5) is None


def test_agreement_counts_cases_and_discs():
    ours = Reading("accepted", {1: 1, 2: 2, 3: 3})
    theirs = Reading("corrected", {1: None, 2: 2, 3: 3})
    found = agreement(("A", "B"), [(ours, theirs), (ours, ours)])
    assert (found.cases, found.verdicts_same, found.discs, found.levels_same) == (2, 1, 6, 5)
    assert found.verdicts == 0.0 and found.levels == pytest.approx((5 / 6 - 10 / 36) / (1 - 10 / 36))
