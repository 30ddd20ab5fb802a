"""What the image shows just above and below each candidate: a disc that was missed, S1, L5.

A spine whose lowest disc is L4/5 must show something where L5/S1 should be, and L5/S1 has the sacrum below it. Windows
are laid along the spine's centre line from a candidate's centroid, and what the networks say there is averaged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.discs.centre_line import CentreLine
from ivdjax.discs.evidence import L5_CLASS, S1_CLASS, Evidence
from ivdjax.volume import Grid, to_index

_STEP_BELOW_MM = np.arange(-48.0, -17.0, 3.0)
"""Where the next disc below a disc lies along the spine, tilted as it may be."""
_REGION_BELOW_MM = np.arange(-45.0, -29.0, 3.0)
"""The spine region, which lies 16 mm round the discs, reaches here where it holds a disc below this one."""
_BESIDE_MM = np.arange(7.0, 17.0, 3.0)
"""The half of a vertebral body that lies next to a disc."""
_ACROSS_MM = np.array([-8.0, 0.0, 8.0])


@dataclass(frozen=True)
class Surroundings:
    """What is seen beyond one candidate, each figure 0 to 1; None where no network says it.

    Attributes:
        in_view: share of the place of the next disc below that lies inside the image.
        faint_below: probability of disc there, along a band from front to back.
        level_below: what the localization network says of any disc there.
        region_below: share of it that is spine region.
        s1_below, s1_above: how much of the half body below, or above, is S1.
        l5_below, l5_above: how much of it is L5.
    """

    in_view: float
    faint_below: float
    level_below: float | None = None
    region_below: float | None = None
    s1_below: float | None = None
    s1_above: float | None = None
    l5_below: float | None = None
    l5_above: float | None = None

    def without_levels(self) -> Surroundings:
        """The same without what the localization network says."""
        return Surroundings(self.in_view, self.faint_below, region_below=self.region_below)


def surroundings(
    centroids_mm: NDArray[np.float64], line: CentreLine, evidence: Evidence, region: bool = True, levels: bool = True
) -> list[Surroundings]:
    """What is seen beyond each candidate.

    Args:
        centroids_mm: of the candidates (N, 3), RAS+.
        line: the spine's centre line.
        evidence: of the case.
        region: whether the spine region is taken into account.
        levels: whether the localization network has one.
    """
    found = []
    for centre, up in zip(centroids_mm, line.direction(centroids_mm[:, 2]), strict=True):
        below = _window(centre, up, _STEP_BELOW_MM, 16.0)
        around = Surroundings(_in_view(below, evidence.grid), _banded(evidence.probability, evidence.grid, below))
        if region and evidence.region is not None:
            beyond = _window(centre, up, _REGION_BELOW_MM, 12.0)
            around = replace(around, region_below=float(_sampled(evidence.region, evidence.grid, beyond, 0).mean()))
        if levels and evidence.level_probability is not None and evidence.level_grid is not None:
            around = replace(around, **_levels(evidence.level_probability, evidence.level_grid, centre, up, below))
        found.append(around)
    return found


def _levels(
    classes: NDArray[np.float32], grid: Grid, centre: NDArray[np.float64], up: NDArray[np.float64],
    below: NDArray[np.float64],
) -> dict[str, float]:  # fmt: skip
    found = {"level_below": _banded(classes[1:S1_CLASS].sum(axis=0), grid, below)}
    if len(classes) <= L5_CLASS:
        return found
    for side, sign in (("below", -1.0), ("above", 1.0)):
        beside = _window(centre, up, sign * _BESIDE_MM, 8.0)
        for name, number in (("s1", S1_CLASS), ("l5", L5_CLASS)):
            found[f"{name}_{side}"] = float(np.clip(_sampled(classes[number], grid, beside, 1).mean(), 0.0, 1.0))
    return found


def _window(
    centre: NDArray[np.float64], up: NDArray[np.float64], along_mm: NDArray[np.float64], reach_mm: float
) -> NDArray[np.float64]:
    """Points (T, P, 3) at distances along a direction, P of them across: front to back and side to side."""
    front = np.array([0.0, 1.0, 0.0]) - up[1] * up
    front /= np.linalg.norm(front)
    side = np.cross(front, up)
    depths = np.arange(-reach_mm, reach_mm + 1, 4.0)
    across = (depths[:, None, None] * front + _ACROSS_MM[None, :, None] * side).reshape(-1, 3)
    return np.asarray(centre + along_mm[:, None, None] * up + across)


def _in_view(points: NDArray[np.float64], grid: Grid) -> float:
    index = to_index(grid.affine, points.reshape(-1, 3))[:, 1:]  # a slab is narrow, and says as much
    return float(((index >= 0) & (index <= np.array(grid.shape[1:]) - 1)).all(axis=1).mean())


def _banded(values: NDArray, grid: Grid, points: NDArray[np.float64]) -> float:
    """Mean over the columns of a window of the largest value along the spine: high where a band crosses it."""
    return float(np.clip(_sampled(values, grid, points, 1).max(axis=0).mean(), 0.0, 1.0))


def _sampled(values: NDArray, grid: Grid, points: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Values (T, P) at points (T, P, 3); slices beyond the outermost are as those, and beyond the image is 0."""
    index = to_index(grid.affine, points.reshape(-1, 3)).T
    index[0] = np.clip(index[0], 0, grid.shape[0] - 1)
    values = values.astype(np.float32) if values.dtype == bool else values
    sampled = ndimage.map_coordinates(values, index, np.float64, order=order, mode="constant", cval=0.0)
    return np.asarray(sampled.reshape(points.shape[:2]))
