from __future__ import annotations

import numpy as np
import pytest

from ivdjax.discs.disc_axes import DiscAxes
from ivdjax.discs.section import Section, lateral_width_mm, mid_sagittal_section, section_measures

AFFINE = np.diag([-1.0, -1.0, -1.0, 1.0])[[0, 2, 1, 3]]  # (d, h, w) to left, down and back, 1 mm apart
ACROSS = np.arange(-20, 20.1, 0.25)


def frame_at(index):
    return DiscAxes(np.array([-index[0], -index[2], -index[1]], float), *np.eye(3))


def test_heights_width_and_angle_of_a_section_by_hand():
    """20 mm long; the lower face is flat, the upper one rises by 0.2 mm a mm towards the front: 4 to 8 mm high."""
    anterior, superior = np.arange(-15, 15, 0.25) + 0.125, np.arange(0, 10, 0.25) + 0.125
    height = np.where(np.abs(anterior) <= 10, 6 + 0.2 * anterior, 0)
    occupancy = np.clip((height[:, None] - superior) / 0.25 + 0.5, 0, 1)
    section = Section(occupancy.astype(np.float32), anterior, superior, -10.0, 10.0)
    measures = section_measures(section)
    assert measures["ap_width_mm"] == 20
    assert measures["anterior_height_mm"] == pytest.approx(6 + 0.2 * 6, abs=0.02)
    assert measures["middle_height_mm"] == pytest.approx(6, abs=0.02)
    assert measures["posterior_height_mm"] == pytest.approx(6 - 0.2 * 6, abs=0.02)
    assert measures["disc_height_index"] == pytest.approx(6 / 20, abs=0.001)
    assert measures["wedge_angle_deg"] == pytest.approx(np.degrees(np.arctan(0.2)), abs=0.1)


def test_a_section_of_two_rows_has_no_angle():
    section = Section(np.ones((2, 8), np.float32), np.array([0.0, 0.25]), np.arange(8) / 4, -0.125, 0.375)
    assert section_measures(section)["wedge_angle_deg"] is None


def test_ends_lie_half_way_between_voxels_in_and_out():
    mask = np.zeros((11, 11, 31), bool)
    mask[:, 3:8, 8:22] = True  # 14 mm long, 5 mm high
    section = mid_sagittal_section(mask, AFFINE, frame_at((5, 5, 14)), 2.0, ACROSS, np.arange(-6, 6.1, 0.25))
    assert (section.front_mm, section.back_mm) == pytest.approx((6.5, -7.5))
    assert section.heights_mm.max() == pytest.approx(5)


def test_a_disc_longer_than_what_is_sampled_ends_with_the_samples():
    section = mid_sagittal_section(np.ones((11, 11, 31), bool), AFFINE, frame_at((5, 5, 14)), 2.0, ACROSS[64:97],
                                   np.arange(-4, 4.1, 0.25))  # fmt: skip
    assert (section.front_mm, section.back_mm) == (4.0, -4.0)


def test_an_empty_place_has_no_section_and_no_width():
    mask = np.zeros((11, 11, 31), bool)
    mask[5, 5, 2] = True
    axes, height = frame_at((5, 5, 25)), np.arange(-2, 2.1, 0.5)
    assert mid_sagittal_section(mask, AFFINE, axes, 1.0, np.arange(-3, 3.1, 0.25), np.arange(-2, 2.1, 0.25)) is None
    assert lateral_width_mm(mask, AFFINE, axes, np.arange(-4, 4.1, 0.25), height, -3.0, 3.0) is None


@pytest.mark.parametrize(
    ("cut", "width"), [((False, False), 30.0), ((True, False), 30.0), ((False, True), None), ((True, True), None)]
)
def test_the_widest_part_beside_a_cut_may_not_be_the_widest(cut, width):
    mask = np.zeros((41, 11, 31), bool)
    mask[10:30, 3:8, 10:31] = True
    mask[5:35, 3:8, 1:10] = True  # the front is 30 mm wide, the rest 20
    found = lateral_width_mm(mask, AFFINE, frame_at((20, 5, 15)), ACROSS, np.arange(-6, 6.1, 0.5), -15.0, 14.0, cut)
    assert found == (None if width is None else pytest.approx(width))
