"""Candidates: what in a disc mask may be a disc, and all that speaks for the level of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.config import InferenceConfig
from ivdjax.discs.centre_line import CentreLine, fit_centre_line
from ivdjax.discs.disc_axes import fit_axes
from ivdjax.discs.disc_components import join_broken, split_fused
from ivdjax.discs.evidence import HIGHER_CLASS, S1_CLASS, Evidence
from ivdjax.discs.surroundings import Surroundings
from ivdjax.imaging.components import component_list, components
from ivdjax.imaging.geometry import cropped
from ivdjax.volume import Grid, to_index, to_world_mm

Origin = Literal["whole", "split", "joined"]

_MOST = 30
"""Components looked at, at most: discs are among the largest, and time goes with the square of their number."""
_STRAY_MM = 25.0
"""In 28 patients no outlined disc lies farther than 15 mm off the line through the others."""
_BACKGROUND_WEIGHT = 0.1
"""What a component that the localization network takes for background counts in the line, against a disc."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A part of the mask that may be one disc.

    Attributes:
        voxels: (N, 3), indices on the working grid.
        centroid_mm: (3,), RAS+.
        volume_mm3: its volume.
        ap_width_mm: length from front to back along its own axis, all but the outermost hundredths.
        tilt_deg: slope of that axis; negative: front edge lower.
        below_mm: image below its lowest voxel.
        above_mm: image above its highest voxel.
        cut: whether it touches the image's lower, upper, front or back border: its shape then means little.
        certainty: mean probability of its voxels.
        votes: (K,) mean class probabilities of the localization network; None without it. K is 8 (background, levels 1
            to 7) or 9 (8: any higher disc); what it takes for bone counts as background.
        origin: whole component, split from a larger one, or joined of pieces.
        at_border: share of its voxels that lie at the border of the spine region, beyond which nothing is outlined.
        around: what is seen above and below it (`ivdjax.discs.surroundings`); None: not looked at.
    """

    voxels: NDArray[np.intp]
    centroid_mm: NDArray[np.float64]
    volume_mm3: float
    ap_width_mm: float
    tilt_deg: float
    below_mm: float
    above_mm: float
    cut: bool
    certainty: float
    votes: NDArray[np.float64] | None
    origin: Origin = "whole"
    at_border: float = 0.0
    around: Surroundings | None = None

    @property
    def favourite(self) -> int:
        """The level that the localization network sees here (8: any higher); 0: none, or in less than half of it."""
        if self.votes is None or self.votes[0] > 0.5:
            return 0
        return int(self.votes[1:].argmax()) + 1


def blinded(candidate: Candidate) -> Candidate:
    """A candidate without anything that the localization network says."""
    around = candidate.around
    return replace(candidate, votes=None, around=None if around is None else around.without_levels())


def find_candidates(evidence: Evidence, settings: InferenceConfig, whole_discs: bool = True) -> list[Candidate]:
    """What may be a disc, from the lowest centroid up; an empty list where nothing is.

    The mask is where the probability exceeds the settings' threshold, within the region where there is one and the
    settings want it. Components of at least `min_disc_mm3` count, and of those the
    30 largest.

    Args:
        evidence: of the case.
        settings: threshold, smallest volume, and which networks have a say.
        whole_discs: whether fused discs are cut apart and pieces of one disc put together.
    """
    mask = disc_mask(evidence, settings)
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    if not boxes:
        return []
    d, h, w = boxes[0]
    box = (d, h, w)
    grid = cropped(evidence.grid, box)
    labels = _largest(components(mask[box], grid, settings.min_disc_mm3))
    votes = _votes(labels > 0, grid, evidence) if settings.localization else None
    origins: dict[int, Origin] = {}
    if whole_discs and labels.any():
        favourite = None if votes is None else _favourites(labels > 0, votes)
        probability = evidence.probability[box]
        line = _line_through(labels, favourite, grid)
        labels, split = split_fused(labels, probability, favourite, grid, line, settings.min_disc_mm3)
        line = _line_through(labels, favourite, grid)
        labels, joined = join_broken(labels, favourite, grid, line)
        origins.update({number: "split" for number in split})
        origins.update({number: "joined" for number in joined})
    return _describe(labels, box, votes, origins, _region_border(evidence, settings), evidence)


def disc_mask(evidence: Evidence, settings: InferenceConfig) -> NDArray[np.bool_]:
    """Where the probability (D, H, W) exceeds the threshold, within the region if there is one and it is wanted."""
    mask = evidence.probability > settings.threshold
    return mask & evidence.region if settings.region and evidence.region is not None else mask


def _region_border(evidence: Evidence, settings: InferenceConfig) -> NDArray[np.bool_] | None:
    """Voxels of the spine region (D, H, W) beside which there is image that is not in it; None without a region."""
    if not settings.region or evidence.region is None:
        return None
    return np.asarray(evidence.region & ~ndimage.binary_erosion(evidence.region, border_value=1))


def line_through(candidates: Sequence[Candidate]) -> CentreLine:
    """The spine's centre line through candidates, without those that lie far off it.

    Large ones count for more, and those that the localization network takes for background for little.

    Raises:
        ValueError: there is no candidate.
    """
    background = [0.0 if c.votes is None else float(c.votes[0]) for c in candidates]
    return _robust_line(
        np.array([c.centroid_mm for c in candidates]), np.array([c.volume_mm3 for c in candidates]),
        np.array(background),
    )  # fmt: skip


def level_votes(points_mm: NDArray[np.float64], evidence: Evidence) -> NDArray[np.float64] | None:
    """The localization network's probabilities (K, N) at points (N, 3), linearly; None without that network.

    Points outside its field of view take what it says at the nearest place inside.
    """
    if evidence.level_probability is None or evidence.level_grid is None:
        return None
    index = to_index(evidence.level_grid.affine, points_mm).T
    return np.stack([ndimage.map_coordinates(values, index, np.float64, order=1, mode="nearest")
                     for values in evidence.level_probability])  # fmt: skip


def disc_votes(points_mm: NDArray[np.float64], evidence: Evidence) -> NDArray[np.float64] | None:
    """As `level_votes`, of discs alone (8 or 9, N): what the network takes for bone is background."""
    votes = level_votes(points_mm, evidence)
    if votes is None or len(votes) <= S1_CLASS:
        return votes
    votes[0] += votes[S1_CLASS:].sum(axis=0)
    return votes[: HIGHER_CLASS + 1]


def _largest(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """The `_MOST` largest components alone."""
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if np.count_nonzero(sizes) <= _MOST:
        return labels
    kept = np.zeros(len(sizes), bool)
    kept[np.argsort(-sizes, kind="stable")[:_MOST]] = True
    return np.where(kept[labels], labels, 0)


def _votes(mask: NDArray[np.bool_], grid: Grid, evidence: Evidence) -> NDArray[np.float64] | None:
    """Class probabilities (K, N) at the voxels of a mask, in the order of `np.argwhere`; bone is background."""
    return disc_votes(np.asarray(to_world_mm(grid.affine, np.argwhere(mask).astype(float))), evidence)


def _favourites(mask: NDArray[np.bool_], votes: NDArray[np.float64]) -> NDArray[np.int8]:
    result = np.zeros(mask.shape, np.int8)
    result[mask] = votes.argmax(axis=0)
    return result


def _line_through(labels: NDArray[np.int32], favourite: NDArray[np.int8] | None, grid: Grid) -> CentreLine:
    found = component_list(labels, grid)
    background = np.zeros(len(found))
    if favourite is not None:
        background = np.array([float((favourite[labels == c.number] == 0).mean()) for c in found])
    return _robust_line(np.array([c.centroid_mm for c in found]), np.array([c.volume_mm3 for c in found]), background)


def _robust_line(
    centroids_mm: NDArray[np.float64], volumes_mm3: NDArray[np.float64], background: NDArray[np.float64]
) -> CentreLine:
    weights = np.sqrt(volumes_mm3) * (1 - (1 - _BACKGROUND_WEIGHT) * background)
    kept = np.arange(len(centroids_mm))
    line = fit_centre_line(centroids_mm, weights)
    while len(kept) > 4:  # fewer make no line that one of them could lie off
        off_mm = line.distance_mm(centroids_mm[kept])
        if off_mm.max() <= _STRAY_MM:
            break
        kept = np.delete(kept, off_mm.argmax())
        line = fit_centre_line(centroids_mm[kept], weights[kept])
    return line


def _describe(
    labels: NDArray[np.int32], box: tuple[slice, slice, slice], votes: NDArray[np.float64] | None,
    origins: dict[int, Origin], border: NDArray[np.bool_] | None, evidence: Evidence,
) -> list[Candidate]:  # fmt: skip
    grid, start = evidence.grid, np.array([part.start for part in box])
    voxels = np.argwhere(labels)
    numbers = labels[tuple(voxels.T)]
    found = []
    for number in np.unique(numbers):
        own = voxels[numbers == number] + start
        found.append(_candidate(
            own, grid, evidence.probability, border,
            None if votes is None else _mean_votes(votes[:, numbers == number]), origins.get(int(number), "whole"),
        ))  # fmt: skip
    return sorted(found, key=lambda candidate: float(candidate.centroid_mm[2]))


def _mean_votes(votes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over voxels (K, N) as a distribution (K,)."""
    mean = np.clip(votes.mean(axis=1), 0.0, None)
    total = float(mean.sum())
    return np.asarray(mean / total) if total > 0 else np.full(len(mean), 1.0 / len(mean))


