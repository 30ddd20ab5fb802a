"""Training of one stage: the loop from the last checkpoint to the last step."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np

from ivdjax.config import Config
from ivdjax.data.preparation import Prepared
from ivdjax.learning.checkpoint import Checkpoints
from ivdjax.learning.devices import data_mesh, share
from ivdjax.learning.steps import Metrics, TrainState, abstract_state, build_train_step, initial_state
from ivdjax.volume import UserError
from ivdjax.workflows.commands import Terminated
from ivdjax.workflows.journal import Journal
from ivdjax.workflows.residents import ResidentSets
from ivdjax.workflows.segmentation import Predict
from ivdjax.workflows.tasks import StageTask


@dataclass(frozen=True)
class StageResult:
    """What a stage came to.

    Attributes:
        parameters: the running average of the parameters, as NumPy arrays.
        validation: figures of the last validation; empty without held-out cases.
        seconds: of training and validation, over all sittings.
        steps: optimizer steps done.
    """

    parameters: Any
    validation: dict[str, float]
    seconds: float
    steps: int


@dataclass
class _Stop:
    """A request to stop that arrived by a signal; the step under way is finished first."""

    signal: int = 0

    def raise_if_asked(self) -> None:
        """Raises what the signal stands for."""
        if self.signal == signal.SIGTERM:
            raise Terminated
        if self.signal:
            raise KeyboardInterrupt


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
        self.checkpoints.save(step, state)

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
            "or look at the images for values that are no numbers"
        )


def train_stage(config: Config, task: StageTask, folder: Path, init: Any | None = None) -> StageResult:
    """Trains one stage in `<folder>/<stage>/`, from its last checkpoint if there is one.

    Args:
        config: of the run.
        task: what the stage learns.
        folder: of the run.
        init: parameters to begin with, as in a model; None: random ones.

    Raises:
        UserError: `init` does not fit the network, no case, or the devices do not divide the batch.
        FloatingPointError: the loss is no longer a finite number.
        OSError: a checkpoint or the journal could not be written.
        Terminated: SIGTERM arrived; KeyboardInterrupt: Ctrl-C. The state is saved before either.
    """
    name, stage, network = task.name, task.settings, task.network
    settings = stage.training
    total, every = settings.steps, settings.validate_every
    mesh = data_mesh()
    try:
        step_once = build_train_step(network.apply, stage, task.crop, config.augmentation, config.seed, mesh)
    except ValueError as error:
        raise UserError(f"{name}.training.batch_size: {error}") from None
    predict = task.predict
    residents = ResidentSets(task.training, settings, config.seed, mesh, task.crop.levels)
    channels = len(config.data.channels)
    slices = task.crop.box[0] if len(task.crop.box) == 3 else 1
    abstract = abstract_state(network, stage, channels)
    if init is not None:
        _refuse_other_network(name, abstract, init)
    with Checkpoints(folder / name / "checkpoints") as checkpoints:
        restored = checkpoints.restore_latest(abstract)
        start = restored.step if restored else 0
        state = restored.state if restored else initial_state(network, stage, channels, config.seed)
        if init is not None and not restored:
            params = jax.tree.map(jax.numpy.asarray, init)
            state = state.replace(params=params, average=jax.tree.map(jax.numpy.copy, params))
        state = share(state, mesh)
        with (
            Journal(folder, name, total, start, slices_per_step=settings.batch_size * slices) as journal,
            _stop_requests() as stop,
        ):
            for remark in restored.remarks if restored else ():
                journal.say(remark)
            if start:
                journal.say(f"{name}: resumed from step {start} of {total}")
            watch = _Watch(journal, name, checkpoints)

            def validate(step: int, cases: Sequence[Prepared]) -> dict[str, float]:
                figures = _validate(task, cases, predict, state.average, stop)
                if figures:
                    journal.validation(step, figures)
                return figures

            def is_due(step: int) -> bool:
                return every > 0 and step > 0 and step % every == 0 and step < total

            if is_due(start):  # a stop between a checkpoint and its validation must leave no hole
                validate(start, task.held_out[: settings.validation_cases])
            for step in range(start + 1, total + 1):
                state, metrics = step_once(state, residents.at(step - 1))
                watch.flush()
                if step % settings.log_every == 0 or step == total:
                    watch.note(step, metrics)
                asked = bool(stop.signal)  # read once: a request that comes while this step is saved waits for the next
                if step % settings.checkpoint_every == 0 or step == total or asked:
                    watch.save(step, state, metrics)
                if asked:
                    stop.raise_if_asked()
                if is_due(step):
                    watch.flush()
                    validate(step, task.held_out[: settings.validation_cases])
            figures = validate(total, task.held_out)
            stop.raise_if_asked()
            seconds = journal.seconds
    return StageResult(jax.tree.map(np.asarray, state.average), figures, seconds, total)


def _validate(
    task: StageTask, cases: Sequence[Prepared], predict: Predict, params: Any, stop: _Stop
) -> dict[str, float]:
    """Mean and worst of the stage's figure over the held-out cases with outlined discs.

    Nothing without such a case, and nothing once a stop is asked for.
    """
    scores = []
    for case in cases:
        if stop.signal:
            return {}
        if case.labels is not None and case.labels.any():
            scores.append(task.score(predict, params, case))
    return {task.figure: float(np.mean(scores)), f"worst_{task.figure}": float(min(scores))} if scores else {}


def _refuse_other_network(stage: str, state: TrainState, init: Any) -> None:
    """Makes sure that a model's parameters are those of the state's network.

    Raises:
        UserError: another network.
    """
    wanted = {
        jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(state.params)
    }
    given = {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(init)}
    if wanted != given:
        odd = sorted(k for k in wanted.keys() | given.keys() if wanted.get(k) != given.get(k))[0]
        raise UserError(
            f"--init: the model's network differs from {stage}.network at {odd}: {given.get(odd, 'nothing')} in the "
            f"model, {wanted.get(odd, 'nothing')} here; use the model's own network settings and channels"
        )


@contextmanager
def _stop_requests() -> Iterator[_Stop]:
    """Ctrl-C and SIGTERM as requests, so that a step is never torn; a second one raises at once."""
    stop = _Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.signal:
            stop.raise_if_asked()
        stop.signal = number

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, previous in before.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
