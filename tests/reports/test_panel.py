"""The picture of a validation: what is shown of each case, in which colours, and how large."""

from __future__ import annotations

import numpy as np
import pytest

from ivdjax.reports.colours import PREDICTION, REFERENCE, level_colour
from ivdjax.reports.panel import PanelCase, validation_panel

SHAPE = (5, 40, 30)


def disc(level=1, top=15, d=slice(1, 4)):
    labels = np.zeros(SHAPE, np.uint8)
    labels[d, top : top + 8, 10:20] = level
    return labels


def case(reference=None, predicted=None, image=None, spacing_mm=(4.0, 2.0, 2.0), name="S01", score=0.9):
    empty = np.zeros(SHAPE, np.uint8)
    return PanelCase(
        name,
        empty if image is None else image,
        empty if reference is None else reference,
        empty if predicted is None else predicted,
        spacing_mm,
        score,
    )


def count(picture, colour, tolerance=12):
    below = picture[60:].astype(int)  # without the header, whose words have the colours too
    return int((np.abs(below - np.round(255 * np.array(colour))).max(axis=-1) <= tolerance).sum())


def box(mask):
    rows, columns = np.nonzero(mask)
    return rows.max() - rows.min() + 1, columns.max() - columns.min() + 1


def test_the_picture_is_rgb_bytes_and_always_the_same():
    cases = [case(disc(), disc(top=18))]
    picture = validation_panel(cases)
    assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
    assert picture.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(picture, validation_panel(cases))


def test_reference_and_prediction_have_their_colours():
    only_reference, only_prediction = validation_panel([case(disc())]), validation_panel([case(None, disc())])
    assert count(only_reference, REFERENCE) > 100 and count(only_reference, PREDICTION) == 0
    assert count(only_prediction, PREDICTION) > 50 and count(only_prediction, REFERENCE) == 0


def test_both_are_seen_where_they_agree():
    picture = validation_panel([case(disc(), disc())])
    assert count(picture, REFERENCE, 60) > 50 and count(picture, PREDICTION, 60) > 50


def test_with_levels_a_spine_numbered_one_off_has_other_areas_than_outlines():
    picture = validation_panel([case(disc(3), disc(4))], levels=True)
    area = 0.45 * np.array(level_colour(4))  # half transparent on black
    assert count(picture, level_colour(3)) > 100
    assert count(picture, area) > 1000
    assert count(validation_panel([case(disc(3), disc(3))], levels=True), area) == 0


def test_the_slice_with_most_reference_is_shown():
    reference = disc(d=slice(1, 4))
    assert case(reference).shown_slice == 2  # the middle of three equal ones
    reference[3, 5] = 1
    assert case(reference).shown_slice == 3
    assert case(None, disc(d=slice(0, 1))).shown_slice == 2  # whatever is predicted


def test_what_is_shown_does_not_follow_the_prediction():
    reference = np.zeros((3, 200, 100), np.uint8)
    reference[1, 90:100, 50:60] = 1
    other = np.zeros_like(reference)
    other[:, :5] = 1
    shown = PanelCase("S01", reference, reference, other, (4.0, 2.0, 1.0), 0.5)
    # 40 mm are 20 rows of 2 mm, and 40 columns of 1 mm.
    assert shown.view == (slice(70, 120), slice(10, 100))
    assert shown.size_mm == (100.0, 90.0)
    assert case().view == (slice(0, 40), slice(0, 30))


def test_a_long_spine_is_shown_as_wide_as_its_tile_has_room():
    reference = np.zeros((1, 280, 300), np.uint8)
    reference[0, :, 145:155] = 1  # 280 mm high
    rows, columns = PanelCase("S01", reference, reference, reference, (4.0, 1.0, 1.0), 0.5).view
    assert rows == slice(0, 280)
    assert columns.stop - columns.start == pytest.approx(280 * 3.4 / 4.8, abs=2)
    assert (columns.start + columns.stop) / 2 == 150


@pytest.mark.parametrize(("spacing_mm", "ratio"), [((4.0, 2.0, 2.0), 4 / 3), ((4.0, 1.0, 2.0), 2 / 3)])
def test_proportions_are_those_of_the_body(spacing_mm, ratio):
    image = np.full(SHAPE, 255, np.uint8)
    image[:, 20] = 0  # for contrast
    picture = validation_panel([case(image=image, spacing_mm=spacing_mm)])
    tile = (picture > 230).all(axis=-1)
    tile[:66] = False  # header and caption
    height, width = box(tile)
    assert height / width == pytest.approx(ratio, rel=0.04)


def test_four_cases_stand_in_a_row_and_the_picture_stays_narrow():
    one, two, four, five = (validation_panel([case(disc())] * n).shape for n in (1, 2, 4, 5))
    assert one[0] == two[0] == four[0] < five[0]
    assert one[1] < two[1] < four[1] == five[1] <= 1600


def test_cases_of_different_fields_of_view_share_a_picture():
    tall = PanelCase("S02", *[np.zeros((3, 300, 20), np.uint8)] * 3, (4.0, 1.0, 1.0), 0.1)
    assert validation_panel([case(disc(), disc()), tall]).shape[0] < 800


def test_a_score_and_a_name_change_the_caption_alone():
    first, second = validation_panel([case(score=0.1)]), validation_panel([case(score=0.9)])
    rows = np.nonzero((first != second).any(axis=(1, 2)))[0]
    assert rows.size and rows.max() < 75
    unnamed = validation_panel([case(score=float("nan"))])
    assert (unnamed != first).any()
    long = validation_panel([case(name="a" * 300)])
    np.testing.assert_array_equal(long, validation_panel([case(name="a" * 400)]))  # cut, beside the score


def test_letters_that_the_font_lacks_do_no_harm():
    assert validation_panel([case(name="症例 $x_1$\n")]).size


def test_no_case_is_refused():
    with pytest.raises(ValueError, match="at least one case"):
        validation_panel([])


def test_arrays_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"case S01: image, reference and prediction must have one shape"):
        case(image=np.zeros((5, 40, 31), np.uint8))
    with pytest.raises(ValueError, match="one shape"):
        PanelCase("S01", *[np.zeros((40, 30), np.uint8)] * 3, (4.0, 2.0, 2.0), 0.5)


def test_a_single_voxel_is_drawn():
    labels = np.zeros((1, 1, 1), np.uint8)
    assert validation_panel([PanelCase("S01", labels, labels + 1, labels + 1, (4.0, 2.0, 2.0), 1.0)]).size
