"""The 3 x 3 convolution of all networks, written so that XLA's programs for a CPU are fast; the result is the same.

Measured with jaxlib 0.10.2 on AMD cores with AVX-512, for one thread. Elsewhere than on a CPU nothing is rewritten.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

_SLOW_CHANNELS = range(9, 17)
"""Channels that XLA leaves to a kernel of a third of the matrix rate; fewer are fast enough, more go to YNNPACK."""

_FAST_CHANNELS = 20
"""To which those are filled up with zeros, which saves a quarter to a half of the time (24 channels save less)."""

_WIDE = 32
"""Channels from which on the gradient of a kernel can be faster as a product of matrices."""


class PlaneConv(nn.Module):
    """A 3 x 3 convolution without bias: (N, H, W, C) to (N, H, W, features).

    Attributes:
        features: channels of the result.
        dilation: distance between the kernel's taps, in voxels.
    """

    features: int
    dilation: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The convolution; what lies outside is zero."""
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        return convolved(x, kernel.astype(x.dtype), self.dilation)


def convolved(x: jax.Array, kernel: jax.Array, dilation: int = 1) -> jax.Array:
    """Maps (N, H, W, C) convolved with a kernel (3, 3, C, K) whose taps lie so far apart: (N, H, W, K)."""
    return _for_cpu(x, kernel, dilation) if jax.default_backend() == "cpu" else _plain(x, kernel, dilation)


def _plain(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", rhs_dilation=(dilation, dilation), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _filled_up(x: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    """The convolution with a number of channels that XLA is fast with."""
    if x.shape[-1] in _SLOW_CHANNELS:
        missing = (0, _FAST_CHANNELS - x.shape[-1])
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), missing))
        kernel = jnp.pad(kernel, ((0, 0), (0, 0), missing, (0, 0)))
    return _plain(x, kernel, dilation)


def _forward(x: jax.Array, kernel: jax.Array, dilation: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _filled_up(x, kernel, dilation), (x, kernel)


def _backward(dilation: int, kept: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = kept
    of_input = _filled_up(g, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), dilation)
    return of_input, _kernel_gradient(x, g, kernel, dilation)


def _kernel_gradient(x: jax.Array, g: jax.Array, kernel: jax.Array, dilation: int) -> jax.Array:
    """XLA's own; where wide maps have far more channels than the result, a product with shifted copies of its gradient.

    XLA copies the maps once for each tap, so that the fewer channels of the gradient are better copied: 3.6 instead of
    6.4 ms from 160 to 24 channels of 4 x 48 x 32 voxels, 7.7 instead of 10.2 from 64 to 16 of 4 x 96 x 64.
    """
    channels, features = kernel.shape[2:]
    if channels < _WIDE or channels <= 2 * features:
        (own,) = jax.linear_transpose(lambda k: _plain(x, k, dilation), kernel)(g)
        return own
    h, w = g.shape[1:3]
    wide = jnp.pad(g, ((0, 0), (dilation, dilation), (dilation, dilation), (0, 0)))
    offsets = (2 * dilation, dilation, 0)
    copies = jnp.concatenate([wide[:, i : i + h, j : j + w] for i in offsets for j in offsets], axis=-1)
    product = jnp.tensordot(x, copies, axes=((0, 1, 2), (0, 1, 2)))
    return product.reshape(channels, 3, 3, features).transpose(1, 2, 0, 3)


_for_cpu = jax.custom_vjp(_filled_up, nondiff_argnums=(2,))
_for_cpu.defvjp(_forward, _backward)
