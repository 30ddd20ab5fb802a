"""Random training samples, drawn inside the compiled step from volumes that live on the device.

A sample is a 3D box, or a 2D box of one sagittal slice, cut out of a randomly deformed 3D volume (paper, section 3.1:
3D deformation, random scale, random noise, random crop): the displacement has three components, so that a 2D sample may
bend through neighbouring slices. Random contrast comes on top. One key gives one sample, whatever the batch or the
device.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ivdjax.config import AugmentationConfig
from ivdjax.learning.contrast import CANAL, VERTEBRA, Classes, change_contrast, log_uniform
from ivdjax.learning.dixon import make_dixon

COUNTED, OUTLINED = 1, 2
"""Bits of `DeviceVolumes.counted`."""

_TISSUES = (VERTEBRA, CANAL)
"""Classes that a network may outline beside the discs: vertebrae and canal."""

_BEND_STEP_MM = 80.0
"""Distance between the heights whose angles a random bend draws: two vertebrae or so."""

_LEAST_VIEW_MM = 90.0
"""Height and depth that a random cut of the field of view leaves at least."""


class DeviceVolumes(NamedTuple):
    """Training volumes on the device, padded to one shape.

    Attributes:
        image: uint8 (N, D, H, W, C); 0 to 255 stand for 0 to 1.
        target: uint8 (N, D, H, W): the share of a voxel that is disc (or spine region), 0 to 255 for 0 to 1; or its
            level, 0 for background.
        counted: uint8 (N, D, H, W): `COUNTED` where a voxel takes part in the loss, and `OUTLINED` where it takes part
            in that of the tissues; sums of both.
        classes: uint8 (N, D, H, W), what each voxel is (`ivdjax.learning.contrast.Classes`).
        class_mean, class_sd: float32 (N, CLASSES, C), how bright each volume shows each class.
        base: uint8 (N, D, H, W), the image that Dixon channels are made from at every sample; 0 of a volume whose
            channels are its own.
        made: int32 (N,), 1 for a volume whose channels are so made.
        low, high: int32 (N, 3), the first and last position of a counted voxel along each axis.
        extent: int32 (N, 3), the valid size of each volume.
        spacing_mm: float32 (N, 3).
        centres: float32 (N, K, 3), voxel positions of disc centroids; unused rows repeat the others.
        discs: int32 (N,), the number of discs; 0: samples lie anywhere.
    """

    image: jax.Array
    target: jax.Array
    counted: jax.Array
    classes: jax.Array
    class_mean: jax.Array
    class_sd: jax.Array
    base: jax.Array
    made: jax.Array
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
        made: names of the channels, where some volumes' are made from another sequence.
    """

    box: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    disc_fraction: float
    levels: bool = False
    made: tuple[str, ...] = ()


class Sample(NamedTuple):
    """One box.

    Attributes:
        image: float32 ([D,] H, W, C), 0 to 1.
        target: float32 ([D,] H, W), the share of disc or spine region, or the level.
        mask: float32 ([D,] H, W), 1 where it counts.
        tissues: float32 ([D,] H, W, 2), 1 where a voxel is vertebra, and canal.
        tissue_mask: float32 ([D,] H, W), 1 where that counts.
    """

    image: jax.Array
    target: jax.Array
    mask: jax.Array
    tissues: jax.Array
    tissue_mask: jax.Array


def draw_sample(key: jax.Array, volumes: DeviceVolumes, crop: Crop, settings: AugmentationConfig) -> Sample:
    """One augmented training box.

    Args:
        key: of this sample alone.
        volumes: the volumes to draw from, each with the same chance.
        crop: its size and kind.
        settings: strength of each change.
    """
    flat = len(crop.box) == 2
    solid = crop._replace(box=(1, *crop.box), spacing_mm=(1.0, *crop.spacing_mm)) if flat else crop
    keys = jax.random.split(key, 6)
    case = jax.random.randint(keys[0], (), 0, volumes.image.shape[0])
    centre = _draw_centre(keys[1], volumes, case, solid, settings.overhang)
    where = _deformed_positions(keys[2], centre, volumes.spacing_mm[case], solid, settings)
    if crop.levels and settings.bend_deg > 0:
        middle = volumes.centres[case, :, 2].mean()
        where = _bent(jax.random.fold_in(keys[2], 1), where, middle, volumes.spacing_mm[case], solid, settings.bend_deg)
    view = _draw_view(keys[4], volumes, case, centre, settings)
    thick = flat and settings.slice_mm > 0
    reach = _draw_reach(keys[5], volumes.spacing_mm[case], settings) if thick else jnp.zeros(())
    image, target, counted, classes = _gather(volumes, case, where, view, reach, crop.levels)
    shown = Classes(classes, volumes.class_mean[case], volumes.class_sd[case])
    if crop.made:
        # The base stands in the place of all channels: its own values are read at the same positions.
        base = _gather(volumes._replace(image=volumes.base[..., None]), case, where, view, reach, crop.levels)[0]
        made = make_dixon(jax.random.fold_in(keys[3], 1), base[..., 0], shown, crop.made)
        image = jnp.where(volumes.made[case] > 0, made, image)
    sample = Sample(
        change_contrast(keys[3], image, settings, shown),
        target,
        (counted & COUNTED > 0).astype(jnp.float32),
        jnp.stack([classes == tissue for tissue in _TISSUES], axis=-1).astype(jnp.float32),
        (counted & OUTLINED > 0).astype(jnp.float32),
    )
    return jax.tree.map(lambda part: part[0], sample) if flat else sample


