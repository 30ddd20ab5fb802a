"""DICOM segmentations (DICOM-SEG) that a PACS or viewer lays over the series the discs were found in.

The type BINARY is written: one bit per pixel, one frame for each segment and slice. Viewers have long read it; the
newer type LABELMAP (DICOM 2024d) would be smaller, but many of them do not know it yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax import __version__
from ivdjax.imaging.files.dicom import DicomSeries
from ivdjax.imaging.files.dicom_derived import NO_DATE, NO_TIME, SOFTWARE, derived_uid, forget_moment, plain_text
from ivdjax.imaging.files.dicom_file import silent_pydicom
from ivdjax.imaging.files.dicom_reference import Images, labels_on, name_frames, read_images, templates
from ivdjax.imaging.files.segment import Segment, ordered
from ivdjax.imaging.folders import write_whole
from ivdjax.volume import CaseError, LabelMap

_UNKNOWN = "unknown"
_SERIES_NUMBERS_FROM = 9000


def write_dicom_seg(
    path: Path,
    labels: LabelMap,
    source: DicomSeries,
    segments: Sequence[Segment],
    *,
    case: str,
    description: str,
    model_name: str,
    model_version: str,
    weights_sha256: str = "",
    anonymous: bool = False,
    corrected: bool = False,
) -> bool:
    """Stores labels as a DICOM segmentation of their source series; whole or not at all.

    Labels and pixels meet in millimetres, never by index: files may come in any order, and the label map's axes in any
    order and direction. Every image of the series is referenced; a frame is stored only where its segment has pixels.

    Segments are numbered 1, 2, 3 ... without gaps, as the standard asks (PS3.3 C.8.20.2.4), in the order of their label
    values. So a segment's number is its disc's level only if no level below it is missing; which disc it is, its label,
    code and description say. A missing disc is not declared as a segment without frames: that would state a disc of no
    volume.

    The same arguments give the same bytes: every UID is derived from the source's UIDs, the labels and the model, and
    the dates are those of the source, never the clock's.

    The source's patient, study and clinical trial attributes are kept. With `anonymous` none is copied: those that the
    standard demands are empty, dates are 1900-01-01, and no text is the source's but its manufacturer's and the
    scanner's model name. The UIDs of study, frame of reference and source images stay, or the file would not belong to
    its series: whoever has that series can still link the two. That is the Basic Application Confidentiality Profile
    with the options Clean Descriptors and Retain UIDs (PS3.15 Annex E), and the file says so.

    Args:
        path: of the file, usually `*.dcm`.
        labels: on the series' own voxels.
        source: the series that the labels were made from.
        segments: what each label value is; those that do not occur are left out.
        case: name of the case, for messages only.
        description: of the segmentation. Here and in the model's name and version, what is not printable ASCII becomes
            "?", and text beyond 64 characters is cut; an empty name or version reads "unknown".
        model_name: the algorithm's name.
        model_version: the algorithm's version.
        weights_sha256: checksum of the model's weights; stands as the device's serial number too.
        anonymous: nothing but UIDs tells whose images these are.
        corrected: a person has had a part in the segments; each of them says so (`SEMIAUTOMATIC`).

    Returns:
        Whether a file was written: False for an empty label map, as the standard wants a segment.

    Raises:
        CaseError: an image cannot be read, lacks what a reference needs, or is of another series; the images do not
            make a volume (see `dicom.ordered`), or its voxels are not those of the labels. No message repeats a header.
        ValueError: a label value has no segment, two segments have one value, or a code's meaning is over 64 letters.
        OSError: the file cannot be written.
    """
    segments = _present(labels, segments)
    if not segments:
        return False
    texts = [
        plain_text(description),
        *(plain_text(text) or _UNKNOWN for text in (model_name, model_version, weights_sha256)),
    ]
    # Wrong values in the source are kept as they are.
    with silent_pydicom():
        images = read_images(source, case)
        pixels = labels_on(images, labels, f"case {case}: the DICOM series in {source.folder}")
        study = str(images[0][1].StudyInstanceUID)
        described = [
            _described(number, segment, study, texts, corrected) for number, segment in enumerate(segments, start=1)
        ]
        told = [*texts, repr(segments), str(anonymous), *(["corrected"] if corrected else [])]
        digest = _digest(pixels, images, told)
        try:
            dataset = _segmentation(_renumbered(pixels, segments), images, described, texts, digest)
            name_frames(dataset, images)
            if anonymous:
                _state_removal(dataset)
            else:
                _identify(dataset, images[0][1])
            content = BytesIO()
            dataset.save_as(content, enforce_file_format=True)
        except (AttributeError, LookupError, NotImplementedError, TypeError, ValueError) as error:
            # The library's own words may repeat what stands in the headers.
            raise CaseError(
                f"case {case}: no segmentation can refer to the DICOM series in {source.folder}, its headers are "
                f"damaged ({type(error).__name__}); export it again as MR images"
            ) from None
    write_whole(path, content.getvalue())
    return True


def _present(labels: LabelMap, segments: Sequence[Segment]) -> list[Segment]:
    """The segments that occur, in rising order of their values."""
    known = {segment.value: segment for segment in ordered(segments)}
    missing = [level for level in labels.levels if level not in known]
    if missing:
        raise ValueError(f"no segment for the values {', '.join(map(str, missing))} of the label map")
    return [known[level] for level in labels.levels]


def _renumbered(pixels: NDArray[np.uint8], segments: Sequence[Segment]) -> NDArray[np.uint8]:
    """Label values turned into the segments' numbers, 1, 2, 3 ..."""
    numbers = np.zeros(256, dtype=np.uint8)
    numbers[[segment.value for segment in segments]] = range(1, len(segments) + 1)
    return numbers[pixels]


