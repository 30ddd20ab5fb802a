"""What the measures of wear would find on a phantom's own solids: end plates, heights, slip, overhang and angle.

Walls and faces are found on the solids themselves by halving intervals, without voxels. The definitions are those of
docs/measures.md. The grain of the bone's surface, a quarter of a millimetre, is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivdjax.data.phantom.discs import body_distance, disc_distance
from ivdjax.data.phantom.shapes import Array
from ivdjax.data.phantom.spine import Spine

_Distance = Callable[[Array], Array]

_ACROSS_MM = np.linspace(-5.0, 5.0, 5)
_DEPTHS_MM = np.linspace(1.5, 9.0, 16)
_REACH_MM = 34.0
_LEAN = 0.15
_BANDS = ((0.1, 0.3), (0.4, 0.6), (0.7, 0.9))
_BAND_MM, _STEP_MM = 3.0, 0.2


@dataclass(frozen=True)
class AlignmentTruth:
    """What holds at one level; the vertebra is the one above the disc. None at L5/S1 for what needs the sacrum.

    Attributes:
        slip_mm: of the vertebra above the disc on the one below, as it is drawn.
        posterior_overhang_mm: of the disc behind the line between the back corners.
        segmental_angle_deg: between the upper end plates of both vertebrae.
        body_heights_mm: anterior, middle and posterior.
        body_depth_mm: mean length of the end plates.
    """

    slip_mm: float | None = None
    posterior_overhang_mm: float | None = None
    segmental_angle_deg: float | None = None
    body_heights_mm: tuple[float | None, float | None, float | None] = (None, None, None)
    body_depth_mm: float | None = None


@dataclass(frozen=True, eq=False)
class _Plate:
    """Back corner (3,), front corner (3,) and direction to the front (3,), in the patient's mm."""

    back_mm: NDArray[np.float64]
    front_mm: NDArray[np.float64]
    forward: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Body:
    upper: _Plate
    lower: _Plate
    heights_mm: tuple[float, float, float]
    right: NDArray[np.float64]

    @property
    def depth_mm(self) -> float:
        return float(np.mean([np.linalg.norm(plate.front_mm - plate.back_mm) for plate in (self.upper, self.lower)]))


def alignment_truth(spine: Spine, levels: Collection[int]) -> dict[int, AlignmentTruth]:
    """What holds at the discs of some levels, each from 1 = L5/S1 to the one below the spine's uppermost."""
    bodies = {level: _body(spine, level) for level in sorted({k for at in levels for k in (at, at - 1) if k > 0})}
    return {level: _level(spine, level, bodies.get(level - 1), bodies[level]) for level in levels}


def _level(spine: Spine, level: int, below: _Body | None, body: _Body) -> AlignmentTruth:
    if below is None:
        return AlignmentTruth(None, None, None, body.heights_mm, body.depth_mm)
    forward = below.upper.forward + body.lower.forward
    slip = float((body.lower.back_mm - below.upper.back_mm) @ forward / np.linalg.norm(forward))
    turn = np.cross(below.upper.forward, body.upper.forward) @ body.right
    angle = float(np.degrees(np.arctan2(turn, below.upper.forward @ body.upper.forward)))
    return AlignmentTruth(slip, _overhang_mm(spine, level, below, body), angle, body.heights_mm, body.depth_mm)


def _body(spine: Spine, level: int) -> _Body:
    """The vertebral body above the disc of a level."""
    index = level - spine.discs[0].level
    frame = spine.body_frames[index]
    right, forward, up = frame.axes
    centre = frame.centre_mm
    half = float(np.linalg.norm(spine.discs[index + 1].frame.centre_mm - spine.discs[index].frame.centre_mm)) / 2

    def solid(points: Array) -> Array:
        return body_distance(spine, index, points)

    across = centre + _ACROSS_MM[:, None] * right
    back, front = (side * float(_surface(solid, across, side * forward, _REACH_MM).mean()) for side in (-1, 1))
    # The middle 80 % lie between the corners, which are known only after the faces: twice is enough.
    for _ in range(2):
        along = np.linspace(back + 0.1 * (front - back), front - 0.1 * (front - back), 41)
        starts = across[:, None] + along[:, None] * forward
        top, bottom = (side * _surface(solid, starts, side * up, half + 8).mean(axis=0) for side in (1, -1))
        lines = [_line(along, face) for face in (top, bottom)]
        plates = [_plate(solid, frame.axes, centre, line, side, (back + front) / 2)
                  for line, side in zip(lines, (1, -1), strict=True)]  # fmt: skip
        back = float(np.mean([(plate.back_mm - centre) @ forward for plate in plates]))
        front = float(np.mean([(plate.front_mm - centre) @ forward for plate in plates]))
    heights = (top - bottom) * np.cos(np.arctan((lines[0][0] + lines[1][0]) / 2))
    share = (front - along) / (front - back)
    anterior, middle, posterior = (float(heights[(share >= low) & (share <= high)].mean()) for low, high in _BANDS)
    return _Body(plates[0], plates[1], (anterior, middle, posterior), right)


