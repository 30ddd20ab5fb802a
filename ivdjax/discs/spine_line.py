"""The centre line of one case's spine: from the registered reference mask, or from the candidates themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.config import InferenceConfig
from ivdjax.discs.candidates import Candidate, disc_mask, level_votes, line_through
from ivdjax.discs.centre_line import CentreLine, fit_centre_line
from ivdjax.discs.evidence import Evidence
from ivdjax.imaging.components import components
from ivdjax.imaging.geometry import cropped
from ivdjax.imaging.registration import moved_centroids, register_labels
from ivdjax.volume import LUMBAR_DISCS, LabelMap, to_world_mm

_NEAR_MM = 30.0
"""Two adults' spines laid on each other differ by 10 to 15 mm where they bend otherwise; facet joints lie 30 mm off."""


@dataclass(frozen=True, eq=False)
class SpineLine:
    """A centre line and where it comes from.

    Attributes:
        line: the line.
        registered: whether it comes from the registered reference mask.
    """

    line: CentreLine
    registered: bool


def paper_line(candidates: Sequence[Candidate], evidence: Evidence, settings: InferenceConfig) -> SpineLine:
    """The paper's centre line (section 2.2, Fig. 4): through the centroids of the registered reference mask's discs.

    Without a reference, or where the settings leave registration out, it goes through the candidates.

    Args:
        candidates: at least one.
        evidence: of the case.
        settings: whether to register, and what the reference is registered to (`predicted_levels`).

    Raises:
        ValueError: there is no candidate.
    """
    points = registered(evidence, settings).spine_mm
    if points is None:
        return SpineLine(line_through(candidates), False)
    return SpineLine(fit_centre_line(points), True)


def registered(evidence: Evidence, settings: InferenceConfig) -> Evidence:
    """The evidence with the reference mask registered to it, which takes most of a numbering's time.

    It is given as it is where that was done before, where there is no reference, where the settings leave registration
    out, or where the networks see no disc.
    """
    if evidence.spine_mm is not None or not settings.registration or evidence.reference is None:
        return evidence
    predicted = predicted_levels(evidence, settings)
    if not predicted.array.any():
        return evidence
    registration = register_labels(evidence.reference, predicted)
    centroids = moved_centroids(evidence.reference, registration)
    return replace(evidence, spine_mm=np.array(list(centroids.values())))


def own_line(candidates: Sequence[Candidate], guide: SpineLine | None) -> tuple[CentreLine, float]:
    """The line through the candidates that lie near another line, and how far off that one the others lie.

    A registered reference tells discs from what lies beside the spine, but bends as its own spine does; this line bends
    as the case's does.

    Args:
        candidates: at least one.
        guide: the line that tells which candidates lie near the spine, or none.

    Returns:
        The line, and the median distance in mm of the candidates from the guide, by volume. Where most of them lie
        far off the guide, it is the guide that is wrong and the line goes through all.
    """
    if guide is None or not guide.registered:
        return line_through(candidates), 0.0
    off_mm = guide.line.distance_mm(np.array([c.centroid_mm for c in candidates]))
    order = np.argsort(off_mm)
    volumes = np.cumsum(np.array([c.volume_mm3 for c in candidates])[order])
    median_mm = float(off_mm[order][np.searchsorted(volumes, volumes[-1] / 2)])
    near = [c for c, off in zip(candidates, off_mm, strict=True) if off <= _NEAR_MM]
    return line_through(near if near and median_mm <= _NEAR_MM / 2 else candidates), median_mm


def predicted_levels(evidence: Evidence, settings: InferenceConfig) -> LabelMap:
    """The discs with the levels that the networks give them, cropped to the discs.

    With the localization network it is the paper's intersection: disc where both networks see one, of that network's
    level. Without it, components are numbered from the bottom up.
    """
    mask = disc_mask(evidence, settings)
    boxes = ndimage.find_objects(mask.astype(np.uint8))
    d, h, w = boxes[0] if boxes else (slice(0, 1), slice(0, 1), slice(0, 1))
    box = (d, h, w)
    grid = cropped(evidence.grid, box)
    votes = None
    if settings.localization:
        points = np.asarray(to_world_mm(grid.affine, np.argwhere(mask[box]).astype(float)), dtype=float)
        votes = level_votes(points, evidence)
    if votes is None:
        numbered = components(mask[box], grid, settings.min_disc_mm3)
        return LabelMap(np.where(numbered <= 255, numbered, 0).astype(np.uint8), grid.affine)
    levels: NDArray[np.uint8] = np.zeros(grid.shape, np.uint8)
    seen = votes.argmax(axis=0)
    levels[mask[box]] = np.where(seen <= LUMBAR_DISCS, seen, 0)  # neither higher discs nor bone
    return LabelMap(levels, grid.affine)
