"""How neighbouring vertebrae stand to each other: slip and angles; and how far a disc reaches behind both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.discs.disc_axes import DiscAxes, occupancy_at
from ivdjax.discs.vertebra import LATERAL_MM, STEP_MM, EndPlate, plate_of

_REACH_MM, _BEYOND_MM = 15.0, 1.0
"""A disc is followed this far behind the line between two corners, and this far above and below them."""
_BAND_MM = 3.0
"""The back of a disc is looked for in a band of this height, or half the gap if that is lower."""
_FACE_MM = np.array([0.5, 1.0, 1.5])
"""How far above its lower face the ends of a disc are looked for."""


def angle_deg(lower: NDArray[np.float64], upper: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """The angle between two anterior axes (3,) about a right axis; positive: open to the front (lordosis)."""
    return float(np.degrees(np.arctan2(np.cross(lower, upper) @ right, lower @ upper)))


def plate_angle_deg(lower: EndPlate, upper: EndPlate) -> float:
    """The angle between two end plates; positive: open to the front, as in lordosis."""
    right = lower.right + upper.right
    return angle_deg(lower.anterior, upper.anterior, right / np.linalg.norm(right))


def slip_mm(lower: EndPlate, upper: EndPlate) -> float:
    """How far the body above stands in front of the body below; negative: behind it (retrolisthesis).

    The way between the back corners on both sides of a disc, along the bisector of the two end plates: a wedge-shaped
    disc between bodies that are in line gives no slip.

    Args:
        lower: the upper end plate of the body below.
        upper: the lower end plate of the body above.
    """
    along = lower.anterior + upper.anterior
    return float((upper.back_mm - lower.back_mm) @ along / np.linalg.norm(along))


def overhang_mm(disc: NDArray[np.bool_], affine: NDArray[np.float64], lower: EndPlate, upper: EndPlate) -> float | None:
    """How far a disc reaches behind the line between the back corners of the end plates on both sides of it.

    Negative where it ends in front of that line. None where the disc is not seen between the corners.

    Args:
        disc: mask (D, H, W) of the disc alone.
        affine: of the mask.
        lower: the upper end plate of the body below.
        upper: the lower end plate of the body above.
    """
    up = upper.back_mm - lower.back_mm
    gap = float(np.linalg.norm(up))
    right = lower.right + upper.right
    right /= np.linalg.norm(right)
    up = up - (up @ right) * right
    if np.linalg.norm(up) < 1e-6:
        return None
    up /= np.linalg.norm(up)
    axes = DiscAxes((lower.back_mm + upper.back_mm) / 2, right, np.cross(up, right), up)
    along = np.arange(-_REACH_MM, _REACH_MM + STEP_MM / 2, STEP_MM / 2)
    rows = np.arange(-gap / 2 - _BEYOND_MM, gap / 2 + _BEYOND_MM + STEP_MM / 2, STEP_MM / 2)
    local = np.stack(np.meshgrid(LATERAL_MM, along, rows, indexing="ij"), axis=-1)
    section = occupancy_at(disc, affine, axes.world_mm(local)).mean(axis=0)
    band = max(1, round(min(_BAND_MM, gap / 2) / (STEP_MM / 2)))
    profile = ndimage.uniform_filter1d(section, band, axis=1, mode="nearest").max(axis=1)
    inside = np.flatnonzero(profile >= 0.5)
    if not len(inside) or inside[0] == 0:
        return None
    first = int(inside[0])
    share = (0.5 - profile[first - 1]) / (profile[first] - profile[first - 1])
    return -float(along[first - 1] + share * (along[first] - along[first - 1]))


def lower_face(disc: NDArray[np.bool_], affine: NDArray[np.float64], axes: DiscAxes) -> EndPlate | None:
    """The lower face of a disc in place of the end plate under it, of a vertebra that is not outlined (S1).

    Args:
        disc: mask (D, H, W) of the disc alone.
        affine: of the mask.
        axes: its axes.
    """
    anterior, superior = (np.arange(-reach, reach + STEP_MM, STEP_MM) for reach in (28.0, 12.0))
    local = np.stack(np.meshgrid(LATERAL_MM, anterior, superior, indexing="ij"), axis=-1)
    section = occupancy_at(disc, affine, axes.world_mm(local)).mean(axis=0)
    heights = section.sum(axis=1, dtype=float) * STEP_MM
    usual = float(np.median(heights[heights > 1.0])) if (heights > 1.0).any() else np.inf
    rows = np.flatnonzero(heights >= 0.5 * usual)
    if len(rows) * STEP_MM < 12.0:
        return None
    tenth = len(rows) // 8
    rows = rows[tenth : len(rows) - tenth]
    bottom = section[rows].astype(float) @ superior * STEP_MM / heights[rows] - heights[rows] / 2
    slope, offset = np.polyfit(anterior[rows], bottom, 1)
    middle = float(anterior[rows].mean())
    up = axes.superior - slope * axes.anterior
    up /= np.linalg.norm(up)
    origin = axes.world_mm(np.array([0.0, middle, offset + slope * middle]))
    return plate_of(disc, affine, DiscAxes(origin, axes.right, np.cross(up, axes.right), up), _FACE_MM)