def _plate(solid: _Distance, axes: NDArray[np.float64], centre: NDArray[np.float64], line: tuple[float, float],
           side: int, middle_mm: float) -> _Plate:  # fmt: skip
    """The end plate along a line in a body's frame, its corners on the walls carried on to it."""
    right, forward, up = axes
    normal = up - line[0] * forward
    normal /= np.linalg.norm(normal)
    along = np.cross(normal, right)
    origin = centre + middle_mm * forward + (line[1] + line[0] * middle_mm) * up
    starts = origin - side * _DEPTHS_MM[:, None] * normal + _ACROSS_MM[:, None, None] * right
    corners = []
    for towards in (-1, 1):
        wall = towards * _surface(solid, starts, towards * along, _REACH_MM).mean(axis=0)
        lean = np.clip(np.polyfit(_DEPTHS_MM, wall, 1)[0], -_LEAN, _LEAN)
        corners.append(origin + float(np.median(wall - lean * _DEPTHS_MM)) * along)
    return _Plate(corners[0], corners[1], along)


def _overhang_mm(spine: Spine, level: int, below: _Body, above: _Body) -> float:
    """How far the disc reaches behind the line between the corners, where a band of it is half full."""
    disc, low, high = spine.disc(level), below.upper.back_mm, above.lower.back_mm
    right = above.right
    up = high - low - ((high - low) @ right) * right
    gap = float(np.linalg.norm(up))
    up /= gap
    forward = np.cross(up, right)
    rows = np.arange(-gap / 2 - 1, gap / 2 + 1 + _STEP_MM / 2, _STEP_MM)
    along = np.arange(-15.0, 15.0, _STEP_MM)
    plane = (low + high) / 2 + along[:, None, None] * forward + rows[:, None] * up
    places = plane + _ACROSS_MM[:, None, None, None] * right
    full = (disc_distance(disc, np.moveaxis(places, -1, 0).astype(np.float32)) <= 0).mean(axis=0)
    # The rows lean with a slip, so that a ray across them may miss the disc: all points are looked at.
    band = max(1, round(min(_BAND_MM, gap / 2) / _STEP_MM))
    sums = np.cumsum(np.pad(full, ((0, 0), (1, 0))), axis=1)
    half_full = ((sums[:, band:] - sums[:, :-band]) / band >= 0.5).any(axis=1)
    return _STEP_MM / 2 - float(along[np.argmax(half_full)])


def _surface(solid: _Distance, starts: NDArray[np.float64], way: NDArray[np.float64], reach_mm: float) -> NDArray:
    """How far (...) it is from points (..., 3) inside a solid to its surface along a unit vector (3,)."""
    inside, outside = np.zeros(starts.shape[:-1]), np.full(starts.shape[:-1], reach_mm)
    for _ in range(13):
        middle = (inside + outside) / 2
        points = np.moveaxis(starts + middle[..., None] * way, -1, 0).astype(np.float32)
        within = solid(points) <= 0
        inside, outside = np.where(within, middle, inside), np.where(within, outside, middle)
    return (inside + outside) / 2


def _line(along: NDArray[np.float64], places: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and offset of the line through a face; what lies more than a millimetre off it is left out once."""
    slope, offset = np.polyfit(along, places, 1)
    off = np.abs(places - slope * along - offset)
    kept = off <= max(2.5 * float(np.median(off)), 1.0)
    slope, offset = np.polyfit(along[kept], places[kept], 1)
    return float(slope), float(offset)
