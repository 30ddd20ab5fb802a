"""The images of a DICOM series as an object that is derived from them refers to them: by UID, place and frame number.

What is handed on for that is free of the patient: see `templates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.files.dicom import DicomSeries, affine_of, ordered
from ivdjax.imaging.files.dicom_headers import Slice, slices_of
from ivdjax.volume import CaseError, Grid, LabelMap

FURTHEST_OFF_MM = 0.1
"""A pixel of the series may lie this far from the centre of its label voxel: headers round positions."""

Images = list[tuple[Slice, Any]]
"""The images of one series in the order in which they lie, each with its file's header (a pydicom dataset)."""

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
_SHARED = ("study", "series", "frame_of_reference")
_TECHNICAL = ("Manufacturer", "ManufacturerModelName", "LossyImageCompression", "LossyImageCompressionRatio",
              "LossyImageCompressionMethod")  # fmt: skip
_IDENTIFYING = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
                "StudyTime")  # fmt: skip
_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"


def read_images(source: DicomSeries, case: str) -> Images:
    """The images of a series in the order in which they lie, whatever the order of the files.

    Raises:
        CaseError: a file that is gone, damaged, or without a UID to refer to it by; images of several studies, series
            or frames of reference, or that do not make a volume (see `dicom.ordered`). No message repeats a header.
    """
    import pydicom

    headers, slices = {}, []
    for path, frames in zip(source.files, source.frames or repeat(())):  # noqa: B905 - endless
        try:
            headers[path] = header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
            found = slices_of(header, path)
            slices += [found[frame] for frame in frames] if frames else found
            missing = [keyword for keyword in _NEEDED if not header.get(keyword)]
        except FileNotFoundError:
            raise CaseError(f"case {case}: no file {path}") from None
        except Exception as error:  # on damaged bytes pydicom may raise anything
            # The library's own words may repeat what stands in the header.
            raise CaseError(
                f"case {case}: {path} cannot be read as a DICOM image ({type(error).__name__}); copy or export it again"
            ) from None
        if missing:
            raise CaseError(
                f"case {case}: {path} has no {missing[0]}, so that nothing can refer to it; export the series again"
            )
    for shared in _SHARED:
        if len({getattr(item, shared) for item in slices}) > 1:
            raise CaseError(
                f"case {case}: the images in {source.folder} are of more than one {shared.replace('_', ' ')}; "
                "keep one series in the folder"
            )
    return [(item, headers[item.path]) for item in ordered(slices, source.folder, case)]


def labels_on(images: Images, labels: LabelMap, who: str) -> NDArray[np.uint8]:
    """Labels as (slice, row, column) of the images; the two meet in millimetres, never by index.

    Args:
        images: in the order in which they lie.
        labels: on the same voxels; their axes may come in any order and direction.
        who: begins the message of an error.

    Raises:
        CaseError: the images' pixels are not the labels' voxels, one for one, to within `FURTHEST_OFF_MM`.
    """
    slices = [item for item, _ in images]
    columns, rows = slices[0].shape
    native = Grid((columns, rows, len(slices)), affine_of(slices))
    turn = np.rint((np.linalg.inv(labels.affine) @ native.affine)[:3, :3]).astype(int)
    if (np.abs(turn).sum(axis=0) == 1).all() and (np.abs(turn).sum(axis=1) == 1).all():
        axes = np.abs(turn).argmax(axis=0)
        turned = np.transpose(labels.array, axes)
        backward = [bool(turn[axis, i] < 0) for i, axis in enumerate(axes)]
        # From the images' indices to the labels', if they are one grid: whole steps from a corner of the labels.
        step = np.eye(4)
        step[:3, :3] = turn
        step[axes, 3] = [size - 1 if flip else 0 for size, flip in zip(turned.shape, backward, strict=True)]
        if Grid(turned.shape, np.asarray(labels.affine) @ step).matches(native, FURTHEST_OFF_MM):
            turned = turned[tuple(slice(None, None, -1 if flip else 1) for flip in backward)]
            return np.ascontiguousarray(np.transpose(turned, (2, 1, 0)))
    raise CaseError(
        f"{who} has {len(slices)} images of {rows} x {columns} pixels that are not the voxels of the labels "
        f"({' x '.join(map(str, labels.array.shape))}); the series that they were made from is needed"
    )


