"""Which disc is which: levels for the components of a disc mask, how sure they are, and whether a person should look.

Numbering from the bottom is right as long as the lowest component is L5/S1 and no disc is missing or doubled. It cannot
know that by itself; what it can see of the contrary lowers the confidence and asks for a review.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.discs.frame import disc_points_mm, fit_frame
from ivdjax.imaging.components import components
from ivdjax.imaging.geometry import cropped
from ivdjax.volume import Grid, level_name

Verdict = Literal["ok", "review"]

STEP_MM = (20.0, 50.0)
"""Plausible distances between neighbouring discs' centroids: lumbar steps are 28 to 37 mm with a sd of 2 to 3 mm."""

PRIOR = 0.85
"""Confidence where nothing speaks against the numbering: a judgement, since a lowest disc can be wrong unseen."""

_DOUBT = 0.5
"""Each remark multiplies the confidence of the levels that it bears on by this."""
_SIDEWAYS_MM = 15.0
_BORDER_MM = 10.0
_LOWEST_TILT_DEG = (-54.0, -16.0)
"""L5/S1 slopes by -31 deg with a sd of 9. Above lie L4/5 (-12, sd 6) and higher discs, below remnants of S1/S2."""
_SMALL, _LARGE = 0.25, 2.5
"""Plausible volumes, as multiples of the median disc of the same spine."""
_REMNANT_VOLUME, _REMNANT_WIDTH = 0.4, 0.7
"""A lowest component below both shares of the one above it is taken for a remnant of S1/S2. Among 22 patients' outlined
L5/S1 discs one had less than 0.4 of the volume of L4/5, and none less than 0.77 of its AP width."""
_MOST_REMNANTS = 2
_STRAY_MM = 25.0
"""A component whose centroid lies farther than this off the line through the others is no disc of this spine. In 28
patients no outlined disc lies farther off it than 15 mm."""


@dataclass(frozen=True, eq=False)
class Numbering:
    """Numbered discs, and how far the numbers can be trusted.

    Attributes:
        levels: (D, H, W), 0 background, 1 = L5/S1 upward.
        confidence: per level that occurs, 0 to 1: how likely it carries its own number. A judgement by rule, not a
            calibrated probability.
        verdict: "review" if any reason was found, "ok" otherwise.
        reasons: in plain words for the report, most important first.
    """

    levels: NDArray[np.uint8]
    confidence: Mapping[int, float]
    verdict: Verdict
    reasons: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Found:
    """One component as numbering sees it; compared by identity."""

    level: int
    centroid_mm: NDArray[np.float64]
    volume_mm3: float
    ap_width_mm: float
    tilt_deg: float
    below_mm: float


@dataclass(frozen=True)
class _Doubt:
    """A reason for review, and the lowest and highest level whose number it puts in doubt."""

    reason: str
    first: int
    last: int


def number_from_bottom(mask: NDArray[np.bool_], grid: Grid, min_mm3: float, discs: int) -> Numbering:
    """Numbers the components of a disc mask from the lowest (1 = L5/S1) upward.

    Components above the last number are dropped: discs of the thoracic spine look like lumbar ones. So are those far
    off the line through the others. A lowest component much smaller and shorter than the next is left out as a remnant
    of S1/S2. Of what is left out, whatever could be a disc by its size is named in the reasons. An empty mask gives an
    empty map, no confidence and the verdict review.

    Args:
        mask: disc or not, (D, H, W) in canonical order.
        grid: of the mask.
        min_mm3: smaller components are no discs.
        discs: how many are kept, from the lowest.

    Raises:
        ValueError: `discs` is not between 1 and 255, or the mask does not fit the grid.
    """
    if not 1 <= discs <= 255:
        raise ValueError(f"the number of discs to keep must be 1 to 255, not {discs}")
    if mask.shape != grid.shape:
        raise ValueError(f"the mask's shape {mask.shape} must be that of its grid, {grid.shape}")
    numbered = components(mask, grid, min_mm3)
    candidates = _describe(numbered, grid)
    strays = _strays(candidates)
    spine = [disc for disc in candidates if disc not in strays]
    remnants = _remnants(spine[: _MOST_REMNANTS + 1])
    kept = spine[len(remnants) :][:discs]
    number = np.zeros(len(candidates) + 1, np.uint8)
    number[[disc.level for disc in kept]] = range(1, len(kept) + 1)
    levels = number[numbered]
    found = [replace(disc, level=place) for place, disc in enumerate(kept, start=1)]
    doubts = [
        *_remnant_doubts(remnants, found),
        *_stray_doubts(strays, found),
        *_count_doubts(found, discs),
        *_lowest_doubts(found),
        *_step_doubts(found),
        *_size_doubts(found),
    ]
    confidence = {
        disc.level: PRIOR * _DOUBT ** sum(doubt.first <= disc.level <= doubt.last for doubt in doubts) for disc in found
    }
    reasons = tuple(doubt.reason for doubt in doubts)
    return Numbering(levels, confidence, "review" if reasons else "ok", reasons)


