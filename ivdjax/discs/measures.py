"""What a disc measures: place, volume, heights, widths, angles and signal.

Heights and widths are sub-voxel: the mask is sampled along the disc's own axes (`disc_axes`), interpolated linearly,
and integrated (`section`). docs/measures.md has the definitions with a drawing, and the accuracy on known shapes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.discs.cuts import cut_sides, on_plane_border
from ivdjax.discs.disc_axes import DiscAxes, disc_points_mm, fit_axes
from ivdjax.discs.section import STEP_MM, lateral_width_mm, mid_sagittal_section, section_measures
from ivdjax.imaging.geometry import cropped
from ivdjax.volume import Disc, LabelMap, Volume

SHAPE_MEASURES: tuple[str, ...] = (
    "volume_in_view_mm3", "anterior_height_mm", "middle_height_mm", "posterior_height_mm", "disc_height_index",
    "ap_width_mm", "lateral_width_mm", "wedge_angle_deg", "tilt_deg",
)  # fmt: skip
"""Columns that describe a disc's size and shape, in their order."""

SIGNAL_STATISTICS: tuple[str, ...] = ("mean", "median", "sd")
"""What is told of every channel, as `<channel>_<statistic>`."""

_MIDDLE_MM = 5.0
"""The mid-sagittal part reaches this far to both sides of the centroid, or a sixth of the disc's width if narrower."""


