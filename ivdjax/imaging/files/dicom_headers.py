"""What is read of DICOM headers: where each image lies, what it shows, and nothing about the patient."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ivdjax.imaging.files.dicom_file import open_header, raise_if_of_the_disk, silent_pydicom

_TAGS = (
    "SOPClassUID", "SOPInstanceUID", "ImageType", "Modality", "Manufacturer", "StudyInstanceUID", "SeriesInstanceUID",
    "FrameOfReferenceUID", "SeriesNumber", "SeriesDescription", "ScanningSequence", "ScanOptions",
    "SequenceName", "PulseSequenceName", "EchoTime", "EffectiveEchoTime", "RepetitionTime", "InversionTime",
    "MagneticFieldStrength", "ComplexImageComponent", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "RescaleSlope",
    "RescaleIntercept", "EchoPulseSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip

_PHILIPS_BLOCK = "Philips MR Imaging DD 001"
_PHILIPS_TAGS = tuple(0x20050000 | element for block in range(0x10, 0x16)
                      for element in (block, block << 8 | 0x0E, block << 8 | 0x0F))  # fmt: skip
"""The name of a private block, the scale slope within it, and the items that hold it in Enhanced files."""

MR_CLASSES = ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
"""MR Image, Enhanced MR Image and Legacy Converted Enhanced MR Image Storage."""


@dataclass(frozen=True)
class Acquisition:
    """How an image was acquired, as far as the header tells.

    Attributes:
        scanning: ScanningSequence, or the Enhanced EchoPulseSequence, upper case ("SE", "IR", "GRADIENT").
        name: SequenceName or PulseSequenceName, upper case.
        echo_time_ms: of the (effective) echo.
        repetition_time_ms: of the sequence.
        inversion_time_ms: of the (first) inversion pulse.
        suppressed: what a spectral pulse suppresses, upper case ("FAT").
    """

    scanning: tuple[str, ...] = ()
    name: str = ""
    echo_time_ms: float | None = None
    repetition_time_ms: float | None = None
    inversion_time_ms: float | None = None
    suppressed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slice:
    """One image of a series: a file of its own, or a frame of an Enhanced file.

    Attributes:
        path: of the file.
        frame: index (from 0) in an Enhanced file; None for a file of one image.
        instance: SOPInstanceUID.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        frame_of_reference: FrameOfReferenceUID; these four are empty where the header gives none.
        number: SeriesNumber, if there is one of at most five digits, as scanners give them: messages repeat it, and a
            larger one may be a date or a patient's number.
        magnetic_resonance: whether it is an MR image by Modality or by its class; also where the header tells of
            neither.
        description: SeriesDescription. People type names into it: it is looked at, and never shown.
        image_type: ImageType, or the frame's FrameType, with the complex component; upper case.
        scan_options: ScanOptions, upper case.
        acquisition: how it was made.
        field_strength_t: if known.
        shape: (columns, rows); zeros where the object is no image.
        gray: whether a voxel has one gray value.
        inverted: whether high values are dark (MONOCHROME1).
        position_mm: LPS mm of the first voxel's centre; empty where the header gives none.
        orientation: directions (LPS) along a row and down a column, six numbers; or empty.
        spacing_mm: between rows, between columns; or empty.
        slope: of the stored values.
        intercept: of the stored values.
        philips: whether a Philips scanner made it, whose rescale slope differs from series to series.
        scale_slope: Philips' private one, by which values of several series become comparable; None without it.
    """

    path: Path
    frame: int | None = None
    instance: str = ""
    study: str = ""
    series: str = ""
    frame_of_reference: str = ""
    number: int | None = None
    magnetic_resonance: bool = True
    description: str = ""
    image_type: tuple[str, ...] = ()
    scan_options: tuple[str, ...] = ()
    acquisition: Acquisition = field(default_factory=Acquisition)
    field_strength_t: float | None = None
    shape: tuple[int, int] = (0, 0)
    gray: bool = True
    inverted: bool = False
    position_mm: tuple[float, ...] = ()
    orientation: tuple[float, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    slope: float = 1.0
    intercept: float = 0.0
    philips: bool = False
    scale_slope: float | None = None

    @property
    def placed(self) -> bool:
        """Whether the header says where the image lies."""
        return bool(self.position_mm and self.orientation and self.spacing_mm)

    @property
    def echo_time_ms(self) -> float | None:
        """If known."""
        return self.acquisition.echo_time_ms

    @property
    def gradient_echo(self) -> bool:
        """Whether the scanning sequence is a gradient echo."""
        return any(word in ("GR", "GRADIENT") for word in self.acquisition.scanning)


def read_slices(path: Path) -> list[Slice]:
    """The images that a DICOM file holds, by its header alone; one without size for an object that is no image.

    Raises:
        ValueError: the header is damaged or cut short. The message holds nothing of it.
        OSError: the file cannot be read.
    """
    with silent_pydicom():
        try:
            dataset, pixels = open_header(path, (*_TAGS, *_PHILIPS_TAGS))
            kinds = (dataset.file_meta.get("MediaStorageSOPClassUID"), dataset.get("SOPClassUID"))
            # Objects that are no images have no pixels, and say what they are.
            image = dataset.get("Rows") or any(kind in MR_CLASSES for kind in kinds) or not kinds[1]
            found = slices_of(dataset, path)
        except MemoryError:  # by a length in a damaged header, as a rule: a header itself is small
            raise ValueError("the header tells of more bytes than memory holds") from None
        except Exception as error:
            raise_if_of_the_disk(error)
            raise ValueError(f"the header cannot be read ({type(error).__name__})") from None
    if not pixels and image:
        raise ValueError("the header cannot be read: the file ends before its pixels")
    return found


def slices_of(dataset: Any, path: Path) -> list[Slice]:
    """The images of a dataset that was read from a file; see `read_slices`."""
    frames = dataset.get("PerFrameFunctionalGroupsSequence")
    if not frames:
        several = int(dataset.get("NumberOfFrames") or 1) > 1
        return [_slice(path, None, dataset, () if several else (dataset,))]
    shared = tuple(dataset.get("SharedFunctionalGroupsSequence") or ())
    return [_slice(path, index, dataset, (frame, *shared)) for index, frame in enumerate(frames)]


_GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "FrameType": "MRImageFrameTypeSequence",
    "ComplexImageComponent": "MRImageFrameTypeSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "RepetitionTime": "MRTimingAndRelatedParametersSequence",
    "InversionTimes": "MRModifierSequence",
    "SpectrallySelectedSuppression": "MRModifierSequence",
}
"""Where an Enhanced file keeps what an image of one frame has at the top."""


def _slice(path: Path, frame: int | None, top: Any, groups: tuple[Any, ...]) -> Slice:
    """One image; `groups` are the datasets that tell about it alone, the first that has an attribute wins."""

    def own(keyword: str) -> Any:
        for group in groups:
            item = (group.get(_GROUPS[keyword]) or [None])[0] if frame is not None else group
            if item is not None and item.get(keyword) is not None:
                return item.get(keyword)
        return None

    image_type = own("FrameType") if frame is not None else None
    slope = _number(own("RescaleSlope"))
    photometric = str(top.get("PhotometricInterpretation") or "MONOCHROME2")
    return Slice(
        path=path,
        frame=frame,
        instance=str(top.get("SOPInstanceUID") or ""),
        study=str(top.get("StudyInstanceUID") or ""),
        series=str(top.get("SeriesInstanceUID") or ""),
        frame_of_reference=str(top.get("FrameOfReferenceUID") or ""),
        number=_series_number(top.get("SeriesNumber")),
        magnetic_resonance=_is_mr(top),
        description=str(top.get("SeriesDescription") or ""),
        image_type=(*_texts(image_type or top.get("ImageType")), *_texts(own("ComplexImageComponent"))),
        scan_options=_texts(top.get("ScanOptions")),
        acquisition=_acquisition(top, own, frame is not None),
        field_strength_t=_number(top.get("MagneticFieldStrength")),
        shape=(int(top.get("Columns") or 0), int(top.get("Rows") or 0)),
        gray=int(top.get("SamplesPerPixel") or 1) == 1 and photometric in ("MONOCHROME1", "MONOCHROME2"),
        inverted=photometric == "MONOCHROME1",
        position_mm=_numbers(own("ImagePositionPatient"), 3),
        orientation=_numbers(own("ImageOrientationPatient"), 6),
        spacing_mm=_numbers(own("PixelSpacing"), 2),
        slope=slope or 1.0,  # a slope of 0 says nothing
        intercept=_number(own("RescaleIntercept")) or 0.0,
        philips="philips" in str(top.get("Manufacturer") or "").lower(),
        scale_slope=_scale_slope(groups, frame is not None),
    )


def _acquisition(top: Any, own: Any, enhanced: bool) -> Acquisition:
    if not enhanced:
        return Acquisition(
            _texts(top.get("ScanningSequence")),
            " ".join(_texts(top.get("SequenceName") or top.get("PulseSequenceName"))),
            _number(top.get("EchoTime")),
            _number(top.get("RepetitionTime")),
            _number(top.get("InversionTime")),
        )
    times = own("InversionTimes")
    first = next(iter(times), None) if isinstance(times, Iterable) and not isinstance(times, str) else times
    return Acquisition(
        _texts(top.get("EchoPulseSequence")),
        " ".join(_texts(top.get("PulseSequenceName"))),
        _number(own("EffectiveEchoTime")),
        _number(own("RepetitionTime")),
        _number(first),
        tuple(text for text in _texts(own("SpectrallySelectedSuppression")) if text != "NONE"),
    )


def _is_mr(top: Any) -> bool:
    """Whether a header tells of an MR image, or of nothing that speaks against it."""
    modality, kind = str(top.get("Modality") or ""), str(top.get("SOPClassUID") or "")
    if modality:
        return modality == "MR"
    return kind in MR_CLASSES or not kind


def _scale_slope(groups: tuple[Any, ...], enhanced: bool) -> float | None:
    """Philips' scale slope of one image, by which its values have to be divided once they are rescaled."""
    for group in groups:
        places = [group]
        if enhanced:
            places = [item for block in range(0x10, 0x16) for item in _items(group.get((0x2005, block << 8 | 0x0F)))]
        for place in places:
            for block in range(0x10, 0x16):
                creator = place.get((0x2005, block))
                element = place.get((0x2005, block << 8 | 0x0E))
                if creator is not None and element is not None and str(creator.value).strip() == _PHILIPS_BLOCK:
                    found = _number(element.value)
                    if found is not None and found > 0:
                        return found
    return None


def _items(element: Any) -> list[Any]:
    return list(element.value) if element is not None and element.VR == "SQ" else []


def _texts(value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    values = (value,) if isinstance(value, str) else tuple(value)
    return tuple(str(item).strip().upper() for item in values)


def _numbers(value: Any, count: int) -> tuple[float, ...]:
    numbers = tuple(float(item) for item in value) if isinstance(value, Iterable) else ()
    return numbers if len(numbers) == count else ()


def _number(value: Any) -> float | None:
    try:
        return None if value is None or value == "" else float(value)
    except (TypeError, ValueError):
        return None


def _series_number(value: Any) -> int | None:
    return int(value) if value is not None and re.fullmatch(r"\d{1,5}", str(value)) else None
