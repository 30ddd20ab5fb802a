from __future__ import annotations

import numpy as np
import pytest

from ivdjax.discs.numbering import PRIOR, number_from_bottom
from ivdjax.volume import Grid, to_world_mm

SHAPE = (30, 220, 60)
AFFINE = np.array([[-2.0, 0, 0, 29], [0, 0, -1.25, 37], [0, -1.5, 0, 164], [0, 0, 0, 1]])
GRID = Grid(SHAPE, AFFINE)
WORLD = to_world_mm(AFFINE, np.moveaxis(np.indices(SHAPE), 0, -1))
BOTTOM_MM = -100.0


def disc(z, tilt=0.0, x=0.0, size=(40.0, 34.0, 8.0)):
    """A box-shaped disc about (x, 0, z) whose front is lifted by `tilt` degrees."""
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    local = WORLD - [x, 0, z]
    along, across = c * local[..., 1] + s * local[..., 2], c * local[..., 2] - s * local[..., 1]
    return (np.abs(local[..., 0]) <= size[0] / 2) & (np.abs(along) <= size[1] / 2) & (np.abs(across) <= size[2] / 2)


def spine(steps=(34,) * 6, lowest=-31.0, bottom=BOTTOM_MM):
    heights = bottom + np.concatenate([[0], np.cumsum(steps)])
    return np.any([disc(z, lowest if i == 0 else 0.0) for i, z in enumerate(heights)], axis=0)


def test_seven_plausible_discs_are_numbered_from_the_bottom_and_ok():
    numbering = number_from_bottom(spine(), GRID, 200.0, 7)
    assert numbering.verdict == "ok" and numbering.reasons == ()
    assert numbering.confidence == dict.fromkeys(range(1, 8), PRIOR)
    assert numbering.levels.dtype == np.uint8
    z = [WORLD[numbering.levels == level][:, 2].mean() for level in range(1, 8)]
    assert z == pytest.approx([BOTTOM_MM + 34 * i for i in range(7)], abs=1.0)


def test_discs_above_the_last_number_and_specks_are_dropped():
    mask = spine()
    mask[2, 2, 2] = True
    numbering = number_from_bottom(mask, GRID, 200.0, 5)
    assert set(np.unique(numbering.levels)) == {0, 1, 2, 3, 4, 5} and numbering.verdict == "ok"


def test_too_few_discs_are_for_review_and_doubt_every_level():
    numbering = number_from_bottom(spine(steps=(34,) * 4), GRID, 200.0, 7)
    assert numbering.verdict == "review" and numbering.reasons == ("5 of 7 discs were found",)
    assert numbering.confidence == dict.fromkeys(range(1, 6), PRIOR / 2)


def test_missing_disc_doubts_the_levels_above_the_gap():
    numbering = number_from_bottom(spine(steps=(34, 34, 68, 34, 34)), GRID, 200.0, 6)
    assert numbering.verdict == "review" and "L3/4 and L2/3 lie 68 mm apart" in numbering.reasons[0]
    assert [numbering.confidence[level] for level in range(1, 7)] == [PRIOR] * 3 + [PRIOR / 2] * 3


def test_doubled_disc_doubts_itself_and_the_levels_above():
    numbering = number_from_bottom(spine(steps=(34, 34, 14, 34, 34)), GRID, 200.0, 6)
    assert "L3/4 and L2/3 lie only 14 mm apart" in numbering.reasons[0]
    assert [numbering.confidence[level] for level in range(1, 7)] == [PRIOR] * 2 + [PRIOR / 2] * 4


def test_disc_to_the_side_is_for_review():
    mask = spine(steps=(34, 34)) | disc(BOTTOM_MM + 102, x=20, size=(16, 34, 8))
    reasons = number_from_bottom(mask, GRID, 200.0, 4).reasons
    assert any("20 mm to the side" in reason for reason in reasons)


