"""DICOM segmentations, read back by pydicom, highdicom and SimpleITK: what they hold, of whom, and where it lies."""

from __future__ import annotations

import warnings
from dataclasses import astuple, replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from highdicom.color import CIELabColor
from pydicom.sr.codedict import codes

from ivdjax.imaging.files.codes import ANATOMICAL_STRUCTURE, disc_code
from ivdjax.imaging.files.dicom import DicomSeries
from ivdjax.imaging.files.dicom_seg import write_dicom_seg
from ivdjax.imaging.files.segment import Segment
from ivdjax.imaging.geometry import from_canonical, to_canonical
from ivdjax.volume import CaseError, Grid, LabelMap, level_name, to_index
from tests.dicom_series import PATIENT, sagittal_affine, write_enhanced, write_series

SHAPE = (14, 20, 6)  # (I, J, K): columns, rows, slices
AXIAL = np.diag([-1.0, -1.0, 1.0])


def segments(*levels: int) -> list[Segment]:
    return [
        Segment(
            level,
            level_name(level),
            astuple(ANATOMICAL_STRUCTURE),
            astuple(disc_code(level)),
            (0.94, 0.89, 0.26) if level % 2 else (1.0, 0.0, 0.0),
        )
        for level in levels
    ]


def labelled(affine: np.ndarray, levels: tuple[int, ...] = (1, 2, 3)) -> LabelMap:
    """Boxes without any symmetry, one a level, above each other; canonical as everything that ivdjax reads."""
    array = np.zeros(SHAPE, dtype=np.uint8)
    for place, level in enumerate(levels):
        array[3 + place : 9, 15 - 5 * place : 18 - 5 * place, 1 : 5 - place] = level
    array[3, 17, 1] = 0
    canonical, canonical_affine = to_canonical(array, Grid(SHAPE, affine))
    return LabelMap(canonical, canonical_affine, Grid(SHAPE, affine))


def series(folder: Path, affine: np.ndarray, **options) -> DicomSeries:
    paths = write_series(folder, np.ones(SHAPE, dtype=np.int16), affine, **options)
    return DicomSeries(folder, "", tuple(sorted(paths)))  # by their random names: the order of slices is lost


def write(path: Path, labels: LabelMap, source: DicomSeries, **options) -> bool:
    known = {"case": "knee", "description": "Intervertebral discs", "model_name": "tiny", "model_version": "1.0",
             "weights_sha256": "ab" * 32, "segments": segments(*range(1, 8))}  # fmt: skip
    return write_dicom_seg(path, labels, source, **{**known, **options})


@pytest.fixture
def written(tmp_path):
    """A sagittal, oblique series, its labels, and their segmentation's path."""
    affine = sagittal_affine()
    labels, source = labelled(affine), series(tmp_path / "series", affine, series_number=7)
    assert write(tmp_path / "seg.dcm", labels, source)
    return labels, source, tmp_path / "seg.dcm"


def assert_same_place(path: Path, labels: LabelMap) -> None:
    """Every pixel of every frame lies where its own plane position says, and is what the label map says there."""
    dataset = pydicom.dcmread(path)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    between_rows, between_columns = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    row, column = np.indices(frames.shape[1:])
    described = {item.SegmentNumber: item for item in dataset.SegmentSequence}
    seen = np.zeros(labels.array.shape, dtype=np.uint8)
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        lps = position + column[..., None] * between_columns * cosines[:3] + row[..., None] * between_rows * cosines[3:]
        index = to_index(labels.affine, lps * (-1, -1, 1))
        assert np.abs(index - np.rint(index)).max() < 1e-3
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        level = int(described[number].SegmentDescription.rsplit(" ", 1)[1])
        d, h, w = np.rint(index[frame > 0]).astype(int).T
        assert len(d) > 0, "frames without pixels are left out"
        assert (labels.array[d, h, w] == level).all()
        seen[d, h, w] = level
    assert np.array_equal(seen, labels.array)


AFFINES = {
    "sagittal, oblique": sagittal_affine(),
    "sagittal, first slice on the left": sagittal_affine((1.2, 1.1, 4.0)) @ np.diag([1, 1, -1, 1]),
    "axial": sagittal_affine((0.8, 0.9, 3.0), directions=AXIAL),
    "coronal": sagittal_affine((0.8, 0.9, 3.0), directions=np.array([[-1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]])),
}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_segments_lie_where_the_labels_lie(tmp_path, affine):
    labels = labelled(affine)
    assert write(tmp_path / "seg.dcm", labels, series(tmp_path / "series", affine))
    assert_same_place(tmp_path / "seg.dcm", labels)


