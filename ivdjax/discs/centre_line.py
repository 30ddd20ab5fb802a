"""The spine's centre line: a smooth curve through disc centroids (paper, section 2.2; the red line in Fig. 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.volume import FloatArray, Grid, to_index, to_world_mm

_DEGREE = 3
"""A cubic bends once to each side, as a lordosis under a kyphosis and a scoliosis of two curves do."""
_SAME_HEIGHT_MM = 1.0
_NEAR_MM = 5.0
"""Residuals above this weigh less (Huber): a centroid off the line, a wrong one perhaps, pulls but does not bend it."""
_ROUNDS = 10


@dataclass(frozen=True, eq=False)
class CentreLine:
    """A curve x(z), y(z) in RAS+ mm: a polynomial between its ends, and straight beyond them.

    Attributes:
        coefficients: (degree + 1, 2), of Legendre polynomials over [-1, 1] for x and y; -1 and 1 are the ends.
        ends_mm: z of the lowest and of the highest centroid; equal where the line is vertical through one.
    """

    coefficients: NDArray[np.float64]
    ends_mm: tuple[float, float]

    def at(self, z_mm: FloatArray) -> NDArray[np.float64]:
        """Points (M, 3) of the line at heights (M,)."""
        z = np.asarray(z_mm, dtype=float)
        held = np.clip(z, *self.ends_mm)
        across = legendre.legval(self._place(held), self.coefficients).T + self._slope(held) * (z - held)[:, None]
        return np.concatenate([across, z[:, None]], axis=1)

    def direction(self, z_mm: FloatArray) -> NDArray[np.float64]:
        """Unit tangents (M, 3) at heights (M,); they point up."""
        held = np.clip(np.asarray(z_mm, dtype=float), *self.ends_mm)
        tangent = np.concatenate([self._slope(held), np.ones((len(held), 1))], axis=1)
        return np.asarray(tangent / np.linalg.norm(tangent, axis=1, keepdims=True))

    def distance_mm(self, points_mm: FloatArray) -> NDArray[np.float64]:
        """Distance (M,) of points (M, 3) from the line, each within its own horizontal plane."""
        points = np.asarray(points_mm, dtype=float)
        return np.asarray(np.linalg.norm(points - self.at(points[:, 2]), axis=1))

    def crosses(self, mask: NDArray[np.bool_], grid: Grid) -> bool:
        """Whether the line passes through a voxel of a mask (D, H, W); never through an empty one.

        It is sampled every quarter of the smallest voxel side, so that no more than a voxel's corner is missed.

        Raises:
            ValueError: the mask does not fit the grid.
        """
        if mask.shape != grid.shape:
            raise ValueError(f"a mask of shape {mask.shape} does not lie on a grid of shape {grid.shape}")
        boxes = ndimage.find_objects(np.asarray(mask, dtype=bool).astype(np.uint8))
        if not boxes:
            return False
        ends = [(part.start - 0.5, part.stop - 0.5) for part in boxes[0]]
        heights = to_world_mm(grid.affine, np.array([[d, h, w] for d in ends[0] for h in ends[1] for w in ends[2]]))[
            :, 2
        ]
        step_mm = min(grid.spacing_mm) / 4
        z = np.arange(heights.min(), heights.max() + step_mm, step_mm)
        # Where the line leans, a step up is a longer step along it.
        steepest = 1 / float(self.direction(z)[:, 2].min())
        z = np.arange(heights.min(), heights.max() + step_mm, step_mm / steepest)
        index = np.rint(to_index(grid.affine, self.at(z))).astype(int)
        index = index[((index >= 0) & (index < grid.shape)).all(axis=1)]
        return bool(mask[tuple(index.T)].any())

    def _place(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        low, high = self.ends_mm
        return (2 * z - low - high) / max(high - low, _SAME_HEIGHT_MM)

    def _slope(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Change (M, 2) of x and y in mm for each mm up."""
        low, high = self.ends_mm
        derivative = legendre.legder(self.coefficients)
        return np.asarray(legendre.legval(self._place(z), derivative).T * (2 / max(high - low, _SAME_HEIGHT_MM)))


def fit_centre_line(centroids_mm: FloatArray, weights: FloatArray | None = None) -> CentreLine:
    """The centre line through disc centroids (N, 3) in RAS+ mm, in any order.

    A least-squares polynomial in z, of degree 3 or one less than the number of different heights: one centroid gives a
    vertical line, two a straight one. Centroids more than 5 mm off it weigh less (Huber), so that with five or more a
    single wrong one does not bend the line to itself.

    Args:
        centroids_mm: at least one.
        weights: (N,), 0 or more; a centroid of weight 0 is left out. None: all equal.

    Raises:
        ValueError: no centroid, or one that is not finite; weights of another number, negative, not finite or all 0.
    """
    points = np.asarray(centroids_mm, dtype=float)
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
        raise ValueError(f"a centre line needs finite centroids of shape (N, 3), N at least 1, not {points.tolist()}")
    given = np.ones(len(points)) if weights is None else np.asarray(weights, dtype=float)
    if given.shape != points.shape[:1] or not np.isfinite(given).all() or (given < 0).any() or not given.any():
        raise ValueError(
            f"{len(points)} centroids need as many weights of 0 or more, one above 0, not {given.tolist()}"
        )
    points, given = points[given > 0], given[given > 0]
    z = np.sort(points[:, 2])
    degree = min(_DEGREE, int((np.diff(z) > _SAME_HEIGHT_MM).sum()))
    line = CentreLine(np.zeros((degree + 1, 2)), (float(z[0]), float(z[-1])))
    basis = legendre.legvander(line._place(points[:, 2]), degree)
    robust = np.ones(len(points))
    for _ in range(_ROUNDS):
        root = np.sqrt(given * robust)[:, None]
        coefficients = np.linalg.lstsq(root * basis, root * points[:, :2], rcond=None)[0]
        off_mm = np.linalg.norm(points[:, :2] - basis @ coefficients, axis=1)
        robust = _NEAR_MM / np.maximum(off_mm, _NEAR_MM)
    return CentreLine(coefficients, line.ends_mm)