def _draw_view(
    key: jax.Array, volumes: DeviceVolumes, case: jax.Array, centre: jax.Array, settings: AugmentationConfig
) -> tuple[jax.Array, jax.Array]:
    """The first and last position (2,) in rows and columns that a scan of a smaller field of view would show.

    Each side is cut by itself, above and below so that thoracic discs or the sacrum may be out of view. The centre of
    the box stays in it.
    """
    keys = jax.random.split(key, 2)
    extent = volumes.extent[case, 1:].astype(jnp.float32)
    spacing_mm = volumes.spacing_mm[case, 1:]
    share = jnp.array(settings.cut) * jax.random.uniform(keys[0], (4,))
    share = jnp.where(jax.random.uniform(keys[1], (4,)) < settings.cut_probability, share, 0.0)
    first, last = share[jnp.array([0, 2])] * extent, (1.0 - share[jnp.array([1, 3])]) * extent - 1.0
    lacking = jnp.maximum(_LEAST_VIEW_MM / spacing_mm - (last - first), 0.0) / 2
    near = 15.0 / spacing_mm
    first = jnp.where(share[jnp.array([0, 2])] > 0, jnp.minimum(first - lacking, centre[1:] - near), -jnp.inf)
    last = jnp.where(share[jnp.array([1, 3])] > 0, jnp.maximum(last + lacking, centre[1:] + near), jnp.inf)
    return first, last


def _draw_reach(key: jax.Array, spacing_mm: jax.Array, settings: AugmentationConfig) -> jax.Array:
    """How many slices to either side a thick slice is read; 0 for one as thin as the volume's own.

    A slice of thickness t has the spread of two readings t / sqrt(12) to either side.
    """
    keys = jax.random.split(key)
    reach = settings.slice_mm / math.sqrt(12.0) * jax.random.uniform(keys[0]) / spacing_mm[0]
    return jnp.where(jax.random.uniform(keys[1]) < settings.slice_probability, reach, 0.0)


def _draw_centre(
    key: jax.Array, volumes: DeviceVolumes, case: jax.Array, crop: Crop, overhang: float = 0.0
) -> jax.Array:
    """Voxel position (3,) of a box's centre.

    As in inference, a box stays inside a volume that is larger than it. One that is larger than the volume lies
    anywhere round it: inference pads at the end, and a network must not learn where in a box the body is. With an
    `overhang` every box may stand out of the volume in plane, by up to this share of its sides: a volume that just
    fills the box would else lie at one place of it in all of training.
    """
    keys = jax.random.split(key, 6)
    extent = volumes.extent[case].astype(jnp.float32)
    size = jnp.array([float(side) for side in crop.box])
    low, high = (size - 1) / 2, extent - 1 - (size - 1) / 2
    # A box whose centre lies outside of what counts would teach little or nothing.
    first = jnp.maximum(low, volumes.low[case].astype(jnp.float32))
    last = jnp.minimum(high, volumes.high[case].astype(jnp.float32))
    anywhere = first + jax.random.uniform(keys[0], (3,)) * jnp.maximum(last - first, 0.0)
    disc = jax.random.randint(keys[1], (), 0, jnp.maximum(volumes.discs[case], 1))
    # Half the breadth of a disc to either side, and a shift that keeps the disc in the box.
    reach = jnp.array([25.0 / volumes.spacing_mm[case][0], 0.4 * crop.box[1], 0.4 * crop.box[2]])
    near = volumes.centres[case, disc] + reach * jax.random.uniform(keys[2], (3,), minval=-1.0, maxval=1.0)
    use_disc = (jax.random.uniform(keys[3]) < crop.disc_fraction) & (volumes.discs[case] > 0)
    centre = jnp.where(use_disc, near, anywhere)
    around = high + jax.random.uniform(keys[4], (3,)) * (low - high)
    placed = jnp.where(high > low, jnp.clip(centre, low, high), around)
    if overhang > 0:
        shift = jax.random.uniform(keys[5], (3,), minval=-1.0, maxval=1.0) * overhang * size
        placed = placed + shift * jnp.array([0.0, 1.0, 1.0])
    return placed


