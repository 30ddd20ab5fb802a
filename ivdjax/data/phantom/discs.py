"""Discs and vertebral bodies: their solids, their paint and the labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ivdjax.data.phantom.canvas import Box, Canvas
from ivdjax.data.phantom.shapes import Array, capsule, ellipsoid, intersection, occupancy, superellipse
from ivdjax.data.phantom.spine import DiscShape, Spine
from ivdjax.data.phantom.tissues import Signals

_LIGAMENT_MM, _ENDPLATE_MM, _FUSED_MM = 0.7, 0.8, 0.45


def disc_box(canvas: Canvas, disc: DiscShape, margin_mm: float = 3.0) -> Box | None:
    """The box of voxels that a disc can reach; None where it lies outside the field of view."""
    reach = disc.half_ap + disc.bend + disc.bulge + margin_mm
    height = disc.height / 2 + max([abs(node[2]) for node in disc.nodes], default=0.0) + margin_mm
    return canvas.frame_box(disc.frame, (disc.half_width + disc.bulge + margin_mm, reach, height + abs(disc.wedge)))


def disc_distance(disc: DiscShape, points: Array) -> Array:
    """Signed distance in mm (negative inside) from points (3, ...) to the surface of a disc."""
    x, y, z = disc.frame.local(points)
    outline = _outline(disc, x, y, disc.bulge)
    top, bottom = disc_surfaces(disc, x, y)
    rim = min(0.35 * disc.height, 2.5)
    return intersection(outline, np.maximum(z - top, bottom - z), rim)


def paint_column(canvas: Canvas, spine: Spine, signals: Signals, rng: np.random.Generator) -> None:
    """Paints vertebral bodies and sacral segments, then all discs, over what is there."""
    mottle = canvas.noise(rng, 11.0)
    for i, frame in enumerate(spine.body_frames):
        lower, upper = spine.discs[i], spine.discs[i + 1]
        half = float(np.linalg.norm(upper.frame.centre_mm - lower.frame.centre_mm)) / 2
        reach = max(lower.half_ap * lower.rim, upper.half_ap * upper.rim) + 6
        width = max(lower.half_width * lower.rim, upper.half_width * upper.rim) + 4
        draws = rng.uniform(size=12)
        box = canvas.frame_box(frame, (width, reach, half + 0.4 * reach))
        if box is not None:
            _paint_body(canvas, spine, signals, i, box, mottle, draws)
    for disc in spine.discs:
        draws = rng.uniform(size=6)
        box = disc_box(canvas, disc)
        if box is not None:
            _paint_disc(canvas, disc, signals, box, draws)


def paint_wings(canvas: Canvas, spine: Spine, signals: Signals) -> None:
    """The wings of the sacrum at the sides of its upper segments; the roots' openings stay between them."""
    lower, upper = spine.disc(-1), spine.disc(1)
    middle = (lower.frame.centre_mm + upper.frame.centre_mm) / 2
    box = canvas.box(middle, (60, 45, 45))
    if box is None:
        return
    for disc, forward, high in ((spine.disc(0), 0.0, 14.0), (spine.disc(-1), 0.0, 11.0)):
        segment = spine.body_frames[spine.discs.index(disc)]
        x, y, z = segment.local(canvas.at(box))
        side = np.stack([np.abs(x) - 42, y + np.float32(6 - forward), z - 1])
        wing = ellipsoid(side, (26.0, disc.half_ap * disc.rim + 4, high))
        canvas.cover(box, wing, signals["cortex"])
        canvas.paint(box, occupancy(wing + 1.0, canvas.edge_mm), signals.blend("marrow", "fatty_marrow", 0.25), 0.12)


def paint_bridge(canvas: Canvas, spine: Spine, signals: Signals, level: int) -> None:
    """Joins the discs `level` and `level + 1` by a rod of disc tissue through the body between them."""
    lower, upper = spine.disc(level), spine.disc(level + 1)
    start = lower.frame.world((0, 0.25 * lower.half_ap, 0))
    end = upper.frame.world((0, 0.25 * upper.half_ap, 0))
    box = canvas.box((start + end) / 2, float(np.linalg.norm(end - start)) / 2 + 12)
    if box is None:
        return
    middle = (start + end) / 2
    points = canvas.at(box) - middle.astype(np.float32).reshape(3, 1, 1, 1)
    distance = capsule(points, tuple(start - middle), tuple(end - middle), 5.0, (1.6, 1.0, 1.0))
    canvas.cover(box, distance - 1.0, signals["cortex"])
    canvas.cover(box, distance, signals.blend("annulus", "worn_nucleus", 0.5), 0.1)


