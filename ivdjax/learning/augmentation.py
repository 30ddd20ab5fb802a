"""Random training samples, drawn inside the compiled step from volumes that live on the device.

A sample is a 3D box, or a 2D box of one sagittal slice, cut out of a randomly deformed 3D volume (paper, section 3.1:
3D deformation, random scale, random noise, random crop): the displacement has three components, so that a 2D sample may
bend through neighbouring slices. Random contrast comes on top. One key gives one sample, whatever the batch or the
device.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ivdjax.config import AugmentationConfig


class Residents(NamedTuple):
    """Training volumes on the device, padded to one shape.

    Attributes:
        image: uint8 (N, D, H, W, C); 0 to 255 stand for 0 to 1.
        target: uint8 (N, D, H, W): the share of a voxel that is disc (or spine region), 0 to 255 for 0 to 1; or its
            level, 0 for background.
        counted: uint8 (N, D, H, W), 1 where a voxel takes part in the loss, else 0.
        low, high: int32 (N, 3), the first and last position of such a voxel along each axis.
        extent: int32 (N, 3), the valid size of each volume.
        spacing_mm: float32 (N, 3).
        centres: float32 (N, K, 3), voxel positions of disc centroids; unused rows repeat the others.
        discs: int32 (N,), the number of discs; 0: samples lie anywhere.
    """

    image: jax.Array
    target: jax.Array
    counted: jax.Array
    low: jax.Array
    high: jax.Array
    extent: jax.Array
    spacing_mm: jax.Array
    centres: jax.Array
    discs: jax.Array


class Crop(NamedTuple):
    """What the samples of a stage are like; fixed for a compiled step.

    Attributes:
        box: size in voxels, (H, W) within one sagittal slice or (D, H, W).
        spacing_mm: of the stage's grid along the box's axes, about; sets how many control points a deformation has.
        disc_fraction: chance of a box that holds a random place of a random disc; else it lies anywhere in what counts.
        levels: whether targets are levels, read at the nearest voxel, and not shares.
    """

    box: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    disc_fraction: float
    levels: bool = False


class Sample(NamedTuple):
    """One box: image float32 ([D,] H, W, C) in 0 to 1, target float32 ([D,] H, W), mask float32 ([D,] H, W)."""

    image: jax.Array
    target: jax.Array
    mask: jax.Array


def draw_sample(key: jax.Array, residents: Residents, crop: Crop, settings: AugmentationConfig) -> Sample:
    """One augmented training box.

    Args:
        key: of this sample alone.
        residents: the volumes to draw from, each with the same chance.
        crop: its size and kind.
        settings: strength of each change.
    """
    flat = len(crop.box) == 2
    solid = crop._replace(box=(1, *crop.box), spacing_mm=(1.0, *crop.spacing_mm)) if flat else crop
    keys = jax.random.split(key, 4)
    case = jax.random.randint(keys[0], (), 0, residents.image.shape[0])
    centre = _draw_centre(keys[1], residents, case, solid)
    where = _deformed_positions(keys[2], centre, residents.spacing_mm[case], solid, settings)
    image, target, mask = _gather(residents, case, where, crop.levels)
    sample = Sample(change_contrast(keys[3], image, settings), target, mask)
    return jax.tree.map(lambda part: part[0], sample) if flat else sample


def _draw_centre(key: jax.Array, residents: Residents, case: jax.Array, crop: Crop) -> jax.Array:
    """Voxel position (3,) of a box's centre.

    As in inference, a box stays inside a volume that is larger than it. One that is larger than the volume lies
    anywhere round it: inference pads at the end, and a network must not learn where in a box the body is.
    """
    keys = jax.random.split(key, 5)
    extent = residents.extent[case].astype(jnp.float32)
    size = jnp.array([float(side) for side in crop.box])
    low, high = (size - 1) / 2, extent - 1 - (size - 1) / 2
    # A box whose centre lies outside of what counts would teach little or nothing.
    first = jnp.maximum(low, residents.low[case].astype(jnp.float32))
    last = jnp.minimum(high, residents.high[case].astype(jnp.float32))
    anywhere = first + jax.random.uniform(keys[0], (3,)) * jnp.maximum(last - first, 0.0)
    disc = jax.random.randint(keys[1], (), 0, jnp.maximum(residents.discs[case], 1))
    # Half the breadth of a disc to either side, and a shift that keeps the disc in the box.
    reach = jnp.array([25.0 / residents.spacing_mm[case][0], 0.4 * crop.box[1], 0.4 * crop.box[2]])
    near = residents.centres[case, disc] + reach * jax.random.uniform(keys[2], (3,), minval=-1.0, maxval=1.0)
    use_disc = (jax.random.uniform(keys[3]) < crop.disc_fraction) & (residents.discs[case] > 0)
    centre = jnp.where(use_disc, near, anywhere)
    around = high + jax.random.uniform(keys[4], (3,)) * (low - high)
    return jnp.where(high > low, jnp.clip(centre, low, high), around)


def _deformed_positions(
    key: jax.Array, centre: jax.Array, spacing_mm: jax.Array, crop: Crop, settings: AugmentationConfig
) -> jax.Array:
    """Voxel positions (D, H, W, 3) in the volume at which a deformed box is read."""
    keys = jax.random.split(key, 4)
    d, h, w = ((jnp.arange(side) - (side - 1) / 2) * spacing_mm[axis] for axis, side in enumerate(crop.box))
    offset_mm = jnp.stack(jnp.meshgrid(d, h, w, indexing="ij"), axis=-1)
    angles = jnp.deg2rad(settings.rotation_deg) * jax.random.uniform(keys[0], (3,), minval=-1.0, maxval=1.0)
    scale = _log_uniform(keys[1], settings.scale)
    stretch = _log_uniform(keys[2], (0.95, 1.05))
    matrix = _rotation(angles * jnp.array([1.0, 1 / 3, 1 / 3])) / scale * jnp.stack([1.0, stretch, 1 / stretch])[None]
    moved_mm = offset_mm @ matrix.T
    if settings.elastic_mm > 0:
        # Control points lie every `elastic_step_mm`, one beyond each edge; a single slice needs one layer of them.
        points = tuple(
            max(4, round(side * step / settings.elastic_step_mm) + 2) if side > 1 else 1
            for side, step in zip(crop.box, crop.spacing_mm, strict=True)
        )
        control = settings.elastic_mm * jax.random.normal(keys[3], (*points, 3))
        moved_mm = moved_mm + jax.image.resize(control, (*crop.box, 3), "cubic")
    return centre[None, None, None] + moved_mm / spacing_mm[None, None, None]


def _rotation(angles: jax.Array) -> jax.Array:
    """Rotation matrix (3, 3) about the axes d, h and w, in radians."""
    (cd, ch, cw), (sd, sh, sw) = jnp.cos(angles), jnp.sin(angles)
    one, zero = jnp.ones(()), jnp.zeros(())
    about_d = jnp.array([[one, zero, zero], [zero, cd, -sd], [zero, sd, cd]])
    about_h = jnp.array([[ch, zero, sh], [zero, one, zero], [-sh, zero, ch]])
    about_w = jnp.array([[cw, -sw, zero], [sw, cw, zero], [zero, zero, one]])
    return about_d @ about_h @ about_w


def _gather(
    residents: Residents, case: jax.Array, where: jax.Array, levels: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Image (D, H, W, C), target and mask (D, H, W) at voxel positions (D, H, W, 3), trilinear; levels at the nearest.

    A box of one slice holds its positions inside the volume across slices. Otherwise what lies outside is 0 and, as in
    a box that inference pads, background that does not count.
    """
    _, depth, height, width, channels = residents.image.shape
    extent = residents.extent[case]
    across = where[..., 0] if where.shape[0] > 1 else jnp.clip(where[..., 0], 0.0, extent[0] - 1.0)
    position = where.at[..., 0].set(across)
    last = extent[None, None, None] - 1
    inside = ((position >= -0.5) & (position <= last + 0.5)).all(axis=-1)
    low = jnp.floor(position).astype(jnp.int32)
    part = position - low
    base = case * (depth * height * width)
    flat_image = residents.image.reshape(-1, channels)
    flat_target = residents.target.reshape(-1)

    def index_of(corner: jax.Array) -> jax.Array:
        corner = jnp.clip(corner, 0, last)
        return base + (corner[..., 0] * height + corner[..., 1]) * width + corner[..., 2]

    image = jnp.zeros((*where.shape[:3], channels))
    share = jnp.zeros(where.shape[:3])
    for dd in (0, 1):
        for dh in (0, 1):
            for dw in (0, 1):
                step = jnp.array([[[[dd, dh, dw]]]])
                weight = jnp.prod(jnp.where(step == 1, part, 1.0 - part), axis=-1)
                index = index_of(low + step)
                image = image + weight[..., None] * flat_image[index]
                if not levels:
                    share = share + weight * flat_target[index]
    nearest = index_of(jnp.round(position).astype(jnp.int32))
    mask = inside & (residents.counted.reshape(-1)[nearest] > 0)
    blank = inside.astype(jnp.float32)
    target = flat_target[nearest] * blank if levels else share * blank / 255.0
    return image * (blank / 255.0)[..., None], target, mask.astype(jnp.float32)


