"""A folder's cases, and that nothing in it which looks like an image is passed over without a word."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ivdjax.inference.folder_cases import folder_cases
from ivdjax.volume import UserError
from tests.dicom_series import sagittal_affine, write_series

ARRAY = np.zeros((4, 5, 3), np.int16)


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def dicom(folder: Path, study: str) -> None:
    write_series(folder, ARRAY, sagittal_affine(), study=study)


def told(root: Path, output: Path | None = None) -> dict[str, str]:
    """What is said of each case: "case", or the problem."""
    return {case.name: "case" if case.files else case.problem for case in folder_cases(root, ("t2",), output)}


def test_patients_in_many_forms(tmp_path):
    touch(tmp_path / "P1" / "P1_t2.nii.gz")
    dicom(tmp_path / "P2" / "scans" / "3" / "DICOM", "1.2")
    dicom(tmp_path / "P3", "1.3")
    touch(tmp_path / "P4.zip")
    touch(tmp_path / "sub-05" / "anat" / "sub-05_T2w.nii.gz")
    touch(tmp_path / "P5" / "a.nii")
    touch(tmp_path / "P5" / "b.nii")
    touch(tmp_path / "P6" / "scan.nii")
    touch(tmp_path / "P7" / "image.nii.bz2")
    touch(tmp_path / "P10" / "orig.mgz")
    touch(tmp_path / "P11" / "x.hdr")
    touch(tmp_path / "P11" / "x.img")
    touch(tmp_path / "P12" / "P12_t2.hdr")
    touch(tmp_path / "P12" / "P12_t2.img")
    touch(tmp_path / "P13" / "P13_t2.mgz")
    touch(tmp_path / "P14" / "P14_t2.img")
    touch(tmp_path / "P8.nii.gz")
    touch(tmp_path / "P9" / "deep" / "er" / "t2.tar.gz")
    for name in (
        "labels/P1_Labels.nii.gz",
        "P1_Labels.nii.gz",
        "truth.json",
        "table.csv",
        "notes/a.txt",
        "done",
        ".x.nii",
    ):
        touch(tmp_path / name, b"")
    found = told(tmp_path)
    cases = ["P1", "P10", "P11", "P12", "P13", "P2", "P3", "P6", "sub-05"]
    assert [name for name, words in found.items() if words == "case"] == cases
    left = {name: words for name, words in found.items() if words != "case"}
    assert set(left) == {"P4.zip", "P8.nii.gz", "P5", "P7", "P9/deep/er", "P14"}
    assert left["P4.zip"] == f"{tmp_path / 'P4.zip'} is an archive, which is not looked into; unpack it"
    assert "holds a.nii, b.nii: no file for channel t2 by its name" in left["P5"]
    assert left["P14"].endswith(
        "P14_t2.img: the voxels of an image, without their header (.hdr) beside them; copy it too"
    )
    assert "of a form that is not read; convert it to one of .nii.gz" in left["P7"]


def test_one_readable_patient_among_others_keeps_its_own_name(tmp_path):
    dicom(tmp_path / "P1", "1.1")
    touch(tmp_path / "P2" / "x.nii.gz")
    assert list(told(tmp_path)) == ["P1", "P2"]


def test_a_case_at_the_top_hides_no_others(tmp_path):
    touch(tmp_path / "t2.nii")
    touch(tmp_path / "P2" / "P2_t2.nii")
    dicom(tmp_path / "old", "1.1")
    top, nested = folder_cases(tmp_path, ("t2",))
    assert (top.name, nested.name) == (tmp_path.name, "P2")
    assert top.files is not None and top.files.ignored == ("folder old",)


def test_damaged_dicom_is_a_problem_of_its_own_folder(tmp_path):
    dicom(tmp_path / "P1", "1.1")
    dicom(tmp_path / "P2", "1.2")
    for path in (tmp_path / "P2").iterdir():
        path.write_bytes(path.read_bytes()[:300])
    found = told(tmp_path)
    assert found["P1"] == "case" and "the header cannot be read" in found["P2"]


@pytest.mark.parametrize("bids", [False, True])
def test_results_are_no_cases(tmp_path, bids):
    touch(tmp_path / "P1" / "P1_t2.nii.gz")
    for place in ("out", "earlier"):
        folder = tmp_path / place / ("sub-P1/anat" if bids else "P1")
        stem = "sub-P1_desc-discs_result" if bids else "P1_discs"
        touch(folder / f"{stem}.json", json.dumps({}).encode())
        touch(folder / "P1_t2.nii.gz")
        dicom(folder, "1.9")
    touch(tmp_path / "earlier" / "summary.csv", b"case,status,verdict\n")
    touch(tmp_path / "out" / "x.nii")
    assert told(tmp_path, tmp_path / "out") == {"P1": "case"}


def test_what_is_left_beside_a_case_is_named(tmp_path):
    touch(tmp_path / "a" / "one.nii")
    touch(tmp_path / "b" / "one.nii")
    touch(tmp_path / "b" / "two.zip")
    assert told(tmp_path) == {
        "a": "case", "b": "case",
        "b/": f"{tmp_path / 'b'} holds two.zip: an archive, which is not looked into; unpack it",
    }  # fmt: skip


def test_a_folder_without_any_case_is_refused(tmp_path):
    touch(tmp_path / "P1" / "scan.zip")
    with pytest.raises(UserError, match=r"no case was found in .*, which holds 1 folder \(P1\)"):
        folder_cases(tmp_path, ("t2",))


def test_a_case_folder_that_became_the_output_of_a_run_stays_a_case(tmp_path):
    touch(tmp_path / "P1" / "P1_t2.nii.gz")
    touch(tmp_path / "P1" / "summary.csv", b"case,status,verdict\n")
    touch(tmp_path / "P1" / "P1" / "P1_discs.json", b"{}")
    touch(tmp_path / "P2" / "P2_t2.nii.gz")
    assert told(tmp_path, tmp_path / "out") == {"P1": "case", "P2": "case"}
