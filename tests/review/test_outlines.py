from __future__ import annotations

import re

import numpy as np
import pytest

from ivdjax.imaging.files import write_labels
from ivdjax.imaging.files.seg_nrrd import write_seg_nrrd
from ivdjax.inference.case_result import CaseResult
from ivdjax.inference.disc_segments import disc_segments
from ivdjax.review.outlines import edited_outlines
from ivdjax.volume import Case, CaseError, LabelMap
from tests.reports.spine_case import spine_case


@pytest.fixture(scope="module")
def own() -> CaseResult:
    volume, labels, discs = spine_case()
    return CaseResult(Case("a", "a", volume), labels, tuple(discs), "ok", (), ())


def translation(*voxels: float) -> np.ndarray:
    moved = np.eye(4)
    moved[:3, 3] = voxels
    return moved


def stored(tmp_path, labels: LabelMap, name: str = "edited.nii.gz") -> bytes:
    write_labels(tmp_path / name, labels)
    return (tmp_path / name).read_bytes()


def test_a_label_map_of_itk_snap_keeps_its_values(own, tmp_path):
    drawn = own.labels.with_array(np.where(own.labels.array == 3, 0, own.labels.array).astype(np.uint8))
    found = edited_outlines("x.nii.gz", stored(tmp_path, drawn), own)
    assert np.array_equal(found.array, drawn.array) and found.native is own.labels.native


def test_a_segmentation_of_3d_slicer_is_read_back(own, tmp_path):
    write_seg_nrrd(tmp_path / "x.seg.nrrd", own.labels, disc_segments(own.labels.levels))
    content = (tmp_path / "x.seg.nrrd").read_bytes()
    found = edited_outlines("x.seg.nrrd", content, own)
    assert np.array_equal(found.array, own.labels.array)
    with pytest.raises(CaseError, match=r"segment 'L3/4' of x\.seg\.nrrd"):
        edited_outlines("x.seg.nrrd", content.replace(b"_Name:=L5/S1", b"_Name:=L3/4"), own)


def test_a_cropped_map_is_laid_on_the_image(own, tmp_path):
    """3D Slicer stores no more than the box round the segments."""
    from ivdjax.imaging.geometry import cropped

    box = (slice(2, 18), slice(8, 75), slice(10, 55))
    grid = cropped(own.labels.grid, box)
    part = LabelMap(np.ascontiguousarray(own.labels.array[box]), grid.affine)
    found = edited_outlines("x.nii.gz", stored(tmp_path, part), own)
    assert np.array_equal(found.array, own.labels.array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels: labels.with_array(labels.array * 0), "holds no disc"),
        (lambda labels: labels.with_array(labels.array * np.uint8(9)), "value 27"),
        (lambda labels: LabelMap(labels.array, labels.affine @ translation(0, 300, 0)),
         "lies elsewhere"),
        (lambda labels: LabelMap(labels.array, labels.affine @ translation(0.4, 0, 0)),
         "has other voxels than the image of case a"),
    ],
)  # fmt: skip
def test_what_is_no_outline_of_this_case_is_refused(own, tmp_path, change, message):
    with pytest.raises(CaseError, match=message):
        edited_outlines("x.nii.gz", stored(tmp_path, change(own.labels)), own)


def test_other_files_are_refused_by_their_own_name(own):
    with pytest.raises(CaseError, match=re.escape("save it as .nii.gz or .seg.nrrd")):
        edited_outlines("x.docx", b"", own)
    with pytest.raises(CaseError, match=r"x\.nii\.gz"):
        edited_outlines("x.nii.gz", b"no image", own)
