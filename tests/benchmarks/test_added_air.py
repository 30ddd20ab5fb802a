"""What the localization network says of outlined discs, in the benchmark that adds air."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.added_air import network_levels
from ivdjax.discs.evidence import ALL_CLASSES, HIGHER_CLASS, S1_CLASS, Evidence
from ivdjax.volume import Grid, LabelMap, UserError

GRID = Grid((2, 12, 4), np.diag([4.0, 4.0, 4.0, 1.0]))
ROWS = {1: slice(8, 10), 2: slice(5, 7), 3: slice(2, 4), 9: slice(0, 1)}


def test_the_likeliest_class_over_a_disc_is_its_level_and_bone_is_none():
    labels = np.zeros(GRID.shape, np.uint8)
    said = np.zeros((ALL_CLASSES, *GRID.shape), np.float32)
    said[0] = 1.0
    for level, rows in ROWS.items():
        labels[:, rows] = level
    for rows, classes in (
        (ROWS[1], {1: 0.4, 2: 0.3}),
        (ROWS[2], {2: 0.4, S1_CLASS: 0.6}),
        (ROWS[3], {HIGHER_CLASS: 1.0}),
    ):
        said[:, :, rows] = 0.0
        for number, value in classes.items():
            said[number, :, rows] = value
    said[0, :, ROWS[1]] = 0.3
    evidence = Evidence(np.zeros(GRID.shape, np.float32), GRID, level_probability=said, level_grid=GRID)
    assert network_levels(LabelMap(labels, GRID.affine), evidence) == [(1, 1), (2, 0), (3, HIGHER_CLASS)]
    with pytest.raises(UserError, match="no localization network"):
        network_levels(LabelMap(labels, GRID.affine), Evidence(np.zeros(GRID.shape, np.float32), GRID))
