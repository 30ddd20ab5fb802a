from __future__ import annotations

import math

import numpy as np
import pytest

from ivdjax.discs.metrics import average_surface_distance_mm, dice, hd95_mm, localization_error_mm, score_case
from ivdjax.volume import LabelMap

SHAPE = (12, 80, 20)
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 0, -1.0, 20], [0, -1.25, 0, 50], [0, 0, 0, 1]])


def mask(d, h, w, shape=SHAPE):
    out = np.zeros(shape, bool)
    out[slice(*d), slice(*h), slice(*w)] = True
    return out


def spine(levels, shift=0):
    """Discs 20 x 5 x 12 mm, 12.5 mm apart, level 1 lowest; `shift` -1 puts level 1 where 2 belongs."""
    array = np.zeros(SHAPE, np.uint8)
    for level in levels:
        top = 76 - 10 * (level - shift)
        array[1:11, top : top + 4, 4:16] = level
    return array


def test_dice_by_hand():
    a, b = mask((2, 6), (2, 6), (2, 6)), mask((2, 6), (2, 6), (4, 8))
    assert dice(a, b) == pytest.approx(0.5)  # 64 and 64 voxels, 32 shared
    assert dice(a, a) == 1.0
    assert dice(a, np.zeros(SHAPE, bool)) == 0.0
    assert math.isnan(dice(np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)))


def test_surface_distances_of_two_voxels_on_an_anisotropic_grid():
    a, b = mask((5, 6), (5, 6), (5, 6)), mask((7, 8), (5, 6), (8, 9))
    expected = math.hypot(2 * 2.0, 3 * 1.0)  # two slices of 2 mm and three voxels of 1 mm
    assert average_surface_distance_mm(a, b, AFFINE) == pytest.approx(expected)
    assert hd95_mm(a, b, AFFINE) == pytest.approx(expected)
    assert localization_error_mm(a, b, AFFINE) == pytest.approx(expected)


def test_surface_distances_follow_a_shear():
    sheared = AFFINE.copy()
    sheared[:3, 0] += [0, 0, 3.0]  # each slice lies 3 mm higher than the one before
    a, b = mask((5, 6), (5, 6), (5, 6)), mask((6, 7), (5, 6), (5, 6))
    assert average_surface_distance_mm(a, b, sheared) == pytest.approx(math.hypot(2.0, 3.0))


def test_average_surface_distance_pools_both_surfaces():
    # A rod of three voxels against its first voxel: 0, 1, 2 mm forth and 0 mm back.
    a, b = mask((5, 6), (5, 6), (5, 8)), mask((5, 6), (5, 6), (5, 6))
    assert average_surface_distance_mm(a, b, AFFINE) == pytest.approx((0 + 1 + 2 + 0) / 4)
    assert hd95_mm(a, b, AFFINE) == pytest.approx(1.9)  # 95th percentile of 0, 1, 2


def test_interior_voxels_are_no_surface():
    # A shell of 26 voxels around a core that is filled in one mask and hollow in the other: the hollow one has the
    # same outer surface and no inner voxel, so the mean distance is 0.
    full = mask((4, 7), (4, 7), (4, 7))
    hollow = full.copy()
    hollow[5, 5, 5] = False
    assert average_surface_distance_mm(full, hollow, AFFINE) == 0.0


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # that package's own, of SciPy
def test_distances_agree_with_the_surface_distance_package():
    """It weighs surfaces by area between voxel corners; on smooth shapes far apart that is no great difference."""
    import surface_distance

    spacing_mm = (2.0, 1.0, 1.0)
    index = np.stack(np.meshgrid(*map(np.arange, (20, 40, 40)), indexing="ij"), axis=-1)
    offset_mm = (index - np.array([9.5, 19.5, 19.5])) * spacing_mm
    small, large = np.linalg.norm(offset_mm, axis=-1) < 11, np.linalg.norm(offset_mm * [1, 1, 0.8], axis=-1) < 14
    theirs = surface_distance.compute_surface_distances(large, small, spacing_mm)
    affine = np.diag([*spacing_mm, 1.0])
    pooled = np.average(
        np.concatenate([theirs["distances_gt_to_pred"], theirs["distances_pred_to_gt"]]),
        weights=np.concatenate([theirs["surfel_areas_gt"], theirs["surfel_areas_pred"]]),
    )
    assert average_surface_distance_mm(small, large, affine) == pytest.approx(pooled, abs=0.25)
    assert hd95_mm(small, large, affine) == pytest.approx(
        surface_distance.compute_robust_hausdorff(theirs, 95), abs=0.5
    )
    assert pooled > 3 and hd95_mm(small, large, affine) > 5


def test_border_of_the_grid_is_no_surface():
    a, b = mask((0, 12), (5, 9), (5, 9)), mask((0, 12), (5, 10), (5, 9))
    # In plane 4 x 4 against 5 x 4: 12 and 14 rim voxels; forth: the 2 inner ones of the lower edge are 1 voxel off,
    # back: the 4 of the additional row are; every slice is alike because the cut slices have no face of their own.
    assert average_surface_distance_mm(a, b, AFFINE) == pytest.approx((2 * 1.0 + 4 * 1.25) / (12 + 14))


def test_distances_of_empty_masks_are_not_a_number():
    empty, one = np.zeros(SHAPE, bool), mask((5, 6), (5, 6), (5, 6))
    for metric in (average_surface_distance_mm, hd95_mm, localization_error_mm):
        assert math.isnan(metric(empty, one, AFFINE)) and math.isnan(metric(one, empty, AFFINE))
        assert math.isnan(metric(empty, empty, AFFINE))
    assert math.isnan(average_surface_distance_mm(np.ones(SHAPE, bool), one, AFFINE))  # fills the grid: no surface


