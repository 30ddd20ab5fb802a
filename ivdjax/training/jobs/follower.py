"""What a process does that trains with others and does not lead: it takes part in the steps, and touches no file."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from ivdjax.commands.stop import stop_requests
from ivdjax.config import parse_config
from ivdjax.learning.devices import data_mesh, keep_pace, share, use_compilation_cache
from ivdjax.learning.hosts import Votes, from_leader, hear
from ivdjax.learning.steps import abstract_state, build_train_step
from ivdjax.model.stages import stage_crop, stage_settings
from ivdjax.model.tasks import stage_network
from ivdjax.training.device_cache import received_cache
from ivdjax.training.stage import STOP, is_due
from ivdjax.volume import UserError


def follow() -> None:
    """Takes part in every stage that the leader announces, until it announces the end.

    Raises:
        UserError: the leader refused to begin; its own message says why.
        Terminated: SIGTERM arrived here or elsewhere; KeyboardInterrupt: Ctrl-C.
        RuntimeError: the leader is gone.
    """
    use_compilation_cache()
    print(f"process {jax.process_index()} of {jax.process_count()}: follows process 0, which reads, decides and writes")
    while True:
        message = hear()
        if message["do"] == "refused":
            raise UserError("process 0 did not begin; its message says why")
        if message["do"] == "end":
            return
        follow_stage(message)


def follow_stage(message: dict[str, Any]) -> None:
    """Takes part in one stage, as `ivdjax.training.stage.train_stage` announces it: same steps, same votes.

    Raises:
        Terminated, KeyboardInterrupt: as `follow`.
    """
    config, name, start = parse_config(message["config"]), message["stage"], message["start"]
    network, stage = stage_network(config, name), stage_settings(config, name)
    total, every = stage.training.steps, stage.training.validate_every
    mesh = data_mesh()
    step_once = build_train_step(
        network.apply, stage, stage_crop(config, name), config.augmentation, config.seed, mesh
    )  # fmt: skip
    cache, votes = received_cache(message["layout"], mesh), Votes(mesh)
    abstract = abstract_state(network, stage, len(config.data.channels))
    blank = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract)
    state = share(from_leader(blank), mesh)
    with stop_requests() as stop:
        if is_due(every, start, total) and hear()["do"] == STOP:
            stop.carry_out()
        for step in range(start + 1, total + 1):
            state, metrics = step_once(state, cache.at(step - 1))
            keep_pace(metrics, mesh)
            if votes.stop(bool(stop.signal), state.step):
                stop.carry_out()
            # The leader looks at the validation cases.
            if is_due(every, step, total) and hear()["do"] == STOP:
                stop.carry_out()
