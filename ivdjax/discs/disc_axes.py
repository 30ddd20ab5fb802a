"""A disc's own axes in world space, and its occupancy sampled along them.

A disc is flat and tilted against the scanner, so heights and widths are read along its own right, anterior and superior
axes. They come from the principal axes of its voxels, guided by the world's axes: which axis is which is anatomy, and
a disc that the field of view cuts at the sides is no longer widest from side to side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.volume import to_index, to_world_mm

_RIGHT = np.array([1.0, 0.0, 0.0])
_STEEPEST_DEG = 70.0
"""A steeper long axis than this is no disc's; the fragment is measured along the world's axes instead."""
_LARGEST_TURN_DEG = 30.0
"""Largest angle between the disc's right axis and the world's that is believed."""
_NARROWEST_MM = 5.0
"""Under this width a slope from side to side cannot be told from the steps between slices."""


@dataclass(frozen=True, eq=False)
class DiscAxes:
    """Right-handed unit axes (3,) of one disc in RAS+ mm about its centroid: right, anterior, superior."""

    centre_mm: NDArray[np.float64]
    right: NDArray[np.float64]
    anterior: NDArray[np.float64]
    superior: NDArray[np.float64]

    @property
    def tilt_deg(self) -> float:
        """Angle of the disc's long axis in the sagittal plane; negative: the front edge is lower than the back edge."""
        return float(np.degrees(np.arctan2(self.anterior[2], self.anterior[1])))

    def project_mm(self, world_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        """Coordinates (..., 3) along right, anterior and superior of RAS+ mm points (..., 3)."""
        return np.asarray((world_mm - self.centre_mm) @ np.stack([self.right, self.anterior, self.superior], axis=1))

    def world_mm(self, local_mm: NDArray[np.floating]) -> NDArray[np.float64]:
        """RAS+ mm (..., 3) of coordinates (..., 3) along right, anterior and superior."""
        return np.asarray(self.centre_mm + local_mm @ np.stack([self.right, self.anterior, self.superior]))


def disc_points_mm(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """World RAS+ mm (N, 3) of the voxel centres of a mask (D, H, W); (0, 3) for an empty one."""
    return np.asarray(to_world_mm(affine, np.argwhere(mask).astype(float)), dtype=float)


def fit_axes(points_mm: NDArray[np.float64], affine: NDArray[np.float64], whole: bool) -> DiscAxes:
    """The axes of a disc whose voxel centres are `points_mm` (N, 3).

    Args:
        points_mm: voxel centres in RAS+ mm.
        affine: of the voxels; their own extent counts, so that a disc of one slice has axes too.
        whole: whether all of the disc lies in view from side to side. If so, its principal axes are taken (thinnest:
            superior); if not, the long axis in the sagittal plane and the slope from side to side.

    Raises:
        ValueError: there is no point.
    """
    if not len(points_mm):
        raise ValueError("a disc needs at least one voxel; this mask is empty")
    centre = points_mm.mean(axis=0)
    offsets = points_mm - centre
    steps = np.asarray(affine, dtype=float)[:3, :3]
    # A voxel is a parallelepiped and not a point: a uniform one of edge s has variance s^2 / 12.
    covariance = offsets.T @ offsets / len(offsets) + steps @ steps.T / 12
    axes = _principal_axes(covariance) if whole else None
    right, anterior = axes if axes is not None else _guided_axes(covariance, float(np.ptp(points_mm[:, 0])))
    return DiscAxes(centre, right, anterior, np.cross(right, anterior))


def sample_occupancy(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], axes: DiscAxes,
    right_mm: NDArray[np.float64], anterior_mm: NDArray[np.float64], superior_mm: NDArray[np.float64],
) -> NDArray[np.float32]:  # fmt: skip
    """Share of disc, 0 to 1, (R, A, S) at positions along a disc's axes, interpolated linearly between voxel centres.

    Outside the mask's first and last sagittal slice the disc goes on as it meets them: a field of view that cuts a
    disc at its side says nothing of its height there. Beyond the other borders there is no disc.
    """
    grid = np.stack(np.meshgrid(right_mm, anterior_mm, superior_mm, indexing="ij"), axis=-1)
    return occupancy_at(mask, affine, axes.world_mm(grid))


def occupancy_at(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], points_mm: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Share of a mask (D, H, W), 0 to 1, at world RAS+ mm points (..., 3), as `sample_occupancy` has it."""
    index = np.moveaxis(to_index(affine, points_mm), -1, 0)
    index[0] = np.clip(index[0], 0, mask.shape[0] - 1)
    if not index[0].size:
        return np.zeros(index.shape[1:], np.float32)
    # Only what the points touch becomes float: they are few, and a mask may be of a whole body.
    axes = tuple(range(1, index.ndim))
    low = np.clip(np.floor(index.min(axis=axes)).astype(int) - 1, 0, mask.shape)
    high = np.clip(np.ceil(index.max(axis=axes)).astype(int) + 2, low, mask.shape)
    if (low == high).any():
        return np.zeros(index.shape[1:], np.float32)
    part = mask[low[0] : high[0], low[1] : high[1], low[2] : high[2]].astype(np.float32)
    index -= low.reshape(3, *(1,) * len(axes))
    return np.asarray(ndimage.map_coordinates(part, index, order=1, mode="grid-constant", cval=0.0))


def _principal_axes(covariance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Right and anterior axes of a whole disc: thinnest axis superior; None if that axis lies too flat to be it."""
    variances, vectors = np.linalg.eigh(covariance)
    superior = vectors[:, 0] * np.sign(vectors[2, 0] or 1.0)
    if superior[2] < np.cos(np.radians(_STEEPEST_DEG)):
        return None
    right = vectors[:, 2] * np.sign(vectors[0, 2] or 1.0)
    # A disc nearly as deep as it is wide has no widest direction to speak of: then the patient lies straight.
    if variances[2] < 1.2 * variances[1] or right[0] < np.cos(np.radians(_LARGEST_TURN_DEG)):
        right = _RIGHT - (_RIGHT @ superior) * superior
        right /= np.linalg.norm(right)
    return right, np.cross(superior, right)


def _guided_axes(covariance: NDArray[np.float64], width_mm: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right and anterior axes of a disc cut at its sides.

    In the sagittal plane a disc is always longest from front to back. From side to side, a slab cut out of a tilted
    disc is a sheared block, not a turned one: the slope is a regression there and not a principal axis.
    """
    _, vectors = np.linalg.eigh(covariance[1:, 1:])
    y, z = vectors[:, 1] * np.sign(vectors[0, 1] or 1.0)
    if abs(np.degrees(np.arctan2(z, y))) > _STEEPEST_DEG:
        y, z = 1.0, 0.0
    anterior = np.array([0.0, y, z])
    superior = np.array([0.0, -z, y])
    limit = np.tan(np.radians(_LARGEST_TURN_DEG))
    slope = float(np.clip(_RIGHT @ covariance @ superior / covariance[0, 0], -limit, limit))
    right = _RIGHT + (slope if width_mm >= _NARROWEST_MM else 0.0) * superior
    return right / np.linalg.norm(right), anterior
