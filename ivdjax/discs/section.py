"""The mid-sagittal section of a disc: its ends, AP width, heights and wedge angle; and the width from side to side.

Everything is read from occupancies (`sample_occupancy`): a column's height is the integral of its occupancy, so
that a digitized flat disc keeps its height exactly; an end lies where the occupancy falls to a half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.discs.disc_axes import DiscAxes, sample_occupancy

STEP_MM = 0.25
"""Distance of the samples along the disc's axes."""

BANDS = {"anterior": (0.1, 0.3), "middle": (0.4, 0.6), "posterior": (0.7, 0.9)}
"""Where heights are averaged, as shares of the AP width counted from the front; the rounded ends are left out."""

_END_MM = 3.0
"""Occupancy is averaged over this much height where the ends of a disc are looked for, or half its height if lower."""
_DEEP_MM = 6
"""The lateral width is that of a part of the disc which is this long from front to back; sampled every mm."""
_EQUAL_MM = 0.5
"""Lateral widths that differ by less than this are taken as equal."""


@dataclass(frozen=True, eq=False)
class Section:
    """Occupancy (A, S), 0 to 1, on a plane of the disc; positions in mm along its anterior and superior axes.

    `back_mm` and `front_mm` are the positions of the disc's ends.
    """

    occupancy: NDArray[np.float32]
    anterior_mm: NDArray[np.float64]
    superior_mm: NDArray[np.float64]
    back_mm: float
    front_mm: float

    @property
    def ap_width_mm(self) -> float:
        """Length from end to end."""
        return self.front_mm - self.back_mm

    @property
    def heights_mm(self) -> NDArray[np.float64]:
        """Height (A,) at every position."""
        return np.asarray(self.occupancy.sum(axis=1, dtype=float) * STEP_MM)

    def rows(self, first: float, last: float) -> NDArray[np.bool_]:
        """Which positions (A,) lie within two shares, 0 to 1, of the AP width counted from the front."""
        share = (self.front_mm - self.anterior_mm) / self.ap_width_mm
        return np.asarray((share >= first) & (share <= last))


def mid_sagittal_section(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], axes: DiscAxes, half_mm: float,
    anterior_mm: NDArray[np.float64], superior_mm: NDArray[np.float64],
) -> Section | None:  # fmt: skip
    """The mean of nine sections within `half_mm` to both sides of the centroid; None if it is half full nowhere."""
    lateral = np.linspace(-half_mm, half_mm, 9)
    occupancy = sample_occupancy(mask, affine, axes, lateral, anterior_mm, superior_mm).mean(axis=0)
    ends = _ends_mm(occupancy, anterior_mm, STEP_MM)
    return None if ends is None else Section(occupancy, anterior_mm, superior_mm, *ends)


def section_measures(section: Section) -> dict[str, float | None]:
    """Heights, disc height index, AP width and wedge angle of a mid-sagittal section."""
    heights = section.heights_mm
    inside = section.rows(0.0, 1.0)
    columns: dict[str, float | None] = {}
    mean = []
    for name, shares in BANDS.items():
        rows = section.rows(*shares)
        mean.append(float(heights[rows if rows.any() else inside].mean()))
        columns[f"{name}_height_mm"] = mean[-1]
    columns["disc_height_index"] = float(np.mean(mean)) / section.ap_width_mm
    columns["ap_width_mm"] = section.ap_width_mm
    columns["wedge_angle_deg"] = _wedge_angle_deg(section, heights)
    return columns


def lateral_width_mm(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], axes: DiscAxes, right_mm: NDArray[np.float64],
    superior_mm: NDArray[np.float64], back_mm: float, front_mm: float, cut: tuple[bool, bool] = (False, False),
) -> float | None:  # fmt: skip
    """The widest extent from side to side of a part 6 mm long from front to back.

    Args:
        mask: of the disc (D, H, W).
        affine: of the mask.
        axes: the disc's axes.
        right_mm: positions (R,) that cover the disc from side to side.
        superior_mm: positions (S,) that cover its height.
        back_mm: where to begin to look, along the anterior axis.
        front_mm: where to end.
        cut: whether the field of view cuts the disc at the back and at the front.

    Returns:
        None if no part is half full, or where the part next to a cut is as wide as any: a wider one may then lie beyond
        the cut. Else the widest is in view, as discs have one widest place.
    """
    rows = np.arange(back_mm, front_mm + 0.5)
    stack = sample_occupancy(mask, affine, axes, right_mm, rows, superior_mm)
    size = min(_DEEP_MM + 1, len(rows))
    sums = np.cumsum(np.pad(stack, ((0, 0), (1, 0), (0, 0))), axis=1, dtype=float)
    parts = (sums[:, size:] - sums[:, :-size]) / size
    step_mm = float(superior_mm[1] - superior_mm[0])
    ends = [_ends_mm(parts[:, place], right_mm, step_mm) for place in range(parts.shape[1])]
    widths = [0.0 if pair is None else pair[1] - pair[0] for pair in ends]
    widest = max(widths)
    beside_cut = any(is_cut and widths[end] > widest - _EQUAL_MM for is_cut, end in zip(cut, (0, -1), strict=True))
    return None if beside_cut or widest == 0 else widest


def _ends_mm(
    occupancy: NDArray[np.floating], positions_mm: NDArray[np.float64], step_mm: float
) -> tuple[float, float] | None:
    """First and last place along the rows of an occupancy (P, S) where it is half full; None if it is nowhere.

    It is first averaged along the columns, `step_mm` apart: the largest of many rounded values would lie above their
    mean and lengthen the disc.
    """
    window_mm = min(_END_MM, float(occupancy.sum(axis=1).max()) * step_mm / 2)
    smooth = ndimage.uniform_filter1d(occupancy, max(1, round(window_mm / step_mm)), axis=1, mode="constant")
    profile = smooth.max(axis=1)
    inside = np.flatnonzero(profile >= 0.5)
    if not len(inside):
        return None
    return _crossing_mm(profile, positions_mm, inside[0], -1), _crossing_mm(profile, positions_mm, inside[-1], +1)


def _crossing_mm(profile: NDArray, positions_mm: NDArray[np.float64], inside: int, towards: int) -> float:
    """Where a profile falls to a half between the sample `inside` and its outer neighbour."""
    outside = inside + towards
    if not 0 <= outside < len(profile):
        return float(positions_mm[inside])
    share = (profile[inside] - 0.5) / (profile[inside] - profile[outside])
    return float(positions_mm[inside] + share * (positions_mm[outside] - positions_mm[inside]))


def _wedge_angle_deg(section: Section, heights_mm: NDArray[np.float64]) -> float | None:
    """Angle between the lines fitted to the upper and the lower face over 10 to 90 % of the width; None: a sliver."""
    rows = section.rows(BANDS["anterior"][0], BANDS["posterior"][1]) & (heights_mm > 0)
    if rows.sum() < 3:
        return None
    centre = section.occupancy[rows].astype(float) @ section.superior_mm * STEP_MM / heights_mm[rows]
    along = section.anterior_mm[rows]
    upper = np.polyfit(along, centre + heights_mm[rows] / 2, 1)[0]
    lower = np.polyfit(along, centre - heights_mm[rows] / 2, 1)[0]
    return float(np.degrees(np.arctan(upper) - np.arctan(lower)))
