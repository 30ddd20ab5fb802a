"""A cohort of cases in a worker process, under a supervisor that can kill it and start another.

Nothing inside one process can interrupt compiled code, and a process that runs out of memory takes everything with it.
So the cases are worked on in a second process; this one hands them out, keeps the time and survives.

Up to `IN_FLIGHT` cases are under way in the worker: one is read, one computed, one written. When it comes to a bad end
nobody can tell which of them did it. Then they are worked on again, one at a time: **a case fails by a death of its
worker, a lack of memory or its time alone if no other was at work beside it**.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from ivdjax.inference import worker
from ivdjax.inference.worker import Cost, Message, Pipeline
from ivdjax.volume import UserError

START_LIMIT_S = 900.0
"""How long a worker may take to start and build its steps."""

MAX_FAILED_STARTS = 2
"""After so many in a row no further worker is tried."""

IN_FLIGHT = 3
"""Cases that a worker holds at most, one for each step."""


@dataclass(frozen=True)
class Task:
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
    tasks: Sequence[Task], pipeline: Pipeline, timeout_s: float | None = None, log: Path | None = None
) -> Iterator[Result]:
    """Works on the tasks in a worker process, and yields each one's result as soon as it is there.

    Cases are begun in order and handed on in order from step to step; results may come out of order where a case fails
    early, or is worked on again. A case fails alone:

    - its own steps take longer than `timeout_s` together. Neither the worker's start counts nor the time in which the
      case waits for another to leave a step. If other steps run at that moment, which may have slowed it down, it gets
      the whole time again, alone;
    - its worker dies, by a signal or for lack of memory, or memory runs out without that;
    - a step raises: CaseError and UserError give their message, anything else its type and message.

    Where several cases were under way, each is worked on again alone to find the guilty one; if all of them come
    through, together they were too much, and the rest is worked on one at a time.

    A worker that died, or was killed for a case's time, is replaced. A further worker that does not become ready costs
    the next case, with the start's reason; once `MAX_FAILED_STARTS` in a row did not, the remaining cases fail at once.
    Tracebacks and whatever the worker prints go to `log` (appended; without a log: to stderr). When the generator ends
    or is closed, or this process ends, the worker ends as well.

    Raises:
        UserError: the first worker did not become ready; nothing came of any case.
    """
    crew = _Crew(pipeline, log)
    cohort = _Cohort(tasks, crew, timeout_s)
    try:
        while cohort.is_open():
            yield from cohort.step()
    finally:
        crew.stop()


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

    def __init__(self, tasks: Sequence[Task], crew: _Crew, timeout_s: float | None) -> None:
        self._tasks, self._crew, self._timeout_s = tasks, crew, timeout_s
        self._waiting = deque(range(len(tasks)))
        self._suspects: deque[int] = deque()  # to be worked on alone; the first one stays until it is answered
        self._flights: dict[int, _Flight] = {}
        self._in_flight = IN_FLIGHT
        self._guilty = False  # whether one of the suspects has been found guilty
        self._failed_starts = 0
        self._once_ready = False
        self._begin_worker()

    def is_open(self) -> bool:
        """Whether a case is without a result."""
        return bool(self._waiting or self._suspects or self._flights)

    def step(self) -> Iterator[Result]:
        """Waits for the next event, and gives the results that come of it."""
        if not self._crew.at_work:
            self._begin_worker()
            self._crew.start()
        self._hand_out()
        message = self._crew.hear(self._patience_s(), "worked on this case" if self._ready else "was starting")
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
        """Gives the worker a task if it asked for one and may have it. A suspect waits until nothing else runs."""
        if not self._asked or len(self._flights) >= (1 if self._suspects else self._in_flight):
            return
        if self._suspects:
            if not self._ready:
                return
            number = self._suspects[0]
        elif self._waiting:
            number = self._waiting.popleft()
        else:
            return
        self._asked = False
        self._flights[number] = _Flight()
        self._crew.tell(number, self._tasks[number])

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
            self._suspect([number])
            return
        self._acquit(number, guilty=message.kind == "starved")
        seconds = sum(cost.wall_s for cost in costs.values())
        costs, self._start = self._start | costs, {}
        status = "done" if message.kind == "done" else "failed"
        yield Result(self._tasks[number].case, status, message.payload, message.reason, seconds, costs)

    def _late(self) -> Iterator[Result]:
        """Time is over: of the start, or of a case."""
        self._crew.stop()
        late = min(self._deadlines(), key=self._deadlines().__getitem__)
        running = [number for number, flight in self._flights.items() if flight.since is not None]
        if late is None:
            yield from self._gone(
                f"the worker process was not ready after {START_LIMIT_S:g} s; is the model's disk or the machine stuck?"
            )
        elif not self._ready or len(running) > 1:
            self._suspect(self._recalled())
        else:
            assert self._timeout_s is not None
            yield self._convicted(late, late_words(self._timeout_s))

    def _gone(self, reason: str) -> Iterator[Result]:
        """The worker has ended."""
        begun = [number for number, flight in self._flights.items() if flight.begun]
        if begun and self._ready and len(self._flights) == 1:
            yield self._convicted(begun[0], reason)
        elif begun:
            self._suspect(self._recalled())
        elif not self._productive:
            yield from self._refused(reason)
        else:  # it died idle, after its last answer
            self._wait_again(self._recalled())

    def _refused(self, reason: str) -> Iterator[Result]:
        """A start has failed: that costs a case, or all that are left."""
        self._crew.stop()
        self._wait_again(self._recalled())
        if not self._once_ready:
            raise UserError(reason)
        self._failed_starts += 1
        left = [*self._suspects, *self._waiting]
        for number in left if self._failed_starts == MAX_FAILED_STARTS else left[:1]:
            (self._suspects or self._waiting).popleft()
            yield Result(self._tasks[number].case, "failed", reason=reason)

    def _convicted(self, number: int, reason: str) -> Result:
        """A case has failed together with its worker; the others in flight were idle."""
        flight = self._flights.pop(number)
        seconds = flight.spent_s + (time.monotonic() - flight.since if flight.since is not None else 0.0)
        self._wait_again(self._recalled())
        self._acquit(number, guilty=True)
        return Result(self._tasks[number].case, "failed", reason=reason, seconds=seconds)

    def _recalled(self) -> list[int]:
        """The cases in flight, which are so no longer."""
        numbers = sorted(self._flights)
        self._flights.clear()
        return numbers

    def _wait_again(self, numbers: list[int]) -> None:
        self._waiting.extendleft(number for number in reversed(numbers) if number not in self._suspects)

    def _suspect(self, numbers: list[int]) -> None:
        if not self._suspects:
            self._guilty = False
        self._suspects.extend(number for number in numbers if number not in self._suspects)

    def _acquit(self, number: int, guilty: bool) -> None:
        """Strikes a case that has its result off the suspects; if the last one goes without guilt, overlap is over."""
        if number not in self._suspects:
            return
        self._suspects.remove(number)
        self._guilty |= guilty
        if not self._suspects and not self._guilty:
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


class _Crew:
    """At most one living worker, and the line to it."""

    def __init__(self, pipeline: Pipeline, log: Path | None) -> None:
        self._pipeline, self._log = pipeline, log
        self._process: BaseProcess | None = None
        self._line: Connection | None = None
        self._mouth: _Mouth | None = None

    @property
    def at_work(self) -> bool:
        """Whether there is a worker, be it one whose end has not been noticed."""
        return self._process is not None

    def start(self) -> None:
        """Starts a worker; it says itself when it is ready."""
        context = multiprocessing.get_context("spawn")
        self._line, far_end = context.Pipe()
        self._process = context.Process(
            target=worker.begin, args=(far_end, self._log), name="ivdjax worker", daemon=True
        )
        # All that is large goes over the line: what `start` itself writes would wait for ever for a worker that died.
        # Ctrl-C reaches every process of the terminal; a worker born with SIGINT blocked leaves the answer to us. The
        # tracker that Python starts beside the first worker unblocks SIGINT again, so it must be there before.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            far_end.close()
        self._mouth = _Mouth(self._line)
        self._mouth.say(self._pipeline)

    def tell(self, number: int, task: Task) -> None:
        """Sends a task; a worker that is gone is noticed on listening."""
        assert self._mouth is not None
        self._mouth.say((number, task.case, task.payload))

    def hear(self, limit_s: float | None, doing: str) -> Message | None:
        """The worker's next message, "gone" if it ended while it did that, or None if nothing came in time."""
        assert self._line is not None and self._process is not None
        if not wait([self._line, self._process.sentinel], limit_s):
            return None
        # The line is looked at first: an answer may have been sent just before the worker's end.
        with contextlib.suppress(EOFError, OSError):  # killed while it was sending
            if self._line.poll():
                return Message(*self._line.recv())
        self._process.join()
        reason = f"the worker process ended while it {doing}: {describe_exit(self._process.exitcode)}"
        if self._log is not None and self._log.exists() and self._log.stat().st_size:
            reason += f"; see {self._log}"
        self.stop()
        return Message("gone", reason=reason)

    def stop(self) -> None:
        """Kills the worker, if there is one, and waits until it is gone."""
        process, line, self._process, self._line = self._process, self._line, None, None
        mouth, self._mouth = self._mouth, None
        if process is not None and process.pid is not None:
            process.kill()
            process.join()
            process.close()
        if mouth is not None:
            mouth.close()
        if line is not None:
            line.close()
        if self._log is not None and self._log.is_file() and self._log.stat().st_size == 0:
            self._log.unlink()


