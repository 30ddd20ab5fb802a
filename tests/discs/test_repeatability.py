from __future__ import annotations

import numpy as np
import pytest

from ivdjax.discs.repeatability import icc_agreement, repeatability_of, within_sd

SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
"""Table 2 of the paper: 6 targets, 4 judges. Its ICC(2,1) is 0.29."""


def test_within_sd_by_hand():
    # Variances 2 (of 1, 3) and 0 (of 5, 5): their mean is 1.
    assert within_sd([[1, 3], [5, 5]]) == (1.0, 2)


def test_a_missing_value_leaves_a_disc_its_other_scans():
    nan = np.nan
    # 1, 3 with one degree of freedom; 4, 5, 6 with two: (2 + 2) / 3. The disc of one scan tells nothing.
    assert within_sd([[1, nan, 3], [4, 5, 6], [9, nan, nan]]) == (pytest.approx(np.sqrt(4 / 3)), 2)


@pytest.mark.parametrize("values", [np.empty((0, 2)), [[1, np.nan]], [[1], [2]]])
def test_nothing_repeated_gives_nothing(values):
    assert within_sd(values) == (None, 0)
    assert repeatability_of(values, [1] * len(values)) is None


def test_the_example_of_shrout_and_fleiss():
    assert icc_agreement(SHROUT_FLEISS, [1] * 6) == pytest.approx(0.29, abs=0.005)


def test_a_disc_that_a_scan_lacks_leaves_the_others_their_icc():
    with_gap = [*SHROUT_FLEISS, [np.nan, *SHROUT_FLEISS[0][1:]]]
    assert icc_agreement(with_gap, [1] * 7) == pytest.approx(icc_agreement(SHROUT_FLEISS, [1] * 6))


def test_differences_between_levels_do_not_raise_the_icc():
    higher = np.array(SHROUT_FLEISS) + 100
    both = icc_agreement(np.concatenate([SHROUT_FLEISS, higher]), [1] * 6 + [2] * 6)
    assert both == pytest.approx(0.29, abs=0.05)
    assert icc_agreement(np.concatenate([SHROUT_FLEISS, higher]), [1] * 12) > 0.99


def test_equal_scans_agree_fully_and_a_shift_of_all_discs_counts():
    values = np.array([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
    assert icc_agreement(values, [1, 1, 1]) == pytest.approx(1)
    assert icc_agreement(np.add(values, [0, 1]), [1, 1, 1]) < 0.95


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([[1, 2]], [1]),
        ([[1, 2], [3, 5]], [1, 2]),  # one disc a level
        ([[1], [2]], [1, 1]),  # one scan
        ([[1, np.nan], [2, 3]], [1, 1]),
        ([[1, 1], [1, 1]], [1, 1]),  # nothing varies
    ],
)
def test_the_icc_is_not_defined(values, levels):
    assert icc_agreement(values, levels) is None


def test_the_smallest_detectable_change_holds_95_percent_of_pairs():
    rng = np.random.default_rng(5)
    values = rng.normal(0, 10, (4000, 1)) + rng.normal(0, 0.3, (4000, 2))
    repeated = repeatability_of(values, [1] * 4000)
    assert repeated is not None
    assert repeated.within_sd == pytest.approx(0.3, rel=0.05) and repeated.n == 4000
    share = np.mean(np.abs(values[:, 0] - values[:, 1]) > repeated.smallest_detectable_change)
    assert share == pytest.approx(0.05, abs=0.01)
    assert repeated.icc == pytest.approx(1 - 0.09 / 100.09, abs=1e-3)


@pytest.mark.parametrize(("values", "levels"), [([1.0, 2.0], [1, 1]), ([[1.0, 2.0]], [1, 2])])
def test_values_and_levels_must_fit(values, levels):
    with pytest.raises(ValueError, match="with a level a disc"):
        repeatability_of(values, levels)
