"""Axis orders, grids and resampling: everything here follows from affines alone.

Canonical (D, H, W) arrays have the axis codes (L, I, P): D rises towards the left, H runs from superior to inferior,
W from anterior to posterior. Oblique axes keep their own directions and only take the nearest of these names.
"""

from __future__ import annotations

from itertools import permutations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.volume import FloatArray, Grid, to_index, to_world_mm

CANONICAL_DIRECTIONS = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]])
"""Unit vectors in RAS of the canonical axes D (to the left), H (to inferior) and W (to posterior), one a row."""

_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))
_SLACK_VOXELS = 1e-3


def canonical_axes(affine: FloatArray) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which file axis becomes D, H and W, and whether each is reversed, for a (4, 4) affine to RAS mm.

    The assignment with the largest sum of absolute direction cosines wins, so that oblique and sheared grids take the
    nearest of the 48 axis orders.
    """
    matrix = np.asarray(affine, dtype=float)[:3, :3]
    cosines = CANONICAL_DIRECTIONS @ (matrix / np.linalg.norm(matrix, axis=0))
    axes = max(permutations(range(3)), key=lambda order: sum(abs(cosines[i, axis]) for i, axis in enumerate(order)))
    flips = [bool(cosines[i, axis] < 0) for i, axis in enumerate(axes)]
    return (axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2])


def obliqueness_deg(affine: FloatArray) -> float:
    """The largest angle in degrees between an axis of a (4, 4) affine and the patient axis that it is named after."""
    matrix = np.asarray(affine, dtype=float)[:3, :3]
    cosines = np.abs(CANONICAL_DIRECTIONS @ (matrix / np.linalg.norm(matrix, axis=0)))
    axes, _ = canonical_axes(affine)
    smallest = min(cosines[i, axis] for i, axis in enumerate(axes))
    return float(np.degrees(np.arccos(np.clip(smallest, 0.0, 1.0))))


def canonical_grid(native: Grid) -> Grid:
    """The canonical (D, H, W) grid over the same voxels as a file's own grid."""
    axes, flips = canonical_axes(native.affine)
    step = np.zeros((4, 4))
    step[3, 3] = 1.0
    for i, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        step[axis, i] = -1.0 if flip else 1.0
        step[axis, 3] = native.shape[axis] - 1 if flip else 0.0
    d, h, w = (native.shape[axis] for axis in axes)
    return Grid((d, h, w), np.asarray(native.affine, dtype=float) @ step)


def to_canonical(array: NDArray, native: Grid) -> tuple[NDArray, NDArray[np.float64]]:
    """A file's array on its `native` grid as a canonical (D, H, W) array, and the affine of that canonical grid.

    Raises:
        ValueError: the array's shape is not that of the grid.
    """
    if array.shape != native.shape:
        raise ValueError(f"the array's shape {array.shape} must be that of its grid, {native.shape}")
    axes, flips = canonical_axes(native.affine)
    turned = np.transpose(array, axes)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return np.ascontiguousarray(turned), canonical_grid(native).affine


def from_canonical(array: NDArray, native: Grid) -> NDArray:
    """The exact inverse of `to_canonical`: a canonical (D, H, W) array in the axis order of the `native` grid.

    Raises:
        ValueError: the array's shape is not that of the native grid's canonical form.
    """
    expected = canonical_grid(native).shape
    if array.shape != expected:
        raise ValueError(f"the array's shape {array.shape} must be {expected} to fit the file's grid {native.shape}")
    axes, flips = canonical_axes(native.affine)
    unflipped = array[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    return np.ascontiguousarray(np.transpose(unflipped, np.argsort(axes)))


def respaced(grid: Grid, spacing_mm: tuple[float | None, float | None, float | None]) -> Grid:
    """A grid over the same field of view (outer faces of the outer voxels) with about another spacing.

    Each axis gets the whole number of voxels that comes nearest, so that its spacing differs from the one asked for by
    at most half a voxel over the whole axis; None leaves an axis as it is.
    """
    matrix, shape = np.array(grid.affine[:3, :3], dtype=float), list(grid.shape)
    for axis, wanted in enumerate(spacing_mm):
        if wanted is None:
            continue
        extent = grid.shape[axis] * grid.spacing_mm[axis]
        shape[axis] = max(1, round(extent / wanted))
        matrix[:, axis] *= grid.shape[axis] / shape[axis]
    first_face = to_world_mm(grid.affine, np.full(3, -0.5))
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = first_face + matrix @ np.full(3, 0.5)
    return Grid((shape[0], shape[1], shape[2]), affine)


def cropped(grid: Grid, box: tuple[slice, slice, slice]) -> Grid:
    """The grid of `array[box]` for an array on `grid`; the slices must have plain starts and stops."""
    affine = np.array(grid.affine, dtype=float)
    affine[:3, 3] = to_world_mm(affine, np.array([part.start for part in box], dtype=float))
    d, h, w = (part.stop - part.start for part in box)
    return Grid((d, h, w), affine)


def corners_mm(grid: Grid) -> NDArray[np.float64]:
    """World positions (8, 3) in RAS mm of the corners of the field of view: outer faces, not voxel centres."""
    ends = [(-0.5, n - 0.5) for n in grid.shape]
    index = np.array([[d, h, w] for d in ends[0] for h in ends[1] for w in ends[2]])
    return np.asarray(to_world_mm(grid.affine, index), dtype=np.float64)


def view_distance_mm(one: Grid, other: Grid) -> float:
    """The largest distance in mm between like corners of two fields of view; the shapes may differ."""
    return float(np.linalg.norm(corners_mm(one) - corners_mm(other), axis=1).max())


def covering_box(grid: Grid, points_mm: FloatArray, margin: int = 1) -> tuple[slice, slice, slice]:
    """The smallest box of `grid`'s voxels that holds world points (N, 3), widened by `margin` voxels and clipped.

    Points outside the grid give an empty or clipped box.
    """
    index = to_index(grid.affine, points_mm)
    low = np.clip(np.floor(index.min(axis=0)).astype(int) - margin, 0, grid.shape)
    high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1 + margin, low, grid.shape)
    d, h, w = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return d, h, w


