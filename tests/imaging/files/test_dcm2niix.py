"""DICOM series in many forms: every voxel where and as dcm2niix has it, or a difference that docs/formats.md explains."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ivdjax.imaging.files import dicom
from ivdjax.imaging.files.dicom_folder import channel_series
from ivdjax.imaging.geometry import to_canonical
from ivdjax.volume import Grid
from tests.imaging.files.dicom_variants import VARIANTS

CONVERTER = shutil.which("dcm2niix")

DIFFERENT: dict[str, str] = {}
"""Variants that dcm2niix reads otherwise, and how; docs/formats.md says why."""

pytestmark = pytest.mark.skipif(CONVERTER is None, reason="dcm2niix is not installed (apt install dcm2niix)")


def converted(folder: Path, output: Path) -> list[nibabel.Nifti1Image]:
    """What dcm2niix makes of a folder."""
    output.mkdir()
    command = [str(CONVERTER), "-b", "n", "-z", "n", "-f", "%s_%d", "-o", str(output), str(folder)]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return [nibabel.load(path) for path in sorted(output.glob("*.nii"))]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_voxel_lies_where_dcm2niix_has_it(tmp_path, name):
    VARIANTS[name](tmp_path / "s")
    image = dicom.read(channel_series(tmp_path / "s", "t2", "P"), "P")
    mine, affine = to_canonical(image.array, image.grid)
    others = converted(tmp_path / "s", tmp_path / "out")
    same = len(others) == 1 and _is_same(mine, affine, others[0])
    assert same != (name in DIFFERENT), [other.shape for other in others]


def _is_same(mine: np.ndarray, affine: np.ndarray, other: nibabel.Nifti1Image) -> bool:
    if len(other.shape) != 3:
        return False
    theirs, their_affine = to_canonical(np.asarray(other.dataobj), Grid(other.shape, other.affine))
    return (
        theirs.shape == mine.shape
        and np.allclose(affine, their_affine, atol=2e-3)
        and np.allclose(mine.astype(float), theirs.astype(float), rtol=1e-5, atol=1e-3)
    )


def test_there_are_many():
    assert len(VARIANTS) >= 40 and set(DIFFERENT) <= set(VARIANTS)
