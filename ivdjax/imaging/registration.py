"""Registration of a numbered reference mask to a predicted one (paper, section 2.2, Fig. 4).

Discs repeat every 35 mm, so that a descent from afar ends one disc too high or too low. The start therefore comes from
numbered centroids, fitted so that some may be wrong, and only the last millimetres are left to the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.imaging.bend import bend_mm
from ivdjax.imaging.components import component_list
from ivdjax.imaging.geometry import cropped, resample, respaced
from ivdjax.imaging.intensity_registration import Blurred, refined
from ivdjax.imaging.similarity_transforms import Matrix, is_sane, robust_fits, translation
from ivdjax.volume import FloatArray, Grid, LabelMap, to_index, to_world_mm

_STEP_MM = 3.0
"""Spacing of the grids on which blurred masks are compared."""
_BLUR_MM = (5.0, 3.0)
"""Standard deviations of the Gaussians, coarse then fine; discs are 5 to 9 mm high and lie 30 mm apart."""
_ROOM_MM = (15.0, 45.0, 20.0)
"""Around the discs along D, H and W on those grids: room for the blur, and above and below for one more disc."""
_DISC_STEP_MM = 30.0
_LEVEL_WEIGHT = 0.5
"""What levels in their place are worth beside the overlap of the masks: with a thoracic disc in view, a spine one step
too high overlaps as well as the right one."""
_FITS_PER_SHIFT = 3
_FEW = 2
"""With so few levels in common nothing but a translation is sought."""


@dataclass(frozen=True, eq=False)
class Registration:
    """Where a moving label map lies in a fixed one.

    Attributes:
        matrix: (4, 4), from homogeneous RAS+ mm of the moving map to those of the fixed map; a similarity.
        overlap: Dice of the two binary masks under the matrix, 0 to 1, in the fixed map's field of view. Where one map
            shows the spine from side to side and the other a slab of it, both are cut to the slab's width.
        bend_mm: by how much (3,) in RAS+ mm each disc of the moving map is displaced after the matrix. No two spines
            are bent alike, and a similarity leaves their ends up to 20 mm apart. A level that is not named: not at all.
    """

    matrix: Matrix
    overlap: float
    bend_mm: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Side:
    """One of the two maps as it is compared: centroids by level, its mask cut to the common width, and that blurred."""

    centroids_mm: Mapping[int, NDArray[np.float64]]
    mask: LabelMap
    blurred: Blurred


def register_labels(moving: LabelMap, fixed: LabelMap) -> Registration:
    """The similarity, and the smooth bend after it, that lay a numbered reference mask over a predicted one.

    The fixed map may have wrong levels in part, lack discs, have thoracic ones or blobs, and show another width of the
    spine. Centroids of like levels give the start: robust fits, also with the levels shifted by one up or down, of
    which that one wins under which the blurred masks overlap best, levels in their place counting too. From it the
    blurred masks' mean squared difference is descended (SimpleITK, two resolutions); a descent that fails or ends worse
    than it began is dropped. With one or two levels in common only a translation is sought; with none, the centres of
    both maps are laid on each other first. Last, what is left between the discs and the fixed mask's components nearest
    to them gives the bend. The same input gives the same result, on any number of cores.

    If every level of the fixed map is off by the same step, so is the result: levels are believed before shapes.

    Args:
        moving: numbered reference, 1 = L5/S1 upward.
        fixed: predicted discs with predicted levels.

    Raises:
        ValueError: one of the maps is empty.
    """
    for name, labels in (("moving", moving), ("fixed", fixed)):
        if not labels.array.any():
            raise ValueError(
                f"the {name} label map must hold at least one disc, but it is empty; skip the registration"
            )
    source, target = _sides(moving, fixed)
    start = max(_starts(source.centroids_mm, target.centroids_mm), key=lambda matrix: _score(source, target, matrix))
    few = len(source.centroids_mm.keys() & target.centroids_mm.keys()) <= _FEW
    centre_mm = np.mean(list(target.centroids_mm.values()), axis=0)
    descended = refined(source.blurred, target.blurred, start, centre_mm, few)
    better = is_sane(descended) and _score(source, target, descended) > _score(source, target, start)
    matrix = descended if better else start
    overlap = _dice(source.mask, target.mask, fixed.grid, matrix)
    return Registration(matrix, overlap, bend_mm(source.centroids_mm, target.mask, matrix))


def moved_centroids(moving: LabelMap, registration: Registration) -> dict[int, NDArray[np.float64]]:
    """Centroid (3,) in RAS+ mm of each disc of the moving map where it lies in the fixed one, bend included.

    An empty map gives none.
    """
    straight = np.zeros(3)
    return {level: to_world_mm(registration.matrix, centroid) + registration.bend_mm.get(level, straight)
            for level, centroid in _centroids_mm(moving).items()}  # fmt: skip


def _sides(moving: LabelMap, fixed: LabelMap) -> tuple[_Side, _Side]:
    # Beyond its own discs the moving map is known to hold nothing; the fixed one may go on outside of its view.
    moving, fixed = _with_room(moving, beyond_view=True), _with_room(fixed, beyond_view=False)
    discs, others = _largest_components(moving), _largest_components(fixed)
    width_mm = min(_width_mm(discs), _width_mm(others))
    return _side(discs, _narrowed(moving, width_mm)), _side(others, _narrowed(fixed, width_mm))


def _side(discs: LabelMap, mask: LabelMap) -> _Side:
    grid = respaced(mask.grid, (_STEP_MM, _STEP_MM, _STEP_MM))
    coarse = resample(mask.array.astype(np.float32), mask.grid, grid, order=1)
    blurred = [ndimage.gaussian_filter(coarse, [sigma / step for step in grid.spacing_mm]) for sigma in _BLUR_MM]
    # Scaled to a peak of 1, so that the metric's gradient does not depend on how thin the discs are.
    images = tuple(image / max(image.max(), 1e-6) for image in blurred)
    return _Side(_centroids_mm(discs), mask, Blurred(grid, images))


def _with_room(labels: LabelMap, beyond_view: bool) -> LabelMap:
    """A label map cropped to its discs with room around; beyond the view zeros, in rows and columns only if asked."""
    inner, pads = [], []
    for axis, part in enumerate(ndimage.find_objects((labels.array > 0).astype(np.uint8))[0]):
        room, size = int(np.ceil(_ROOM_MM[axis] / labels.spacing_mm[axis])), labels.array.shape[axis]
        low, high = max(part.start - room, 0), min(part.stop + room, size)
        padded = axis == 0 or beyond_view  # a slab's slices are its own end, rows and columns are the view's
        inner.append(slice(low, high))
        pads.append((low - part.start + room, part.stop + room - high) if padded else (0, 0))
    outer = [slice(part.start - pad[0], part.stop + pad[1]) for part, pad in zip(inner, pads, strict=True)]
    return LabelMap(
        np.pad(labels.array[tuple(inner)], pads), cropped(labels.grid, (outer[0], outer[1], outer[2])).affine
    )


def _centroids_mm(labels: LabelMap) -> dict[int, NDArray[np.float64]]:
    return {found.number: np.array(found.centroid_mm) for found in component_list(labels.array, labels.grid)}


def _largest_components(labels: LabelMap) -> LabelMap:
    """Each level's largest component alone: voxels far off do not pull its centroid."""
    kept = np.zeros_like(labels.array)
    for level, box in enumerate(ndimage.find_objects(labels.array), start=1):
        if box is not None:
            components, _ = ndimage.label(labels.array[box] == level)
            kept[box][components == 1 + np.bincount(components.ravel())[1:].argmax()] = level
    return labels.with_array(kept)


