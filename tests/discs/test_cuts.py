from __future__ import annotations

import numpy as np
import pytest

from ivdjax.discs.cuts import SIDES, cut_sides, on_plane_border

SHAPE = (4, 5, 6)


@pytest.mark.parametrize(
    ("voxel", "sides"),
    [
        ((1, 2, 3), ()), ((0, 2, 3), ("right",)), ((3, 2, 3), ("left",)), ((1, 0, 3), ("top",)),
        ((1, 4, 3), ("bottom",)), ((1, 2, 0), ("front",)), ((1, 2, 5), ("back",)),
        ((0, 4, 0), ("right", "front", "bottom")),
    ],
)  # fmt: skip
def test_sides_are_named_after_the_canonical_axes(voxel, sides):
    assert cut_sides(np.array([[1, 2, 3], voxel]), SHAPE) == sides


def test_one_slice_is_cut_at_both_sides_and_a_full_grid_at_all():
    assert cut_sides(np.array([[0, 2, 3]]), (1, 5, 6)) == ("left", "right")
    assert cut_sides(np.argwhere(np.ones(SHAPE)), SHAPE) == SIDES


def test_no_voxel_is_cut_nowhere():
    assert cut_sides(np.zeros((0, 3), int), SHAPE) == ()
    assert on_plane_border(np.zeros((0, 3), int), SHAPE).shape == (0,)


def test_the_plane_border_leaves_the_sides_out():
    voxels = np.array([[0, 2, 3], [3, 2, 3], [1, 0, 3], [1, 4, 3], [1, 2, 0], [1, 2, 5]])
    assert on_plane_border(voxels, SHAPE).tolist() == [False, False, True, True, True, True]