def templates(images: Images) -> list[Any]:
    """One classic header (a pydicom dataset) an image with all that highdicom needs to refer to it.

    Of the source it holds UIDs, geometry, modality, compression, manufacturer and the scanner's model; what identifies
    the patient is empty, and anything else is absent: what is not copied cannot leak.
    """
    from pydicom.dataset import Dataset
    from pydicom.valuerep import DSfloat

    def decimals(values: Sequence[float]) -> list[DSfloat]:
        return [DSfloat(value, auto_format=True) for value in values]

    first = images[0][0]
    between_mm = _between_mm([item for item, _ in images])
    result = []
    for item, header in images:
        template = Dataset()
        for keyword in (*_NEEDED, "Rows", "Columns"):
            setattr(template, keyword, header[keyword].value)
        if item.frame is not None:
            # highdicom would want every frame of an Enhanced file, of other echoes too; as images of one frame each
            # it takes those of this volume. `name_frames` then says which they are.
            template.SOPClassUID, template.SOPInstanceUID = _MR_IMAGE, _frame_uid(item, header)
        template.Modality = str(header.get("Modality") or "MR")
        template.ImagePositionPatient = decimals(item.position_mm)
        template.ImageOrientationPatient = decimals(first.orientation)
        template.PixelSpacing = decimals(first.spacing_mm)
        template.SliceThickness = _thickness_mm(item, header) or between_mm
        template.SpacingBetweenSlices = between_mm
        for keyword in _TECHNICAL:
            if header.get(keyword):
                setattr(template, keyword, header[keyword].value)
        for keyword in _IDENTIFYING:
            setattr(template, keyword, None)
        result.append(template)
    return result


def name_frames(derived: Any, images: Images) -> None:
    """Makes a multi-frame object that was derived from `templates` say which frames of an Enhanced file were meant.

    Nothing changes for a series of single images.
    """
    if images[0][0].frame is None:
        return
    frames = {_frame_uid(item, header): ((item.frame or 0) + 1, header) for item, header in images}
    for group in derived.PerFrameFunctionalGroupsSequence:
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        if image.ReferencedSOPInstanceUID in frames:  # highdicom shares one item among all segments in a place
            image.ReferencedFrameNumber, header = frames[image.ReferencedSOPInstanceUID]
            image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    # One reference a file: where several frames of it were referred to, the first stays.
    references = {frames[item.ReferencedSOPInstanceUID][1].SOPInstanceUID: item
                  for item in reversed(derived.SourceImageSequence)}  # fmt: skip
    headers = {header.SOPInstanceUID: header for _, header in images}
    for uid, reference in references.items():
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = headers[uid].SOPClassUID, uid
    kept = [references[uid] for uid in headers]
    derived.SourceImageSequence = kept
    derived.ReferencedSeriesSequence[0].ReferencedInstanceSequence = list(kept)


def _frame_uid(item: Slice, header: Any) -> str:
    """Stands for a frame of an Enhanced file while it passes as an image of its own."""
    from pydicom.uid import generate_uid

    return str(generate_uid(entropy_srcs=[str(header.SOPInstanceUID), str(item.frame)]))


def _between_mm(slices: Sequence[Slice]) -> float:
    """Distance of neighbouring slices along their normal."""
    normal = np.cross(slices[0].orientation[:3], slices[0].orientation[3:])
    apart = np.subtract(slices[-1].position_mm, slices[0].position_mm)
    return float(apart @ normal) / (len(slices) - 1)


def _thickness_mm(item: Slice, header: Any) -> float | None:
    """SliceThickness, if the header has one."""
    if item.frame is None:
        return float(header.get("SliceThickness") or 0) or None
    for group in (header.PerFrameFunctionalGroupsSequence[item.frame], *header.SharedFunctionalGroupsSequence):
        if group.get("PixelMeasuresSequence"):
            return float(group.PixelMeasuresSequence[0].get("SliceThickness") or 0) or None
    return None
