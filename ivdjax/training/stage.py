"""Training of one stage: the loop from the last checkpoint to the last step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from ivdjax.commands.stop import Stop, stop_requests
from ivdjax.config import Config, plain_config
from ivdjax.data.preparation import Prepared
from ivdjax.learning.checkpoint import Checkpoints
from ivdjax.learning.devices import data_mesh, keep_pace, share, unshared
from ivdjax.learning.hosts import Votes, announce, from_leader
from ivdjax.learning.steps import Metrics, TrainState, abstract_state, build_train_step, initial_state
from ivdjax.model.tasks import StageTask
from ivdjax.model.weights import misfits, shortened
from ivdjax.training.best import offer_best, read_best
from ivdjax.training.device_cache import DeviceCache, PhasedCache
from ivdjax.training.journal import Journal
from ivdjax.training.validation import Validation, validate
from ivdjax.volume import UserError

CHECKPOINTS = "checkpoints"
"""Folder of a stage's checkpoints, in its own."""

ON, STOP = "on", "stop"
"""What the leader announces when it has looked at the validation cases: the steps go on, or all stop here."""


@dataclass(frozen=True)
class StageResult:
    """What a stage came to.

    Attributes:
        parameters: a running average of the parameters, as NumPy arrays: the last, or the best validated one.
        validation: figures of these parameters on all held-out cases; empty without such cases.
        seconds: of training and validation, over all sittings.
        steps: optimizer steps done.
        chosen: the step after which the parameters were these.
    """

    parameters: Any
    validation: dict[str, float]
    seconds: float
    steps: int
    chosen: int