def _segmentation(
    pixels: NDArray[np.uint8], images: Images, described: Sequence[Any], texts: Sequence[str], digest: str
) -> Any:
    """The segmentation without a word about the patient."""
    from highdicom.seg import Segmentation

    description, model_name, _, weights_sha256 = texts
    dataset = Segmentation(
        source_images=templates(images),
        pixel_array=pixels,
        segmentation_type="BINARY",
        segment_descriptions=described,
        series_instance_uid=derived_uid(digest, "series"),
        series_number=_SERIES_NUMBERS_FROM + (images[0][0].number or 0),
        sop_instance_uid=derived_uid(digest, "instance"),
        instance_number=1,
        manufacturer=SOFTWARE,
        manufacturer_model_name=model_name,
        software_versions=__version__,
        device_serial_number=weights_sha256,
        content_label="DISCS",
        content_description=description,
        content_date=NO_DATE,
        content_time=NO_TIME,
        series_description=description,
    )
    forget_moment(dataset)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):  # drawn at random
        item.DimensionOrganizationUID = derived_uid(digest, "dimensions")
    return dataset


def _described(number: int, segment: Segment, study: str, texts: Sequence[str], corrected: bool) -> Any:
    """One item of the segment sequence."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    _, model_name, model_version, weights_sha256 = texts
    item = SegmentDescription(
        segment_number=number,
        segment_label=plain_text(segment.label),
        segmented_property_category=CodedConcept(*segment.category),
        segmented_property_type=CodedConcept(*segment.code),
        algorithm_type="SEMIAUTOMATIC" if corrected else "AUTOMATIC",
        algorithm_identification=AlgorithmIdentificationSequence(
            name=model_name,
            family=codes.DCM.ArtificialIntelligence,
            version=model_version,
            source=SOFTWARE,
            parameters={"weights_sha256": weights_sha256},
        ),
        # The same disc in another segmentation of the same study has the same identifier.
        tracking_id=f"{plain_text(segment.label)} of study {study}",
        tracking_uid=derived_uid(study, str(segment.value)),
        display_color=CIELabColor.from_rgb(*(255 * part for part in segment.rgb)),
    )
    item.SegmentDescription = plain_text(f"{segment.code[2]}, label value {segment.value}")
    return item


def _identify(dataset: Any, header: Any) -> None:
    """Adds the patient, study and clinical trial attributes of the series' first image, and its dates."""
    dataset.copy_patient_and_study_information(header)
    for keyword in ("SpecificCharacterSet", "PositionReferenceIndicator"):
        if header.get(keyword):
            dataset.add(header[keyword])
    for kind in ("Content", "Acquisition", "Series", "Study"):
        if header.get(f"{kind}Date"):
            dataset.ContentDate = header[f"{kind}Date"].value
            dataset.ContentTime = header.get(f"{kind}Time") or NO_TIME
            return


def _state_removal(dataset: Any) -> None:
    """States that the identity was removed; the templates never held it."""
    from highdicom.sr import CodedConcept
    from pydicom.sr.codedict import codes

    dataset.PatientIdentityRemoved = "YES"
    dataset.LongitudinalTemporalInformationModified = "REMOVED"
    dataset.DeidentificationMethod = f"{SOFTWARE} {__version__}: nothing of the patient or the study but its UIDs"
    options = (
        codes.DCM.BasicApplicationConfidentialityProfile,
        codes.DCM.CleanDescriptorsOption,
        codes.DCM.RetainUidsOption,
    )
    dataset.DeidentificationMethodCodeSequence = [CodedConcept.from_code(option) for option in options]


def _digest(pixels: NDArray[np.uint8], images: Images, texts: Sequence[str]) -> str:
    """A checksum over all that the file follows from, but for the words of the source's headers."""
    import highdicom

    total = hashlib.sha256(pixels.tobytes())
    names = [f"{header.SOPInstanceUID} {item.frame}" for item, header in images]
    total.update("\n".join([__version__, highdicom.__version__, *names, *texts]).encode())
    return total.hexdigest()
