"""A vertebral body between two discs: its own axes, depth and heights, and its end plates with their corners.

A tissue map has all vertebrae as one mask, with their arches. A body is what of it lies between the planes of two
neighbouring discs and in front of the canal, in a strip about the median plane that the pedicles do not reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.discs.disc_axes import DiscAxes, occupancy_at
from ivdjax.discs.section import BANDS

STEP_MM = 0.5
"""Distance of the samples along a body's axes."""
HALF_STRIP_MM = 5.0
"""The strip about the median plane reaches this far to both sides."""
LATERAL_MM = np.linspace(-HALF_STRIP_MM, HALF_STRIP_MM, 9)

_REACH_MM = 32.0
"""No body reaches further from its middle, to the front or the back."""
_WALL_MM = np.arange(1.5, 9.1, 0.5)
"""Depths under an end plate at which the walls are looked for; the rounded rim above them is left out."""
_LEAN = 0.15
"""A wall leans by this much at most (tangent) where it is carried on to the end plate."""
_FACE_OFF_MM, _WALL_OFF_MM = 1.0, 0.7
"""What lies further off a line through a face or a wall is a pit, a lip or a bump; the steps between voxels are not."""
_MOST_GAP_MM = 6.0
"""Between an end plate and the disc beside it, over the front or back third. Outlines that people drew of 28 patients
(314 end plates) leave 1 to 4 mm there, 5.5 mm at most; where more is empty, a corner of the body is not outlined."""
_LEAST_DEPTH_MM, _LEAST_HEIGHT_MM = 12.0, 6.0
"""A smaller body is none: a remnant of an outline, or a plane of a disc that goes astray."""


@dataclass(frozen=True, eq=False)
class EndPlate:
    """One end plate as a straight line in the sagittal plane; all in RAS+ mm.

    Attributes:
        back_mm, front_mm: its corners (3,), where the walls of the body meet it.
        right, anterior: unit vectors (3,).
    """

    back_mm: NDArray[np.float64]
    front_mm: NDArray[np.float64]
    right: NDArray[np.float64]
    anterior: NDArray[np.float64]

    @property
    def depth_mm(self) -> float:
        """Length from corner to corner."""
        return float(np.linalg.norm(self.front_mm - self.back_mm))


@dataclass(frozen=True, eq=False)
class Body:
    """One vertebral body.

    Attributes:
        axes: its centre and axes.
        anterior_height_mm, middle_height_mm, posterior_height_mm: means over 10 to 30, 40 to 60 and 70 to 90 % of its
            depth, counted from the front, as of a disc.
        depth_mm: mean length of its end plates.
        upper, lower: its end plates.
    """

    axes: DiscAxes
    anterior_height_mm: float
    middle_height_mm: float
    posterior_height_mm: float
    depth_mm: float
    upper: EndPlate
    lower: EndPlate

    @property
    def height_ratio(self) -> float:
        """Anterior over posterior height; less than 1 is wedged to the front."""
        return self.anterior_height_mm / self.posterior_height_mm


def fit_body(
    vertebrae: NDArray[np.bool_], affine: NDArray[np.float64], lower: DiscAxes, upper: DiscAxes,
    canal_mm: NDArray[np.float64] | None = None,
) -> Body | None:  # fmt: skip
    """The body between two discs; None where there is none of a body's size.

    Args:
        vertebrae: mask (D, H, W) of all vertebrae with their arches.
        affine: of the mask.
        lower: axes of the disc below.
        upper: axes of the disc above.
        canal_mm: points (N, 3) along the middle of the canal, RAS+ mm; None: the arches are told by their distance.
    """
    axes = body_axes(lower, upper)
    half = float(np.linalg.norm(upper.centre_mm - lower.centre_mm)) / 2
    anterior, superior = (np.arange(-reach, reach + STEP_MM, STEP_MM) for reach in (_REACH_MM, half + 8.0))
    section = _section(vertebrae, affine, axes, anterior, superior, (lower, upper), canal_mm)
    if section is None:
        return None
    heights = section.sum(axis=1, dtype=float) * STEP_MM
    high = heights[heights > 1.0]
    if not high.size:
        return None
    inside = anterior[heights >= 0.5 * float(np.median(high))]
    back, front = float(inside[0]), float(inside[-1])
    if front - back < _LEAST_DEPTH_MM:
        return None
    rows = (anterior > back + 0.1 * (front - back)) & (anterior < front - 0.1 * (front - back))
    centre = section[rows].astype(float) @ superior * STEP_MM / np.maximum(heights[rows], STEP_MM)
    faces = [_line(anterior[rows], centre + side * heights[rows] / 2, _FACE_OFF_MM) for side in (1, -1)]
    middle = (back + front) / 2
    plates = [
        _end_plate(vertebrae, affine, axes, line, side, middle) for line, side in zip(faces, (1, -1), strict=True)
    ]
    if plates[0] is None or plates[1] is None:
        return None
    # Heights are meant at right angles to the end plates, which may be aslant between discs that are shifted.
    heights = heights * np.cos(np.arctan((faces[0][0] + faces[1][0]) / 2))
    back, front = (float(np.mean([axes.project_mm(getattr(plate, end))[1] for plate in plates]))
                   for end in ("back_mm", "front_mm"))  # fmt: skip
    share = (front - anterior) / (front - back)
    means = [float(heights[(share >= low) & (share <= high)].mean()) for low, high in BANDS.values()]
    if min(means) < _LEAST_HEIGHT_MM:
        return None
    depth = (plates[0].depth_mm + plates[1].depth_mm) / 2
    return Body(axes, means[0], means[1], means[2], depth, plates[0], plates[1])


