from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivdjax.discs import anatomy as a
from ivdjax.discs.candidates import Candidate
from ivdjax.discs.centre_line import fit_centre_line
from ivdjax.discs.levels import solve_levels

LINE = fit_centre_line(np.array([[0.0, 0.0, 0.0]]))


def votes(level, share=0.8):
    result = np.full(8, (1 - share) / 7)
    result[level if 1 <= level <= 7 else 0] = share
    return result


def typical(level, **changes):
    """The disc of a level as the table has it, 70 mm of image below L5/S1."""
    row, z = level - a.LOWEST, a.HEIGHT_MM[level - a.LOWEST] - a.HEIGHT_MM[1 - a.LOWEST]
    plain = Candidate(
        voxels=np.zeros((1, 3), np.intp), centroid_mm=np.array([0.0, 0.0, z]),
        volume_mm3=8000 * float(np.exp(a.LOG_VOLUME[row])), ap_width_mm=36 * float(np.exp(a.LOG_WIDTH[row])),
        tilt_deg=float(a.TILT_DEG[row]), below_mm=60.0 + z, above_mm=250.0 - z, cut=False, certainty=0.9, votes=None,
    )  # fmt: skip
    return replace(plain, **changes)


def seen(levels, shift=0):
    return [typical(level, votes=votes(level + shift)) for level in levels]


def test_table_rises_and_is_whole():
    assert len(a.LEVELS) == len(a.TILT_DEG) == a.TOP - a.LOWEST + 1
    assert (np.diff(a.HEIGHT_MM) > 15).all() and np.isfinite(a.HEIGHT_MM).all()
    assert 30 < a.HEIGHT_MM[2 - a.LOWEST] - a.HEIGHT_MM[1 - a.LOWEST] < 40


@pytest.mark.parametrize("levels", [range(1, 8), range(1, 10), range(0, 9), (1, 2, 3, 5, 6, 7), (2, 3, 4, 5, 6, 7)])
def test_typical_spines_with_votes_are_right_and_sure(levels):
    chain = solve_levels(seen(levels), LINE)
    assert chain.levels == tuple(levels)
    for index, level in enumerate(levels):
        assert chain.probability(index, level) > 0.95
    assert chain.posterior.sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("levels", [range(1, 8), range(0, 9), (1, 2, 3, 5, 6, 7)])
def test_typical_spines_without_votes_are_right(levels):
    assert solve_levels([typical(level) for level in levels], LINE).levels == tuple(levels)


def test_whole_shift_of_the_votes_is_a_hypothesis_and_not_seven_witnesses():
    chain = solve_levels(seen(range(1, 8), shift=1), LINE)
    assert chain.levels == tuple(range(1, 8))
    assert chain.probability(0, 1) < solve_levels(seen(range(1, 8)), LINE).probability(0, 1)


def test_votes_settle_what_geometry_leaves_open():
    # Slopes of one level higher, in a spine of discs of one size.
    slopes = a.TILT_DEG[2 - a.LOWEST : 9 - a.LOWEST]
    discs = [typical(level, tilt_deg=float(slope), ap_width_mm=34.0, volume_mm3=8000.0)
             for level, slope in enumerate(slopes, start=1)]  # fmt: skip
    open_question = solve_levels(discs, LINE).probability(0, 1)
    agreed = [replace(c, votes=votes(level)) for level, c in enumerate(discs, start=1)]
    assert open_question + 0.01 < solve_levels(agreed, LINE).probability(0, 1)


def test_votes_that_mean_nothing_do_no_harm():
    noise = [replace(typical(level), votes=np.full(8, 1 / 8)) for level in range(1, 8)]
    assert solve_levels(noise, LINE).levels == tuple(range(1, 8))


def test_little_room_below_speaks_for_l5_s1():
    def lowest_is_l5_s1(below_mm):
        discs = [typical(level, tilt_deg=-20.0 if level == 1 else 0.0) for level in range(1, 6)]
        return solve_levels([replace(d, below_mm=d.below_mm - 60 + below_mm) for d in discs], LINE).probability(0, 1)

    assert lowest_is_l5_s1(60.0) > lowest_is_l5_s1(15.0)


@pytest.mark.parametrize(
    "stray",
    [
        {"centroid_mm": np.array([35.0, 0.0, 53.0])},
        {"centroid_mm": np.array([0.0, -38.0, 53.0]), "tilt_deg": 70.0},
        {"centroid_mm": np.array([0.0, 0.0, 53.0]), "volume_mm3": 300.0, "ap_width_mm": 9.0, "certainty": 0.6},
    ],
)
def test_strays_are_no_disc(stray):
    discs = [typical(level) for level in range(1, 8)]
    discs.insert(2, typical(2, votes=None, **stray))
    chain = solve_levels(discs, LINE)
    assert chain.levels == (1, 2, None, 3, 4, 5, 6, 7) and chain.probability(2, None) > 0.9


def test_one_odd_step_or_slope_breaks_nothing():
    discs = [typical(level) for level in range(1, 8)]
    discs[3] = replace(discs[3], tilt_deg=40.0)
    discs[5] = replace(discs[5], centroid_mm=discs[5].centroid_mm + np.array([0, 0, 9.0]))
    assert solve_levels(discs, LINE).levels == tuple(range(1, 8))


def test_pinned_level_is_certain_and_the_others_follow():
    chain = solve_levels([typical(level) for level in range(1, 7)], LINE, pinned=(2, 4))
    assert chain.levels == (2, 3, 4, 5, 6, 7) and chain.probability(2, 4) == pytest.approx(1.0)


def test_pinned_stray_is_a_disc():
    discs = [typical(1), typical(2, centroid_mm=np.array([60.0, 0.0, 35.0])), typical(3)]
    assert solve_levels(discs, LINE, pinned=(1, 2)).levels[1] == 2


def test_levels_out_of_range_cannot_be_pinned():
    with pytest.raises(ValueError, match="-1 to 15 can be told apart, and 16"):
        solve_levels([typical(1)], LINE, pinned=(0, 16))


def test_levels_that_the_model_does_not_know_have_no_probability():
    chain = solve_levels([typical(1)], LINE)
    assert chain.probability(0, 16) == chain.probability(0, -2) == 0.0


def test_no_candidate_gives_an_empty_chain():
    chain = solve_levels([], LINE)
    assert chain.levels == () and chain.posterior.shape == (0, len(a.LEVELS) + 1)
