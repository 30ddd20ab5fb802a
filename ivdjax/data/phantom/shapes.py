"""Smooth solids as signed distances: negative inside, in mm, near enough to the true distance at the surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivdjax.volume import FloatArray

Array = FloatArray


@dataclass(frozen=True, eq=False)
class Frame:
    """A place and a direction: `centre_mm` (3,) and the unit vectors to the right, front and top as rows of `axes`."""

    centre_mm: NDArray[np.float64]
    axes: NDArray[np.float64]

    def local(self, points: Array) -> Array:
        """Coordinates (3, ...) in this frame of points (3, ...), both in mm."""
        axes, offset = self.axes.astype(np.float32), (self.axes @ self.centre_mm).astype(np.float32)
        local = np.empty_like(points)
        for i, (right, front, top) in enumerate(axes):  # by hand: a matrix product's last bit depends on the threads
            local[i] = right * points[0] + front * points[1] + top * points[2] - offset[i]
        return local

    def world(self, local_mm: tuple[float, float, float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """The point (3,) in mm that has the coordinates `local_mm` here."""
        return self.centre_mm + np.asarray(local_mm, dtype=float) @ self.axes


def rotation(tilt_deg: float, lateral_deg: float = 0.0, axial_deg: float = 0.0) -> NDArray[np.float64]:
    """Axes (3, 3) turned by `tilt_deg` (front edge up), `lateral_deg` (right edge down) and `axial_deg` (about z).

    The rows are the unit vectors to the right, front and top; without a turn this is the identity.
    """
    t, f, a = np.radians([tilt_deg, lateral_deg, axial_deg])
    sagittal = np.array([[1, 0, 0], [0, np.cos(t), np.sin(t)], [0, -np.sin(t), np.cos(t)]])
    coronal = np.array([[np.cos(f), 0, -np.sin(f)], [0, 1, 0], [np.sin(f), 0, np.cos(f)]])
    axial = np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])
    return sagittal @ coronal @ axial


def superellipse(x: Array, y: Array, half_x: float | Array, half_y: float | Array, power: float) -> Array:
    """Distance to |x / half_x|^p + |y / half_y|^p = 1, first order: (g - 1) / |grad g| of g = (..)^(1/p)."""
    u, v = np.maximum(np.abs(x) / half_x, 1e-3), np.maximum(np.abs(y) / half_y, 1e-3)
    if power == 2:
        u_power, v_power = u * u, v * v
        g = np.sqrt(u_power + v_power)
    else:
        u_power, v_power = u**power, v**power
        g = (u_power + v_power) ** np.float32(1 / power)
    # grad g = g / (u^p + v^p) * (u^(p-1) / half_x, v^(p-1) / half_y)
    a, b = u_power / (u * half_x), v_power / (v * half_y)
    slope = g / (u_power + v_power) * np.sqrt(a * a + b * b)
    return (g - 1) / np.maximum(slope, 1e-4)


def ellipsoid(local: Array, half_mm: tuple[float, float, float]) -> Array:
    """First-order distance to an ellipsoid of half axes `half_mm` about the origin; points (3, ...)."""
    u = [local[i] / half_mm[i] for i in range(3)]
    g = np.maximum(np.sqrt(u[0] ** 2 + u[1] ** 2 + u[2] ** 2), 0.05)
    slope = np.sqrt(sum((u[i] / half_mm[i]) ** 2 for i in range(3))) / g
    return (g - 1) / np.maximum(slope, 1e-4)


def capsule(local: Array, start: tuple[float, float, float], end: tuple[float, float, float],
            radius_mm: float, stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Array:  # fmt: skip
    """Distance to a rod between two points; `stretch` scales the axes (2 along z: a rod twice as high as wide)."""
    scale = np.asarray(stretch, dtype=np.float32)
    a, b = np.asarray(start, dtype=np.float32) / scale, np.asarray(end, dtype=np.float32) / scale
    shift = tuple(local[i] / scale[i] - a[i] for i in range(3))
    along = b - a
    t = np.clip(sum(shift[i] * along[i] for i in range(3)) / max(float(along @ along), 1e-6), 0, 1)
    return np.sqrt(sum((shift[i] - t * along[i]) ** 2 for i in range(3))) - np.float32(radius_mm)


def intersection(a: Array, b: Array, radius_mm: float | Array) -> Array:
    """Distance to what lies in both solids, the edge between them rounded by `radius_mm`."""
    p, q = a + radius_mm, b + radius_mm
    return np.minimum(np.maximum(p, q), 0) + np.hypot(np.maximum(p, 0), np.maximum(q, 0)) - radius_mm


def union(a: Array, b: Array, radius_mm: float) -> Array:
    """Distance to what lies in either solid, the groove between them filled by `radius_mm`."""
    return -intersection(-a, -b, radius_mm)


def occupancy(distance: Array, edge_mm: float) -> Array:
    """Share (0 to 1) of a voxel of width `edge_mm` that lies inside, from the signed distance at its centre."""
    return np.clip(np.float32(0.5) - distance / np.float32(edge_mm), 0, 1)
