"""Names of a case's files: plain, and those of a BIDS derivative."""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import PurePosixPath

import pytest

from ivdjax.inference.names import (
    BIDS_IGNORE,
    KINDS,
    bids_description,
    bids_names,
    bids_sidecar,
    csv_as_tsv,
    is_folder_name,
    natural,
    plain_names,
    refuse_shared_folders,
)
from ivdjax.volume import UserError


def test_plain_names_are_the_contract() -> None:
    names = plain_names("S01")
    assert names.path("labels") == PurePosixPath("S01/S01_discs.nii.gz")
    assert {names.name(kind) for kind in ("csv", "json", "overview", "report")} == {
        "S01_discs.csv", "S01_discs.json", "S01_overview.png", "report.html",
    }  # fmt: skip
    assert names.name("seg_nrrd") == "S01_discs.seg.nrrd" and names.name("dicom_seg") == "S01_discs.dcm"
    assert names.name("itksnap") == "S01_discs.label" and names.name("slicer") == "S01_discs.ctbl"
    with pytest.raises(KeyError):
        names.name("sidecar")


def test_a_bids_name_keeps_subject_and_session() -> None:
    names = bids_names("sub-01_ses-02")
    assert names.path("labels") == PurePosixPath("sub-01/ses-02/anat/sub-01_ses-02_desc-discs_dseg.nii.gz")
    assert names.name("label_table") == "sub-01_ses-02_desc-discs_dseg.tsv"
    assert names.name("sidecar") == "sub-01_ses-02_desc-discs_dseg.json"
    assert names.name("csv") == "sub-01_ses-02_desc-discs_measures.tsv"
    assert names.name("probability") == "sub-01_ses-02_label-disc_desc-discs_probseg.nii.gz"
    assert set(names.files) == set(KINDS)


@pytest.mark.parametrize(
    ("case", "labels"),
    [
        ("sub-01", "sub-01/anat/sub-01_desc-discs_dseg.nii.gz"),
        ("sub-01_acq-sag_run-1_T2w", "sub-01/anat/sub-01_acq-sag_run-1_desc-discs_dseg.nii.gz"),
        ("sub-01_ses-a_desc-preproc_T2w", "sub-01/ses-a/anat/sub-01_ses-a_desc-discs_dseg.nii.gz"),
        ("patient 7_b", "sub-patient7b/anat/sub-patient7b_desc-discs_dseg.nii.gz"),
        ("018", "sub-018/anat/sub-018_desc-discs_dseg.nii.gz"),
        ("Müller", "sub-Muller/anat/sub-Muller_desc-discs_dseg.nii.gz"),
        ("sub-01_sub-02", "sub-sub01sub02/anat/sub-sub01sub02_desc-discs_dseg.nii.gz"),
        ("sub-01_acq-1_ses-02", "sub-sub01acq1ses02/anat/sub-sub01acq1ses02_desc-discs_dseg.nii.gz"),
        ("acq-1_T2w", "sub-acq1T2w/anat/sub-acq1T2w_desc-discs_dseg.nii.gz"),
    ],
)
def test_any_case_has_a_bids_name(case: str, labels: str) -> None:
    assert str(bids_names(case).path("labels")) == labels


@pytest.mark.parametrize("kind", KINDS)
def test_bids_names_are_well_formed(kind: str) -> None:
    """Key-value pairs, a suffix, an extension; and either the standard's suffix or an entry in .bidsignore."""
    name = bids_names("sub-01_ses-02").name(kind)
    match = re.fullmatch(r"(?:[a-z]+-[0-9a-zA-Z]+_)+([a-z]+)((?:\.[a-z]+)+)", name)
    assert match is not None
    ignored = any(fnmatch.fnmatch(name, pattern) for pattern in BIDS_IGNORE.splitlines())
    assert ignored == (match[1] not in ("dseg", "probseg"))


def test_no_two_files_of_a_case_share_a_name() -> None:
    for names in (plain_names("S01"), bids_names("S01")):
        assert len(set(names.files.values())) == len(names.files)


def test_a_name_without_letters_is_refused() -> None:
    with pytest.raises(UserError, match=r"case '__' has no letter or digit"):
        bids_names("__")


@pytest.mark.parametrize(
    "cases", [("a b", "ab"), ("a", "A"), ("sub-1", "1"), ("sub-1_acq-a_T2w", "sub-1_acq-b_T2w")]
)  # fmt: skip
def test_cases_of_one_folder_are_refused(cases: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=f"cases {cases[0]} and {cases[1]} would both be written to sub-"):
        refuse_shared_folders(bids_names(case) for case in cases)


def test_visits_have_folders_of_their_own() -> None:
    refuse_shared_folders(bids_names(case) for case in ("sub-1_ses-1", "sub-1_ses-2", "sub-2_ses-1", "sub-3"))
    refuse_shared_folders(plain_names(case) for case in ("a b", "ab"))


def test_names_that_differ_in_how_accents_are_written_are_refused() -> None:
    with pytest.raises(UserError, match="would both be written to"):
        refuse_shared_folders(plain_names(case) for case in ("Jos\u00e9", "Jose\u0301"))


def test_the_datasets_description() -> None:
    found = json.loads(json.dumps(bids_description("0.1.0", "dixon", "ab12")))
    assert found["DatasetType"] == "derivative" and re.fullmatch(r"1\.\d+\.\d+", found["BIDSVersion"])
    assert set(found) >= {"Name", "BIDSVersion"}  # what the standard requires
    assert found["GeneratedBy"][0]["Name"] == "ivdjax" and found["GeneratedBy"][0]["Version"] == "0.1.0"
    assert "dixon (ab12)" in found["GeneratedBy"][0]["Description"]
    assert bids_sidecar()["Manual"] is False and bids_sidecar()["SpatialReference"] == "orig"


def test_tables_as_bids_writes_them() -> None:
    text = 'level,level_name,fat_fraction\n1,"L5/S1, lowest",0.25\n2,L4/5,\n'
    assert csv_as_tsv(text) == "level\tlevel_name\tfat_fraction\n1\tL5/S1, lowest\t0.25\n2\tL4/5\tn/a\n"
    assert csv_as_tsv("") == ""


def test_numbers_in_names_count_as_numbers_and_other_digits_as_letters():
    names = ["visit10", "visit2", "m\u00b2", "P1\u2460", "visit1"]
    assert sorted(names, key=natural) == ["P1\u2460", "m\u00b2", "visit1", "visit2", "visit10"]


@pytest.mark.parametrize("name", ["", " ", ".", "..", ".hidden", "site/001", "/tmp/x", "a\\b", "a\0", "a\udcff"])
def test_what_cannot_be_a_folder(name):
    assert not is_folder_name(name) and is_folder_name("S01_1 (second)")
