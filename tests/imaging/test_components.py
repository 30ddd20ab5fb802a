"""Components in the order of the spine."""

from __future__ import annotations

import numpy as np
import pytest

from ivdjax.imaging.components import component_list, components
from ivdjax.volume import Grid

# Canonical directions, voxels of 2 x 1 x 1 mm: h = 0 is the top at z = 0.
GRID = Grid((4, 20, 10), np.array([[-2.0, 0, 0, 0], [0, 0, -1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]]))


def test_numbers_rise_from_the_lowest() -> None:
    mask = np.zeros(GRID.shape, bool)
    mask[1:3, 2:4, 2:8] = True
    mask[1:3, 15:17, 2:8] = True
    mask[1:3, 8:10, 2:8] = True
    numbered = components(mask, GRID)
    assert numbered.dtype == np.int32
    assert [numbered[1, h, 5] for h in (16, 9, 3)] == [1, 2, 3]
    assert np.array_equal(numbered > 0, mask)


def test_order_is_that_of_the_world_and_not_of_the_array() -> None:
    upside_down = Grid(GRID.shape, GRID.affine @ np.diag([1.0, -1.0, 1.0, 1.0]))
    mask = np.zeros(GRID.shape, bool)
    mask[1, 2, 2] = mask[1, 9, 2] = True
    assert components(mask, upside_down)[1, 2, 2] == 1
    assert components(mask, GRID)[1, 2, 2] == 2


def test_touching_at_an_edge_or_corner_is_not_connected() -> None:
    mask = np.zeros(GRID.shape, bool)
    mask[1, 5, 3] = mask[1, 6, 4] = mask[2, 7, 5] = True
    assert components(mask, GRID).max() == 3


def test_small_components_are_left_out_and_numbers_close_up() -> None:
    mask = np.zeros(GRID.shape, bool)
    mask[0, 18, 0] = True  # 2 mm3, the lowest
    mask[0:2, 10:12, 0:2] = True  # 8 voxels of 2 mm3
    numbered = components(mask, GRID, min_mm3=16.0)
    assert numbered[0, 18, 0] == 0 and numbered[0, 10, 0] == 1 and numbered.max() == 1
    assert components(mask, GRID, min_mm3=16.1).max() == 0


def test_empty_mask_gives_nothing() -> None:
    numbered = components(np.zeros(GRID.shape, bool), GRID)
    assert numbered.shape == GRID.shape and not numbered.any()
    assert component_list(numbered, GRID) == []


def test_centroid_and_volume_in_millimetres() -> None:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[1:3, 4, 6] = 5
    (found,) = component_list(labels, GRID)
    assert found.number == 5
    assert found.centroid_mm == pytest.approx((-3.0, -6.0, -4.0))
    assert found.volume_mm3 == pytest.approx(4.0)
