"""How a network computes while it learns: in which type, and what it keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ivdjax.config import TrainingConfig
from ivdjax.networks.layers import PRODUCT

Apply = Callable[..., tuple[jax.Array, jax.Array]]
"""A network's `apply`: ({"params": parameters}, boxes) to logits and auxiliary logits."""


def training_apply(apply: Apply, training: TrainingConfig) -> Apply:
    """The same function as `apply`, computed as `training.compute` and `training.remat` say.

    With bfloat16 the parameters and the boxes are rounded on their way in, so that gradients of parameters come out
    as float32; statistics of normalisations and the logits are float32 in the networks themselves. With `remat` the
    backward pass keeps the outputs of convolutions and products over channels, and computes again what lies between
    them: normalised maps and, in dense blocks, the concatenations, whose number of channels grows with the square of
    the layers (Pleiss et al., 2017, memory-efficient DenseNets).
    """
    compute = jnp.dtype(training.compute)

    def run(variables: Any, boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
        if compute != jnp.float32:
            variables, boxes = jax.tree.map(lambda leaf: leaf.astype(compute), (variables, boxes))
        return apply(variables, boxes)

    if not training.remat:
        return run
    kept: Apply = jax.checkpoint(run, policy=jax.checkpoint_policies.save_only_these_names(PRODUCT))
    return kept
