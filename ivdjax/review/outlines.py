"""Outlines that a person has edited in 3D Slicer or ITK-SNAP, read back and checked."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivdjax.commands.anchor import parse_level
from ivdjax.imaging.files import read_labels, split_suffix
from ivdjax.imaging.geometry import resample
from ivdjax.inference.corrections import LARGEST_LEVEL
from ivdjax.inference.findings import CaseResult
from ivdjax.volume import CaseError, LabelMap, UserError

_HEADER = 1 << 20
_FIELD = re.compile(rb"^Segment(\d+)_(Name|LabelValue|Layer):=(.*?)\r?$", re.M)


def edited_outlines(file: str, content: bytes, own: CaseResult, segments: bool) -> LabelMap:
    """The numbered discs in a label map that a person has edited, on the case's own grid.

    ITK-SNAP keeps the values, which are levels. 3D Slicer may give its segments other values when it saves them: there
    the segments' names count ("L4/5").

    Args:
        file: its name.
        content: its bytes.
        own: the case's own result, on whose grid the outlines must lie.
        segments: whether it is a segmentation of 3D Slicer (.seg.nrrd).

    Raises:
        CaseError: it cannot be read, lies elsewhere, holds no disc, or values that are no levels.
    """
    case = own.case.name
    suffix = ".nrrd" if segments else split_suffix(Path(file))[1]
    if not suffix:
        raise CaseError(f"{file or 'the file'} is no label map that can be read; save it as .nii.gz or .seg.nrrd")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"edited{suffix}"
        path.write_bytes(content)
        try:
            labels = read_labels(path, case)
        except CaseError as error:
            raise CaseError(str(error).replace(str(path), file)) from None
    array = _renumbered(labels.array, content[:_HEADER], file) if segments else labels.array
    grid = own.labels.grid
    if not labels.grid.matches(grid):
        placed = resample(array, labels.grid, grid, order=0)
        lost = np.count_nonzero(array) * labels.grid.voxel_mm3 - np.count_nonzero(placed) * grid.voxel_mm3
        if lost > 0.2 * np.count_nonzero(array) * labels.grid.voxel_mm3:
            raise CaseError(f"{file} lies elsewhere than the image of case {case}: is it another case's?")
        array = placed.astype(np.uint8)
    levels = [int(level) for level in np.unique(array) if level]
    if not levels:
        raise CaseError(f"{file} holds no disc; delete discs one by one where there is none")
    if levels[-1] > LARGEST_LEVEL:
        raise CaseError(f"{file} has the value {levels[-1]}: levels are 1 (L5/S1) to {LARGEST_LEVEL}")
    return own.labels.with_array(array)


def _renumbered(array: NDArray[np.uint8], header: bytes, file: str) -> NDArray[np.uint8]:
    """Values of a segmentation as the levels that its segments are named after."""
    fields: dict[str, dict[str, str]] = {}
    for number, key, value in _FIELD.findall(header):
        fields.setdefault(number.decode(), {})[key.decode()] = value.decode("utf-8", "replace").strip()
    if any(own.get("Layer", "0") != "0" for own in fields.values()):
        raise CaseError(f"{file} has segments that overlap; in 3D Slicer's Segment Editor choose 'Allow overlap: no'")
    table = np.zeros(256, np.uint8)
    for own in fields.values():
        value = own.get("LabelValue", "")
        if not value.isdecimal() or not 0 < int(value) < len(table):
            raise CaseError(f"{file}: the segment {own.get('Name', '')!r:.60} has no label value")
        try:
            table[int(value)] = parse_level(own.get("Name", ""))
        except UserError:
            raise CaseError(f"{file}: the segment {own.get('Name', '')!r:.60} is named after no disc; call it L5/S1, "
                            "L4/5 ...") from None  # fmt: skip
    return table[array]