def _deformed_positions(
    key: jax.Array, centre: jax.Array, spacing_mm: jax.Array, crop: Crop, settings: AugmentationConfig
) -> jax.Array:
    """Voxel positions (D, H, W, 3) in the volume at which a deformed box is read."""
    keys = jax.random.split(key, 4)
    d, h, w = ((jnp.arange(side) - (side - 1) / 2) * spacing_mm[axis] for axis, side in enumerate(crop.box))
    offset_mm = jnp.stack(jnp.meshgrid(d, h, w, indexing="ij"), axis=-1)
    angles = jnp.deg2rad(settings.rotation_deg) * jax.random.uniform(keys[0], (3,), minval=-1.0, maxval=1.0)
    scale = log_uniform(keys[1], (), settings.scale)
    stretch = log_uniform(keys[2], (), (0.95, 1.05))
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


def _bent(
    key: jax.Array, where: jax.Array, middle: jax.Array, spacing_mm: jax.Array, crop: Crop, bend_deg: float
) -> jax.Array:
    """Positions (D, H, W, 3) at which a spine is read so that it appears more or less bent in the sagittal plane.

    Each row turns by an angle of its own, which changes smoothly along the spine, about the mean column `middle` of
    the discs. There nothing is stretched; in front of and behind the spine the rows' distance changes by some per cent.
    """
    height_mm = crop.box[1] * crop.spacing_mm[1]
    control = jnp.deg2rad(bend_deg) * jax.random.normal(key, (round(height_mm / _BEND_STEP_MM) + 2,))
    angle = jax.image.resize(control, (crop.box[1],), "cubic")[None, :, None]
    shift_mm = jnp.cumsum(angle, axis=1) * spacing_mm[1]
    column = where[..., 2] - (shift_mm - shift_mm.mean()) / spacing_mm[2]
    row = where[..., 1] + angle * (column - middle) * spacing_mm[2] / spacing_mm[1]
    return jnp.stack([where[..., 0], row, column], axis=-1)


def _rotation(angles: jax.Array) -> jax.Array:
    """Rotation matrix (3, 3) about the axes d, h and w, in radians."""
    (cd, ch, cw), (sd, sh, sw) = jnp.cos(angles), jnp.sin(angles)
    one, zero = jnp.ones(()), jnp.zeros(())
    about_d = jnp.array([[one, zero, zero], [zero, cd, -sd], [zero, sd, cd]])
    about_h = jnp.array([[ch, zero, sh], [zero, one, zero], [-sh, zero, ch]])
    about_w = jnp.array([[cw, -sw, zero], [sw, cw, zero], [zero, zero, one]])
    return about_d @ about_h @ about_w


def _gather(
    volumes: DeviceVolumes, case: jax.Array, where: jax.Array, view: tuple[jax.Array, jax.Array], reach: jax.Array,
    levels: bool,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """Image (D, H, W, C), target, what counts and classes (D, H, W) at voxel positions (D, H, W, 3).

    Image and shares are trilinear, or with a `reach` the mean of two slices that far to either side; levels, what
    counts and classes are those of the nearest voxel. A box of one slice holds its positions inside the volume across
    slices. Otherwise what lies outside of volume and view is 0 and, as in
    a box that inference pads, background that does not count.
    """
    _, depth, height, width, channels = volumes.image.shape
    extent = volumes.extent[case]
    across = where[..., 0] if where.shape[0] > 1 else jnp.clip(where[..., 0], 0.0, extent[0] - 1.0)
    position = where.at[..., 0].set(across)
    last = extent[None, None, None] - 1
    inside = ((position >= -0.5) & (position <= last + 0.5)).all(axis=-1)
    first_seen, last_seen = (side[None, None, None] for side in view)
    inside &= ((position[..., 1:] >= first_seen) & (position[..., 1:] <= last_seen)).all(axis=-1)
    low = jnp.floor(position).astype(jnp.int32)
    part = position - low
    d_near = jnp.where(reach > 0, jnp.round(across - reach).astype(jnp.int32), low[..., 0])
    d_far = jnp.where(reach > 0, jnp.round(across + reach).astype(jnp.int32), low[..., 0] + 1)
    low = low.at[..., 0].set(d_near)
    part = part.at[..., 0].set(jnp.where(reach > 0, 0.5, part[..., 0]))
    base = case * (depth * height * width)
    flat_image = volumes.image.reshape(-1, channels)
    flat_target = volumes.target.reshape(-1)

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
                corner = low + step
                index = index_of(corner.at[..., 0].set(d_far) if dd else corner)
                image = image + weight[..., None] * flat_image[index]
                if not levels:
                    share = share + weight * flat_target[index]
    nearest = index_of(jnp.round(position).astype(jnp.int32))
    counted = jnp.where(inside, volumes.counted.reshape(-1)[nearest], 0)
    classes = jnp.where(inside, volumes.classes.reshape(-1)[nearest], 0).astype(jnp.int32)
    blank = inside.astype(jnp.float32)
    target = flat_target[nearest] * blank if levels else share * blank / 255.0
    return image * (blank / 255.0)[..., None], target, counted, classes
