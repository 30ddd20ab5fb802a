"""Segmentations of 3D Slicer (.seg.nrrd): a label map that carries its segments' names, colours and codes.

It is a plain NRRD file with further fields in its header, which other readers pass over. The fields are those of 3D
Slicer's developer guide, "Segmentation labelmap file format". The values of a map that was edited there mean nothing:
3D Slicer gives a segment that is drawn anew another one. So what is read goes by names and codes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.files import itk
from ivdjax.imaging.files.codes import DISC_CODES, SCHEME
from ivdjax.imaging.files.image import FileImage
from ivdjax.imaging.files.segment import Segment, Term, ordered
from ivdjax.imaging.files.segment_names import is_disc_name, level_of_name
from ivdjax.imaging.files.text_header import TextHeader, read_header
from ivdjax.imaging.folders import whole_file
from ivdjax.imaging.geometry import from_canonical
from ivdjax.volume import CaseError, LabelMap

SUFFIX = ".seg.nrrd"

_HEADER_END = b"\n\n"
_TERMS = "Segmentation category and type - DICOM master list"
_REGIONS = "Anatomic codes - DICOM master list"
_COMMON = {
    "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
    # One field under its older and its newer name; a version of 3D Slicer passes over the one it does not know.
    "Segmentation_MasterRepresentation": "Binary labelmap",
    "Segmentation_SourceRepresentation": "Binary labelmap",
    "Segmentation_ReferenceImageExtentOffset": "0 0 0",
}

_ANY_FIELD = re.compile(r"Segment(\d{1,4})_\w+")
_UNNAMED = re.compile(r"segment(ation)?[ _]?\d*|", re.IGNORECASE)
"""Names that 3D Slicer gives by itself."""

_LEVEL_OF_CODE = {code.value: level for level, code in enumerate(DISC_CODES, 1)}


@dataclass(frozen=True)
class ReadSegment:
    """One segment of a file: what it is called, the level of its disc, and the voxels that are its own.

    Attributes:
        name: as it stands in the file; empty where it has none.
        level: of the disc that name or code tell of; None where they tell of none.
        layer: of the file's values a voxel.
        value: of its voxels in that layer.
    """

    name: str
    level: int | None
    layer: int
    value: int

    @property
    def may_be_disc(self) -> bool:
        """Whether it may be a disc, though which one is not told."""
        return self.level is None and (is_disc_name(self.name) or bool(_UNNAMED.fullmatch(self.name)))


def is_segmentation(path: Path) -> bool:
    """Whether a file is an NRRD file whose header tells of segments, whatever its name.

    Raises:
        OSError: the file cannot be read.
    """
    if path.suffix.lower() not in (".nrrd", ".nhdr"):
        return False
    try:
        return bool(_numbers(read_header(path, "")))
    except CaseError:
        return False


def read_levels(path: Path, case: str, on_remark: Callable[[str], None]) -> FileImage | None:
    """A segmentation as an image of levels (uint8; 1 = L5/S1, 23 = C2/C3), by the names and codes of its segments.

    Other structures are dropped, and told.

    Args:
        path: of the file.
        case: for messages.
        on_remark: told what was dropped.

    Returns:
        None where no segment names a disc: values are all there is.

    Raises:
        CaseError: name and code of a segment contradict each other; two segments are one disc, or share voxels; one
            may be a disc, but which is not told; voxels that belong to no segment; else as `itk.read`.
        OSError: the file cannot be read.
    """
    header = read_header(path, case)
    segments = _segments(header, path, case)
    discs = [segment for segment in segments if segment.level is not None]
    if not discs:
        return None
    _refuse_doubtful(segments, path, case)
    image, layers = itk.read_layers(path, case, header)
    levels = np.zeros(layers[0].shape, np.uint8)
    known: dict[int, set[int]] = {}
    for segment in segments:
        if segment.layer >= len(layers):
            raise CaseError(f"case {case}: segment {segment.name!r} of {path} lies in a layer that is not there")
        known.setdefault(segment.layer, {0}).add(segment.value)
    for index, layer in enumerate(layers):
        strange = sorted(set(np.unique(layer).tolist()) - known.get(index, {0}))
        if strange:
            raise CaseError(
                f"case {case}: {path} has voxels of the value {strange[0]:g} that belong to none of its segments; save "
                "it again"
            )
    for segment in discs:
        own = layers[segment.layer] == segment.value
        shared = int(np.count_nonzero(levels[own]))
        if shared:
            raise CaseError(
                f"case {case}: segment {segment.name!r} of {path} overlaps another disc in {shared} voxels; let each "
                "voxel belong to one disc"
            )
        levels[own] = segment.level or 0
    others = [segment.name for segment in segments if segment.level is None]
    if others:
        shown = ", ".join(others[:8]) + (f" and {len(others) - 8} more" if len(others) > 8 else "")
        on_remark(f"case {case}: segments of {path.name} that are no discs are dropped: {shown}")
    return FileImage(levels, image.affine, image.remarks)


def _numbers(header: TextHeader) -> list[int]:
    return sorted({int(match[1]) for key in header.notes if (match := _ANY_FIELD.fullmatch(key))})


def _segments(header: TextHeader, path: Path, case: str) -> list[ReadSegment]:
    """The segments that a header tells of."""
    found = []
    numbers = _numbers(header)
    layered = any(f"Segment{number}_Layer" in header.notes for number in numbers)
    for place, number in enumerate(numbers):

        def own(field: str, number: int = number) -> str:
            return header.notes.get(f"Segment{number}_{field}", "").strip()

        name, code = own("Name"), _level_of_tags(own("Tags"))
        named = level_of_name(name)
        if named is not None and code is not None and named != code:
            raise CaseError(
                f"case {case}: segment {name!r} of {path} has the code of the {DISC_CODES[code - 1].meaning}; correct "
                "its name or its terminology in 3D Slicer and save it again"
            )
        # Before 3D Slicer 4.11 each segment was a layer of its own, of the value 1.
        layer, value = own("Layer") or (str(0 if layered else place)), own("LabelValue") or "1"
        if not layered and own("LabelValue"):
            layer = "0"
        if not (layer.isascii() and layer.isdigit() and value.isascii() and value.isdigit() and len(value) < 6):
            raise CaseError(f"case {case}: layer or value of segment {name!r} of {path} is not a number; save it again")
        found.append(ReadSegment(name, named if code is None else code, int(layer[:9]), int(value)))
    return found


def _level_of_tags(tags: str) -> int | None:
    """The level of the disc whose code stands among a segment's tags."""
    for tag in tags.split("|"):
        key, _, entry = tag.partition(":")
        if key.strip() == "TerminologyEntry":
            for term in entry.split("~"):
                scheme, _, rest = term.partition("^")
                if scheme in (SCHEME, "SRT", "SNOMED-CT") and (level := _LEVEL_OF_CODE.get(rest.partition("^")[0])):
                    return level
    return None


