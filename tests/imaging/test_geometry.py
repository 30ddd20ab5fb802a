"""Axis orders, grids and resampling on volumes small enough to follow by hand."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from ivdjax.imaging.geometry import (
    canonical_axes,
    canonical_grid,
    corners_mm,
    covering_box,
    cropped,
    from_canonical,
    obliqueness_deg,
    resample,
    respaced,
    to_canonical,
    view_distance_mm,
)
from ivdjax.volume import Grid, to_index, to_world_mm

# The canonical order itself: d to the left (-x), h to inferior (-z), w to posterior (-y).
LIP = np.array([[-3.0, 0.0, 0.0, 5.0], [0.0, 0.0, -1.0, 7.0], [0.0, -2.0, 0.0, 9.0], [0.0, 0.0, 0.0, 1.0]])


def straight(spacing_mm: tuple[float, float, float], shape: tuple[int, int, int]) -> Grid:
    """A canonical grid with its first voxel's centre at the origin."""
    d, h, w = spacing_mm
    return Grid(shape, np.array([[-d, 0, 0, 0], [0, 0, -w, 0], [0, -h, 0, 0], [0, 0, 0, 1.0]]))


def turned(grid: Grid, degrees: float, axis: int) -> Grid:
    """The grid turned about a world axis through the origin."""
    angle = np.radians(degrees)
    one, two = [i for i in range(3) if i != axis]
    rotation = np.eye(4)
    rotation[one, one] = rotation[two, two] = np.cos(angle)
    rotation[one, two], rotation[two, one] = -np.sin(angle), np.sin(angle)
    return Grid(grid.shape, rotation @ grid.affine)


def test_canonical_order_is_left_inferior_posterior() -> None:
    assert canonical_axes(LIP) == ((0, 1, 2), (False, False, False))