@pytest.mark.parametrize(("tilt", "words"), [(-5.0, "may be L4/5"), (-60.0, "remnant within the sacrum")])
def test_lowest_disc_of_another_slope_is_for_review(tilt, words):
    numbering = number_from_bottom(spine(lowest=tilt, steps=(38,) * 4), GRID, 200.0, 5)
    assert numbering.verdict == "review" and words in numbering.reasons[0]


def test_lowest_disc_at_the_lower_border_is_for_review():
    lowest_voxel = float(WORLD[0, -1, 0, 2])
    touching = spine(bottom=lowest_voxel, lowest=0.0)
    assert "touches the lower border" in number_from_bottom(touching, GRID, 200.0, 7).reasons[0]
    near = spine(bottom=lowest_voxel + 12, lowest=0.0)
    assert "the image ends" in number_from_bottom(near, GRID, 200.0, 7).reasons[0]


def test_fragment_and_merged_discs_are_for_review():
    fragment = spine(steps=(34, 34, 34)) | disc(BOTTOM_MM + 136, size=(12, 12, 8))
    assert any("fragment" in reason for reason in number_from_bottom(fragment, GRID, 200.0, 5).reasons)
    merged = spine(steps=(34, 34, 34)) | disc(BOTTOM_MM + 145, size=(40, 34, 30))
    assert any("grown together" in reason for reason in number_from_bottom(merged, GRID, 200.0, 5).reasons)


def test_remnant_in_the_sacrum_is_left_out_and_said():
    remnant = disc(BOTTOM_MM - 30, -45.0, size=(20.0, 20.0, 6.0))
    numbering = number_from_bottom(spine() | remnant, GRID, 200.0, 7)
    assert numbering.verdict == "review" and "left out as a remnant of S1/S2" in numbering.reasons[0]
    assert WORLD[numbering.levels == 1][:, 2].mean() == pytest.approx(BOTTOM_MM, abs=1.0)
    assert set(numbering.confidence.values()) == {PRIOR / 2}


def test_thin_lowest_disc_of_full_length_stays_l5_s1():
    mask = spine(steps=(34,) * 5, bottom=BOTTOM_MM + 34) | disc(BOTTOM_MM, -31.0, size=(40.0, 34.0, 3.0))
    numbering = number_from_bottom(mask, GRID, 200.0, 7)
    assert WORLD[numbering.levels == 1][:, 2].mean() == pytest.approx(BOTTOM_MM, abs=1.0)


def aside(z, size):
    """A block 30 mm in front of the spine."""
    local = WORLD - [0.0, 30.0, z]
    return np.all(np.abs(local) <= np.array(size) / 2, axis=-1)


@pytest.mark.parametrize(("size", "words"), [((8.0, 8.0, 8.0), ()), ((30.0, 12.0, 12.0), ("far off the line",))])
def test_strays_get_no_number_and_are_named_if_as_large_as_a_disc(size, words):
    numbering = number_from_bottom(spine() | aside(BOTTOM_MM + 51, size), GRID, 200.0, 7)
    z = [WORLD[numbering.levels == level][:, 2].mean() for level in range(1, 8)]
    assert z == pytest.approx([BOTTOM_MM + 34 * i for i in range(7)], abs=1.0)
    assert len(numbering.reasons) == len(words)
    assert all(word in reason for word, reason in zip(words, numbering.reasons, strict=True))


def test_empty_mask():
    numbering = number_from_bottom(np.zeros(SHAPE, bool), GRID, 200.0, 7)
    assert not numbering.levels.any() and numbering.confidence == {}
    assert numbering.verdict == "review" and numbering.reasons == ("no disc was found",)


def test_refuses_what_cannot_be_numbered():
    with pytest.raises(ValueError, match="1 to 255"):
        number_from_bottom(np.zeros(SHAPE, bool), GRID, 200.0, 0)
    with pytest.raises(ValueError, match="its grid"):
        number_from_bottom(np.zeros((2, 2, 2), bool), GRID, 200.0, 7)