def _outline(disc: DiscShape, x: Array, y: Array, grow_mm: float) -> Array:
    bent = y + np.float32(disc.bend) * (x / disc.half_width) ** 2
    return superellipse(x, bent, disc.half_width + grow_mm, disc.half_ap + grow_mm, disc.power)


def disc_surfaces(disc: DiscShape, x: Array, y: Array) -> tuple[Array, Array]:
    """Heights in mm of the upper and lower endplate over the disc's own plane."""
    forward = np.clip(y / disc.half_ap, -1.15, 1.15)
    radius2 = np.minimum((forward - np.float32(disc.peak)) ** 2 + (x / disc.half_width) ** 2, 1.3)
    half = np.float32(0.5) * (disc.height + disc.wedge * forward) * (1 - np.float32(disc.taper) * radius2)
    top, bottom = half, -half
    for depth, along_x, along_y, phase in disc.ripples:
        wave = np.float32(depth) * np.sin(np.float32(along_x) * x + np.float32(along_y) * y + np.float32(phase))
        top, bottom = (top + wave, bottom) if phase > 0 else (top, bottom + wave)
    for node_x, node_y, depth, radius in disc.nodes:
        pit = np.float32(abs(depth)) * np.exp(-((((x - node_x) ** 2 + (y - node_y) ** 2) / np.float32(radius**2)) ** 2))
        top, bottom = (top + pit, bottom) if depth > 0 else (top, bottom - pit)
    return top, bottom


def body_distance(spine: Spine, index: int, points: Array) -> Array:
    """Signed distance in mm to the body between the discs `index` and `index + 1` of the spine."""
    lower, upper, frame = spine.discs[index], spine.discs[index + 1], spine.body_frames[index]
    half = np.float32(np.linalg.norm(upper.frame.centre_mm - lower.frame.centre_mm) / 2)
    x, y, z = frame.local(points)
    t = np.clip(z / half, -1, 1)
    # Narrow half way, with a lip towards each rim, as a cylinder of bone worn by its ligaments.
    waist = 1 - np.float32(spine.waist) * (1 - t**2) ** 2
    share = (t + 1) / 2
    low_width, top_width = lower.half_width * lower.rim, upper.half_width * upper.rim
    low_ap, top_ap = lower.half_ap * lower.rim, upper.half_ap * upper.rim
    half_width = (low_width + (top_width - low_width) * share) * waist
    half_ap = (low_ap + (top_ap - low_ap) * share) * (1 - (1 - waist) * np.float32(0.6))
    bend = np.float32((lower.bend + upper.bend) / 2)
    wall = superellipse(x, y + bend * (x / half_width) ** 2, half_width, half_ap, (lower.power + upper.power) / 2)
    x_low, y_low, z_low = lower.frame.local(points)
    x_up, y_up, z_up = upper.frame.local(points)
    floor = disc_surfaces(lower, x_low, y_low)[0] - z_low
    roof = z_up - disc_surfaces(upper, x_up, y_up)[1]
    return intersection(wall, np.maximum(floor, roof), 2.0)


def _paint_body(canvas: Canvas, spine: Spine, signals: Signals, index: int, box: Box, mottle: Array,
                draws: NDArray[np.float64]) -> None:  # fmt: skip
    lower, upper, frame = spine.discs[index], spine.discs[index + 1], spine.body_frames[index]
    points = canvas.at(box)
    distance = body_distance(spine, index, points) + np.float32(0.25) * mottle[box]
    fused = lower.level <= 0
    if not fused:
        canvas.mark(box, distance, "vertebra")
    canvas.cover(box, distance - _LIGAMENT_MM, signals["ligament"])
    canvas.cover(box, distance, signals["cortex"])
    inner = occupancy(distance + (_FUSED_MM if fused else _ENDPLATE_MM), canvas.edge_mm)
    marrow = signals.blend("marrow", "fatty_marrow", 0.15 * float(draws[0]) + 0.1 * fused)
    canvas.paint(box, inner, marrow, 0.07 + 0.08 * float(draws[11]))
    spots = np.clip(mottle[box] - 0.6, 0, 1) * np.float32(0.35 + 0.5 * spine.age)
    canvas.paint(box, inner * spots, signals["fatty_marrow"])
    if lower.level >= 1:
        _paint_vein(canvas, signals, box, inner, frame.local(points), lower, upper, draws)
    for disc, side in ((lower, 1.0), (upper, -1.0)):
        chance = draws[2] if side > 0 else draws[3]
        if disc.level >= 1 and chance < 0.7 * disc.wear**2:
            _paint_reaction(canvas, signals, box, inner, disc, points, side * (1 if draws[4] < 0.5 else 0.6), chance)
    if draws[5] < 0.08:  # a hemangioma: a round lump of fat
        local = frame.local(points) - np.float32(10) * (draws[6:9].astype(np.float32) - 0.5).reshape(3, 1, 1, 1)
        canvas.paint(box, inner * occupancy(ellipsoid(local, (5, 5, 5)), 3.0), signals["fatty_marrow"], 0.2)


