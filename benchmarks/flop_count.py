"""Floating-point operations of a network: counted layer by layer, and as XLA counts them.

An operation is an addition or a multiplication. What counts as useful work are convolutions and dense layers alone; a
normalisation, a concatenation or an interpolation takes time, but a better program could do it in passing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def layer_flops(network: nn.Module, shape: tuple[int, ...]) -> list[tuple[str, int]]:
    """Path and operations of each layer with a kernel, in the order in which they run on input of a shape.

    A position of the output that reads beyond the edge is counted in full.
    """
    found: list[tuple[str, int]] = []

    def count(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        result = call(*args, **kwargs)
        module = context.module
        if context.method_name == "__call__" and module.has_variable("params", "kernel"):
            kernel = module.get_variable("params", "kernel")
            # Each value that goes in (transposed) or comes out takes part in one product with every tap.
            values, channels = (args[0], kernel.shape[-2]) if isinstance(module, nn.ConvTranspose) else (
                result, kernel.shape[-1]
            )  # fmt: skip
            found.append(("/".join(module.path), 2 * values.size // channels * math.prod(kernel.shape)))
        return result

    def forward(key: jax.Array, x: jax.Array) -> Any:
        params = network.init(key, x)
        found.clear()  # of the initialisation
        with nn.intercept_methods(count):
            return network.apply(params, x)

    jax.eval_shape(forward, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    return found


def forward_flops(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Operations of the convolutions and dense layers of one forward pass on input of a shape (N, ..., C)."""
    return sum(flops for _, flops in layer_flops(network, shape))


def step_flops(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Operations of the convolutions and dense layers of one training step on input of a shape (N, ..., C).

    Twice the forward pass again for the gradients of kernels and inputs; the first layer's input is the image, of which
    nobody asks the gradient. What is computed again to save memory does not count.
    """
    layers = layer_flops(network, shape)
    return 3 * sum(flops for _, flops in layers) - layers[0][1]


def xla_flops(lowered: jax.stages.Lowered) -> float | None:
    """Operations of a program as XLA counts them before it optimizes: all of them; None where it counts none.

    Taps that read beyond the edge do not count, interpolation written as a matrix product counts in full.
    """
    found = lowered.cost_analysis()
    return float(found["flops"]) if found and "flops" in found else None
