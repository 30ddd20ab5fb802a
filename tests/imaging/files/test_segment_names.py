from __future__ import annotations

import pytest

from ivdjax.imaging.files.segment_names import is_disc_name, level_of_name


@pytest.mark.parametrize(
    ("name", "level"),
    [("L5/S1", 1), ("L5-S1", 1), ("L5S1", 1), ("Disc L5_S1", 1), ("L4/5", 2), ("L4/L5 disc", 2), ("l4-5", 2),
     ("IVD L1-L2", 5), ("T12/L1", 6), ("Th12/L1", 6), ("D12-L1", 6), ("T11/12", 7), ("Intervertebral disc T9/T10", 9),
     ("T1/T2", 17), ("C7/T1", 18), ("C2/3", 23), ("disc of L3/L4", 3)],
)  # fmt: skip
def test_a_disc_by_its_name(name, level):
    assert level_of_name(name) == level and is_disc_name(name)


@pytest.mark.parametrize("name", ["L4/S1", "L6/S1", "L5/L6", "L5/L4", "C1/C2", "T13/L1", "disc", "Intervertebral disc"])
def test_names_of_discs_that_have_no_level(name):
    assert level_of_name(name) is None and is_disc_name(name)


@pytest.mark.parametrize("name", ["", "L5", "vertebra L4", "sacrum", "Segment_3", "canal", "bone", "T2", "discharge"])
def test_names_of_no_disc(name):
    assert level_of_name(name) is None and not is_disc_name(name)
