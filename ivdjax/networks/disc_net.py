"""The paper's segmentation network (section 2.1, Fig. 3): two downsamplings, dense atrous pyramid, three paths."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from ivdjax.config import DiscNetConfig, UNetConfig
from ivdjax.networks.layers import (
    PRODUCT,
    AtrousPyramid,
    ConvUnit,
    DenseAtrousPyramid,
    DenseBlock,
    GroupNorm,
    ParallelAtrousPyramid,
    SerialAtrousPyramid,
    enlarge,
    halve,
)
from ivdjax.networks.unet import UNet, build_unet

STRIDE = 4
"""Height and width of a box must be divisible by this: two downsamplings by two."""

PATHS = 3
"""Resolution paths, and so auxiliary outputs: full, half and quarter resolution."""

PYRAMIDS: dict[str, type[AtrousPyramid]] = {
    "dense": DenseAtrousPyramid,
    "parallel": ParallelAtrousPyramid,
    "serial": SerialAtrousPyramid,
}
"""How the atrous rates may be connected; the paper's is dense."""

UNET_DOWNSAMPLINGS = 4
"""Of the plain U-Net that may stand in for the network; its boxes are divisible by 16."""


class DiscNet(nn.Module):
    """Logits of disc, or of disc, vertebra and canal, for each voxel of 2D boxes, from any number of channels.

    A DenseNet backbone with squeeze-and-excitation gives maps at full, half and quarter resolution; on the coarsest
    lies the densely connected atrous pyramid. Each of the three maps then goes through a path of its own, with its own
    layers and its own auxiliary output, so that each resolution is trained as a task of its own; the paths meet at full
    resolution in the fused output.

    Attributes:
        settings: widths and depths.
        outputs: how many things are outlined; the first is the disc.
    """

    settings: DiscNetConfig
    outputs: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Fused and auxiliary logits.

        Args:
            x: boxes (N, H, W, C) with intensities 0 to 1; H and W divisible by 4.

        Returns:
            Logits (N, H, W, K) of the fused outputs, and (3, N, H, W, K) of the paths at full, half and quarter
            resolution, the coarser two enlarged to full resolution; all float32. One output has no last axis.

        Raises:
            ValueError: H or W is not divisible by 4.
        """
        h, w = x.shape[1:3]
        if h % STRIDE or w % STRIDE:
            raise ValueError(f"a box must be divisible by {STRIDE} in height and width, not {h} x {w}")
        paths = [self._path(level, features) for level, features in enumerate(self._backbone(4.0 * x - 2.0))]
        auxiliary = [enlarge(self._logits(p, f"Dense_{level}"), 2**level) for level, p in enumerate(paths)]
        # A 1 x 1 convolution of the concatenated paths is the sum of one product per path; taken before the maps are
        # enlarged, with which it commutes, it costs a sixteenth on the coarsest.
        products = (
            nn.Dense(self.settings.path[0], use_bias=False, name=f"Dense_{PATHS + level}")(p)
            for level, p in enumerate(paths)
        )
        y = checkpoint_name(sum(enlarge(p, 2**level) for level, p in enumerate(products)), PRODUCT)
        y = nn.relu(GroupNorm(self.settings.groups, name="GroupNorm_0")(y))
        y = self._unit(self.settings.path[0], 3, self._first_of_path(PATHS))(y)
        fused, aside = self._logits(y, f"Dense_{2 * PATHS}"), jnp.stack(auxiliary)
        return (fused[..., 0], aside[..., 0]) if self.outputs == 1 else (fused, aside)

    def _logits(self, x: jax.Array, name: str) -> jax.Array:
        """One logit per voxel and output, in float32 whatever the features' type: (N, H, W, C) to (N, H, W, K)."""
        return nn.Dense(self.outputs, name=name)(x.astype(jnp.float32))

    def _unit(self, features: int, kernel: int, number: int) -> ConvUnit:
        """A unit of the network itself; weights are stored under its number."""
        return ConvUnit(features, kernel, groups=self.settings.groups, name=f"ConvUnit_{number}")

    def _first_of_path(self, level: int) -> int:
        """Number of a path's first unit: stem and transitions come before, and each path has a reduction beside its
        layers; of `PATHS`, the number after the last path's."""
        return PATHS + level + sum(self.settings.path_layers[:level])

    def _backbone(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Maps at full, half and quarter resolution; the last has passed the atrous pyramid."""
        full = self._block(0, self._unit(self.settings.stem, 3, 0)(x))
        half = self._block(1, self._transition(full, 1))
        quarter = self._block(2, self._transition(half, 2))
        kind = PYRAMIDS[self.settings.pyramid]
        pyramid = kind(
            self.settings.aspp_rates, self.settings.aspp_growth, self.settings.groups, name=f"{kind.__name__}_0"
        )
        return full, half, pyramid(quarter)

    def _block(self, level: int, x: jax.Array) -> jax.Array:
        return DenseBlock(
            self.settings.growth[level],
            self.settings.layers[level],
            self.settings.bottleneck,
            self.settings.se_ratio,
            self.settings.groups,
            name=f"DenseBlock_{level}",
        )(x)

    def _transition(self, x: jax.Array, number: int) -> jax.Array:
        """DenseNet's transition: half of the channels, half of the resolution."""
        channels = max(x.shape[-1] // 2 // self.settings.groups, 1) * self.settings.groups
        return halve(self._unit(channels, 1, number)(x))

    def _path(self, level: int, x: jax.Array) -> jax.Array:
        """One resolution path: a 1 x 1 reduction, then its own 3 x 3 layers."""
        first, features = self._first_of_path(level), self.settings.path[level]
        x = self._unit(features, 1, first)(x)
        for layer in range(self.settings.path_layers[level]):
            x = self._unit(features, 3, first + 1 + layer)(x)
        return x


def build_disc_net(settings: DiscNetConfig, outputs: int = 1) -> DiscNet | UNet:
    """The network with these widths and depths: the paper's, or for comparison a plain U-Net (no auxiliary outputs)."""
    if settings.architecture == "unet":
        unet = UNetConfig(width=settings.stem, downsamplings=UNET_DOWNSAMPLINGS, groups=settings.groups)
        return build_unet(unet, outputs)
    return DiscNet(settings, outputs)
