"""The spinal canal: the line along its middle, and its cross-sections at right angles to that line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.discs.disc_axes import DiscAxes, occupancy_at
from ivdjax.volume import to_index, to_world_mm

_BIN_MM, _SMOOTH_BINS = 3.0, 2.0
_STEP_MM = 0.5
_REACH_MM = (20.0, 16.0)
"""A cross-section reaches this far to the sides, and to the front and back."""
_ALONG_MM = np.array([-1.5, 0.0, 1.5])
"""A cross-section is the mean of three, so far along the canal."""
_STRIP_MM = 3.0
"""The antero-posterior diameter is that of a strip of this width."""
_EQUAL_MM = 0.25
"""Strips whose diameters differ by less are as wide as each other: the middle one of them is taken."""
_END_MM = 4.0
"""Nearer to its visible end the canal may be cut aslant."""
_LEAST_MM2 = 10.0


@dataclass(frozen=True, eq=False)
class CanalLine:
    """Points (N, 3) along the middle of the canal and unit tangents (N, 3), rising, in RAS+ mm."""

    points_mm: NDArray[np.float64]
    tangents: NDArray[np.float64]


@dataclass(frozen=True)
class CrossSection:
    """The canal at one level; None with its reason in `missing` where the image does not show it.

    Attributes:
        ap_mm: largest antero-posterior diameter of a strip 3 mm wide.
        area_mm2: of the cross-section.
        missing: reason by the name of the measure.
    """

    ap_mm: float | None
    area_mm2: float | None
    missing: dict[str, str]


NO_CANAL = "the canal is not outlined at this level"
CUT = "the field of view cuts the canal"


def fit_canal(canal: NDArray[np.bool_], affine: NDArray[np.float64]) -> CanalLine | None:
    """The line along the middle of the canal; None where less than 20 mm of it are outlined.

    Args:
        canal: mask (D, H, W); its largest piece counts.
        affine: of the mask.
    """
    boxes = ndimage.find_objects(canal.astype(np.uint8))
    if not boxes:
        return None
    box = boxes[0]
    index = np.argwhere(_largest_piece(canal[box])) + [side.start for side in box]
    points = np.asarray(to_world_mm(affine, index.astype(float)))
    place = np.floor((points[:, 2] - points[:, 2].min()) / _BIN_MM).astype(int)
    number = np.bincount(place)
    if len(number) * _BIN_MM < 20.0:
        return None
    full = number > 0.3 * np.median(number[number > 0])  # the ends are cut aslant
    means = np.stack([np.bincount(place, points[:, axis])[full] / number[full] for axis in range(3)], axis=1)
    if len(means) < 5:
        return None
    smooth = ndimage.gaussian_filter1d(means, _SMOOTH_BINS, axis=0, mode="nearest")
    smooth[:, 2] = means[:, 2]
    tangents = np.gradient(smooth, axis=0)
    return CanalLine(smooth, tangents / np.linalg.norm(tangents, axis=1, keepdims=True))


def crossing(line: CanalLine, plane: DiscAxes) -> DiscAxes | None:
    """Where the canal meets the plane of a disc or body: that point of its line, with axes along and across it.

    None where the line ends before, or less than 4 mm beyond it.
    """
    heights = plane.project_mm(line.points_mm)[:, 2]
    if heights.min() > -_END_MM or heights.max() < _END_MM:
        return None
    above = int(np.argmax(heights >= 0))
    if above == 0:
        return None
    share = -heights[above - 1] / (heights[above] - heights[above - 1])
    centre, superior = ((1 - share) * of[above - 1] + share * of[above] for of in (line.points_mm, line.tangents))
    superior = superior / np.linalg.norm(superior)
    anterior = plane.anterior - (plane.anterior @ superior) * superior
    anterior /= np.linalg.norm(anterior)
    return DiscAxes(centre, np.cross(anterior, superior), anterior, superior)


def cross_section(canal: NDArray[np.bool_], affine: NDArray[np.float64], axes: DiscAxes | None) -> CrossSection:
    """Diameter and area of the canal across the superior one of these axes.

    Args:
        canal: mask (D, H, W).
        affine: of the mask.
        axes: in the canal (`crossing`); None: the canal does not reach there.
    """
    unseen = CrossSection(None, None, dict.fromkeys(("ap_mm", "area_mm2"), NO_CANAL))
    if axes is None:
        return unseen
    right, anterior = (np.arange(-reach, reach + _STEP_MM / 2, _STEP_MM) for reach in _REACH_MM)
    local = np.stack(np.meshgrid(right, anterior, _ALONG_MM, indexing="ij"), axis=-1)
    world = axes.world_mm(local)
    section = occupancy_at(canal, affine, world).mean(axis=2)
    own = _largest_piece(section >= 0.5)
    if not own.any():
        return unseen
    section = np.where(ndimage.binary_dilation(own, iterations=3), section, 0.0)
    area = float(section.sum()) * _STEP_MM**2
    if area < _LEAST_MM2:
        return unseen
    index = to_index(affine, world[:, :, len(_ALONG_MM) // 2])
    outside = ((index < 0) | (index > np.array(canal.shape) - 1)).any(axis=-1)
    missing = {}
    diameters = section.sum(axis=1) * _STEP_MM
    window = round(_STRIP_MM / _STEP_MM)
    strips = ndimage.uniform_filter1d(diameters, window, mode="constant")
    widest = int(np.median(np.flatnonzero(strips >= strips.max() - _EQUAL_MM)))
    if (own & outside).any():
        missing["area_mm2"] = CUT
        strip = slice(max(widest - window // 2, 0), widest + window // 2 + 1)
        if (own & outside)[strip].any():
            missing["ap_mm"] = CUT
    return CrossSection(
        None if "ap_mm" in missing else float(strips[widest]), None if "area_mm2" in missing else area, missing
    )


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected piece of a mask; an empty one stays empty."""
    pieces, count = ndimage.label(mask)
    return np.asarray(pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))) if count else mask
