"""What lies behind the bodies: the canal with its sac, cord and roots, and the arches with their processes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ivdjax.data.phantom.canvas import Box, Canvas
from ivdjax.data.phantom.shapes import Array, capsule, intersection, occupancy, superellipse, union
from ivdjax.data.phantom.spine import DiscShape, Spine
from ivdjax.data.phantom.tissues import Signals

_SAC_AP_MM, _SAC_WIDTH_MM = 7.3, 9.2
SAC_POWER = 2.2
"""Exponent of the sac's cross-section."""


def column_coordinates(spine: Spine, points: Array) -> tuple[Array, Array]:
    """Distance to the right of the column's middle and behind the back of the bodies, both (...) in mm."""
    z = points[2]
    slope = np.gradient(spine.wall_y_mm, spine.z_mm)
    # Across the slope rather than along y: the sacrum leans back by up to 50 degrees.
    lean = np.cos(np.arctan(np.convolve(np.pad(slope, 8, mode="edge"), np.ones(17) / 17, mode="valid")))
    right = points[0] - along_line(spine.middle_x_mm, spine, z)
    behind = (along_line(spine.wall_y_mm, spine, z) - points[1]) * along_line(lean, spine, z)
    return right, behind


def along_line(table: NDArray, spine: Spine, z: Array) -> Array:
    """Values at heights z of a table given at the heights `spine.z_mm`, a millimetre apart; constant past its ends."""
    at = np.clip(z - np.float32(spine.z_mm[0]), 0, len(table) - 1.001)
    whole = at.astype(np.int32)
    at -= whole
    table = table.astype(np.float32)
    step = np.diff(table)
    return table[whole] + at * step[whole]


def at_height(spine: Spine, z: Array, sizes: list[float]) -> Array:
    """Values at heights z of a size known for each disc, linear between their centres."""
    heights = [disc.frame.centre_mm[2] for disc in spine.discs]
    return along_line(np.interp(spine.z_mm, heights, sizes), spine, z)


def paint_canal(canvas: Canvas, spine: Spine, signals: Signals, right: Array, behind: Array,
                rng: np.random.Generator) -> NDArray[np.float64] | None:  # fmt: skip
    """Epidural fat, the sac full of CSF, the cord down to its conus and the roots below it.

    Returns:
        AP diameter and width of the sac (2, N) in mm at the heights `spine.z_mm`; None where it is out of view.
    """
    x_mid = float(np.median(spine.middle_x_mm))
    lowest, highest = float(spine.z_mm[0]), float(spine.z_mm[-1])
    middle = np.array([x_mid, float(np.mean(spine.wall_y_mm)) - 10, (lowest + highest) / 2])
    box = canvas.box(middle, (24 + float(np.ptp(spine.middle_x_mm)) / 2, float(np.ptp(spine.wall_y_mm)) / 2 + 30,
                              (highest - lowest) / 2))  # fmt: skip
    if box is None:
        return None
    x, u, z = right[box], behind[box], canvas.points[2][box]
    end = spine.disc(0).frame.centre_mm[2] + rng.uniform(-12, 8)
    taper = np.clip((z - np.float32(end)) / 65, 0, 1) ** np.float32(0.5)
    size = np.float32(spine.canal_scale) * (0.05 + 0.95 * taper)
    fade = np.clip((z - np.float32(end) + 45) / 30, 0, 1)
    # The sacral canal narrows as well, and keeps to the back of the segments.
    canal = np.float32(_SAC_AP_MM * spine.canal_scale) * (0.55 + 0.45 * taper)
    center = canal + np.float32(1.2 + rng.uniform(0, 1))
    epidural = superellipse(x, u - center, _SAC_WIDTH_MM + 3.5, canal + 2.2, 2.6)
    canvas.paint(box, occupancy(epidural, canvas.edge_mm) * fade, signals.blend("fat", "ligament", 0.1))
    narrow = _narrowing(spine)
    sac = superellipse(x, u - center, _SAC_WIDTH_MM * size, _SAC_AP_MM * size * along_line(narrow, spine, z), SAC_POWER)
    canvas.cover(box, sac - 0.5, signals["fascia"])
    inside = occupancy(sac, canvas.edge_mm)
    canvas.paint(box, inside, signals["csf"], 0.03)
    canvas.mark(box, sac, "canal")
    # Below the conus the roots lie in the back of the sac as threads along it.
    threads = canvas.noise(rng, (1.9, 1.9, 45.0))[box]
    low = np.clip(((u - center) / (_SAC_AP_MM * size) + np.float32(rng.uniform(0.2, 0.7))) * 1.5, 0, 1)
    below = np.clip((spine.conus_z_mm - z) / 15, 0, 1)
    roots = inside * low * below * np.clip(threads * 0.8 + 0.25, 0, 0.9)
    canvas.paint(box, roots.astype(np.float32), signals["root"])
    reach = np.clip((z - np.float32(spine.conus_z_mm)) / 25, 0, 1) ** np.float32(0.5)
    cord = superellipse(x, u - center - 0.8, 0.1 + 5.2 * reach, 0.1 + 4.0 * reach, 2.0)
    canvas.paint(box, occupancy(cord, canvas.edge_mm) * (reach > 0), signals["cord"], 0.04)
    sizes = spine.canal_scale * (0.05 + 0.95 * np.clip((spine.z_mm - end) / 65, 0, 1) ** 0.5)
    return np.stack([2 * _SAC_AP_MM * sizes * narrow, 2 * _SAC_WIDTH_MM * sizes])


def canal_height_mm(disc: DiscShape) -> float:
    """The height at which the canal crosses a disc's plane."""
    return float(disc.frame.world((0.0, -(disc.half_ap + 9.0), 0.0))[2])


