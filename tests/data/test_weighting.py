from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ivdjax.data.weighting import told_weighting
from ivdjax.imaging.files import DicomSeries


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("018_t2.nii.gz", "t2"), ("t2.nii", "t2"), ("a_T2w.mha", "t2"), ("a_t2_fs.nii.gz", "t2_fs"),
        ("a_t1.nii.gz", "t1"), ("a_stir.nrrd", "stir"), ("scan.nii.gz", ""), ("a_wat.nii.gz", ""),
        ("t2star_a.nii.gz", ""),
    ],
)  # fmt: skip
def test_a_files_name_tells_its_weighting_in_its_last_words(name, kind):
    assert told_weighting(Path("t2") / name) == kind


def test_a_series_goes_by_its_header_and_an_image_in_memory_tells_nothing():
    series = DicomSeries(Path("a_t2"), "1.2", (), weighting="t1")
    assert told_weighting(series) == "t1" and told_weighting(np.ones((2, 2, 2))) == ""
