"""Random contrast of a training box: what another scanner, sequence or coil would have made of the same anatomy.

Each change has its own probability. Classes of tissue change their brightness against each other (redistribution after
AugLab, new means after SynthSeg), curves change all of them together (gamma, remapping, inversion, equalization), and
filters change the texture (random convolution, edges, lost resolution, noise). Air stays dark throughout.

Boxes are ([D,] H, W, C) with intensities 0 to 1. Everything is a function of one key.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ivdjax.config import AugmentationConfig

AIR, VERTEBRA, CANAL, S1_BLOCK, CLASSES = 0, 2, 3, 4, 9
"""Classes of voxels: 0 air, 1 to 3 the tissues of `ivdjax.volume.TISSUES`, 4 the block of bone below L5/S1, which is
not outlined and looks like a vertebra, and 5 to 8 clusters of brightness among all that has no outline."""

_CALMED = (
    "noise", "remap_probability", "blur", "redistribution", "new_means", "inversion", "equalization",
    "random_convolution", "edges", "slice_probability",
)  # fmt: skip

_DARK = 0.02
_REACH = 3
_STRIDE = 5
"""Of the voxels of a box whose ranks are looked at."""


class Classes(NamedTuple):
    """What each voxel of a box is, and how bright its case shows each class.

    Attributes:
        of_voxel: int32 ([D,] H, W), 0 to `CLASSES` - 1.
        mean: float32 (CLASSES, C), 0 to 1.
        sd: float32 (CLASSES, C).
    """

    of_voxel: jax.Array
    mean: jax.Array
    sd: jax.Array


def calmed(settings: AugmentationConfig) -> AugmentationConfig:
    """The settings with every random change of contrast and slices made rarer or weaker by `calm`.

    Changes that have a probability become rarer; blur and noise, which every box gets, become weaker. Gamma, bias and
    all that moves or cuts the image stay as they are.
    """
    return replace(settings, **{name: settings.calm * getattr(settings, name) for name in _CALMED})


def change_contrast(
    key: jax.Array, image: jax.Array, settings: AugmentationConfig, classes: Classes | None = None
) -> jax.Array:
    """One box with a random contrast; without `classes` none of them changes against the others."""
    keys = jax.random.split(key, 13)
    channels = image.shape[-1]
    lit = image > _DARK
    if classes is not None and settings.redistribution > 0:
        image = _sometimes(keys[7], settings.redistribution, _redistributed(keys[7], image, classes), image)
    if classes is not None and settings.new_means > 0:
        image = _sometimes(keys[8], settings.new_means, _with_new_means(keys[8], image, classes), image)
    exponents = log_uniform(keys[0], (channels,), settings.gamma)
    image = jnp.maximum(image, 1e-6) ** _per_channel(exponents, image)
    if settings.remap > 0:
        image = _remapped(keys[1], image, settings)
    if settings.inversion > 0:
        image = _sometimes(keys[9], settings.inversion, jnp.where(lit, 1.0 - image, image), image)
    if settings.equalization > 0:
        image = _sometimes(keys[10], settings.equalization, _equalized(image, lit), image)
    if settings.random_convolution > 0:
        image = _sometimes(keys[11], settings.random_convolution, _randomly_convolved(keys[11], image), image)
    if settings.edges > 0:
        image = _sometimes(keys[12], settings.edges, _with_edges(keys[12], image), image)
    if settings.bias > 0:
        points = (*(min(3, side) for side in image.shape[:-1]), 1)
        control = settings.bias * jax.random.uniform(keys[2], points, minval=-1.0, maxval=1.0)
        image = image * (1.0 + jax.image.resize(control, (*image.shape[:-1], 1), "cubic"))
    if settings.blur > 0:
        # Most boxes stay sharp: the square of a uniform number is small as a rule.
        image = _blurred(image, settings.blur * jax.random.uniform(keys[3], (2,)) ** 2)
    if settings.noise > 0:
        strength = settings.noise * jax.random.uniform(keys[4]) ** 2
        image = image + strength * jax.random.normal(keys[5], image.shape)
    if settings.channel_dropout > 0 and channels > 1:
        image = image * _per_channel(_kept_channels(keys[6], channels, settings.channel_dropout), image)
    return jnp.clip(image, 0.0, 1.0)


def _sometimes(key: jax.Array, probability: float, changed: jax.Array, image: jax.Array) -> jax.Array:
    """The changed box with this probability, clipped to 0 to 1; else the image."""
    chosen = jax.random.uniform(jax.random.fold_in(key, 1)) < probability
    return jnp.where(chosen, jnp.clip(changed, 0.0, 1.0), image)


def _redistributed(key: jax.Array, image: jax.Array, classes: Classes) -> jax.Array:
    """Each class grows brighter or darker round its own mean: I + a exp(-(I - mean)^2 / 2 sd^2), a = -0.5 to 0.5.

    What lies far from the mean of its class, as partial volumes do, moves little, so that no new edges appear.
    """
    amount = _like_vertebra(key, 0.5 * jax.random.uniform(key, classes.mean.shape, minval=-1.0, maxval=1.0))
    mean, sd = classes.mean[classes.of_voxel], jnp.maximum(classes.sd, 0.03)[classes.of_voxel]
    moved = image + amount[classes.of_voxel] * jnp.exp(-0.5 * ((image - mean) / sd) ** 2)
    return jnp.where(_lit(classes), moved, image)


def _with_new_means(key: jax.Array, image: jax.Array, classes: Classes) -> jax.Array:
    """Each class with a mean and spread drawn anew over the whole range; its own texture stays, its sign may turn."""
    keys = jax.random.split(key, 4)
    shape = classes.mean.shape
    mean = _like_vertebra(keys[3], jax.random.uniform(keys[0], shape, minval=0.05, maxval=0.95))
    spread = jax.random.uniform(keys[1], shape, minval=0.02, maxval=0.1)
    spread = _like_vertebra(keys[3], spread * jnp.where(jax.random.uniform(keys[2], shape) < 0.25, -1.0, 1.0))
    sd = jnp.maximum(classes.sd, 0.02)
    texture = jnp.clip((image - classes.mean[classes.of_voxel]) / sd[classes.of_voxel], -2.5, 2.5)
    # A blur of half a voxel stands for partial volumes, which one class a voxel does not know.
    drawn = mean[classes.of_voxel] + spread[classes.of_voxel] * texture
    return jnp.where(_lit(classes), _blurred(jnp.clip(drawn, 0.0, 1.0), jnp.array([0.5, 0.5])), image)


def _like_vertebra(key: jax.Array, values: jax.Array) -> jax.Array:
    """Values (CLASSES, C) where the block below L5/S1 takes those of the vertebrae, four times in five."""
    alike = jax.random.uniform(jax.random.fold_in(key, 2)) < 0.8
    return values.at[S1_BLOCK].set(jnp.where(alike, values[VERTEBRA], values[S1_BLOCK]))


def _lit(classes: Classes) -> jax.Array:
    """Voxels that are not air, with a last axis for the channels."""
    return (classes.of_voxel != AIR)[..., None]


def _remapped(key: jax.Array, image: jax.Array, settings: AugmentationConfig) -> jax.Array:
    """Intensities through a random piecewise linear curve, one a channel, mixed with the identity by `remap`.

    The curve's values at eight knots are sorted (rising), sorted downward (an inverted contrast) or left as they fall,
    so that a network cannot lean on one sequence's brightness.
    """
    knots, channels = 8, image.shape[-1]
    keys = jax.random.split(key, 4)
    values = jax.random.uniform(keys[0], (knots, channels))
    rising = jnp.sort(values, axis=0)
    kind = jax.random.uniform(keys[1], (1, channels))
    curve = jnp.where(kind < 0.5, rising, jnp.where(kind < 0.75, rising[::-1], values))
    identity = jnp.linspace(0.0, 1.0, knots)[:, None]
    strength = settings.remap * jax.random.uniform(keys[2], (1, channels))
    curve = (1.0 - strength) * identity + strength * curve
    place = jnp.clip(image, 0.0, 1.0) * (knots - 1)
    low = jnp.minimum(jnp.floor(place), knots - 2)
    part = place - low
    columns = _per_channel(jnp.arange(channels), image)
    low = low.astype(jnp.int32)
    mapped = (1.0 - part) * curve[low, columns] + part * curve[low + 1, columns]
    used = jax.random.uniform(keys[3], (channels,)) < settings.remap_probability
    # Air and padding stay dark: what is outside of the body tells nothing of a sequence's contrast.
    return jnp.where(_per_channel(used, image) & (image > _DARK), mapped, image)


def _equalized(image: jax.Array, lit: jax.Array) -> jax.Array:
    """Six tenths of a histogram equalization: each intensity towards its rank among the box's voxels."""
    channels = image.shape[-1]
    levels = jnp.linspace(0.0, 1.0, 33)
    flat = image.reshape(-1, channels)
    ranks = [jnp.interp(flat[:, c], jnp.quantile(flat[::_STRIDE, c], levels), levels) for c in range(channels)]
    equal = jnp.stack(ranks, axis=-1).reshape(image.shape)
    return jnp.where(lit, 0.4 * image + 0.6 * equal, image)