def reaches_disc(plate: EndPlate, side: int, disc: NDArray[np.bool_], affine: NDArray[np.float64]) -> bool:
    """Whether an end plate lies along the disc beside it; not where a corner of the body was left out of its outline.

    Args:
        plate: of the body.
        side: 1 for the upper end plate, whose disc lies above it, -1 for the lower one.
        disc: mask (D, H, W) of the disc alone.
        affine: of the mask.
    """
    share = np.linspace(0.05, 0.95, 13)
    heights = np.arange(-4.0, 14.1, STEP_MM)
    superior = side * np.cross(plate.right, plate.anterior)
    along = plate.back_mm + share[:, None] * (plate.front_mm - plate.back_mm)
    points = along[:, None] + heights[:, None] * superior + LATERAL_MM[:, None, None, None] * plate.right
    met = occupancy_at(disc, affine, points).mean(axis=0) >= 0.5
    for third in (met[share < 0.35], met[share > 0.65]):
        beside = third[third.any(axis=1)]  # what reaches beyond the disc, as after a slip, has no gap to it
        if len(beside) and float(heights[beside.argmax(axis=1)].mean()) > _MOST_GAP_MM:
            return False
    return True


def body_axes(lower: DiscAxes, upper: DiscAxes) -> DiscAxes:
    """The axes of what lies between two discs: from centroid to centroid, and their mean anterior axis across that."""
    superior = upper.centre_mm - lower.centre_mm
    superior = superior / np.linalg.norm(superior)
    anterior = lower.anterior + upper.anterior
    anterior = anterior - (anterior @ superior) * superior
    anterior /= np.linalg.norm(anterior)
    return DiscAxes((lower.centre_mm + upper.centre_mm) / 2, np.cross(anterior, superior), anterior, superior)


