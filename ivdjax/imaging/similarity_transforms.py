"""Similarities between two spines: fitted to matched centroids of which some may be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ivdjax.volume import FloatArray, to_world_mm

Matrix = NDArray[np.float64]
"""(4, 4), from homogeneous RAS+ mm to RAS+ mm."""

INLIER_MM = 12.0
"""A third of a step between discs: a centroid so near to its counterpart's place is a match."""

_CLOUD_MM2 = 100.0
"""Variance of a disc's own voxels about its centroid along each axis."""
_SCALES = (0.75, 1.33)
_LARGEST_TURN_DEG = 35.0
"""The spines of two adults differ by less than this and these scales; a fit beyond them has matched wrong levels."""


def fit_similarity(source_mm: FloatArray, target_mm: FloatArray) -> Matrix:
    """The similarity nearest to matched points (N, 3) (Umeyama, 1991), each the centre of a cloud of like orientation.

    The clouds stand for discs: without their variance a spine, all but a straight line, would turn freely about
    itself, and two points would be laid on each other whatever their distance. One point gives a translation.
    """
    middle, place = source_mm.mean(axis=0), target_mm.mean(axis=0)
    covariance = (target_mm - place).T @ (source_mm - middle) / len(source_mm) + _CLOUD_MM2 * np.eye(3)
    u, stretch, v = np.linalg.svd(covariance)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ v))])
    variance = ((source_mm - middle) ** 2).sum() / len(source_mm) + 3 * _CLOUD_MM2
    matrix = np.eye(4)
    matrix[:3, :3] = (stretch * sign).sum() / variance * (u * sign) @ v
    matrix[:3, 3] = place - matrix[:3, :3] @ middle
    return matrix


def robust_fits(source_mm: FloatArray, target_mm: FloatArray) -> list[Matrix]:
    """Similarities that explain many of the matched points (N, 3), the best first; none if no sane one does.

    One is fitted to every two and three of the points and to all of them, and again to its inliers (exhaustively what
    RANSAC does by chance). The best has the smallest mean distance, an outlier counting for no more than `INLIER_MM`.
    """
    fits = [fit for fit in _fits(source_mm, target_mm) if is_sane(fit)]
    away = [np.linalg.norm(to_world_mm(fit, source_mm) - target_mm, axis=1) for fit in fits]
    order = np.argsort([np.minimum(distances, INLIER_MM).mean() for distances in away], kind="stable")
    return [fits[place] for place in order]


def translation(offset_mm: FloatArray) -> Matrix:
    """The matrix that moves points by an offset (3,)."""
    matrix = np.eye(4)
    matrix[:3, 3] = offset_mm
    return matrix


def scale_and_rotation(matrix: FloatArray) -> tuple[float, Rotation]:
    """The two parts of a similarity beside its translation."""
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    return scale, Rotation.from_matrix(matrix[:3, :3] / scale)


def is_sane(matrix: FloatArray) -> bool:
    """Whether a similarity may lead from one adult's spine to another's."""
    scale, rotation = scale_and_rotation(matrix)
    return _SCALES[0] <= scale <= _SCALES[1] and float(np.degrees(rotation.magnitude())) <= _LARGEST_TURN_DEG


def _fits(source_mm: FloatArray, target_mm: FloatArray) -> Iterator[Matrix]:
    places = range(len(source_mm))
    subsets = {subset for size in (2, 3, len(source_mm)) for subset in combinations(places, size)}
    for subset in sorted(subsets):
        chosen = list(subset)
        fit = fit_similarity(source_mm[chosen], target_mm[chosen])
        near = np.linalg.norm(to_world_mm(fit, source_mm) - target_mm, axis=1) <= INLIER_MM
        yield fit_similarity(source_mm[near], target_mm[near]) if near.sum() > 2 else fit
