from __future__ import annotations

import numpy as np
import pytest

from ivdjax.imaging.arrays import volume_of
from ivdjax.volume import CaseError, to_world_mm

AFFINE = np.array([[0, 0, -4.0, 10], [-2.0, 0, 0, 20], [0, -3.0, 0, 30], [0, 0, 0, 1]])


def test_every_voxel_keeps_its_place_whatever_the_axis_order():
    array = np.arange(2 * 5 * 4 * 3).reshape(2, 5, 4, 3)  # channels, then to posterior, inferior and left
    volume = volume_of(array, AFFINE, ["fat", "wat"])
    assert volume.array.shape == (2, 3, 4, 5) and volume.array.dtype == np.float32
    assert volume.channels == ("fat", "wat") and volume.native is not None and volume.native.shape == (5, 4, 3)
    value = array[1, 4, 2, 1]
    (place,) = np.argwhere(volume.array[1] == value)
    np.testing.assert_allclose(to_world_mm(volume.affine, place), to_world_mm(AFFINE, np.array([4, 2, 1])))


@pytest.mark.parametrize(("array", "affine", "words"), [
    (np.ones((3, 4)), AFFINE, "2D"), (np.ones((2, 2, 2)) * np.nan, AFFINE, "no finite value"),
    (np.ones((2, 2, 2), complex), AFFINE, "complex"), (np.ones((2, 2, 2)), np.ones((4, 4)), "singular"),
])  # fmt: skip
def test_what_is_no_volume_is_refused_by_its_name(array, affine, words):
    channels = ["a"] * len(array) if array.ndim == 2 else "a"
    with pytest.raises(CaseError, match=words) as refused:
        volume_of(array, affine, channels, "mine")
    assert "mine" in str(refused.value)


def test_as_many_names_as_channels():
    with pytest.raises(ValueError, match="1 channels in the array, but 2 names"):
        volume_of(np.ones((2, 2, 2)), AFFINE, ["fat", "wat"])
