"""The worker's side of a cohort: three steps a case, each in a thread of its own, so that three cases overlap.

While one case is computed, the next is read and the one before is written. The steps hand cases on in order. What
happens is told to the supervisor as it happens, in `Message`s.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import queue
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from ivdjax.commands.commands import describe_os_error
from ivdjax.commands.memory import keep_freed_memory
from ivdjax.imaging.files.dicom_file import ignore_header_words
from ivdjax.volume import CaseError, UserError

Step = Callable[[Any], Any]

STEPS = ("read", "compute", "write")


@dataclass(frozen=True)
class Pipeline:
    """What a worker does with a case, as three functions that build its steps.

    Each is called once in every worker, without arguments, in the thread of its step (`compute` in the main thread),
    and gives the step's function. `read` takes a task's payload, `compute` what `read` gave, `write` what `compute`
    gave; what `write` gives is the task's result and must pickle, and so must the three themselves (functions of a
    module, or a `functools.partial` of one). Reading begins as soon as `read` is built, whatever the others take.
    """

    read: Callable[[], Step]
    compute: Callable[[], Step]
    write: Callable[[], Step]


@dataclass(frozen=True)
class Cost:
    """What a step took: its own seconds; CPU seconds of the process meanwhile; the process's peak in MiB up to its end.

    CPU seconds and peak hold what other steps did at the same time.
    """

    wall_s: float
    cpu_s: float
    peak_mib: float


class Message(NamedTuple):
    """One word of a worker to its supervisor.

    Attributes:
        kind: "next" (it wants a task), "ready" (every step is built), "refused" (a step could not be built), "begin"
            and "end" (of a step of a case); and the answers "done", "failed" and "starved" (memory ran out), which end
            the case's step too.
        number: of the task that it is about; -1 for none.
        payload: the result.
        reason: for the user, where there is none.
        at: time.monotonic() of the event, which all processes of a machine share.
        costs: by step, of those that were done.
    """

    kind: str
    number: int = -1
    payload: Any = None
    reason: str = ""
    at: float = 0.0
    costs: dict[str, Cost] = {}  # noqa: RUF012 - never changed


def begin(line: Connection, log: Path | None) -> None:
    """Serves the pipeline that comes over the line first: it may be large, and what starts a process must not be."""
    end_with_parent()
    try:
        pipeline = pickle.loads(line.recv_bytes())
    except EOFError:
        return
    except Exception as error:
        desk = _Desk(line, log)
        desk.send(Message("refused", reason=desk.describe(error, "start of the worker")))
        return
    serve(pipeline, line, log)


def serve(pipeline: Pipeline, line: Connection, log: Path | None) -> None:
    """Answers the tasks that come over the line, each a number, a case's name and a payload, until it is closed."""
    end_with_parent()
    _offer_to_memory_killer()
    keep_freed_memory()
    desk = _Desk(line, log)
    try:
        if log is not None:
            _redirect_output(log)
    except OSError as error:
        desk.send(Message("refused", reason=desk.describe(error, "start of the worker")))
        return
    # For good, before there are threads: libraries in one of them that set filters aside put old ones back for all.
    ignore_header_words()
    was_read: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
    was_computed: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
    threads = (
        threading.Thread(target=_work, args=("read", pipeline.read, desk.next_job, was_read.put, desk), daemon=True),
        threading.Thread(
            target=_work, args=("write", pipeline.write, was_computed.get, desk.answer, desk), daemon=True
        ),
    )
    for thread in threads:
        thread.start()
    _work("compute", pipeline.compute, was_read.get, was_computed.put, desk)
    for thread in threads:
        thread.join()


@dataclass
class _Job:
    """A case on its way: its payload, or what the last step made of it (nobody else holds that)."""

    number: int
    case: str
    value: Any
    costs: dict[str, Cost] = field(default_factory=dict)