def test_ras_file_axes_are_reordered_and_all_reversed() -> None:
    # In RAS files i runs to the right, j to anterior, k to superior: each against its canonical direction.
    assert canonical_axes(np.eye(4)) == ((0, 2, 1), (True, True, True))


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)))
def test_all_48_axis_orders_keep_every_voxel_in_its_place(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    affine = np.eye(4)
    affine[:3, :3] = (np.diag([1.0, 2.0, 3.0]) @ np.eye(3)[:, list(order)]) * np.array(signs)
    affine[:3, 3] = 4.0, 5.0, 6.0
    native = Grid((2, 3, 4), affine)
    array = np.arange(24).reshape(2, 3, 4)
    turned_array, canonical = to_canonical(array, native)
    directions = canonical[:3, :3] / np.linalg.norm(canonical[:3, :3], axis=0)
    assert np.array_equal(directions, [[-1, 0, 0], [0, 0, -1], [0, -1, 0]])
    for index in np.ndindex(2, 3, 4):
        place = np.rint(to_index(canonical, to_world_mm(affine, np.array(index)))).astype(int)
        assert turned_array[tuple(place)] == array[index]
    assert np.array_equal(from_canonical(turned_array, native), array)


def test_oblique_axes_take_the_nearest_name() -> None:
    for axis in range(3):
        grid = turned(straight((3, 1, 1), (4, 5, 6)), 40, axis)
        assert canonical_axes(grid.affine) == ((0, 1, 2), (False, False, False))
        assert obliqueness_deg(grid.affine) == pytest.approx(40)


def test_arrays_must_fit_their_grid() -> None:
    native = Grid((2, 3, 4), np.eye(4))
    with pytest.raises(ValueError, match=r"\(2, 3, 5\) must be that of its grid"):
        to_canonical(np.zeros((2, 3, 5)), native)
    with pytest.raises(ValueError, match=r"must be \(2, 4, 3\)"):
        from_canonical(np.zeros((2, 3, 4)), native)
    with pytest.raises(ValueError, match="does not lie on a grid"):
        resample(np.zeros((2, 3, 5)), native, native, order=1)
    with pytest.raises(ValueError, match="order must be 0"):
        resample(np.zeros((2, 3, 4)), native, native, order=3)  # type: ignore[arg-type]


def test_respaced_keeps_the_outer_faces() -> None:
    grid = straight((3.0, 1.0, 0.5), (4, 10, 9))
    finer = respaced(grid, (None, 2.0, 1.25))
    assert finer.shape == (4, 5, 4)
    assert finer.spacing_mm == pytest.approx((3.0, 2.0, 1.125))
    assert np.allclose(corners_mm(finer), corners_mm(grid))
    # The first voxel of 2 mm covers the first two of 1 mm: its centre lies between theirs, half a millimetre on.
    assert to_world_mm(finer.affine, np.zeros(3))[2] == pytest.approx(-0.5)
    assert respaced(grid, (None, None, None)).matches(grid, 1e-9)
    assert respaced(grid, (100.0, None, None)).shape == (1, 10, 9)


def test_respaced_follows_an_oblique_grid() -> None:
    grid = turned(straight((3.0, 1.0, 0.5), (4, 10, 9)), 15, 0)
    assert np.allclose(corners_mm(respaced(grid, (None, 2.0, 1.25))), corners_mm(grid))


def test_view_distance_of_grids_of_other_shapes() -> None:
    grid = straight((3.0, 1.0, 1.0), (4, 10, 10))
    assert view_distance_mm(grid, respaced(grid, (None, 0.5, 0.5))) == pytest.approx(0, abs=1e-9)
    affine = grid.affine.copy()
    affine[:2, 3] += 3.0, 4.0
    assert view_distance_mm(grid, Grid(grid.shape, affine)) == pytest.approx(5.0)


def test_cropped_and_covering_box_agree() -> None:
    grid = straight((3.0, 1.0, 1.0), (8, 10, 12))
    box = (slice(2, 5), slice(0, 4), slice(6, 12))
    part = cropped(grid, box)
    assert part.shape == (3, 4, 6)
    assert np.allclose(to_world_mm(part.affine, np.zeros(3)), to_world_mm(grid.affine, np.array([2, 0, 6])))
    assert covering_box(grid, to_world_mm(grid.affine, np.array([[2, 0, 6], [4, 3, 11]])), margin=0) == box
    far = covering_box(grid, np.full((1, 3), 1e3))
    assert any(side.stop == side.start for side in far)


def test_covering_box_is_widened_and_clipped() -> None:
    grid = straight((3.0, 1.0, 1.0), (8, 10, 12))
    between = to_world_mm(grid.affine, np.array([[3.0, 4.4, 5.0], [3.0, 4.6, 5.0]]))
    assert covering_box(grid, between) == (slice(2, 5), slice(3, 7), slice(4, 7))
    assert covering_box(grid, between, margin=5) == (slice(0, 8), slice(0, 10), slice(0, 11))


@pytest.mark.parametrize("factor", [2, 4])
def test_the_anti_alias_filter_is_the_stated_gaussian(factor: int) -> None:
    source, coarse = straight((3.0, 1.0, 1.0), (1, 41, 1)), straight((3.0, factor, 1.0), (1, 40 // factor, 1))
    variance = (factor**2 - 1) / (8 * np.log(2))
    reach = np.arange(-15, 16)
    weights = np.exp(-(reach**2) / (2 * variance))
    middle = weights[15] / weights.sum()
    impulse = np.zeros(source.shape)
    impulse[0, 20] = 1.0
    assert resample(impulse, source, coarse, order=1)[0, 20 // factor, 0] == pytest.approx(middle, rel=0.01)
    # Beyond its ends the volume goes on as it ends: half of the weights, and the middle one, see the first voxel.
    impulse = np.zeros(source.shape)
    impulse[0, 0] = 1.0
    assert resample(impulse, source, coarse, order=1)[0, 0, 0] == pytest.approx((1 + middle) / 2, rel=0.01)


def test_linear_resampling_is_exact_on_a_ramp() -> None:
    grid = straight((3.0, 1.0, 1.0), (4, 12, 12))
    h = np.broadcast_to(np.arange(12.0)[None, :, None], grid.shape)
    finer = respaced(grid, (None, 0.5, None))
    result = resample(h, grid, finer, order=1)
    assert result.dtype == np.float32
    # Fine voxel n has its centre at coarse index n / 2 - 1/4; the outer half voxel carries the edge on.
    assert np.allclose(result[1, 1:-1, 5], np.arange(1, 23) / 2 - 0.25, atol=1e-5)
    assert result[1, 0, 5] == 0 and result[1, -1, 5] == 11


def test_resampling_turned_and_mirrored_grids_goes_through_the_world() -> None:
    grid = straight((2.0, 2.0, 2.0), (11, 11, 11))
    world = to_world_mm(grid.affine, np.moveaxis(np.indices(grid.shape), 0, -1))
    height = world[..., 2]
    for target in (
        turned(grid, 10, 0),
        Grid(grid.shape, grid.affine @ np.array([[-1.0, 0, 0, 10], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])),
        straight((2, 3, 1), (9, 6, 9)),
    ):
        points = to_world_mm(target.affine, np.moveaxis(np.indices(target.shape), 0, -1))
        index = to_index(grid.affine, points)
        # One voxel off the faces, where the anti-alias filter has the whole ramp in view.
        inside = ((index >= 1) & (index <= 9)).all(axis=-1)
        result = resample(height, grid, target, order=1, outside=-99.0)
        assert inside.any()
        assert np.allclose(result[inside], points[inside][:, 2], atol=0.05)
        outside = ((index < -0.51) | (index > 10.51)).any(axis=-1)
        assert (result[outside] == -99).all()


def test_nearest_keeps_type_and_values() -> None:
    grid = straight((3.0, 1.0, 1.0), (3, 6, 6))
    labels = np.zeros(grid.shape, np.uint8)
    labels[1, 2:4, 3] = 7
    back = resample(
        resample(labels, grid, respaced(grid, (None, 0.5, 0.5)), order=0),
        respaced(grid, (None, 0.5, 0.5)),
        grid,
        order=0,
    )
    assert back.dtype == np.uint8
    assert np.array_equal(back, labels)


def test_channels_are_resampled_alike() -> None:
    grid = straight((3.0, 1.0, 1.0), (3, 6, 6))
    array = np.random.default_rng(0).random((2, 3, 6, 6))
    both = resample(array, grid, respaced(grid, (None, 1.5, 1.5)), order=1)
    assert both.shape == (2, 3, 4, 4)
    assert np.array_equal(both[1], resample(array[1], grid, respaced(grid, (None, 1.5, 1.5)), order=1))
    away = straight((3.0, 1.0, 1.0), (6, 6, 6))
    before = Grid((3, 6, 6), grid.affine.copy())
    before.affine[0, 3] += 3.0  # its first slice lies one slice before the volume's
    backwards = Grid((4, 6, 6), grid.affine @ np.array([[-1.0, 0, 0, 2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    for order in (0, 1):
        assert (resample(array, grid, backwards, order, outside=-9.0)[:, 3] == -9.0).all()  # type: ignore[arg-type]
        assert (resample(array, grid, before, order, outside=-9.0)[:, 0] == -9.0).all()  # type: ignore[arg-type]
        assert np.allclose(resample(array, grid, before, order)[:, 1:], array[:, :2])  # type: ignore[arg-type]
        assert (resample(array, grid, away, order, outside=-9.0)[:, 3:] == -9.0).all()  # type: ignore[arg-type]
        assert (resample(array, grid, away, order)[:, 3:] == 0.0).all()  # type: ignore[arg-type]


def test_the_same_grid_gives_a_copy() -> None:
    grid = straight((3.0, 1.0, 1.0), (3, 6, 6))
    for array in (np.ones(grid.shape, np.uint8), np.ones(grid.shape, np.float32)):
        again = resample(array, grid, grid, order=int(array.dtype == np.float32))  # type: ignore[arg-type]
        assert np.array_equal(again, array) and not np.shares_memory(again, array)


def test_coarser_grids_see_averages_and_not_single_voxels() -> None:
    grid = straight((3.0, 1.0, 1.0), (1, 40, 40))
    stripes = np.zeros(grid.shape)
    stripes[:, ::2] = 1.0
    coarse = resample(stripes, grid, respaced(grid, (None, 4.0, 4.0)), order=1)
    assert np.abs(coarse[:, 1:-1] - 0.5).max() < 0.05


def test_canonical_grid_of_a_single_slice() -> None:
    grid = canonical_grid(Grid((5, 6, 1), straight((3, 1, 1), (1, 5, 6)).affine[:, [1, 2, 0, 3]]))
    assert grid.shape == (1, 5, 6)