def test_labels_may_come_in_any_axis_order(tmp_path):
    affine = sagittal_affine()
    labels = labelled(affine)
    turn = np.array([[0, 0, -1, SHAPE[2] - 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]], dtype=float)
    turned = LabelMap(np.transpose(labels.array, (1, 2, 0))[:, :, ::-1], labels.affine @ turn)
    source = series(tmp_path / "series", affine)
    write(tmp_path / "one.dcm", labels, source)
    write(tmp_path / "two.dcm", turned, source)
    assert (tmp_path / "one.dcm").read_bytes() == (tmp_path / "two.dcm").read_bytes()


def test_highdicom_reads_the_same_masks(written):
    labels, source, path = written
    segmentation = highdicom.seg.segread(path)
    assert segmentation.segmentation_type.value == "BINARY"
    assert segmentation.number_of_segments == 3
    headers = {str(pydicom.dcmread(file).SOPInstanceUID): pydicom.dcmread(file) for file in source.files}
    pixels = segmentation.get_pixels_by_source_instance(
        list(headers), combine_segments=True, assert_missing_frames_are_empty=True
    )
    for plane, header in zip(pixels, headers.values(), strict=True):
        place = np.array(header.ImagePositionPatient, dtype=float) * (-1, -1, 1)
        k = int(np.rint(to_index(labels.native.affine, place))[2])
        assert np.array_equal(plane, from_canonical(labels.array, labels.native)[:, :, k].T)


def test_simpleitk_reads_frames_and_the_spacing_between_slices(written):
    labels, _, path = written
    array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    assert array.shape[1:] == (SHAPE[1], SHAPE[0])
    assert np.count_nonzero(array) == np.count_nonzero(labels.array)
    measures = pydicom.dcmread(path).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [float(v) for v in measures.PixelSpacing] == pytest.approx([1.1, 1.2], abs=1e-6)
    assert float(measures.SpacingBetweenSlices) == pytest.approx(4.0, abs=1e-6)


def test_every_image_of_the_series_is_referenced(written):
    _, source, path = written
    dataset = pydicom.dcmread(path)
    headers = [pydicom.dcmread(file) for file in source.files]
    uids = {header.SOPInstanceUID for header in headers}
    (reference,) = dataset.ReferencedSeriesSequence
    assert reference.SeriesInstanceUID == headers[0].SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in reference.ReferencedInstanceSequence} == uids
    assert {item.ReferencedSOPClassUID for item in reference.ReferencedInstanceSequence} == {headers[0].SOPClassUID}
    assert dataset.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    assert dataset.StudyInstanceUID == headers[0].StudyInstanceUID
    assert dataset.SeriesInstanceUID != headers[0].SeriesInstanceUID
    assert dataset.SeriesNumber == 9007
    for group in dataset.PerFrameFunctionalGroupsSequence:
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        (header,) = [header for header in headers if header.SOPInstanceUID == image.ReferencedSOPInstanceUID]
        assert group.PlanePositionSequence[0].ImagePositionPatient == header.ImagePositionPatient


def test_segments_say_what_they_are_in_the_standards_codes(written):
    dataset = pydicom.dcmread(written[2])
    first, second, third = dataset.SegmentSequence
    assert [item.SegmentNumber for item in (first, second, third)] == [1, 2, 3]
    assert [item.SegmentLabel for item in (first, second, third)] == ["L5/S1", "L4/5", "L3/4"]
    category = second.SegmentedPropertyCategoryCodeSequence[0]
    assert category.CodeValue == codes.cid7150.AnatomicalStructure.value
    kinds = [item.SegmentedPropertyTypeCodeSequence[0] for item in (first, second, third)]
    assert {kind.CodingSchemeDesignator for kind in (category, *kinds)} == {"SCT"}
    assert [kind.CodeValue for kind in kinds] == [
        codes.SCT.StructureOfIntervertebralDiscOfL5AndS1.value,
        codes.SCT.IntervertebralDiscStructureOfFourthLumbarVertebra.value,
        codes.SCT.IntervertebralDiscStructureOfThirdLumbarVertebra.value,
    ]
    assert second.SegmentAlgorithmType == "AUTOMATIC"
    assert second.SegmentAlgorithmName == "tiny"
    algorithm = second.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmVersion, algorithm.AlgorithmFamilyCodeSequence[0].CodeValue) == ("1.0", "123110")
    assert dataset.DeviceSerialNumber == "ab" * 32
    assert len({item.TrackingUID for item in (first, second, third)}) == 3


