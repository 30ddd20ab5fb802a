"""The compiled functions: one training step, and the probabilities of a batch of boxes.

The training step is a pure function of (state, volumes): random keys are folded from (seed, step, index in the
whole batch), so that neither a resume nor the number of devices changes what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.typing import ArrayLike

from ivdjax.config import AugmentationConfig, StageConfig
from ivdjax.learning.augmentation import Crop, DeviceVolumes, Sample, draw_sample
from ivdjax.learning.contrast import calmed
from ivdjax.learning.devices import AXIS, SHARED, map_devices, per_device_batch
from ivdjax.learning.losses import level_loss, level_overlap_sums, overlap_sums, path_losses, tissue_loss
from ivdjax.learning.optimizer import build_optimizer, learning_rate_schedule
from ivdjax.learning.precision import Apply, training_apply

Params = Any
Metrics = dict[str, jax.Array]


class TrainState(flax.struct.PyTreeNode):
    """All that training carries from step to step.

    Attributes:
        step: int32, number of steps done.
        params: parameters of the network.
        optimizer: state of the optimizer.
        average: running average of the parameters, which is validated and shipped.
    """

    step: jax.Array
    params: Params
    optimizer: Any
    average: Params


def initial_state(network: Any, stage: StageConfig, channels: int, seed: int) -> TrainState:
    """The state before the first step, the same for the same seed."""
    # Compiled, the forward pass that nobody asked for is left out, and one program is built in place of hundreds. It
    # runs once: optimizing it would cost far more than it saves (measured: 35 s against 9 s on a busy machine).
    draw = jax.jit(partial(_begin, network, stage, channels), compiler_options={"xla_backend_optimization_level": "0"})
    state: TrainState = draw(jax.random.key(seed))
    return state


def abstract_state(network: Any, stage: StageConfig, channels: int) -> TrainState:
    """Shapes and types of a state, without computing one."""
    state: TrainState = jax.eval_shape(partial(_begin, network, stage, channels), jax.random.key(0))
    return state


def _begin(network: Any, stage: StageConfig, channels: int, key: jax.Array) -> TrainState:
    params = network.init(key, jnp.zeros((1, *stage.training.crop, channels)))["params"]
    optimizer = build_optimizer(stage.optimizer, stage.training.steps).init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer, jax.tree.map(jnp.copy, params))


def build_train_step(
    apply: Apply, stage: StageConfig, crop: Crop, augmentation: AugmentationConfig, seed: int, mesh: Mesh
) -> Callable[[TrainState, DeviceVolumes], tuple[TrainState, Metrics]]:
    """The compiled step: draws a batch, moves the parameters, gives loss, dice, gradient_norm and learning_rate.

    The state is donated. Losses and gradients are sums over all devices and micro-batches, divided once by the voxels
    that took part. `crop` says what samples are like, and by its `levels` whether one class is learned or several.

    Raises:
        ValueError: the devices, and the micro-batches of each, do not divide the batch.
    """
    device_step = build_device_step(apply, stage, crop, augmentation, seed, mesh.devices.size)
    mapped = map_devices(device_step, mesh, (SHARED, SHARED), (SHARED, SHARED))
    return jax.jit(mapped, donate_argnums=0)


def build_loss(
    apply: Apply, stage: StageConfig, levels: bool
) -> Callable[[Params, Sample, jax.Array], tuple[jax.Array, tuple[jax.Array, ...]]]:
    """The loss of a batch as a function of (parameters, batch, step): cross-entropy first, focal loss later.

    It gives a sum over voxels and, beside it, the number of voxels that count, the voxels that target and prediction
    share (by level, with `levels`), and those of both together.
    """
    compute = training_apply(apply, stage.training)

    def loss(params: Params, batch: Sample, step: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        gamma = jnp.where(step < stage.loss.cross_entropy_steps, 0.0, stage.loss.gamma)
        fused, auxiliary = compute({"params": params}, batch.image)
        if levels:
            total, count = level_loss(fused, batch.target, batch.mask, stage.loss.alpha, gamma)
            return total, (count, *level_overlap_sums(fused, batch.target, batch.mask))
        several = fused.ndim > batch.mask.ndim
        disc, aside = (fused[..., 0], auxiliary[..., 0]) if several else (fused, auxiliary)
        how = (stage.loss.alpha, gamma, stage.loss.auxiliary)
        total, count = path_losses(disc, aside, batch.target, batch.mask, *how)
        if several:
            others = tissue_loss(fused[..., 1:], auxiliary[..., 1:], batch.tissues, batch.tissue_mask, *how)
            total += stage.loss.tissues * others
        return total, (count, *overlap_sums(disc, batch.target, batch.mask))

    return loss


def build_device_step(
    apply: Apply, stage: StageConfig, crop: Crop, augmentation: AugmentationConfig, seed: int, devices: int
) -> Callable[[TrainState, DeviceVolumes], tuple[TrainState, Metrics]]:
    """What each of so many devices does in a step, for `map_devices` (or `jax.pmap`) over the axis `AXIS`.

    Raises:
        ValueError: as `build_train_step`.
    """
    local = per_device_batch(stage.training.batch_size, devices, stage.training.micro_batches)
    parts = stage.training.micro_batches
    optimizer = build_optimizer(stage.optimizer, stage.training.steps)
    schedule = learning_rate_schedule(stage.optimizer, stage.training.steps)
    loss = build_loss(apply, stage, crop.levels)

    def draw(step: jax.Array, index: jax.Array, volumes: DeviceVolumes) -> Sample:
        root = jax.random.fold_in(jax.random.key(seed), step)
        keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(index)

        def drawn(settings: AugmentationConfig) -> Sample:
            return jax.vmap(lambda k: draw_sample(k, volumes, crop, settings))(keys)

        after = stage.training.calm_after
        if not after:
            return drawn(augmentation)
        return jax.lax.cond(step < after, lambda: drawn(augmentation), lambda: drawn(calmed(augmentation)))

    def device_step(state: TrainState, volumes: DeviceVolumes) -> tuple[TrainState, Metrics]:
        def part_sums(index: jax.Array) -> Any:
            """((loss, others), gradients), all sums, over the samples of these places in the whole batch."""
            batch = draw(state.step, index, volumes)
            return jax.value_and_grad(loss, has_aux=True)(state.params, batch, state.step)

        index = jax.lax.axis_index(AXIS) * local + jnp.arange(local)
        sums = _sum_over(part_sums, index.reshape(parts, local // parts))
        (total, (count, common, both)), gradients = jax.lax.psum(sums, AXIS)
        count = jnp.maximum(count, 1.0)
        gradients = jax.tree.map(lambda g: g / count, gradients)
        updates, moved = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        average = _averaged(state.average, params, state.step, stage.optimizer.average_decay)
        metrics = {
            "loss": total / count,
            "dice": common / jnp.maximum(both, 1.0),
            "gradient_norm": optax.tree.norm(gradients),
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
        }
        return TrainState(state.step + 1, params, moved, average), metrics

    return device_step


def _sum_over(sums: Callable[[jax.Array], Any], parts: jax.Array) -> Any:
    """The sum of a tree of sums over the rows of `parts`, one after the other, in the memory of one."""
    if len(parts) == 1:
        return sums(parts[0])
    start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(sums, parts[0]))

    def add(so_far: Any, part: jax.Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, so_far, sums(part)), None

    # XLA's loops on the CPU run a convolution seven times as long as outside of one (measured); there it is unrolled.
    return jax.lax.scan(add, start, parts, unroll=jax.default_backend() == "cpu")[0]


def build_predict(apply: Apply, levels: bool = False) -> jax.stages.Wrapped:
    """The compiled prediction: parameters and uint8 boxes (N, ..., C) give probabilities.

    Of disc (N, H, W), or of each output (N, H, W, K) of a network that has several; with `levels` of each class,
    (N, D, H, W, K), class 0 being background.
    """

    def predict(params: Params, boxes: ArrayLike) -> jax.Array:
        logits, _ = apply({"params": params}, jnp.asarray(boxes).astype(jnp.float32) / 255.0)
        return jax.nn.softmax(logits) if levels else jax.nn.sigmoid(logits)

    return jax.jit(predict)


def _averaged(average: Params, params: Params, step: jax.Array, decay: float) -> Params:
    """The running average after a step; early on it forgets faster, so that the random start leaves no trace."""
    if decay == 0:
        return params
    kept = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return optax.incremental_update(params, average, 1.0 - kept)