def measure_discs(
    labels: LabelMap, volume: Volume | None, confidence: Mapping[int, float],
    outline_confidence: Mapping[int, float] | None = None,
) -> list[Disc]:  # fmt: skip
    """Every disc of a label map, from the lowest level up; an empty list for an empty map.

    A disc's `centroid_mm` is that of its part in view. Its `volume_mm3` is None where the field of view cuts it, and
    `cut_at` then names the borders that it reaches. Its `measures` holds:

    - `volume_in_view_mm3`: voxels in view times their volume; equal to `volume_mm3` of a whole disc.
    - `anterior_height_mm`, `middle_height_mm`, `posterior_height_mm`: mean height across the disc's own plane over
      10 to 30, 40 to 60 and 70 to 90 % of its AP width from the front, in its mid-sagittal part (within 5 mm of the
      centroid, or a sixth of its width if narrower).
    - `ap_width_mm`: length from front to back there. `disc_height_index`: mean of the three heights over it.
    - `lateral_width_mm`: the widest extent from side to side, of a part 6 mm long in the middle half of the AP width.
    - `wedge_angle_deg`: angle between straight lines through the upper and the lower face; positive: open to the front.
    - `tilt_deg`: the long axis against the antero-posterior axis; negative: the front edge is lower.
    - `<channel>_mean`, `<channel>_median`, `<channel>_sd`: raw signal over all voxels in view, for every channel of
      the volume.
    - `fat_fraction`: sum of fat over sum of fat and wat, 0 to 1 (a ratio of magnitudes, not a proton density); None
      without both channels or without signal.

    What a cut leaves out (None):

    - left or right: `volume_mm3` and `lateral_width_mm`. Heights, AP width, wedge angle and tilt are those of the
      middle of the part in view. Cut at one side alone, to less than its AP width from side to side, a disc may have
      its middle out of view: only the tilt is given then. A field of view that is itself narrower than that is a slab,
      and taken to lie about the middle.
    - front or back: the AP width, and with it the heights, index and wedge angle, which are placed by shares of it; the
      tilt, as the long axis is not seen. The lateral width stays where the widest part is not the one next to the cut.
    - top or bottom: all of these and the lateral width. Heights and the disc's own axes rest on both faces, and a
      tilted disc loses an end.

    A cut at front, back, top or bottom that does not reach the mid-sagittal part (a disc tilted or turned sideways)
    leaves what is measured there.

    Args:
        labels: label map (D, H, W) in canonical order.
        volume: the image on the same grid, or None: no signal columns then.
        confidence: level confidence, 0 to 1, per level; a level without one gets 0.
        outline_confidence: expected Dice of the outline, 0 to 1, per level; a level without one gets None.

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
        index = np.argwhere(mask) + [side.start for side in box]
        cuts = cut_sides(index, labels.array.shape)
        affine = cropped(labels.grid, box).affine
        points = disc_points_mm(mask, affine)
        volume_mm3 = len(points) * labels.grid.voxel_mm3
        shape = _shape(mask, affine, points, on_plane_border(index, labels.array.shape), cuts, labels.array.shape[0])
        x, y, z = (float(v) for v in points.mean(axis=0))
        discs.append(Disc(
            level=level, level_confidence=float(confidence.get(level, 0.0)), centroid_mm=(x, y, z),
            volume_mm3=None if cuts else volume_mm3,
            measures={"volume_in_view_mm3": volume_mm3} | shape | _signal(mask, box, volume),
            outline_confidence=(outline_confidence or {}).get(level), cut_at=" ".join(cuts),
        ))  # fmt: skip
    return discs


def _shape(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], points: NDArray[np.float64], border: NDArray[np.bool_],
    cuts: tuple[str, ...], slices: int,
) -> dict[str, float | None]:  # fmt: skip
    """The shape columns of one disc's mask but its volume; None where they cannot be given.

    `border` says which of its voxels `points` (N, 3) lie on the border of the grid at front, back, top or bottom, and
    `slices` how many the grid has.
    """
    axes = fit_axes(points, affine, whole=not cuts)
    extent = axes.project_mm(points)
    margin = float(np.linalg.norm(affine[:3, :3], axis=0).max())
    slice_mm = float(np.linalg.norm(affine[:3, 0]))
    right, anterior, superior = (_positions(extent[:, axis], margin) for axis in range(3))
    half = min(_MIDDLE_MM, float(np.ptp(extent[:, 0]) + margin) / 6)
    measures: dict[str, float | None] = dict.fromkeys(SHAPE_MEASURES[1:])
    back, front = float(extent[:, 1].min()), float(extent[:, 1].max())
    if not (border & (np.abs(extent[:, 0]) <= half + slice_mm / 2)).any():
        section = mid_sagittal_section(mask, affine, axes, half, anterior, superior)
        if section is None:
            return measures
        measures["tilt_deg"] = axes.tilt_deg
        back, front = section.back_mm, section.front_mm
        in_view_mm = float(np.ptp(extent[:, 0])) + slice_mm
        if not _middle_is_out(cuts, in_view_mm, section.ap_width_mm, slices * slice_mm):
            measures |= section_measures(section)
    if not {"left", "right", "top", "bottom"} & set(cuts):
        measures["lateral_width_mm"] = _lateral_width_mm(mask, affine, axes, right, superior, (back, front), cuts)
    return measures


def _middle_is_out(cuts: tuple[str, ...], in_view_mm: float, ap_width_mm: float, field_mm: float) -> bool:
    """Whether a disc's middle may be out of view: one side is cut away, and what is left is longer than it is wide.

    Discs are wider than long by a quarter or more: one that is at least square in view has lost a fifth or so, and the
    middle of the rest lies within a tenth or so of its width from its own. A slab, a field of view too narrow for that,
    is laid about the middle, and an outline may end a slice before it does.
    """
    return ("left" in cuts) != ("right" in cuts) and in_view_mm < ap_width_mm <= field_mm


def _lateral_width_mm(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], axes: DiscAxes, right: NDArray[np.float64],
    superior: NDArray[np.float64], ends: tuple[float, float], cuts: tuple[str, ...],
) -> float | None:  # fmt: skip
    """The width from side to side in the middle half between the ends; all over the part in view where one is cut."""
    cut = ("back" in cuts, "front" in cuts)
    back, front = ends
    quarter = 0.0 if any(cut) else (front - back) / 4
    return lateral_width_mm(mask, affine, axes, right, superior[::2], back + quarter, front - quarter, cut)


def _positions(extent_mm: NDArray[np.float64], margin_mm: float) -> NDArray[np.float64]:
    """Sampling positions over an extent and a margin round it."""
    return np.arange(extent_mm.min() - margin_mm, extent_mm.max() + margin_mm + STEP_MM, STEP_MM)


def _signal(mask: NDArray[np.bool_], box: tuple[slice, ...], volume: Volume | None) -> dict[str, float | None]:
    """Statistics of every channel, and the fat fraction, over a disc; voxels that are no number are left out."""
    measures: dict[str, float | None] = {"fat_fraction": None}
    if volume is None:
        return measures
    sums: dict[str, float] = {}
    for channel, array in zip(volume.channels, volume.array, strict=True):
        values = array[box][mask].astype(float)
        values = values[np.isfinite(values)]
        found = (values.mean(), np.median(values), values.std()) if len(values) else (None, None, None)
        for statistic, value in zip(SIGNAL_STATISTICS, found, strict=True):
            measures[f"{channel}_{statistic}"] = None if value is None else float(value)
        sums[channel] = float(values.sum())
    if {"fat", "wat"} <= sums.keys() and sums["fat"] + sums["wat"] > 0:
        measures["fat_fraction"] = sums["fat"] / (sums["fat"] + sums["wat"])
    return measures