def _randomly_convolved(key: jax.Array, image: jax.Array) -> jax.Array:
    """Half the image, half its convolution in plane with a random kernel of 3, 5 or 7 voxels, scaled to 0 to 1."""
    keys = jax.random.split(key)
    reach = jax.random.randint(keys[0], (), 1, _REACH + 1)
    far = jnp.abs(jnp.arange(-_REACH, _REACH + 1)) > reach
    kernel = jax.random.normal(keys[1], (2 * _REACH + 1, 2 * _REACH + 1))
    kernel = jnp.where(far[:, None] | far[None, :], 0.0, kernel)
    kernel = kernel / jnp.sqrt((kernel**2).sum())
    filtered = sum(
        kernel[i + _REACH, j + _REACH] * _shifted(image, i, j)
        for i in range(-_REACH, _REACH + 1)
        for j in range(-_REACH, _REACH + 1)
    )
    return 0.5 * image + 0.5 * _to_range(jnp.asarray(filtered)) * (image > _DARK)


def _with_edges(key: jax.Array, image: jax.Array) -> jax.Array:
    """Half the image with its edges: their strength by Scharr's filter, or the image sharpened by an unsharp mask."""
    smooth = (3.0, 10.0, 3.0)
    rise = sum(s * (_shifted(image, i, 1) - _shifted(image, i, -1)) for i, s in zip((-1, 0, 1), smooth, strict=True))
    fall = sum(s * (_shifted(image, 1, j) - _shifted(image, -1, j)) for j, s in zip((-1, 0, 1), smooth, strict=True))
    strength = jnp.sqrt(jnp.asarray(rise) ** 2 + jnp.asarray(fall) ** 2 + 1e-12) / 16.0
    sharpened = image + 1.5 * (image - _blurred(image, jnp.array([1.0, 1.0])))
    return 0.5 * image + 0.5 * jnp.where(jax.random.uniform(key) < 0.5, strength, jnp.clip(sharpened, 0.0, 1.0))


