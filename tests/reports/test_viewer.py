from __future__ import annotations

import base64
import gzip
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from ivdjax.reports import viewer
from ivdjax.reports.viewer import BETWEEN_DASHES, viewer_data
from ivdjax.volume import LabelMap, LeftOut, to_index
from tests.reports.spine_case import spine_case


def decoded(text):
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_discs_keep_their_place_and_number():
    volume, labels, discs = spine_case()
    data = viewer_data(volume, labels, discs)
    stored = decoded(data["labels"])
    array = np.asarray(stored.dataobj)
    assert array.dtype == np.uint8 and np.array_equal(np.bincount(array.ravel())[1:], [12 * 5 * 22] * 3)
    for disc, entry in zip(discs, data["discs"], strict=True):
        index = to_index(stored.affine, np.array(entry["centroid_mm"]))
        assert np.allclose(index, np.argwhere(array == disc.level).mean(axis=0), atol=1e-3)
        assert (entry["level"], entry["name"]) == (disc.level, disc.level_name)


def test_channels_are_8_bits_on_the_grid_of_the_discs_the_shown_one_first():
    volume, labels, discs = spine_case(channels=("fat", "opp", "wat"))
    data = viewer_data(volume, labels, discs)
    assert [channel["name"] for channel in data["channels"]] == ["wat", "fat", "opp"] and data["note"] == ""
    discs_image = decoded(data["labels"])
    for channel in data["channels"]:
        image = decoded(channel["nifti"])
        array = np.asarray(image.dataobj)
        assert image.shape == discs_image.shape and np.array_equal(image.affine, discs_image.affine)
        assert array.dtype == np.uint8 and array.min() == 0 and array.max() == 255
        inside = np.asarray(discs_image.dataobj) > 0
        assert array[inside].mean() > array[~inside].mean() + 60


def test_image_is_cut_to_the_discs_and_their_surroundings():
    volume, labels, discs = spine_case((1,), shape=(60, 200, 150))
    image = decoded(viewer_data(volume, labels, discs)["labels"])
    # 12 slices of 4 mm and 30 mm to both sides, but no more than 4 slices are there at one of them; and so on.
    assert image.shape == (4 + 12 + 8, 24 + 5 + 24, 16 + 22 + 44)


def test_colours_are_those_of_the_levels():
    volume, labels, discs = spine_case((1, 3))
    assert viewer_data(volume, labels, discs)["colours"] == [[1, 240, 227, 66, "L5/S1"], [3, 230, 158, 0, "L3/4"]]


def test_without_a_disc_the_whole_image_is_there():
    volume, labels, _ = spine_case(())
    data = viewer_data(volume, labels, [])
    assert decoded(data["channels"][0]["nifti"]).shape == labels.array.shape
    assert data["colours"] == data["discs"] == []


def test_of_a_large_image_the_shown_channel_goes_alone(monkeypatch):
    volume, labels, discs = spine_case()
    size = decoded(viewer_data(volume, labels, discs)["labels"]).get_fdata().size
    monkeypatch.setattr(viewer, "_MOST_VOXELS", 2 * size - 1)
    data = viewer_data(volume, labels, discs)
    assert [channel["name"] for channel in data["channels"]] == ["wat"]
    assert data["note"] == "Of the channels only wat is here: the image is large."


def test_a_larger_image_is_made_coarser_where_it_is_finest(monkeypatch):
    volume, labels, discs = spine_case()
    whole = decoded(viewer_data(volume, labels, discs)["labels"])
    monkeypatch.setattr(viewer, "_MOST_VOXELS", np.prod(whole.shape) // 3)
    data = viewer_data(volume, labels, discs)
    image = decoded(data["labels"])
    array = np.asarray(image.dataobj)
    assert array.size <= np.prod(whole.shape) // 3
    assert image.shape[0] == whole.shape[0]  # slices of 4 mm stay
    assert "Shown with voxels of 4 x" in data["note"]
    for disc in discs:
        index = to_index(image.affine, np.array(disc.centroid_mm))
        assert np.abs(index - np.argwhere(array == disc.level).mean(axis=0)).max() < 0.5


@pytest.mark.parametrize("value", [np.nan, np.inf, 5.0])
def test_image_without_a_number_or_contrast_is_stored(value):
    volume, labels, discs = spine_case()
    data = viewer_data(replace(volume, array=np.full_like(volume.array, value)), labels, discs)
    assert np.unique(decoded(data["channels"][0]["nifti"]).dataobj).size == 1


def test_labels_on_another_grid_are_refused():
    volume, _, discs = spine_case()
    with pytest.raises(ValueError, match="must lie on the volume's grid"):
        viewer_data(volume, LabelMap(np.zeros((2, 2, 2), np.uint8), np.eye(4)), discs)


def test_what_was_left_out_below_is_dashed_and_named_and_unsure_levels_are_marked():
    volume, labels, discs = spine_case()
    array = np.zeros(labels.array.shape, np.uint8)
    array[4:16, 62:70, 20:40] = 1
    discs[0] = replace(discs[0], level_confidence=0.5)
    data = viewer_data(volume, labels, discs, LeftOut(("S1/S2",), LabelMap(array, labels.affine)))
    ((value, name),) = data["left_out"]
    assert name == "S1/S2" and value == 4 and [value, 255, 255, 255, "S1/S2"] in data["colours"]
    shown = np.asarray(decoded(data["labels"]).dataobj) == value
    assert 0 < shown.sum() < 0.6 * 12 * (2 * 20 + 2 * 8), "half of the outline, and nothing inside"
    between = np.asarray(decoded(data["labels"]).dataobj) == BETWEEN_DASHES
    assert (shown | between).sum() == 12 * (2 * 20 + 2 * 6) and [BETWEEN_DASHES, 0, 0, 0, ""] in data["colours"]
    assert set(np.unique(decoded(data["labels"]).dataobj)) == {0, 1, 2, 3, value, BETWEEN_DASHES}
    assert [disc["unsure"] for disc in data["discs"]] == [True, False, False]
