"""A chain over things in a row, each in one state or left out, solved exactly: probabilities, and what to answer.

It is semi-Markov: a thing's state depends on the nearest one below it that is not left out, however many lie between. A
second, hidden state goes along with the chain and is summed out. With N things, L states and S hidden ones, the sums
take N^2 L^2 S^2 / 2 steps, a few million for a spine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Factors:
    """Log factors of a chain over N things from the bottom up, with L states and S hidden ones.

    Attributes:
        none: (N,), of leaving a thing out.
        own: (N, L, S), of a thing in that state.
        first: (N, L, S), of the lowest thing that is not left out.
        last: (N, L), of the highest one.
        pair: (N, N, L, L), of a thing in one state (first) and the next one up in another (second); -inf: cannot be.
        hidden: (S, S), of the hidden state from one such thing to the next.
    """

    none: Array
    own: Array
    first: Array
    last: Array
    pair: Array
    hidden: Array


def _reach(factors: Factors, low: int, high: int) -> Array:
    """Log factor (L, S, L, S) of going from one thing to another, those between being left out."""
    skipped = float(factors.none[low + 1 : high].sum())
    return skipped + factors.pair[low, high][:, None, :, None] + factors.hidden[None, :, None, :]


def state_probabilities(factors: Factors) -> Array:
    """Probability (N, L + 1) of each state of each thing and, last, of leaving it out, over all chains; rows sum to 1.

    Sums go forward and backward in logarithms, so that no probability is lost to underflow.
    """
    count, shape = len(factors.none), factors.own.shape[1:]
    below = np.concatenate([[0.0], np.cumsum(factors.none)])
    forward, backward = _forward(factors), np.empty((count, *shape))
    for low in reversed(range(count)):
        ways = [np.broadcast_to((below[-1] - below[low + 1] + factors.last[low])[:, None], shape)]
        ways += [logsumexp(_reach(factors, low, high) + (factors.own[high] + backward[high]), axis=(2, 3))
                 for high in range(low + 1, count)]  # fmt: skip
        backward[low] = logsumexp(ways, axis=0)
    levels = np.exp(logsumexp(forward + backward, axis=2) - _total(factors, forward))
    return np.concatenate([levels, np.maximum(0.0, 1 - levels.sum(axis=1, keepdims=True))], axis=1)


def log_sum(factors: Factors) -> float:
    """Log of the sum over all chains, that of no thing at all included: what the things are worth as a chain."""
    return _total(factors, _forward(factors))


def _forward(factors: Factors) -> Array:
    """Log sums (N, L, S) over all chains up to each thing in each state."""
    count, shape = len(factors.none), factors.own.shape[1:]
    below = np.concatenate([[0.0], np.cumsum(factors.none)])
    forward = np.empty((count, *shape))
    for high in range(count):
        ways = [below[high] + factors.first[high]]
        ways += [logsumexp(forward[low][:, :, None, None] + _reach(factors, low, high), axis=(0, 1))
                 for low in range(high)]  # fmt: skip
        forward[high] = factors.own[high] + logsumexp(ways, axis=0)
    return forward


def _total(factors: Factors, forward: Array) -> float:
    below = np.cumsum(factors.none)
    ends = forward + factors.last[:, :, None] + (below[-1] - below)[:, None, None]
    return float(np.logaddexp(logsumexp(ends), below[-1]))


def most_right(gains: Array, left_out: Array) -> tuple[int | None, ...]:
    """The states, rising strictly over the things, with the largest sum of gains; None: left out.

    With probabilities for gains it is the consistent answer of which the most is right on average. A chain that is the
    likeliest as a whole may be less likely right in each of its parts than another.

    Args:
        gains: (N, L), of each state of each thing, 0 or more.
        left_out: (N,), of leaving it out; it is taken where a state gains no more.
    """
    count, states = gains.shape
    best = np.zeros((count + 1, states + 1))  # of the lowest things, with states below this one
    for index in range(count):
        skipped = best[index] + left_out[index]
        taken = np.concatenate([[-np.inf], best[index, :-1] + gains[index]])
        best[index + 1] = np.maximum.accumulate(np.maximum(skipped, taken))
    answer: list[int | None] = [None] * count
    bound = states
    for index in reversed(range(count)):
        skipped = best[index] + left_out[index]
        # The lowest bound that reaches the best sum is one that a state was taken at, or nothing is.
        bound = int(np.argmax(best[index + 1, : bound + 1] >= best[index + 1, bound] - 1e-12))
        if bound and best[index + 1, bound] > skipped[bound] + 1e-12:
            answer[index] = bound - 1
            bound -= 1
    return tuple(answer)
