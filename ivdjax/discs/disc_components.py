"""Components of a disc mask made into discs: fused ones are cut apart, and one disc's pieces are put together.

Both look along the spine, where neighbouring discs lie at least 20 mm apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.discs.centre_line import CentreLine
from ivdjax.imaging.geometry import cropped
from ivdjax.volume import Grid, to_world_mm

THICK_MM = 6.0
"""Spread across its flat side above which a component cannot be one disc: a disc 10 mm high has 3 mm."""
_APART_MM = 19.0
"""Cores of two discs lie this far apart along the spine, or more; the middle of a bridge between them does not."""
_TOGETHER_MM = 12.0
"""Less than this apart along the spine are no two discs: little more than half of the smallest step."""
_LEVEL_SHARE = 0.2
"""Share of a component's votes that a level needs to count as a disc of its own."""
_PROBABILITIES = np.linspace(0.0, 0.95, 11)[1:]
"""Where between the mask's threshold and 1 a bridge between two discs is looked for."""
_EROSIONS_MM = (1.3, 2.0, 2.7, 3.5)
_LONGEST_MM = 30.0
_STEP_MM, _HEIGHT_MM = 34.0, 8.0
_BESIDE_MM = 30.0
"""A piece whose centroid lies farther off the line is no piece of a disc: facet joints lie 30 mm and more behind it."""
_LONGER = 1.3
"""AP width of two pieces together, against the median disc's, above which they are not put together."""

Bools = NDArray[np.bool_]
Points = NDArray[np.float64]


def thickness_mm(points_mm: Points) -> float:
    """Spread (standard deviation) of points (N, 3) across the flat side of a disc that they may make up.

    It is the smaller principal axis in the sagittal plane once a slope from side to side is taken out: a slab cut out
    of a disc, or a disc slanted by scoliosis, is no thicker for it. 0 for fewer than two points.
    """
    if len(points_mm) < 2:
        return 0.0
    covariance = np.cov(points_mm.T, bias=True)
    side = covariance[0, 1:]
    plane = covariance[1:, 1:] - np.outer(side, side) / max(covariance[0, 0], 1e-6)
    return float(np.sqrt(max(0.0, np.linalg.eigvalsh(plane)[0])))


def along_mm(points_mm: Points, line: CentreLine) -> NDArray[np.float64]:
    """Places (N,) of points (N, 3) along the spine, from an origin of their own: meant for neighbours of each other."""
    middle = points_mm.mean(axis=0)
    return np.asarray((points_mm - middle) @ line.direction(middle[2:])[0])


def split_fused(
    labels: NDArray[np.int32], probability: NDArray[np.float32], favourite: NDArray[np.int8] | None, grid: Grid,
    line: CentreLine, min_mm3: float,
) -> tuple[NDArray[np.int32], frozenset[int]]:  # fmt: skip
    """Components that hold more than one disc cut apart; each voxel goes to the nearest of the discs found inside.

    A component too thick for one disc is cut where it falls apart at a higher probability or when it is eroded, or
    where the localization network sees two levels, in parts of more than `min_mm3` (or, of votes, a fair share) more
    than 19 mm apart along the spine. One that does not fall apart but is far too long is cut by position alone.

    Args:
        labels: components (D, H, W), 0 background.
        probability: of disc (D, H, W).
        favourite: the localization network's level at each voxel (D, H, W), 0 background; or None.
        grid: of the three.
        line: the spine's centre line, roughly.
        min_mm3: smaller parts are no discs.

    Returns:
        Labels 1, 2, ... in no order, and those of them that came of a cut.
    """
    result, cut, count = np.zeros_like(labels), set[int](), 0
    for number, found in enumerate(ndimage.find_objects(labels), start=1):
        if found is None:
            continue
        d, h, w = found
        box = (d, h, w)
        mask, part = labels[box] == number, cropped(grid, box)
        seeds = _seeds(mask, probability[box], None if favourite is None else favourite[box], part, line, min_mm3)
        if seeds is None:
            count += 1
            result[box][mask] = count
            continue
        nearest = ndimage.distance_transform_edt(seeds == 0, part.spacing_mm, return_distances=False,
                                                 return_indices=True)  # fmt: skip
        parts = seeds[tuple(nearest)]
        result[box][mask] = count + parts[mask]
        cut |= {count + int(seed) for seed in np.unique(parts[mask])}
        count += int(seeds.max())
    return result, frozenset(cut)


def join_broken(
    labels: NDArray[np.int32], favourite: NDArray[np.int8] | None, grid: Grid, line: CentreLine
) -> tuple[NDArray[np.int32], frozenset[int]]:
    """Pieces of one disc under one label: less than 12 mm apart along the spine, and one flat body together.

    Pieces that lie off the line (facet joints), that would make a disc much longer than the others, or that the
    localization network takes for different levels stay apart.

    Args:
        labels: (D, H, W), 0 background.
        favourite: the localization network's level at each voxel (D, H, W), 0 background; or None.
        grid: of both.
        line: the spine's centre line, roughly.

    Returns:
        The labels, and those of them that hold more than one piece.
    """
    voxels = np.argwhere(labels)
    numbers = labels[tuple(voxels.T)]
    places = np.asarray(to_world_mm(grid.affine, voxels.astype(float)), dtype=float)
    seen = np.zeros(len(voxels), np.int64) if favourite is None else favourite[tuple(voxels.T)].astype(np.int64)
    points = {int(number): places[numbers == number] for number in np.unique(numbers)}
    votes = {number: int(np.bincount(seen[numbers == number]).argmax()) for number in points}
    longest_mm = _LONGER * _median_depth_mm(list(points.values()))
    result, joined = labels.copy(), set[int]()
    for one, other in combinations(sorted(points, key=lambda number: -len(points[number])), 2):
        if one not in points or other not in points or len({votes[one], votes[other]} - {0}) > 1:
            continue
        if not _one_disc(points[one], points[other], line, longest_mm):
            continue
        result[result == other] = one
        points[one] = np.concatenate([points[one], points.pop(other)])
        votes[one] = votes[one] or votes[other]
        joined.add(one)
    return result, frozenset(joined & set(points))


