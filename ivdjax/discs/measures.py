"""What a disc measures: place, volume, heights, widths, angles and signal.

Heights and widths are sub-voxel: the mask is sampled along the disc's own axes (`frame`), interpolated linearly, and
integrated; a column's height is the integral of its occupancy, so that a digitized flat disc keeps its height exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.discs.frame import DiscFrame, disc_points_mm, fit_frame, sample_occupancy
from ivdjax.imaging.geometry import cropped
from ivdjax.volume import Disc, LabelMap, Volume

SHAPE_MEASURES: tuple[str, ...] = (
    "anterior_height_mm", "middle_height_mm", "posterior_height_mm", "disc_height_index", "ap_width_mm",
    "lateral_width_mm", "wedge_angle_deg", "tilt_deg",
)  # fmt: skip
"""Columns that describe a disc's shape, in their order."""

_STEP_MM = 0.25
_MIDDLE_MM = 5.0
"""The mid-sagittal part reaches this far to both sides of the centroid, or a sixth of the disc's width if narrower."""
_END_MM = 3.0
"""Occupancy is averaged over this much height where the ends of a disc are looked for, or half its height if lower."""
_BANDS = {"anterior": (0.1, 0.3), "middle": (0.4, 0.6), "posterior": (0.7, 0.9)}
"""Where heights are averaged, as shares of the AP width counted from the front; the rounded ends are left out."""


def measure_discs(labels: LabelMap, volume: Volume | None, confidence: Mapping[int, float]) -> list[Disc]:
    """Every disc of a label map, from the lowest level up; an empty list for an empty map.

    Each disc's `measures` holds:

    - `anterior_height_mm`, `middle_height_mm`, `posterior_height_mm`: mean height across the disc's own plane over
      10 to 30, 40 to 60 and 70 to 90 % of its AP width from the front, in its mid-sagittal part (within 5 mm of the
      centroid, or a sixth of its width if narrower).
    - `ap_width_mm`: length from front to back there. `disc_height_index`: mean of the three heights over it.
    - `lateral_width_mm`: the widest extent from side to side in the middle half of the AP width; None where the field
      of view cuts the disc at a side (`volume_mm3` is then that of the part in view).
    - `wedge_angle_deg`: angle between straight lines through the upper and the lower face; positive: open to the front.
    - `tilt_deg`: the long axis against the antero-posterior axis; negative: the front edge is lower.
    - `<channel>_mean`, `<channel>_median`: raw signal over all voxels of the disc, for every channel of the volume.
    - `fat_fraction`: sum of fat over sum of fat and wat, 0 to 1 (a ratio of magnitudes, not a proton density); None
      without both channels or without signal.

    All shape measures are None where the field of view cuts the disc at the front, back, top or bottom.

    Args:
        labels: label map (D, H, W) in canonical order.
        volume: the image on the same grid, or None: no signal columns then.
        confidence: level confidence, 0 to 1, per level; a level without one gets 0.

    Raises:
        ValueError: the volume lies on another grid than the labels.
    """
    if volume is not None and not volume.grid.matches(labels.grid):
        raise ValueError(
            f"the volume must lie on the labels' grid: shape {volume.grid.shape} against {labels.grid.shape}, "
            f"{volume.grid.displacement_mm(labels.grid):.2f} mm apart; resample one of them first"
        )
    discs = []
    for level, tight in enumerate(ndimage.find_objects(labels.array), start=1):
        if tight is None:
            continue
        # With one voxel of surroundings, so that a disc ends inside its box unless the field of view ends first.
        d, h, w = (slice(max(s.start - 1, 0), min(s.stop + 1, size))
                   for s, size in zip(tight, labels.array.shape, strict=True))  # fmt: skip
        box = (d, h, w)
        mask = labels.array[box] == level
        affine = cropped(labels.grid, box).affine
        points = disc_points_mm(mask, affine)
        shape = _shape(mask, affine, points, *_cuts(tight, labels.array.shape))
        signal = _signal(mask, box, volume)
        x, y, z = (float(v) for v in points.mean(axis=0))
        discs.append(Disc(level=level, level_confidence=float(confidence.get(level, 0.0)), centroid_mm=(x, y, z),
                          volume_mm3=len(points) * labels.grid.voxel_mm3, measures=shape | signal))  # fmt: skip
    return discs


def _cuts(box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[bool, bool]:
    """Whether the disc in `box` reaches the border of the grid at a side (D), and in plane (H or W)."""
    touched = [s.start == 0 or s.stop == size for s, size in zip(box, shape, strict=True)]
    return touched[0], touched[1] or touched[2]


def _shape(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], points: NDArray[np.float64], cut_side: bool, cut_plane: bool
) -> dict[str, float | None]:
    """The shape columns of one disc's mask; None where they cannot be given."""
    measures: dict[str, float | None] = dict.fromkeys(SHAPE_MEASURES)
    if cut_plane:
        return measures
    frame = fit_frame(points, affine, whole=not cut_side)
    measures["tilt_deg"] = frame.tilt_deg
    extent = frame.project_mm(points)
    margin = float(np.linalg.norm(affine[:3, :3], axis=0).max())
    right, anterior, superior = (_positions(extent[:, axis], margin) for axis in range(3))
    half = min(_MIDDLE_MM, float(np.ptp(extent[:, 0]) + margin) / 6)
    middle = np.linspace(-half, half, 9)
    section = sample_occupancy(mask, affine, frame, middle, anterior, superior).mean(axis=0)
    front = _within_ends(section[::-1])  # anterior positions rise towards the front; heights are counted from there
    if not len(front):
        return measures
    measures |= _section_measures(front, superior)
    if not cut_side:
        measures["lateral_width_mm"] = _lateral_width_mm(mask, affine, frame, right, anterior, superior)
    return measures


