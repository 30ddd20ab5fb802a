"""DICOM structured reports of measurements (TID 1500) that a PACS keeps beside the segmentation they were read from.

A Comprehensive 3D SR is written, with one measurement group (TID 1411) for each segment that something was measured
of. It refers to the segmentation by segment number and to the series that it was made from, and belongs to the same
patient and study.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from ivdjax import __version__
from ivdjax.imaging.files.dicom_derived import SOFTWARE, derived_uid, forget_moment, plain_text
from ivdjax.imaging.files.dicom_file import silent_pydicom
from ivdjax.imaging.files.segment import Term
from ivdjax.imaging.folders import write_whole
from ivdjax.volume import CaseError

PRIVATE_SCHEME = "99IVDJAX"
"""Coding scheme of measures that no public scheme has a code for."""

_SERIES_TITLE = "Disc measurements (research)"
_SERIES_ABOVE_SEG = 500
"""The report's series number is that of its segmentation plus this."""


@dataclass(frozen=True)
class Reading:
    """One number that was read off a segment.

    Attributes:
        name: what was measured, in coded terms.
        value: of it.
        unit: a UCUM code.
        method: how it was measured, where the name does not say it; None: not told.
        error: standard error in the same unit; None: not known.
    """

    name: Term
    value: float
    unit: Term
    method: Term | None = None
    error: float | None = None


def write_dicom_sr(path: Path, segmentation: Path, readings: Mapping[str, Sequence[Reading]], *, case: str) -> bool:
    """Stores readings as a structured report of a segmentation; whole or not at all.

    Everything about patient, study, model and anonymity is taken from the segmentation. The report is complete, not
    verified, and preliminary: no person has signed it. The same arguments give the same bytes.

    Args:
        path: of the file, usually `*.dcm`.
        segmentation: file that `write_dicom_seg` wrote.
        readings: by the code value of the segment that they were read off (its segmented property type); a segment
            without readings gets no group.
        case: name of the case, for messages only.

    Returns:
        Whether a file was written: False where no segment has a reading.

    Raises:
        CaseError: the segmentation lacks what a report needs.
        ValueError: readings of a segment that the segmentation does not have.
        OSError: the segmentation cannot be read, or the file cannot be written.
    """
    import pydicom

    with silent_pydicom():
        source = pydicom.dcmread(segmentation, stop_before_pixels=True)
        segments = {str(item.SegmentedPropertyTypeCodeSequence[0].CodeValue): item for item in source.SegmentSequence}
        if strange := readings.keys() - segments.keys():
            raise ValueError(f"readings of {', '.join(sorted(strange))}, but the segmentation has no such segment")
        wanted = {code: item for code, item in segments.items() if readings.get(code)}
        if not wanted:
            return False
        digest = _digest(source, readings)
        try:
            groups = [_group(item, source, readings[code]) for code, item in wanted.items()]
            dataset = _report(source, groups, digest)
            content = BytesIO()
            dataset.save_as(content, enforce_file_format=True)
        except (AttributeError, LookupError, NotImplementedError, TypeError, ValueError) as error:
            # The library's own words may repeat what stands in the headers.
            raise CaseError(
                f"case {case}: no report can refer to {segmentation}, its header is damaged ({type(error).__name__}); "
                "export the series again as MR images"
            ) from None
    write_whole(path, content.getvalue())
    return True


def _group(segment: Any, source: Any, readings: Sequence[Reading]) -> Any:
    """One measurement group: what was read off a segment, found by its own tracking identifier."""
    from highdicom import sr
    from pydicom.sr.codedict import codes

    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    kind = segment.SegmentedPropertyTypeCodeSequence[0]
    category = segment.SegmentedPropertyCategoryCodeSequence[0]
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=source.SOPClassUID,
            sop_instance_uid=source.SOPInstanceUID,
            segment_number=segment.SegmentNumber,
            source_series=sr.SourceSeriesForSegmentation(source.ReferencedSeriesSequence[0].SeriesInstanceUID),
        ),
        finding_type=_concept((kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning)),
        finding_category=_concept((category.CodeValue, category.CodingSchemeDesignator, category.CodeMeaning)),
        finding_sites=[sr.FindingSite(_concept((kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning)))],
        algorithm_id=sr.AlgorithmIdentification(
            name=algorithm.AlgorithmName,
            version=algorithm.AlgorithmVersion,
            parameters=[algorithm.AlgorithmParameters] if algorithm.get("AlgorithmParameters") else None,
            family=codes.DCM.ArtificialIntelligence,
        ),
        measurements=[_measurement(reading) for reading in readings],
    )


