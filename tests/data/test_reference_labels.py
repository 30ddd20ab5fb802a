"""References are numbered from the lowest disc, and what is odd about them is refused or told."""

from __future__ import annotations

import numpy as np
import pytest

from ivdjax.data.reference_labels import number_reference
from ivdjax.volume import CaseError, LabelMap
from tests.data.test_datasets import AFFINE, SHAPE, discs, numbered_discs


def test_numbered_masks_are_taken_as_they_are() -> None:
    labels = LabelMap(np.where(numbered_discs(3) > 0, numbered_discs(3) + 5, 0).astype(np.uint8), AFFINE)
    numbered, remarks = number_reference(labels, "a", "Labels.nii")
    assert numbered.levels == (6, 7, 8) and remarks == []
    with pytest.raises(CaseError, match=r"case a: labels in Labels.nii must be 1 .* to 15 .*, not 1, 16"):
        number_reference(
            LabelMap(np.where(numbered_discs(2) > 1, 16, discs(2)).astype(np.uint8), AFFINE), "a", "Labels.nii"
        )


def test_more_than_seven_numbered_discs_are_taken_and_of_a_binary_mask_those_up_to_level_15() -> None:
    shape = (6, 160, 16)
    mask = np.zeros(shape, np.uint8)
    for n in range(17):
        mask[1:5, 152 - 8 * n : 156 - 8 * n, 3:13] = n + 1
    nine, remarks = number_reference(LabelMap(np.where(mask <= 9, mask, 0), AFFINE), "a", "Labels.nii")
    assert nine.levels == tuple(range(1, 10)) and remarks == []
    binary, remarks = number_reference(LabelMap((mask > 0).astype(np.uint8), AFFINE), "a", "Labels.nii")
    assert np.array_equal(binary.array, np.where(mask <= 15, mask, 0))
    assert "binary mask of 17 discs" in remarks[0] and "640 mm3" in remarks[1]


def test_labels_that_are_not_numbered_from_the_bottom_upward_are_refused() -> None:
    upward = numbered_discs(5)
    downward = np.where(upward > 0, 6 - upward, 0).astype(np.uint8)
    with pytest.raises(CaseError, match=r"case a: labels in L.nii must rise .* upward, but they are numbered from the"):
        number_reference(LabelMap(downward, AFFINE), "a", "L.nii")
    # The same voxels under a header that has the image upside down.
    with pytest.raises(CaseError, match="the header has the image upside down; renumber them, or correct the header"):
        number_reference(LabelMap(upward, AFFINE @ np.diag([1.0, -1, 1, 1])), "a", "L.nii")
    mixed = np.choose(upward, [0, 1, 2, 4, 3, 5]).astype(np.uint8)
    with pytest.raises(CaseError, match="but value 4 lies below value 3; renumber them"):
        number_reference(LabelMap(mixed, AFFINE), "a", "L.nii")
    two = np.choose(numbered_discs(2), [0, 2, 1]).astype(np.uint8)
    with pytest.raises(CaseError, match="but value 2 lies below value 1"):
        number_reference(LabelMap(two, AFFINE), "a", "L.nii")


def test_gaps_between_levels_and_values_of_several_discs_are_told() -> None:
    gaps = np.where(np.isin(numbered_discs(6), (3, 4)), 0, numbered_discs(6)).astype(np.uint8)
    numbered, remarks = number_reference(LabelMap(gaps, AFFINE), "a", "L.nii")
    assert numbered.levels == (1, 2, 5, 6)
    assert remarks == ["case a: L.nii outlines no disc for L3/4, L2/3, between others"]
    # Two values for five discs: disc and vertebra of another tool, say.
    numbered, remarks = number_reference(LabelMap(np.minimum(numbered_discs(5), 2).astype(np.uint8), AFFINE), "a", "L")
    assert numbered.levels == (1, 2)
    assert remarks == ["case a: value 2 of L stands for 4 pieces over 200 mm3; a disc is one, are the discs numbered?"]


def test_an_empty_reference_is_told() -> None:
    numbered, remarks = number_reference(LabelMap(np.zeros(SHAPE, np.uint8), AFFINE), "a", "Labels.nii")
    assert numbered.levels == () and "outlines no disc" in remarks[0]
