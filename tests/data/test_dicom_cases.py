"""A phantom as DICOM series is the case that it is as NIfTI files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid

from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.data.dicom_cases import case_files, dicom_cases, find_dicom_case
from ivdjax.data.phantom import PhantomOptions, make_phantom
from ivdjax.imaging.files import write_volume
from ivdjax.imaging.files.dicom_tree import scan_tree
from ivdjax.volume import CaseError, Grid
from tests.dicom_series import GE, PATIENT, PHILIPS, SIEMENS, sagittal_affine, write_series

DIXON = ("fat", "inn", "opp", "wat")


def write_dixon(folder: Path, case, vendor: str, apart: bool) -> None:
    """A case's channels as a scanner of a vendor would write them, each into a folder of its own or all into one."""
    study, frame, shared = generate_uid(), generate_uid(), generate_uid()
    types = {"siemens": SIEMENS, "philips": PHILIPS}.get(vendor, {})
    # As a scanner stores a sagittal slice: rows from anterior to posterior, columns downward.
    affine = case.volume.affine[:, [2, 1, 0, 3]]
    for number, (channel, array) in enumerate(zip(case.volume.channels, case.volume.array, strict=True), 1):
        write_series(
            folder / f"{number:03d}" if apart else folder,
            np.rint(array).astype(np.int16).transpose(2, 1, 0),
            affine,
            image_type=types.get(channel, ("ORIGINAL", "PRIMARY", "M")),
            series_description=GE[channel] if vendor == "ge" else "",
            series_number=number,
            series=shared if vendor == "philips" else None,
            study=study,
            frame_of_reference=frame,
            seed=number,
        )


@pytest.mark.parametrize(("vendor", "apart"), [("siemens", True), ("ge", False), ("philips", False)])
def test_a_phantom_as_dicom_equals_its_nifti(tmp_path, vendor, apart):
    options = PhantomOptions(shape=(6, 70, 44), spacing_mm=(4.0, 4.0, 4.0), channels=DIXON)
    case = make_phantom(5, options, name="S01").case
    write_dixon(tmp_path / "S01", case, vendor, apart)
    nifti = {}
    for channel, array in zip(case.volume.channels, case.volume.array, strict=True):
        nifti[channel] = tmp_path / f"S01_{channel}.nii.gz"
        write_volume(nifti[channel], np.rint(array).astype(np.int16), case.volume.native)

    files = find_dicom_case(tmp_path / "S01", DIXON)
    assert (files.name, files.subject, files.labels, files.ignored) == ("S01", "S01", None, ())
    mine, theirs = read_case(files, DIXON), read_case(CaseFiles("S01", "S01", nifti), DIXON)
    assert mine.volume.channels == theirs.volume.channels == DIXON
    np.testing.assert_array_equal(mine.volume.array, theirs.volume.array)
    np.testing.assert_allclose(mine.volume.affine, theirs.volume.affine, atol=1e-5)
    assert len(mine.warnings) == 1 and "told by DICOM headers" in mine.warnings[0]
    assert not any(word in repr(mine.warnings) + repr(files) for word in PATIENT.values() if len(word) > 1)


def test_a_case_that_lacks_a_channel(tmp_path):
    write_series(tmp_path / "P", np.zeros((4, 5, 3), np.int16), sagittal_affine(), image_type=SIEMENS["wat"])
    assert list(find_dicom_case(tmp_path / "P", DIXON, partial=True).channels) == ["wat"]
    with pytest.raises(CaseError, match="case P: no DICOM series for channel fat, inn, opp in "):
        find_dicom_case(tmp_path / "P", DIXON)


def names(folder: Path, channels=("t2",)) -> dict[str, int]:
    """The cases in a folder, each with the number of its files."""
    return {case.name: len(case.files) for case in dicom_cases(scan_tree(folder), channels)}


ARRAY = np.zeros((4, 5, 3), np.int16)


def add(folder: Path, study: str, **options) -> list[Path]:
    return write_series(folder, ARRAY, sagittal_affine(), study=study, **options)


