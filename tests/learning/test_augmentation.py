"""Random samples, on volumes whose values tell where they were read."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivdjax.config import AugmentationConfig
from ivdjax.learning import augmentation
from ivdjax.learning.augmentation import COUNTED, OUTLINED, Crop, DeviceVolumes, Sample
from ivdjax.learning.contrast import CLASSES

STILL = AugmentationConfig(rotation_deg=0, scale=(1, 1), elastic_mm=0, noise=0, gamma=(1, 1), remap=0, bias=0, blur=0,
                           channel_dropout=0)  # fmt: skip
BENT = AugmentationConfig(rotation_deg=30, scale=(0.8, 1.25), elastic_mm=3, elastic_step_mm=8, noise=0, gamma=(1, 1),
                          remap=0, bias=0, blur=0)  # fmt: skip
BOX, SOLID = (16, 12), (6, 12, 10)
SPACING_MM = (3.0, 1.25, 1.25)


def crop_of(disc_fraction: float = 0.5, box: tuple[int, ...] = BOX, levels: bool = False) -> Crop:
    return Crop(box, SPACING_MM[-len(box) :], disc_fraction, levels)


def still(**changes: Any) -> AugmentationConfig:
    return AugmentationConfig(**{**vars(STILL), **changes})


def quick_keys(seed: int, count: int) -> jax.Array:
    """Keys of a generator that compiles in a third of the default one's time."""
    return jax.random.split(jax.random.key(seed, impl="unsafe_rbg"), count)


def device_volumes(
    image: np.ndarray, target: np.ndarray, extent: Any = None, counted: Any = None, centres: Any = (), ends: Any = None
) -> DeviceVolumes:
    """One volume (D, H, W, C) and its target (D, H, W); all of it counts unless stated."""
    extent = extent or target.shape
    rows = np.resize(np.asarray(centres, np.float32), (15, 3)) if len(centres) else np.zeros((15, 3), np.float32)
    low, high = ends or ((0, 0, 0), tuple(side - 1 for side in extent))
    fields = {
        "image": image, "target": target, "counted": np.ones(target.shape) if counted is None else counted,
        "low": low, "high": high, "extent": extent, "discs": len(centres),
    }  # fmt: skip
    kinds = {"image": jnp.uint8, "target": jnp.uint8, "counted": jnp.uint8}
    arrays = {name: jnp.asarray(np.asarray(value)[None], kinds.get(name, jnp.int32)) for name, value in fields.items()}
    brightness = jnp.full((1, CLASSES, image.shape[-1]), 0.5)
    return DeviceVolumes(
        **arrays, classes=jnp.asarray(target[None] % CLASSES, jnp.uint8), class_mean=brightness, class_sd=brightness,
        base=jnp.asarray(image[None, ..., 0], jnp.uint8), made=jnp.zeros(1, jnp.int32),
        spacing_mm=jnp.asarray([SPACING_MM], jnp.float32), centres=jnp.asarray(rows[None]),
    )  # fmt: skip


def rows_from(shape: tuple[int, int, int], first: int) -> np.ndarray:
    """1 (D, H, W) from a row on, 0 above it."""
    counted = np.zeros(shape, np.uint8)
    counted[:, first:] = 1
    return counted


def ramps(shape: tuple[int, int, int]) -> np.ndarray:
    """Three channels (D, H, W, 3) that hold each voxel's own d, h and w; linear interpolation keeps them exact."""
    return np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).astype(np.uint8)


@partial(jax.jit, static_argnums=(2, 3))
def draw(keys: jax.Array, volumes: DeviceVolumes, crop: Crop, settings: AugmentationConfig) -> Sample:
    return jax.vmap(lambda key: augmentation.draw_sample(key, volumes, crop, settings))(keys)


def samples(
    keys: jax.Array,
    volumes: DeviceVolumes,
    settings: AugmentationConfig,
    box: tuple[int, ...] = BOX,
    levels: bool = False,
) -> Sample:
    return jax.tree.map(np.asarray, draw(keys, volumes, crop_of(0.5, box, levels), settings))


