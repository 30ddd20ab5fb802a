"""The images of a series as a derived object refers to them: what is refused, and what is handed on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from ivdjax.imaging.files.dicom import DicomSeries
from ivdjax.imaging.files.dicom_reference import labels_on, read_images, templates
from ivdjax.imaging.geometry import to_canonical
from ivdjax.volume import CaseError, Grid, LabelMap
from tests.dicom_series import PATIENT, sagittal_affine, write_series

SHAPE = (8, 10, 5)
AFFINE = sagittal_affine()


def series(folder: Path, shape: tuple[int, int, int] = SHAPE, affine: np.ndarray = AFFINE, **options) -> DicomSeries:
    return DicomSeries(folder, "", tuple(write_series(folder, np.ones(shape, dtype=np.int16), affine, **options)))


def counted(affine: np.ndarray = AFFINE) -> tuple[np.ndarray, LabelMap]:
    """Voxels that are all different along each axis: (I, J, K) as a file has them, and their canonical label map."""
    i, j, k = np.indices(SHAPE)
    native = (i + 10 * j + 101 * k).astype(np.uint8)
    array, canonical = to_canonical(native, Grid(SHAPE, affine))
    return native, LabelMap(array, canonical)


def test_labels_come_slice_by_slice(tmp_path):
    native, labels = counted()
    images = read_images(series(tmp_path), "knee")
    assert np.array_equal(labels_on(images, labels, "it"), np.transpose(native, (2, 1, 0)))


def test_images_come_in_the_order_in_which_they_lie(tmp_path):
    source = series(tmp_path)
    shuffled = DicomSeries(tmp_path, "", tuple(source.files[k] for k in (3, 0, 4, 1, 2)))
    assert [item.path for item, _ in read_images(shuffled, "knee")] == list(source.files)


def moved(by_mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[2, 3] += by_mm
    return affine


@pytest.mark.parametrize(
    "affine",
    [moved(0.5), moved(4.0), AFFINE @ np.diag([1.0, 1.05, 1.0, 1.0]), AFFINE @ np.diag([2.0, 1.0, 1.0, 1.0]),
     sagittal_affine(directions=np.eye(3))],
    ids=["half a voxel off", "a slice off", "stretched", "twice as coarse", "turned"],
)  # fmt: skip
def test_labels_of_another_place_are_refused(tmp_path, affine):
    images = read_images(series(tmp_path), "knee")
    with pytest.raises(CaseError, match=r"it has 5 images of 10 x 8 pixels that are not the voxels of the labels"):
        labels_on(images, counted(affine)[1], "it")


def test_labels_within_rounding_are_taken(tmp_path):
    images = read_images(series(tmp_path), "knee")
    native, labels = counted(moved(0.05))
    assert np.array_equal(labels_on(images, labels, "it"), np.transpose(native, (2, 1, 0)))


@pytest.mark.parametrize("shape", [(8, 10, 4), (8, 11, 5), (10, 8, 5)])
def test_labels_of_another_shape_are_refused(tmp_path, shape):
    images = read_images(series(tmp_path, shape), "knee")
    with pytest.raises(CaseError, match="not the voxels of the labels"):
        labels_on(images, counted()[1], "it")


@pytest.mark.parametrize(
    "keyword", ["SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"]
)
def test_an_image_needs_its_uids(tmp_path, keyword):
    source = series(tmp_path)
    header = pydicom.dcmread(source.files[2])
    delattr(header, keyword)
    header.save_as(source.files[2])
    with pytest.raises(CaseError, match=rf"case knee: .*{source.files[2].name} has no {keyword}, so that nothing"):
        read_images(source, "knee")


@pytest.mark.parametrize(("option", "name"), [("study", "study"), ("series", "series"),
                                              ("frame_of_reference", "frame of reference")])  # fmt: skip
def test_images_of_two_series_are_refused(tmp_path, option, name):
    same = {"study": "1.2.1", "series": "1.2.2", "frame_of_reference": "1.2.3"}
    one = series(tmp_path / "one", **same)
    other = series(tmp_path / "other", **{**same, option: "1.2.9"})
    mixed = DicomSeries(tmp_path, "", (*one.files[:3], *other.files[3:]))
    with pytest.raises(CaseError, match=f"case knee: the images in .* are of more than one {name}"):
        read_images(mixed, "knee")


def test_two_images_in_one_place_are_refused(tmp_path):
    same = {"study": "1.2.1", "series": "1.2.2", "frame_of_reference": "1.2.3"}
    both = (*series(tmp_path / "one", **same).files, *series(tmp_path / "other", **same).files)
    with pytest.raises(CaseError, match="case knee"):
        read_images(DicomSeries(tmp_path, "", both), "knee")


def test_files_that_are_gone_or_damaged_are_named(tmp_path):
    source = series(tmp_path)
    source.files[1].write_bytes(b"no DICOM at all")
    with pytest.raises(CaseError, match=rf"case knee: .*{source.files[1].name} cannot be read as a DICOM image"):
        read_images(source, "knee")
    source.files[1].unlink()
    with pytest.raises(CaseError, match=rf"case knee: no file .*{source.files[1].name}"):
        read_images(source, "knee")


def test_a_value_of_a_kind_that_dicom_does_not_know_is_damage(tmp_path):
    source = series(tmp_path)
    path = source.files[2]
    content = path.read_bytes()
    uid = b"\x08\x00\x18\x00UI"
    assert content.count(uid) == 1
    path.write_bytes(content.replace(uid, uid[:4] + b"XX"))
    with pytest.raises(CaseError, match=r"case knee: .* cannot be read as a DICOM image \(NotImplementedError\)"):
        read_images(source, "knee")


def test_templates_hold_nothing_of_the_patient(tmp_path):
    extra = {"InstitutionName": "Clinic", "StudyDescription": "Erika", "ProtocolName": "Erika"}
    images = read_images(series(tmp_path, manufacturer="MAKER", extra=extra), "knee")
    found = templates(images)
    assert [template.SOPInstanceUID for template in found] == [header.SOPInstanceUID for _, header in images]
    text = "\n".join(str(template) for template in found)
    assert "MAKER" in text
    for word in (*PATIENT.values(), "Clinic", "Erika"):
        assert f"'{word}'" not in text


@pytest.mark.parametrize(("thickness", "expected"), [("3.5", 3.5), (None, 4.0)])
def test_the_slice_thickness_is_the_headers_or_else_the_distance(tmp_path, thickness, expected):
    extra = {"SliceThickness": thickness} if thickness else {}
    template = templates(read_images(series(tmp_path, extra=extra), "knee"))[0]
    assert float(template.SliceThickness) == pytest.approx(expected)
    assert float(template.SpacingBetweenSlices) == pytest.approx(4.0)
