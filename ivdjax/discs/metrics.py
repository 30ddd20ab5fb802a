"""How well found discs agree with reference discs (paper, section 3.2), in millimetres of world space.

Surfaces: a mask's surface is the set of its voxels that share a face with a voxel outside it; distances run between
the world positions of voxel centres, so that anisotropic, oblique and sheared grids need no special case. The border of
the grid is no surface: where the field of view cuts a disc, both masks end in the same plane, and its perfect agreement
would flatter the mean.

Empty masks: Dice is 0 if one mask is empty and not a number if both are; distances are not a number if either is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from ivdjax.discs.disc_axes import disc_points_mm
from ivdjax.imaging.geometry import cropped, resample
from ivdjax.volume import LUMBAR_DISCS, Grid, LabelMap

RIGHT_WITHIN_MM = 10.0
"""A disc of a level is right if its centroid lies this near to the reference centroid of that level."""

Mask = NDArray[np.bool_]
Affine = NDArray[np.float64]


@dataclass(frozen=True)
class DiscScore:
    """One reference disc: Dice 0 to 1, distances in mm (not a number for a missed disc).

    Attributes:
        level: of the reference, 1 to 7.
        dice: overlap with the predicted disc of the same level; 0 for a missed disc.
        asd_mm: average absolute surface distance.
        hd95_mm: 95th percentile of the surface distances.
        localization_error_mm: distance between the centroids.
        found: whether the prediction has a disc of this level anywhere.
        right: whether that disc lies within `RIGHT_WITHIN_MM`.
    """

    level: int
    dice: float
    asd_mm: float
    hd95_mm: float
    localization_error_mm: float
    found: bool
    right: bool


@dataclass(frozen=True)
class CaseScore:
    """All reference discs of one case up to the seventh, and what concerns the case as a whole.

    Attributes:
        discs: one score a reference disc, by rising level.
        all_discs_dice: Dice of all of them as one mask; not a number if neither side has any.
        extra_discs: predicted discs without a counterpart in the reference.
    """

    discs: tuple[DiscScore, ...]
    all_discs_dice: float
    extra_discs: int

    @property
    def levels_right(self) -> int:
        """How many reference discs were found in their place under their own number."""
        return sum(disc.right for disc in self.discs)

    @property
    def levels_total(self) -> int:
        """How many reference discs there are."""
        return len(self.discs)


def dice(first: Mask, second: Mask) -> float:
    """2 |A and B| / (|A| + |B|), 0 to 1 (paper, eq. 2); 0 if one mask is empty, not a number if both are.

    Raises:
        ValueError: the masks differ in shape.
    """
    _check_shapes(first, second)
    total = int(first.sum()) + int(second.sum())
    return 2.0 * int((first & second).sum()) / total if total else float("nan")


def average_surface_distance_mm(first: Mask, second: Mask, affine: Affine) -> float:
    """Average absolute distance between two surfaces, in mm: the mean over both masks' surface voxels together.

    Every surface voxel of each mask contributes the distance to the nearest surface voxel of the other. Not a number
    if a mask has no surface: it is empty or fills the grid.

    Raises:
        ValueError: the masks differ in shape.
    """
    return _mean_mm(*_surface_distances_mm(first, second, affine))


def hd95_mm(first: Mask, second: Mask, affine: Affine) -> float:
    """95 % Hausdorff distance in mm: the larger of the two directed 95th percentiles of surface distances.

    Not a number if a mask has no surface.

    Raises:
        ValueError: the masks differ in shape.
    """
    return _percentile95_mm(*_surface_distances_mm(first, second, affine))


def localization_error_mm(first: Mask, second: Mask, affine: Affine) -> float:
    """Distance R between the centroids of two masks, in mm (paper, eq. 3); not a number if either is empty.

    Raises:
        ValueError: the masks differ in shape.
    """
    _check_shapes(first, second)
    if not (first.any() and second.any()):
        return float("nan")
    gap = disc_points_mm(first, affine).mean(axis=0) - disc_points_mm(second, affine).mean(axis=0)
    return float(np.linalg.norm(gap))


def on_grid(labels: LabelMap, grid: Grid) -> LabelMap:
    """A label map on another grid, by nearest neighbour in world space; the same map where the grids agree."""
    if labels.grid.matches(grid):
        return labels
    return LabelMap(np.asarray(resample(labels.array, labels.grid, grid, order=0)), grid.affine)


def score_case(prediction: LabelMap, reference: LabelMap) -> CaseScore:
    """Scores a prediction against a reference, level by level.

    A prediction on another grid is first brought to the reference's by nearest neighbour in world space. Discs above
    the seventh count on neither side: no row is written for the reference's, predicted ones are left out, and where
    predicted discs lie on reference discs above the seventh they are not extra.

    A predicted disc is extra if it has no counterpart: reference discs are given to predicted ones in the order of
    their distance, each once, if the centroids lie within `RIGHT_WITHIN_MM` or half of the predicted disc lies on the
    reference disc. A spine numbered one level off therefore has wrong levels, not extra discs; a disc found as two has
    one extra.
    """
    predicted = on_grid(prediction, reference.grid).array
    affine = reference.affine
    rows = tuple(
        _score_disc(level, predicted, reference.array, affine) for level in reference.levels if level <= LUMBAR_DISCS
    )
    in_reference = (reference.array > 0) & (reference.array <= LUMBAR_DISCS)
    in_prediction = (predicted > 0) & (predicted <= LUMBAR_DISCS) & (reference.array <= LUMBAR_DISCS)
    return CaseScore(rows, dice(in_prediction, in_reference), _count_extra(predicted, reference.array, affine))


def _score_disc(level: int, predicted: NDArray[np.uint8], reference: NDArray[np.uint8], affine: Affine) -> DiscScore:
    box = ndimage.find_objects(((predicted == level) | (reference == level)).astype(np.uint8))[0]
    # One voxel of surroundings, so that the box ends a surface only where the field of view does.
    d, h, w = (slice(max(s.start - 1, 0), min(s.stop + 1, n)) for s, n in zip(box, reference.shape, strict=True))
    mine, its = predicted[d, h, w] == level, reference[d, h, w] == level
    affine = cropped(Grid(_shape3(reference), affine), (d, h, w)).affine
    distances_mm = _surface_distances_mm(mine, its, affine)
    error_mm = localization_error_mm(mine, its, affine)
    return DiscScore(
        level=level,
        dice=dice(mine, its),
        asd_mm=_mean_mm(*distances_mm),
        hd95_mm=_percentile95_mm(*distances_mm),
        localization_error_mm=error_mm,
        found=bool(mine.any()),
        right=bool(error_mm <= RIGHT_WITHIN_MM),
    )


def _count_extra(predicted: NDArray[np.uint8], reference: NDArray[np.uint8], affine: Affine) -> int:
    """Predicted discs up to the seventh that no reference disc, of whatever level, can be given to."""
    mine = {level: disc_points_mm(predicted == level, affine) for level in _levels(predicted) if level <= LUMBAR_DISCS}
    its = {level: disc_points_mm(reference == level, affine).mean(axis=0) for level in _levels(reference)}
    pairs = []
    for level, points in mine.items():
        on_reference = np.bincount(reference[predicted == level], minlength=256)
        for other, centre in its.items():
            gap_mm = float(np.linalg.norm(points.mean(axis=0) - centre))
            if gap_mm <= RIGHT_WITHIN_MM or 2 * on_reference[other] >= len(points):
                pairs.append((gap_mm, level, other))
    matched: set[int] = set()
    given: set[int] = set()
    for _, level, other in sorted(pairs):
        if level not in matched and other not in given:
            matched.add(level)
            given.add(other)
    return len(mine) - len(matched)


def _surface_distances_mm(first: Mask, second: Mask, affine: Affine) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances from each surface voxel of one mask to the other's surface, both ways; both empty if a surface is."""
    _check_shapes(first, second)
    one, two = (disc_points_mm(_surface(mask), affine) for mask in (first, second))
    if not (len(one) and len(two)):
        return np.zeros(0), np.zeros(0)
    return np.atleast_1d(cKDTree(two).query(one)[0]), np.atleast_1d(cKDTree(one).query(two)[0])


def _mean_mm(forth: NDArray[np.float64], back: NDArray[np.float64]) -> float:
    return float(np.concatenate([forth, back]).mean()) if len(forth) else float("nan")


def _percentile95_mm(forth: NDArray[np.float64], back: NDArray[np.float64]) -> float:
    return float(max(np.percentile(forth, 95), np.percentile(back, 95))) if len(forth) else float("nan")


def _surface(mask: Mask) -> Mask:
    """Voxels of a mask with a face towards a voxel outside it; the grid's border is no such face."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask, border_value=1))


def _levels(array: NDArray[np.uint8]) -> list[int]:
    return [int(value) for value in np.unique(array) if value > 0]


def _shape3(array: NDArray[np.uint8]) -> tuple[int, int, int]:
    d, h, w = array.shape
    return d, h, w


def _check_shapes(first: Mask, second: Mask) -> None:
    if first.shape != second.shape:
        raise ValueError(f"the masks must have one shape, not {first.shape} and {second.shape}")
