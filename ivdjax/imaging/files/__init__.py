"""Image files in and out: the one place that knows formats and axis orders.

Everything read is canonical (D, H, W) in RAS mm; everything written lies on the file's own grid again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.files import dicom, itk, mgh, nifti, nifti_pair, seg_nrrd
from ivdjax.imaging.files.dicom import DicomSeries
from ivdjax.imaging.files.image import FileImage
from ivdjax.imaging.files.source import Source, source_files, source_folder, source_name, source_sha256
from ivdjax.imaging.folders import whole_file
from ivdjax.imaging.geometry import from_canonical, resample, to_canonical, view_distance_mm
from ivdjax.volume import CaseError, Grid, LabelMap, Volume

IMAGE_SUFFIXES: tuple[str, ...] = (*nifti.SUFFIXES, *itk.SUFFIXES, *nifti_pair.SUFFIXES, *mgh.SUFFIXES)
"""Endings of images that can be read, the longer ones first."""

LABEL_SUFFIXES: tuple[str, ...] = (seg_nrrd.SUFFIX, *IMAGE_SUFFIXES)
"""Endings of label maps that can be read, the longer ones first."""

WRITTEN_SUFFIXES: tuple[str, ...] = (seg_nrrd.SUFFIX, *nifti.SUFFIXES, ".mha", ".nrrd")
"""Endings of label maps that can be written: not those of two files, which cannot appear as one, nor FreeSurfer's."""

_READERS = {
    suffix: read
    for suffixes, read in (
        (nifti.SUFFIXES, nifti.read),
        (nifti_pair.SUFFIXES, nifti_pair.read),
        (mgh.SUFFIXES, mgh.read),
        ((*itk.SUFFIXES, seg_nrrd.SUFFIX), itk.read),
    )
    for suffix in suffixes
}

CHANNELS_APART_MM = 5.0
"""Channels whose fields of view differ by more are no channels of one scan."""

_IN_MEMORY = "the image given"

Remark = Callable[[str], None]


def split_suffix(path: Path) -> tuple[str, str]:
    """A file's name without the suffix of an image or a label map, and that suffix in lower case; an empty suffix for
    other endings."""
    for suffix in LABEL_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)], suffix
    return path.name, ""


def read_channel(
    source: Source | Any, case: str, on_remark: Remark | None = None
) -> tuple[NDArray, NDArray[np.float64], Grid]:
    """One channel: canonical (D, H, W) array in the file's type, the affine of that canonical grid, the native grid.

    The native grid of a DICOM series runs along the rows, down the columns and along the sorted slices. In place of a
    file or a series, an image that nibabel or SimpleITK has opened already is taken too.

    Raises:
        CaseError: no such file, an unknown ending, or a file without one sound 3D image; see `nifti.read`, `itk.read`,
            `nifti_pair.read`, `mgh.read`; a series whose files are damaged or make no volume, see `dicom.read`.
    """
    image = _read(source, case, on_remark)
    array, affine = to_canonical(image.array, image.grid)
    return array, affine, image.grid


def read_volume(sources: Mapping[str, Source | Any], case: str, on_remark: Remark | None = None) -> Volume:
    """All channels of one case as float32 (C, D, H, W), in the order of `sources`, on the first channel's grid.

    A channel on another grid is resampled linearly to the first one's, and remarked, if its field of view differs by
    no more than `CHANNELS_APART_MM`. Values beyond float32 become infinite.

    Raises:
        CaseError: as `read_channel`; a channel lies elsewhere than the first, or in another DICOM frame of reference.
        ValueError: no path at all.
    """
    if not sources:
        raise ValueError("read_volume needs at least one channel")
    _refuse_frames(sources, case)
    remark = on_remark or (lambda text: None)
    arrays: list[NDArray] = []
    first_name, target, native = "", None, None
    for name, source in sources.items():
        array, affine, own = read_channel(source, case, remark)
        with np.errstate(over="ignore"):  # told with the other voxels that are not finite, when the case is prepared
            array = array.astype(np.float32, copy=False)
        grid = Grid((array.shape[0], array.shape[1], array.shape[2]), affine)
        if target is None:
            first_name, target, native = name, grid, own
        elif not grid.matches(target):
            array = _aligned(array, grid, target, f"case {case}: channel {name} ({_shown(source)})", first_name, remark)
        arrays.append(array)
    assert target is not None
    return Volume(np.stack(arrays), target.affine, tuple(sources), native)


def read_labels(path: Path, case: str, on_remark: Remark | None = None) -> LabelMap:
    """A label map as uint8 (D, H, W), its values as they are; a single value above 255 becomes 1.

    Of a segmentation of 3D Slicer whose segments name discs, values are levels by those names, see `read_levels`.

    Raises:
        CaseError: as `read_channel`; values that are negative, not whole, or beyond 255.
    """
    named = read_named_levels(path, case, on_remark)
    if named is not None:
        return named
    array, affine, native = read_channel(path, case, on_remark)
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or np.abs(array - np.rint(array)).max() > 1e-3:
            raise CaseError(f"case {case}: labels in {path} must be whole numbers; is it a probability map?")
        array = np.rint(array)
    low, high = array.min(), array.max()
    if low < 0:
        raise CaseError(f"case {case}: labels in {path} must be 0 or above, not {low:g}")
    if high > 255:
        if np.any((array > 0) & (array < high)):
            raise CaseError(f"case {case}: labels in {path} go up to {high:g}; 0 to 15 number the discs")
        array = array > 0
    return LabelMap(array.astype(np.uint8), affine, native)


