"""DICOM series of MR images, through pydicom: their order, their place, their voxels.

Stored values (see `dicom_pixels`) are rescaled here slice by slice: SimpleITK's series reader applies the first slice's
type and the first frame's slope to all. Values of Philips scanners are divided by their scale slope as well, without
which two series of one scan are no measure of each other. The world of DICOM runs to the left and to posterior (LPS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.files.dicom_file import raise_if_of_the_disk, silent_pydicom
from ivdjax.imaging.files.dicom_headers import Slice, slices_of
from ivdjax.imaging.files.dicom_pixels import stored_values
from ivdjax.imaging.files.dixon import parts_of
from ivdjax.imaging.files.image import FileImage, checked_affine, checked_shape, checked_values
from ivdjax.imaging.files.weighting import weighting_of
from ivdjax.volume import CaseError

UNEVEN_FRACTION = 0.05
UNEVEN_MM = 0.1
"""Gaps between slices may differ by this fraction of the usual one, or by this length where that is more: scanners
round positions, and a slice that is missing or doubled is off by a whole gap."""

_SAME_PLACE_MM = 0.01
"""Slices that lie closer to each other show the same place."""

_TURNED = 1e-3
"""Direction cosines that differ by more are of slices that are not parallel."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class DicomSeries:
    """The files of one DICOM series (or of one Dixon image type or echo within it), sorted along the slice direction.

    Attributes:
        folder: that holds the files, itself or in folders within it.
        uid: SeriesInstanceUID.
        files: one a slice, or those that hold several frames each (Enhanced MR).
        frames: of each Enhanced file, the indices (from 0) of the frames that are of the volume, in slice order; else
            empty.
        frame_of_reference: FrameOfReferenceUID; empty where the headers give none.
        weighting: "t1", "t2", "pd", "stir" or "flair" by the header (`weighting_of`), with "_fs" where fat is
            suppressed; empty where that does not tell, or where the image is the water, the fat or the opposed phase of
            a Dixon scan, which no weighting describes.
    """

    folder: Path
    uid: str
    files: tuple[Path, ...]
    frames: tuple[tuple[int, ...], ...] = ()
    frame_of_reference: str = ""
    weighting: str = ""

    @property
    def name(self) -> str:
        """The folder's name: what logs and provenance show."""
        return self.folder.resolve().name


def series_of(slices: Sequence[Slice], folder: Path, case: str) -> DicomSeries:
    """The series that images of one volume make, sorted along the slice direction.

    Raises:
        CaseError: the images do not make a volume; see `ordered`.
    """
    slices = ordered(slices, folder, case)
    files = tuple(dict.fromkeys(item.path for item in slices))
    frames = tuple(
        tuple(item.frame for item in slices if item.path == path and item.frame is not None) for path in files
    )
    told = weighting_of(slices[0])
    whole = parts_of(slices[0]) <= {"inn"}
    return DicomSeries(
        folder, slices[0].series, files, frames if any(frames) else (), slices[0].frame_of_reference,
        told.code if told is not None and whole else "",
    )  # fmt: skip


def read(series: DicomSeries, case: str) -> FileImage:
    """The volume of a series: array (I, J, K) with I along a row, J down the rows, K slices; the affine to RAS mm.

    Stored values keep their type where nothing is to be rescaled; else they become float32.

    Raises:
        CaseError: a file that is gone, truncated, damaged, without pixels or compressed in a way that cannot be
            decoded; images that do not make a volume (see `ordered`).
        OSError: a file cannot be read for a reason of the disk's.
    """
    read_slices: list[Slice] = []
    planes: list[NDArray] = []
    for path, frames in zip(series.files, series.frames or repeat(())):  # noqa: B905 - endless
        slices, images = _decoded(path, frames, case)
        read_slices += slices
        planes += images
    places = {(item.path, item.frame): index for index, item in enumerate(read_slices)}
    slices = ordered(read_slices, series.folder, case)
    planes = [planes[places[item.path, item.frame]] for item in slices]
    shape = checked_shape((*slices[0].shape, len(slices)), series.folder, case)
    if any(plane.shape != shape[1::-1] for plane in planes):
        raise CaseError(f"case {case}: images of {series.folder} are not of the size that their headers say")
    affine = checked_affine(affine_of(slices), shape, series.folder, case)
    values = np.stack(planes, axis=-1).swapaxes(0, 1)
    if slices[0].inverted:
        values = _turned_bright(values)
    return FileImage(checked_values(values, series.folder, case), affine)


