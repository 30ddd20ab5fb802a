"""The training step over devices and micro-batches: that of one device on the whole batch, and of `jax.pmap`."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivdjax.config import StageConfig
from ivdjax.learning.augmentation import draw_sample
from ivdjax.learning.devices import AXIS, data_mesh, share
from ivdjax.learning.losses import path_losses
from ivdjax.learning.optimizer import build_optimizer
from ivdjax.learning.steps import Metrics, TrainState, build_device_step, build_train_step
from tests.learning.test_steps import AUGMENTATION, CROP, SEED, STAGE, Small, assert_close, device_volumes, host

BATCH = 8
NETWORK = Small()
VOLUMES = device_volumes(ignore_above=(0, 14))  # masks of different sizes: a mean of means would be wrong


def stage(**training: Any) -> StageConfig:
    # No clipping: it would hide a gradient that is too large by a factor. A rate of one: a step is the gradient.
    return replace(
        STAGE, training=replace(STAGE.training, batch_size=BATCH, **training),
        optimizer=replace(STAGE.optimizer, learning_rate=1.0, momentum=0.0, clip_norm=1e9),
    )  # fmt: skip


def start() -> TrainState:
    random = np.random.default_rng(0)
    wanted = jax.eval_shape(NETWORK.init, jax.random.key(0), np.zeros((1, 16, 16, 1), np.float32))["params"]
    params = jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), wanted)
    optimizer = build_optimizer(stage().optimizer, STAGE.training.steps).init(params)
    return host(TrainState(np.int32(0), params, optimizer, params))


@cache
def run(devices: int, steps: int = 3, micro_batches: int = 1) -> tuple[list[TrainState], list[Metrics]]:
    """States and metrics after each step; compiled and run once for all tests that look at the same."""
    mesh = data_mesh(jax.devices()[:devices])
    step = build_train_step(NETWORK.apply, stage(micro_batches=micro_batches), CROP, AUGMENTATION, SEED, mesh)
    state, volumes = share(start(), mesh), share(VOLUMES, mesh)
    states, metrics = [], []
    for _ in range(steps):
        state, numbers = step(state, volumes)
        states.append(host(state))
        metrics.append({name: np.array(value) for name, value in numbers.items()})
    assert step._cache_size() == 1
    return states, metrics


@pytest.fixture(scope="module")
def alone() -> tuple[list[TrainState], list[Metrics]]:
    return run(1)


def gradient(states: list[TrainState]) -> Any:
    """The gradient of the first step, from what it moved."""
    return jax.tree.map(lambda after, before: before - after, states[0].params, start().params)


def test_steps_on_several_devices_equal_those_of_one(alone):
    states, metrics = run(4)
    np.testing.assert_allclose(metrics[0]["loss"], alone[1][0]["loss"], rtol=1e-5)
    assert_close(metrics[0]["gradient_norm"], alone[1][0]["gradient_norm"], 1e-5)
    assert_close(gradient(states), gradient(alone[0]), 1e-5)
    assert_close(states[2].params, alone[0][2].params, 1e-5)
    assert_close(states[2].average, alone[0][2].average, 1e-5)
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), states[2].params, start().params))
    assert max(moved) > 0.01


def test_a_step_on_four_devices_equals_that_of_pmap_bit_for_bit():
    device_step = build_device_step(NETWORK.apply, stage(), CROP, AUGMENTATION, SEED, 4)
    mapped = jax.pmap(device_step, axis_name=AXIS, devices=jax.devices()[:4])
    wide = jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * 4), (start(), VOLUMES))
    states, metrics = run(4)
    state, volumes = wide
    for step in range(3):
        state, numbers = mapped(state, volumes)
        for ours, theirs in zip(jax.tree.leaves(states[step]), jax.tree.leaves(state), strict=True):
            for device in range(4):
                np.testing.assert_array_equal(ours, np.asarray(theirs)[device])
        for name, value in numbers.items():
            np.testing.assert_array_equal(metrics[step][name], np.asarray(value)[0])


@pytest.mark.parametrize(("devices", "parts"), [(1, 2), (4, 2)])
def test_accumulated_micro_batches_on_devices_equal_the_whole_batch(alone, devices, parts):
    states, metrics = run(devices, micro_batches=parts)
    np.testing.assert_allclose(metrics[0]["loss"], alone[1][0]["loss"], rtol=1e-5)
    np.testing.assert_allclose(metrics[0]["dice"], alone[1][0]["dice"], rtol=1e-5)
    assert_close(gradient(states), gradient(alone[0]), 1e-5)
    assert_close(states[2].params, alone[0][2].params, 1e-5)


def test_the_accumulated_gradient_is_that_of_all_masked_losses_over_all_that_counts(alone):
    @jax.jit
    def whole(params: Any) -> Any:
        root = jax.random.fold_in(jax.random.key(SEED), 0)
        keys = jax.vmap(lambda index: jax.random.fold_in(root, index))(jnp.arange(BATCH))
        batch = jax.vmap(lambda key: draw_sample(key, VOLUMES, CROP, AUGMENTATION))(keys)

        def loss(params: Any) -> jax.Array:
            fused, auxiliary = NETWORK.apply({"params": params}, batch.image)
            total, count = path_losses(fused, auxiliary, batch.target, batch.mask, (0.5, 1.0), 0.0, 0.3)
            return total / count

        return jax.grad(loss)(params), batch.mask.sum(axis=(1, 2))

    wanted, counts = whole(start().params)
    assert len(set(np.asarray(counts).tolist())) > 2  # the masks differ, or this would show nothing
    assert_close(gradient(run(4, micro_batches=2)[0]), wanted, 1e-5)


def test_a_batch_that_devices_or_micro_batches_do_not_divide_is_refused_with_the_numbers():
    mesh = data_mesh(jax.devices()[:3])
    with pytest.raises(ValueError, match="a batch of 8 cannot be divided over 3 devices; use a multiple of 3"):
        build_train_step(NETWORK.apply, stage(), CROP, AUGMENTATION, SEED, mesh)
    mesh = data_mesh(jax.devices()[:4])
    with pytest.raises(ValueError, match="leaves 2 samples to each of 4 devices.*into 4 micro-batches.*multiple of 16"):
        build_train_step(NETWORK.apply, stage(micro_batches=4), CROP, AUGMENTATION, SEED, mesh)


def test_micro_batches_of_accelerators_run_in_a_loop_with_the_same_result(alone, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # on the CPU the loop is unrolled
    states, _ = run(1, steps=1, micro_batches=4)
    assert_close(gradient(states), gradient(alone[0]), 1e-5)
