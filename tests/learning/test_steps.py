"""The compiled training step: golden numbers, its contract on randomness, and no difference between device counts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from ivdjax.config import (
    AugmentationConfig,
    DiscConfig,
    DiscNetConfig,
    LocalizationConfig,
    LossConfig,
    OptimizerConfig,
    TrainingConfig,
)
from ivdjax.learning.augmentation import Crop, DeviceVolumes, draw_sample
from ivdjax.learning.contrast import CLASSES, calmed
from ivdjax.learning.devices import data_mesh, share
from ivdjax.learning.losses import level_loss, level_overlap_sums, path_losses
from ivdjax.learning.steps import TrainState, build_predict, build_train_step, initial_state
from ivdjax.networks.disc_net import build_disc_net
from ivdjax.networks.layers import ConvUnit

STAGE = DiscConfig(
    network=DiscNetConfig(stem=4, growth=(4, 4, 4), layers=(1, 1, 1), aspp_rates=(1,), aspp_growth=4, path=(4, 4, 4),
                          path_layers=(0, 0, 0), groups=4),
    loss=LossConfig(cross_entropy_steps=2, gamma=2.0, alpha=(0.5, 1.0)),
    optimizer=OptimizerConfig(name="sgd", learning_rate=0.1, warmup_steps=0, weight_decay=0.0, average_decay=0.9),
    training=TrainingConfig(steps=8, batch_size=4, crop=(16, 16), calm_after=3),
)  # fmt: skip
CROP = Crop((16, 16), (1.25, 1.25), STAGE.training.disc_fraction)
AUGMENTATION = AugmentationConfig(elastic_mm=0, bias=0)
SEED = 3
NETWORK = build_disc_net(STAGE.network)


def device_volumes(ignore_above: tuple[int, int] = (0, 20)) -> DeviceVolumes:
    """Two volumes of noise with a bright bar as disc; the upper rows of the second take no part in the loss."""
    random = np.random.default_rng(0)
    image = random.integers(0, 120, (2, 4, 28, 24, 1)).astype(np.uint8)
    share_of_disc = np.zeros(image.shape[:-1], np.uint8)
    share_of_disc[:, :, 12:16, 6:18] = 255
    image[share_of_disc > 0] += 100
    counted = (np.arange(28)[:, None] >= np.reshape(ignore_above, (2, 1, 1, 1))) * np.ones(image.shape[:-1], np.uint8)
    extent = np.array([[4, 28, 24], [3, 24, 20]], np.int32)
    arrays = {
        "image": image, "target": share_of_disc, "counted": counted.astype(np.uint8), "extent": extent,
        "low": np.zeros((2, 3), np.int32), "high": extent - 1, "spacing_mm": np.float32([[4.0, 1.25, 1.25]] * 2),
        "centres": np.full((2, 15, 3), 12.0, np.float32), "discs": np.int32([1, 0]),
        "classes": np.zeros(share_of_disc.shape, np.uint8), "class_mean": np.zeros((2, CLASSES, 1), np.float32),
        "class_sd": np.zeros((2, CLASSES, 1), np.float32), "base": np.zeros(share_of_disc.shape, np.uint8),
        "made": np.zeros(2, np.int32),
    }  # fmt: skip
    return DeviceVolumes(**{name: jnp.asarray(array) for name, array in arrays.items()})


class Trainer:
    """The step on one device, compiled once, and the states it went through from the seed."""

    def __init__(self) -> None:
        mesh = data_mesh(jax.devices()[:1])
        self.device_volumes = share(device_volumes(), mesh)
        self.step = build_train_step(NETWORK.apply, STAGE, CROP, AUGMENTATION, SEED, mesh)
        self.states, self.metrics = [host(initial_state(NETWORK, STAGE, 1, SEED))], []
        state = share(self.states[0], mesh)
        for _ in range(4):
            state, metrics = self.step(state, self.device_volumes)
            self.states.append(host(state))
            self.metrics.append({name: float(value) for name, value in metrics.items()})


def host(state: TrainState) -> TrainState:
    return jax.tree.map(np.array, state)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return Trainer()


def assert_close(tree: Any, other: Any, tolerance: float = 1e-6) -> None:
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * max(np.abs(b).max(), 1e-3))


def test_first_step_gives_the_golden_numbers(trainer):
    first = trainer.metrics[0]
    # A change of these numbers is a change of what is trained: on purpose, or by mistake.
    assert first["loss"] == pytest.approx(0.4783416, rel=1e-4)
    assert first["gradient_norm"] == pytest.approx(0.4127924, rel=1e-4)
    assert first["learning_rate"] == pytest.approx(0.1, rel=1e-6)
    assert 0 <= first["dice"] <= 1


def test_samples_depend_on_seed_step_and_index_alone_and_calm_and_focal_loss_come_later(trainer):
    @partial(jax.jit, static_argnames="settings")
    def expected(params: Any, step: int, gamma: float, settings: AugmentationConfig) -> jax.Array:
        root = jax.random.fold_in(jax.random.key(SEED), step)
        keys = jax.vmap(lambda index: jax.random.fold_in(root, index))(jnp.arange(4))
        batch = jax.vmap(lambda k: draw_sample(k, device_volumes(), CROP, settings))(keys)
        fused, auxiliary = NETWORK.apply({"params": params}, batch.image)
        total, count = path_losses(fused, auxiliary, batch.target, batch.mask, (0.5, 1.0), gamma, 0.3)
        return total / count

    settings = [AUGMENTATION] * 3 + [calmed(AUGMENTATION)]
    losses = [expected(trainer.states[i].params, i, 0.0 if i < 2 else 2.0, settings[i]) for i in range(4)]
    np.testing.assert_allclose([metrics["loss"] for metrics in trainer.metrics], losses, rtol=1e-5)
    assert trainer.step._cache_size() == 1  # changes of loss and contrast, and all steps, take one compilation
    assert [int(state.step) for state in trainer.states] == [0, 1, 2, 3, 4]


def test_sgd_moves_by_rate_and_clipped_norm(trainer):
    moved = jax.tree.map(np.subtract, trainer.states[1].params, trainer.states[0].params)
    length = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(moved)))
    assert length == pytest.approx(0.1 * min(trainer.metrics[0]["gradient_norm"], 1.0), rel=1e-4)


def test_the_running_average_follows_the_parameters(trainer):
    before, after = trainer.states[0], trainer.states[1]
    assert_close(before.average, before.params)
    for step in range(3):  # it keeps (1 + step) / (10 + step) at first, and never more than the configured 0.9
        kept = min(0.9, (1 + step) / (10 + step))
        before, after = trainer.states[step], trainer.states[step + 1]
        assert_close(
            after.average, jax.tree.map(lambda a, p, k=kept: k * a + (1 - k) * p, before.average, after.params)
        )


def test_a_late_step_keeps_the_configured_share_of_the_average(trainer):
    late = trainer.states[1].replace(step=np.int32(1000))
    after, _ = trainer.step(share(late, data_mesh(jax.devices()[:1])), trainer.device_volumes)
    wanted = jax.tree.map(lambda a, p: 0.9 * a + 0.1 * np.asarray(p), late.average, after.params)
    assert_close(host(after).average, wanted)


def test_the_step_is_a_pure_function_of_its_arguments(trainer):
    again, metrics = trainer.step(share(trainer.states[2], data_mesh(jax.devices()[:1])), trainer.device_volumes)
    for a, b in zip(jax.tree.leaves(host(again)), jax.tree.leaves(trainer.states[3]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(metrics["loss"]) == trainer.metrics[2]["loss"]


def test_a_batch_in_which_nothing_takes_part_moves_nothing(trainer):
    mesh = data_mesh(jax.devices()[:1])
    masked = share(device_volumes(ignore_above=(99, 99)), mesh)
    after, metrics = trainer.step(share(trainer.states[0], mesh), masked)
    assert metrics["loss"] == 0 and metrics["gradient_norm"] == 0 and metrics["dice"] == 0
    assert_close(host(after).params, trainer.states[0].params, 0)


def test_training_lowers_the_loss_on_a_bright_bar(trainer):
    state, losses = share(trainer.states[0], data_mesh(jax.devices()[:1])), []
    for _ in range(2):  # the two steps of cross-entropy, again and again
        for _ in range(20):
            state, metrics = trainer.step(state.replace(step=jnp.mod(state.step, 2)), trainer.device_volumes)
        losses.append(float(metrics["loss"]))
    assert losses[1] < losses[0] < trainer.metrics[0]["loss"]


def test_the_initial_state_is_the_seed_s(trainer):
    again = host(initial_state(NETWORK, STAGE, 1, SEED))
    assert_close(again, trainer.states[0], 0)
    other = host(initial_state(NETWORK, STAGE, 1, SEED + 1))
    kernel = lambda state: state.params["ConvUnit_0"]["Conv_0"]["kernel"]  # noqa: E731
    assert not np.array_equal(kernel(other), kernel(again)) and again.step == 0


def test_a_batch_that_the_devices_do_not_divide_is_refused():
    stage = replace(STAGE, training=replace(STAGE.training, batch_size=5))
    with pytest.raises(ValueError, match="a batch of 5 cannot be divided over 2 devices"):
        build_train_step(NETWORK.apply, stage, CROP, AUGMENTATION, SEED, data_mesh(jax.devices()[:2]))


def test_prediction_is_the_probability_of_the_fused_output():
    def apply(variables: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        return variables["params"]["weight"] * x[..., 0] - 1.0, jnp.full((3, *x.shape[:3]), jnp.nan)

    boxes = np.random.default_rng(0).integers(0, 256, (2, 8, 4, 1), np.uint8)
    probability = build_predict(apply)({"weight": jnp.float32(3)}, boxes)
    assert probability.shape == (2, 8, 4) and probability.dtype == jnp.float32
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(1 - 3 * (boxes[..., 0] / 255))), rtol=1e-5)


class Levels(nn.Module):
    """Eight maps of a 3D box from each voxel alone."""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = nn.Dense(8)(x)
        return logits, jnp.zeros((0, *logits.shape))


def test_a_step_of_levels_learns_from_solid_boxes_and_counts_right_levels():
    stage = LocalizationConfig(
        loss=replace(STAGE.loss, alpha=(1.0, 2.0)), optimizer=STAGE.optimizer,
        training=replace(STAGE.training, batch_size=2, crop=(4, 16, 12)),
    )  # fmt: skip
    crop = Crop((4, 16, 12), (4.0, 1.25, 1.25), 0.5, levels=True)
    mesh, network = data_mesh(jax.devices()[:1]), Levels()
    whole = device_volumes()
    volumes = share(whole._replace(target=whole.target // 255 * 3), mesh)
    start = host(initial_state(network, stage, 1, SEED))
    step = build_train_step(network.apply, stage, crop, AUGMENTATION, SEED, mesh)

    @jax.jit
    def expected(params: Any) -> Any:
        root = jax.random.fold_in(jax.random.key(SEED), 0)
        keys = jax.vmap(lambda index: jax.random.fold_in(root, index))(jnp.arange(2))
        batch = jax.vmap(lambda k: draw_sample(k, volumes, crop, AUGMENTATION))(keys)
        logits, _ = network.apply({"params": params}, batch.image)
        return (
            level_loss(logits, batch.target, batch.mask, (1.0, 2.0), 0.0),
            level_overlap_sums(logits, batch.target, batch.mask),
        )

    (total, count), (common, both) = expected(start.params)
    state, losses = share(start, mesh), []
    for _ in range(60):
        state, metrics = step(state.replace(step=jnp.mod(state.step, 2)), volumes)
        losses.append(float(metrics["loss"]))
        if len(losses) == 1:
            assert float(metrics["dice"]) == pytest.approx(float(common / both), rel=1e-5)
    assert losses[0] == pytest.approx(float(total / count), rel=1e-5)
    assert losses[-1] < 0.8 * losses[0]


def test_prediction_of_levels_is_the_probability_of_each_class():
    def apply(variables: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = x * variables["params"]["weight"]
        return logits, jnp.zeros((0, *logits.shape))

    boxes = np.random.default_rng(0).integers(0, 256, (1, 2, 8, 4, 3), np.uint8)
    probability = build_predict(apply, levels=True)({"weight": jnp.float32(2)}, boxes)
    wanted = np.exp(2 * (boxes / 255))
    np.testing.assert_allclose(probability, wanted / wanted.sum(axis=-1, keepdims=True), rtol=1e-5)
    assert probability.dtype == jnp.float32


class Small(nn.Module):
    """Two maps of one convolution; enough where the devices are the subject, and quickly compiled."""

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        features = ConvUnit(4, 3, groups=4)(x)
        maps = nn.Dense(4)(features)
        return maps[..., 0], jnp.moveaxis(maps[..., 1:], -1, 0)
