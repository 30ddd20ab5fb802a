"""The centre line: curves whose every point is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivdjax.discs.centre_line import fit_centre_line
from ivdjax.volume import Grid, to_world_mm

# Canonical directions, 4 x 1 x 1 mm: voxel (d, h, w) lies at x = 20 - 4 d, y = 30 - w, z = 100 - h.
GRID = Grid((11, 100, 60), np.array([[-4.0, 0, 0, 20], [0, 0, -1.0, 30], [0, -1.0, 0, 100], [0, 0, 0, 1]]))
HEIGHTS = np.array([0.0, 35, 70, 105, 140, 173, 203])


def test_one_centroid_gives_a_vertical_line():
    line = fit_centre_line(np.array([[1.0, 2, 3]]))
    np.testing.assert_allclose(line.at(np.array([-50.0, 3, 80])), [[1, 2, -50], [1, 2, 3], [1, 2, 80]])
    np.testing.assert_allclose(line.direction(np.array([0.0, 90])), [[0, 0, 1], [0, 0, 1]])


def test_two_centroids_give_a_straight_line():
    line = fit_centre_line(np.array([[0.0, 0, 0], [6, -8, 10]]))
    np.testing.assert_allclose(line.at(np.array([-10.0, 5, 20])), [[-6, 8, -10], [3, -4, 5], [12, -16, 20]], atol=1e-9)
    np.testing.assert_allclose(line.direction(np.array([5.0])), [np.array([6, -8, 10]) / np.sqrt(200)])


def test_a_cubic_is_followed_and_goes_on_straight_beyond_its_ends():
    def curve(z):
        return np.stack([17 * (z / 100) ** 3 - 10 * z / 100, 20 * (z / 100) ** 2, z], axis=1)

    line = fit_centre_line(curve(np.linspace(-100, 100, 7)))
    inner = np.linspace(-100, 100, 50)
    np.testing.assert_allclose(line.at(inner), curve(inner), atol=1e-9)
    # At z = 100 the curve rises by 0.41 in x and 0.4 in y for each mm.
    np.testing.assert_allclose(line.at(np.array([130.0])), [[7 + 0.41 * 30, 20 + 0.4 * 30, 130]], atol=1e-9)
    np.testing.assert_allclose(line.at(np.array([-130.0])), [[-7 - 0.41 * 30, 20 + 0.4 * 30, -130]], atol=1e-9)


def test_a_scoliosis_of_two_curves_keeps_near_all_centroids():
    x, y = 17 * np.sin(2 * np.pi * HEIGHTS / 203), -30 * np.sin(np.pi * HEIGHTS / 203)
    centroids = np.stack([x, y, HEIGHTS], axis=1)
    assert fit_centre_line(centroids).distance_mm(centroids).max() < 5  # half a disc is 15 mm and more


def test_order_does_not_count():
    centroids = np.stack([np.sin(HEIGHTS), np.cos(HEIGHTS), HEIGHTS], axis=1)
    one, other = fit_centre_line(centroids), fit_centre_line(centroids[::-1])
    np.testing.assert_allclose(one.at(HEIGHTS), other.at(HEIGHTS), atol=1e-9)


def test_a_stray_centroid_does_not_bend_the_line_to_itself():
    centroids = np.stack([np.zeros(7), -30 * np.sin(np.pi * HEIGHTS / 203), HEIGHTS], axis=1)
    stray = centroids.copy()
    stray[3, :2] += 40
    distance = fit_centre_line(stray).distance_mm(centroids)
    assert distance.max() < 10
    plain = np.polyval(np.polyfit(HEIGHTS, stray[:, 0], 3), HEIGHTS)
    assert distance.max() < np.abs(plain).max() * np.sqrt(2) * 0.7


def test_weights_count_and_a_weight_of_0_leaves_out():
    centroids = np.array([[0.0, 0, 0], [0, 0, 40], [9, 0, 80], [50, 50, 120]])
    weighted = fit_centre_line(centroids, np.array([1.0, 2, 1, 0]))
    np.testing.assert_allclose(weighted.at(np.array([0.0, 20, 80])), fit_centre_line(centroids[:3]).at(
        np.array([0.0, 20, 80])), atol=1e-9)  # fmt: skip
    assert weighted.ends_mm == (0.0, 80.0)
    # Two centroids at one height: the mean, weighted.
    mean = fit_centre_line(np.array([[0.0, 0, 0], [4.0, 0, 0]]), np.array([3.0, 1]))
    np.testing.assert_allclose(mean.at(np.array([50.0])), [[1, 0, 50]])


def test_centroids_of_one_height_do_not_tip_the_line_over():
    line = fit_centre_line(np.array([[0.0, 0, 0], [0, 0, 40], [2, 0, 40.5], [0, 0, 80]]))
    assert line.distance_mm(np.array([[0.0, 0, -40], [0, 0, 120]])).max() < 5


@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_tangents_are_those_of_the_points(seed, count):
    rng = np.random.default_rng(seed)
    centroids = np.stack([rng.normal(0, 10, count), rng.normal(0, 10, count), 30.0 * np.arange(count)], axis=1)
    line = fit_centre_line(centroids)
    z = rng.uniform(-60, 300, 20)
    chord = line.at(z + 1e-4) - line.at(z - 1e-4)
    np.testing.assert_allclose(line.direction(z), chord / np.linalg.norm(chord, axis=1, keepdims=True), atol=1e-3)
    assert (line.direction(z)[:, 2] > 0).all()


def test_distance_lies_in_the_horizontal_plane():
    line = fit_centre_line(np.array([[0.0, 0, 0], [0, 50, 50]]))  # leans by 45 degrees
    np.testing.assert_allclose(line.distance_mm(np.array([[3.0, 14, 10], [0, 20, 20]])), [5, 0], atol=1e-9)


def test_crossing_a_disc_or_passing_it():
    line = fit_centre_line(np.array([[0.0, 0, 20], [0, 20, 40]]))  # from (d, h, w) = (5, 80, 30) to (5, 60, 10)
    for place, crossed in [((5, 70, 20), True), ((5, 70, 24), False), ((4, 70, 20), False), ((5, 90, 40), True)]:
        mask = np.zeros(GRID.shape, bool)
        mask[place] = True
        assert line.crosses(mask, GRID) == crossed, place


def test_crossing_is_found_in_a_single_voxel_of_a_line_almost_level():
    line = fit_centre_line(np.array([[0.0, -20, 49.8], [0, 20, 51.2]]))
    for w in range(15, 45):  # every column between the ends holds one crossed voxel
        mask = np.zeros(GRID.shape, bool)
        mask[5, 100 - round(50.5 + (30 - w) * 0.7 / 20), w] = True
        assert line.crosses(mask, GRID), w


def test_crossing_on_an_oblique_grid():
    turn = np.radians(25)
    rotation = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ GRID.affine[:3, :3]
    grid = Grid(GRID.shape, affine)
    line = fit_centre_line(to_world_mm(affine, np.array([[5.0, 80, 30], [5, 20, 30]])))
    hit, missed = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    hit[5, 50, 30], missed[5, 50, 33] = True, True
    assert line.crosses(hit, grid) and not line.crosses(missed, grid)


def test_an_empty_mask_is_never_crossed():
    assert not fit_centre_line(np.zeros((1, 3))).crosses(np.zeros(GRID.shape, bool), GRID)


@pytest.mark.parametrize("centroids", [np.zeros((0, 3)), np.zeros((2, 2)), np.array([[0, np.nan, 0]])])
def test_impossible_centroids_are_refused(centroids):
    with pytest.raises(ValueError, match="needs finite centroids of shape"):
        fit_centre_line(centroids)


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [1.0, -1.0], [1.0, np.inf]])
def test_impossible_weights_are_refused(weights):
    with pytest.raises(ValueError, match="2 centroids need as many weights of 0 or more"):
        fit_centre_line(np.array([[0.0, 0, 0], [0, 0, 30]]), np.array(weights))


def test_a_mask_that_does_not_fit_its_grid_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 2, 3\) does not lie on a grid of shape \(11, 100, 60\)"):
        fit_centre_line(np.zeros((1, 3))).crosses(np.ones((1, 2, 3), bool), GRID)