def late_words(timeout_s: float) -> str:
    """Why a case was given up whose time was over."""
    return (f"took longer than the {timeout_s:g} s of --timeout and was stopped; allow more, or look at the case's "
            "size")  # fmt: skip


class _Mouth:
    """Sends over a line from a thread of its own, so that nobody waits for a worker that does not listen.

    What a worker that is gone should have heard is lost; that it is gone is noticed on listening.
    """

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._speak, name="to the worker", daemon=True)
        self._thread.start()

    def say(self, thing: Any) -> None:
        """Sends an object as soon as the worker takes it; what cannot be pickled raises here."""
        self._waiting.put(bytes(ForkingPickler.dumps(thing)))

    def close(self) -> None:
        """Ends the thread; the worker must be gone."""
        self._waiting.put(None)
        self._thread.join()

    def _speak(self) -> None:
        with contextlib.suppress(OSError):
            while (words := self._waiting.get()) is not None:
                self._line.send_bytes(words)


def describe_exit(code: int | None) -> str:
    """Plain words for a process's exit code as `multiprocessing` gives it (negative: the signal that killed it)."""
    if code is None or code >= 0:
        return f"exit code {code}"
    if -code == signal.SIGKILL:
        return "killed (SIGKILL), most often because memory ran out; use a smaller case or more memory"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