def test_colours_are_cielab(written):
    first, second, _ = pydicom.dcmread(written[2]).SegmentSequence
    red = CIELabColor.from_dicom_value(list(second.RecommendedDisplayCIELabValue))
    # sRGB red is L* 53.24, a* 80.09, b* 67.20 under D65.
    assert red.lab == pytest.approx((53.24, 80.09, 67.20), abs=0.05)
    back = CIELabColor.from_dicom_value(list(first.RecommendedDisplayCIELabValue)).to_rgb()
    assert back == pytest.approx((240, 227, 66), abs=1)


def test_segments_are_numbered_without_gaps_where_a_disc_is_missing(tmp_path):
    affine = sagittal_affine()
    labels = labelled(affine, (2, 5))
    write(tmp_path / "seg.dcm", labels, series(tmp_path / "series", affine))
    found = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    assert [(item.SegmentNumber, item.SegmentLabel) for item in found] == [(1, "L4/5"), (2, "L1/2")]
    assert_same_place(tmp_path / "seg.dcm", labels)


def test_the_same_disc_of_a_study_keeps_its_tracking_identifier(tmp_path):
    affine = sagittal_affine()
    source = series(tmp_path / "series", affine)
    found = []
    for levels in ((1, 2), (2, 3)):
        write(tmp_path / "seg.dcm", labelled(affine, levels), source)
        dataset = pydicom.dcmread(tmp_path / "seg.dcm")
        found.append((dataset.SOPInstanceUID, {s.SegmentLabel: s.TrackingUID for s in dataset.SegmentSequence}))
    assert found[0][1]["L4/5"] == found[1][1]["L4/5"]
    assert found[0][0] != found[1][0]


def test_the_same_arguments_give_the_same_bytes_in_whatever_order_the_files_come(written, tmp_path):
    labels, source, path = written
    again = DicomSeries(source.folder, source.uid, source.files[::-1])
    write(tmp_path / "again.dcm", labels, again)
    assert (tmp_path / "again.dcm").read_bytes() == path.read_bytes()
    assert [file.name for file in tmp_path.glob(".*")] == []


@pytest.mark.parametrize("change", [{"model_name": "other"}, {"weights_sha256": "cd" * 32}, {"anonymous": True},
                                    {"corrected": True}])  # fmt: skip
def test_another_result_has_other_uids(written, tmp_path, change):
    labels, source, path = written
    write(tmp_path / "other.dcm", labels, source, **change)
    one, other = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "other.dcm")
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID != other.SeriesInstanceUID
    kinds = {item.SegmentAlgorithmType for item in other.SegmentSequence}
    assert kinds == {"SEMIAUTOMATIC" if "corrected" in change else "AUTOMATIC"}


WHO = {
    **PATIENT,
    "PatientAge": "059Y", "PatientWeight": "71", "PatientSize": "1.68", "OtherPatientNames": "Schmitt^Erika",
    "PatientComments": "Lives in Musterstadt", "EthnicGroup": "Ethnicgroup", "PatientAddress": "Musterweg",
}  # fmt: skip
STUDY = {
    "StudyDate": "20240105", "StudyTime": "101500", "SeriesDate": "20240105", "AcquisitionDate": "20240106",
    "AcquisitionTime": "111111", "AccessionNumber": "ACC0815", "StudyID": "STUDY99", "StudyDescription": "LWS Becker",
    "ReferringPhysicianName": "Zuweiser^Hans", "NameOfPhysiciansReadingStudy": "Leser^Ina",
    "InstitutionName": "Krankenhaus", "StationName": "MRC4711", "DeviceSerialNumber": "SN12345",
    "AdmissionID": "ADM1", "ClinicalTrialSubjectID": "TRIAL7", "SeriesDescription": "t2 Mustermann",
    "PositionReferenceIndicator": "Beckenkamm", "RequestingPhysician": "Anforderer^A", "ProtocolName": "Protokoll",
    "OperatorsName": "Bediener^B",
}  # fmt: skip


