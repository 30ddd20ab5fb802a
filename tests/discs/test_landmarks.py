"""The bones beside the lowest discs, on boxes of voxels that a person can count."""

from __future__ import annotations

import numpy as np

from ivdjax.discs.landmarks import l5_body, s1_block
from ivdjax.volume import Grid

SHAPE = (9, 100, 60)
GRID = Grid(SHAPE, np.array([[-4.0, 0, 0, 0], [0, 0, -1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1.0]]))
"""Voxels of 4 x 1 x 1 mm."""


def labels(slices: slice = slice(2, 7)) -> np.ndarray:
    """L5/S1 in rows 60 to 65 and L4/5 in rows 30 to 35, columns 10 to 39."""
    discs = np.zeros(SHAPE, np.uint8)
    discs[slices, 60:66, 10:40], discs[slices, 30:36, 10:40] = 1, 2
    return discs


def test_the_block_below_l5_s1_is_as_deep_as_the_disc_and_25_mm_high():
    block = s1_block(labels(), GRID)
    d, h, w = (np.unique(index) for index in np.nonzero(block))
    assert (d[0], d[-1]) == (2, 6)
    assert h[0] == 66 and abs(h[-1] - 90) <= 1
    assert abs(w[0] - 10) <= 1 and abs(w[-1] - 39) <= 1
    assert not (block & (labels() > 0)).any()


def test_where_the_sides_are_cut_the_block_goes_on_to_them():
    assert s1_block(labels(slice(None)), GRID).any(axis=(1, 2)).all()


def test_a_disc_that_slopes_takes_the_block_with_it():
    discs = np.zeros(SHAPE, np.uint8)
    for column in range(10, 40):  # front edge lower, as L5/S1 slopes
        discs[2:7, 70 - column // 2 : 76 - column // 2, column] = 1
    block = s1_block(discs, GRID)
    centre = np.argwhere(block).mean(axis=0)
    assert centre[1] > 70 and centre[2] > 28, "below the disc's own plane lies behind its centre"


def test_l5_lies_between_the_two_lowest_discs():
    body = l5_body(labels(), GRID)
    rows = np.unique(np.nonzero(body[:, :, 12:38])[1])
    assert (rows[0], rows[-1]) == (36, 59)
    np.testing.assert_array_equal(np.unique(np.nonzero(body)[0]), np.arange(2, 7))


def test_without_its_discs_there_is_no_bone():
    without = np.where(labels() == 1, 0, labels()).astype(np.uint8)
    assert not s1_block(without, GRID).any() and not l5_body(without, GRID).any()
    assert not l5_body(np.where(labels() == 2, 0, labels()).astype(np.uint8), GRID).any()
