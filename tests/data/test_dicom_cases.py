"""A phantom as DICOM series is the case that it is as NIfTI files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import generate_uid

from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.data.dicom_cases import find_dicom_case, is_dicom_case, series_folders
from ivdjax.data.phantom import PhantomOptions, make_phantom
from ivdjax.imaging.files import write_volume
from ivdjax.volume import CaseError
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


def test_what_is_a_case(tmp_path):
    array, study = np.zeros((4, 5, 3), np.int16), generate_uid()
    write_series(tmp_path / "flat", array, sagittal_affine())
    for name in ("a", "b"):
        write_series(tmp_path / "apart" / name, array, sagittal_affine(), study=study)
        write_series(tmp_path / "cohort" / name, array, sagittal_affine())
    (tmp_path / "apart" / ".cache").mkdir()
    (tmp_path / "empty").mkdir()
    answers = {path.name: is_dicom_case(path) for path in tmp_path.iterdir()}
    assert answers == {"flat": True, "apart": True, "cohort": False, "empty": False}
    assert [path.name for path in series_folders(tmp_path / "apart")] == ["a", "b"]


def test_a_link_to_another_study_makes_a_folder_of_cases_and_one_to_the_same_is_left_out(tmp_path):
    array, study = np.zeros((4, 5, 3), np.int16), generate_uid()
    write_series(tmp_path / "P1", array, sagittal_affine(), study=study)
    write_series(tmp_path / "root" / "P1", array, sagittal_affine(), study=study)
    write_series(tmp_path / "elsewhere" / "P2", array, sagittal_affine())
    (tmp_path / "root" / "again").symlink_to(tmp_path / "P1")
    assert is_dicom_case(tmp_path / "root")
    (tmp_path / "root" / "P2").symlink_to(tmp_path / "elsewhere" / "P2")
    assert not is_dicom_case(tmp_path / "root")
