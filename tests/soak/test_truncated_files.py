"""A sound file of each format, cut off at any place: it is refused, or gives the very same image."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from ivdjax.imaging.files import Source, read_channel
from ivdjax.imaging.files.dicom_folder import channel_series
from ivdjax.volume import CaseError
from tests.dicom_series import sagittal_affine, write_series

ARRAY = np.random.default_rng(0).integers(0, 2000, (12, 10, 8)).astype(np.uint16)
FORMS = (
    "nii",
    "nii.gz",
    "mha",
    "packed.mha",
    "mhd",
    "packed.mhd",
    "nrrd",
    "packed.nrrd",
    "nhdr",
    "packed.nhdr",
    "dicom",
)


def store(folder: Path, form: str) -> tuple[Source, Path]:
    """An image, and the file that holds its voxels (of a series: one of them)."""
    if form == "dicom":
        paths = write_series(folder / "t2", ARRAY, sagittal_affine())
        return channel_series(folder / "t2", "t2", "x"), paths[3]
    path = folder / f"x.{form}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(ARRAY.T), str(path), form.startswith("packed") or "gz" in form)
    beside = [other for other in folder.iterdir() if other != path]
    return path, beside[0] if beside else path


def refused_or_the_same(folder: Path, form: str, places: int) -> int:
    """Cuts the file off at random places; how often it was refused."""
    source, voxels = store(folder, form)
    array, affine, _ = read_channel(source, "x")
    content = voxels.read_bytes()
    chance = random.Random(f"1 {form}")
    refused = 0
    for place in (*chance.sample(range(len(content)), places - 1), len(content) - 1):
        voxels.write_bytes(content[:place])
        try:
            found, place_mm, _ = read_channel(source, "x")
        except CaseError as error:
            assert str(error).startswith("case x: ") and str(folder) in str(error)
            refused += 1
        else:
            assert np.array_equal(found, array) and np.array_equal(place_mm, affine), f"{form} cut at byte {place}"
    return refused


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, form: str) -> None:
    assert refused_or_the_same(tmp_path, form, 3) == 3


@pytest.mark.soak
@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_was_cut_off_at_any_place_is_refused(tmp_path: Path, form: str) -> None:
    assert refused_or_the_same(tmp_path, form, 100) == 100