def _refuse_doubtful(segments: Sequence[ReadSegment], path: Path, case: str) -> None:
    """Refuses segments of which some name discs, where one may be another, or the same."""
    seen: dict[int, str] = {}
    places: dict[tuple[int, int], str] = {}
    for segment in segments:
        if segment.may_be_disc:
            raise CaseError(
                f"case {case}: segment {segment.name!r} of {path} may be a disc, but it is not clear which one; "
                "name it (L4/5), or remove it"
            )
        if segment.level is not None and segment.level in seen:
            raise CaseError(
                f"case {case}: segments {seen[segment.level]!r} and {segment.name!r} of {path} are the same disc; "
                "merge them, or correct a name"
            )
        place = (segment.layer, segment.value)
        if place in places:
            raise CaseError(
                f"case {case}: segments {places[place]!r} and {segment.name!r} of {path} have the same value; save it "
                "again in 3D Slicer"
            )
        places[place] = segment.name
        if segment.level is not None:
            seen[segment.level] = segment.name


def write_seg_nrrd(path: Path, labels: LabelMap, segments: Sequence[Segment]) -> None:
    """Stores a label map as a segmentation on its file's own grid, gzip-compressed; whole or not at all.

    The file has a segment for every value that occurs, and none for the others; an empty map gives a file without
    segments. Values stay as they are (`SegmentN_LabelValue`), so that readers that know nothing of segments see the
    label map itself.

    Args:
        path: ending in .seg.nrrd.
        labels: (D, H, W); written on `labels.native`, or on its canonical grid if that is None.
        segments: of at least the values that occur.

    Raises:
        ValueError: another ending, a value without a segment, two segments of one value, or an array that does not fit
            the native grid.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if not path.name.lower().endswith(SUFFIX):
        raise ValueError(f"{path.name} must end in {SUFFIX}, by which 3D Slicer tells a segmentation from an image")
    known = {segment.value: segment for segment in ordered(segments)}
    missing = [level for level in labels.levels if level not in known]
    if missing:
        raise ValueError(f"{path.name}: no segment for the values {', '.join(map(str, missing))} of the label map")
    native = labels.native or labels.grid
    array = from_canonical(labels.array.astype(np.uint8, copy=False), native)
    with whole_file(path, path.name[-len(SUFFIX) :]) as part:
        itk.write(part, array, np.asarray(native.affine, dtype=np.float64))
        part.write_bytes(_with_fields(part.read_bytes(), _fields(array, [known[level] for level in labels.levels])))


def _with_fields(content: bytes, fields: dict[str, str]) -> bytes:
    """An NRRD file with key/value pairs added at the end of its header, which an empty line closes."""
    header, end, data = content.partition(_HEADER_END)
    lines = [f"{key}:={value}" for key, value in fields.items()]
    return b"\n".join([header, *(line.encode("utf-8") for line in lines)]) + end + data


def _fields(array: NDArray[np.uint8], segments: Sequence[Segment]) -> dict[str, str]:
    """The header fields of segments in an array (I, J, K) in the file's axis order."""
    fields: dict[str, str] = {}
    for place, segment in enumerate(segments):
        prefix = f"Segment{place}"
        fields |= {
            f"{prefix}_ID": f"Segment_{segment.value}",
            f"{prefix}_Name": segment.label,
            f"{prefix}_NameAutoGenerated": "0",
            f"{prefix}_Color": " ".join(f"{part:.6g}" for part in segment.rgb),
            f"{prefix}_ColorAutoGenerated": "0",
            f"{prefix}_Extent": _extent(array, segment.value),
            f"{prefix}_LabelValue": str(segment.value),
            f"{prefix}_Layer": "0",
            f"{prefix}_Tags": _tags(segment),
        }
    return fields | _COMMON


def _extent(array: NDArray[np.uint8], value: int) -> str:
    """First and last index of a value along each axis: "minI maxI minJ maxJ minK maxK"."""
    found = np.nonzero(array == value)
    return " ".join(f"{axis.min()} {axis.max()}" for axis in found)


def _tags(segment: Segment) -> str:
    """What a segment is: category, type and anatomic region, of which the type alone says all."""
    none = "^^"
    parts = [_TERMS, _triplet(segment.category), _triplet(segment.code), none, _REGIONS, none, none]
    return f"Segmentation.Status:completed|TerminologyEntry:{'~'.join(parts)}|"


def _triplet(term: Term) -> str:
    value, scheme, meaning = term
    return f"{scheme}^{value}^{meaning}"
