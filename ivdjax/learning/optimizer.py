"""How gradients move parameters: a schedule, clipping, AdamW or SGD, by the configuration."""

from __future__ import annotations

from typing import Any

import jax
import optax

from ivdjax.config import OptimizerConfig


def learning_rate_schedule(settings: OptimizerConfig, steps: int) -> optax.Schedule:
    """Linear rise over `warmup_steps`, then a cosine down to `final_fraction` of the peak at the last of `steps`."""
    warmup = min(settings.warmup_steps, max(steps - 1, 0))
    return optax.warmup_cosine_decay_schedule(
        init_value=settings.learning_rate / (warmup + 1),
        peak_value=settings.learning_rate,
        warmup_steps=warmup,
        decay_steps=max(steps, warmup + 1),
        end_value=settings.learning_rate * settings.final_fraction,
    )


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