def _section(
    vertebrae: NDArray[np.bool_], affine: NDArray[np.float64], axes: DiscAxes, anterior: NDArray[np.float64],
    superior: NDArray[np.float64], discs: tuple[DiscAxes, DiscAxes], canal_mm: NDArray[np.float64] | None,
) -> NDArray[np.float32] | None:  # fmt: skip
    """Occupancy (A, S) of the body alone in the strip about the median plane; None for no body."""
    local = np.stack(np.meshgrid(LATERAL_MM, anterior, superior, indexing="ij"), axis=-1)
    section = occupancy_at(vertebrae, affine, axes.world_mm(local)).mean(axis=0)
    plane = axes.world_mm(local[len(LATERAL_MM) // 2])
    between = (discs[0].project_mm(plane)[..., 2] > 0) & (discs[1].project_mm(plane)[..., 2] < 0)
    behind = -_REACH_MM if canal_mm is None else _canal_behind(axes, canal_mm, superior)
    section = np.where(between & (anterior[:, None] > behind), section, np.float32(0))
    pieces, count = ndimage.label(section >= 0.5)
    if not count:
        return None
    sizes = np.bincount(pieces.ravel())[1:]
    places = ndimage.center_of_mass(pieces > 0, pieces, np.arange(1, count + 1))
    # The body is the large piece about the centre of its axes; a spinous process lies well behind it.
    near = [size / (1 + abs(anterior[min(round(place[0]), len(anterior) - 1)]) / 10) for size, place
            in zip(sizes, places, strict=True)]  # fmt: skip
    own = pieces == 1 + int(np.argmax(near))
    # With the partly filled rim round it, which the half full core leaves out.
    return np.where(ndimage.binary_dilation(own, iterations=3) & ((pieces == 0) | own), section, np.float32(0))


def _canal_behind(axes: DiscAxes, canal_mm: NDArray[np.float64], superior: NDArray[np.float64]) -> NDArray:
    """Where the middle of the canal lies (S,) along a body's anterior axis, at its superior positions."""
    local = axes.project_mm(canal_mm)
    order = np.argsort(local[:, 2])
    return np.asarray(np.interp(superior, local[order, 2], local[order, 1]))[None]


def _line(along: NDArray[np.float64], places: NDArray[np.float64], least_off_mm: float) -> tuple[float, float]:
    """Slope and offset of the straight line through places, those that lie well off it left out once."""
    slope, offset = np.polyfit(along, places, 1)
    off = np.abs(places - slope * along - offset)
    kept = off <= max(2.5 * float(np.median(off)), least_off_mm)
    slope, offset = np.polyfit(along[kept], places[kept], 1)
    return float(slope), float(offset)


def _end_plate(
    vertebrae: NDArray[np.bool_], affine: NDArray[np.float64], axes: DiscAxes, line: tuple[float, float], side: int,
    middle_mm: float,
) -> EndPlate | None:  # fmt: skip
    """The end plate along a line (slope, offset) in a body's axes; `side` is 1 for the upper and -1 for the lower."""
    slope, offset = line
    superior = axes.superior - slope * axes.anterior
    superior /= np.linalg.norm(superior)
    anterior = np.cross(superior, axes.right)
    origin = axes.world_mm(np.array([0.0, middle_mm, offset + slope * middle_mm]))
    own = DiscAxes(origin, axes.right, anterior, superior)
    return plate_of(vertebrae, affine, own, -side * _WALL_MM)


def plate_of(
    mask: NDArray[np.bool_], affine: NDArray[np.float64], axes: DiscAxes, depths_mm: NDArray[np.float64]
) -> EndPlate | None:
    """An end plate at right angles to the superior axis, its corners where the walls of the mask meet that plane.

    Args:
        mask: (D, H, W).
        affine: of the mask.
        axes: their centre is a point in the plane, well inside the walls.
        depths_mm: along the superior axis, where the walls are looked for.

    Returns:
        None where a wall is not seen at most of the depths.
    """
    along = np.arange(-_REACH_MM, _REACH_MM + STEP_MM / 2, STEP_MM / 2)
    local = np.stack(np.meshgrid(LATERAL_MM, along, depths_mm, indexing="ij"), axis=-1)
    profile = occupancy_at(mask, affine, axes.world_mm(local)).mean(axis=0)
    ends = []
    for towards in (-1, 1):
        found = [_wall_mm(profile[:, place], along, towards) for place in range(len(depths_mm))]
        seen = np.array([place is not None for place in found])
        if seen.sum() < (len(depths_mm) + 1) // 2:
            return None
        places = np.array([place for place in found if place is not None])
        # A wall leans a little; a steep one is a lip of bone, a rounded corner or a gap in the outline.
        lean = float(np.clip(_line(depths_mm[seen], places, _WALL_OFF_MM)[0], -_LEAN, _LEAN)) if seen.sum() > 2 else 0.0
        ends.append(float(np.median(places - lean * depths_mm[seen])))
    back, front = ends
    if front - back < _LEAST_DEPTH_MM:
        return None
    return EndPlate(axes.world_mm(np.array([0, back, 0])), axes.world_mm(np.array([0, front, 0])), axes.right,
                    axes.anterior)  # fmt: skip


def _wall_mm(profile: NDArray[np.floating], along: NDArray[np.float64], towards: int) -> float | None:
    """Where a profile falls to a half, from its middle to the back (-1) or to the front (1); None if it does not."""
    middle = len(along) // 2
    part, places = (profile[middle::towards], along[middle::towards])
    if part[0] < 0.5:
        return None
    outside = np.flatnonzero(part < 0.5)
    if not len(outside):
        return None
    at = int(outside[0])
    share = (part[at - 1] - 0.5) / (part[at - 1] - part[at])
    return float(places[at - 1] + share * (places[at] - places[at - 1]))