def _narrowing(spine: Spine) -> NDArray[np.float64]:
    """The share of the sac's AP diameter that is there at the heights `spine.z_mm`: less at a stenosis, 16 mm long."""
    level, share = spine.stenosis
    if not level:
        return np.ones_like(spine.z_mm)
    off = np.abs(spine.z_mm - canal_height_mm(spine.disc(level)))
    return np.asarray(1 - (1 - share) * np.clip((14 - off) / 6, 0, 1))


def paint_arches(canvas: Canvas, spine: Spine, signals: Signals, rng: np.random.Generator) -> None:
    """Pedicles, laminae, articular, transverse and spinous processes of each vertebra."""
    size = rng.uniform(0.92, 1.1)
    for i, frame in enumerate(spine.body_frames):
        lower, upper = spine.discs[i], spine.discs[i + 1]
        draws = rng.normal(size=6)
        half = float(np.linalg.norm(upper.frame.centre_mm - lower.frame.centre_mm) / 2)
        back = -(lower.half_ap + upper.half_ap) / 2
        middle = frame.world((0, back - 22, -6))
        box = canvas.box(middle, (46, 46, 46))
        if box is None:
            continue
        local = frame.local(canvas.at(box))
        local = np.stack([np.abs(local[0]), local[1] - np.float32(back), local[2]])
        wide = (lower.half_width + upper.half_width) / 2
        bone = _arch(local, half, wide, lower.level, size, draws) + np.float32(0.35) * canvas.grain[box]
        canvas.cover(box, bone - 0.6, signals["flavum"])
        canvas.cover(box, bone, signals["cortex"])
        canvas.paint(box, occupancy(bone + 1.0, canvas.edge_mm), signals.blend("marrow", "fatty_marrow", 0.3), 0.12)
        if lower.level >= 1:  # as in the references of patients, the sacrum is not outlined
            canvas.mark(box, bone, "vertebra")


def paint_ligaments(canvas: Canvas, right: Array, behind: Array, box: Box, signals: Signals, spine: Spine,
                    rng: np.random.Generator) -> None:  # fmt: skip
    """The sheet between the spinous processes: fat streaked with ligament, and the cord of ligament over their tips."""
    x, u = right[box], behind[box]
    streaks = canvas.noise(rng, (4.0, 7.0, 3.0))[box]
    sheet = np.maximum(np.abs(x) - 3.2, np.maximum(16 - u, u - 50))
    above = canvas.points[2][box] - np.float32(spine.disc(1).frame.centre_mm[2] - 40)
    share = occupancy(sheet, 2.0) * np.clip(above / 30, 0, 1)
    canvas.paint(box, share, signals.blend("fat", "flavum", 0.35), 0.1)
    canvas.paint(box, share * np.clip(streaks + 0.3, 0, 1), signals["flavum"], 0.1)
    canvas.cover(box, np.maximum(np.abs(x) - 3.0, np.abs(u - 51) - 1.5), signals["ligament"])


def _arch(local: Array, half: float, wide: float, level: int, size: float, draws: Array) -> Array:
    """Signed distance to one arch; points have |x|, and y from the back of the body (negative behind)."""
    if level < 0:  # a sacral segment has a low ridge in place of an arch
        return capsule(local, (0, -14 * size, half + 1), (0, -12 * size, -half - 1), 3.0, (4.0, 1.0, 1.0))
    thoracic = float(np.clip((level - 4.5) / 2.5, 0, 1))
    side = wide * 0.62 - 2 * thoracic
    depth = -17.5 * size
    bone = capsule(local, (side, 5, 0.35 * half), (side + 0.5, depth + 5, 0.25 * half), 3.6, (1.0, 1.0, 1.9))
    lamina = capsule(local, (side - 1, depth + 1, -1), (2, depth - 7 * size, -7), 3.2, (1.0, 1.0, 2.6))
    bone = union(bone, lamina, 1.5)
    upper = capsule(local, (side + 1.5, depth + 3, 3), (side + 3, depth + 2, half + 5), 3.8, (1.1, 1.0, 1.0))
    lower = capsule(local, (side - 2, depth - 3, -6), (side - 2, depth - 4, -half - 7), 4.0, (1.2, 1.0, 1.0))
    bone = np.minimum(np.minimum(bone, upper), lower)
    reach = wide + (19 + 2 * float(draws[0])) * (1 - 0.5 * thoracic)
    transverse = capsule(local, (side + 2, depth + 4, 2), (reach, depth - 1 - 8 * thoracic, 4), 3.0, (1.0, 1.0, 1.6))
    bone = np.minimum(bone, transverse)
    # The spinous process: a hatchet in the lumbar spine, a slanting rod higher up; S1 has a low crest.
    length = (30 - 3 * (level == 1) + 2 * float(draws[1])) * size * (0.5 if level == 0 else 1)
    slant = np.radians(8 + 4 * float(draws[2]) + 30 * thoracic)
    y, z = local[1] - (depth - 5), local[2] + 9
    along, up = -y * np.cos(slant) - z * np.sin(slant), z * np.cos(slant) - y * np.sin(slant)
    height = (9.5 - 3.5 * thoracic + 0.8 * float(draws[3])) * size * (0.6 if level == 0 else 1)
    # Higher at the tip than at the root, and thicker along the lower edge.
    tip = np.clip(along / np.float32(length), 0, 1)
    high = np.float32(height) * (0.72 + 0.36 * tip)
    blade = superellipse(along - length / 2 + 1, up + 2 + 2 * tip, length / 2 + 2, high, 3.0)
    thick = np.abs(local[0]) - np.float32(3.0 + 0.4 * float(draws[4])) - np.float32(1.2) * np.clip(-up / height, 0, 1)
    return union(bone, intersection(blade, thick, 1.5), 2.0)