def _describe(levels: NDArray[np.integer], grid: Grid) -> list[_Found]:
    found = []
    for level, box in enumerate(ndimage.find_objects(levels), start=1):
        d, h, w = box
        part = cropped(grid, (d, h, w))
        mask = levels[box] == level
        points = disc_points_mm(mask, part.affine)
        whole = d.start > 0 and d.stop < grid.shape[0]
        below_mm = (grid.shape[1] - h.stop) * grid.spacing_mm[1]
        frame = fit_frame(points, part.affine, whole)
        # All but the outermost hundredths: a single voxel that sticks out is no width.
        front, back = np.quantile(frame.project_mm(points)[:, 1], (0.99, 0.01))
        volume_mm3 = len(points) * grid.voxel_mm3
        found.append(_Found(level, frame.centre_mm, volume_mm3, float(front - back), frame.tilt_deg, below_mm))
    return found


def _strays(candidates: Sequence[_Found]) -> list[_Found]:
    """Components off the line of the spine, the farthest first; none among fewer than four, which make no line."""
    spine, strays = list(candidates), list[_Found]()
    while len(spine) >= 4:
        off_mm = _off_line_mm(spine)
        worst = int(off_mm.argmax())
        if off_mm[worst] <= _STRAY_MM:
            break
        strays.append(spine.pop(worst))
    return strays


def _off_line_mm(discs: Sequence[_Found]) -> NDArray[np.float64]:
    """Distance (N,) of each centroid, across, from a parabola through all of them by height, weighted by volume."""
    x, y, z = np.array([disc.centroid_mm for disc in discs]).T
    height = (z - z.mean()) / max(float(np.ptp(z)), 1.0)
    weight = np.sqrt([disc.volume_mm3 for disc in discs])
    return np.hypot(*(values - np.polyval(np.polyfit(height, values, 2, w=weight), height) for values in (x, y)))


def _stray_doubts(strays: Sequence[_Found], found: Sequence[_Found]) -> list[_Doubt]:
    """Doubts about strays as large as a disc; smaller ones are left out without a word, as specks are."""
    if not found:
        return []
    median = float(np.median([disc.volume_mm3 for disc in found]))
    return [
        _Doubt(f"a structure of {disc.volume_mm3:.0f} mm3 far off the line of the other discs was left out", 1,
               found[-1].level)
        for disc in strays if disc.volume_mm3 >= _SMALL * median
    ]  # fmt: skip


def _remnants(lowest: Sequence[_Found]) -> list[_Found]:
    """Those of the lowest components, from the bottom, that are too small and too short to be L5/S1."""
    remnants: list[_Found] = []
    for disc, above in pairwise(lowest):
        small = disc.volume_mm3 < _REMNANT_VOLUME * above.volume_mm3
        short = disc.ap_width_mm < _REMNANT_WIDTH * above.ap_width_mm
        if not (small and short):
            break
        remnants.append(disc)
    return remnants