def change_contrast(key: jax.Array, image: jax.Array, settings: AugmentationConfig) -> jax.Array:
    """Random gamma, remapping, bias field, blur, noise and channel dropout of one box ([D,] H, W, C) in 0 to 1."""
    keys = jax.random.split(key, 7)
    channels = image.shape[-1]
    every = (1,) * (image.ndim - 1)  # axes over which a channel's number is the same
    exponents = jnp.exp(
        jax.random.uniform(
            keys[0], (channels,), minval=jnp.log(settings.gamma[0]), maxval=jnp.log(settings.gamma[1])
        )
    )  # fmt: skip
    image = jnp.maximum(image, 1e-6) ** exponents.reshape(*every, channels)
    if settings.remap > 0:
        image = _remapped(keys[1], image, settings)
    if settings.bias > 0:
        points = (*(min(3, side) for side in image.shape[:-1]), 1)
        control = settings.bias * jax.random.uniform(keys[2], points, minval=-1.0, maxval=1.0)
        image = image * (1.0 + jax.image.resize(control, (*image.shape[:-1], 1), "cubic"))
    if settings.blur > 0:
        image = _blurred(image, settings.blur * jax.random.uniform(keys[3]))
    if settings.noise > 0:
        strength = settings.noise * jax.random.uniform(keys[4]) ** 2
        image = image + strength * jax.random.normal(keys[5], image.shape)
    if settings.channel_dropout > 0 and channels > 1:
        image = image * _kept_channels(keys[6], channels, settings.channel_dropout).reshape(*every, channels)
    return jnp.clip(image, 0.0, 1.0)


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
    every = (1,) * (image.ndim - 1)
    columns = jnp.arange(channels).reshape(*every, channels)
    low = low.astype(jnp.int32)
    mapped = (1.0 - part) * curve[low, columns] + part * curve[low + 1, columns]
    used = jax.random.uniform(keys[3], (channels,)) < settings.remap_probability
    # Air and padding stay dark: what is outside of the body tells nothing of a sequence's contrast.
    return jnp.where(used.reshape(*every, channels) & (image > 0.02), mapped, image)


