"""DICOM series in many forms: every voxel where and as dcm2niix has it, or a difference that docs/formats.md tells."""

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

DIFFERENT = {
    "positions rounded": "places",  # it goes by the orientation, we by the first and the last position
    "12 bits signed": "values",  # it takes 12 signed bits for unsigned ones
    "12 bits, the sign not carried on": "values",
    "MONOCHROME1": "values",  # it leaves high values dark
    "deflated": "nothing",  # it does not read these
    "JPEG-LS": "nothing",  # Debian's is built without the decoder
    "JPEG-LS of 12 bits": "nothing",
    "JPEG baseline": "values",  # decoders of lossy JPEG round in different ways
}
"""Variants that dcm2niix reads otherwise, and what differs; docs/formats.md explains each."""

pytestmark = pytest.mark.skipif(CONVERTER is None, reason="dcm2niix is not installed (apt install dcm2niix)")


def converted(folder: Path, output: Path) -> list[nibabel.Nifti1Image]:
    """What dcm2niix makes of a folder."""
    output.mkdir()
    command = [str(CONVERTER), "-b", "n", "-z", "n", "-f", "%s_%d", "-o", str(output), str(folder)]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    # It writes an overlay as an image of its own.
    return [nibabel.load(path) for path in sorted(output.glob("*.nii")) if "ROI" not in path.name]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_voxel_lies_where_dcm2niix_has_it(tmp_path, name):
    VARIANTS[name](tmp_path / "s")
    image = dicom.read(channel_series(tmp_path / "s", "t2", "P"), "P")
    mine, affine = to_canonical(image.array, image.grid)
    others = converted(tmp_path / "s", tmp_path / "out")
    assert _difference(mine, affine, others) == DIFFERENT.get(name, "")


def _difference(mine: np.ndarray, affine: np.ndarray, others: list[nibabel.Nifti1Image]) -> str:
    """In what the other's one image differs: in nothing ("")."""
    if len(others) != 1:
        return "nothing" if not others else f"{len(others)} images"
    other = others[0]
    if len(other.shape) != 3:
        return "shape"
    theirs, their_affine = to_canonical(np.asarray(other.dataobj), Grid(other.shape, other.affine))
    if theirs.shape != mine.shape:
        return "shape"
    if not np.allclose(affine, their_affine, atol=2e-3):
        return "places"
    return "" if np.allclose(mine.astype(float), theirs.astype(float), rtol=1e-5, atol=1e-3) else "values"


def test_there_are_many():
    assert len(VARIANTS) >= 40 and set(DIFFERENT) <= set(VARIANTS)