def _remnant_doubts(remnants: Sequence[_Found], found: Sequence[_Found]) -> list[_Doubt]:
    return [
        _Doubt(f"a lowest structure of {disc.ap_width_mm:.0f} mm from front to back and {disc.volume_mm3:.0f} mm3 was "
               "left out as a remnant of S1/S2; if it is L5/S1, every level is one too low", 1, found[-1].level)
        for disc in remnants
    ]  # fmt: skip


def _count_doubts(found: Sequence[_Found], discs: int) -> list[_Doubt]:
    if not found:
        return [_Doubt("no disc was found", 0, 0)]
    if len(found) < discs:
        # Which one is missing is unknown: if it is not the top one, the levels above it are all one too low.
        return [_Doubt(f"{len(found)} of {discs} discs were found", 1, discs)]
    return []


def _lowest_doubts(found: Sequence[_Found]) -> list[_Doubt]:
    if not found:
        return []
    lowest, top = found[0], found[-1].level
    if lowest.below_mm <= 0:
        return [_Doubt("the lowest disc touches the lower border of the image: L5/S1 may lie below it", 1, top)]
    if lowest.below_mm < _BORDER_MM:
        return [_Doubt(f"the image ends {lowest.below_mm:.0f} mm below the lowest disc: without the sacrum in view "
                       "it may not be L5/S1", 1, top)]  # fmt: skip
    if lowest.tilt_deg < _LOWEST_TILT_DEG[0]:
        return [_Doubt(f"the lowest disc slopes by {lowest.tilt_deg:.0f} degrees, steeper than L5/S1 usually does: it "
                       "may be a remnant within the sacrum", 1, top)]  # fmt: skip
    if lowest.tilt_deg > _LOWEST_TILT_DEG[1]:
        return [_Doubt(f"the lowest disc tilts by {lowest.tilt_deg:.0f} degrees, and L5/S1 usually slopes down to the "
                       "front by about 31: it may be L4/5 or higher", 1, top)]  # fmt: skip
    return []


def _step_doubts(found: Sequence[_Found]) -> list[_Doubt]:
    doubts = []
    for lower, upper in pairwise(found):
        step = upper.centroid_mm - lower.centroid_mm
        length = float(np.linalg.norm(step))
        pair = f"{level_name(lower.level)} and {level_name(upper.level)}"
        if length > STEP_MM[1]:
            doubts.append(_Doubt(f"{pair} lie {length:.0f} mm apart: a disc between them may be missing",
                                 upper.level, found[-1].level))  # fmt: skip
        elif length < STEP_MM[0]:
            doubts.append(_Doubt(f"{pair} lie only {length:.0f} mm apart: one disc may have been found as two",
                                 lower.level, found[-1].level))  # fmt: skip
        elif abs(step[0]) > _SIDEWAYS_MM:
            doubts.append(_Doubt(f"{level_name(upper.level)} lies {abs(step[0]):.0f} mm to the side of "
                                 f"{level_name(lower.level)}: one of them may be no disc",
                                 lower.level, found[-1].level))  # fmt: skip
    return doubts


def _size_doubts(found: Sequence[_Found]) -> list[_Doubt]:
    """Discs far smaller or larger than the others of the same spine; needs three to have a median to speak of."""
    if len(found) < 3:
        return []
    median = float(np.median([disc.volume_mm3 for disc in found]))
    doubts = []
    for disc in found:
        share = disc.volume_mm3 / median
        name = level_name(disc.level)
        if share < _SMALL:
            doubts.append(_Doubt(f"{name} has {100 * share:.0f} % of the volume of the middle disc: it may be a "
                                 "fragment or no disc", disc.level, found[-1].level))  # fmt: skip
        elif share > _LARGE:
            doubts.append(_Doubt(f"{name} has {share:.1f} times the volume of the middle disc: two discs may have "
                                 "grown together", disc.level, found[-1].level))  # fmt: skip
    return doubts
