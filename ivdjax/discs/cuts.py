"""Where the field of view cuts a disc: a disc that reaches a border of the grid may go on beyond it.

The sides are named after the canonical axes (right to left, top to bottom, front to back), whatever the grid's tilt.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIDES: tuple[str, ...] = ("left", "right", "front", "back", "top", "bottom")
"""Names of the borders of a grid, in the order in which they are told."""

_BORDERS = (("right", "left"), ("top", "bottom"), ("front", "back"))
"""The borders at the first and the last index of the axes D, H and W."""


def cut_sides(index: NDArray[np.intp], shape: tuple[int, ...]) -> tuple[str, ...]:
    """The borders of a grid (D, H, W) that voxels (N, 3) lie on, in the order of `SIDES`; none for no voxel."""
    if not len(index):
        return ()
    first, last = index.min(axis=0), index.max(axis=0)
    cut = set()
    for axis, (low, high) in enumerate(_BORDERS):
        cut |= {low} if first[axis] == 0 else set()
        cut |= {high} if last[axis] == shape[axis] - 1 else set()
    return tuple(side for side in SIDES if side in cut)


def on_plane_border(index: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which of the voxels (N, 3) lie on the front, back, top or bottom border of a grid (D, H, W)."""
    plane = index[:, 1:]
    return np.asarray(((plane == 0) | (plane == np.array(shape[1:]) - 1)).any(axis=1))
