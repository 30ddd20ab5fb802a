"""Bones that settle the count of discs, by geometry from the outlined ones: the top of the sacrum, and the body of L5.

The sacrum is not outlined in the references of patients. What lies right below L5/S1 is bone of S1 all the same, and
what lies between L5/S1 and L4/5 is L5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivdjax.discs.cuts import cut_sides
from ivdjax.discs.disc_axes import DiscAxes, disc_points_mm, fit_axes
from ivdjax.volume import Grid, to_world_mm

S1_HEIGHT_MM = 25.0
"""How far the block that stands for S1 reaches below the disc, along the disc's normal."""

_SLACK_MM = 2.0
"""How much deeper than its discs the body of L5 may be."""


def s1_block(labels: NDArray[np.uint8], grid: Grid) -> NDArray[np.bool_]:
    """Voxels (D, H, W) of the block below L5/S1: as deep and as wide as that disc, and 25 mm high along its normal.

    Where the disc reaches the first or the last slice, the block goes on to it. Empty without L5/S1.

    Args:
        labels: numbered discs (D, H, W).
        grid: of the labels.
    """
    disc = _outline(labels == 1, grid)
    if disc is None:
        return np.zeros(grid.shape, bool)
    own = disc.own_mm(grid)
    below = (own[..., 2] < 0) & (own[..., 2] >= -S1_HEIGHT_MM - disc.half_mm[2])
    return below & disc.beside(own, 0.0) & (labels == 0)


def l5_body(labels: NDArray[np.uint8], grid: Grid) -> NDArray[np.bool_]:
    """Voxels (D, H, W) between L5/S1 and L4/5, within the width and depth of both; empty unless both are there.

    Args:
        labels: numbered discs (D, H, W).
        grid: of the labels.
    """
    lower, upper = _outline(labels == 1, grid), _outline(labels == 2, grid)
    if lower is None or upper is None:
        return np.zeros(grid.shape, bool)
    above, below = lower.own_mm(grid), upper.own_mm(grid)
    between = (above[..., 2] > 0) & (below[..., 2] < 0)
    return between & lower.beside(above, _SLACK_MM) & upper.beside(below, _SLACK_MM) & (labels == 0)


@dataclass(frozen=True, eq=False)
class _Outline:
    """A disc's axes, and half of its size along them in mm; without end from side to side where it is cut there."""

    axes: DiscAxes
    half_mm: tuple[float, float, float]

    def own_mm(self, grid: Grid) -> NDArray[np.float64]:
        """Coordinates (D, H, W, 3) of a grid's voxels along the disc's axes."""
        index = np.moveaxis(np.indices(grid.shape), 0, -1).astype(float)
        return self.axes.project_mm(to_world_mm(grid.affine, index))

    def beside(self, own_mm: NDArray[np.float64], slack_mm: float) -> NDArray[np.bool_]:
        """Which voxels lie above or below the disc and not to its sides, in front or behind."""
        right, anterior, _ = self.half_mm
        return (np.abs(own_mm[..., 0]) <= right) & (np.abs(own_mm[..., 1]) <= anterior + slack_mm)


def _outline(mask: NDArray[np.bool_], grid: Grid) -> _Outline | None:
    if not mask.any():
        return None
    cut = bool({"left", "right"} & set(cut_sides(np.argwhere(mask), mask.shape)))
    points = disc_points_mm(mask, grid.affine)
    axes = fit_axes(points, grid.affine, whole=not cut)
    right, anterior, superior = np.percentile(np.abs(axes.project_mm(points)), 98, axis=0)
    return _Outline(axes, (np.inf if cut else float(right), float(anterior), float(superior)))
