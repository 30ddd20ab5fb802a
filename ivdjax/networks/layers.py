"""Building blocks shared by the networks. Arrays are (N, H, W, C), channels last, unless said otherwise.

Every block normalises a new map once, right after its convolution, and not again in each layer that reads it: on a
dense block this is the same function class as the pre-activation order, at a fraction of the normalisations, which on
a CPU cost as much as the convolutions.

Every layer is named where it is made, here and in the networks, since weights are stored under these names: a new layer
gets a name of its own and renames no other. The numbers are those that Flax once gave in the order of making.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from ivdjax.networks.convolution import PlaneConv

PRODUCT = "product"
"""Name, for rematerialisation, of what convolutions and products over channels give: dear to compute, and few."""


class ConvUnit(nn.Module):
    """Convolution, group normalisation, ReLU: (N, H, W, C) to (N, H, W, features).

    A 1 x 1 kernel is computed as a matrix product, which XLA runs two to three times faster on a CPU.

    Attributes:
        features: channels of the result.
        kernel: side of the square kernel, odd.
        dilation: distance between the kernel's taps, in voxels.
        groups: channels in one group of the normalisation (fewer where `features` is not a multiple).
        slope: of the rectifier below zero.
    """

    features: int
    kernel: int = 3
    dilation: int = 1
    groups: int = 8
    slope: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The normalised, rectified convolution of `x`."""
        if self.kernel == 1:
            x = nn.Dense(self.features, use_bias=False, name="Dense_0")(x)
        else:
            x = PlaneConv(self.features, self.dilation, name="Conv_0")(x)
        x = GroupNorm(self.groups, name="GroupNorm_0")(checkpoint_name(x, PRODUCT))
        # A slope of zero would give the same but for rounding, and another derivative at zero.
        return nn.leaky_relu(x, self.slope) if self.slope else nn.relu(x)