def test_the_sources_patient_and_study_are_kept(tmp_path):
    affine = sagittal_affine()
    source = series(tmp_path / "series", affine, patient=WHO, extra=STUDY)
    write(tmp_path / "seg.dcm", labelled(affine), source)
    dataset, header = pydicom.dcmread(tmp_path / "seg.dcm"), pydicom.dcmread(source.files[0])
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "OtherPatientNames", "StudyDate",
                    "PatientWeight", "StudyTime", "StudyID", "AccessionNumber", "StudyDescription",
                    "ReferringPhysicianName", "ClinicalTrialSubjectID", "PositionReferenceIndicator"):  # fmt: skip
        assert dataset[keyword].value == header[keyword].value, keyword
    assert (dataset.ContentDate, dataset.ContentTime) == ("20240106", "111111")
    assert "PatientIdentityRemoved" not in dataset


def test_an_anonymous_file_holds_nothing_of_the_patient(tmp_path):
    affine = sagittal_affine()
    source = series(tmp_path / "series", affine, patient=WHO, extra=STUDY, manufacturer="MAKER")
    labels = labelled(affine)
    assert write(tmp_path / "seg.dcm", labels, source, anonymous=True)
    content = (tmp_path / "seg.dcm").read_bytes()
    for value in (*WHO.values(), *STUDY.values()):
        for word in value.replace("^", " ").split():
            # Short words and plain numbers stand in other words and in UIDs.
            if len(word) > 2 and not word.replace(".", "").isdigit():
                assert word.encode() not in content, word
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
                    "StudyDate", "StudyTime", "ReferringPhysicianName"):  # fmt: skip
        assert not dataset[keyword].value, keyword
    assert dataset.PatientIdentityRemoved == "YES"
    assert {item.CodeValue for item in dataset.DeidentificationMethodCodeSequence} == {"113100", "113105", "113110"}
    dates = [element for element in dataset.iterall() if element.VR in ("DA", "TM", "DT") and element.value]
    assert {str(element.value) for element in dates} == {"19000101", "000000"}
    assert_same_place(tmp_path / "seg.dcm", labels)


REMAINING = """
    AccessionNumber AlgorithmFamilyCodeSequence AlgorithmName AlgorithmParameters AlgorithmSource AlgorithmVersion
    BitsAllocated BitsStored CodeMeaning CodeValue CodingSchemeDesignator Columns ContentDate
    ContentDescription ContentLabel ContentTime ContributingEquipmentSequence ContributionDescription
    DeidentificationMethod DeidentificationMethodCodeSequence DerivationCodeSequence DerivationImageSequence
    DeviceSerialNumber DimensionDescriptionLabel DimensionIndexPointer DimensionIndexSequence DimensionIndexValues
    DimensionOrganizationSequence DimensionOrganizationUID FrameContentSequence FrameOfReferenceUID
    FunctionalGroupPointer HighBit ImageOrientationPatient ImagePositionPatient ImageType InstanceNumber
    LongitudinalTemporalInformationModified LossyImageCompression Manufacturer ManufacturerModelName Modality
    NumberOfFrames PatientBirthDate PatientID PatientIdentityRemoved PatientName PatientSex
    PerFrameFunctionalGroupsSequence PhotometricInterpretation PixelData PixelMeasuresSequence PixelRepresentation
    PixelSpacing PlaneOrientationSequence PlanePositionSequence PositionReferenceIndicator PresentationLUTShape
    PurposeOfReferenceCodeSequence RecommendedDisplayCIELabValue ReferencedInstanceSequence ReferencedSOPClassUID
    ReferencedSOPInstanceUID ReferencedSegmentNumber ReferencedSeriesSequence ReferringPhysicianName Rows
    SOPClassUID SOPInstanceUID SamplesPerPixel SegmentAlgorithmName SegmentAlgorithmType SegmentDescription
    SegmentIdentificationSequence SegmentLabel SegmentNumber SegmentSequence
    SegmentationAlgorithmIdentificationSequence SegmentationType SegmentedPropertyCategoryCodeSequence
    SegmentedPropertyTypeCodeSequence SegmentsOverlap SeriesDescription SeriesInstanceUID SeriesNumber
    SharedFunctionalGroupsSequence SliceThickness SoftwareVersions SourceImageSequence SpacingBetweenSlices
    SpatialLocationsPreserved StudyDate StudyID StudyInstanceUID StudyTime TrackingID TrackingUID
"""


def test_an_anonymous_file_has_no_attributes_but_these(tmp_path):
    """A list of what may stay, so that an attribute that a new version of a library copies is noticed here."""
    affine = sagittal_affine()
    source = series(tmp_path / "series", affine, patient=WHO, extra=STUDY, manufacturer="MAKER")
    write(tmp_path / "seg.dcm", labelled(affine), source, anonymous=True)
    assert {element.keyword for element in pydicom.dcmread(tmp_path / "seg.dcm").iterall()} == set(REMAINING.split())


