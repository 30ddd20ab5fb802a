"""The reference mask: the spine most like the others."""

from __future__ import annotations

import numpy as np
import pytest

from ivdjax.discs.reference import reference_mask
from ivdjax.imaging.components import component_list
from ivdjax.volume import Grid

SHAPE = (6, 60, 40)


def case(bend: int = 0, levels: int = 8, shift_mm: float = 0.0) -> tuple[np.ndarray, Grid]:
    """Discs of 2 x 2 x 6 voxels every 7 rows from row 56 up; the upper half lies `bend` voxels farther back."""
    affine = np.array([[-4.0, 0, 0, shift_mm], [0, 0, -2.0, 30], [0, -2.0, 0, 100 + shift_mm], [0, 0, 0, 1]])
    labels = np.zeros(SHAPE, np.uint8)
    for level in range(1, levels + 1):
        start = 15 + (bend if level >= 4 else 0)
        labels[2:4, 57 - 7 * level : 59 - 7 * level, start : start + 6] = level
    return labels, Grid(SHAPE, affine)


def bend_of(reference) -> int:
    found = {c.number: c.centroid_mm for c in component_list(reference.array, reference.grid)}
    return round((found[1][1] - found[7][1]) / 2.0)


def test_the_case_nearest_to_the_others_is_taken_wherever_it_lies():
    cases = [case(bend=-3), case(bend=9), case(bend=2, shift_mm=300.0), case(bend=0)]  # the mean bend is 2
    assert bend_of(reference_mask(cases)) == 2
    assert bend_of(reference_mask(cases[::-1])) == 2


def test_levels_1_to_7_are_kept_and_cropped_with_a_margin_in_place():
    labels, grid = case(levels=8)
    reference = reference_mask([(labels, grid)])
    assert reference.levels == (1, 2, 3, 4, 5, 6, 7) and reference.array.dtype == np.uint8
    # Slices 2 and 3 of 6, rows 8 (level 7) to 51, columns 15 to 20; two voxels more on each side.
    assert reference.array.shape == (6, 48, 10)
    before = {c.number: c.centroid_mm for c in component_list(labels, grid) if c.number <= 7}
    after = {c.number: c.centroid_mm for c in component_list(reference.array, reference.grid)}
    assert before.keys() == after.keys()
    for level, centroid in before.items():
        assert after[level] == pytest.approx(centroid)


def test_a_margin_stays_in_the_field_of_view():
    labels, grid = case()
    tight = labels[2:4, :52]
    reference = reference_mask([(tight, Grid(tight.shape, grid.affine))])
    assert reference.array.shape == (2, 46, 10)


def test_cases_with_fewer_levels_stand_back():
    assert bend_of(reference_mask([case(levels=6), case(levels=6), case(bend=8, levels=7)])) == 8


def test_without_a_whole_case_the_one_with_most_levels_serves():
    reference = reference_mask([case(levels=3), case(levels=5), case(bend=4, levels=5)])
    assert reference.levels == (1, 2, 3, 4, 5)
    columns = np.flatnonzero(reference.array.any(axis=(0, 1)))
    assert len(columns) == 6  # the first of two with five levels: no bend


def test_thoracic_levels_do_not_count_as_levels():
    labels, grid = case(levels=8)
    thoracic = np.where(labels >= 5, labels, 0).astype(np.uint8)  # 5 to 8
    thoracic[0, 0, 0], thoracic[0, 0, 2] = 9, 10  # six levels in all, three of them lumbar
    assert reference_mask([(thoracic, grid), case(levels=4)]).levels == (1, 2, 3, 4)


@pytest.mark.parametrize("cases", [[], [case(levels=0), case(levels=0)]])
def test_no_disc_at_all_is_refused(cases):
    with pytest.raises(ValueError, match=f"none of {len(cases)} has any of levels 1 to 7; look at the labels"):
        reference_mask(cases)
