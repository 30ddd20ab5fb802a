"""A plain 2D U-Net (paper, section 2.3 and reference 13): finds the spine region, and compares with `disc_net`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from ivdjax.config import UNetConfig
from ivdjax.networks.layers import ConvUnit, enlarge, halve

SLOPE = 0.1
"""Of the rectifiers below zero: a voxel whose features all vanished would learn from the bias alone."""


class UNet(nn.Module):
    """One logit for each voxel and output of 2D boxes, from any number of channels.

    On the way down each resolution has its convolutions and then a mean over 2 x 2 squares; on the way up the coarser
    map is reduced, enlarged and laid beside the map of the same resolution from the way down.

    Attributes:
        settings: widths and depth.
        outputs: how many things are outlined.
    """

    settings: UNetConfig
    outputs: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Logits, and no auxiliary ones.

        Args:
            x: boxes (N, H, W, C) with intensities 0 to 1; H and W divisible by 2 to the number of downsamplings.

        Returns:
            Logits (N, H, W, K), and an empty array (0, N, H, W, K) in the place of `DiscNet`'s auxiliary logits, both
            float32. One output has no last axis.

        Raises:
            ValueError: H or W is not divisible by 2 to the number of downsamplings.
        """
        h, w = x.shape[1:3]
        stride = 2**self.settings.downsamplings
        if h % stride or w % stride:
            raise ValueError(f"a box must be divisible by {stride} in height and width, not {h} x {w}")
        layers, x = self.settings.layers, self._layers(0, 4.0 * x - 2.0, 0)
        skips = []
        for level in range(1, self.settings.downsamplings + 1):
            skips.append(x)
            x = self._layers(level, halve(x), level * layers)
        below = (self.settings.downsamplings + 1) * layers  # units on the way down
        for step, level in enumerate(reversed(range(self.settings.downsamplings))):
            first = below + step * (layers + 1)
            # A 1 x 1 product costs a quarter before the map is enlarged, with which it commutes.
            x = enlarge(self._unit(level, 1, first)(x), 2)
            x = self._layers(level, jnp.concatenate([skips.pop(), x], axis=-1), first + 1)
        logits = nn.Dense(self.outputs, name="Dense_0")(x.astype(jnp.float32))
        logits = logits[..., 0] if self.outputs == 1 else logits
        return logits, jnp.zeros((0, *logits.shape), jnp.float32)

    def _unit(self, level: int, kernel: int, number: int) -> ConvUnit:
        """A unit of one resolution; weights are stored under its number."""
        features = self.settings.width * 2**level
        return ConvUnit(features, kernel, groups=self.settings.groups, slope=SLOPE, name=f"ConvUnit_{number}")

    def _layers(self, level: int, x: jax.Array, first: int) -> jax.Array:
        """The 3 x 3 convolutions of one resolution, numbered from `first`."""
        for number in range(first, first + self.settings.layers):
            x = self._unit(level, 3, number)(x)
        return x


def build_unet(settings: UNetConfig, outputs: int = 1) -> UNet:
    """The U-Net with these widths and this depth."""
    return UNet(settings, outputs)
