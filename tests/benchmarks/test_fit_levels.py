"""The fit's own sums against the solver's, and that it finds numbers that it did not begin with."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.fit_levels import _bound, _free, fit, log_sum
from benchmarks.level_cases import LevelCase, truths
from ivdjax.discs import anatomy as a
from ivdjax.discs import chain
from ivdjax.discs.candidates import blinded
from ivdjax.discs.chain import Factors
from ivdjax.discs.spine_model import observe, spine_factors
from tests.discs.test_levels import LINE, seen, typical


def cases(count, tilt_off=0.0):
    """Spines of seven discs and a speck; L5/S1 slopes otherwise than the table has it."""
    made = []
    for index in range(count):
        draw = np.random.default_rng(index)
        discs = [replace(c, tilt_deg=c.tilt_deg + draw.normal(0, 4)) for c in seen(range(1, 8))]
        discs[0] = replace(discs[0], tilt_deg=discs[0].tilt_deg + tilt_off)
        discs.insert(
            3, typical(3, volume_mm3=250.0, ap_width_mm=8.0, certainty=0.6, centroid_mm=np.array([0, -40, 80.0]))
        )
        allowed = np.zeros((8, len(a.LEVELS) + 1), bool)
        for place, level in enumerate((1, 2, 3, None, 4, 5, 6, 7)):
            allowed[place, -1 if level is None else level - a.LOWEST] = True
        made.append(
            LevelCase(
                str(index),
                str(index),
                "patient",
                tuple(discs),
                LINE,
                0.0,
                np.ones(len(discs)),
                allowed,
                tuple(range(1, 8)),
            )
        )
    return made


def test_sums_over_chains_are_those_of_the_solver():
    factors = spine_factors(observe(seen(range(0, 9)), LINE), a.NUMBERS)
    ours = Factors(*[jnp.asarray(value) for value in vars(factors).values()])
    with jax.numpy_rank_promotion("allow"):
        found = float(log_sum(ours))
    assert found == pytest.approx(chain.log_sum(factors), rel=1e-4)


def test_numbers_without_bounds_come_back():
    back = _bound({name: jnp.asarray(value) for name, value in _free(a.NUMBERS).items()})
    for name, value in a.NUMBERS.items():
        assert np.asarray(back[name]) == pytest.approx(value, rel=1e-4, abs=1e-6)


@pytest.mark.soak
def test_the_fit_goes_to_what_the_cases_show():
    """Spines whose L5/S1 slopes as an L4/5 does, so that the numbers that it begins with are in doubt."""
    shown = [replace(case, candidates=tuple(blinded(c) for c in case.candidates)) for case in cases(20, tilt_off=18.0)]
    numbers, report = fit(shown, a.NUMBERS, rounds=8)
    row = 1 - a.LOWEST
    assert numbers["tilt_deg"][row] > a.NUMBERS["tilt_deg"][row] + 0.2  # others move too
    assert abs(numbers["tilt_deg"][row + 3] - a.NUMBERS["tilt_deg"][row + 3]) < 1
    before, after = (report[when]["mean_log_probability"] for when in ("before", "after"))
    assert before < 3 * after < 0
    for name in ("vote_right", "shift_up", "lost", "sure_wrong", "side_sd_mm"):  # not fitted
        assert numbers[name] == pytest.approx(a.NUMBERS[name], rel=1e-3)


def test_what_is_true_of_a_candidate():
    truth = np.zeros((1, 30, 10), np.uint8)
    truth[:, 20:23], truth[:, 10:13] = 2, 3

    def candidate(first, last):
        voxels = np.argwhere(np.ones((1, last - first, 10), bool)) + np.array([0, first, 0])
        return typical(1, voxels=voxels)

    bottom, second, piece, third, top = rows = [candidate(*x) for x in ((26, 28), (20, 22), (22, 23), (9, 13), (2, 4))]
    allowed = truths(rows, truth, frozenset({3}))
    levels = [set(a.LEVELS[row[:-1]].tolist()) | ({None} if row[-1] else set()) for row in allowed]
    assert levels[0] == {None, -1, 0, 1} and levels[1] == {2} and levels[2] in ({None}, {None, -1, 0, 1})
    assert levels[3] == {3, None} and levels[4] == {None, *range(4, 16)}
    assert [len(c.voxels) for c in (bottom, second, piece, third, top)] == [20, 20, 10, 40, 20]
