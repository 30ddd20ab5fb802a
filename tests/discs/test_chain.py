from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from ivdjax.discs.chain import Factors, log_sum, most_right, state_probabilities

COUNT, STATES, HIDDEN = 4, 3, 2


def random_factors(seed):
    rng = np.random.default_rng(seed)
    pair = rng.normal(size=(COUNT, COUNT, STATES, STATES))
    pair[..., ~np.triu(np.ones((STATES, STATES), bool), 1)] = -np.inf  # states rise strictly
    return Factors(
        none=rng.normal(size=COUNT), own=rng.normal(size=(COUNT, STATES, HIDDEN)),
        first=rng.normal(size=(COUNT, STATES, HIDDEN)), last=rng.normal(size=(COUNT, STATES)), pair=pair,
        hidden=rng.normal(size=(HIDDEN, HIDDEN)),
    )  # fmt: skip


def enumerate_chains(factors):
    """Score of every chain: states (None: left out) and hidden states of those that are in."""
    for states in product([None, *range(STATES)], repeat=COUNT):
        kept = [index for index in range(COUNT) if states[index] is not None]
        for hidden in product(range(HIDDEN), repeat=len(kept)):
            score = sum(factors.none[index] for index in range(COUNT) if states[index] is None)
            for place, (index, h) in enumerate(zip(kept, hidden, strict=True)):
                score += factors.own[index, states[index], h]
                if place == 0:
                    score += factors.first[index, states[index], h]
                else:
                    below = kept[place - 1]
                    score += factors.pair[below, index, states[below], states[index]]
                    score += factors.hidden[hidden[place - 1], h]
            if kept:
                score += factors.last[kept[-1], states[kept[-1]]]
            yield states, score


@pytest.mark.parametrize("seed", range(5))
def test_probabilities_agree_with_looking_at_every_chain(seed):
    factors = random_factors(seed)
    chains = list(enumerate_chains(factors))
    weights = np.exp([score for _, score in chains])
    wanted = np.zeros((COUNT, STATES + 1))
    for (states, _), weight in zip(chains, weights / weights.sum(), strict=True):
        for index, state in enumerate(states):
            wanted[index, STATES if state is None else state] += weight
    assert state_probabilities(factors) == pytest.approx(wanted, abs=1e-12)


def test_all_are_left_out_where_that_is_likeliest():
    factors = random_factors(0)
    factors.own[:] = -50.0
    assert state_probabilities(factors)[:, -1] == pytest.approx(1.0)


def test_improbable_chains_do_not_underflow():
    factors = random_factors(1)
    factors.own[:] -= 5000.0
    factors.none[:] -= 5000.0
    assert state_probabilities(factors).sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(3))
def test_log_sum_is_that_of_every_chain(seed):
    factors = random_factors(seed)
    scores = [score for _, score in enumerate_chains(factors)]
    assert log_sum(factors) == pytest.approx(float(np.logaddexp.reduce(scores)))


@pytest.mark.parametrize("seed", range(20))
def test_the_answer_is_that_with_the_largest_sum_of_all_that_rise(seed):
    rng = np.random.default_rng(seed)
    gains, left_out = rng.random((COUNT, STATES)), rng.random(COUNT) * 0.6

    def total(states):
        return sum(left_out[i] if s is None else gains[i, s] for i, s in enumerate(states))

    rising = [
        states
        for states in product([None, *range(STATES)], repeat=COUNT)
        if (kept := [s for s in states if s is not None]) == sorted(set(kept))
    ]
    assert most_right(gains, left_out) == max(rising, key=total)


def test_a_level_of_many_chains_outweighs_the_likeliest_chain():
    """Chains: (1, 2) with 0.4; (0, 1) and (0, 2) with 0.3 each. The likeliest is right in its parts less often."""
    gains = np.array([[0.6, 0.4, 0.0], [0.0, 0.3, 0.7]])
    assert most_right(gains, np.zeros(2)) == (0, 2)


def test_what_gains_nothing_is_left_out():
    assert most_right(np.zeros((2, STATES)), np.zeros(2)) == (None, None)
    assert most_right(np.zeros((0, STATES)), np.zeros(0)) == ()
