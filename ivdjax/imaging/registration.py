"""Registration of a numbered reference mask to a predicted one (paper, section 2.2, Fig. 4).

Discs repeat every 35 mm, so that a descent from afar ends one disc too high or too low. The start therefore comes from
numbered centroids, fitted so that some may be wrong, and only the last millimetres are left to the images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.imaging.components import component_list
from ivdjax.imaging.geometry import cropped, resample, respaced
from ivdjax.imaging.similarity_transforms import Matrix, is_sane, robust_fits, scale_and_rotation, translation
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
_ARM_MM = 80.0
"""From the middle of seven discs to their ends, about: how far a turn by 1 radian moves them."""
_GATE_MM = np.array([20.0, 28.0, 16.0])
"""Semi-axes in x, y and z of where a moved disc's counterpart is looked for: less than half a step up or down, and
farther across, where two spines differ by their bends."""
_PIECE_SHARE = 0.15
"""Components below this share of the median volume are no counterpart of a disc."""
_RIDGE = 0.2
_HUBER_MM = 4.0
_ROUNDS = 8


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
    grid: Grid
    blurred: tuple[NDArray[np.float32], ...]


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
    refined = _refine(source, target, start)
    better = is_sane(refined) and _score(source, target, refined) > _score(source, target, start)
    matrix = refined if better else start
    return Registration(matrix, _dice(source.mask, target.mask, fixed.grid, matrix), _bend_mm(source, target, matrix))


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
    discs, others = _largest_pieces(moving), _largest_pieces(fixed)
    width_mm = min(_width_mm(discs), _width_mm(others))
    return _side(discs, _narrowed(moving, width_mm)), _side(others, _narrowed(fixed, width_mm))


def _side(discs: LabelMap, mask: LabelMap) -> _Side:
    grid = respaced(mask.grid, (_STEP_MM, _STEP_MM, _STEP_MM))
    coarse = resample(mask.array.astype(np.float32), mask.grid, grid, order=1)
    blurred = [ndimage.gaussian_filter(coarse, [sigma / step for step in grid.spacing_mm]) for sigma in _BLUR_MM]
    # Scaled to a peak of 1, so that the metric's gradient does not depend on how thin the discs are.
    return _Side(_centroids_mm(discs), mask, grid, tuple(image / max(image.max(), 1e-6) for image in blurred))


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


def _largest_pieces(labels: LabelMap) -> LabelMap:
    """Each level's largest component alone: voxels far off do not pull its centroid."""
    kept = np.zeros_like(labels.array)
    for level, box in enumerate(ndimage.find_objects(labels.array), start=1):
        if box is not None:
            pieces, _ = ndimage.label(labels.array[box] == level)
            kept[box][pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()] = level
    return labels.with_array(kept)


def _width_mm(discs: LabelMap) -> float:
    """The median width of the discs from side to side."""
    boxes = [box for box in ndimage.find_objects(discs.array) if box is not None]
    return float(np.median([box[0].stop - box[0].start for box in boxes])) * discs.spacing_mm[0]


def _narrowed(labels: LabelMap, width_mm: float) -> LabelMap:
    """The binary mask of a label map, each component cut to a width from side to side about its centroid."""
    mask = np.zeros_like(labels.array)
    pieces, _ = ndimage.label(labels.array > 0)
    half = 0.5 * width_mm / labels.spacing_mm[0]
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        piece = pieces[box] == number
        d = np.arange(piece.shape[0])
        middle = np.average(d, weights=piece.sum(axis=(1, 2)))
        mask[box] |= piece & (np.abs(d - middle) <= half)[:, None, None]
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
    image = fixed.blurred[0]
    step = np.linalg.inv(moving.grid.affine) @ np.linalg.inv(matrix) @ fixed.grid.affine
    moved = ndimage.affine_transform(moving.blurred[0], step[:3, :3], step[:3, 3], image.shape, order=1)
    overlap = 2 * float(np.minimum(image, moved).sum()) / float(image.sum() + moved.sum())
    levels = [level for level in moving.centroids_mm if level in fixed.centroids_mm]
    if not levels:
        return overlap
    source, target = (np.array([side.centroids_mm[level] for level in levels]) for side in (moving, fixed))
    away_mm = np.linalg.norm(to_world_mm(matrix, source) - target, axis=1)
    return overlap + _LEVEL_WEIGHT * float(np.maximum(0.0, 1 - away_mm / _DISC_STEP_MM).mean())


