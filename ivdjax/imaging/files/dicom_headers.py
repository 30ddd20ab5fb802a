"""What is read of DICOM headers: where each image lies, what it shows, and nothing about the patient."""

from __future__ import annotations

import contextlib
import re
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TAGS = (
    "SOPClassUID", "ImageType", "Modality", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
    "SeriesNumber", "SeriesDescription", "ScanningSequence", "ScanOptions", "EchoTime", "EffectiveEchoTime",
    "MagneticFieldStrength", "ComplexImageComponent", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "RescaleSlope",
    "RescaleIntercept", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip

_MR_CLASSES = ("1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")
"""MR Image, Enhanced MR Image and Legacy Converted Enhanced MR Image Storage."""

_ONE_AT_A_TIME = threading.RLock()

_MAGIC = b"DICM"
_MAGIC_AT = 128


@dataclass(frozen=True)
class Slice:
    """One image of a series: a file of its own, or a frame of an Enhanced file.

    Attributes:
        path: of the file.
        frame: index (from 0) in an Enhanced file; None for a file of one image.
        study: StudyInstanceUID.
        series: SeriesInstanceUID.
        frame_of_reference: FrameOfReferenceUID; these three are empty where the header gives none.
        number: SeriesNumber, if there is one of at most five digits, as scanners give them: messages repeat it, and a
            larger one may be a date or a patient's number.
        modality: as the header has it.
        description: SeriesDescription. People type names into it: it is looked at, and never shown.
        image_type: ImageType, or the frame's FrameType, with the complex component; upper case.
        scan_options: ScanOptions, upper case.
        gradient_echo: whether the scanning sequence is a gradient echo.
        echo_time_ms: if known.
        field_strength_t: if known.
        shape: (columns, rows); zeros where the object is no image.
        gray: whether a voxel has one gray value that rises with brightness.
        position_mm: LPS mm of the first voxel's centre; empty where the header gives none.
        orientation: directions (LPS) along a row and down a column, six numbers; or empty.
        spacing_mm: between rows, between columns; or empty.
        slope: of the stored values.
        intercept: of the stored values.
    """

    path: Path
    frame: int | None = None
    study: str = ""
    series: str = ""
    frame_of_reference: str = ""
    number: int | None = None
    modality: str = ""
    description: str = ""
    image_type: tuple[str, ...] = ()
    scan_options: tuple[str, ...] = ()
    gradient_echo: bool = False
    echo_time_ms: float | None = None
    field_strength_t: float | None = None
    shape: tuple[int, int] = (0, 0)
    gray: bool = True
    position_mm: tuple[float, ...] = ()
    orientation: tuple[float, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def placed(self) -> bool:
        """Whether the header says where the image lies."""
        return bool(self.position_mm and self.orientation and self.spacing_mm)


def is_dicom(path: Path) -> bool:
    """Whether a file has DICOM's preamble; its ending does not matter. A folder's table of contents does not count.

    Raises:
        OSError: the file cannot be read.
    """
    if path.name.casefold() == "dicomdir" or not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC


def looks_cut(path: Path) -> bool:
    """Whether a file that is not DICOM looks as if it had been: by its ending, or empty, or nothing but zeros where
    DICOM's preamble stands.

    Raises:
        OSError: the file cannot be read.
    """
    if path.name.casefold() == "dicomdir" or not path.is_file():
        return False
    if path.suffix.casefold() in (".dcm", ".ima"):
        return True
    with path.open("rb") as stream:
        start = stream.read(_MAGIC_AT + len(_MAGIC))
    return not any(start[:_MAGIC_AT]) and _MAGIC.startswith(start[_MAGIC_AT:])


def read_slices(path: Path) -> list[Slice]:
    """The images that a DICOM file holds, by its header alone; one without size for an object that is no image.

    Raises:
        ValueError: the header is damaged or cut short. The message holds nothing of it.
        OSError: the file cannot be read.
    """
    import pydicom

    with silent_pydicom():
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
            kinds = (dataset.file_meta.get("MediaStorageSOPClassUID"), dataset.get("SOPClassUID"))
            # pydicom takes the end of a file for the end of its header.
            if not kinds[1] or (not dataset.get("Rows") and any(kind in _MR_CLASSES for kind in kinds)):
                raise EOFError
            return slices_of(dataset, path)
        except MemoryError:  # by a length in a damaged header, as a rule: a header itself is small
            raise ValueError("the header tells of more bytes than memory holds") from None
        except Exception as error:
            raise_if_of_the_disk(error)
            raise ValueError(f"the header cannot be read ({type(error).__name__})") from None


@contextlib.contextmanager
def silent_pydicom() -> Iterator[None]:
    """Within it pydicom neither checks values, which are none of our business, nor warns, which would repeat them.

    One thread at a time: both settings are the process's, and a thread that leaves would switch them on for another.
    """
    import pydicom

    with _ONE_AT_A_TIME, pydicom.config.disable_value_validation(), warnings.catch_warnings():
        ignore_header_words()
        yield


def ignore_header_words() -> None:
    """Leaves out warnings of the libraries that read DICOM, whose words may be a header's, from now on."""
    warnings.filterwarnings("ignore", module=r"(pydicom|highdicom)\b")


def raise_if_of_the_disk(error: Exception) -> None:
    """Raises an error again that is no fault of a file's content: on damaged bytes pydicom may raise anything else.

    Raises:
        OSError: by the operating system.
        MemoryError: no memory left.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
        raise error


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
    echo = own("EffectiveEchoTime") if frame is not None else top.get("EchoTime")
    slope = own("RescaleSlope")
    return Slice(
        path=path,
        frame=frame,
        study=str(top.get("StudyInstanceUID") or ""),
        series=str(top.get("SeriesInstanceUID") or ""),
        frame_of_reference=str(top.get("FrameOfReferenceUID") or ""),
        number=_series_number(top.get("SeriesNumber")),
        modality=str(top.get("Modality") or ""),
        description=str(top.get("SeriesDescription") or ""),
        image_type=(*_texts(image_type or top.get("ImageType")), *_texts(own("ComplexImageComponent"))),
        scan_options=_texts(top.get("ScanOptions")),
        gradient_echo="GR" in _texts(top.get("ScanningSequence")),
        echo_time_ms=_number(echo),
        field_strength_t=_number(top.get("MagneticFieldStrength")),
        shape=(int(top.get("Columns") or 0), int(top.get("Rows") or 0)),
        gray=int(top.get("SamplesPerPixel") or 1) == 1 and top.get("PhotometricInterpretation") == "MONOCHROME2",
        position_mm=_numbers(own("ImagePositionPatient"), 3),
        orientation=_numbers(own("ImageOrientationPatient"), 6),
        spacing_mm=_numbers(own("PixelSpacing"), 2),
        slope=1.0 if slope is None else float(slope),
        intercept=_number(own("RescaleIntercept")) or 0.0,
    )


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