def _width_mm(discs: LabelMap) -> float:
    """The median width of the discs from side to side."""
    boxes = [box for box in ndimage.find_objects(discs.array) if box is not None]
    return float(np.median([box[0].stop - box[0].start for box in boxes])) * discs.spacing_mm[0]


def _narrowed(labels: LabelMap, width_mm: float) -> LabelMap:
    """The binary mask of a label map, each component cut to a width from side to side about its centroid."""
    mask = np.zeros_like(labels.array)
    components, _ = ndimage.label(labels.array > 0)
    half = 0.5 * width_mm / labels.spacing_mm[0]
    for number, box in enumerate(ndimage.find_objects(components), start=1):
        one = components[box] == number
        d = np.arange(one.shape[0])
        middle = np.average(d, weights=one.sum(axis=(1, 2)))
        mask[box] |= one & (np.abs(d - middle) <= half)[:, None, None]
    return labels.with_array(mask)


def _starts(moving: Mapping[int, FloatArray], fixed: Mapping[int, FloatArray]) -> list[Matrix]:
    """Matrices worth a look, for centroids by level: translations, and the best fits for each shift of the levels."""
    if not moving.keys() & fixed.keys():
        return [translation(np.mean(list(fixed.values()), axis=0) - np.mean(list(moving.values()), axis=0))]
    starts = []
    for shift in (0, 1, -1):
        levels = [level for level in moving if level + shift in fixed]
        if not levels:
            continue
        source = np.array([moving[level] for level in levels])
        target = np.array([fixed[level + shift] for level in levels])
        starts.append(translation(np.median(target - source, axis=0)))
        if len(levels) > _FEW:
            starts += robust_fits(source, target)[:_FITS_PER_SHIFT]
    return starts


