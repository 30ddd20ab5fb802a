"""Which level each candidate has: a chain up the spine, solved exactly.

The model is a semi-Markov chain over candidates from the bottom up (`spine_model`). Each is a disc of some level, from
a remnant of S2/3 (-1) upward, or no disc; levels rise strictly. Probabilities are sums over every chain (`chain`). The
answer is not the likeliest chain but the consistent numbering with the largest expected number of right levels: many
chains that agree on a level outweigh a single one that is likelier than each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ivdjax.discs import anatomy as a
from ivdjax.discs.candidates import Candidate
from ivdjax.discs.centre_line import CentreLine
from ivdjax.discs.chain import Array, Factors, log_sum, most_right, state_probabilities
from ivdjax.discs.spine_model import observe, spine_factors

_IMPOSSIBLE = -1e9
_FIRST = 1 - a.LOWEST
"""Column of L5/S1."""


@dataclass(frozen=True, eq=False)
class Chain:
    """The solved chain.

    Attributes:
        levels: of each candidate in the answer; None: no disc; 0 and below: a remnant in the sacrum.
        posterior: (N, L + 1), probability of each of `anatomy.LEVELS` and, last, of no disc; rows sum to 1.
    """

    levels: tuple[int | None, ...]
    posterior: Array

    def probability(self, index: int, level: int | None) -> float:
        """Probability that a candidate has a level, or is no disc (None); 0 for a level that the model does not know.

        It is what the model makes of all the evidence that it knows, and as good as the model: a case unlike those that
        it was fitted to, or networks that are wrong for one hidden cause, may still mislead it.
        """
        if level is not None and not a.LOWEST <= level <= a.TOP:
            return 0.0
        return float(self.posterior[index, -1 if level is None else level - a.LOWEST])


def solve_levels(
    candidates: Sequence[Candidate], line: CentreLine, pinned: tuple[int, int] | None = None
) -> Chain:  # fmt: skip
    """The levels of candidates that are right most often, and the probability of every level of each.

    Args:
        candidates: from the lowest centroid up; none gives an empty chain.
        line: the spine's centre line.
        pinned: index of a candidate and the level that it certainly has, or none.

    Raises:
        ValueError: the pinned level is not among `anatomy.LEVELS`.
    """
    if not candidates:
        return Chain((), np.zeros((0, len(a.LEVELS) + 1)))
    factors = spine_factors(observe(candidates, line), a.NUMBERS)
    if pinned is not None:
        factors = _pinned(factors, *pinned)
    posterior = state_probabilities(factors)
    return Chain(answer_of(posterior), posterior)


def log_evidence(candidates: Sequence[Candidate], line: CentreLine) -> float:
    """Log density of the candidates under the model of a spine, over every chain; for comparing ways to see them.

    Args:
        candidates: from the lowest centroid up, at least one.
        line: the spine's centre line.
    """
    return log_sum(spine_factors(observe(candidates, line), a.NUMBERS))


def answer_of(posterior: Array) -> tuple[int | None, ...]:
    """The levels with the largest expected number of right ones; remnants and no disc both count as left out."""
    outside = np.concatenate([posterior[:, :_FIRST], posterior[:, -1:]], axis=1)
    chosen = most_right(posterior[:, _FIRST:-1], outside.sum(axis=1))
    kinds: list[int | None] = [*(int(level) for level in a.LEVELS[:_FIRST]), None]
    return tuple(
        kinds[int(row.argmax())] if state is None else state + 1 for state, row in zip(chosen, outside, strict=True)
    )


def _pinned(factors: Factors, index: int, level: int) -> Factors:
    """The factors with all but one level of one candidate made impossible."""
    if not a.LOWEST <= level <= a.TOP:
        raise ValueError(f"levels {a.LOWEST} to {a.TOP} can be told apart, and {level} is none of them")
    none, own = factors.none.copy(), factors.own.copy()
    none[index] = own[index] = _IMPOSSIBLE
    own[index, level - a.LOWEST] = factors.own[index, level - a.LOWEST]
    return replace(factors, none=none, own=own)