def _blurred(image: jax.Array, sigma: jax.Array) -> jax.Array:
    """An in-plane blur of ([D,] H, W, C) by a five-tap Gaussian of `sigma` voxels, applied along both axes."""
    taps = jnp.exp(-0.5 * (jnp.arange(-2, 3) / jnp.maximum(sigma, 1e-3)) ** 2)
    taps = taps / taps.sum()
    for axis in (image.ndim - 3, image.ndim - 2):
        padded = jnp.pad(image, [(2, 2) if a == axis else (0, 0) for a in range(image.ndim)], mode="edge")
        size = image.shape[axis]
        shifted = [taps[t] * jax.lax.slice_in_dim(padded, t, t + size, axis=axis) for t in range(5)]
        image = jnp.asarray(sum(shifted))
    return image


def _kept_channels(key: jax.Array, channels: int, dropout: float) -> jax.Array:
    """Factors (C,): 0 for a dropped channel, else 1; one channel always stays."""
    keys = jax.random.split(key)
    kept = jax.random.uniform(keys[0], (channels,)) >= dropout
    spared = jnp.arange(channels) == jax.random.randint(keys[1], (), 0, channels)
    return (kept | spared).astype(jnp.float32)


def _log_uniform(key: jax.Array, bounds: tuple[float, float]) -> jax.Array:
    """A factor between two bounds, uniform on a logarithmic scale."""
    return jnp.exp(jax.random.uniform(key, minval=jnp.log(bounds[0]), maxval=jnp.log(bounds[1])))
