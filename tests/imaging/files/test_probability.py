"""Probability maps: small files that read back as probabilities."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from ivdjax.imaging.files import read_channel
from ivdjax.imaging.files.probability import STEP, write_probability
from ivdjax.imaging.geometry import canonical_grid, from_canonical
from ivdjax.volume import Grid

NATIVE = Grid((6, 7, 4), np.array([[0.0, 0, 3.0, -5], [-1.0, 0, 0, 2], [0, -1.5, 0, 8], [0, 0, 0, 1]]))
PROBABILITY = np.random.default_rng(0).random(canonical_grid(NATIVE).shape).astype(np.float32)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_independent_readers_apply_the_scale(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_probability(path, PROBABILITY, NATIVE)
    expected = from_canonical(PROBABILITY, NATIVE)
    image = nibabel.load(path)
    assert image.get_data_dtype() == np.uint8 and np.allclose(image.affine, NATIVE.affine)
    assert np.abs(image.get_fdata() - expected).max() <= STEP / 2 + 1e-6
    itk = SimpleITK.ReadImage(str(path))
    assert np.abs(SimpleITK.GetArrayFromImage(itk).T - expected).max() <= STEP / 2 + 1e-6
    assert np.allclose(itk.TransformIndexToPhysicalPoint((1, 2, 3)), (-4, -1, 5))  # LPS of (4, 1, 5)
    again, _, grid = read_channel(path, "x")
    assert np.abs(again - PROBABILITY).max() <= STEP / 2 + 1e-6 and grid.matches(NATIVE)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_ends_stay_exact_and_rounding_errors_are_cut(tmp_path: Path) -> None:
    probability = np.zeros(PROBABILITY.shape, np.float32)
    probability[0, 0, 0], probability[0, 0, 1] = 1.0 + 1e-6, -1e-6
    write_probability(tmp_path / "x.nii.gz", probability, NATIVE)
    found = nibabel.load(tmp_path / "x.nii.gz").get_fdata()
    assert found.min() == 0.0 and found.max() == pytest.approx(1.0, abs=1e-6) and (found > 0).sum() == 1


def test_a_sheared_grid(tmp_path: Path) -> None:
    affine = NATIVE.affine.copy()
    affine[0, 0] = 0.4
    write_probability(tmp_path / "x.nii.gz", PROBABILITY, Grid(NATIVE.shape, affine))
    image = nibabel.load(tmp_path / "x.nii.gz")
    assert np.allclose(image.affine, affine) and int(image.header["qform_code"]) == 0


@pytest.mark.parametrize("value", [1.1, -0.1, np.nan])
def test_what_is_no_probability(tmp_path: Path, value: float) -> None:
    probability = PROBABILITY.copy()
    probability[1, 1, 1] = value
    with pytest.raises(ValueError, match="must be 0 to 1"):
        write_probability(tmp_path / "x.nii.gz", probability, NATIVE)
    assert list(tmp_path.iterdir()) == []


def test_other_endings_and_grids(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.nii\.gz or \.nii"):
        write_probability(tmp_path / "x.nrrd", PROBABILITY, NATIVE)
    with pytest.raises(ValueError, match="to fit the file's grid"):
        write_probability(tmp_path / "x.nii", PROBABILITY[1:], NATIVE)
