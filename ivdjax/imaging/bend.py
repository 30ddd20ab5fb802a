"""The smooth bend that is left between the discs of two spines after a similarity has laid one on the other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.imaging.components import component_list
from ivdjax.imaging.similarity_transforms import Matrix
from ivdjax.volume import FloatArray, LabelMap, to_world_mm

_GATE_MM = np.array([20.0, 28.0, 16.0])
"""Semi-axes in x, y and z of where a moved disc's counterpart is looked for: less than half a step up or down, and
farther across, where two spines differ by their bends."""
_SMALLEST_SHARE = 0.15
"""Components below this share of the median volume are no counterpart of a disc."""
_RIDGE = 0.2
_HUBER_MM = 4.0
_ROUNDS = 8
_LEAST_DEGREE = 2
"""Of the bend's polynomial in height: with fewer discs matched there is none."""


def bend_mm(centroids_mm: Mapping[int, FloatArray], fixed: LabelMap, matrix: Matrix) -> dict[int, NDArray[np.float64]]:
    """What is left between the moved discs and the fixed mask's components nearest to them, smooth in height.

    A cubic at most, with a small price on its size, so that a disc without a counterpart follows its neighbours; one
    far off what the others say weighs less (Huber). Levels do not count here: they may be wrong.

    Args:
        centroids_mm: (3,) of each moving disc by its level, in RAS+ mm before the matrix.
        fixed: binary mask of the fixed discs.
        matrix: (4, 4) that moves the discs.

    Returns:
        Displacement (3,) of each level after the matrix; empty where too few discs have a counterpart.
    """
    moved = to_world_mm(matrix, np.array(list(centroids_mm.values())))
    places = _whole_components_mm(fixed)
    if not len(places):
        return {}
    away = np.linalg.norm((places - moved[:, None]) / _GATE_MM, axis=2)
    matched = away.min(axis=1) <= 1
    degree = min(3, int(matched.sum()) - 1)
    if degree < _LEAST_DEGREE:
        return {}
    rest_mm = (places[away.argmin(axis=1)] - moved)[matched]
    basis = legendre.legvander(2 * (moved[:, 2] - moved[:, 2].min()) / np.ptp(moved[:, 2]) - 1, degree)
    weight = np.ones(len(rest_mm))
    for _ in range(_ROUNDS):
        weighted = basis[matched].T * weight
        coefficients = np.linalg.solve(weighted @ basis[matched] + _RIDGE * np.eye(degree + 1), weighted @ rest_mm)
        off_mm = np.linalg.norm(rest_mm - basis[matched] @ coefficients, axis=1)
        weight = _HUBER_MM / np.maximum(off_mm, _HUBER_MM)
    return dict(zip(centroids_mm, basis @ coefficients, strict=True))


def _whole_components_mm(mask: LabelMap) -> NDArray[np.float64]:
    """Centroids (N, 3) of a mask's components, less specks and those that the view cuts off in its rows or columns."""
    numbered, _ = ndimage.label(mask.array)
    components = component_list(numbered, mask.grid)
    if not components:
        return np.zeros((0, 3))
    smallest_mm3 = _SMALLEST_SHARE * float(np.median([one.volume_mm3 for one in components]))
    ends = [plane for axis in (1, 2) for plane in (numbered.take(0, axis), numbered.take(-1, axis))]
    cut = set(np.unique(np.concatenate([plane.ravel() for plane in ends])))
    return np.array([one.centroid_mm for one in components
                     if one.volume_mm3 >= smallest_mm3 and one.number not in cut])  # fmt: skip
