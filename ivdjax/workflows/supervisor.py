"""A cohort of cases in a worker process, under a supervisor that can kill it and start another.

Nothing inside one process can interrupt compiled code, and a process that runs out of memory takes everything with it.
So the cases are worked on in a second process, one after the other; this one waits, keeps the time and survives.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from ivdjax.volume import UserError
from ivdjax.workflows import worker

Work = Callable[[Any], Any]

START_LIMIT_S = 900.0
"""How long a worker may take to start and build its state."""

MAX_FAILED_STARTS = 2
"""After so many in a row no further worker is tried."""


@dataclass(frozen=True)
class Task:
    """One case to work on: its name, and what the worker's function is called with (anything that pickles)."""

    case: str
    payload: Any


@dataclass(frozen=True)
class Result:
    """What became of one task: `status` is "done" with a payload, or "failed" with a reason; seconds of work."""

    case: str
    status: str
    payload: Any = None
    reason: str = ""
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether the case came to nothing."""
        return self.status != "done"


def run_cohort(
    tasks: Sequence[Task], build: Callable[[], Work], timeout_s: float | None = None, log: Path | None = None
) -> Iterator[Result]:
    """Works on the tasks in order in a worker process, and yields each one's result as soon as it is there.

    `build` is called once in every worker and gives the function that handles a task's payload; it must pickle (a
    function of a module, or a `functools.partial` of one), and so must what the function returns. A case fails alone:

    - it takes longer than `timeout_s` (from its own start; the worker's start and `build` do not count): killed;
    - its worker dies, by a signal or for lack of memory;
    - its function raises: CaseError and UserError give their message, anything else its type and message.

    After the first two another worker is started; once `MAX_FAILED_STARTS` in a row did not become ready, the remaining
    cases fail at once, with the last one's reason. Tracebacks and whatever the worker prints go to `log` (appended;
    without a log: to stderr). When the generator ends or is closed, or this process ends, the worker ends as well.

    Raises:
        UserError: `build` failed in the first worker; nothing was started.
    """
    crew = _Crew(build, log)
    failed_starts = 0
    try:
        for number, task in enumerate(tasks):
            if failed_starts < MAX_FAILED_STARTS:
                start = crew.start()
            if start.status != "ready":
                if number == 0:
                    raise UserError(start.reason)
                failed_starts += 1
                yield Result(task.case, "failed", reason=start.reason)
                continue
            failed_starts = 0
            begin = time.monotonic()
            answer = crew.ask(task, timeout_s)
            yield Result(task.case, answer.status, answer.payload, answer.reason, time.monotonic() - begin)
    finally:
        crew.stop()


class _Answer(NamedTuple):
    """A message from the worker, or the supervisor's own words about a worker that cannot answer any more."""

    status: str
    payload: Any = None
    reason: str = ""


class _Crew:
    """At most one living worker, and the line to it."""

    def __init__(self, build: Callable[[], Work], log: Path | None) -> None:
        self._build, self._log = build, log
        self._process: BaseProcess | None = None
        self._line: Connection | None = None

    def start(self) -> _Answer:
        """A worker that has built its state and waits for a task; the one at hand, or a new one."""
        if self._process is not None:
            if self._process.is_alive():
                return _Answer("ready")
            self.stop()  # died while idle, after its last answer
        context = multiprocessing.get_context("spawn")
        self._line, far_end = context.Pipe()
        self._process = context.Process(
            target=worker.serve, args=(self._build, far_end, self._log), name="ivdjax worker", daemon=True
        )
        # Ctrl-C reaches every process of the terminal; a worker born with SIGINT blocked leaves the answer to us. The
        # tracker that Python starts beside the first worker unblocks SIGINT again, so it must be there before.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            far_end.close()
        late = f"the worker process was not ready after {START_LIMIT_S:g} s; is the model's disk or the machine stuck?"
        answer = self._listen(START_LIMIT_S, late, "while it was starting")
        if answer.status != "ready":
            self.stop()  # it may linger after its answer, and must not be taken for one that waits for a task
        return answer

    def ask(self, task: Task, timeout_s: float | None) -> _Answer:
        """The worker's answer to one task, or why there is none."""
        assert self._line is not None
        try:
            self._line.send((task.case, task.payload))
        except (BrokenPipeError, ConnectionResetError):
            return self._obituary("before the case began")
        late = (
            f"took longer than the {timeout_s:g} s of --timeout and was stopped; allow more, or look at the case's size"
            if timeout_s is not None
            else ""
        )
        return self._listen(timeout_s, late, "while it worked on this case")

    def stop(self) -> None:
        """Kills the worker, if there is one, and waits until it is gone."""
        process, line, self._process, self._line = self._process, self._line, None, None
        if process is not None and process.pid is not None:
            process.kill()
            process.join()
            process.close()
        if line is not None:
            line.close()
        if self._log is not None and self._log.is_file() and self._log.stat().st_size == 0:
            self._log.unlink()

    def _listen(self, limit_s: float | None, late: str, when: str) -> _Answer:
        assert self._line is not None and self._process is not None
        if not wait([self._line, self._process.sentinel], limit_s):
            self.stop()
            return _Answer("failed", reason=late)
        try:
            # The line is looked at first: an answer may have been sent just before the worker's end.
            if self._line.poll():
                return _Answer(*self._line.recv())
        except (EOFError, OSError):  # killed while it was sending
            pass
        return self._obituary(when)

    def _obituary(self, when: str) -> _Answer:
        assert self._process is not None
        self._process.join()
        reason = f"the worker process ended {when}: {describe_exit(self._process.exitcode)}"
        if self._log is not None and self._log.exists() and self._log.stat().st_size:
            reason += f"; see {self._log}"
        self.stop()
        return _Answer("failed", reason=reason)


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