def test_what_is_a_case(tmp_path):
    add(tmp_path / "flat", "1.1")
    for place, name in enumerate(("a", "b")):
        add(tmp_path / "apart" / name, "1.2")
        add(tmp_path / "cohort" / name, f"1.3.{place}")
    (tmp_path / "apart" / ".cache").mkdir()
    (tmp_path / "empty").mkdir()
    found = {path.name: names(path) for path in tmp_path.iterdir()}
    assert found == {"flat": {"flat": 3}, "apart": {"apart": 6}, "cohort": {"a": 3, "b": 3}, "empty": {}}


def test_trees_of_any_depth_are_one_case_a_study(tmp_path):
    """XNAT's, those of a CD, and patient / study / series; a case is named by the highest folder that is its own."""
    add(tmp_path / "xnat" / "S1" / "scans" / "3-T2" / "resources" / "DICOM" / "files", "1.1")
    add(tmp_path / "xnat" / "S1" / "scans" / "4-T1" / "resources" / "DICOM" / "files", "1.1")
    add(tmp_path / "xnat" / "S2" / "scans" / "3" / "DICOM", "1.2")
    add(tmp_path / "cd" / "DICOM" / "PA0" / "ST0" / "SE0", "1.3")
    (tmp_path / "cd" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    for visit in ("2019", "2020"):
        add(tmp_path / "pss" / "P1" / visit / "s", f"1.4.{visit}")
    add(tmp_path / "pss" / "P2" / "2019" / "s", "1.5")
    assert names(tmp_path / "xnat") == {"S1": 6, "S2": 3}
    assert names(tmp_path / "cd") == {"cd": 3}
    assert names(tmp_path / "pss") == {"2019": 3, "2020": 3, "P2": 3}
    assert sum(names(tmp_path).values()) == 21


def test_one_dicom_case_beside_other_images_does_not_take_the_folders_name(tmp_path):
    add(tmp_path / "P1" / "scans", "1.1")
    (tmp_path / "P2").mkdir()
    write_volume(tmp_path / "P2" / "x.nii", ARRAY.T, Grid((4, 5, 3), sagittal_affine()))
    assert names(tmp_path) == {"P1": 3}
    (tmp_path / "P1" / "nifti").mkdir()
    write_volume(tmp_path / "P1" / "nifti" / "x.nii", ARRAY.T, Grid((4, 5, 3), sagittal_affine()))
    assert names(tmp_path / "P1") == {"P1": 3}


def test_series_folders_of_a_study_among_those_of_others_are_one_case_where_they_fit(tmp_path):
    for study in ("1", "2"):
        for number, channel in enumerate(("fat", "wat"), 1):
            folder = tmp_path / f"SE{study}{number}"
            add(folder, f"1.{study}", image_type=SIEMENS[channel], series_number=number)
    assert names(tmp_path, ("fat", "wat")) == {"SE11": 6, "SE21": 6}
    files = [case_files(case, ("fat", "wat")) for case in dicom_cases(scan_tree(tmp_path), ("fat", "wat"))]
    assert files[0].remarks[-1] == "case SE11: images of its study in SE12 are taken too"
    assert names(tmp_path, ("t2",)) == {"SE11": 3, "SE12": 3, "SE21": 3, "SE22": 3}  # four of it: each its own case


def test_folders_named_as_channels_are_of_one_case(tmp_path):
    add(tmp_path / "P" / "wat", "1.1")
    add(tmp_path / "P" / "P_fat", "1.2")  # told apart by whoever took the names away
    assert names(tmp_path / "P", ("fat", "wat")) == {"P": 6}
    with pytest.raises(CaseError, match="come from two studies"):
        find_dicom_case(tmp_path / "P", ("fat", "wat"))


def test_headers_without_study_go_by_frame_of_reference_or_folder(tmp_path):
    for name in ("a", "b"):
        add(tmp_path / name, "1", extra={"StudyInstanceUID": None})
        for series in ("x", "y"):
            add(tmp_path / "more" / name / series, "1", frame_of_reference="",
                extra={"StudyInstanceUID": None})  # fmt: skip
    assert names(tmp_path / "a") == {"a": 3}
    assert names(tmp_path / "more") == {"x": 3, "y": 3} or len(names(tmp_path / "more")) == 2


def test_a_link_to_another_study_is_not_followed(tmp_path):
    add(tmp_path / "P1", "1.1")
    add(tmp_path / "root" / "P1", "1.1")
    (tmp_path / "root" / "again").symlink_to(tmp_path / "P1")
    assert names(tmp_path / "root") == {"root": 3}