def _one_disc(one: Points, other: Points, line: CentreLine, longest_mm: float) -> bool:
    centroids = np.stack([one.mean(axis=0), other.mean(axis=0)])
    if abs(np.diff(along_mm(centroids, line))[0]) >= _TOGETHER_MM or line.distance_mm(centroids).max() > _BESIDE_MM:
        return False
    both = np.concatenate([one, other])
    return thickness_mm(both) <= THICK_MM and _depth_mm(both) <= longest_mm


def _seeds(
    mask: Bools, probability: NDArray[np.float32], favourite: NDArray[np.int8] | None, grid: Grid, line: CentreLine,
    min_mm3: float,
) -> NDArray[np.int32] | None:  # fmt: skip
    """Numbered cores of the discs within one component; None for a single disc."""
    points = _points(mask, grid)
    if thickness_mm(points) <= THICK_MM:
        return None
    best, most = None, 1
    for parts, least_mm3 in _ways_apart(mask, probability, favourite, grid, min_mm3):
        cores = _cores(parts, least_mm3, grid, line)
        if cores.max() > most:
            best, most = cores, int(cores.max())
    return best if best is not None else _cut_by_place(mask, points, line)


def _ways_apart(
    mask: Bools, probability: NDArray[np.float32], favourite: NDArray[np.int8] | None, grid: Grid, min_mm3: float
) -> Iterator[tuple[NDArray[np.int32], float]]:
    """Labelled parts of a component, and the volume that a part must have to count; the best ways come first."""
    lowest = float(probability[mask].min())
    for share in _PROBABILITIES:
        yield _labelled(mask & (probability > lowest + share * (1 - lowest))), min_mm3
    inside_mm = ndimage.distance_transform_edt(np.pad(mask, 1), grid.spacing_mm)[1:-1, 1:-1, 1:-1]
    for depth_mm in _EROSIONS_MM:
        yield _labelled(inside_mm > depth_mm), min_mm3 / 4
    if favourite is not None:
        seen = np.where(mask, favourite, 0).astype(np.int32)
        yield seen, max(min_mm3, _LEVEL_SHARE * int((seen > 0).sum()) * grid.voxel_mm3)


def _cores(parts: NDArray[np.int32], least_mm3: float, grid: Grid, line: CentreLine) -> NDArray[np.int32]:
    """Sizeable parts numbered from 1: the largest, and of the others those that lie apart from all larger ones."""
    sizes = np.bincount(parts.ravel())[1:]
    numbers = np.flatnonzero(sizes * grid.voxel_mm3 >= least_mm3 * (1 - 1e-6)) + 1
    if not len(numbers):
        return np.zeros_like(parts)
    centroids = to_world_mm(grid.affine, np.array(ndimage.center_of_mass(parts > 0, parts, numbers)))
    places = along_mm(np.asarray(centroids, dtype=float), line)
    kept: list[int] = []
    for index in np.argsort(-sizes[numbers - 1], kind="stable"):
        if all(abs(places[index] - places[other]) > _APART_MM for other in kept):
            kept.append(int(index))
    table = np.zeros(int(parts.max()) + 1, np.int32)
    table[numbers[kept]] = range(1, len(kept) + 1)
    return table[parts]


def _cut_by_place(mask: Bools, points: Points, line: CentreLine) -> NDArray[np.int32] | None:
    """A component far too long for one disc, cut into equal lengths along the spine; None for a shorter one."""
    places = along_mm(points, line)
    low, high = np.quantile(places, (0.02, 0.98))
    if high - low <= _LONGEST_MM:
        return None
    count = 1 + max(1, round((high - low - _HEIGHT_MM) / _STEP_MM))
    seeds = np.zeros(mask.shape, np.int32)
    share = (places - low) / (high - low)
    seeds[mask] = 1 + np.clip(share * count, 0, count - 1).astype(np.int32)
    return seeds


def _labelled(mask: Bools) -> NDArray[np.int32]:
    return np.asarray(ndimage.label(mask)[0], dtype=np.int32)


def _points(mask: Bools, grid: Grid) -> Points:
    return np.asarray(to_world_mm(grid.affine, np.argwhere(mask).astype(float)), dtype=float)


def _depth_mm(points: Points) -> float:
    """Length (N, 3) of points along their longer axis in the sagittal plane."""
    offsets = points[:, 1:] - points[:, 1:].mean(axis=0)
    longest = np.linalg.eigh(offsets.T @ offsets)[1][:, 1]
    return float(np.ptp(np.quantile(offsets @ longest, (0.01, 0.99))))


def _median_depth_mm(pieces: list[Points]) -> float:
    """AP width of the middle piece, where each counts by its size: fragments hardly do."""
    depths = np.array([_depth_mm(points) for points in pieces])
    order = np.argsort(depths)
    sizes = np.cumsum(np.array([len(points) for points in pieces], dtype=float)[order])
    return float(depths[order][np.searchsorted(sizes, sizes[-1] / 2)])