def resample(array: NDArray, source: Grid, target: Grid, order: Literal[0, 1], outside: float = 0.0) -> NDArray:
    """Values of an array (D, H, W) or (C, D, H, W) on `source` at the voxels of `target`.

    With order 1 (linear) the values come back as float32, and axes that get coarser are first smoothed by a Gaussian
    that takes the resolution from the source's to the target's voxel (variance (f^2 - 1) / (8 ln 2) source voxels for
    a factor f; Cardoso et al., MICCAI 2015). With order 0 (nearest) the type stays. Voxels whose centre lies outside
    the source's field of view get `outside`; within its outer half voxel the edge is carried on.

    Raises:
        ValueError: the order is neither 0 nor 1, or the array does not fit the source grid.
    """
    if order not in (0, 1):
        raise ValueError(f"order must be 0 (nearest) or 1 (linear), not {order}")
    if array.shape[-3:] != source.shape or array.ndim not in (3, 4):
        raise ValueError(f"an array of shape {array.shape} does not lie on a grid of shape {source.shape}")
    if array.ndim == 4:
        return np.stack([resample(channel, source, target, order, outside) for channel in array])
    values = array.astype(np.float32) if order == 1 else array
    if source.matches(target, tolerance_mm=1e-4):
        return values.copy() if values is array else values
    step = np.linalg.inv(np.asarray(source.affine, dtype=float)) @ np.asarray(target.affine, dtype=float)
    matrix, offset = step[:3, :3], step[:3, 3]
    if order == 1:
        values = _smoothed(values, np.linalg.norm(matrix, axis=1))
    straight = np.allclose(matrix, np.diag(np.diag(matrix)), atol=1e-9)
    # A one-dimensional matrix takes SciPy's separable path, several times faster than the general one.
    result: NDArray = ndimage.affine_transform(
        values, np.diag(matrix) if straight else matrix, offset, target.shape, order=order, mode="nearest"
    )
    beyond = _beyond(matrix, offset, source.shape, target.shape)
    if beyond is not None:
        result[beyond] = outside
    return result


def _smoothed(values: NDArray, factors: NDArray[np.float64]) -> NDArray:
    sigma = np.sqrt(np.maximum(factors**2 - 1.0, 0.0)) / _FWHM
    sigma[sigma < 0.1] = 0.0
    return ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=3.0) if sigma.any() else values


def _beyond(
    matrix: NDArray[np.float64], offset: NDArray[np.float64], source: tuple[int, ...], target: tuple[int, ...]
) -> NDArray[np.bool_] | None:
    """Which target voxels lie outside the source's field of view; None if none does."""
    d, h, w = (np.arange(n, dtype=float) for n in target)
    outside: NDArray[np.bool_] | None = None
    for axis, size in enumerate(source):
        low, high = -0.5 - _SLACK_VOXELS, size - 0.5 + _SLACK_VOXELS
        # A linear function takes its extremes at the corners, so most grids need no voxel-wise look.
        ends = [offset[axis], *(matrix[axis] * (np.array(target) - 1))]
        least = ends[0] + sum(min(0.0, e) for e in ends[1:])
        most = ends[0] + sum(max(0.0, e) for e in ends[1:])
        if least >= low and most <= high:
            continue
        index = (matrix[axis, 0] * d + offset[axis])[:, None, None] + (matrix[axis, 1] * h)[:, None]
        index = index + matrix[axis, 2] * w
        found = (index < low) | (index > high)
        outside = found if outside is None else outside | found
    return outside
