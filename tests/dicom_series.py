"""DICOM series of MR images made from an array and an affine, as scanners write them, for tests of what reads them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

PATIENT = {
    "PatientName": "Mustermann^Erika",
    "PatientID": "MRN-4711",
    "PatientBirthDate": "19640812",
    "PatientSex": "F",
}
"""Who every series is of, so that a test can look for these words where they must not be."""

SIEMENS = {
    "inn": ("ORIGINAL", "PRIMARY", "M", "IN_PHASE", "NORM", "DIS2D"),
    "opp": ("ORIGINAL", "PRIMARY", "M", "OPP_PHASE", "NORM", "DIS2D"),
    "wat": ("DERIVED", "PRIMARY", "DIXON", "WATER", "NORM", "DIS2D"),
    "fat": ("DERIVED", "PRIMARY", "DIXON", "FAT", "NORM", "DIS2D"),
}
"""ImageType of a Siemens Dixon scan's four series."""

PHILIPS = {
    "inn": ("DERIVED", "PRIMARY", "IP", "IP", "DERIVED"),
    "opp": ("DERIVED", "PRIMARY", "OP", "OP", "DERIVED"),
    "wat": ("DERIVED", "PRIMARY", "W", "W", "DERIVED"),
    "fat": ("DERIVED", "PRIMARY", "F", "F", "DERIVED"),
}
"""ImageType of the four images a place within a Philips mDIXON series."""

GE = {"inn": "InPhase: Sag LAVA-Flex", "opp": "OutPhase: Sag LAVA-Flex", "wat": "WATER: Sag LAVA-Flex",
      "fat": "FAT: Sag LAVA-Flex"}  # fmt: skip
"""SeriesDescription of a GE scan's four series, whose ImageType tells nothing."""


def write_series(
    folder: Path,
    array_ijk: np.ndarray,
    affine_ras: np.ndarray,
    *,
    image_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "M", "NORM", "DIS2D"),
    series_description: str = "",
    series_number: int = 1,
    patient: Mapping[str, str] = PATIENT,
    study: str | None = None,
    series: str | None = None,
    frame_of_reference: str | None = None,
    modality: str = "MR",
    manufacturer: str = "",
    echo_time_ms: float = 90.0,
    field_strength_t: float = 1.5,
    scanning_sequence: str = "SE",
    slope: float | Sequence[float] | None = None,
    intercept: float = 0.0,
    transfer_syntax: str | None = None,
    suffix: str = "",
    seed: int = 0,
    extra: Mapping[str, Any] | None = None,
    in_order: bool = False,
) -> list[Path]:
    """Writes a classic series, one file a slice; the files have random names. Gives their paths in the order of k.

    Args:
        folder: to write into, made if need be; other series in it stay.
        array_ijk: whole numbers of 16 bits (I, J, K): I along a row, J down the rows, K slices.
        affine_ras: (4, 4), from (i, j, k, 1) to RAS+ mm; i and j must be at right angles.
        image_type: ImageType.
        series_description: SeriesDescription; none where empty.
        series_number: SeriesNumber.
        patient: attributes of the patient module by keyword.
        study: StudyInstanceUID; None: a new one.
        series: SeriesInstanceUID; None: a new one.
        frame_of_reference: FrameOfReferenceUID; None: a new one, "": none.
        modality: Modality.
        manufacturer: Manufacturer.
        echo_time_ms: EchoTime.
        field_strength_t: MagneticFieldStrength.
        scanning_sequence: ScanningSequence.
        slope: RescaleSlope, one or one a slice; None: no rescale attributes.
        intercept: RescaleIntercept.
        transfer_syntax: UID that pydicom can compress to (RLELossless); None: explicit VR little endian.
        suffix: of the file names.
        seed: of the file names.
        extra: further attributes by keyword; None as value deletes one.
        in_order: whether InstanceNumber rises with k; else it is in any order.

    Returns:
        The files, slice 0 first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shared = {
        "StudyInstanceUID": study or generate_uid(),
        "SeriesInstanceUID": series or generate_uid(),
        "FrameOfReferenceUID": generate_uid() if frame_of_reference is None else frame_of_reference,
        "ImageType": list(image_type),
        "SeriesDescription": series_description,
        "SeriesNumber": series_number,
        "Modality": modality,
        "Manufacturer": manufacturer,
        "EchoTime": echo_time_ms,
        "MagneticFieldStrength": field_strength_t,
        "ScanningSequence": scanning_sequence,
        **patient,
    }
    names = random.Random(f"{seed} {series_number} {shared['SeriesInstanceUID']} {image_type} {echo_time_ms}")
    numbers = list(range(array_ijk.shape[2]))
    if not in_order:
        names.shuffle(numbers)
    paths = []
    for k in range(array_ijk.shape[2]):
        dataset = _file(MRImageStorage)
        for keyword, value in shared.items():
            if value != "":
                setattr(dataset, keyword, value)
        _place(dataset, affine_ras, k)
        dataset.PixelSpacing = _spacing(affine_ras)
        dataset.ImageOrientationPatient = _orientation(affine_ras)
        if slope is not None:
            dataset.RescaleSlope = slope[k] if isinstance(slope, Sequence) else slope
            dataset.RescaleIntercept = intercept
        dataset.InstanceNumber = numbers[k] + 1
        _pixels(dataset, array_ijk[:, :, k].T)
        for keyword, value in (extra or {}).items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        if transfer_syntax is not None:
            dataset.compress(transfer_syntax, generate_instance_uid=False)
        paths.append(folder / f"{names.getrandbits(40):010x}{suffix}")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_enhanced(
    path: Path,
    arrays_ijk: Mapping[tuple[str, ...], np.ndarray],
    affine_ras: np.ndarray,
    *,
    patient: Mapping[str, str] = PATIENT,
    series_description: str = "",
    series_number: int = 1,
    study: str | None = None,
    frame_of_reference: str | None = None,
    slopes: Mapping[tuple[str, ...], float] | None = None,
    seed: int = 0,
) -> Path:
    """Writes one Enhanced MR file that holds several volumes on one grid, its frames in random order.

    Args:
        path: of the file.
        arrays_ijk: by FrameType, an array (I, J, K) of whole numbers of 16 bits each.
        affine_ras: (4, 4), as for `write_series`.
        patient: attributes of the patient module by keyword.
        series_description: SeriesDescription; none where empty.
        series_number: SeriesNumber.
        study: StudyInstanceUID; None: a new one.
        frame_of_reference: FrameOfReferenceUID; None: a new one.
        slopes: RescaleSlope by FrameType; None: no rescale attributes.
        seed: of the frames' order.

    Returns:
        The path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = _file(EnhancedMRImageStorage)
    dataset.StudyInstanceUID = study or generate_uid()
    dataset.SeriesInstanceUID = generate_uid()
    dataset.FrameOfReferenceUID = frame_of_reference or generate_uid()
    dataset.Modality = "MR"
    dataset.SeriesNumber = series_number
    dataset.InstanceNumber = 1
    if series_description:
        dataset.SeriesDescription = series_description
    for keyword, value in patient.items():
        setattr(dataset, keyword, value)
    types = list(arrays_ijk)
    dataset.ImageType = list(types[0]) if len(types) == 1 else ["DERIVED", "PRIMARY", "DIXON", "MIXED"]
    order = [(kind, k) for kind in types for k in range(arrays_ijk[kind].shape[2])]
    random.Random(seed).shuffle(order)
    measures, plane = Dataset(), Dataset()
    measures.PixelSpacing = _spacing(affine_ras)
    measures.SliceThickness = float(np.linalg.norm(affine_ras[:3, 2]))
    plane.ImageOrientationPatient = _orientation(affine_ras)
    shared = Dataset()
    shared.PixelMeasuresSequence = DicomSequence([measures])
    shared.PlaneOrientationSequence = DicomSequence([plane])
    dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(
        [_frame(kind, k, affine_ras, (slopes or {}).get(kind)) for kind, k in order]
    )
    _pixels(dataset, np.stack([arrays_ijk[kind][:, :, k].T for kind, k in order]))
    dataset.NumberOfFrames = len(order)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _frame(kind: tuple[str, ...], k: int, affine: np.ndarray, slope: float | None) -> Dataset:
    frame, position, image = Dataset(), Dataset(), Dataset()
    _place(position, affine, k)
    image.FrameType = list(kind)
    frame.PlanePositionSequence = DicomSequence([position])
    frame.MRImageFrameTypeSequence = DicomSequence([image])
    if slope is not None:
        rescale = Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = slope, 0.0, "US"
        frame.PixelValueTransformationSequence = DicomSequence([rescale])
    return frame


