"""The compiled programs of ivdjax that a benchmark times: augmentation, forward pass, gradient, whole training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.flop_count import xla_flops
from benchmarks.random_volumes import random_volumes
from ivdjax.config import Config
from ivdjax.learning.augmentation import Sample, draw_sample
from ivdjax.learning.devices import data_mesh, share
from ivdjax.learning.precision import training_apply
from ivdjax.learning.steps import build_loss, build_train_step, initial_state
from ivdjax.model.stages import stage_crop, stage_settings
from ivdjax.model.tasks import stage_network

WORKS: tuple[str, ...] = ("augmentation", "forward", "forward+backward", "step")
"""What is timed. A step of ivdjax draws and augments its own batch; the two before it get a ready one."""


@dataclass(frozen=True)
class FlaxProgram:
    """One compiled program with its arguments in place.

    Attributes:
        call: runs it once.
        temporary_mib: memory beside arguments and results; None where the compiler does not tell.
        flops: as XLA counts them; None where it counts none.
    """

    call: Callable[[], Any]
    temporary_mib: float | None
    flops: float | None


class FlaxTraining:
    """A stage's training on one device and random volumes, as `train.py` runs it.

    Attributes:
        stage: its configuration.
        network: its module.
        shape: of a batch of boxes, (N, ..., C).
        params: the first parameters, as NumPy arrays.
        batch: the ready batch, augmented, as NumPy arrays.
    """

    def __init__(self, config: Config, stage: str, cases: int) -> None:
        self.stage = stage_settings(config, stage)
        self.network = stage_network(config, stage)
        self.shape = (self.stage.training.batch_size, *self.stage.training.crop, len(config.data.channels))
        self._config, self._crop = config, stage_crop(config, stage)
        self._mesh = data_mesh(jax.devices()[:1])
        self._volumes = share(random_volumes(self._crop, self.shape[-1], cases), self._mesh)
        self._state = share(initial_state(self.network, self.stage, self.shape[-1], config.seed), self._mesh)
        self._ready: Sample = jax.jit(self._draw)(0, self._volumes)
        self.params = jax.tree.map(np.array, self._state.params)
        self.batch = jax.tree.map(np.asarray, self._ready)
        self._apply = training_apply(self.network.apply, self.stage.training)
        self._batch_loss = build_loss(self.network.apply, self.stage, self._crop.levels)

    def program(self, work: str) -> FlaxProgram:
        """One of `WORKS`, compiled.

        Raises:
            ValueError: another name.
        """
        params = jax.tree.map(jnp.array, self.params)
        if work == "augmentation":
            return _program(jax.jit(self._draw).lower(jnp.int32(0), self._volumes), self._drawing)
        if work in ("forward", "forward+backward"):
            function = self._forward if work == "forward" else jax.value_and_grad(self._loss)
            return _program(jax.jit(function).lower(params, self._ready), self._with_batch(params))
        if work != "step":
            raise ValueError(f"{work} is not timed; known are {', '.join(WORKS)}")
        step: Any = build_train_step(
            self.network.apply, self.stage, self._crop, self._config.augmentation, self._config.seed, self._mesh
        )
        return _program(step.lower(self._state, self._volumes), self._stepping)

    def _draw(self, step: jax.Array | int, volumes: Any) -> Sample:
        """A batch, drawn as in the training step."""
        root = jax.random.fold_in(jax.random.key(self._config.seed), step)
        keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.arange(self.shape[0]))
        return jax.vmap(lambda k: draw_sample(k, volumes, self._crop, self._config.augmentation))(keys)

    def _forward(self, params: Any, batch: Sample) -> tuple[jax.Array, jax.Array]:
        return self._apply({"params": params}, batch.image)

    def _loss(self, params: Any, batch: Sample) -> jax.Array:
        total, (count, *_) = self._batch_loss(params, batch, jnp.int32(self.stage.loss.cross_entropy_steps))
        return total / jnp.maximum(count, 1.0)

    def _drawing(self, run: Callable[..., Any]) -> Callable[[], Any]:
        """Another batch at each call."""
        steps = iter(range(1 << 30))
        return lambda: run(jnp.int32(next(steps)), self._volumes)

    def _with_batch(self, params: Any) -> Callable[[Callable[..., Any]], Callable[[], Any]]:
        return lambda run: lambda: run(params, self._ready)

    def _stepping(self, run: Callable[..., Any]) -> Callable[[], Any]:
        """The next step at each call; gives its metrics."""

        def step() -> Any:
            self._state, metrics = run(self._state, self._volumes)
            return metrics

        return step


def _program(lowered: jax.stages.Lowered, bind: Callable[[Callable[..., Any]], Callable[[], Any]]) -> FlaxProgram:
    compiled = lowered.compile()
    memory = compiled.memory_analysis()
    temporary = None if memory is None else memory.temp_size_in_bytes / 2**20
    return FlaxProgram(bind(compiled), temporary, xla_flops(lowered))


def product_rate_call(size: int, compute: str) -> Callable[[], jax.Array]:
    """A product of two random square matrices of a size in a compute type, compiled; 2 * size**3 operations."""
    random = np.random.default_rng(0)
    a, b = (jnp.asarray(random.standard_normal((size, size), np.float32), jnp.dtype(compute)) for _ in range(2))
    run = jax.jit(jnp.matmul).lower(a, b).compile()
    return lambda: run(a, b)


def with_training(config: Config, stage: str, batch: int, compute: str) -> Config:
    """The configuration with another batch size and compute type in one stage."""
    settings = stage_settings(config, stage)
    training = replace(settings.training, batch_size=batch, compute=compute)
    changed: dict[str, Any] = {stage: replace(settings, training=training)}
    return replace(config, **changed)
