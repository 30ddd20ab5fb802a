from __future__ import annotations

import numpy as np

from benchmarks.channel_subsets import only, subsets, table
from ivdjax.discs.metrics import CaseScore, DiscScore
from ivdjax.volume import Case, Volume

DIXON = ("fat", "inn", "opp", "wat")


def test_fifteen_subsets_of_four_channels():
    found = subsets(DIXON)
    assert len(found) == len(set(found)) == 15
    assert found[0] == DIXON and found[-4:] == [("fat",), ("inn",), ("opp",), ("wat",)]
    assert subsets(("t2",)) == [("t2",)]


def test_what_is_left_out_is_not_in_the_case():
    array = np.arange(4 * 6).reshape(4, 1, 2, 3)
    case = only(Case("a", "a", Volume(array, np.eye(4), DIXON)), ("inn", "wat"))
    assert case.volume.channels == ("inn", "wat")
    np.testing.assert_array_equal(case.volume.array, array[[1, 3]])


def test_table_by_hand():
    right, missed = DiscScore(1, 0.5, 1, 1, 2.0, True, True), DiscScore(2, 0.0, *[float("nan")] * 3, False, False)
    lines = table(("fat", "wat"), {("fat", "wat"): [CaseScore((right, missed), 0.5, 1)], ("wat",): []}).splitlines()
    assert lines[0] == "| fat | wat | mean Dice | worst Dice | levels right | localization mm | extra discs |"
    assert lines[2] == "| x | x | 0.250 | 0.000 | 1 of 2 | 2.00 | 1 |"
    assert lines[3] == "|  | x | - | - | 0 of 0 | - | 0 |"
