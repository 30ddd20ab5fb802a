"""The paper's localization network (section 2.2): a 3D V-Net with residual connections tells the seven discs apart.

Arrays are (N, D, H, W, C), channels last; D counts sagittal slices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from ivdjax.config import VNetConfig
from ivdjax.networks.convolution import convolved
from ivdjax.networks.layers import PRODUCT, GroupNorm
from ivdjax.volume import LUMBAR_DISCS

CLASSES = LUMBAR_DISCS + 1
"""Background and levels 1 (L5/S1) to 7."""

LANDMARK_CLASSES = CLASSES + 3
"""Beside these, discs above the seventh, the block of bone below L5/S1, and the body of L5."""


class VNet(nn.Module):
    """Logits of background and seven discs for each voxel of 3D boxes, from any number of channels.

    Follows Milletari et al., 2016: at each resolution, on both ways, the input of a block of convolutions is added to
    its output; resolutions are joined by convolutions and transposed convolutions whose stride is their kernel.

    Which disc it is shows only in what lies far below it. The convolutions of the coarsest block therefore have
    dilations of 1, 2, 4, ... in plane: with four poolings, three of them and voxels of 3 mm, T11/12 reads the sacrum
    250 mm below it well inside its field, which reaches 500 mm to each side, and not on the few paths along its edge.

    At full resolution the kernels lie in plane: slices are thicker there than voxels are wide, and a 3 x 3 x 3
    convolution costs three in-plane ones (see `SliceConv`). Slices meet from the second resolution on.

    Attributes:
        settings: widths and depths.
        classes: of a voxel, background first.
    """

    settings: VNetConfig
    classes: int = CLASSES

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Logits, and no auxiliary ones.

        Args:
            x: boxes (N, D, H, W, C) with intensities 0 to 1, each side divisible by the product of its poolings.

        Returns:
            Logits (N, D, H, W, K), and an empty array (0, N, D, H, W, K) in the place of auxiliary ones; float32.

        Raises:
            ValueError: D, H or W is not divisible by the product of its poolings.
        """
        shape, pooling = x.shape[:4], self.settings.slice_pooling
        strides = (math.prod(pooling), 2 ** len(pooling), 2 ** len(pooling))
        if any(side % stride for side, stride in zip(shape[1:], strides, strict=True)):
            raise ValueError(
                "a box must be divisible by {} x {} x {} in slices, height and width, not {} x {} x {}".format(
                    *strides, *shape[1:]
                )
            )
        bright = 4.0 * x - 2.0
        x = jnp.concatenate([bright, _places(x)], axis=-1) if self.settings.places else bright
        first = _first_numbers(self.settings, x.shape[-1])
        x, skips = self._block(0, x, first["down 0"]), []
        for level, factor in enumerate(pooling, start=1):
            skips.append(x)
            x = self._unit(_gather(x, factor), self.settings.widths[level], first[f"gather {level}"])
            x = self._block(level, x, first[f"down {level}"])
        # Which level a place belongs to is decided at half resolution, where maps are wide and see far; the finest map
        # adds where the disc ends.
        whereabouts = jnp.zeros(())
        for level, factor in reversed(list(enumerate(pooling))):
            if level == 0:
                whereabouts = _repeated(self._head(x, 64, first["half head"]), factor)
            width = self.settings.widths[level]
            x = _scatter(self._unit(x, 4 * factor * width, first[f"scatter {level}"]), factor)
            x = self._block(level, jnp.concatenate([skips.pop(), x], axis=-1), first[f"up {level}"])
        logits = self._head(x, 32, first["full head"]) + whereabouts
        return logits, jnp.zeros((0, *logits.shape), jnp.float32)

    def _head(self, x: jax.Array, hidden: int, first: _Numbers) -> jax.Array:
        """Logits of the classes from rectified features, by way of a hidden layer; float32."""
        x = nn.relu(nn.Dense(hidden, name=f"Dense_{first.dense + 1}")(x))
        return nn.Dense(self.classes, name=f"Dense_{first.dense}")(x.astype(jnp.float32))

    def _unit(self, x: jax.Array, features: int, first: _Numbers) -> jax.Array:
        """A product over channels, normalised and rectified."""
        x = checkpoint_name(nn.Dense(features, use_bias=False, name=f"Dense_{first.dense}")(x), PRODUCT)
        return nn.relu(GroupNorm(self.settings.groups, name=f"GroupNorm_{first.norm}")(x))

    def _block(self, level: int, x: jax.Array, first: _Numbers) -> jax.Array:
        """The residual block of one resolution: convolutions, and the input added to what they give."""
        width, y = self.settings.widths[level], x
        slices, coarsest = 1 if level == 0 else 3, level == len(self.settings.slice_pooling)
        for index in range(self.settings.layers[level]):
            y = nn.relu(y) if index else y
            convolution = SliceConv(
                width, slices, 2**index if coarsest else 1, name=f"SliceConv_{first.convolution + index}"
            )
            y = checkpoint_name(convolution(y), PRODUCT)
            y = GroupNorm(self.settings.groups, name=f"GroupNorm_{first.norm + index}")(y)
        if x.shape[-1] != width:
            x = checkpoint_name(nn.Dense(width, use_bias=False, name=f"Dense_{first.dense}")(x), PRODUCT)
        return nn.relu(x + y)