def ordered(slices: Sequence[Slice], folder: Path, case: str) -> list[Slice]:
    """Images sorted along the normal of their plane (row direction times column direction).

    Raises:
        CaseError: a single image; one without a place; color; images of several sizes or planes; two at one place;
            uneven gaps, as of missing slices.
    """
    who = f"case {case}: the DICOM series in {folder}"
    if len(slices) < 2:
        raise CaseError(f"{who} is a single image; a volume of sagittal slices is needed")
    for item in slices:
        if not item.placed:
            raise CaseError(
                f"{who} has no ImagePositionPatient, ImageOrientationPatient or PixelSpacing in {item.path.name}: "
                "where it lies is unknown; export it again as MR images"
            )
        if not item.gray:
            raise CaseError(f"{who} holds colors in {item.path.name}; give the original images")
    first = slices[0]
    if any(item.shape != first.shape for item in slices):
        sizes = sorted({f"{item.shape[0]} x {item.shape[1]}" for item in slices})
        raise CaseError(f"{who} mixes images of several sizes ({', '.join(sizes)}); keep one volume in the folder")
    if any(item.inverted != first.inverted for item in slices):
        raise CaseError(f"{who} mixes images in which high values are bright and dark; export it again")
    if any(np.abs(np.subtract(item.spacing_mm, first.spacing_mm)).max() > 1e-3 for item in slices):
        raise CaseError(f"{who} mixes images of several pixel spacings; keep one volume in the folder")
    if len(planes_of(slices)) > 1:
        raise CaseError(
            f"{who} has images in {len(planes_of(slices))} planes, as a localizer has; give the sagittal volume"
        )
    normal = np.cross(first.orientation[:3], first.orientation[3:])
    along_mm = np.array([item.position_mm for item in slices]) @ normal
    order = np.argsort(along_mm, kind="stable")
    _refuse_uneven(along_mm[order], who)
    result = [slices[index] for index in order]
    positions = np.array([item.position_mm for item in result])
    line = positions[0] + np.linspace(0, 1, len(result))[:, None] * (positions[-1] - positions[0])
    off_mm = float(np.linalg.norm(positions - line, axis=1).max())
    if off_mm > allowed_mm(float(np.ptp(along_mm)) / (len(result) - 1)):
        raise CaseError(f"{who}: slices lie up to {off_mm:.2f} mm off a straight stack; give one volume")
    return result


def planes_of(slices: Sequence[Slice]) -> list[tuple[float, ...]]:
    """The different orientations of placed images, each once."""
    found: list[tuple[float, ...]] = []
    for item in slices:
        if not any(np.abs(np.subtract(item.orientation, other)).max() <= _TURNED for other in found):
            found.append(item.orientation)
    return found


def affine_of(slices: Sequence[Slice]) -> NDArray[np.float64]:
    """The (4, 4) affine from (column, row, slice, 1) to RAS mm of two or more images in their order."""
    first, last = slices[0], slices[-1]
    between_rows, between_columns = first.spacing_mm
    lps = np.empty((3, 4))
    lps[:, 0] = np.multiply(first.orientation[:3], between_columns)
    lps[:, 1] = np.multiply(first.orientation[3:], between_rows)
    lps[:, 2] = np.subtract(last.position_mm, first.position_mm) / (len(slices) - 1)
    lps[:, 3] = first.position_mm
    affine = np.eye(4)
    affine[:3] = _LPS_TO_RAS @ lps
    return affine


def _refuse_uneven(along_mm: NDArray[np.float64], who: str) -> None:
    gaps = np.diff(along_mm)
    usual = float(np.median(gaps))
    doubled = int((gaps < _SAME_PLACE_MM).sum())
    if doubled:
        raise CaseError(
            f"{who} has {doubled} of {len(along_mm)} images at the place of another: echoes, time points or copies "
            "that the headers do not tell apart; keep one volume in the folder"
        )
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) > allowed_mm(usual):
        raise CaseError(
            f"{who} has uneven gaps: {gaps[worst]:.2f} mm between slices {worst + 1} and {worst + 2} of "
            f"{len(along_mm)}, {usual:.2f} mm elsewhere; slices are missing, copy or export the series again"
        )


def allowed_mm(gap_mm: float) -> float:
    """By how many mm gaps between slices may differ, and slices lie off a straight stack."""
    return max(UNEVEN_MM, UNEVEN_FRACTION * gap_mm)


def _decoded(path: Path, frames: Sequence[int], case: str) -> tuple[list[Slice], list[NDArray]]:
    """The wanted images of one file and their rescaled values (rows, columns)."""
    import pydicom

    try:
        with silent_pydicom():
            dataset = pydicom.dcmread(path, force=True)
            slices = slices_of(dataset, path)
            columns, rows = slices[0].shape
            checked_shape((max(columns, 1), max(rows, 1), len(slices)), path, case)  # before memory is taken for them
            images = stored_values(dataset, path, case)
    except CaseError:
        raise
    except FileNotFoundError:
        raise CaseError(f"case {case}: no file {path}") from None
    except MemoryError:
        raise CaseError(f"case {case}: {path} does not fit into memory") from None
    except Exception as error:
        raise_if_of_the_disk(error)
        # The library's own words may repeat what stands in the header.
        raise CaseError(
            f"case {case}: {path} cannot be read as a DICOM image, it is truncated, damaged or holds no pixels "
            f"({type(error).__name__}); copy or export it again"
        ) from None
    if len(images) != len(slices):
        raise CaseError(f"case {case}: {path} holds {len(images)} images, but its header lists {len(slices)}")
    wanted = list(frames) if frames else list(range(len(slices)))
    if max(wanted) >= len(slices):
        raise CaseError(f"case {case}: {path} holds {len(slices)} frames, not {max(wanted) + 1}; it was changed")
    return [slices[i] for i in wanted], [_rescaled(images[i], slices[i]) for i in wanted]


def _rescaled(values: NDArray, item: Slice) -> NDArray:
    """Values by slope and intercept, and for Philips by the scale slope: (stored x RS + RI) / (RS x SS)."""
    slope, intercept = item.slope, item.intercept
    if item.scale_slope is not None:
        slope, intercept = 1.0 / item.scale_slope, intercept / (slope * item.scale_slope)
    if slope == 1 and intercept == 0:
        return values
    return (values * np.float32(slope) + np.float32(intercept)).astype(np.float32)


def _turned_bright(values: NDArray) -> NDArray:
    """Values of images whose high values are dark (MONOCHROME1) the other way round, over the same range."""
    if values.dtype.kind == "f":
        return np.nanmax(values) + np.nanmin(values) - values
    low, high = int(values.min()), int(values.max())
    return (low + high - values.astype(np.int64)).astype(values.dtype)
