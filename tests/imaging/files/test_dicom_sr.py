"""DICOM structured reports, read back by highdicom and pydicom: what was measured, of which segment, and of whom."""

from __future__ import annotations

import shutil
import subprocess

import highdicom
import pydicom
import pytest

from ivdjax.imaging.files.codes import disc_code
from ivdjax.imaging.files.dicom_sr import PRIVATE_SCHEME, Reading, write_dicom_sr
from tests.dicom_series import sagittal_affine
from tests.imaging.files.test_dicom_seg import STUDY, WHO, labelled, series, write

MM, NONE = ("mm", "UCUM", "mm"), ("1", "UCUM", "no units")
WIDTH = ("ApWidth", PRIVATE_SCHEME, "AP width of the disc")
SHARE = ("LevelConfidence", PRIVATE_SCHEME, "Probability of the level")
METHOD = ("Model", PRIVATE_SCHEME, "Estimated by a model")
L5S1, L34 = disc_code(1).value, disc_code(3).value
# A trial's subject without a trial is an error of the source, which a segmentation passes on.
STUDY_ALONE = {keyword: value for keyword, value in STUDY.items() if not keyword.startswith("ClinicalTrial")}
READINGS = {
    L5S1: [Reading(WIDTH, 35.4567891, MM, error=0.4), Reading(SHARE, 0.98, NONE, METHOD)],
    L34: [Reading(WIDTH, 38.0, MM)],
}


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """A segmentation of L5/S1, L4/5 and L3/4 of a patient, and the anonymous one of the same series."""
    folder = tmp_path_factory.mktemp("sr")
    affine = sagittal_affine()
    source = series(folder / "series", affine, series_number=7, patient=WHO, extra=STUDY_ALONE)
    for name, anonymous in (("seg", False), ("anonymous", True)):
        write(folder / f"{name}.dcm", labelled(affine), source, anonymous=anonymous)
    return folder


@pytest.fixture(scope="module")
def written(segmented):
    assert write_dicom_sr(segmented / "sr.dcm", segmented / "seg.dcm", READINGS, case="a")
    return segmented / "sr.dcm"


def test_highdicom_reads_every_number_back_with_the_segment_it_was_read_off(segmented, written):
    report = highdicom.sr.srread(written)
    seg = pydicom.dcmread(segmented / "seg.dcm")
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.finding_type.value for group in groups] == [L5S1, L34]
    for group, number in zip(groups, (1, 3), strict=True):
        segment = seg.SegmentSequence[number - 1]
        assert group.tracking_uid == segment.TrackingUID and group.tracking_identifier == segment.TrackingID
        reference = group.referenced_segment[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
        assert reference.ReferencedSegmentNumber == number
        assert group.finding_sites[0].value.value == segment.SegmentedPropertyTypeCodeSequence[0].CodeValue
    width, share = groups[0].get_measurements()
    assert (width.name.value, width.name.scheme_designator, width.value, width.unit.value) == (
        "ApWidth", PRIVATE_SCHEME, 35.4568, "mm")  # fmt: skip
    uncertainty = [
        float(item.MeasuredValueSequence[0].NumericValue)
        for item in width[0].ContentSequence
        if item.ValueType == "NUM"
    ]
    assert sorted(uncertainty) == pytest.approx([35.0568, 35.8568])
    assert (share.value, share.method.value) == (0.98, "Model")
    assert [m.value for m in groups[1].get_measurements()] == [38.0]


def test_the_report_is_of_the_same_patient_study_and_images(segmented, written):
    report, seg = pydicom.dcmread(written), pydicom.dcmread(segmented / "seg.dcm")
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "AccessionNumber",
                    "ReferringPhysicianName", "ContentDate", "ContentTime"):  # fmt: skip
        assert report[keyword].value == seg[keyword].value, keyword
    assert report.SeriesInstanceUID != seg.SeriesInstanceUID
    assert (report.Modality, report.CompletionFlag, report.VerificationFlag) == ("SR", "COMPLETE", "UNVERIFIED")
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    named = {
        item.ReferencedSOPInstanceUID for one in study.ReferencedSeriesSequence for item in one.ReferencedSOPSequence
    }
    images = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert named == {seg.SOPInstanceUID, *(item.ReferencedSOPInstanceUID for item in images)}


def test_an_anonymous_segmentation_gives_an_anonymous_report(segmented, tmp_path):
    write_dicom_sr(tmp_path / "sr.dcm", segmented / "anonymous.dcm", READINGS, case="a")
    dataset, text = pydicom.dcmread(tmp_path / "sr.dcm"), (tmp_path / "sr.dcm").read_bytes()
    assert (dataset.PatientIdentityRemoved, dataset.ContentDate) == ("YES", "19000101")
    for value in (*WHO.values(), *STUDY_ALONE.values()):
        if len(str(value)) > 3:
            assert str(value).encode() not in text, value


def test_the_same_arguments_give_the_same_bytes(segmented, written, tmp_path):
    write_dicom_sr(tmp_path / "again.dcm", segmented / "seg.dcm", READINGS, case="a")
    assert (tmp_path / "again.dcm").read_bytes() == written.read_bytes()
    write_dicom_sr(tmp_path / "other.dcm", segmented / "seg.dcm", {L34: READINGS[L34]}, case="a")
    assert pydicom.dcmread(tmp_path / "other.dcm").SOPInstanceUID != pydicom.dcmread(written).SOPInstanceUID


def test_without_readings_nothing_is_written_and_strange_ones_are_refused(segmented, tmp_path):
    assert not write_dicom_sr(tmp_path / "sr.dcm", segmented / "seg.dcm", {L5S1: []}, case="a")
    assert not (tmp_path / "sr.dcm").exists()
    with pytest.raises(ValueError, match="no such segment"):
        write_dicom_sr(tmp_path / "sr.dcm", segmented / "seg.dcm", {disc_code(7).value: READINGS[L34]}, case="a")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (apt install dicom3tools)")
def test_a_validator_finds_nothing_wrong(written):
    said = subprocess.run(["dciodvfy", str(written)], capture_output=True, text=True, check=False)
    assert [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")] == []