@pytest.mark.parametrize(
    ("character_set", "name"),
    [("ISO_IR 100", "Müller^Jürgen"), ("ISO_IR 192", "Žižek^Łukasz"),
     (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう")],
)  # fmt: skip
def test_names_in_other_alphabets_are_kept(tmp_path, character_set, name):
    affine = sagittal_affine()
    extra = {"SpecificCharacterSet": character_set, "PatientName": name}
    source = series(tmp_path / "series", affine, extra=extra)
    write(tmp_path / "seg.dcm", labelled(affine), source, model_name="modèle\\x")
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    assert str(dataset.PatientName) == name
    assert dataset.ManufacturerModelName == "mod?le?x"


def test_wrong_values_in_the_source_are_kept_without_a_word(tmp_path):
    affine = sagittal_affine()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pydicom.config.disable_value_validation():
            wrong = {"PatientSex": "W", "StudyDate": "05.01.2024", "PatientID": "9" * 80, "PatientName": "x" * 80}
            source = series(tmp_path / "series", affine, extra=wrong)
    assert write(tmp_path / "seg.dcm", labelled(affine), source)
    with pydicom.config.disable_value_validation():
        dataset = pydicom.dcmread(tmp_path / "seg.dcm")
        assert {keyword: str(dataset[keyword].value) for keyword in wrong} == wrong


def test_frames_of_an_enhanced_file_are_referenced_by_number(tmp_path, caplog):
    affine = sagittal_affine()
    wat, fat = ("DERIVED", "PRIMARY", "DIXON", "WATER"), ("DERIVED", "PRIMARY", "DIXON", "FAT")
    ones = np.ones(SHAPE, dtype=np.int16)
    path = write_enhanced(tmp_path / "series" / "all.dcm", {wat: ones, fat: ones}, affine)
    header = pydicom.dcmread(path)
    groups = list(header.PerFrameFunctionalGroupsSequence)
    frames = tuple(i for i, group in enumerate(groups) if list(group.MRImageFrameTypeSequence[0].FrameType) == [*fat])
    labels = labelled(affine)
    assert write(tmp_path / "seg.dcm", labels, DicomSeries(path.parent, "", (path,), (frames,)))
    assert_same_place(tmp_path / "seg.dcm", labels)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    assert "1.2.840.10008.5.1.4.1.1.4" not in {str(e.value) for e in dataset.iterall() if e.VR == "UI"}
    (reference,) = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert reference.ReferencedSOPInstanceUID == header.SOPInstanceUID
    assert reference.ReferencedSOPClassUID == header.SOPClassUID
    for group in dataset.PerFrameFunctionalGroupsSequence:
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.ReferencedSOPInstanceUID == header.SOPInstanceUID
        assert image.ReferencedFrameNumber - 1 in frames
        there = groups[image.ReferencedFrameNumber - 1].PlanePositionSequence[0].ImagePositionPatient
        assert group.PlanePositionSequence[0].ImagePositionPatient == there


def test_an_empty_label_map_gives_no_file(tmp_path):
    affine = sagittal_affine()
    labels = labelled(affine, ())
    assert not write(tmp_path / "seg.dcm", labels, series(tmp_path / "series", affine))
    assert not (tmp_path / "seg.dcm").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (segments(1, 2), "no segment for the values 3"),
        (segments(1, 2, 3, 3), "both have the value 3"),
        ([*segments(1, 2), replace(segments(3)[0], code=("1", "SCT", 65 * "x"))], "maximally 64 characters"),
    ],
)
def test_segments_must_fit_the_labels(tmp_path, wrong, message):
    affine = sagittal_affine()
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "seg.dcm", labelled(affine), series(tmp_path / "series", affine), segments=wrong)


def test_headers_that_the_library_cannot_refer_to_are_an_error_of_the_case(tmp_path):
    affine = sagittal_affine()
    source = series(tmp_path / "series", affine, extra={"SOPClassUID": "1.2.3.4.5"})
    with pytest.raises(CaseError, match=r"case knee: no segmentation can refer to the DICOM series in .*series") as met:
        write(tmp_path / "seg.dcm", labelled(affine), source)
    assert "Mustermann" not in str(met.value)
    assert not list(tmp_path.glob("*seg.dcm*"))


def test_a_file_that_cannot_be_written_leaves_nothing(written, tmp_path):
    labels, source, _ = written
    with pytest.raises(OSError, match="missing"):
        write(tmp_path / "missing" / "seg.dcm", labels, source)
