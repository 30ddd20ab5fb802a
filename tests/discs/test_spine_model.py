"""Each factor of the model of a spine, one at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivdjax.discs import anatomy as a
from ivdjax.discs.spine_model import SHIFTS, Observations, observe, spine_factors
from ivdjax.discs.surroundings import Surroundings
from tests.discs.test_levels import LINE, typical, votes

FIRST = 1 - a.LOWEST
"""Column of L5/S1."""
SUMS = {"none": 0.6269428136, "own": 7.0706707382, "first": -165.4868544953, "last": 16.7640974460,
        "pair": -129.9852243033, "hidden": -2.6209907701}  # fmt: skip


def factors(candidates, **changes):
    numbers = {**a.NUMBERS, **{name: np.array(value, float) for name, value in changes.items()}}
    return spine_factors(observe(candidates, LINE), numbers)


def spine(levels=range(1, 8), **changes):
    """A typical spine whose lowest disc is changed."""
    first, *others = [typical(level) for level in levels]
    return [replace(first, **changes), *others]


def test_factors_are_arrays_of_things_levels_and_states():
    found = factors(spine())
    assert found.none.shape == (7,) and found.own.shape == found.first.shape == (7, len(a.LEVELS), 4)
    assert found.last.shape == (7, len(a.LEVELS)) and found.pair.shape == (7, 7, len(a.LEVELS), len(a.LEVELS))
    assert np.exp(found.hidden).sum(axis=1) == pytest.approx(1.0)
    assert np.exp(found.first).sum(axis=2).shape == (7, len(a.LEVELS))
    falls = np.tril(np.ones((len(a.LEVELS), len(a.LEVELS)), bool))
    assert np.isneginf(found.pair[0, 1][falls]).all() and np.isfinite(found.pair[0, 1][~falls]).all()


def drawn_numbers(rng):
    """Numbers of every kind, whatever was fitted."""
    between = {"real": (-1.0, 1.0), "positive": (2.0, 4.0), "share": (0.05, 0.3)}
    return {name: rng.uniform(*between[kind], np.shape(a.NUMBERS[name])) for name, (kind, _) in a.MEANING.items()}


def drawn_observations(rng):
    """Three candidates: one cut, one without votes, one of a network without higher discs; the marks partly unknown."""
    votes, landmarks, beyond = rng.dirichlet(np.ones(9), 3), rng.uniform(size=(3, 4)), rng.uniform(size=(3, 4))
    votes[1], votes[2, -1], landmarks[0, 1], landmarks[1], beyond[1, 1:], beyond[2, 2] = [np.nan] * 6
    one, (below, above) = (lambda: rng.normal(size=3)), rng.uniform(10, 150, (2, 3))
    distance = np.abs(np.subtract.outer(np.arange(3.0), np.arange(3))) * rng.uniform(4, 12)
    return Observations(one(), one(), one(), 3 * np.abs(one()), np.array([1.0, 0, 0]), rng.uniform(4, 20, 3), one(),
                        distance, rng.uniform(0.7, 1, 3), below / 5, above / 5, votes, landmarks, beyond,
                        np.full(3, 0.7))  # fmt: skip


def test_the_factors_of_what_was_drawn_are_these_numbers():
    """Each formula as a whole: sums of a factor, weighted by chance, as they were when the tests around this held."""
    rng = np.random.default_rng(8)
    found = spine_factors(drawn_observations(rng), drawn_numbers(rng))
    sums = {}
    for name in ("none", "own", "first", "last", "pair", "hidden"):
        factor = np.asarray(getattr(found, name))
        sums[name] = float((np.where(np.isfinite(factor), factor, 0.0) * rng.normal(size=factor.shape)).sum())
    assert sums == pytest.approx(SUMS, rel=1e-6)


def test_a_doubtful_candidate_is_likelier_clutter():
    sure, doubtful = (factors(spine(certainty=c)) for c in (0.9, 0.9 + float(a.NUMBERS["clutter_certainty"])))
    assert doubtful.none[0] > sure.none[0]
    assert doubtful.own[0, FIRST, 0] < sure.own[0, FIRST, 0]


@pytest.mark.parametrize(("level", "name"), [(0, "remnant_s1"), (-1, "remnant_s2")])
def test_a_remnant_has_its_own_prior(level, name):
    column = level - a.LOWEST
    once, twice = (factors(spine(), **{name: share}).first for share in (0.03, 0.06))
    assert twice[0, column] - once[0, column] == pytest.approx(np.log(2))
    assert twice[0, FIRST] == pytest.approx(once[0, FIRST])


def test_a_cut_disc_may_have_any_share_of_its_size():
    small = typical(1).volume_mm3 / 8
    whole, cut = (factors(spine(volume_mm3=small, cut=x)).own[0, FIRST, 0] for x in (False, True))
    assert cut > whole
    blurred, sharp = (factors(spine(volume_mm3=small, cut=True), cut_blur=x).own[0, FIRST, 0] for x in (3.0, 1.0))
    assert blurred > sharp == pytest.approx(whole)


@pytest.mark.parametrize(("level", "shift"), [(0, 1), (2, -1), (3, -1)])
def test_the_network_takes_an_odd_lowest_disc_for_l5_s1(level, shift):
    """Where L4/5 is the lowest, the network's levels are all one too low; where S1/S2 is, one too high."""
    state = factors(spine()).first[0, level - a.LOWEST]
    assert state[SHIFTS.index(shift)] > state[SHIFTS.index(-shift)] + 1
    usual = factors(spine()).first[0, FIRST]
    assert usual[0] == usual.max()