def test_without_any_strength_a_sample_is_a_plain_crop():
    volume = ramps((6, 60, 50))
    drawn = samples(quick_keys(0, 32), device_volumes(volume, volume[..., 1], centres=[(3, 30, 20)]), STILL)
    read = 255 * drawn.image
    for sample, mask in zip(read, drawn.mask == 1, strict=True):
        # One slice, rows along h, columns along w, one voxel apart but for the stretch of 5 % that is always drawn.
        np.testing.assert_allclose(sample[mask][:, 0], sample[mask][0, 0], atol=1e-3)
        assert mask[4:-4, 4:-4].all()
        h_step, w_step = np.diff(sample[:, 6, 1])[4:-4], np.diff(sample[8, :, 2])[4:-4]
        np.testing.assert_allclose(h_step, h_step[0], atol=1e-3)
        np.testing.assert_allclose(h_step[0] * w_step, 1, atol=1e-3)
        assert 0.95 <= h_step[0] <= 1.05
        np.testing.assert_allclose(np.diff(sample[4:-4, 4:-4, 1], axis=1), 0, atol=1e-3)
        np.testing.assert_allclose(np.diff(sample[4:-4, 4:-4, 2], axis=0), 0, atol=1e-3)
    # The target is cut out at the same places as the image.
    np.testing.assert_allclose(drawn.target, drawn.image[..., 1], atol=1e-6)


def test_deformation_moves_image_target_and_mask_together():
    volume = ramps((6, 60, 50))
    volumes = device_volumes(volume, volume[..., 1], counted=rows_from((6, 60, 50), 20), centres=[(3, 30, 20)])
    drawn = samples(jax.random.split(jax.random.key(0), 64), volumes, BENT)
    np.testing.assert_allclose(drawn.target, drawn.image[..., 1], atol=1e-6)
    rows = 255 * drawn.image[..., 1]
    assert (rows[drawn.mask == 1] > 19.5 - 1e-3).all()  # voxel 20 begins there
    assert (drawn.mask[rows > 19.5 + 1e-3] == 1).all()
    slices = [255 * image[mask == 1][:, 0] for image, mask in zip(drawn.image, drawn.mask, strict=True) if mask.any()]
    assert max(np.ptp(d) for d in slices) > 1  # a sample bends through neighbouring slices


def test_one_key_gives_one_sample_in_any_batch():
    volume = ramps((6, 60, 50))
    volumes = device_volumes(volume, 4 * volume[..., 1], counted=rows_from((6, 60, 50), 30), centres=[(3, 30, 20)])
    keys = jax.random.split(jax.random.key(5), 64)
    first, second = samples(keys, volumes, BENT), samples(keys[::-1], volumes, BENT)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other[::-1])
    assert len({image.tobytes() for image in first.image}) == 64
    assert first.target.min() >= 0 and 0.8 < first.target.max() <= 1
    assert set(np.unique(first.mask)) == {0.0, 1.0}


EVERYWHERE = (jnp.full(2, -jnp.inf), jnp.full(2, jnp.inf))


