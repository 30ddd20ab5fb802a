from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ivdjax.reports.colours import level_colour
from ivdjax.reports.thumbnails import SIZE_MM, draw_thumbnails
from ivdjax.volume import Disc, LabelMap, to_world_mm
from tests.reports.spine_case import SPACING_MM, spine_case


def pixels(jpeg):
    return np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)


def near(picture, level, tolerance=40):
    return np.abs(picture - 255 * np.array(level_colour(level))).max(axis=-1) < tolerance


def test_every_disc_lies_in_the_middle_of_its_picture_in_its_colour():
    volume, labels, discs = spine_case()
    pictures = draw_thumbnails(volume, labels, discs)
    assert sorted(pictures) == [1, 2, 3]
    for level, jpeg in pictures.items():
        picture = pixels(jpeg)
        pixel_mm = SIZE_MM[0] / picture.shape[0]
        assert picture.shape == (round(SIZE_MM[0] / pixel_mm), round(SIZE_MM[1] / pixel_mm), 3)
        rows, columns = np.nonzero(near(picture, level))
        # The outline of a box of 5 x 22 voxels round the middle.
        assert (rows.min() + rows.max()) / 2 == pytest.approx(picture.shape[0] / 2, abs=3)
        assert (columns.min() + columns.max()) / 2 == pytest.approx(picture.shape[1] / 2, abs=3)
        assert np.ptp(rows) * pixel_mm == pytest.approx(5 * SPACING_MM[1], abs=0.8)
        assert np.ptp(columns) * pixel_mm == pytest.approx(22 * SPACING_MM[2], abs=0.8)
        inside = picture[picture.shape[0] // 2, picture.shape[1] // 2]
        assert np.ptp(inside) < 30  # the image, not the colour


def test_beyond_the_image_it_is_black():
    volume, labels, _ = spine_case()
    array = np.zeros_like(labels.array)
    array[4:16, 0:4, 0:20] = 1  # in the upper front corner
    place = to_world_mm(labels.affine, np.argwhere(array).mean(axis=0))
    picture = pixels(draw_thumbnails(volume, labels.with_array(array), [Disc(1, 0.9, tuple(place), 1.0)])[1])
    assert picture[:60, :100].max() < 30 and picture[-40:, -40:].mean() > 20
    assert near(picture, 1).sum() > 100


def test_a_disc_whose_centroid_lies_in_no_slice_of_it_is_shown_in_the_nearest_one():
    volume, labels, _ = spine_case()
    array = np.zeros_like(labels.array)
    array[[2, 3, 17], 30:40, 20:40] = 1
    place = to_world_mm(labels.affine, np.argwhere(array).mean(axis=0))
    picture = pixels(draw_thumbnails(volume, labels.with_array(array), [Disc(1, 0.9, tuple(place), 1.0)])[1])
    assert near(picture, 1).sum() > 100


def test_image_without_a_number_or_contrast_is_drawn():
    volume, labels, discs = spine_case()
    for value in (np.nan, np.inf, 7.0):
        pictures = draw_thumbnails(replace(volume, array=np.full_like(volume.array, value)), labels, discs)
        assert near(pixels(pictures[1]), 1).sum() > 100


def test_no_disc_gives_no_picture():
    volume, labels, _ = spine_case(())
    assert draw_thumbnails(volume, labels, []) == {}


def test_labels_on_another_grid_are_refused():
    volume, _, discs = spine_case()
    with pytest.raises(ValueError, match="must lie on the volume's grid"):
        draw_thumbnails(volume, LabelMap(np.zeros((2, 2, 2), np.uint8), np.eye(4)), discs)