class _Desk:
    """The line to the supervisor, for all threads."""

    def __init__(self, line: Connection, log: Path | None) -> None:
        self._line, self._log = line, log
        self._lock = threading.Lock()
        self._unbuilt = set(STEPS)
        self._ready = threading.Event()

    def send(self, message: Message) -> None:
        """Sends a message with the time of now."""
        with self._lock:
            self._line.send(tuple(message._replace(at=time.monotonic())))

    def next_job(self) -> _Job | None:
        """The next task, asked for and waited for; None when the line is closed."""
        try:
            self.send(Message("next"))
            return _Job(*self._line.recv())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return None

    def tell_built(self, step: str) -> None:
        """Says that the worker is ready once the last step is built."""
        with self._lock:
            self._unbuilt.discard(step)
            ready = not self._unbuilt
        if ready:
            start = Cost(0.0, time.process_time(), peak_mib())  # the supervisor knows the seconds better
            self.send(Message("ready", costs={"start": start}))
            self._ready.set()

    def wait_until_ready(self) -> None:
        """Returns once every step is built; never where one cannot be, which the supervisor ends."""
        self._ready.wait()

    def answer(self, job: _Job | None) -> None:
        """Sends what the last step gave."""
        if job is None:
            return
        try:
            self.send(Message("done", job.number, job.value, costs=job.costs))  # pickled before the first byte leaves
        except (BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            self.send(Message("failed", job.number, reason=self.describe(error, f"case {job.case}"), costs=job.costs))
        job.value = None

    def fail(self, job: _Job, error: BaseException) -> None:
        """Sends why a step gave nothing."""
        kind = "starved" if is_starved(error) else "failed"
        self.send(Message(kind, job.number, reason=self.describe(error, f"case {job.case}"), costs=job.costs))

    def describe(self, error: BaseException, where: str) -> str:
        """The message for the user; the traceback of what is not the user's to mend goes to the log."""
        words, log_text = describe_failure(error, where, self._log)
        with contextlib.suppress(OSError):  # a full disk takes no traceback, and the answer matters more
            if log_text:
                print(log_text, end="", file=sys.stderr, flush=True)
        return words


def describe_failure(error: BaseException, where: str, log: Path | None) -> tuple[str, str]:
    """The message for the user, and the traceback that goes to the log; none for what is the user's to mend.

    Args:
        error: that a step raised.
        where: it was raised, for the log.
        log: that the message refers to.
    """
    if isinstance(error, (CaseError, UserError)):
        return str(error), ""
    text = f"{where}:\n{''.join(traceback.format_exception(error))}"
    if isinstance(error, OSError):
        return describe_os_error(error), text
    seen = f"; the traceback is in {log}" if log is not None else ""
    if is_starved(error):
        return f"memory ran out; use a smaller case or more memory ({type(error).__name__}{seen})", text
    return f"{type(error).__name__}: {error}{seen}", text


def _work(
    name: str,
    build: Callable[[], Step],
    take: Callable[[], _Job | None],
    give: Callable[[_Job | None], None],
    desk: _Desk,
) -> None:
    """Builds a step and takes one case after the other through it, until there is none.

    Whatever goes wrong outside of a case ends the process: a worker that lacks a step would wait for ever.
    """
    try:
        try:
            step = build()
        except BaseException as error:
            desk.send(Message("refused", reason=desk.describe(error, "start of the worker")))
            return
        desk.tell_built(name)
        if name != "read":  # a case that ends the process then ends a worker, and no start
            desk.wait_until_ready()
        while (job := take()) is not None:
            if _advance(job, name, step, desk):
                give(job)
        give(None)
    except (BrokenPipeError, ConnectionResetError):  # nobody listens any more
        os._exit(1)
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(1)


def _advance(job: _Job, name: str, step: Step, desk: _Desk) -> bool:
    """Takes a case through a step; whether it came to something. A failed case has been answered."""
    value, job.value = job.value, None
    desk.send(Message("begin", job.number))
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()

    def note_cost() -> None:
        job.costs[name] = Cost(time.perf_counter() - begin_s, time.process_time() - begin_cpu_s, peak_mib())

    try:
        job.value = step(value)
    except BaseException as error:
        note_cost()
        desk.fail(job, error)
        return False
    note_cost()
    desk.send(Message("end", job.number))
    return True


def is_starved(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or, as XLA words it, of its device."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def peak_mib() -> float:
    """The most memory that this process has had, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def end_with_parent() -> None:
    """Ends this process when the parent is gone, even if it was killed and could not say so."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _offer_to_memory_killer() -> None:
    """Makes Linux choose this process, not its supervisor, when memory runs out."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _redirect_output(log: Path) -> None:
    """Sends what this process prints, compiled libraries included, to the end of the log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(handle, stream.fileno())
    os.close(handle)
