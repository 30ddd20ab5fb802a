"""A cohort of cases in a worker process, under a supervisor that can kill it and start another.

Nothing inside one process can interrupt compiled code, and a process that runs out of memory takes everything with it.
So the cases are worked on in a second process; this one hands them out, keeps the time and survives.

Up to `IN_FLIGHT` cases are under way in the worker: one is read, one computed, one written. When it comes to a bad end
nobody can tell which of them did it. Then they are worked on again, one at a time: **a case fails by a death of its
worker, a lack of memory or its time alone if no other was at work beside it**.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ivdjax.inference.worker import Cost, Message, Pipeline
from ivdjax.inference.worker_process import WorkerProcess
from ivdjax.volume import UserError

START_LIMIT_S = 900.0
"""How long a worker may take to start and build its steps."""

MAX_FAILED_STARTS = 2
"""After so many in a row no further worker is tried."""

IN_FLIGHT = 3
"""Cases that a worker holds at most, one for each step."""


@dataclass(frozen=True)
class CaseTask:
    """One case to work on: its name, and what the worker's first step is called with (anything that pickles)."""

    case: str
    payload: Any


@dataclass(frozen=True)
class Result:
    """What became of one task.

    Attributes:
        case: its name.
        status: "done" with a payload, or "failed" with a reason.
        payload: what the worker's last step gave.
        reason: why there is none.
        seconds: that its own steps took together, waiting between them left out.
        costs: of each step that was done; of a worker's first result also of its "start".
    """

    case: str
    status: str
    payload: Any = None
    reason: str = ""
    seconds: float = 0.0
    costs: dict[str, Cost] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether the case came to nothing."""
        return self.status != "done"


def run_cohort(
    tasks: Sequence[CaseTask], pipeline: Pipeline, timeout_s: float | None = None, log: Path | None = None
) -> Iterator[Result]:
    """Works on the tasks in a worker process, and yields each one's result as soon as it is there.

    Cases are begun in order and handed on in order from step to step; results may come out of order where a case fails
    early, or is worked on again. A case fails alone:

    - its own steps take longer than `timeout_s` together. Neither the worker's start counts nor the time in which the
      case waits for another to leave a step. If other steps run at that moment, which may have slowed it down, it gets
      the whole time again, alone;
    - its worker dies, by a signal or for lack of memory, or memory runs out without that;
    - a step raises: CaseError and UserError give their message, anything else its type and message.

    Where several cases were under way, each is worked on again alone to find out which one it was; if all of them come
    through, together they were too much, and the rest is worked on one at a time.

    A worker that died, or was killed for a case's time, is replaced. A further worker that does not become ready costs
    the next case, with the start's reason; once `MAX_FAILED_STARTS` in a row did not, the remaining cases fail at once.
    Tracebacks and whatever the worker prints go to `log` (appended; without a log: to stderr). When the generator ends
    or is closed, or this process ends, the worker ends as well.

    Raises:
        UserError: the first worker did not become ready; nothing came of any case.
    """
    process = WorkerProcess(pipeline, log)
    cohort = _Cohort(tasks, process, timeout_s)
    try:
        while cohort.is_open():
            yield from cohort.step()
    finally:
        process.stop()


@dataclass
class _Flight:
    """A case in the worker: whether it has begun, whether another's step has run beside its last one, the seconds of
    its finished steps, the begin of the one that runs."""

    begun: bool = False
    accompanied: bool = False
    spent_s: float = 0.0
    since: float | None = None


class _Cohort:
    """Which case is where. Cases are known by their number in `tasks`."""

    def __init__(self, tasks: Sequence[CaseTask], process: WorkerProcess, timeout_s: float | None) -> None:
        self._tasks, self._process, self._timeout_s = tasks, process, timeout_s
        self._waiting = deque(range(len(tasks)))
        self._to_run_alone: deque[int] = deque()  # the first one stays until it is answered
        self._flights: dict[int, _Flight] = {}
        self._in_flight = IN_FLIGHT
        self._one_to_blame = False  # whether one of those ended its worker by itself
        self._failed_starts = 0
        self._once_ready = False
        self._begin_worker()

    def is_open(self) -> bool:
        """Whether a case is without a result."""
        return bool(self._waiting or self._to_run_alone or self._flights)

    def step(self) -> Iterator[Result]:
        """Waits for the next event, and gives the results that come of it."""
        if not self._process.at_work:
            self._begin_worker()
            self._process.start()
        self._hand_out()
        message = self._process.hear(self._patience_s(), "worked on this case" if self._ready else "was starting")
        if message is None:
            yield from self._late()
        elif message.kind == "gone":
            yield from self._gone(message.reason)
        elif message.kind == "refused":
            yield from self._refused(message.reason)
        else:
            yield from self._told(message)

    def _begin_worker(self) -> None:
        self._ready = self._asked = self._productive = False
        self._start: dict[str, Cost] = {}
        self._started = time.monotonic()

    def _hand_out(self) -> None:
        """Gives the worker a task if it asked for one and may have it. One to be run alone waits for the rest."""
        if not self._asked or len(self._flights) >= (1 if self._to_run_alone else self._in_flight):
            return
        if self._to_run_alone:
            if not self._ready:
                return
            number = self._to_run_alone[0]
        elif self._waiting:
            number = self._waiting.popleft()
        else:
            return
        self._asked = False
        self._flights[number] = _Flight()
        task = self._tasks[number]
        self._process.tell(number, task.case, task.payload)

    def _told(self, message: Message) -> Iterator[Result]:
        if message.kind == "next":
            self._asked = True
        elif message.kind == "ready":
            self._ready = self._once_ready = True
            self._failed_starts = 0
            cost = message.costs["start"]
            self._start = {"start": Cost(message.at - self._started, cost.cpu_s, cost.peak_mib)}
        elif message.kind == "begin":
            flight = self._flights[message.number]
            beside = [other for other in self._flights.values() if other.since is not None]
            for other in beside:
                other.accompanied = True
            flight.begun, flight.accompanied, flight.since = True, bool(beside), message.at
        elif message.kind == "end":
            flight = self._flights[message.number]
            if flight.since is not None:
                flight.spent_s += message.at - flight.since
            flight.since = None
        else:
            yield from self._answered(message)

    def _answered(self, message: Message) -> Iterator[Result]:
        number, costs = message.number, message.costs
        self._productive = True
        flight = self._flights.pop(number)
        if message.kind == "starved" and flight.accompanied:
            self._run_again_alone([number])
            return
        self._strike_off(number, to_blame=message.kind == "starved")
        seconds = sum(cost.wall_s for cost in costs.values())
        costs, self._start = self._start | costs, {}
        status = "done" if message.kind == "done" else "failed"
        yield Result(self._tasks[number].case, status, message.payload, message.reason, seconds, costs)

    def _late(self) -> Iterator[Result]:
        """Time is over: of the start, or of a case."""
        self._process.stop()
        late = min(self._deadlines(), key=self._deadlines().__getitem__)
        running = [number for number, flight in self._flights.items() if flight.since is not None]
        if late is None:
            yield from self._gone(
                f"the worker process was not ready after {START_LIMIT_S:g} s; is the model's disk or the machine stuck?"
            )
        elif not self._ready or len(running) > 1:
            self._run_again_alone(self._recalled())
        else:
            assert self._timeout_s is not None
            yield self._failed_with_worker(late, late_words(self._timeout_s))

    def _gone(self, reason: str) -> Iterator[Result]:
        """The worker has ended."""
        begun = [number for number, flight in self._flights.items() if flight.begun]
        if begun and self._ready and len(self._flights) == 1:
            yield self._failed_with_worker(begun[0], reason)
        elif begun:
            self._run_again_alone(self._recalled())
        elif not self._productive:
            yield from self._refused(reason)
        else:  # it died idle, after its last answer
            self._wait_again(self._recalled())

    def _refused(self, reason: str) -> Iterator[Result]:
        """A start has failed: that costs a case, or all that are left."""
        self._process.stop()
        self._wait_again(self._recalled())
        if not self._once_ready:
            raise UserError(reason)
        self._failed_starts += 1
        left = [*self._to_run_alone, *self._waiting]
        for number in left if self._failed_starts == MAX_FAILED_STARTS else left[:1]:
            (self._to_run_alone or self._waiting).popleft()
            yield Result(self._tasks[number].case, "failed", reason=reason)

    def _failed_with_worker(self, number: int, reason: str) -> Result:
        """A case has failed together with its worker; the others in flight were idle."""
        flight = self._flights.pop(number)
        seconds = flight.spent_s + (time.monotonic() - flight.since if flight.since is not None else 0.0)
        self._wait_again(self._recalled())
        self._strike_off(number, to_blame=True)
        return Result(self._tasks[number].case, "failed", reason=reason, seconds=seconds)

    def _recalled(self) -> list[int]:
        """The cases in flight, which are so no longer."""
        numbers = sorted(self._flights)
        self._flights.clear()
        return numbers

    def _wait_again(self, numbers: list[int]) -> None:
        self._waiting.extendleft(number for number in reversed(numbers) if number not in self._to_run_alone)

    def _run_again_alone(self, numbers: list[int]) -> None:
        if not self._to_run_alone:
            self._one_to_blame = False
        self._to_run_alone.extend(number for number in numbers if number not in self._to_run_alone)

    def _strike_off(self, number: int, to_blame: bool) -> None:
        """Takes a case that has its result off those to be run alone.

        If none of them did it by itself, together they were too much, and from here on there is one case at a time.
        """
        if number not in self._to_run_alone:
            return
        self._to_run_alone.remove(number)
        self._one_to_blame |= to_blame
        if not self._to_run_alone and not self._one_to_blame:
            self._in_flight = 1

    def _deadlines(self) -> dict[int | None, float]:
        """When patience ends with the cases that run, by number, and under None with a start."""
        deadlines: dict[int | None, float] = {} if self._ready else {None: self._started + START_LIMIT_S}
        if self._timeout_s is not None:
            for number, flight in self._flights.items():
                if flight.since is not None:
                    deadlines[number] = flight.since + self._timeout_s - flight.spent_s
        return deadlines

    def _patience_s(self) -> float | None:
        end = min(self._deadlines().values(), default=None)
        return None if end is None else max(0.0, end - time.monotonic())


def late_words(timeout_s: float) -> str:
    """Why a case was given up whose time was over."""
    return (f"took longer than the {timeout_s:g} s of --timeout and was stopped; allow more, or look at the case's "
            "size")  # fmt: skip
