"""One subject's spine as numbers: the place, tilt, size and wear of each disc, from the sacrum to the mid thorax.

Sizes, tilts and steps follow measurements on 28 patients of the SPIDER data (van der Graaf et al., Sci Data 11, 264,
2024), spread and correlation between neighbouring discs included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from ivdjax.data.phantom.shapes import Frame, rotation

TOP_LEVEL = 15
LOWEST_LEVEL = -3
"""Levels 0 to -3 stand for the remnants S1/S2 to S4/5, which are never labelled."""

# level: AP length, mean height, mid height (mm), tilt (deg), step to the disc below (mm), each with its spread;
# levels 9 to 15 go on with the trend, levels below 1 shape the sacrum.
_TABLE = {
    1: (35, 5, 7.1, 2.1, 7.6, -31, 9, 0.0, 0.0),
    2: (37, 5, 7.9, 2.5, 9.2, -12, 6, 35.0, 2.5),
    3: (38, 4, 8.1, 2.0, 9.4, -2, 5, 35.6, 2.6),
    4: (37, 4, 7.5, 1.9, 8.4, 6, 5, 36.6, 2.1),
    5: (35, 4, 6.7, 1.5, 8.0, 12, 6, 35.4, 1.8),
    6: (32, 4, 5.7, 1.3, 6.8, 10, 7, 33.6, 2.7),
    7: (31, 5, 4.7, 1.3, 5.7, 8, 6, 30.5, 3.4),
    8: (29, 5, 4.3, 1.0, 5.3, 6, 6, 27.9, 1.4),
    9: (28, 4, 4.0, 1.0, 4.9, 3, 6, 26.5, 1.4),
    10: (27, 4, 3.8, 0.9, 4.6, -1, 6, 25.5, 1.4),
    11: (26.5, 4, 3.6, 0.9, 4.4, -5, 6, 24.5, 1.4),
    12: (26, 4, 3.4, 0.9, 4.2, -9, 6, 23.5, 1.4),
    13: (25, 4, 3.3, 0.9, 4.1, -13, 6, 22.5, 1.4),
    14: (24, 4, 3.2, 0.9, 4.0, -17, 6, 21.5, 1.4),
    15: (23, 4, 3.2, 0.9, 4.0, -20, 6, 20.5, 1.4),
}
_WEDGE_DEG = {1: 9.0, 2: 7.5, 3: 6.0, 4: 4.5, 5: 3.0, 6: 2.0, 7: 1.0}
_WEAR_BY_LEVEL = {1: 0.6, 2: 0.6, 3: 0.1, 4: -0.1, 5: -0.3, 6: -0.4, 7: -0.4}
_SACRUM = {0: (27.0, 29.0, -21.0), -1: (21.0, 26.0, -3.0), -2: (16.0, 22.0, 6.0), -3: (12.0, 19.0, 14.0)}
"""Level: AP length of the bone and step in mm, tilt in degrees against the disc above."""


@dataclass(frozen=True, eq=False)
class DiscShape:
    """One disc, or sacral remnant.

    Attributes:
        frame: its centre and axes (right, front, top), in the patient's RAS mm.
        half_width, half_ap: half of the lateral and of the antero-posterior size, in mm.
        height: in the middle, mm; `taper` is the share lost towards the rim.
        wedge: rise in height from the centre to the front edge, mm; lost as much towards the back.
        bend: how far the sides lie behind the middle, mm: the concave back of the disc.
        power: exponent of the outline; 2 is an ellipse.
        wear: 0 (young, bright nucleus) to 1 (thin and dark).
        bulge: overhang past the endplates, mm.
        nodes: pits of the endplates: (x, y, depth, radius) in mm, depth negative in the lower one.
        ripples: waves of the endplates: depth in mm, wave numbers along x and y in 1/mm, phase; the upper endplate's
            have a positive phase.
        peak: where the disc is highest, -1 (back edge) to 1 (front edge).
        rim: how far the bone of the bodies reaches past the disc; more than 1 where segments have fused.
        contrast: 1, or less for a disc that fades into the bone.
    """

    level: int
    frame: Frame
    half_width: float
    half_ap: float
    height: float
    taper: float
    wedge: float
    bend: float
    power: float
    wear: float
    bulge: float
    nodes: tuple[tuple[float, float, float, float], ...] = ()
    ripples: tuple[tuple[float, float, float, float], ...] = ()
    peak: float = 0.0
    rim: float = 1.0
    contrast: float = 1.0

    def height_at(self, forward: float) -> float:
        """Distance in mm between the smooth endplates, in the median plane, at -1 (back edge) to 1 (front edge)."""
        return (self.height + self.wedge * forward) * (1 - self.taper * (forward - self.peak) ** 2)


@dataclass(frozen=True, eq=False)
class Spine:
    """The discs of one subject, rising from the lowest sacral remnant; `bodies` lie between neighbours.

    Attributes:
        discs: rising in level.
        body_frames: one for each pair of neighbouring discs.
        waist: share by which bodies are narrower half way between the discs.
        z_mm, wall_y_mm, middle_x_mm: for rising heights, where the back of the bodies lies and their lateral middle.
        conus_z_mm: the lower end of the spinal cord.
        canal_scale: size of the canal relative to the usual.
        age: 0 (young) to 1 (old); the source of wear, fatty marrow and fatty muscle.
        habitus: 0 (lean) to 1 (obese).
        slip: level at which the spine above stands to the front, and by how many mm; level 0: none.
        stenosis: level at which the canal is narrow, and the share of its AP diameter that is left; level 0: none.
    """

    discs: tuple[DiscShape, ...]
    body_frames: tuple[Frame, ...]
    waist: float
    z_mm: NDArray[np.float64]
    wall_y_mm: NDArray[np.float64]
    middle_x_mm: NDArray[np.float64]
    conus_z_mm: float
    canal_scale: float
    age: float
    habitus: float
    slip: tuple[int, float] = (0, 0.0)
    stenosis: tuple[int, float] = (0, 1.0)

    def disc(self, level: int) -> DiscShape:
        """The disc of that level."""
        return self.discs[level - self.discs[0].level]


def sample_spine(rng: np.random.Generator, hard: str = "") -> Spine:
    """Draws one subject; the centre of L5/S1 is the origin. `hard` names a kind that alters the anatomy, or none."""
    levels = np.arange(1, TOP_LEVEL + 1)
    table = np.array([_TABLE[int(k)] for k in levels])
    age, habitus, count = float(rng.beta(1.6, 1.6)), float(rng.beta(1.5, 2.5)), len(levels)
    build = rng.normal()
    length_z = 0.4 * build + 0.9 * _correlated(rng, count, shared=0.45, reach=2.0)
    step_z = 0.3 * build + 0.95 * _correlated(rng, count, shared=0.1, reach=1.5)
    tilt_z = _correlated(rng, count, shared=0.0, reach=6.0, period=13.0)
    wear_z = _correlated(rng, count, shared=0.3, reach=1.5)
    height_z = 0.3 * build - 0.5 * wear_z + 0.8 * _correlated(rng, count, shared=0.4, reach=2.0)
    length = table[:, 0] + table[:, 1] * np.clip(length_z, -1.8, 1.8)
    mean_height = np.maximum(table[:, 2] + table[:, 3] * np.clip(height_z, -2.2, 2.2), 0.35 * table[:, 2])
    tilt = table[:, 5] + table[:, 6] * np.clip(tilt_z, -2.2, 2.2)
    step = table[:, 7] + table[:, 8] * np.clip(step_z, -2.2, 2.2)
    level_wear = np.array([_WEAR_BY_LEVEL.get(int(k), -0.4) for k in levels])
    wear = 1 / (1 + np.exp(-(1.3 * wear_z + level_wear + 3.0 * (age - 0.5))))
    lateral, axial, shift = _scoliosis(rng, count, strong=hard == "scoliosis")

    discs, centre = [], np.zeros(3)
    for i, level in enumerate(int(k) for k in levels):
        if i:
            centre = centre + step[i] * rotation((tilt[i] + tilt[i - 1]) / 2)[2]
        frame = Frame(centre + np.array([shift[i], 0, 0]), rotation(tilt[i], lateral[i], axial[i]))
        shape = _disc_shape(rng, level, frame, length[i], mean_height[i], table[i, 4] / table[i, 2], wear[i])
        discs.append(shape)
    discs = _sacrum(rng, discs[0], remnant=hard == "s1s2") + discs
    slip, stenosis = (0, 0.0), (0, 1.0)
    if hard == "slip":
        slip = int(rng.integers(2, 5)), float(rng.uniform(4, 9))
        discs = _slipped(discs, *slip)
    if hard == "stenosis":
        stenosis = int(rng.integers(2, 5)), float(rng.uniform(0.45, 0.75))
    spine = _assemble(_harden(rng, discs, hard), rng, age, habitus, slip)
    return replace(spine, stenosis=stenosis)


def _slipped(discs: list[DiscShape], level: int, slip_mm: float) -> list[DiscShape]:
    """The discs above a level moved to the front along the plane of its disc, and that disc by half of it."""
    at = level - discs[0].level
    step = slip_mm * discs[at].frame.axes[1]
    shares = [0.0 if i < at else 0.5 if i == at else 1.0 for i in range(len(discs))]
    return [replace(disc, frame=Frame(disc.frame.centre_mm + share * step, disc.frame.axes))
            for disc, share in zip(discs, shares, strict=True)]  # fmt: skip


def _correlated(rng: np.random.Generator, count: int, shared: float, reach: float, period: float = 0.0) -> NDArray:
    """Standard normal deviates along the spine: a share common to all, the rest alike over `reach` levels."""
    lag = np.abs(np.subtract.outer(np.arange(count), np.arange(count)))
    decay = np.exp(-lag / reach) * (np.cos(2 * np.pi * lag / period) if period else 1.0)
    covariance = shared + (1 - shared) * decay + 1e-6 * np.eye(count)
    return np.linalg.cholesky(covariance) @ rng.normal(size=count)


def _scoliosis(rng: np.random.Generator, count: int, strong: bool) -> tuple[NDArray, NDArray, NDArray]:
    """Lateral tilt and axial turn in degrees and lateral shift in mm of each disc: a smooth S or C curve."""
    amplitude = rng.uniform(11, 17) if strong else abs(rng.normal(0, 1.6))
    wave, phase = rng.uniform(9, 14), rng.uniform(0, 2 * np.pi)
    at = 2 * np.pi * np.arange(count) / wave + phase
    side = float(rng.choice([-1, 1])) * amplitude
    shift = side * (np.sin(at) - np.sin(phase))
    shift -= shift[:7].mean()
    slope_deg = np.degrees(np.arctan(side * np.cos(at) * 2 * np.pi / wave / 34.0))
    return slope_deg + rng.normal(0, 1.0, count), 0.6 * side * np.sin(at), shift


def _disc_shape(rng: np.random.Generator, level: int, frame: Frame, length: float, mean_height: float,
                mid_share: float, wear: float) -> DiscShape:  # fmt: skip
    """A disc whose height, averaged over its length, is `mean_height`; `mid_share` is mid over mean height."""
    height = mean_height * mid_share
    # The rounded rim takes about 4 % of the mean height and taper / 3 is the mean of taper * u^2 over the length.
    taper = float(np.clip(3 * (1 - 1 / (0.96 * mid_share)) + rng.normal(0, 0.05), 0.0, 0.5))
    wedge_deg = max(_WEDGE_DEG.get(level, 0.5) + rng.normal(0, 2.0), -1.5)
    wedge = float(np.clip(np.tan(np.radians(wedge_deg)) * length / 2, -0.15 * height, 0.55 * height))
    ratio = np.interp(level, [1, 4, 7, 12], [1.42, 1.36, 1.24, 1.12]) + rng.normal(0, 0.03)
    nodes = tuple(
        (rng.uniform(-0.4, 0.4) * length, rng.uniform(-0.3, 0.25) * length,
         float(rng.choice([-1, 1])) * rng.uniform(1.5, 5.0), rng.uniform(2.5, 6.0))
        for _ in range(rng.poisson(0.25 if level >= 4 else 0.12))
    )  # fmt: skip
    bulge = float(rng.uniform(0, 0.6) + 1.2 * wear**2)
    ripples = tuple(
        (abs(rng.normal(0, 0.25)), rng.normal(0, 0.22), rng.normal(0, 0.22), side * rng.uniform(0.1, 6.2))
        for side in (-1, -1, 1, 1)
    )
    return DiscShape(
        level, frame, float(np.clip(ratio * length / 2, 13, 28.5)), length / 2 - bulge, height, taper, wedge,
        bend=float(rng.uniform(1.0, 3.5)) if level <= 7 else float(rng.uniform(0.5, 1.5)),
        power=float(rng.uniform(2.3, 3.0)), wear=float(wear), bulge=bulge, nodes=nodes, ripples=ripples,
        peak=float(rng.normal(-0.12, 0.08)),
    )  # fmt: skip


def _sacrum(rng: np.random.Generator, lumbosacral: DiscShape, remnant: bool) -> list[DiscShape]:
    """The remnants between sacral segments, from the lowest; `remnant` makes S1/S2 like a small disc."""
    discs: list[DiscShape] = []
    above, tilt = lumbosacral, _tilt_deg(lumbosacral.frame)
    size = lumbosacral.half_ap / 17.5
    for level in range(0, LOWEST_LEVEL - 1, -1):
        length, step, turn = _SACRUM[level]
        previous, tilt = tilt, tilt + turn + rng.normal(0, 3)
        grown = level == 0 and (remnant or rng.random() < 0.25)
        length *= size * rng.uniform(0.93, 1.07)
        middle = rotation((previous + tilt) / 2)
        # The backs of the segments lie on one line, so that the centres of ever smaller ones move back.
        retreat = 0.6 * (above.half_ap * above.rim - length / 2)
        centre = above.frame.centre_mm - size * step * middle[2] - retreat * middle[1]
        rim = 1.08 if remnant and level == 0 else rng.uniform(1.1, 1.25) if grown else rng.uniform(1.2, 1.6)
        height = rng.uniform(4.5, 7) if remnant and level == 0 else rng.uniform(3, 5) if grown else rng.uniform(1, 3)
        above = DiscShape(
            level, Frame(centre, rotation(tilt)), half_width=length * (0.85 if level else 0.8) / rim,
            half_ap=length / 2 / rim, height=height, taper=0.3 if remnant and level == 0 else 0.65, wedge=0.1 * height,
            bend=0.5, power=2.3, wear=float(rng.uniform(0.1, 0.6) if grown else rng.uniform(0.6, 1)), bulge=0.0,
            rim=rim,
        )  # fmt: skip
        discs.append(above)
    return discs[::-1]


def _harden(rng: np.random.Generator, discs: list[DiscShape], hard: str) -> list[DiscShape]:
    """Makes one disc faint or bulging, or collapses L5/S1, where that is asked for."""
    if hard == "faint_disc":
        at = int(rng.integers(1, 8)) - discs[0].level
        worn = max(0.45 * discs[at].height, 2.5)
        discs[at] = replace(discs[at], contrast=float(rng.uniform(0.08, 0.25)), height=worn, wear=0.8)
    if hard == "bulge":
        at = int(rng.integers(2, 6)) - discs[0].level
        discs[at] = replace(discs[at], bulge=float(rng.uniform(3, 5.5)), wear=max(discs[at].wear, 0.6))
    if hard == "collapsed_l5s1":
        at = 1 - discs[0].level
        discs[at] = replace(discs[at], height=float(rng.uniform(1.8, 3.0)), wedge=0.3, wear=1.0, nodes=())
    return discs


def _tilt_deg(frame: Frame) -> float:
    return float(np.degrees(np.arctan2(frame.axes[1, 2], frame.axes[1, 1])))


def _assemble(discs: list[DiscShape], rng: np.random.Generator, age: float, habitus: float,
              slip: tuple[int, float]) -> Spine:  # fmt: skip
    """Bodies between the discs, and the smooth line along the back of the column."""
    bodies = []
    for lower, upper in pairwise(discs):
        # A disc that the body above has slipped over is moved half the way: that body stands over its own end.
        foot, head = (
            disc.frame.centre_mm + side * slip[1] / 2 * disc.frame.axes[1] * (disc.level == slip[0])
            for disc, side in ((lower, 1), (upper, -1))
        )
        top = head - foot
        top /= np.linalg.norm(top)
        front = lower.frame.axes[1] + upper.frame.axes[1]
        front -= top * (front @ top)
        front /= np.linalg.norm(front)
        middle = (head + foot) / 2
        bodies.append(Frame(middle, np.stack([np.cross(front, top), front, top])))
    wall = [disc.frame.world((0, -disc.half_ap * disc.rim - disc.bulge / 2, 0)) for disc in discs]
    z = np.arange(np.floor(wall[0][2]) - 40, np.ceil(wall[-1][2]) + 40)
    knots = np.maximum.accumulate([p[2] for p in wall] + np.arange(len(wall)) * 1e-3)
    lines = [PchipInterpolator(knots, [p[i] for p in wall], extrapolate=False)(np.clip(z, knots[0], knots[-1]))
             for i in (1, 0)]  # fmt: skip
    conus = float(discs[int(rng.integers(5, 7)) - discs[0].level].frame.centre_mm[2] + rng.uniform(-10, 15))
    return Spine(
        tuple(discs), tuple(bodies), float(rng.uniform(0.07, 0.16)), z, lines[0], lines[1], conus,
        float(rng.uniform(0.85, 1.15)), age, habitus, slip,
    )  # fmt: skip
