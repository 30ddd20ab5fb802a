"""A cohort on a Ray cluster: actors that hold the compiled model take the cases one by one, wherever there is room.

It is the supervisor's work (`supervisor.run_cohort`) with the same tasks, pipeline and results; placing actors on
nodes, starting them and noticing their death is Ray's. An actor works on one case at a time, so that a death is its
case's or its node's: the case is tried once more by another actor, and fails if that one dies too.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ivdjax.inference.ray_cluster import case_metrics, connected, error_words, room
from ivdjax.inference.supervisor import START_LIMIT_S, CaseTask, Result, late_words
from ivdjax.inference.worker import STEPS, Cost, Pipeline, describe_failure, peak_mib
from ivdjax.volume import UserError

MOST_TRIES = 2
"""Actors that may die over a case."""

_CORES = 4
_MARK = ".ivdjax-ray-{}"


@dataclass(frozen=True)
class RayOptions:
    """Where and how to run.

    Attributes:
        address: "local" for this machine alone, "auto" for the cluster that this machine belongs to, or an address as
            `ray.init` takes it, such as ray://HOST:10001.
        workers: how many actors; 0: one a GPU, or without any GPU one for every `cores`.
        cores: that an actor is given.
        memory_gib: that a case may take beyond what the model holds; 0: as much as Ray leaves it. Linux alone.
    """

    address: str
    workers: int = 0
    cores: int = _CORES
    memory_gib: float = 0.0


@dataclass
class _Actor:
    """An actor and what is asked of it: a case by its number, or None while it starts."""

    handle: Any
    number: int | None = None
    since: float = 0.0


def run_on_ray(
    tasks: Sequence[CaseTask], pipeline: Pipeline, options: RayOptions, timeout_s: float | None = None,
    log: Path | None = None, shared: Path | None = None,
) -> Iterator[Result]:  # fmt: skip
    """Works on the tasks on a cluster, and yields each one's result as soon as it is there.

    Args:
        tasks: as for `run_cohort`.
        pipeline: as for `run_cohort`; every node must have this package.
        options: where and how.
        timeout_s: seconds after which a case is given up; None: never.
        log: takes the tracebacks of all nodes.
        shared: the folder of results, which every node must see.

    Raises:
        UserError: Ray is not installed, there is no such cluster, no actor became ready, or a node does not see the
            shared folder; nothing came of any case.
    """
    ray = connected(options.address)
    try:
        cohort = _RayCohort(ray, tasks, pipeline, options, timeout_s, log, shared)
        yield from cohort.results()
    finally:
        ray.shutdown()


class _RayCohort:
    """Which actor has which case. Cases are known by their number in `tasks`."""

    def __init__(
        self, ray: Any, tasks: Sequence[CaseTask], pipeline: Pipeline, options: RayOptions, timeout_s: float | None,
        log: Path | None, shared: Path | None,
    ) -> None:  # fmt: skip
        self._ray, self._tasks, self._options = ray, tasks, options
        self._timeout_s, self._log, self._shared = timeout_s, log, shared
        self._pipeline = ray.put(pipeline)
        self._waiting = deque(range(len(tasks)))
        self._tries = [0] * len(tasks)
        self._pending: dict[Any, _Actor] = {}  # by the reference of what was asked
        self._idle: list[_Actor] = []
        self._once_ready = False
        self._failed_starts = 0
        self._mark = None if shared is None else shared / _MARK.format(os.getpid())
        self._counters = case_metrics()

    def results(self) -> Iterator[Result]:
        """The results, in the order in which they come."""
        wanted = min(self._options.workers or room(self._ray, self._options.cores), len(self._tasks))
        if self._mark is not None:
            self._mark.write_text("every node must see this file")
        try:
            for _ in range(wanted):
                self._start()
            while self._waiting or any(actor.number is not None for actor in self._pending.values()):
                yield from self._step()
        finally:
            if self._mark is not None:
                self._mark.unlink(missing_ok=True)
            for actor in (*self._idle, *self._pending.values()):
                with contextlib.suppress(Exception):
                    self._ray.kill(actor.handle)

    def _step(self) -> Iterator[Result]:
        """Hands out what can be handed out, waits for one answer or the next deadline, and gives what comes of it."""
        while self._idle and self._waiting:
            self._hand_out(self._idle.pop())
        done, _ = self._ray.wait(list(self._pending), num_returns=1, timeout=self._patience_s())
        if not done:
            yield from self._late()
            return
        actor = self._pending.pop(done[0])
        try:
            answer, log_text = self._ray.get(done[0])
        except Exception as error:  # of Ray: the actor, its node or its memory is gone
            yield from self._gone(actor, error)
            return
        self._note(log_text)
        if actor.number is None:
            yield from self._started(actor, answer)
            return
        self._idle.append(replace(actor, number=None))
        yield self._counted(answer)

    def _hand_out(self, actor: _Actor) -> None:
        number = self._waiting.popleft()
        task = self._tasks[number]
        asked = actor.handle.work.options(name=f"case {task.case}").remote(task.case, task.payload)
        self._pending[asked] = _Actor(actor.handle, number, time.monotonic())

    def _start(self) -> None:
        """Starts an actor; Ray puts it where there is room, as soon as there is."""
        gpus = 1 if self._ray.cluster_resources().get("GPU", 0) else 0
        actor = self._ray.remote(_Worker).options(num_cpus=self._options.cores, num_gpus=gpus)
        handle = actor.remote(self._pipeline, self._log, self._options.memory_gib)
        self._pending[handle.ready.remote(self._mark)] = _Actor(handle, None, time.monotonic())

    def _started(self, actor: _Actor, refusal: str) -> Iterator[Result]:
        """An actor has built its steps, or says why it could not."""
        if not refusal:
            self._once_ready, self._failed_starts = True, 0
            self._idle.append(actor)
            return
        yield from self._refused(refusal)

    def _refused(self, reason: str) -> Iterator[Result]:
        """A start has failed. Others may go on; without any, the cases that are left fail."""
        if self._pending or self._idle:
            return
        self._failed_starts += 1
        if not self._once_ready:
            raise UserError(reason)
        if self._failed_starts < MOST_TRIES:
            self._start()
            return
        while self._waiting:
            number = self._waiting.popleft()
            yield self._counted(Result(self._tasks[number].case, "failed", reason=reason))

    def _late(self) -> Iterator[Result]:
        """Time is over: of a case, or of a start."""
        now = time.monotonic()
        for asked, actor in list(self._pending.items()):
            limit = self._limit_s(actor)
            if limit is None or now - actor.since < limit:
                continue
            del self._pending[asked]
            with contextlib.suppress(Exception):
                self._ray.kill(actor.handle)
            if actor.number is None:
                yield from self._refused(
                    f"no room for a worker of {self._options.cores} cores on the cluster within {START_LIMIT_S:g} s; "
                    "see `ray status`, or give --ray-cores"
                )
                continue
            assert self._timeout_s is not None
            self._start()
            task = self._tasks[actor.number]
            yield self._counted(Result(task.case, "failed", reason=late_words(self._timeout_s),
                                       seconds=now - actor.since))  # fmt: skip

    def _gone(self, actor: _Actor, error: Exception) -> Iterator[Result]:
        """An actor has died, over a case or in its start."""
        with contextlib.suppress(Exception):
            self._ray.kill(actor.handle)
        words = error_words(error)
        if actor.number is None:
            yield from self._refused(f"a worker on the cluster did not start: {words}")
            return
        self._start()
        self._tries[actor.number] += 1
        if self._tries[actor.number] < MOST_TRIES:
            self._waiting.appendleft(actor.number)
            return
        task = self._tasks[actor.number]
        reason = f"the worker process ended while it worked on this case, {MOST_TRIES} times: {words}"
        yield self._counted(Result(task.case, "failed", reason=reason, seconds=time.monotonic() - actor.since))

    def _limit_s(self, actor: _Actor) -> float | None:
        return START_LIMIT_S if actor.number is None else self._timeout_s

    def _patience_s(self) -> float | None:
        ends = [actor.since + limit for actor in self._pending.values() if (limit := self._limit_s(actor)) is not None]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _note(self, log_text: str) -> None:
        if log_text and self._log is not None:
            with contextlib.suppress(OSError), self._log.open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(log_text)

    def _counted(self, result: Result) -> Result:
        """The result, counted for Ray's dashboard."""
        if self._counters is not None:
            done, failed, seconds = self._counters
            (failed if result.failed else done).inc()
            seconds.observe(result.seconds)
        return result


