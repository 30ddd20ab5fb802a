from __future__ import annotations

import numpy as np
import pytest

from ivdjax.data.phantom.shapes import (
    Frame,
    capsule,
    ellipsoid,
    intersection,
    occupancy,
    rotation,
    superellipse,
    union,
)


def points(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32).T


def test_a_disc_tilted_by_minus_90_degrees_has_its_front_below_and_its_top_in_front() -> None:
    axes = rotation(-90)
    np.testing.assert_allclose(axes, [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-12)


def test_lateral_tilt_lowers_the_right_edge_and_axes_stay_a_right_handed_rotation() -> None:
    assert rotation(0, 20)[0, 2] < 0
    axes = rotation(12, -20, 7)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)


def test_local_and_world_undo_each_other() -> None:
    frame = Frame(np.array([3.0, -4.0, 50.0]), rotation(-31, 5, 2))
    world = frame.world((1.0, 2.0, 3.0))
    np.testing.assert_allclose(frame.local(world.astype(np.float32).reshape(3, 1))[:, 0], [1, 2, 3], atol=1e-4)


@pytest.mark.parametrize("power", [2, 2.6])
def test_superellipse_is_exact_on_its_axes_and_zero_on_its_outline(power: float) -> None:
    x, y = np.array([30.0, 25, 20, 0]), np.array([0.0, 0, 0, 18])
    np.testing.assert_allclose(superellipse(x, y, 25, 18, power), [5, 0, -5, 0], atol=0.01)
    corner = 0.5 ** (1 / power)
    assert superellipse(np.array([25 * corner]), np.array([18 * corner]), 25, 18, power) == pytest.approx(0, abs=1e-3)


def test_ball_and_rod_give_plain_distances() -> None:
    np.testing.assert_allclose(ellipsoid(points((0, 0, 7), (0, 0, 3)), (5, 5, 5)), [2, -2], atol=1e-4)
    rod = capsule(points((0, 3, 5), (0, 0, 12), (0, 0, 5)), (0, 0, 0), (0, 0, 10), 1.0)
    np.testing.assert_allclose(rod, [2, 1, -1], atol=1e-4)
    high = capsule(points((0, 0, 2), (0, 2, 0)), (0, 0, 0), (0, 0, 0), 1.0, (1, 1, 2))
    np.testing.assert_allclose(high, [0, 1], atol=1e-4)


def test_rounding_takes_the_edge_of_an_intersection_and_fills_the_groove_of_a_union() -> None:
    a, b = np.array([-5.0, 0.0]), np.array([-5.0, 0.0])
    rounded = intersection(a, b, 2.0)
    np.testing.assert_allclose(rounded, [-5, 2 * np.sqrt(2) - 2], atol=1e-6)  # the edge itself lies outside
    np.testing.assert_allclose(union(a, b, 2.0)[1], 2 - 2 * np.sqrt(2), atol=1e-6)


def test_half_of_a_voxel_on_the_surface_is_inside() -> None:
    np.testing.assert_allclose(occupancy(np.array([-1.0, -0.5, 0, 0.25, 0.5, 3]), 1.0), [1, 1, 0.5, 0.25, 0, 0])