@dataclass(frozen=True)
class _Numbers:
    """Of the first layer of each kind in one part of the network; weights are stored under them."""

    convolution: int = 0
    norm: int = 0
    dense: int = 0


def _first_numbers(settings: VNetConfig, channels: int) -> dict[str, _Numbers]:
    """The numbers with which each part begins: parts come in this order, and each holds so many layers of a kind.

    Args:
        settings: widths and depths.
        channels: of what the first block reads.
    """
    layers, depth = settings.layers, len(settings.slice_pooling)
    holds = {"down 0": _Numbers(layers[0], layers[0], int(channels != settings.widths[0]))}
    for level in range(1, depth + 1):
        holds[f"gather {level}"] = _Numbers(norm=1, dense=1)
        holds[f"down {level}"] = _Numbers(layers[level], layers[level])
    for level in reversed(range(depth)):
        if level == 0:
            holds["half head"] = _Numbers(dense=2)
        holds[f"scatter {level}"] = _Numbers(norm=1, dense=1)
        holds[f"up {level}"] = _Numbers(layers[level], layers[level], 1)
    first, number = {}, _Numbers()
    for part, held in (holds | {"full head": _Numbers(dense=2)}).items():
        first[part] = number
        number = _Numbers(number.convolution + held.convolution, number.norm + held.norm, number.dense + held.dense)
    return first


class SliceConv(nn.Module):
    """3D convolution, computed as one 2D convolution of all slices for each neighbouring slice it reads.

    XLA's own 3D convolution is slow on a CPU. From 8 to 8 channels of 2 x 16 x 112 x 112 voxels, on two cores, a kernel
    of 3 x 3 x 3 took 150 ms forward and 645 with its gradient, computed in this way 51 and 162; one of 1 x 3 x 3 took
    53 and 288, computed in this way 24 and 59. A single 2D convolution of three times the outputs is as fast forward,
    but not with its gradient.

    Attributes:
        features: channels of the result.
        slices: neighbouring slices that one voxel reads, odd; 3 x 3 voxels of each.
        dilation: distance between the kernel's taps in plane, in voxels.
    """

    features: int
    slices: int = 3
    dilation: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(N, D, H, W, C) to (N, D, H, W, features); what lies outside is zero."""
        shape = (self.slices, 3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape).astype(x.dtype)
        depth, reach = x.shape[1], self.slices // 2
        y = self._in_plane(x, kernel[reach])
        for offset in range(1, min(reach, depth - 1) + 1):
            before = self._in_plane(x[:, :-offset], kernel[reach - offset])
            after = self._in_plane(x[:, offset:], kernel[reach + offset])
            y += jnp.pad(before, ((0, 0), (offset, 0), *((0, 0),) * 3))
            y += jnp.pad(after, ((0, 0), (0, offset), *((0, 0),) * 3))
        return y

    def _in_plane(self, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """(N, D, H, W, C), each slice convolved with (3, 3, C, features)."""
        n, d, *plane, channels = x.shape
        y = convolved(x.reshape(n * d, *plane, channels), kernel, self.dilation)
        return y.reshape(n, d, *plane, self.features)


def _gather(x: jax.Array, factor: int) -> jax.Array:
    """Each box of factor x 2 x 2 voxels becomes one: (N, D, H, W, C) to (N, D / factor, H / 2, W / 2, 4 * factor * C).

    A product over channels after it is a convolution whose stride is its kernel.
    """
    n, d, h, w, c = x.shape
    x = x.reshape(n, d // factor, factor, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4, 6, 7)
    return x.reshape(n, d // factor, h // 2, w // 2, 4 * factor * c)


def _scatter(x: jax.Array, factor: int) -> jax.Array:
    """The inverse of `_gather`; a product over channels before it is a transposed convolution."""
    n, d, h, w, c = x.shape
    c //= 4 * factor
    x = x.reshape(n, d, h, w, factor, 2, 2, c).transpose(0, 1, 4, 2, 5, 3, 6, 7)
    return x.reshape(n, d * factor, h * 2, w * 2, c)


def _places(x: jax.Array) -> jax.Array:
    """Height and depth of each voxel in its box, -1 to 1, as two channels (N, D, H, W, 2).

    Where in the field of view a disc lies says roughly which one it is; what the image shows then only has to correct
    that. Without these channels the levels were still mixed up after several hundred steps; with them, a scan of
    another field of view is numbered by its place and not by its anatomy.
    """
    n, d, h, w, _ = x.shape
    rows, columns = jnp.linspace(-1.0, 1.0, h), jnp.linspace(-1.0, 1.0, w)
    places = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)
    return jnp.broadcast_to(places[None, None], (n, d, h, w, 2)).astype(x.dtype)


def _repeated(x: jax.Array, factor: int) -> jax.Array:
    """Each voxel as factor x 2 x 2 voxels: (N, D, H, W, C) to (N, D * factor, H * 2, W * 2, C)."""
    n, d, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None, :, None], (n, d, factor, h, 2, w, 2, c))
    return x.reshape(n, d * factor, h * 2, w * 2, c)


def build_vnet(settings: VNetConfig, landmarks: bool = False) -> VNet:
    """The V-Net with these widths and depths, for the seven discs alone or with the landmarks beside them."""
    return VNet(settings, LANDMARK_CLASSES if landmarks else CLASSES)
