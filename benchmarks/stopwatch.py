"""Times of several programs that do the same work, taken in turns so that a busy machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Contestant:
    """One program of a race.

    Attributes:
        name: unique in its race.
        call: starts the work once; it may return before the work is done.
        wait: takes what `call` gave and returns when the work is done.
    """

    name: str
    call: Callable[[], Any]
    wait: Callable[[Any], object]


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one call, one figure a round.

    Attributes:
        rounds_ms: in the order of the rounds, so that those of two contestants can be compared round by round.
    """

    rounds_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The middle round."""
        return statistics.median(self.rounds_ms)

    @property
    def quartiles_ms(self) -> tuple[float, float]:
        """A quarter of the rounds lies below the first, a quarter above the second; both the one of a single round."""
        if len(self.rounds_ms) < 2:
            return self.rounds_ms[0], self.rounds_ms[0]
        first, _, last = statistics.quantiles(self.rounds_ms, n=4, method="inclusive")
        return first, last

    def ratio(self, other: Timing) -> float:
        """How many times longer `other` takes: the median of the ratios of each round."""
        return statistics.median(b / a for a, b in zip(self.rounds_ms, other.rounds_ms, strict=True))


def race(contestants: Sequence[Contestant], steps: int, rounds: int = 7) -> tuple[dict[str, Timing], dict[str, str]]:
    """The contestants' times, and what went wrong with those that could not run.

    Each is called twice to warm up: compiling, caches, tuning. Then, round by round, each is called as many times as
    make about `steps` in all, with one call before them that is not timed and wakes its threads; the order is turned
    round from one round to the next. Calls of one round are waited for together, as in training.

    Args:
        contestants: in any order.
        steps: timed calls of each, about.
        rounds: figures of each, at most `steps`.

    Raises:
        ValueError: fewer than one step or round.
    """
    if steps < 1 or rounds < 1:
        raise ValueError(f"a race needs at least 1 step and 1 round, not {steps} and {rounds}")
    rounds = min(rounds, steps)
    calls = -(-steps // rounds)
    running, broken = [], {}
    for one in contestants:
        try:
            for _ in range(2):
                one.wait(one.call())
            running.append(one)
        except RuntimeError as error:  # no memory, no compiler: the others still have their times
            broken[one.name] = f"{type(error).__name__}: {(str(error).strip() or 'no reason given').splitlines()[0]}"
    times_ms: dict[str, list[float]] = {one.name: [] for one in running}
    for number in range(rounds):
        for one in running[:: -1 if number % 2 else 1]:
            one.wait(one.call())
            times_ms[one.name].append(_seconds(one, calls) * 1000 / calls)
    return {name: Timing(tuple(values)) for name, values in times_ms.items()}, broken


def _seconds(one: Contestant, calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        given = one.call()
    one.wait(given)
    return time.perf_counter() - begin