def _refine(moving: _Side, fixed: _Side, start: Matrix) -> Matrix:
    """A start after a descent of the blurred masks' mean squared difference, coarse then fine."""
    import SimpleITK as sitk

    few = len(moving.centroids_mm.keys() & fixed.centroids_mm.keys()) <= _FEW
    centre = np.mean(list(fixed.centroids_mm.values()), axis=0)
    transform = _transform(np.linalg.inv(start), centre, few)
    for fixed_image, moving_image in zip(fixed.blurred, moving.blurred, strict=True):
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfWorkUnits(1)  # sums in one order: the same result on any number of cores
        method.SetMetricAsMeanSquares()
        method.SetMetricSamplingStrategy(method.NONE)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=2.0, minStep=0.05, numberOfIterations=60, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-8
        )
        if not few:  # turn, offset, scale
            method.SetOptimizerScales([_ARM_MM**2] * 3 + [1.0] * 3 + [_ARM_MM**2])
        method.SetInitialTransform(transform, inPlace=True)
        try:
            method.Execute(_image(fixed_image, fixed.grid), _image(moving_image, moving.grid))
        except RuntimeError:  # the images came to lie beside each other: the start is the better answer
            return start
    origin, *axes = (
        np.array(transform.TransformPoint(p)) for p in ((0.0, 0, 0), (1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0))
    )
    inverse = np.eye(4)
    inverse[:3, :3], inverse[:3, 3] = np.stack(axes, axis=1) - origin[:, None], origin
    return np.asarray(np.linalg.inv(inverse), dtype=np.float64)


def _transform(inverse: FloatArray, centre: FloatArray, few: bool) -> Any:
    """The SimpleITK transform from fixed to moving points that a matrix (4, 4) describes; a mere translation if few."""
    import SimpleITK as sitk

    if few:
        return sitk.TranslationTransform(3, inverse[:3, 3].tolist())
    scale, rotation = scale_and_rotation(inverse)
    turn = rotation.as_rotvec()
    angle = float(np.linalg.norm(turn))
    transform = sitk.Similarity3DTransform()
    transform.SetCenter(centre.tolist())
    transform.SetRotation((turn / angle if angle > 0 else np.array([0.0, 0.0, 1.0])).tolist(), angle)
    transform.SetScale(scale)
    transform.SetTranslation((to_world_mm(inverse, centre) - centre).tolist())
    return transform


def _image(values: NDArray[np.float32], grid: Grid) -> Any:
    """A SimpleITK image whose physical points are RAS+ mm; its index runs (w, h, d)."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(values)
    spacing = np.array(grid.spacing_mm)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetDirection((grid.affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    image.SetOrigin(grid.affine[:3, 3].tolist())
    return image


def _bend_mm(moving: _Side, fixed: _Side, matrix: Matrix) -> dict[int, NDArray[np.float64]]:
    """What is left between the moved discs and the fixed mask's components nearest to them, smooth in height.

    A cubic at most, with a small price on its size, so that a disc without a counterpart follows its neighbours; one
    far off what the others say weighs less (Huber). Levels do not count here: they may be wrong.
    """
    moved = to_world_mm(matrix, np.array(list(moving.centroids_mm.values())))
    places = _whole_pieces_mm(fixed.mask)
    if not len(places):
        return {}
    away = np.linalg.norm((places - moved[:, None]) / _GATE_MM, axis=2)
    matched = away.min(axis=1) <= 1
    degree = min(3, int(matched.sum()) - 1)
    if degree < _FEW:
        return {}
    rest_mm = (places[away.argmin(axis=1)] - moved)[matched]
    basis = legendre.legvander(2 * (moved[:, 2] - moved[:, 2].min()) / np.ptp(moved[:, 2]) - 1, degree)
    weight = np.ones(len(rest_mm))
    for _ in range(_ROUNDS):
        weighted = basis[matched].T * weight
        coefficients = np.linalg.solve(weighted @ basis[matched] + _RIDGE * np.eye(degree + 1), weighted @ rest_mm)
        off_mm = np.linalg.norm(rest_mm - basis[matched] @ coefficients, axis=1)
        weight = _HUBER_MM / np.maximum(off_mm, _HUBER_MM)
    return dict(zip(moving.centroids_mm, basis @ coefficients, strict=True))


def _whole_pieces_mm(mask: LabelMap) -> NDArray[np.float64]:
    """Centroids (N, 3) of a mask's components, less specks and those that the view cuts off in its rows or columns."""
    numbered, _ = ndimage.label(mask.array)
    pieces = component_list(numbered, mask.grid)
    if not pieces:
        return np.zeros((0, 3))
    smallest_mm3 = _PIECE_SHARE * float(np.median([piece.volume_mm3 for piece in pieces]))
    ends = [plane for axis in (1, 2) for plane in (numbered.take(0, axis), numbered.take(-1, axis))]
    cut = set(np.unique(np.concatenate([plane.ravel() for plane in ends])))
    return np.array([piece.centroid_mm for piece in pieces
                     if piece.volume_mm3 >= smallest_mm3 and piece.number not in cut])  # fmt: skip


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
