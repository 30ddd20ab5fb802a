"""The processes of a training job: found in the environment that started them, or told by options."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ivdjax.volume import UserError

PATIENCE_S = 300
"""Seconds to wait at the start for all processes of a job."""

_FIRST_PORT, _PORTS = 61440, 4096
"""Of ports that no service is registered for; a Slurm job's number chooses one."""


@dataclass(frozen=True)
class Job:
    """Several processes that train together, and which of them this one is.

    Attributes:
        address: host:port of process 0; None: JAX finds out all there is to know (Cloud TPU, GKE, MPI).
        processes: how many there are.
        process: the number of this one, from 0; process 0 leads.
        local_devices: numbers of the GPUs that are this process's own; None: all that it sees.
    """

    address: str | None = None
    processes: int | None = None
    process: int | None = None
    local_devices: tuple[int, ...] | None = None


def job_of(
    environment: Mapping[str, str], address: str | None = None, processes: int | None = None, process: int | None = None
) -> Job | None:
    """The job that this process belongs to; None for a process by itself.

    Options come first; then JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID; then what Slurm's `srun`
    sets for each of several tasks; then the workers of a TPU slice on GKE (TPU_WORKER_HOSTNAMES).

    Args:
        environment: of the process.
        address: the option --coordinator: host:port of process 0, or "auto": JAX finds out.
        processes: the option --processes.
        process: the option --process.

    Raises:
        UserError: some of what belongs together is missing, or a number is out of range.
    """
    if address == "auto":
        if processes is not None or process is not None:
            raise UserError("--coordinator auto finds out the processes; leave out --processes and --process")
        return Job()
    told = ("--coordinator", "--processes", "--process"), (address, processes, process)
    if any(value is not None for value in told[1]):
        return _told(*told)
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    if any(environment.get(name) for name in names):
        return _told(names, tuple(environment.get(name) or None for name in names))
    if int(environment.get("SLURM_STEP_NUM_TASKS") or 1) > 1:
        return _slurm(environment)
    if "," in environment.get("TPU_WORKER_HOSTNAMES", ""):
        return Job()
    return None


@contextmanager
def joined(job: Job | None) -> Iterator[None]:
    """The processes of a job, together from here on; to be entered before anything of JAX is used.

    Whoever fails leaves without a word to the others: the missing heartbeat ends them. Whoever stops by agreement
    waits for them.

    Raises:
        ConnectionError: the other processes did not come, or JAX found no job.
    """
    if job is None:
        yield
        return
    from ivdjax.commands.commands import Terminated
    from ivdjax.learning import hosts

    where = f"at {job.address}" if job.address else "that JAX looked for (--coordinator auto)"
    try:
        hosts.join(job.address, job.processes, job.process, job.local_devices, PATIENCE_S)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConnectionError(f"the processes of the job {where} did not come within {PATIENCE_S} s: {reason}; "
                              "start all of them, and check that the address can be reached") from error  # fmt: skip
    try:
        yield
    except (Terminated, KeyboardInterrupt, UserError):
        hosts.leave()
        raise
    hosts.leave()


def end_process(code: int) -> int:
    """The exit code of a process; one that leaves its job without the others' agreement ends here and now.

    JAX would wait for the others first, in vain, and then end with a code of its own.
    """
    hosts = sys.modules.get("ivdjax.learning.hosts")
    if hosts is not None and hosts.is_joined():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _told(names: tuple[str, ...], values: tuple[str | int | None, ...]) -> Job | None:
    """The job of an address, a count and a number, from options or the environment.

    Raises:
        UserError: one is missing, or no such number.
    """
    missing = [name for name, value in zip(names, values, strict=True) if value is None]
    if missing:
        raise UserError(f"{', '.join(names)} belong together; {', '.join(missing)} is missing")
    address, *numbers = map(str, values)
    if not re.fullmatch(r"\S+:\d+", address):
        raise UserError(f"{names[0]} must be host:port of process 0, or auto, not {address!r}")
    if not all(number.isdigit() for number in numbers) or not int(numbers[1]) < int(numbers[0]):
        raise UserError(f"{names[2]} must be 0 to {names[1]} - 1, not {numbers[1]} of {numbers[0]}")
    count, number = map(int, numbers)
    return Job(address, count, number) if count > 1 else None


def _slurm(environment: Mapping[str, str]) -> Job:
    """The tasks of a job step that `srun` started.

    Of several tasks on a host each takes the GPU of its own number, unless Slurm lets it see but one.

    Raises:
        UserError: Slurm's variables are not as they should be.
    """
    try:
        first = _first_host(environment["SLURM_STEP_NODELIST"])
        port = _FIRST_PORT + int(environment["SLURM_JOB_ID"]) % _PORTS
        count, number = int(environment["SLURM_STEP_NUM_TASKS"]), int(environment["SLURM_PROCID"])
        local = int(environment["SLURM_LOCALID"])
        here = _tasks_here(environment["SLURM_STEP_TASKS_PER_NODE"], int(environment["SLURM_NODEID"]))
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(f"this is a job step of Slurm, but its variables cannot be read ({error!r}); give "
                        "--coordinator, --processes and --process instead") from error  # fmt: skip
    seen = environment.get("CUDA_VISIBLE_DEVICES")
    own = None if here == 1 or (seen is not None and "," not in seen) else (local,)
    return Job(f"{first}:{port}", count, number, own)


def _first_host(nodes: str) -> str:
    """The first of Slurm's `node[001-003,7],other`.

    Raises:
        ValueError: there is none.
    """
    found = re.match(r"([^,\[\]]+)(?:\[([^,\-\]]+)[^\]]*\]([^,\[]*))?", nodes)
    if not found:
        raise ValueError(f"no host in {nodes!r}")
    return "".join(part or "" for part in found.groups())


def _tasks_here(tasks: str, node: int) -> int:
    """How many tasks run on a host, from Slurm's `4(x2),1`."""
    counts: list[int] = []
    for part in tasks.split(","):
        count, _, times = part.partition("(x")
        counts += [int(count)] * int(times.rstrip(")") or 1)
    return counts[node]