class _Worker:
    """The actor: holds the pipeline's steps, and takes one case through them at a time."""

    def __init__(self, pipeline: Pipeline, log: Path | None, memory_gib: float) -> None:
        self._pipeline, self._log, self._memory_gib = pipeline, log, memory_gib
        self._steps: dict[str, Any] = {}

    def ready(self, mark: Path | None) -> tuple[str, str]:
        """Builds the steps; why that was not possible (empty: it was), and a traceback for the log."""
        try:
            if mark is not None and not mark.is_file():
                raise UserError(
                    f"the node {os.uname().nodename} does not see {mark.parent}: --output must be on storage that all "
                    "nodes share, under one path"
                )
            self._steps = {name: getattr(self._pipeline, name)() for name in STEPS}
            self._limit_memory()
        except BaseException as error:
            return describe_failure(error, "start of a worker", self._log)
        return "", ""

    def work(self, case: str, payload: Any) -> tuple[Result, str]:
        """Takes a case through all steps; its result, and a traceback for the log."""
        value, costs = payload, {}
        for name, step in self._steps.items():
            begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
            try:
                value = step(value)
            except BaseException as error:
                costs[name] = _cost(begin_s, begin_cpu_s)
                words, log_text = describe_failure(error, f"case {case}", self._log)
                return Result(case, "failed", None, words, _sum_s(costs), costs), log_text
            costs[name] = _cost(begin_s, begin_cpu_s)
        return Result(case, "done", value, "", _sum_s(costs), costs), ""

    def _limit_memory(self) -> None:
        """From here on the process may take so much more; beyond that, memory has run out for the case."""
        status = Path("/proc/self/status")
        if not self._memory_gib or not status.is_file():
            return
        import resource

        held = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmData:"))
        most = held * 1024 + int(self._memory_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def _cost(begin_s: float, begin_cpu_s: float) -> Cost:
    return Cost(time.perf_counter() - begin_s, time.process_time() - begin_cpu_s, peak_mib())


def _sum_s(costs: dict[str, Cost]) -> float:
    return sum(cost.wall_s for cost in costs.values())