def read_named_levels(path: Path, case: str, on_remark: Remark | None = None) -> LabelMap | None:
    """The levels (1 = L5/S1 upward) in a segmentation of 3D Slicer, by the names and codes of its segments.

    Returns:
        None of any other label map, and of a segmentation of which no segment names a disc.

    Raises:
        CaseError: see `seg_nrrd.read_levels`.
    """
    remark = on_remark or (lambda text: None)
    try:
        image = seg_nrrd.read_levels(path, case, remark) if seg_nrrd.is_segmentation(path) else None
    except OSError as error:
        raise CaseError(f"case {case}: {path} cannot be read: {error.strerror or error}") from error
    if image is None:
        return None
    for text in image.remarks:
        remark(f"case {case}: {text}")
    array, affine = to_canonical(image.array, image.grid)
    return LabelMap(array, affine, image.grid)


def write_labels(path: Path, labels: LabelMap) -> None:
    """Stores a label map as uint8 on its file's own grid (its canonical one if `native` is None); whole or not at all.

    Raises:
        ValueError: an ending that cannot be written, or an array that does not fit the native grid.
    """
    write_volume(path, labels.array.astype(np.uint8, copy=False), labels.native or labels.grid)


def write_volume(path: Path, array: NDArray, native: Grid) -> None:
    """Stores a canonical array (D, H, W) in its own type on the file grid `native`; whole or not at all.

    Raises:
        ValueError: as `write_labels`.
    """
    path = Path(path)
    suffix = split_suffix(path)[1]
    if suffix not in (*WRITTEN_SUFFIXES, *itk.SUFFIXES):
        raise ValueError(f"{path.name} must end in one of {', '.join(WRITTEN_SUFFIXES)} to be written")
    writer = nifti if suffix in nifti.SUFFIXES else itk
    with whole_file(path, path.name[-len(suffix) :]) as part:
        writer.write(part, from_canonical(array, native), np.asarray(native.affine, dtype=np.float64))


def _read(source: Source | Any, case: str, on_remark: Remark | None) -> FileImage:
    if isinstance(source, DicomSeries):
        return dicom.read(source, case)
    image = _loaded(source, case)
    if image is None:
        path = Path(source)
        suffix = split_suffix(path)[1]
        if not suffix:
            raise CaseError(f"case {case}: {path} must end in one of {', '.join(IMAGE_SUFFIXES)}")
        image = _READERS[suffix](path, case)
    for text in image.remarks:
        if on_remark:
            on_remark(f"case {case}: {text}")
    return image


def _loaded(source: Any, case: str) -> FileImage | None:
    """An image that nibabel or SimpleITK has opened already; None of anything else. Neither library is imported."""
    if hasattr(source, "dataobj") and hasattr(source, "affine"):
        return nifti.loaded(source, Path(_IN_MEMORY), case)
    if hasattr(source, "GetDirection") and hasattr(source, "GetPixelIDValue"):
        return itk.loaded(source, Path(_IN_MEMORY), case)
    return None


def _shown(source: Source | Any) -> str:
    if not isinstance(source, (str, Path, DicomSeries)):
        return _IN_MEMORY
    return source_name(source if isinstance(source, DicomSeries) else Path(source))


def _refuse_frames(sources: Mapping[str, Source], case: str) -> None:
    """Refuses DICOM channels of several frames of reference: the standard gives their positions nothing in common."""
    frames = {
        name: source.frame_of_reference
        for name, source in sources.items()
        if isinstance(source, DicomSeries) and source.frame_of_reference
    }
    first = next(iter(frames), "")
    others = [name for name in frames if frames[name] != frames[first]]
    if others:
        raise CaseError(
            f"case {case}: channel {', '.join(others)} has another DICOM frame of reference than channel {first}: "
            "their positions need not mean the same place; register them and give image files, or leave one out"
        )


def _aligned(array: NDArray, grid: Grid, target: Grid, who: str, first: str, remark: Remark) -> NDArray:
    """The channel on the first channel's grid, or a CaseError where it lies elsewhere."""
    apart_mm = view_distance_mm(grid, target)
    if apart_mm > CHANNELS_APART_MM:
        raise CaseError(
            f"{who} lies up to {apart_mm:.1f} mm off channel {first}; channels must come from one scan "
            f"(at most {CHANNELS_APART_MM:g} mm): register them or give the right file"
        )
    remark(f"{who} is on another grid than channel {first} (up to {apart_mm:.1f} mm off): resampled to it")
    finite = np.isfinite(array)
    if not finite.all():
        lost = int(array.size - np.count_nonzero(finite))
        remark(f"{who}: {lost} voxels ({100.0 * lost / array.size:.2g}%) are not finite; taken as without signal")
        array = np.where(finite, array, array[finite].min() if finite.any() else 0.0)
    return resample(array, grid, target, order=1, outside=float(array.min()))


__all__ = [
    "CHANNELS_APART_MM", "IMAGE_SUFFIXES", "LABEL_SUFFIXES", "WRITTEN_SUFFIXES", "DicomSeries", "Source",
    "read_channel", "read_labels", "read_named_levels", "read_volume",
    "source_files", "source_folder", "source_name", "source_sha256", "split_suffix", "write_labels", "write_volume",
]  # fmt: skip
