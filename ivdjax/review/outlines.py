"""Outlines that a person has edited in 3D Slicer or ITK-SNAP, read back and checked."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ivdjax.imaging.files import read_labels, split_suffix
from ivdjax.imaging.files.seg_nrrd import SUFFIX
from ivdjax.imaging.geometry import resample
from ivdjax.inference.case_result import CaseResult
from ivdjax.inference.corrections import LARGEST_LEVEL
from ivdjax.volume import CaseError, Grid, LabelMap


def _same_voxels(part: Grid, whole: Grid) -> bool:
    """Whether a grid is made of the voxels of another one, as a part of it is that a program has cropped."""
    to_whole = np.linalg.inv(whole.affine) @ part.affine
    shift = to_whole[:3, 3]
    return bool(np.allclose(to_whole[:3, :3], np.eye(3), atol=0.01) and np.allclose(shift, np.rint(shift), atol=0.1))


def edited_outlines(file: str, content: bytes, own: CaseResult) -> LabelMap:
    """The numbered discs in a label map that a person has edited, on the case's own grid.

    ITK-SNAP keeps the values, which are levels. 3D Slicer may give its segments other values when it saves them: there
    the segments' names count ("L4/5").

    Args:
        file: its name.
        content: its bytes.
        own: the case's own result, on whose grid the outlines must lie.

    Raises:
        CaseError: it cannot be read, lies elsewhere, holds no disc, or values that are no levels.
    """
    case = own.case.name
    suffix = SUFFIX if file.lower().endswith(SUFFIX) else split_suffix(Path(file))[1]
    if not suffix:
        raise CaseError(f"{file or 'the file'} is no label map that can be read; save it as .nii.gz or .seg.nrrd")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"edited{suffix}"
        path.write_bytes(content)
        try:
            labels = read_labels(path, case)
        except CaseError as error:
            raise CaseError(str(error).replace(str(path), file)) from None
    array, grid = labels.array, own.labels.grid
    if not labels.grid.matches(grid):
        if not _same_voxels(labels.grid, grid):
            raise CaseError(f"{file} has other voxels than the image of case {case}: is it another case's? If not, "
                            "save it with the image as reference, at its resolution")  # fmt: skip
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
