"""What inference leaves behind, read by programs that are not ours: DICOM in and out, BIDS, probabilities, visits."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
import slicerio

from ivdjax.imaging.files import write_volume
from ivdjax.inference.infer import infer
from ivdjax.inference.request import InferenceRequest
from ivdjax.inference.results import OutputOptions
from ivdjax.volume import CaseError, Grid, UserError
from tests.dicom_series import PATIENT, sagittal_affine, write_series
from tests.untrained_model import write_untrained

SHAPE = (40, 24, 6)  # of the file, whose axes run to posterior, inferior and left
AFFINE = np.array([[0, 0, -4.0, 0], [-2.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]])

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_untrained(tmp_path_factory.mktemp("models") / "untrained", ["t2"])


@pytest.fixture
def series(tmp_path) -> Path:
    """A DICOM series of a patient, in a folder of its own."""
    values = np.random.default_rng(0).normal(100, 20, SHAPE).round().astype(np.int16)
    write_series(tmp_path / "data" / "a", values, sagittal_affine((2.0, 3.0, 4.0)), series_description="t2")
    return tmp_path / "data" / "a"


def words_of(patient) -> list[bytes]:
    return [str(value).encode() for value in patient.values() if len(str(value)) > 3]


def test_dicom_in_gives_every_form_out_and_the_patient_in_one_alone(model, series, tmp_path):
    request = InferenceRequest(model, tmp_path / "out", (str(series),))
    (row,) = infer(request)
    assert row.status == "done" and row.discs
    folder = tmp_path / "out" / "a"
    labels = nibabel.load(folder / "a_discs.nii.gz")
    array = np.asarray(labels.dataobj)
    levels = sorted(set(np.unique(array)) - {0})
    assert len(levels) == row.discs

    dicom = highdicom.seg.segread(folder / "a_discs.dcm")
    assert dicom.number_of_segments == len(levels) and str(dicom.PatientName) == str(PATIENT["PatientName"])
    used = {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in series.iterdir()}
    named = {
        str(item.ReferencedSOPInstanceUID) for item in dicom.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert named == used
    itk = SimpleITK.ReadImage(str(folder / "a_discs.seg.nrrd"))
    assert np.count_nonzero(SimpleITK.GetArrayViewFromImage(itk)) == np.count_nonzero(array)
    segments = slicerio.read_segmentation(str(folder / "a_discs.seg.nrrd"))["segments"]
    assert [segment["labelValue"] for segment in segments] == levels
    with (folder / "a_discs.csv").open() as stream:
        assert [int(row["level"]) for row in csv.DictReader(stream)] == levels

    for path in (tmp_path / "out").rglob("*"):
        if path.is_file() and path.suffix != ".dcm":
            content = path.read_bytes() if not path.name.endswith(".gz") else array.tobytes()
            assert not [word for word in words_of(PATIENT) if word in content], path.name
    groups = highdicom.sr.srread(folder / "a_measures.dcm").content.get_volumetric_roi_measurement_groups()
    document = json.loads((folder / "a_discs.json").read_text())
    assert len(groups) == len(levels)
    for group, disc in zip(groups, document["discs"], strict=True):
        told = {item.name.value: item.value for item in group.get_measurements()}
        assert group.finding_type.value == document["codes"]["levels"][str(disc["level"])]["value"]
        coded = document["codes"]["measures"]
        assert told == {coded[name]["value"]: value for name, value in disc.items()
                        if name in coded and value is not None}  # fmt: skip
        assert told["volume_in_view_mm3"] == disc["volume_in_view_mm3"]
    first = (folder / "a_discs.dcm").read_bytes()
    assert [row.status for row in infer(request)] == ["skipped"]

    hidden = InferenceRequest(model, tmp_path / "out", (str(series),), options=OutputOptions(anonymous=True))
    with pytest.raises(UserError, match="or form for 1 of 1"):
        infer(hidden)
    infer(InferenceRequest(model, tmp_path / "hidden", (str(series),), options=OutputOptions(anonymous=True)))
    for name in ("a_discs.dcm", "a_measures.dcm"):
        content = (tmp_path / "hidden" / "a" / name).read_bytes()
        assert not [word for word in words_of(PATIENT) if word in content] and content != first


def test_bids_names_probabilities_and_visits_of_a_subject(model, tmp_path):
    for visit in (1, 2):
        image = np.random.default_rng(visit).normal(100, 20, (6, 24, 40)).astype(np.float32)
        name = f"sub-01_ses-{visit}"
        (tmp_path / "data" / name).mkdir(parents=True)
        write_volume(tmp_path / "data" / name / f"{name}_t2.nii.gz", image, Grid(SHAPE, AFFINE))
    options = OutputOptions(bids=True, probabilities=True)
    request = InferenceRequest(
        model, tmp_path / "out", (str(tmp_path / "data"),), options=options, subject_pattern=r"^(sub-\d+)_"
    )
    rows = infer(request)
    assert [row.status for row in rows] == ["done", "done"]
    description = json.loads((tmp_path / "out" / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative" and description["GeneratedBy"][0]["Name"] == "ivdjax"
    anat = tmp_path / "out" / "sub-01" / "ses-2" / "anat"
    labels = nibabel.load(anat / "sub-01_ses-2_desc-discs_dseg.nii.gz")
    probability = nibabel.load(anat / "sub-01_ses-2_label-disc_desc-discs_probseg.nii.gz")
    np.testing.assert_allclose(probability.affine, labels.affine)
    values = probability.get_fdata()
    assert values.min() >= 0 and values.max() <= 1
    assert values[np.asarray(labels.dataobj) > 0].min() >= 0.5 - 1 / 255
    table = (anat / "sub-01_ses-2_desc-discs_dseg.tsv").read_text().splitlines()
    assert table[0].split("\t")[:2] == ["index", "name"]
    with (tmp_path / "out" / "changes.csv").open() as stream:
        changes = list(csv.DictReader(stream))
    assert {row["subject"] for row in changes} == {"sub-01"}
    assert {row["beyond_noise"] for row in changes} == {"unknown"}  # this model knows nothing of its repeatability
    page = (tmp_path / "out" / "index.html").read_text()
    assert "sub-01/ses-2/anat/sub-01_ses-2_desc-discs_report.html" in page
    assert [row.status for row in infer(request)] == ["skipped", "skipped"]


def test_visits_that_cannot_be_compared_cost_no_case(model, tmp_path):
    (tmp_path / "data" / "x_1").mkdir(parents=True)
    image = np.random.default_rng(1).normal(100, 20, (6, 24, 40)).astype(np.float32)
    write_volume(tmp_path / "data" / "x_1" / "x_1_t2.nii.gz", image, Grid(SHAPE, AFFINE))
    request = InferenceRequest(model, tmp_path / "out", (str(tmp_path / "data"),), subject_pattern="^(y)_")
    with pytest.raises(UserError, match="finds none"):
        infer(request)
    assert not (tmp_path / "out").exists()
    with pytest.raises(CaseError, match="visits were not compared: no subject of 1 has two visits"):
        infer(InferenceRequest(model, tmp_path / "out", (str(tmp_path / "data"),), subject_pattern="^(x)_"))
    assert (tmp_path / "out" / "x_1" / "report.html").is_file() and (tmp_path / "out" / "summary.csv").is_file()
