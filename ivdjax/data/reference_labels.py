"""Reference label maps as files have them: checked, numbered from the lowest disc, and laid on the image's grid."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy import ndimage

from ivdjax.imaging.components import component_list, components
from ivdjax.imaging.geometry import cropped, resample, view_distance_mm
from ivdjax.volume import LEVEL_NAMES, LUMBAR_DISCS, TISSUES, CaseError, Grid, LabelMap, level_name

MIN_DISC_MM3 = 200.0
"""Smaller components of a binary reference mask are no discs."""


def refuse_other_values(tissues: LabelMap, case: str, file: str) -> None:
    """A CaseError where a tissue map has a value that no tissue has."""
    if tissues.levels and tissues.levels[-1] > len(TISSUES):
        known = ", ".join(f"{value} {name}" for value, name in enumerate(TISSUES, start=1))
        raise CaseError(
            f"case {case}: the values of {file} must be 0 or {known}, not {tissues.levels[-1]}; change it to these"
        )


def number_reference(labels: LabelMap, case: str, file: str) -> tuple[LabelMap, list[str]]:
    """A reference with numbered discs, and remarks: a binary mask's components are numbered from the lowest.

    A mask with one positive value is binary; its components over `MIN_DISC_MM3` become 1, 2, ... upward, smaller ones
    and those beyond level 15 background. Values of 1 to 15 are taken as they are; a gap between them, and one value in
    several pieces of a disc's size, are remarked.

    Raises:
        CaseError: several values, some of them beyond 15, or one that lies below a smaller one.
    """
    levels = labels.levels
    if not levels:
        return labels, [f"case {case}: {file} outlines no disc"]
    highest = len(LEVEL_NAMES)
    if len(levels) > 1:
        if levels[-1] > highest:
            raise CaseError(
                f"case {case}: labels in {file} must be 1 (L5/S1) to {highest} or one value for all discs, not "
                f"{', '.join(str(v) for v in levels[:20])}; renumber them"
            )
        _refuse_falling(labels, case, file)
        return labels, _numbering_remarks(labels, case, file)
    numbered = components(labels.array > 0, labels.grid, MIN_DISC_MM3)
    count = int(numbered.max())
    remarks = []
    if count != LUMBAR_DISCS:
        remarks.append(
            f"case {case}: {file} is a binary mask of {count} discs over {MIN_DISC_MM3:g} mm3, not {LUMBAR_DISCS}; "
            "numbered from the lowest"
        )
    dropped = int(np.count_nonzero(labels.array[(numbered == 0) | (numbered > highest)]))
    if dropped:
        remarks.append(f"case {case}: {dropped * labels.grid.voxel_mm3:.0f} mm3 of {file} in small pieces left out")
    numbered[numbered > highest] = 0
    return labels.with_array(numbered.astype(np.uint8)), remarks


def _refuse_falling(labels: LabelMap, case: str, file: str) -> None:
    """A CaseError where a value's centroid lies below that of a smaller one."""
    heights = [found.centroid_mm[2] for found in component_list(labels.array, labels.grid)]
    falling = [pair for pair, heights in zip(pairwise(labels.levels), pairwise(heights), strict=True)
               if heights[1] < heights[0]]  # fmt: skip
    if not falling:
        return
    low, high = falling[0]
    cause = f"value {high} lies below value {low}"
    if len(falling) == len(labels.levels) - 1 > 1:
        cause = "they are numbered from the top, or the header has the image upside down"
    raise CaseError(
        f"case {case}: labels in {file} must rise from 1 (L5/S1) upward, but {cause}; renumber them, or "
        "correct the header"
    )


def _numbering_remarks(labels: LabelMap, case: str, file: str) -> list[str]:
    """What is unusual about numbered labels: gaps, and values of several discs."""
    levels, remarks = labels.levels, []
    gaps = [level for level in range(levels[0], levels[-1]) if level not in levels]
    if gaps:
        remarks.append(
            f"case {case}: {file} outlines no disc for {', '.join(level_name(level) for level in gaps)}, between others"
        )
    for level, tight in enumerate(ndimage.find_objects(labels.array), start=1):
        if tight is not None:
            d, h, w = tight
            mask, part = labels.array[d, h, w] == level, cropped(labels.grid, (d, h, w))
            pieces = int(components(mask, part, MIN_DISC_MM3).max())
            if pieces > 1:
                remarks.append(
                    f"case {case}: value {level} of {file} stands for {pieces} pieces over {MIN_DISC_MM3:g} mm3; a "
                    "disc is one, are the discs numbered?"
                )
    return remarks


def on_image(labels: LabelMap, grid: Grid, native: Grid | None, case: str, file: str) -> tuple[LabelMap, list[str]]:
    """The labels on the image's grid, by nearest neighbour in world space where theirs is another."""
    if labels.grid.matches(grid):
        return LabelMap(labels.array, grid.affine, native), []
    array = resample(labels.array, labels.grid, grid, order=0)
    apart_mm = (
        labels.grid.displacement_mm(grid) if labels.grid.shape == grid.shape else view_distance_mm(labels.grid, grid)
    )
    if labels.array.any() and not array.any():
        raise CaseError(
            f"case {case}: no label of {file} lies within the image, whose grid is up to {apart_mm:.1f} mm off; "
            "is it another case's reference?"
        )
    remark = (
        f"case {case}: {file} lies on another grid than the image, displaced by up to {apart_mm:.1f} mm; "
        "resampled to the image by nearest neighbour"
    )
    return LabelMap(array, grid.affine, native), [remark]