def given(share, classes=9):
    """Votes of a network for a spine from L5/S1 up: a share for each disc's own level, the rest for the one above."""
    discs = [typical(level) for level in range(1, 8)]
    found = np.zeros((7, 9))
    found[np.arange(7), np.arange(1, 8)], found[np.arange(7), np.arange(2, 9)] = share, 1 - share
    return [replace(disc, votes=row[:classes]) for disc, row in zip(discs, found, strict=True)]


def test_a_network_that_is_sure_of_its_levels_is_seldom_one_off():
    def gain(candidates):  # of being right over being one too low, at L5/S1
        state = factors(candidates).first[0, FIRST]
        return state[0] - state[SHIFTS.index(-1)]

    unknown = gain(given(0.9, classes=8))
    assert unknown == pytest.approx(gain(spine()))
    assert gain(given(0.9)) > unknown + 2
    assert unknown - 1 < gain(given(0.6)) < unknown
    clutter = replace(typical(9), votes=np.array([0.9, *[0.0125] * 8]))  # no disc to the network, so of no account
    assert observe([*given(0.9), clutter], LINE).sure[0] == pytest.approx(observe(given(0.9), LINE).sure[0])


def test_image_below_the_lowest_disc_speaks_for_its_level():
    """Where L4/5 is the lowest, it has more image below it by one step, about."""

    def better(below_mm):  # the second over the first level, all else alike
        found = factors(spine(below_mm=below_mm), missed=0.5, missed_first=0.5).first[0, :, 0]
        return found[FIRST + 1] - found[FIRST]

    usual = float(a.NUMBERS["below_mm"])
    assert better(usual + 25) > better(usual - 5)


def test_what_is_seen_one_step_below_the_lowest_speaks_against_l5_s1():
    def better(around):
        found = factors(spine(around=around)).first[0, :, 0]
        return found[FIRST + 1] - found[FIRST]

    nothing = better(Surroundings(1.0, 0.0, level_below=0.0, region_below=0.0))
    for seen in ({"faint_below": 0.9}, {"level_below": 0.9}, {"region_below": 1.0}):
        shown = {"in_view": 1.0, "faint_below": 0.0, "level_below": 0.0, "region_below": 0.0} | seen
        assert better(Surroundings(**shown)) > nothing
    out_of_view = Surroundings(0.0, 0.9, level_below=0.9, region_below=1.0)
    assert better(out_of_view) == pytest.approx(better(None))


def test_s1_below_and_l5_above_speak_for_l5_s1_in_the_state_that_the_network_is_in():
    around = Surroundings(1.0, 0.0, s1_below=0.9, s1_above=0.0, l5_above=0.9, l5_below=0.0)
    with_marks, without = (factors(spine(around=x, votes=votes(1))).own[0] for x in (around, None))
    gained = with_marks - without
    assert gained[FIRST, 0] == pytest.approx(gained.max()) and gained[FIRST, 0] > gained[FIRST + 1, 0] + 1
    assert gained[FIRST + 1, SHIFTS.index(-1)] == pytest.approx(gained[FIRST, 0])  # one too low all over


def test_votes_for_any_higher_disc_are_votes_for_the_eighth_and_up():
    higher = np.array([0.1, 0, 0, 0, 0, 0, 0, 0, 0.9])
    own = factors([*spine(), typical(8, votes=higher)]).own[7, :, 0] - factors([*spine(), typical(8)]).own[7, :, 0]
    eighth = 8 - a.LOWEST
    assert own[eighth:] == pytest.approx(own[eighth]) and own[eighth] > own[:eighth].max()


def test_networks_that_know_seven_discs_call_higher_ones_nothing_or_the_seventh():
    def gain(seen):
        plain, told = (factors([*spine(), typical(9, votes=x)]).own[7, :, 0] for x in (None, seen))
        return told - plain

    column = 9 - a.LOWEST
    assert gain(votes(0))[column] > gain(votes(7))[column] > gain(votes(3))[column]
    assert gain(votes(0))[column] > gain(votes(0))[FIRST]


def test_missed_discs_cost_only_where_they_would_be_in_view():
    below = [factors(spine(range(3, 8), below_mm=mm)).first[0, 3 - a.LOWEST, 0] for mm in (100.0, 10.0)]
    rare = [factors(spine(range(3, 8), below_mm=mm), missed=0.001, missed_first=0.001).first[0, 3 - a.LOWEST, 0]
            for mm in (100.0, 10.0)]  # fmt: skip
    assert rare[0] < below[0] - 3 and rare[1] == pytest.approx(below[1], abs=0.2)
    high = factors([typical(level) for level in range(1, 6)])
    ends = factors([*[typical(level) for level in range(1, 5)], typical(5, above_mm=5.0)])
    assert ends.last[4, 5 - a.LOWEST] > high.last[4, 5 - a.LOWEST] + 2


def test_numbers_have_a_meaning_each_and_are_few():
    assert a.NUMBERS.keys() == a.MEANING.keys()
    assert sum(np.asarray(value).size for value in a.NUMBERS.values()) < 110
    for name, (kind, _) in a.MEANING.items():
        values = np.asarray(a.NUMBERS[name])
        assert np.isfinite(values).all() and (kind == "real" or (values > 0).all()), name
        assert kind != "share" or (values < 1).all(), name


def test_numbers_of_another_kind_of_file_are_refused(tmp_path):
    path = tmp_path / "numbers.json"
    path.write_text('{"numbers": {"tilt_deg": [1]}}')
    with pytest.raises(ValueError, match=r"must hold the numbers of MEANING; they differ in .*\bstep_mm\b") as refused:
        a.read_numbers(path)
    assert "'tilt_deg'" not in str(refused.value)  # it is there
