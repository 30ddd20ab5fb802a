"""Several processes, on one host or many, that train together: process 0 leads, the others follow.

Only the leader reads data, decides, validates and writes. What the others need to know comes to them as messages
through the job's coordination service, and arrays over the same network that sums of gradients take. One process is
the case of a leader without followers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding

from ivdjax.learning.devices import AXIS, DIVIDED, SHARED, map_devices

HEARTBEAT_S = 15
"""Seconds without a sign of life after which a process counts as dead, and the job ends."""

_PATIENCE_S = 1
"""Seconds of one wait for a message; between two of them Python may act on a signal."""

_messages = 0  # announced or heard so far; the same number on all processes


def join(
    address: str | None = None, processes: int | None = None, process: int | None = None,
    local_devices: Sequence[int] | None = None, patience_s: int = 300,
) -> None:  # fmt: skip
    """Joins the job's processes; to be called before anything else of JAX. Without an address, JAX finds all out.

    Args:
        address: host and port of process 0, as the others reach it.
        processes: how many there are.
        process: the number of this one, from 0.
        local_devices: numbers of the accelerators that are this process's own; None: all that it sees.
        patience_s: how long to wait for the others.

    Raises:
        RuntimeError, ValueError: JAX finds no such job, or not all of its processes came.
    """
    # Votes tell the others of a SIGTERM; JAX's own notice would swallow the signal.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        address, processes, process, local_device_ids=local_devices,
        cluster_detection_method="deactivate" if address else None, initialization_timeout=patience_s,
        heartbeat_timeout_seconds=HEARTBEAT_S, shutdown_timeout_seconds=HEARTBEAT_S,
    )  # fmt: skip


def leave() -> None:
    """Leaves the job, together with the others; nothing where none was joined."""
    if is_joined():
        jax.distributed.shutdown()


def is_joined() -> bool:
    """Whether this process belongs to a job of several and has not left it."""
    return bool(jax.distributed.is_initialized())


def leads() -> bool:
    """Whether this is the process that decides and writes: process 0, or the only one."""
    return process_count() == 1 or jax.process_index() == 0


def process_count() -> int:
    """How many processes train together; asking starts no backend where this one is alone."""
    return jax.process_count() if is_joined() else 1


def announce(message: dict[str, Any]) -> None:
    """Tells the followers a message that JSON can hold, for their next `hear`; the leader alone calls it."""
    global _messages
    if process_count() > 1:
        _client().key_value_set(f"ivdjax/{_messages}", json.dumps(message))
        _messages += 1


def hear() -> dict[str, Any]:
    """The leader's next message, for a follower; however long it takes, unless the leader dies.

    Raises:
        RuntimeError: the job is over.
    """
    global _messages
    while True:
        try:
            text = _client().blocking_key_value_get(f"ivdjax/{_messages}", _PATIENCE_S * 1000)
        except RuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        else:
            _messages += 1
            message: dict[str, Any] = json.loads(text)
            return message


def from_leader(tree: Any) -> Any:
    """The leader's arrays on every process, on the host; the followers give arrays of the same shapes and types."""
    return tree if process_count() == 1 else multihost_utils.broadcast_one_to_all(tree, is_source=leads())


class Votes:
    """Whether any process wants to stop, with the same answer for all after the same step.

    Args:
        mesh: all devices of all processes.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh, self._pending = mesh, None
        self._sum = jax.jit(map_devices(_summed, mesh, (DIVIDED, SHARED), SHARED))

    def stop(self, mine: bool, step: Any) -> bool:
        """Votes after a step whose number is the array `step`, and gives the outcome of the vote before.

        One process alone has its way at once. Several read a result one step late, so that none waits for it.
        """
        if process_count() == 1:
            return mine
        flags = jax.make_array_from_callback(
            (self._mesh.devices.size,), NamedSharding(self._mesh, DIVIDED), lambda place: np.full(1, mine, np.int32)
        )
        before, self._pending = self._pending, self._sum(flags, step)
        return before is not None and int(before) > 0


def _summed(flags: jax.Array, step: jax.Array) -> jax.Array:
    # It depends on the step, so that no process sums votes before gradients when another does it after them.
    return jax.lax.psum(flags.sum() + jnp.minimum(step, 0), AXIS)


def _client() -> Any:
    # The service that every job has; JAX gives no public way to it (as of 0.11), and Orbax takes it from here too.
    from jax._src import distributed

    return distributed.global_state.client