def _measurement(reading: Reading) -> Any:
    from highdicom import sr

    properties = None
    if reading.error is not None:
        bounds = (_short(reading.value + reading.error), _short(reading.value - reading.error))
        properties = sr.MeasurementProperties(upper_measurement_uncertainty=bounds[0],
                                              lower_measurement_uncertainty=bounds[1])  # fmt: skip
    return sr.Measurement(
        name=_concept(reading.name),
        value=_short(reading.value),
        unit=_concept(reading.unit),
        method=None if reading.method is None else _concept(reading.method),
        properties=properties,
    )


def _report(source: Any, groups: Sequence[Any], digest: str) -> Any:
    from highdicom import sr
    from pydicom.sr.codedict import codes

    observer = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=derived_uid(SOFTWARE, __version__),
            name=SOFTWARE,
            manufacturer_name=SOFTWARE,
            model_name=plain_text(str(source.ManufacturerModelName)),
            serial_number=plain_text(str(source.DeviceSerialNumber)),
        ),
    )
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    dataset = sr.Comprehensive3DSR(
        evidence=[source, *_images(source)],
        content=content,
        series_instance_uid=derived_uid(digest, "report series"),
        series_number=source.SeriesNumber + _SERIES_ABOVE_SEG,
        sop_instance_uid=derived_uid(digest, "report"),
        instance_number=1,
        manufacturer=SOFTWARE,
        is_complete=True,
        series_description=_SERIES_TITLE,
        manufacturer_model_name=source.ManufacturerModelName,
        software_versions=__version__,
        device_serial_number=source.DeviceSerialNumber,
    )
    forget_moment(dataset)
    dataset.ContentDate, dataset.ContentTime = source.ContentDate, source.ContentTime
    for keyword in ("PatientIdentityRemoved", "LongitudinalTemporalInformationModified", "DeidentificationMethod",
                    "DeidentificationMethodCodeSequence"):  # fmt: skip
        if keyword in source:
            dataset.add(source[keyword])
    dataset.CodingSchemeIdentificationSequence = [_scheme()]
    return dataset


def _images(source: Any) -> list[Any]:
    """The images behind a segmentation as evidence: their UIDs and nothing else."""
    from pydicom.dataset import Dataset

    found = []
    for series in source.ReferencedSeriesSequence:
        for item in series.ReferencedInstanceSequence:
            image = Dataset()
            image.StudyInstanceUID, image.SeriesInstanceUID = source.StudyInstanceUID, series.SeriesInstanceUID
            image.SOPClassUID, image.SOPInstanceUID = item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID
            found.append(image)
    return found


def _scheme() -> Any:
    """Says whose the private codes are."""
    from pydicom.dataset import Dataset

    scheme = Dataset()
    scheme.CodingSchemeDesignator = PRIVATE_SCHEME
    scheme.CodingSchemeName = "Measures of intervertebral discs"
    scheme.CodingSchemeVersion = __version__
    scheme.CodingSchemeResponsibleOrganization = SOFTWARE
    return scheme


def _concept(term: Term) -> Any:
    from highdicom.sr import CodedConcept

    value, scheme, meaning = term
    return CodedConcept(str(value), str(scheme), str(meaning))


def _short(value: float) -> float:
    """Six significant digits, as in the tables; a decimal string holds no more than 16 characters."""
    return float(f"{value:.6g}")


def _digest(source: Any, readings: Mapping[str, Sequence[Reading]]) -> str:
    """A checksum over all that the report follows from."""
    import highdicom

    told = repr(sorted((code, tuple(found)) for code, found in readings.items()))
    return hashlib.sha256(f"{highdicom.__version__} {source.SOPInstanceUID} {told}".encode()).hexdigest()
