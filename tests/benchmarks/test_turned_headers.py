from __future__ import annotations

import math

import numpy as np

from benchmarks.turned_headers import AS_IT_IS, Outcome, stored, table
from ivdjax.volume import Case, Volume


def test_a_wrong_header_puts_other_voxels_into_the_same_places():
    array = np.arange(2 * 3 * 4, dtype=np.float32).reshape(1, 2, 3, 4)
    case = Case("a", "a", Volume(array, np.eye(4), ("t2",)))
    assert np.array_equal(stored(case, AS_IT_IS).volume.array, array)
    assert np.array_equal(stored(case, "upside down").volume.array, array[:, :, ::-1])
    assert np.array_equal(stored(case, "back to front").volume.array, array[..., ::-1])
    both = stored(case, "upside down and back to front")
    assert np.array_equal(both.volume.array, array[:, :, ::-1, ::-1]) and np.array_equal(both.volume.affine, np.eye(4))


def test_table_by_hand():
    rows = [Outcome(True, "upside down", 4.0), Outcome(True, "back to front", 1.0), Outcome(False, "", math.nan)]
    lines = table({"upside down": rows, AS_IT_IS: [Outcome(False, "", math.nan)]}).splitlines()
    assert lines[2] == "| upside down | 3 | 2 | 2 | 1 | 1.0 | 4.0 |"
    assert lines[3] == "| as it is | 1 | 0 | 0 | 0 | - | - |"
