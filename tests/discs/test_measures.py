from __future__ import annotations

import numpy as np
import pytest

from ivdjax.discs.frame import disc_points_mm, fit_frame
from ivdjax.discs.measures import SHAPE_MEASURES, measure_discs
from ivdjax.volume import LabelMap, Volume, to_world_mm

STRAIGHT = np.eye(3)


def canonical_affine(spacing=(2.0, 1.25, 1.25), shape=(40, 64, 64), turn=STRAIGHT):
    """An affine of the canonical order (left, inferior, posterior rising), its middle at the world's origin."""
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[-spacing[0], 0, 0], [0, 0, -spacing[2]], [0, -spacing[1], 0]])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    return affine


def rotation(degrees, axis):
    """A right-handed turn about world axis 0 (right), 1 (anterior) or 2 (superior)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    turn = np.eye(3)
    turn[i, i] = turn[j, j] = c
    turn[i, j], turn[j, i] = -s, s
    return turn


def draw(inside, affine, shape=(40, 64, 64)):
    """A label map whose voxels are 1 where `inside` holds of the world mm (right, anterior, superior) of its centre."""
    world = to_world_mm(affine, np.moveaxis(np.indices(shape), 0, -1))
    return LabelMap(inside(world).astype(np.uint8), affine)


def box(world, turn=STRAIGHT, size=(48.0, 36.0, 8.0)):
    return np.all(np.abs(world @ turn) <= np.array(size) / 2, axis=-1)


def only(labels, volume=None):
    (disc,) = measure_discs(labels, volume, {1: 0.7})
    return disc


def test_axis_aligned_box_is_measured_exactly():
    labels = np.zeros((30, 40, 50), np.uint8)
    labels[5:25, 10:16, 12:40] = 1  # 20 x 6 x 28 voxels of 2 x 1.25 x 1.25 mm: 40 wide, 7.5 high, 35 deep
    affine = canonical_affine(shape=labels.shape)
    disc = only(LabelMap(labels, affine))
    assert disc.volume_mm3 == pytest.approx(40 * 7.5 * 35)
    assert disc.centroid_mm == pytest.approx(tuple(to_world_mm(affine, np.array([14.5, 12.5, 25.5]))))
    assert disc.level_confidence == 0.7
    for name in ("anterior_height_mm", "middle_height_mm", "posterior_height_mm"):
        assert disc.measures[name] == pytest.approx(7.5, abs=0.01)
    assert disc.measures["ap_width_mm"] == pytest.approx(35, abs=0.5)
    assert disc.measures["lateral_width_mm"] == pytest.approx(40, abs=0.5)
    assert disc.measures["disc_height_index"] == pytest.approx(7.5 / 35, rel=0.02)
    assert disc.measures["wedge_angle_deg"] == pytest.approx(0, abs=0.1)
    assert disc.measures["tilt_deg"] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("tilt", [-31.0, -50.0, 12.0])
@pytest.mark.parametrize("spacing", [(2.0, 1.25, 1.25), (4.0, 0.94, 0.94)])
def test_tilted_box_keeps_its_size(tilt, spacing):
    affine = canonical_affine(spacing)
    turn = rotation(tilt, 0)  # turning about the right axis lifts (positive) or lowers the front
    disc = only(draw(lambda world: box(world, turn), affine))
    assert disc.measures["tilt_deg"] == pytest.approx(tilt, abs=0.8)
    assert disc.measures["middle_height_mm"] == pytest.approx(8, abs=0.3)
    assert disc.measures["anterior_height_mm"] == pytest.approx(8, abs=0.4)
    assert disc.measures["posterior_height_mm"] == pytest.approx(8, abs=0.4)
    assert disc.measures["ap_width_mm"] == pytest.approx(36, abs=1.0)
    assert disc.measures["lateral_width_mm"] == pytest.approx(48, abs=0.5)
    assert disc.measures["wedge_angle_deg"] == pytest.approx(0, abs=1.0)


def ellipsoid(world, turn, size=(50.0, 36.0, 9.0)):
    return np.sum((world @ turn / (np.array(size) / 2)) ** 2, axis=-1) <= 1


@pytest.mark.parametrize("oblique", [STRAIGHT, rotation(12, 2) @ rotation(8, 0) @ rotation(6, 1)])
def test_ellipsoid_turned_about_all_axes_on_straight_and_oblique_grids(oblique):
    turn = rotation(10, 2) @ rotation(-8, 1) @ rotation(-25, 0)
    disc = only(draw(lambda world: ellipsoid(world, turn), canonical_affine(turn=oblique)))
    # Heights of an ellipsoid at a share s of its length: 9 * 2 * sqrt(s * (1 - s)); mid-sagittal part within 5 mm.
    assert disc.measures["middle_height_mm"] == pytest.approx(9 * 0.99, abs=0.35)
    assert disc.measures["anterior_height_mm"] == pytest.approx(9 * 0.79, abs=0.4)
    assert disc.measures["posterior_height_mm"] == pytest.approx(disc.measures["anterior_height_mm"], abs=0.4)
    assert disc.measures["ap_width_mm"] == pytest.approx(36, abs=1.5)
    assert disc.measures["lateral_width_mm"] == pytest.approx(50, abs=2.0)
    assert disc.volume_mm3 == pytest.approx(np.pi / 6 * 50 * 36 * 9, rel=0.02)
    assert disc.centroid_mm == pytest.approx((0, 0, 0), abs=0.2)


def test_frame_finds_the_turns_it_was_given():
    turn = rotation(10, 2) @ rotation(-8, 1) @ rotation(-25, 0)
    labels = draw(lambda world: ellipsoid(world, turn), canonical_affine())
    frame = fit_frame(disc_points_mm(labels.array > 0, labels.affine), labels.affine, whole=True)
    found = np.stack([frame.right, frame.anterior, frame.superior], axis=1)
    assert np.degrees(np.arccos((np.trace(found.T @ turn) - 1) / 2)) < 1.5


def test_wedge_opens_to_the_front():
    def wedge(world):
        height = 8 + 0.2 * world[..., 1]  # 11.6 mm in front, 4.4 mm behind: each face slopes by atan(0.1)
        flat = (np.abs(world[..., 0]) <= 25) & (np.abs(world[..., 1]) <= 18)
        return flat & (np.abs(world[..., 2]) <= height / 2)

    # A grid turned about the anterior axis: its staircase then averages out from side to side.
    disc = only(draw(wedge, canonical_affine((2.0, 1.0, 1.0), turn=rotation(7, 1))))
    assert disc.measures["wedge_angle_deg"] == pytest.approx(2 * np.degrees(np.arctan(0.1)), abs=0.5)
    assert disc.measures["anterior_height_mm"] == pytest.approx(8 + 0.2 * 10.8, abs=0.3)
    assert disc.measures["middle_height_mm"] == pytest.approx(8, abs=0.3)
    assert disc.measures["posterior_height_mm"] == pytest.approx(8 - 0.2 * 10.8, abs=0.3)


def test_slab_cut_at_the_sides_keeps_heights_and_gives_no_lateral_width():
    turn = rotation(10, 1) @ rotation(-31, 0)  # scoliosis and the slope of L5/S1
    shape = (13, 80, 80)  # 12 mm of a disc 48 mm wide
    labels = draw(lambda world: box(world, turn), canonical_affine((0.9, 0.94, 0.94), shape), shape)
    disc = only(labels)
    assert disc.measures["lateral_width_mm"] is None
    assert disc.measures["middle_height_mm"] == pytest.approx(8, abs=0.3)
    assert disc.measures["tilt_deg"] == pytest.approx(-31, abs=1.0)
    assert disc.measures["ap_width_mm"] == pytest.approx(36, abs=1.0)
    assert disc.volume_mm3 == pytest.approx(labels.array.sum() * 0.9 * 0.94 * 0.94)


def test_single_slice_still_has_heights():
    shape = (1, 64, 64)
    disc = only(draw(box, canonical_affine((4.0, 1.0, 1.0), shape), shape))
    assert disc.measures["middle_height_mm"] == pytest.approx(8, abs=0.01)
    assert disc.measures["lateral_width_mm"] is None


def test_disc_cut_in_plane_has_place_and_volume_but_no_shape():
    labels = np.zeros((20, 30, 30), np.uint8)
    labels[5:15, 26:30, 5:25] = 2
    (disc,) = measure_discs(LabelMap(labels, canonical_affine(shape=labels.shape)), None, {})
    assert disc.level == 2 and disc.level_confidence == 0.0 and disc.volume_mm3 > 0
    assert all(disc.measures[name] is None for name in SHAPE_MEASURES)


def test_single_voxel_is_measured_without_complaint():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[4, 4, 4] = 1
    disc = only(LabelMap(labels, canonical_affine((2.0, 1.0, 1.0), labels.shape)))
    assert disc.volume_mm3 == pytest.approx(2.0)
    assert disc.measures["wedge_angle_deg"] == pytest.approx(0, abs=1e-6)


def test_signal_per_channel_and_fat_fraction_by_hand():
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[1:3, 2:4, 2:4] = 1
    channels = np.zeros((2, 4, 6, 6), np.float32)
    channels[0], channels[1] = 30, 90
    channels[0][1, 2, 2] = 110  # one of eight voxels: mean 40, median 30
    affine = canonical_affine(shape=labels.shape)
    disc = only(LabelMap(labels, affine), Volume(channels, affine, ("fat", "wat")))
    assert disc.measures["fat_mean"] == pytest.approx(40)
    assert disc.measures["fat_median"] == pytest.approx(30)
    assert disc.measures["wat_mean"] == pytest.approx(90)
    assert disc.measures["fat_fraction"] == pytest.approx(40 / 130)


def test_fat_fraction_needs_both_channels_and_signal():
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[1:3, 2:4, 2:4] = 1
    affine = canonical_affine(shape=labels.shape)
    one = only(LabelMap(labels, affine), Volume(np.ones((1, 4, 6, 6)), affine, ("fat",)))
    dark = only(LabelMap(labels, affine), Volume(np.zeros((2, 4, 6, 6)), affine, ("fat", "wat")))
    assert one.measures["fat_fraction"] is None and dark.measures["fat_fraction"] is None


def test_voxels_that_are_no_number_are_left_out():
    labels = np.zeros((4, 6, 6), np.uint8)
    labels[1:3, 2:4, 2:4] = 1
    array = np.full((1, 4, 6, 6), np.nan)
    affine = canonical_affine(shape=labels.shape)
    assert only(LabelMap(labels, affine), Volume(array, affine, ("t2",))).measures["t2_mean"] is None
    array[0, 1, 2, 2] = 5
    assert only(LabelMap(labels, affine), Volume(array, affine, ("t2",))).measures["t2_mean"] == 5


def test_volume_on_another_grid_is_refused():
    affine = canonical_affine(shape=(4, 6, 6))
    labels = LabelMap(np.ones((4, 6, 6), np.uint8), affine)
    with pytest.raises(ValueError, match="labels' grid"):
        measure_discs(labels, Volume(np.ones((1, 4, 6, 7)), affine, ("t2",)), {})


def test_empty_map_gives_no_disc_and_an_empty_mask_no_frame():
    assert measure_discs(LabelMap(np.zeros((4, 6, 6), np.uint8), canonical_affine(shape=(4, 6, 6))), None, {}) == []
    with pytest.raises(ValueError, match="at least one voxel"):
        fit_frame(np.zeros((0, 3)), np.eye(4), whole=True)