@dataclass
class _Watch:
    """Sees to it that no number that is none goes unnoticed, in the journal or into a checkpoint.

    Rows of the journal lag one step behind, so that reading them never makes the device wait.
    """

    journal: Journal
    stage: str
    checkpoints: Checkpoints
    pending: tuple[int, Metrics] | None = field(default=None)

    def note(self, step: int, metrics: Metrics) -> None:
        """Takes the metrics after `step` steps; `flush` writes them, at the latest after the next step."""
        self.pending = (step, metrics)

    def flush(self) -> None:
        """Writes what was taken.

        Raises:
            FloatingPointError: the loss or the gradient is not a finite number.
        """
        if self.pending is not None:
            (step, metrics), self.pending = self.pending, None
            self.journal.row(step, self._finite(step, metrics))

    def save(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """Starts to save the state after `step` steps, once its own metrics are known to be numbers.

        Raises:
            FloatingPointError: they are not; nothing is saved.
            OSError: this save or the one before it failed.
        """
        self.flush()
        self._finite(step, metrics)
        self.checkpoints.save(step, unshared(state))

    def _finite(self, step: int, metrics: Metrics) -> dict[str, float]:
        """The metrics as plain numbers, or the FloatingPointError that says where training left the rails."""
        numbers = {name: float(value) for name, value in metrics.items()}
        if math.isfinite(numbers["loss"]) and math.isfinite(numbers["gradient_norm"]):
            return numbers
        self.checkpoints.wait()
        steps, folder = self.checkpoints.steps, self.checkpoints.folder
        good = f"the last good checkpoint is step {max(steps)} in {folder}" if steps else "there is no checkpoint yet"
        raise FloatingPointError(
            f"stage {self.stage}: the loss at step {step} is {numbers['loss']} and the gradient's norm "
            f"{numbers['gradient_norm']}; {good}. Lower {self.stage}.optimizer.learning_rate (with another --output), "
            "or look at the images for values that are not numbers"
        )


@dataclass
class _Examiner:
    """Validates in the course of training, and keeps what did best.

    Attributes:
        task: of the stage.
        folder: of the stage.
        journal: takes figures and pictures.
        stop: ends a validation early.
    """

    task: StageTask
    folder: Path
    journal: Journal
    stop: Stop

    def look(self, step: int, state: TrainState) -> None:
        """Validates on the few cases of a validation during training."""
        params = unshared(state.average)
        found = self._record(step, validate(self.task, self._few, params, self.stop))
        if found.scores and self.task.settings.training.keep == "best":
            offer_best(self.folder, step, found.mean, params)

    def last_look(self, step: int, state: TrainState) -> tuple[Any, Validation, int]:
        """Validates on all held-out cases, with what did better before if it did; parameters, figures, their step."""
        params = jax.tree.map(np.asarray, unshared(state.average))
        found = self._record(step, validate(self.task, self.task.held_out, params, self.stop))
        few = found.of(self._few)
        best = read_best(self.folder) if self.task.settings.training.keep == "best" and few.scores else None
        if best is None or best.value <= few.mean:
            return params, found, step
        self.journal.say(
            f"{self.task.name}: the parameters of step {best.step} are kept; on {len(few.scores)} held-out cases they "
            f"reached {self.task.figure} {best.value:.4f}, the last ones {few.mean:.4f}"
        )
        return best.parameters, validate(self.task, self.task.held_out, best.parameters, self.stop), best.step

    @property
    def _few(self) -> Sequence[Prepared]:
        return self.task.held_out[: self.task.settings.training.validation_cases]

    def _record(self, step: int, found: Validation) -> Validation:
        if found.scores:
            self.journal.validation(step, found.figures)
        shown = found.of(self._few)
        if shown.scores:
            self.journal.image("validation/slices", step, shown.panel())
        return found


def train_stage(
    config: Config, task: StageTask, folder: Path, init: Any | None = None, push: Callable[[], None] = lambda: None
) -> StageResult:
    """Trains one stage in `<folder>/<stage>/`, from its last checkpoint if there is one.

    Where several processes train together this is what the leader does (`ivdjax.training.jobs.follower`: the others).

    Args:
        config: of the run.
        task: what the stage learns.
        folder: of the run.
        init: parameters to begin with, as in a model; None: random ones.
        push: called when there is something new in the folder.

    Raises:
        UserError: `init` does not fit the network, no case, or the devices do not divide the batch.
        FloatingPointError: the loss is no longer a finite number.
        OSError: a checkpoint or the journal could not be written, or there is no room for checkpoints.
        Terminated: SIGTERM arrived; KeyboardInterrupt: Ctrl-C. The state is saved before either.
    """
    name, stage, network = task.name, task.settings, task.network
    settings, total = stage.training, stage.training.steps
    mesh = data_mesh()
    try:
        step_once = build_train_step(network.apply, stage, task.crop, config.augmentation, config.seed, mesh)
    except ValueError as error:
        raise UserError(f"{name}.training.batch_size: {error}") from None
    cache = _device_cache(task, config.seed, mesh)
    channels = len(config.data.channels)
    slices = task.crop.box[0] if len(task.crop.box) == 3 else 1
    abstract = abstract_state(network, stage, channels)
    if init is not None:
        _refuse_other_network(name, abstract, init)
    with Checkpoints(folder / name / CHECKPOINTS) as checkpoints:
        checkpoints.check_room(abstract)
        restored = checkpoints.restore_latest(abstract)
        start = restored.step if restored else 0
        state = restored.state if restored else initial_state(network, stage, channels, config.seed)
        if init is not None and not restored:
            params = jax.tree.map(jax.numpy.asarray, init)
            state = state.replace(params=params, average=jax.tree.map(jax.numpy.copy, params))
        announce({
            "do": "stage", "stage": name, "start": start, "config": plain_config(config), "layout": cache.layout
        })  # fmt: skip
        state = share(from_leader(state), mesh)
        with (
            Journal(folder, name, total, start, slices_per_step=settings.batch_size * slices) as journal,
            stop_requests() as stop,
        ):
            for remark in restored.remarks if restored else ():
                journal.say(remark)
            if start:
                journal.say(f"{name}: resumed from step {start} of {total}")
            watch, examiner, votes = (
                _Watch(journal, name, checkpoints), _Examiner(task, folder / name, journal, stop), Votes(mesh)
            )  # fmt: skip

            def look(step: int, state: TrainState, metrics: Metrics | None = None) -> None:
                examiner.look(step, state)
                asked = bool(stop.signal)  # once: it may come any moment
                announce({"do": STOP if asked else ON})
                if asked and metrics is not None:  # of this very step, so that the resumed run validates it (again)
                    watch.save(step, state, metrics)
                push()
                if asked:
                    stop.carry_out()

            if is_due(settings.validate_every, start, total):  # a stop between a checkpoint and its validation must
                look(start, state)  # leave no hole
            for step in range(start + 1, total + 1):
                state, metrics = step_once(state, cache.at(step - 1))
                keep_pace(metrics, mesh)
                watch.flush()
                if step % settings.log_every == 0 or step in (1, total):
                    watch.note(step, metrics)
                # Voted once: a request that comes while this step is saved waits for the next.
                asked = votes.stop(bool(stop.signal), state.step)
                if step % settings.checkpoint_every == 0 or step == total or asked:
                    watch.save(step, state, metrics)
                    push()
                if asked:
                    stop.carry_out()
                if is_due(settings.validate_every, step, total):
                    watch.flush()
                    look(step, state, metrics)
            parameters, found, chosen = examiner.last_look(total, state)
            stop.carry_out_if_asked()
            seconds = journal.seconds
    return StageResult(jax.tree.map(np.asarray, parameters), found.figures, seconds, total, chosen)


def _device_cache(task: StageTask, seed: int, mesh: Mesh) -> DeviceCache | PhasedCache:
    """The stage's training cases; those on the coarser grid first, if it begins with them."""
    cases = [task.coarse, task.training] if task.coarse_until else [task.training]
    caches = [DeviceCache(part, task.settings.training, seed, mesh, task.crop.levels) for part in cases]
    return caches[0] if len(caches) == 1 else PhasedCache(caches[0], task.coarse_until, caches[1])


def is_due(every: int, step: int, total: int) -> bool:
    """Whether a validation in the course of training comes after a step."""
    return every > 0 and 0 < step < total and step % every == 0


def _refuse_other_network(stage: str, state: TrainState, init: Any) -> None:
    """Makes sure that a model's parameters are those of the state's network.

    Raises:
        UserError: another network.
    """
    found = misfits(init, state.params)
    if found:
        raise UserError(
            f"--init: the model's network differs from {stage}.network: {shortened(found)}; use the model's own "
            "network settings and channels"
        )
