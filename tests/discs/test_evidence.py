from __future__ import annotations

import numpy as np
import pytest

from ivdjax.discs.evidence import Anchor, Evidence
from ivdjax.volume import Grid

GRID, COARSE = Grid((4, 5, 6), np.eye(4)), Grid((2, 3, 3), np.eye(4))
PROBABILITY = np.zeros(GRID.shape, np.float32)


def test_arrays_must_lie_on_their_grids():
    with pytest.raises(ValueError, match="probability's shape"):
        Evidence(PROBABILITY[1:], GRID)
    with pytest.raises(ValueError, match="region's shape"):
        Evidence(PROBABILITY, GRID, region=np.zeros((1, 1, 1), bool))
    with pytest.raises(ValueError, match="need the grid"):
        Evidence(PROBABILITY, GRID, level_probability=np.zeros((8, 2, 3, 3), np.float32))
    with pytest.raises(ValueError, match=r"must be \(8, 2, 3, 3\)"):
        Evidence(PROBABILITY, GRID, level_probability=np.zeros((7, 2, 3, 3), np.float32), level_grid=COARSE)
    Evidence(PROBABILITY, GRID, level_probability=np.zeros((8, 2, 3, 3), np.float32), level_grid=COARSE)


def test_anchor_needs_a_level():
    with pytest.raises(ValueError, match="1 \\(L5/S1\\) or more, not 0"):
        Anchor(0, (0.0, 0.0, 0.0))