@pytest.mark.parametrize("metric", [average_surface_distance_mm, hd95_mm, localization_error_mm])
def test_masks_of_two_shapes_are_refused(metric):
    with pytest.raises(ValueError, match="one shape"):
        metric(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool), AFFINE)
    with pytest.raises(ValueError, match="one shape"):
        dice(np.ones((2, 2, 2), bool), np.ones((2, 2, 3), bool))


def test_perfect_prediction():
    reference = LabelMap(spine(range(1, 8)), AFFINE)
    score = score_case(reference, reference)
    assert [row.level for row in score.discs] == [1, 2, 3, 4, 5, 6, 7]
    assert all(row.dice == 1 and row.asd_mm == 0 and row.hd95_mm == 0 and row.right for row in score.discs)
    assert (score.levels_right, score.levels_total, score.extra_discs, score.all_discs_dice) == (7, 7, 0, 1.0)


def test_missed_disc_counts_zero():
    score = score_case(LabelMap(spine([1, 2, 4, 5, 6, 7]), AFFINE), LabelMap(spine(range(1, 8)), AFFINE))
    missed = score.discs[2]
    assert missed.dice == 0 and not missed.found and not missed.right
    assert math.isnan(missed.asd_mm) and math.isnan(missed.localization_error_mm)
    assert score.levels_right == 6 and score.levels_total == 7 and score.extra_discs == 0
    assert score.all_discs_dice == pytest.approx(2 * 6 / 13)


def test_spine_numbered_one_level_off_is_wrong_but_has_no_extra_disc():
    # Levels 1 to 6 lie in the places of 2 to 7: steps of 12.5 mm are beyond the 10 mm that make a level right.
    score = score_case(LabelMap(spine(range(1, 7), shift=-1), AFFINE), LabelMap(spine(range(1, 8)), AFFINE))
    assert score.levels_right == 0 and score.extra_discs == 0
    assert all(row.dice == 0 for row in score.discs)
    assert score.discs[0].found and score.discs[0].localization_error_mm == pytest.approx(12.5)
    assert score.all_discs_dice == pytest.approx(2 * 6 / 13)


def test_disc_in_the_wrong_place_is_extra():
    prediction = spine(range(1, 7))
    prediction[1:4, 76:79, 0:3] = 7  # far below the lowest disc, in front of it
    score = score_case(LabelMap(prediction, AFFINE), LabelMap(spine(range(1, 7)), AFFINE))
    assert score.extra_discs == 1 and score.levels_right == 6


def test_disc_found_as_two_has_one_extra():
    prediction = spine(range(1, 6))
    prediction[1:11, 26:30, 10:16][prediction[1:11, 26:30, 10:16] == 5] = 6  # the rear half of level 5
    score = score_case(LabelMap(prediction, AFFINE), LabelMap(spine(range(1, 6)), AFFINE))
    assert score.extra_discs == 1 and score.levels_right == 5


def test_discs_above_the_seventh_count_on_neither_side():
    reference = np.zeros((4, 200, 8), np.uint8)
    prediction = np.zeros_like(reference)
    for level in range(1, 10):
        top = 196 - 20 * level
        reference[1:3, top : top + 4, 2:6] = level
        if level < 9:
            prediction[1:3, top : top + 4, 2:6] = level
    full = score_case(LabelMap(prediction, AFFINE), LabelMap(reference, AFFINE))
    assert [row.level for row in full.discs] == [1, 2, 3, 4, 5, 6, 7]
    assert (full.extra_discs, full.all_discs_dice) == (0, 1.0)
    # One level off: the predicted seventh lies on the reference's eighth, and is neither extra nor a false voxel.
    prediction = np.where(prediction > 1, prediction - 1, 0).astype(np.uint8)
    off = score_case(LabelMap(prediction, AFFINE), LabelMap(reference, AFFINE))
    assert (off.extra_discs, off.levels_right) == (0, 0)
    assert off.all_discs_dice == pytest.approx(2 * 6 / 13)


def test_prediction_on_another_grid_is_brought_to_the_reference():
    reference = LabelMap(spine(range(1, 8)), AFFINE)
    finer = AFFINE.copy()
    finer[:3, 1] /= 2
    finer[:3, 3] -= AFFINE[:3, 1] / 4  # two voxels where there was one
    score = score_case(LabelMap(np.repeat(reference.array, 2, axis=1), finer), reference)
    assert all(row.dice == 1 for row in score.discs)
    moved = AFFINE.copy()
    moved[:3, 3] += [0, 4.0, 0]
    shifted = score_case(LabelMap(reference.array, moved), reference)
    assert shifted.discs[0].localization_error_mm == pytest.approx(4.0)
    assert shifted.discs[0].dice == pytest.approx(8 / 12)


def test_empty_sides():
    empty, reference = LabelMap(np.zeros(SHAPE, np.uint8), AFFINE), LabelMap(spine([1, 2]), AFFINE)
    nothing_found = score_case(empty, reference)
    assert [row.dice for row in nothing_found.discs] == [0, 0] and nothing_found.all_discs_dice == 0
    nothing_there = score_case(reference, empty)
    assert nothing_there.discs == () and nothing_there.extra_discs == 2 and nothing_there.all_discs_dice == 0
    assert math.isnan(score_case(empty, empty).all_discs_dice)