def _score(moving: _Side, fixed: _Side, matrix: Matrix) -> float:
    """Overlap of the blurred masks (a Dice of real values), and how well levels in common lie in their place."""
    image = fixed.blurred.images[0]
    step = np.linalg.inv(moving.blurred.grid.affine) @ np.linalg.inv(matrix) @ fixed.blurred.grid.affine
    moved = ndimage.affine_transform(moving.blurred.images[0], step[:3, :3], step[:3, 3], image.shape, order=1)
    overlap = 2 * float(np.minimum(image, moved).sum()) / float(image.sum() + moved.sum())
    levels = [level for level in moving.centroids_mm if level in fixed.centroids_mm]
    if not levels:
        return overlap
    source, target = (np.array([side.centroids_mm[level] for level in levels]) for side in (moving, fixed))
    away_mm = np.linalg.norm(to_world_mm(matrix, source) - target, axis=1)
    return overlap + _LEVEL_WEIGHT * float(np.maximum(0.0, 1 - away_mm / _DISC_STEP_MM).mean())


def _dice(moving: LabelMap, fixed: LabelMap, view: Grid, matrix: Matrix) -> float:
    """Dice of two masks in a field of view, by volume: the moving one's voxels are counted where they come to lie."""
    points = to_world_mm(matrix @ moving.affine, np.argwhere(moving.array).astype(float))
    inside, _ = _voxels(points, view)
    hit, index = _voxels(points, fixed.grid)
    voxel_mm3 = moving.grid.voxel_mm3 * float(np.linalg.det(matrix[:3, :3]))
    both_mm3 = voxel_mm3 * np.count_nonzero(fixed.array[tuple(index[hit].T)])
    total_mm3 = voxel_mm3 * np.count_nonzero(inside) + fixed.grid.voxel_mm3 * np.count_nonzero(fixed.array)
    return min(float(2 * both_mm3 / total_mm3), 1.0)


def _voxels(points_mm: FloatArray, grid: Grid) -> tuple[NDArray[np.bool_], NDArray[np.int_]]:
    """Which points (N, 3) lie in a grid's field of view (N,), and the voxels (N, 3) that they are nearest to."""
    index = np.rint(to_index(grid.affine, points_mm)).astype(int)
    return np.asarray(((index >= 0) & (index < grid.shape)).all(axis=1)), index