@partial(jax.jit, static_argnums=3)
def gather(volumes: DeviceVolumes, case: int, where: jax.Array, levels: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Image, target and what counts, in the whole field of view."""
    return augmentation._gather(volumes, case, where, EVERYWHERE, jnp.zeros(()), levels)[:3]


def test_at_whole_positions_voxels_are_read_as_they_are():
    random = np.random.default_rng(0)
    image, share = random.integers(0, 256, (3, 9, 8, 2)), random.integers(0, 256, (3, 9, 8))
    d, h, w = np.meshgrid(1, np.arange(2, 6), np.arange(3, 8), indexing="ij")
    where = jnp.asarray(np.stack([d, h, w], axis=-1), jnp.float32)
    crop, target, mask = gather(device_volumes(image, share), 0, where, False)
    np.testing.assert_allclose(crop, image[1:2, 2:6, 3:8] / 255, rtol=1e-6)
    np.testing.assert_allclose(target, share[1:2, 2:6, 3:8] / 255, rtol=1e-6)
    assert (mask == 1).all()


def test_what_lies_outside_is_empty_and_counts_for_nothing():
    # A volume of (2, 6, 5) padded to (4, 10, 9) with values that must never be seen.
    image, share = np.full((4, 10, 9, 1), 255), np.full((4, 10, 9), 255)
    image[:2, :6, :5], share[:2, :6, :5] = 100, 0
    volumes = device_volumes(image, share, extent=(2, 6, 5), counted=rows_from((4, 10, 9), 2))
    h, w = jnp.meshgrid(jnp.arange(-2.0, 9.0), jnp.arange(-2.0, 8.0), indexing="ij")
    for d in (-5.0, 0.5, 7.0):  # a single slice is held inside the volume
        where = jnp.stack([jnp.full_like(h, d), h, w], axis=-1)[None]
        crop, target, mask = (part[0] for part in gather(volumes, 0, where, False))
        inside = (h >= 0) & (h <= 5) & (w >= 0) & (w <= 4)
        np.testing.assert_allclose(crop[..., 0], np.where(inside, 100 / 255, 0), rtol=1e-6)
        assert (target == 0).all()
        np.testing.assert_array_equal(mask == 1, inside & (h >= 2))


@partial(jax.jit, static_argnums=2)
def drawn_centres(keys: jax.Array, volumes: DeviceVolumes, box: tuple[int, ...], disc_fraction: float) -> jax.Array:
    crop = crop_of(0.0, (1, *box)[-3:])._replace(disc_fraction=disc_fraction)
    return jax.vmap(lambda key: augmentation._draw_centre(key, volumes, 0, crop))(keys)


def centres(
    extent: tuple[int, int, int], discs: Any, disc_fraction: float, ends: Any = None, box: tuple[int, ...] = BOX
) -> np.ndarray:
    """Centres of 500 boxes in a volume of this extent."""
    shape = (60, 100, 80)
    volumes = device_volumes(np.zeros((*shape, 1)), np.zeros(shape), extent, centres=discs, ends=ends)
    return np.asarray(drawn_centres(quick_keys(1, 500), volumes, box, disc_fraction))


def test_levels_are_read_at_the_nearest_voxel():
    levels = np.random.default_rng(1).integers(0, 8, (3, 9, 8))
    volumes = device_volumes(np.zeros((*levels.shape, 1)), levels)
    where = np.random.default_rng(2).uniform(0, 1, (4, 5, 5, 3)) * (2, 8, 7)
    _, target, mask = gather(volumes, 0, jnp.asarray(where, jnp.float32), True)
    d, h, w = np.moveaxis(np.rint(where).astype(int), -1, 0)
    np.testing.assert_array_equal(target, levels[d, h, w])
    assert target.dtype == jnp.float32 and (mask == 1).all()


def test_a_solid_box_reads_nothing_beyond_the_first_and_last_slice():
    image, levels = np.full((4, 6, 5, 1), 100), np.full((4, 6, 5), 3)
    volumes = device_volumes(image, levels, extent=(2, 6, 5))
    where = jnp.stack(jnp.meshgrid(jnp.arange(-2.0, 4.0), jnp.arange(6.0), jnp.arange(5.0), indexing="ij"), axis=-1)
    for kind, inside in ((True, 3.0), (False, 3 / 255)):
        crop, target, mask = (np.asarray(part).reshape(6, -1) for part in gather(volumes, 0, where, kind))
        np.testing.assert_array_equal(mask, np.repeat([[0], [0], [1], [1], [0], [0]], 30, axis=1))
        np.testing.assert_allclose(crop, mask * (100 / 255), rtol=1e-6)
        np.testing.assert_allclose(target, mask * inside, rtol=1e-6)


def test_without_any_strength_a_solid_sample_is_a_plain_box():
    volume = ramps((20, 60, 50))
    drawn = samples(quick_keys(0, 16), device_volumes(volume, volume[..., 0], centres=[(10, 30, 20)]), STILL, SOLID)
    read = 255 * drawn.image
    assert read.shape == (16, *SOLID, 3) and drawn.target.shape == drawn.mask.shape == (16, *SOLID)
    inner = read[:, :, 1:-1, 1:-1]  # the stretch of 5 % that is always drawn may reach over the volume's edge
    np.testing.assert_allclose(np.diff(inner[..., 0], axis=1), 1, atol=1e-3)
    for axis, channel in ((2, 1), (3, 2)):
        steps = np.diff(inner[..., channel], axis=axis)
        np.testing.assert_allclose(steps, np.broadcast_to(steps[:, :1, :1, :1], steps.shape), atol=1e-3)
        assert (np.abs(steps - 1) <= 0.051).all()
    np.testing.assert_allclose(drawn.target, drawn.image[..., 0], atol=1e-6)


def test_solid_samples_move_image_levels_and_mask_together():
    volume = ramps((20, 60, 50))
    levels = volume[..., 1] // 8
    volumes = device_volumes(volume, levels, counted=rows_from((20, 60, 50), 20), centres=[(10, 30, 20)])
    drawn = samples(jax.random.split(jax.random.key(0), 16), volumes, BENT, SOLID, levels=True)
    rows = 255 * drawn.image[..., 1]
    inside = drawn.image.any(axis=-1)
    assert set(np.unique(drawn.target)) <= set(range(8))  # nothing between two levels
    np.testing.assert_array_equal(drawn.target[inside], np.rint(rows[inside] - 1e-4) // 8)
    np.testing.assert_array_equal(drawn.mask[inside] == 1, np.rint(rows[inside] - 1e-4) >= 20)


@pytest.mark.parametrize("disc_fraction", [0.0, 1.0])
def test_boxes_stay_inside_a_volume_that_is_larger(disc_fraction):
    # The disc sits in the corner, where half of a box around it would stick out.
    low, high = np.array([0, 7.5, 5.5]), np.array([4, 39 - 7.5, 29 - 5.5])
    found = centres((5, 40, 30), [(0, 1, 29)], disc_fraction)
    assert (found >= low - 1e-4).all() and (found <= high + 1e-4).all()
    if disc_fraction:
        assert np.isclose(found[:, 1], 7.5).mean() > 0.4 and np.isclose(found[:, 2], 23.5).mean() > 0.4
    else:  # every place has its chance
        np.testing.assert_allclose(found.min(axis=0), low, atol=1.0)
        np.testing.assert_allclose(found.max(axis=0), high, atol=1.0)
        np.testing.assert_allclose(found.mean(axis=0), (low + high) / 2, atol=1.5)


def test_boxes_that_lie_anywhere_are_centred_in_what_counts():
    found = centres((60, 100, 80), [(30, 50, 40)], 0.0, ends=((20, 40, 30), (25, 60, 75)))
    # In the last rows a box would stick out of the volume; its centre stays half a box away from the end.
    np.testing.assert_allclose(found.min(axis=0), [20, 40, 30], atol=0.5)
    np.testing.assert_allclose(found.max(axis=0), [25, 60, 80 - 1 - 5.5], atol=0.5)
    # What counts lies nearer to the end than half a box: the box that holds it is the last one.
    np.testing.assert_allclose(centres((60, 100, 80), [], 0.0, ends=((0, 0, 78), (0, 3, 79))), [[0, 7.5, 73.5]] * 500)


def test_solid_boxes_stay_inside_and_hold_the_disc_they_are_drawn_near():
    found = centres((60, 100, 80), [(30, 50, 40)], 1.0, box=SOLID)
    assert (np.abs(found - (30, 50, 40)) <= np.array([25 / 3, 0.4 * 12, 0.4 * 10]) + 1e-4).all()
    found = centres((60, 100, 80), [(0, 50, 40)], 1.0, box=SOLID)
    assert (found[:, 0] >= 2.5).all() and np.isclose(found[:, 0], 2.5).any()
    flat = centres((4, 100, 80), [(0, 50, 40)], 1.0, box=SOLID)[:, 0]
    assert flat.min() < 0.6 and flat.max() > 2.4 and (flat >= 0.5).all() and (flat <= 2.5).all()


def test_a_box_drawn_near_a_disc_holds_its_centroid():
    away = np.abs(centres((60, 100, 80), [(30, 50, 40)], 1.0) - (30, 50, 40))
    reach = np.array([25 / 3, 0.4 * 16, 0.4 * 12])  # 25 mm to either side, and less than half of the box
    assert (away <= reach + 1e-4).all() and (away.max(axis=0) > 0.9 * reach).all()


def test_each_disc_has_the_same_chance_and_a_volume_without_any_is_drawn_from_everywhere():
    found = centres((5, 100, 80), [(2, 30, 40), (2, 50, 40), (2, 70, 40)], 1.0)
    nearest = np.abs(found[:, 1:2] - np.array([[30, 50, 70]])).argmin(axis=1)
    assert (np.bincount(nearest) > 120).all()
    without = centres((5, 100, 80), [], 1.0)
    assert without[:, 1].min() < 12 and without[:, 1].max() > 88


def test_the_share_of_boxes_near_discs_is_as_asked():
    found = centres((5, 100, 80), [(2, 10, 10)], 0.25)
    near = (np.abs(found[:, 1] - 10) <= 6.4) & (np.abs(found[:, 2] - 10) <= 4.8)
    assert 0.2 < near.mean() < 0.35


def test_a_volume_smaller_than_the_box_lies_whole_and_anywhere_in_it():
    found = centres((1, 10, 12), [(0, 2, 2)], 0.5)
    np.testing.assert_array_equal(found[:, [0, 2]], np.tile([0, 5.5], (500, 1)))
    first = found[:, 1] - 7.5  # the box's first row, of 16; the volume has 10
    assert (first >= -6 - 1e-4).all() and (first <= 1e-4).all()
    assert first.min() < -5.5 and first.max() > -0.5 and abs(first.mean() + 3) < 0.3


def positions_mm(settings: AugmentationConfig, box: tuple[int, int, int] = (1, *BOX)) -> np.ndarray:
    """Offsets (8, [D,] H, W, 3) in mm of eight deformed boxes from their centre; without D for a single slice."""
    crop = crop_of(box=box)
    bend = partial(augmentation._deformed_positions, centre=jnp.zeros(3), spacing_mm=jnp.asarray(SPACING_MM), crop=crop,
                   settings=settings)  # fmt: skip
    offsets = np.asarray(jax.jit(jax.vmap(bend))(quick_keys(2, 8))) * SPACING_MM
    return offsets[:, 0] if box[0] == 1 else offsets


def test_a_larger_scale_reads_a_smaller_part():
    settings = AugmentationConfig(rotation_deg=0, scale=(2, 2), elastic_mm=0)
    span = np.ptp(positions_mm(settings), axis=(1, 2))
    np.testing.assert_allclose(span[:, 1] * span[:, 2], (15 * 1.25 / 2) * (11 * 1.25 / 2), rtol=1e-4)
    np.testing.assert_allclose(span[:, 0], 0, atol=1e-5)


def test_rotation_keeps_distances_in_mm_and_lies_mostly_in_the_plane():
    offsets = positions_mm(AugmentationConfig(rotation_deg=30, scale=(1, 1), elastic_mm=0))
    corner = np.linalg.norm(offsets[:, 0, 0], axis=-1)  # only the stretch of 5 % changes a length
    np.testing.assert_allclose(corner, np.hypot(7.5 * 1.25, 5.5 * 1.25), rtol=0.051)
    rows = offsets[:, -1, 0] - offsets[:, 0, 0]
    in_plane, across = np.degrees(np.arctan2(rows[:, 2], rows[:, 1])), np.degrees(np.arcsin(rows[:, 0] / (15 * 1.25)))
    assert 10 < np.abs(in_plane).max() <= 31 and 1 < np.abs(across).max() <= 11


def test_rotations_are_about_the_axis_they_name():
    quarter = float(np.pi / 2)
    turn = lambda *angles: np.asarray(augmentation._rotation(jnp.asarray(angles, jnp.float32)))  # noqa: E731
    np.testing.assert_allclose(turn(quarter, 0, 0) @ [0, 1, 0], [0, 0, 1], atol=1e-6)  # about d: h becomes w
    np.testing.assert_allclose(turn(0, quarter, 0) @ [0, 0, 1], [1, 0, 0], atol=1e-6)  # about h: w becomes d
    np.testing.assert_allclose(turn(0, 0, quarter) @ [1, 0, 0], [0, 1, 0], atol=1e-6)  # about w: d becomes h


def test_elastic_displacement_has_the_standard_deviation_asked_for_in_all_directions():
    still, bent = (positions_mm(AugmentationConfig(rotation_deg=0, scale=(1, 1), elastic_mm=mm, elastic_step_mm=4))
                   for mm in (0, 3.0))  # fmt: skip
    spread = (bent - still).std(axis=(0, 1, 2))
    assert (spread > 0.5 * 3.0).all() and (spread < 1.3 * 3.0).all()


def test_the_elastic_step_is_how_far_one_displacement_reaches():
    """Rows bend the more, the closer the control points lie: 12 of them or 4 over the box's 20 mm."""

    def bend(step_mm: float) -> float:
        settings = AugmentationConfig(rotation_deg=0, scale=(1, 1), elastic_mm=3, elastic_step_mm=step_mm)
        return float(np.diff(positions_mm(settings), n=2, axis=1).std())  # a straight stretch has no second difference

    assert bend(2.0) > 2 * bend(10.0)


def test_a_solid_box_is_turned_scaled_and_bent_in_all_directions():
    offsets = positions_mm(AugmentationConfig(rotation_deg=0, scale=(2, 2), elastic_mm=0), SOLID)
    span = np.ptp(offsets, axis=(1, 2, 3))
    np.testing.assert_allclose(span[:, 0], 5 * 3 / 2, rtol=1e-4)
    np.testing.assert_allclose(span[:, 1] * span[:, 2], (11 * 1.25 / 2) * (9 * 1.25 / 2), rtol=1e-4)
    turned = positions_mm(AugmentationConfig(rotation_deg=30, scale=(1, 1), elastic_mm=0), SOLID)
    along_d = turned[:, -1, 0, 0] - turned[:, 0, 0, 0]
    np.testing.assert_allclose(np.linalg.norm(along_d, axis=-1), 15, rtol=0.051)
    assert np.abs(along_d[:, 1:]).max() > 0.5
    settings = AugmentationConfig(rotation_deg=0, scale=(1, 1), elastic_mm=3, elastic_step_mm=4)
    bent = positions_mm(settings, SOLID)
    still = positions_mm(AugmentationConfig(rotation_deg=0, scale=(1, 1), elastic_mm=0), SOLID)
    spread = (bent - still).std(axis=(0, 1, 2, 3))
    assert (spread > 1.2).all() and (spread < 3.9).all()
    assert ((bent - still).std(axis=1).mean(axis=(0, 1, 2)) > 0.3).all()  # neighbouring slices move differently


def test_where_levels_are_learned_a_spine_turns_row_by_row_about_its_discs():
    volume = ramps((6, 90, 80))
    volumes = device_volumes(volume, volume[..., 1] // 30, centres=[(3, 40, 30), (3, 60, 50)])
    keys = quick_keys(7, 256)
    drawn = samples(keys, volumes, still(bend_deg=8), SOLID, levels=True)
    read = 255 * drawn.image[:, 3]
    inner = (read[..., 1:] > 1).all(axis=(1, 2, 3)) & (read[..., 1:] < [88, 78]).all(axis=(1, 2, 3))
    assert inner.sum() > 100
    read = read[inner]
    down, across = np.diff(read, axis=1)[:, :, :-1], np.diff(read, axis=2)[:, 1:]
    angle = across[..., 1] / across[..., 2]
    np.testing.assert_allclose(angle, angle[:, :, :1] + np.zeros(angle.shape), atol=1e-3)  # a whole row turns alike
    turned = -down[..., 2]  # the next row begins further in front
    np.testing.assert_allclose(turned, turned[:, :, :1] + np.zeros(turned.shape), atol=1e-3)
    np.testing.assert_allclose(turned, angle, atol=0.02)
    assert np.rad2deg(angle).std() == pytest.approx(8, rel=0.2)
    # In the discs' mean column rows keep their distance.
    there = read[:, 1:, 1:, 1] - angle * (read[:, 1:, 1:, 2] - np.asarray(volumes.centres)[0, :, 2].mean())
    distance = np.diff(there, axis=1)
    np.testing.assert_allclose(distance, distance[:, :1, :1] + np.zeros(distance.shape), atol=2e-3)
    # Where outlines are learned nothing is bent.
    one, other = (samples(keys, volumes, settings, SOLID) for settings in (still(bend_deg=8), STILL))
    np.testing.assert_array_equal(one.image, other.image)


def test_a_cut_field_of_view_is_empty_counts_for_nothing_and_leaves_the_box_s_centre():
    shape = (2, 160, 120)  # 200 by 150 mm
    image = np.full((*shape, 1), 255, np.uint8)
    volumes = device_volumes(image, np.zeros(shape), counted=np.full(shape, COUNTED | OUTLINED), centres=[(0, 80, 60)])
    box = (160, 120)
    cut = samples(quick_keys(8, 64), volumes, still(cut_probability=1.0), box)
    seen = cut.image[..., 0] > 0.5
    np.testing.assert_array_equal(cut.mask > 0, seen)
    np.testing.assert_array_equal(cut.tissue_mask > 0, seen)
    assert seen[:, 80, 60].all()
    rows, columns = seen[:, :, 60].sum(axis=1) * 1.25, seen[:, 80].sum(axis=1) * 1.25
    assert 85 < rows.min() < 130 and 85 < columns.min() < 110 and np.ptp(rows) > 40  # no less than 90 mm is left
    whole = samples(quick_keys(8, 8), volumes, still(), box)
    assert (whole.image[:, 8:-8, 8:-8] > 0.5).all()


def test_a_thick_slice_is_the_mean_of_what_lies_to_either_side():
    depth = np.arange(21, dtype=np.uint8)[:, None, None]
    image = np.broadcast_to(12 * depth, (21, 40, 40))[..., None]  # rises evenly: a mean across slices changes nothing
    disc = np.broadcast_to(255 * (depth == 10), (21, 40, 40))
    volumes = device_volumes(image, disc, centres=[(10, 20, 20)])
    thin, thick = (
        samples(quick_keys(2, 160), volumes, still(slice_mm=mm, slice_probability=1.0)) for mm in (0.0, 30.0)
    )
    change = np.abs(thick.image - thin.image).max(axis=(1, 2, 3))
    assert np.median(change) < 0.06
    both = (thin.target.max(axis=(1, 2)) > 0.6) & (thick.target.max(axis=(1, 2)) == 0)
    assert both.any(), "a disc of one slice is lost between the two that a thick slice reads"


def test_tissues_are_the_classes_of_vertebra_and_canal_where_they_are_outlined():
    volume = ramps((2, 20, 20))
    target = np.full((2, 20, 20), 1)
    target[:, :10], target[:, 10:] = 2, 3
    counted = np.full(target.shape, COUNTED)
    counted[:, 5:] |= OUTLINED
    drawn = samples(quick_keys(1, 16), device_volumes(volume, target, counted=counted), still())
    rows = 255 * drawn.image[..., 1]
    np.testing.assert_array_equal(drawn.tissues[..., 0] == 1, (rows < 9.5) & (drawn.mask > 0))
    np.testing.assert_array_equal(drawn.tissues[..., 1] == 1, rows >= 9.5)
    np.testing.assert_array_equal(drawn.tissue_mask > 0, rows >= 4.5)
