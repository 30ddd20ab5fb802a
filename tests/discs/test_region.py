"""The spine region: hulls that a person can check by hand, and predictions made whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ivdjax.discs.region import spine_region, whole_region, widened
from ivdjax.imaging.geometry import respaced
from ivdjax.volume import Grid


def grid_of(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], turn_deg: float = 0.0) -> Grid:
    """Canonical directions, optionally turned about the left-right axis."""
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    turn = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[-1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]]) @ np.diag(spacing_mm)
    affine[:3, 3] = (30.0, 80.0, 200.0)
    return Grid(shape, affine)


def two_discs(grid: Grid) -> np.ndarray:
    mask = np.zeros(grid.shape, bool)
    middle = slice(grid.shape[0] // 3, grid.shape[0] - grid.shape[0] // 3)
    mask[middle, 8:10, 12:20] = True
    mask[middle, 28:30, 20:28] = True
    return mask


def test_one_voxel_becomes_a_ball():
    grid = grid_of((21, 21, 21), (1.0, 1.0, 1.0))
    mask = np.zeros(grid.shape, bool)
    mask[10, 10, 10] = True
    index = np.abs(np.indices(grid.shape) - 10.0)
    from_voxel = np.linalg.norm(np.maximum(index - 0.5, 0), axis=0)  # a voxel reaches half a step to each side
    region = spine_region(mask, grid, 5.0)
    assert region[from_voxel <= 5.0].all()
    assert not region[from_voxel > 5.15].any()


def test_without_dilation_the_hull_of_a_box_is_the_box():
    for turn_deg in (0.0, 20.0):
        grid = grid_of((5, 20, 20), (4.0, 1.0, 1.5), turn_deg)
        mask = np.zeros(grid.shape, bool)
        mask[1:3, 5:9, 4:16] = True
        np.testing.assert_array_equal(spine_region(mask, grid, 0.0), mask)


def test_dilation_is_in_mm_along_each_axis():
    grid = grid_of((15, 40, 40), (4.0, 1.0, 2.0))
    mask = np.zeros(grid.shape, bool)
    mask[7, 20, 20] = True
    region = spine_region(mask, grid, 8.2)  # from the voxel's faces: 10.2 mm in D, 8.7 in H, 9.2 in W
    assert np.flatnonzero(region[:, 20, 20]).tolist() == [5, 6, 7, 8, 9]
    assert np.flatnonzero(region[7, :, 20]).tolist() == list(range(12, 29))
    assert np.flatnonzero(region[7, 20]).tolist() == [16, 17, 18, 19, 20, 21, 22, 23, 24]


def test_the_hull_fills_what_lies_between_two_discs():
    grid = grid_of((1, 40, 40), (3.0, 1.0, 1.0))
    region = spine_region(two_discs(grid), grid, 0.0)
    # On the right the hull goes from the corner (h 7.5, w 19.5) to (27.5, 27.5), on the left from (9.5, 11.5) to
    # (29.5, 19.5): 0.4 columns a row.
    assert np.flatnonzero(region[0, 9]).tolist() == list(range(12, 21))
    assert np.flatnonzero(region[0, 19]).tolist() == list(range(16, 25))
    assert np.flatnonzero(region[0, 28]).tolist() == list(range(19, 28))
    assert not region[0, :8].any() and not region[0, 30:].any()


@pytest.mark.parametrize("slices", [1, 2, 3])
@pytest.mark.parametrize("step_mm", [0.9, 4.0])
def test_a_slab_is_covered_in_all_its_slices(slices, step_mm):
    grid = grid_of((slices, 40, 40), (step_mm, 3.0, 3.0))
    mask = np.zeros(grid.shape, bool)
    mask[0] = two_discs(grid_of((1, 40, 40), (1.0, 1.0, 1.0)))[0]  # outlined in the first slice alone
    region = spine_region(mask, grid, 10.0)
    assert region[0].sum() > mask[0].sum() and region.any(axis=(1, 2)).all()
    assert region[:, 18, 20].all()


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 3.0, 10.0]), st.floats(-25, 25))
def test_the_region_is_convex_and_holds_the_dilated_discs(seed, dilation_mm, turn_deg):
    rng = np.random.default_rng(seed)
    grid = grid_of((6, 14, 12), (4.0, 2.0, 3.0), turn_deg)
    mask = rng.random(grid.shape) < 0.01
    mask[2, 7, 6] = True
    region = spine_region(mask, grid, dilation_mm)
    distance = ndimage.distance_transform_edt(~mask, grid.spacing_mm)
    assert region[distance <= dilation_mm].all()
    # A voxel halfway between two of a convex region belongs to it.
    inside = np.argwhere(region)
    one, other = inside[rng.integers(0, len(inside), (2, 300))]
    even = ((one + other) % 2 == 0).all(axis=1)
    assert region[tuple(((one + other)[even] // 2).T)].all()
    # And it goes no farther than the dilation from the discs' own bounding box, in each of the grid's directions.
    for axis in range(3):
        span = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        reach = np.flatnonzero(region.any(axis=tuple({0, 1, 2} - {axis})))
        allowed = 0.5 + (dilation_mm * 1.02 + 1e-6) / grid.spacing_mm[axis]
        assert span[0] - reach[0] <= allowed and reach[-1] - span[-1] <= allowed


def test_the_region_is_the_same_place_in_the_world_on_another_grid():
    coarse = grid_of((10, 30, 30), (3.0, 2.4, 1.8), turn_deg=10.0)
    mask = np.zeros(coarse.shape, bool)
    mask[3:6, 10:12, 12:18] = mask[3:6, 20:22, 16:22] = True
    fine = respaced(coarse, (1.0, 0.8, 0.6))  # the middle one of 3 x 3 x 3 voxels has a coarse voxel's centre
    finer = mask.repeat(3, axis=0).repeat(3, axis=1).repeat(3, axis=2)
    region = spine_region(finer, fine, 7.0)
    np.testing.assert_array_equal(spine_region(mask, coarse, 7.0), region[1::3, 1::3, 1::3])


def test_no_disc_has_no_region():
    grid = grid_of((3, 5, 5), (1.0, 1.0, 1.0))
    region = spine_region(np.zeros(grid.shape, bool), grid, 10.0)
    assert region.shape == grid.shape and region.dtype == bool and not region.any()


@pytest.mark.parametrize("dilation_mm", [-1.0, float("nan"), float("inf")])
def test_an_impossible_dilation_is_refused(dilation_mm):
    grid = grid_of((3, 5, 5), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="dilation must be 0 mm or more, not"):
        spine_region(np.ones(grid.shape, bool), grid, dilation_mm)


def test_an_array_that_does_not_fit_its_grid_is_refused():
    grid = grid_of((3, 5, 5), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"\(3, 5, 4\) does not lie on a grid of shape \(3, 5, 5\)"):
        spine_region(np.ones((3, 5, 4), bool), grid, 1.0)
    with pytest.raises(ValueError, match=r"\(3, 5, 4\) does not lie on a grid of shape \(3, 5, 5\)"):
        whole_region(np.ones((3, 5, 4)), grid)


def test_a_prediction_keeps_its_largest_piece_and_loses_its_holes():
    grid = grid_of((3, 60, 60), (4.0, 2.0, 2.0))
    probability = np.zeros(grid.shape, np.float32)
    probability[:, 10:50, 20:40] = 0.9
    probability[:, 20:30, 25:36] = 0.1  # a hole through all slices, too wide for the closing
    probability[:, 5:10, 50:58] = 0.8  # a stray piece, 20 mm away
    expected = np.zeros(grid.shape, bool)
    expected[:, 10:50, 20:40] = True
    np.testing.assert_array_equal(whole_region(probability, grid), expected)


def test_a_thin_gap_does_not_cost_the_upper_spine():
    grid = grid_of((4, 60, 40), (4.0, 2.0, 2.0))
    probability = np.zeros(grid.shape, np.float32)
    probability[:, 5:24, 10:30] = probability[:, 27:55, 10:30] = 0.9  # 6 mm apart
    whole = whole_region(probability, grid)
    # A notch of at most one column stays on each side, because a ball does not reach into its corner.
    assert whole[:, 5:55, 11:29].all() and not whole[:, :5].any() and whole.sum() <= 4 * 50 * 20


def test_the_closing_adds_nothing_to_a_convex_region_up_to_the_border():
    grid = grid_of((3, 30, 30), (4.0, 2.0, 2.0))
    probability = np.zeros(grid.shape)
    probability[:, :, 6:20] = 1.0
    np.testing.assert_array_equal(whole_region(probability, grid), probability > 0.5)


def test_a_lost_slice_does_not_cost_one_side():
    grid = grid_of((8, 40, 40), (4.0, 2.0, 2.0))
    probability = np.zeros(grid.shape)
    probability[:, 5:35, 10:30] = 1.0
    probability[3] = 0.0
    whole = whole_region(probability, grid)
    assert whole[[0, 1, 2, 4, 5, 6, 7], 5:35, 10:30].all() and whole[3, 8:32, 13:27].all()


def test_the_threshold_counts_and_an_empty_prediction_gives_no_region():
    grid = grid_of((2, 8, 8), (4.0, 2.0, 2.0))
    probability = np.full(grid.shape, 0.4)
    probability[0, 0, 0] = np.nan
    assert not whole_region(probability, grid).any()
    np.testing.assert_array_equal(whole_region(probability, grid, threshold=0.3), probability > 0.3)


def test_a_region_is_widened_in_mm_and_stays_as_it_is_without_a_margin():
    grid = grid_of((3, 9, 9), (4.0, 2.0, 2.0))
    region = np.zeros(grid.shape, bool)
    region[1, 4, 4] = True
    wide = widened(region, grid, 4.0)
    assert wide[1, 2, 4] and wide[1, 4, 6] and wide[0, 4, 4] and wide.sum() == 15  # 13 in the plane, one to each side
    for margin_mm in (0.0, -1.0):
        assert np.array_equal(widened(region, grid, margin_mm), region)
    assert widened(region, grid, 0.5).sum() == 1 and not widened(~np.ones_like(region), grid, 4.0).any()
    with pytest.raises(ValueError, match="does not lie on a grid of shape"):
        widened(region[:2], grid, 4.0)