def _positions(extent_mm: NDArray[np.float64], margin_mm: float) -> NDArray[np.float64]:
    """Sampling positions over an extent and a margin round it."""
    return np.arange(extent_mm.min() - margin_mm, extent_mm.max() + margin_mm + _STEP_MM, _STEP_MM)


def _within_ends(section: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows (A, S) of an occupancy from one end of the disc to the other; none if it is half full nowhere.

    An end lies where the occupancy falls to a half. It is first averaged along the columns: the largest of many
    rounded values would lie above their mean and lengthen the disc.
    """
    window_mm = min(_END_MM, float(section.sum(axis=1).max()) * _STEP_MM / 2)
    smooth = ndimage.uniform_filter1d(section, max(1, round(window_mm / _STEP_MM)), axis=1, mode="constant")
    inside = np.flatnonzero(smooth.max(axis=1) >= 0.5)
    return section[inside[0] : inside[-1] + 1] if len(inside) else section[:0]


def _section_measures(front: NDArray[np.float32], superior_mm: NDArray[np.float64]) -> dict[str, float]:
    """Heights, AP width, index and wedge angle of a mid-sagittal occupancy (A, S), front row first."""
    width = len(front) * _STEP_MM
    heights = front.sum(axis=1, dtype=float) * _STEP_MM
    share = (np.arange(len(front)) + 0.5) / len(front)
    columns = {}
    for name, (first, last) in _BANDS.items():
        band = heights[(share >= first) & (share <= last)]
        columns[f"{name}_height_mm"] = float(band.mean() if len(band) else heights.mean())
    columns["disc_height_index"] = float(np.mean(list(columns.values()))) / width
    columns["ap_width_mm"] = width
    columns["wedge_angle_deg"] = _wedge_angle_deg(front, heights, share, superior_mm)
    return columns


def _wedge_angle_deg(
    front: NDArray[np.float32],
    heights: NDArray[np.float64],
    share: NDArray[np.float64],
    superior_mm: NDArray[np.float64],
) -> float:
    """Angle between the lines fitted to the upper and the lower face over 10 to 90 % of the width; 0 for a sliver."""
    rows = (share >= _BANDS["anterior"][0]) & (share <= _BANDS["posterior"][1]) & (heights > 0)
    if rows.sum() < 3:
        return 0.0
    centre = front[rows].astype(float) @ superior_mm * _STEP_MM / heights[rows]
    towards_front = -np.arange(len(front))[rows] * _STEP_MM
    upper = np.polyfit(towards_front, centre + heights[rows] / 2, 1)[0]
    lower = np.polyfit(towards_front, centre - heights[rows] / 2, 1)[0]
    return float(np.degrees(np.arctan(upper) - np.arctan(lower)))


def _lateral_width_mm(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], frame: DiscFrame,
    right: NDArray[np.float64], anterior: NDArray[np.float64], superior: NDArray[np.float64],
) -> float | None:  # fmt: skip
    """The widest row from side to side within the middle half of the disc's length; None if no row is half full."""
    quarter = (anterior[-1] - anterior[0]) / 4
    widths = []
    for row in np.arange(anterior[0] + quarter, anterior[-1] - quarter, 4 * _STEP_MM):
        section = sample_occupancy(mask, affine, frame, right, np.array([row]), superior[::2])[:, 0]
        half_full = np.flatnonzero(section.max(axis=1) >= 0.5)
        if len(half_full):
            widths.append(float(half_full[-1] - half_full[0] + 1) * _STEP_MM)
    return max(widths, default=None)


def _signal(mask: NDArray[np.bool_], box: tuple[slice, ...], volume: Volume | None) -> dict[str, float | None]:
    """Mean and median of every channel, and the fat fraction, over a disc; voxels that are no number are left out."""
    measures: dict[str, float | None] = {"fat_fraction": None}
    if volume is None:
        return measures
    sums: dict[str, float] = {}
    for channel, array in zip(volume.channels, volume.array, strict=True):
        values = array[box][mask].astype(float)
        values = values[np.isfinite(values)]
        measures[f"{channel}_mean"] = float(values.mean()) if len(values) else None
        measures[f"{channel}_median"] = float(np.median(values)) if len(values) else None
        sums[channel] = float(values.sum())
    if {"fat", "wat"} <= sums.keys() and sums["fat"] + sums["wat"] > 0:
        measures["fat_fraction"] = sums["fat"] / (sums["fat"] + sums["wat"])
    return measures