def _paint_vein(canvas: Canvas, signals: Signals, box: Box, inner: Array, local: Array, lower: DiscShape,
                upper: DiscShape, draws: NDArray[np.float64]) -> None:  # fmt: skip
    """The basivertebral vein: a flat wedge that enters at the middle of the back wall and thins out to the front."""
    back = (lower.half_ap + upper.half_ap) / 2
    depth = np.clip((local[1] + np.float32(back)) / np.float32(back * (0.4 + 0.7 * draws[1])), 0, 1)
    wedge = np.hypot(local[0] / 4, local[2] - np.float32(3 * draws[9] - 1.5)) - np.float32(2.2) * (1 - depth)
    share = inner * occupancy(wedge, 2.0) * (1 - depth) * np.float32(0.9 * draws[10])
    canvas.paint(box, share, signals.blend("blood", "fat", 0.3))


def _paint_reaction(canvas: Canvas, signals: Signals, box: Box, inner: Array, disc: DiscShape, points: Array,
                    side: float, chance: float) -> None:  # fmt: skip
    """Marrow next to a worn disc: edema, fat or sclerosis (Modic types 1 to 3)."""
    x, y, z = disc.frame.local(points)
    top, bottom = disc_surfaces(disc, x, y)
    depth = (z - top if side > 0 else bottom - z) / np.float32(3 + 9 * abs(side) * disc.wear)
    front = np.clip(0.5 + (y / disc.half_ap) * np.float32(np.sign(chance - 0.2)), 0.2, 1)
    share = inner * np.clip(1 - depth, 0, 1) * (depth > -0.5) * front
    kind = ("edema", "fatty_marrow", "fatty_marrow", "sclerosis")[int(chance * 1000) % 4]
    canvas.paint(box, (share * np.float32(0.8)).astype(np.float32), signals[kind], 0.15)


def _paint_disc(canvas: Canvas, disc: DiscShape, signals: Signals, box: Box, draws: NDArray[np.float64]) -> None:
    points = canvas.at(box)
    x, y, z = disc.frame.local(points)
    top, bottom = disc_surfaces(disc, x, y)
    distance = disc_distance(disc, points)
    outline = _outline(disc, x, y, disc.bulge)
    strength = np.float32(disc.contrast)
    edge = canvas.edge_mm
    canvas.paint(box, occupancy(distance, edge) * strength, signals["outer_annulus"], 0.08)
    inner = occupancy(distance + np.float32(0.5), edge) * occupancy(outline + 2.5, 3.0)
    canvas.paint(box, inner * strength, signals.blend("annulus", "outer_annulus", 0.35 * disc.wear), 0.12)
    # The nucleus: the middle of the disc, a little to the back, well set off in youth and lost with wear.
    core = superellipse(x, y + 0.06 * disc.half_ap, 0.68 * disc.half_width, 0.62 * disc.half_ap, 2.2)
    depth = np.minimum(top - z, z - bottom)
    soft = 1.5 + 5 * disc.wear
    share = occupancy(core, soft + 1) * np.clip(depth / np.float32(0.12 * disc.height + 0.3), 0, 1)
    wear = np.float32(disc.wear)
    bright = np.clip(1.25 - 1.5 * wear, 0, 1)
    canvas.paint(box, share * inner * strength, signals.blend("worn_nucleus", "nucleus", float(bright)), 0.1)
    if disc.height > 5 and bright > 0.3 and draws[0] < 0.7:  # the fibrous cleft of a healthy nucleus
        cleft = np.exp(-((z - (top + bottom) / 2) ** 2) / np.float32(2 * 0.7**2)) * share * inner
        canvas.paint(box, cleft * strength * np.float32(0.6), signals["cleft"])
    if disc.wear > 0.8 and draws[1] < 0.12:  # vacuum
        gas = capsule(np.stack([x, y, z]), (-6, -2, 0), (6, 4, 0), 0.1 * disc.height, (4.0, 4.0, 1.0))
        canvas.paint(box, occupancy(gas, edge) * inner * strength, signals["gas"])
    if disc.wear > 0.45 and draws[2] < 0.3:  # a tear with fluid at the back
        tear = ellipsoid(np.stack([x, y + 0.88 * disc.half_ap, z]), (3.5, 1.5, 1.2))
        canvas.paint(box, occupancy(tear, edge) * inner * strength, signals["edema"])