def _candidate(
    voxels: NDArray[np.intp], grid: Grid, probability: NDArray[np.float32], border: NDArray[np.bool_] | None,
    votes: NDArray[np.float64] | None, origin: Origin,
) -> Candidate:  # fmt: skip
    points = np.asarray(to_world_mm(grid.affine, voxels.astype(float)), dtype=float)
    (d, h, w), (d_last, h_last, w_last) = voxels.min(axis=0), voxels.max(axis=0)
    whole = d > 0 and d_last < grid.shape[0] - 1
    axes = fit_axes(points, grid.affine, bool(whole))
    # All but the outermost hundredths: a single voxel that sticks out is no width.
    front, back = np.quantile(axes.project_mm(points)[:, 1], (0.99, 0.01))
    return Candidate(
        voxels=voxels, centroid_mm=points.mean(axis=0), volume_mm3=len(voxels) * grid.voxel_mm3,
        ap_width_mm=float(front - back) + grid.spacing_mm[2], tilt_deg=axes.tilt_deg,
        below_mm=float(grid.shape[1] - 1 - h_last) * grid.spacing_mm[1], above_mm=float(h) * grid.spacing_mm[1],
        cut=bool(h == 0 or w == 0 or h_last == grid.shape[1] - 1 or w_last == grid.shape[2] - 1),
        certainty=float(probability[tuple(voxels.T)].mean()), votes=votes, origin=origin,
        at_border=0.0 if border is None else float(border[tuple(voxels.T)].mean()),
    )  # fmt: skip
