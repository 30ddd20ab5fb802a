"""How gradients move parameters: a schedule, clipping, AdamW or SGD, by the configuration."""

from __future__ import annotations

from typing import Any

import jax
import optax

from ivdjax.config import OptimizerConfig


def learning_rate_schedule(settings: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear rise over `warmup_steps`, then a cosine down to `final_fraction` of the peak at the last of `steps`.

    With `decay_steps` the rate stays at the peak between the rise and these last steps.
    """
    warmup, fall_begins = _warmup(settings, steps), first_falling_step(settings, steps)
    rise = optax.linear_schedule(settings.learning_rate / (warmup + 1), settings.learning_rate, warmup)
    fall = optax.cosine_decay_schedule(settings.learning_rate, max(steps - fall_begins, 1), settings.final_fraction)
    stay = optax.constant_schedule(settings.learning_rate)
    return optax.join_schedules([rise, stay, fall], [warmup, fall_begins])


def first_falling_step(settings: OptimizerConfig, steps: int) -> int:
    """The number of steps after which the rate begins to fall; up to there it is the same for any larger `steps`."""
    warmup = _warmup(settings, steps)
    return max(warmup, steps - settings.decay_steps) if settings.decay_steps else warmup


def _warmup(settings: OptimizerConfig, steps: int) -> int:
    return min(settings.warmup_steps, max(steps - 1, 0))


def build_optimizer(settings: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The configured optimizer. Weight decay acts on kernels only (arrays of two or more axes), never on biases."""
    rate = learning_rate_schedule(settings, steps)
    if settings.name == "adamw":
        move = optax.adamw(rate, weight_decay=settings.weight_decay, mask=_kernels)
    else:
        move = optax.chain(
            optax.add_decayed_weights(settings.weight_decay, mask=_kernels),
            optax.sgd(rate, momentum=settings.momentum or None),
        )
    return optax.chain(optax.clip_by_global_norm(settings.clip_norm), move)


def _kernels(params: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
