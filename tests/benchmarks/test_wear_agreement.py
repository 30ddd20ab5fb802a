from __future__ import annotations

import numpy as np
import pytest

from benchmarks.wear_agreement import agreement_table, bland_altman_svg, limits, paired, stored
from benchmarks.wear_on_references import area, grade_table

PAIRS = [("a", 1.0, 0.0), ("a", 3.0, 2.5), ("b", 2.0, 2.5), ("b", 4.0, 3.0)]


def test_limits_of_agreement_by_hand():
    bias, deviation, low, high = limits(np.array([1.0, 0.5, -0.5, 1.0]))
    assert bias == 0.5 and deviation == pytest.approx(np.sqrt(1.5 / 3))
    assert (low, high) == pytest.approx((0.5 - 1.96 * deviation, 0.5 + 1.96 * deviation))
    assert stored(PAIRS)["bias"] == 0.5 and stored(PAIRS)["n"] == 4
    assert "| slip_mm | 4 | 0.5 (" in agreement_table({"slip_mm": PAIRS})
    assert b"<svg" in bland_altman_svg("slip_mm", PAIRS)


def test_only_what_both_sides_measured_is_paired_and_no_signal_without_a_unit():
    predicted = {("a", 1): {"slip_mm": 1.0, "csf_signal": 5.0}, ("a", 2): {"slip_mm": 2.0}, ("b", 1): {"slip_mm": 3.0}}
    reference = {("a", 1): {"slip_mm": 0.0, "csf_signal": 5.0}, ("a", 2): {}, ("b", 1): {"slip_mm": 4.0}}
    assert paired(predicted, reference) == {"slip_mm": [("a", 1.0, 0.0), ("b", 3.0, 4.0)]}


def test_correlation_and_area_with_ties():
    values, found = np.array([1.0, 2, 2, 3]), np.array([False, False, True, True])
    assert area(values, found) == pytest.approx(3.5 / 4) and area(values, np.zeros(4, bool)) is None
    own = {("01", level): {"nucleus_over_csf": 1.0 / level} for level in (1, 2, 3, 4)}
    grades = {(1, level): {"Pfirrman grade": level, "Disc bulging": level > 2, "Spondylolisthesis": 0}
              for level in (1, 2, 3, 4)}  # fmt: skip
    assert "| nucleus_over_csf | 4 | -1.00 | -1.00 to -1.00 | 0.00 | - |" in grade_table(own, grades)