class GroupNorm(nn.Module):
    """Group normalisation over space and `group_size` neighbouring channels, with scale and bias (Wu and He, 2018).

    Statistics are those of one sample, so that neither the batch nor the number of devices changes the result; they are
    float32 whatever the compute type. Sums are taken per channel first and the whole is applied as one
    multiply-add: measured 2 to 3 times faster than `flax.linen.GroupNorm` on a CPU, forward and backward.
    """

    group_size: int = 8

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, ..., C), any number of axes in space, to the same shape and type."""
        n, *space, channels = x.shape
        axes = tuple(range(1, x.ndim - 1))
        size = math.gcd(self.group_size, channels)
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        x32 = x.astype(jnp.float32)
        mean = x32.mean(axis=axes).reshape(n, channels // size, size).mean(axis=-1)
        square = (x32 * x32).mean(axis=axes).reshape(n, channels // size, size).mean(axis=-1)
        inverse = jax.lax.rsqrt(jnp.maximum(square - mean * mean, 0.0) + 1e-5)
        factor = jnp.repeat(inverse, size, axis=-1) * scale[None]
        offset = bias[None] - jnp.repeat(mean, size, axis=-1) * factor
        beside = (n, *(1 for _ in space), channels)
        return (x32 * factor.reshape(beside) + offset.reshape(beside)).astype(x.dtype)


class SqueezeExcitation(nn.Module):
    """Channel-wise attention (paper reference 7): each channel scaled by a factor 0 to 1 from its mean over the box.

    Attributes:
        ratio: reduction of the hidden layer; it keeps at least four units.
    """

    ratio: int = 4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, H, W, C) to the same shape."""
        channels = x.shape[-1]
        squeezed = x.mean(axis=(1, 2), keepdims=True)
        hidden = nn.relu(nn.Dense(max(channels // self.ratio, 4), name="Dense_0")(squeezed))
        return x * nn.sigmoid(nn.Dense(channels, name="Dense_1")(hidden))


class DenseBlock(nn.Module):
    """Densely connected layers (paper reference 8) with squeeze-and-excitation on their joint output.

    Each layer reads all maps before it and adds `growth` of its own: (N, H, W, C) to (N, H, W, C + layers * growth).

    Attributes:
        growth: channels a layer adds.
        layers: number of 3 x 3 layers.
        bottleneck: a 1 x 1 unit of `bottleneck * growth` channels comes before each 3 x 3 one; 0: none.
        se_ratio: reduction inside squeeze-and-excitation.
        groups: channels in one group of the normalisation.
    """

    growth: int
    layers: int
    bottleneck: int = 0
    se_ratio: int = 4
    groups: int = 8

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The input followed by what the layers add, each channel weighted by its attention."""
        units = 2 if self.bottleneck else 1  # of a layer
        for layer in range(self.layers):
            y, last = x, units * (layer + 1) - 1
            if self.bottleneck:
                y = ConvUnit(self.bottleneck * self.growth, 1, groups=self.groups, name=f"ConvUnit_{last - 1}")(x)
            x = jnp.concatenate([x, ConvUnit(self.growth, 3, groups=self.groups, name=f"ConvUnit_{last}")(y)], axis=-1)
        return SqueezeExcitation(self.se_ratio, name="SqueezeExcitation_0")(x)


class AtrousPyramid(nn.Module):
    """Dilated convolutions over one map; what each rate adds lies behind the input, in the order of the rates.

    (N, H, W, C) to (N, H, W, C + len(rates) * growth). The pyramids below differ in how the rates are connected. They
    are alike in channels and cost a rate, so that they can be compared in one network.

    Attributes:
        rates: dilation rates, rising.
        growth: channels a rate adds.
        groups: channels in one group of the normalisation.
    """

    rates: tuple[int, ...]
    growth: int
    groups: int = 8

    def _atrous(self, x: jax.Array, place: int, rate: int) -> jax.Array:
        """The rate at a place of the pyramid: (N, H, W, C) to (N, H, W, growth)."""
        # The 1 x 1 unit keeps the cost of the wide concatenation linear, as in DenseASPP's own layers.
        y = ConvUnit(2 * self.growth, 1, groups=self.groups, name=f"ConvUnit_{2 * place}")(x)
        return ConvUnit(self.growth, 3, rate, self.groups, name=f"ConvUnit_{2 * place + 1}")(y)


class DenseAtrousPyramid(AtrousPyramid):
    """Densely connected atrous spatial pyramid pooling (paper, section 2.1).

    Rate by rate, a dilated 3 x 3 convolution reads the input and the outputs of all smaller rates, so that one voxel of
    the result gathers every sum of the rates.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The input followed by what each rate adds."""
        for place, rate in enumerate(self.rates):
            x = jnp.concatenate([x, self._atrous(x, place, rate)], axis=-1)
        return x


class ParallelAtrousPyramid(AtrousPyramid):
    """Atrous spatial pyramid pooling as it was before the dense one (Chen et al., 2018): no rate reads another."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The input followed by what each rate makes of it."""
        maps = (self._atrous(x, place, rate) for place, rate in enumerate(self.rates))
        return jnp.concatenate([x, *maps], axis=-1)


class SerialAtrousPyramid(AtrousPyramid):
    """A cascade of atrous convolutions: each rate reads the output of the one before, the first reads the input."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The input followed by what each step of the cascade gives."""
        maps = [x]
        for place, rate in enumerate(self.rates):
            maps.append(self._atrous(maps[-1], place, rate))
        return jnp.concatenate(maps, axis=-1)


def halve(x: jax.Array) -> jax.Array:
    """Mean of each 2 x 2 square: (N, H, W, C) to (N, H / 2, W / 2, C); H and W must be even."""
    return nn.avg_pool(x, (2, 2), (2, 2))


def enlarge(x: jax.Array, factor: int) -> jax.Array:
    """Bilinear interpolation by a whole factor: (N, H, W, C) to (N, H * factor, W * factor, C)."""
    n, h, w, c = x.shape
    return jax.image.resize(x, (n, h * factor, w * factor, c), "bilinear")