def _file(sop_class: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)  # type: ignore[arg-type]
    dataset.SOPClassUID = sop_class
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20240105", "101500", "1", "A1"
    return dataset


def _spacing(affine: np.ndarray) -> list[float]:
    """Between rows, then between columns: DICOM's order."""
    return [round(float(np.linalg.norm(affine[:3, axis])), 10) for axis in (1, 0)]


def _orientation(affine: np.ndarray) -> list[str]:
    directions = np.diag([-1.0, -1.0, 1.0]) @ affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)
    return [f"{value:.12g}"[:16] for value in directions.T.ravel()]


def _place(dataset: Dataset, affine: np.ndarray, k: int) -> None:
    x, y, z = affine[:3, :3] @ (0, 0, k) + affine[:3, 3]
    dataset.ImagePositionPatient = [f"{value:.10g}"[:16] for value in (-x, -y, z)]


def _pixels(dataset: Dataset, frames: np.ndarray) -> None:
    signed = frames.dtype == np.int16
    dataset.Rows, dataset.Columns = frames.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, int(signed)
    dataset.PixelData = np.ascontiguousarray(frames.astype(np.int16 if signed else np.uint16)).tobytes()
    dataset["PixelData"].VR = "OW"


_COS, _SIN = np.cos(np.radians(10)), np.sin(np.radians(10))
OBLIQUE_RAS = np.array([[_SIN, 0, _COS], [-_COS * _COS, _SIN, _SIN * _COS], [-_SIN * _COS, -_COS, _SIN * _SIN]])
"""Directions of a sagittal scan turned by 10 degrees about two axes: i to posterior, j down, k to the right."""


def sagittal_affine(spacing_mm: Sequence[float] = (1.2, 1.1, 4.0), origin_mm: Sequence[float] = (-30.0, 55.0, 70.0),
                    directions: np.ndarray = OBLIQUE_RAS) -> np.ndarray:  # fmt: skip
    """An affine to RAS+ mm of a sagittal scan as scanners write it; oblique by default."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.asarray(spacing_mm)
    affine[:3, 3] = origin_mm
    return affine


def changed(path: Path, **attributes: Any) -> None:
    """Sets attributes of a file's dataset, or takes those away that are None."""
    dataset = dcmread(path)
    for keyword, value in attributes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)