def _to_range(image: jax.Array) -> jax.Array:
    """Each channel scaled to 0 to 1 by its own least and largest value."""
    axes = tuple(range(image.ndim - 1))
    low, high = image.min(axis=axes, keepdims=True), image.max(axis=axes, keepdims=True)
    return (image - low) / jnp.maximum(high - low, 1e-6)


def _shifted(image: jax.Array, rows: int, columns: int) -> jax.Array:
    """The box read so many voxels further in plane, its border carried on."""
    for axis, by in ((image.ndim - 3, rows), (image.ndim - 2, columns)):
        if by:
            pad = [(max(-by, 0), max(by, 0)) if a == axis else (0, 0) for a in range(image.ndim)]
            start = max(by, 0)
            image = jax.lax.slice_in_dim(jnp.pad(image, pad, mode="edge"), start, start + image.shape[axis], axis=axis)
    return image


def _blurred(image: jax.Array, sigma: jax.Array) -> jax.Array:
    """A blur in plane by Gaussians of seven taps, of `sigma` (2,) voxels along rows and columns."""
    offsets = jnp.arange(-_REACH, _REACH + 1)
    for place, axis in enumerate((image.ndim - 3, image.ndim - 2)):
        taps = jnp.exp(-0.5 * (offsets / jnp.maximum(sigma[place], 1e-3)) ** 2)
        taps = taps / taps.sum()
        padded = jnp.pad(image, [(_REACH, _REACH) if a == axis else (0, 0) for a in range(image.ndim)], mode="edge")
        size = image.shape[axis]
        moved = [taps[t] * jax.lax.slice_in_dim(padded, t, t + size, axis=axis) for t in range(2 * _REACH + 1)]
        image = jnp.asarray(sum(moved))
    return image


def _kept_channels(key: jax.Array, channels: int, dropout: float) -> jax.Array:
    """Factors (C,): 0 for a dropped channel, else 1; one channel always stays."""
    keys = jax.random.split(key)
    kept = jax.random.uniform(keys[0], (channels,)) >= dropout
    spared = jnp.arange(channels) == jax.random.randint(keys[1], (), 0, channels)
    return (kept | spared).astype(jnp.float32)


def _per_channel(values: jax.Array, image: jax.Array) -> jax.Array:
    """Values (C,) in a shape that goes with a box."""
    return values.reshape(*(1,) * (image.ndim - 1), image.shape[-1])


def log_uniform(key: jax.Array, shape: tuple[int, ...], bounds: tuple[float, float]) -> jax.Array:
    """Factors between two bounds, uniform on a logarithmic scale."""
    return jnp.exp(jax.random.uniform(key, shape, minval=jnp.log(bounds[0]), maxval=jnp.log(bounds[1])))
