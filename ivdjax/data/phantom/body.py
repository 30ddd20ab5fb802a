"""The body round the spine: skin and fat, muscles, vessels, bowel and other organs, painted before the bones."""

from __future__ import annotations

import numpy as np

from ivdjax.data.phantom.canvas import Box, Canvas
from ivdjax.data.phantom.posterior import along_line, at_height, paint_ligaments
from ivdjax.data.phantom.shapes import Array, ellipsoid, occupancy, superellipse
from ivdjax.data.phantom.spine import Spine
from ivdjax.data.phantom.tissues import Signals


def paint_body(canvas: Canvas, spine: Spine, signals: Signals, right: Array, behind: Array,
               rng: np.random.Generator) -> Array:  # fmt: skip
    """Paints all soft tissue outside the canal; returns the distance (D, H, W) in mm to the skin, negative inside."""
    whole, z = canvas.whole, canvas.points[2]
    fat_back = rng.uniform(5, 14) + 38 * spine.habitus
    fat_front = rng.uniform(6, 14) + 30 * spine.habitus
    muscle = rng.uniform(48, 58)
    skin_back, skin_front = _skins(spine, rng, muscle, fat_back, fat_front)
    y = canvas.points[1]
    to_back, to_front = along_line(skin_back, spine, z) - y, y - along_line(skin_front, spine, z)
    skin = np.maximum(to_back, to_front)
    septa = canvas.noise(rng, (14.0, 7.0, 4.0))
    canvas.cover(whole, skin, signals["skin"])
    canvas.cover(whole, skin + 2.0, signals["fat"], 0.03)
    threads = np.exp(-((septa / 0.07) ** 2)) * 0.2
    canvas.paint(whole, threads * occupancy(skin + 3, 2.0), signals["fascia"])
    _paint_viscera(canvas, signals, spine, np.maximum(to_front + np.float32(fat_front), behind + 14), rng)
    _paint_muscles(canvas, signals, spine, right, behind, to_back + np.float32(fat_back), rng)
    _paint_front_wall(canvas, signals, to_front + np.float32(fat_front))
    _paint_vessels(canvas, signals, spine, right, behind, rng)
    paint_ligaments(canvas, right, behind, whole, signals, spine, rng)
    return skin


def _skins(spine: Spine, rng: np.random.Generator, muscle: float, fat_back: float,
           fat_front: float) -> tuple[Array, Array]:  # fmt: skip
    """y in mm of the skin of the back and of the belly, at the heights of the spine's line."""
    z, wall = spine.z_mm, spine.wall_y_mm
    lumbar = (z > -10) & (z < 250)
    mean = wall[lumbar].mean()
    # The back follows the spine by half; below the sacrum's top the buttocks bulge.
    back = mean + 0.5 * (wall - mean) - muscle - fat_back
    back -= np.clip(-z - 5, 0, 60) * (0.25 + 0.15 * spine.habitus)
    back = np.minimum(back, wall - 22 - 0.6 * fat_back)
    depth = rng.uniform(95, 125) + 70 * spine.habitus
    belly = depth + fat_front + rng.uniform(5, 20) * np.cos((z - rng.uniform(20, 90)) / rng.uniform(70, 110))
    return back.astype(np.float32), (mean + belly).astype(np.float32)


def _paint_viscera(canvas: Canvas, signals: Signals, spine: Spine, cavity: Array, rng: np.random.Generator) -> None:
    """Fat of the belly, loops of bowel with fluid, content or gas, liver above, bladder and womb below."""
    whole = canvas.whole
    inside = occupancy(cavity, 3.0)
    canvas.paint(whole, inside, signals["visceral_fat"], 0.05)
    # Vessels and folds of the mesentery: thin, in patches.
    folds = np.exp(-((canvas.noise(rng, (9.0, 8.0, 6.0)) / 0.13) ** 2)) * np.clip(canvas.noise(rng, 18.0), 0, 0.6)
    canvas.paint(whole, inside * folds * np.float32(0.7), signals["bowel_wall"])
    # Bowel: winding tubes along the zeros of one field, where another one allows them, and away from the spine.
    near_spine = np.clip(2.2 + cavity / 14, 0, 3) * np.float32(1.2)
    crowd = canvas.noise(rng, 38.0) + np.float32(rng.uniform(-0.2, 0.9) - 0.6 * spine.habitus) - near_spine
    tubes = np.minimum(np.float32(0.55) - np.abs(canvas.noise(rng, (17.0, 17.0, 15.0))), crowd)
    content = canvas.noise(rng, 26.0)
    wall, lumen = np.clip(tubes / 0.2 + 0.5, 0, 1), np.clip((tubes - 0.15) / 0.15 + 0.5, 0, 1) * inside
    canvas.paint(whole, inside * wall, signals["bowel_wall"], 0.12)
    canvas.paint(whole, lumen, signals["bowel_content"], 0.25)
    canvas.paint(whole, lumen * np.clip(content * 2 - 0.6, 0, 0.9), signals["bowel_fluid"], 0.15)
    canvas.paint(whole, lumen * np.clip(-content * 4 - 2.6, 0, 1), signals["gas"], 0.1)
    front = float(spine.disc(3).frame.centre_mm[1])
    top, bottom = float(spine.disc(6).frame.centre_mm[2]), float(spine.disc(0).frame.centre_mm[2])
    organs = (
        ("liver", (75.0, front + rng.uniform(50, 75), top + rng.uniform(0, 40)), (95.0, 62.0, 75.0), 0.06),
        ("bowel_content", (-35.0, front + rng.uniform(40, 75), top + rng.uniform(-30, 20)), (38.0, 32.0, 38.0), 0.25),
        ("muscle", (rng.uniform(-20, 5), front + rng.uniform(18, 28), top - rng.uniform(0, 35)), (45.0, 9.0, 11.0),
         0.2),
        ("bladder", (rng.uniform(-8, 8), front + rng.uniform(40, 70), bottom - rng.uniform(55, 85)),
         (40.0, rng.uniform(20, 35), rng.uniform(15, 35)), 0.03),
        ("muscle", (rng.uniform(-10, 10), front + rng.uniform(10, 35), bottom - rng.uniform(35, 65)),
         (25.0, rng.uniform(15, 30), rng.uniform(12, 22)), 0.1),
    )  # fmt: skip
    wobble = canvas.noise(rng, 22.0)
    for tissue, centre, half, grain in organs:
        _paint_organ(canvas, signals, inside, tissue, centre, half, grain, wobble)


def _paint_organ(canvas: Canvas, signals: Signals, inside: Array, tissue: str, centre: tuple[float, float, float],
                 half: tuple[float, float, float], grain: float, wobble: Array) -> None:  # fmt: skip
    box = canvas.box(np.array(centre), (half[0] + 18, half[1] + 18, half[2] + 18))
    if box is None:
        return
    distance = ellipsoid(canvas.at(box) - np.array(centre, dtype=np.float32).reshape(3, 1, 1, 1), half)
    distance += np.float32(0.14 * min(half) + 1) * wobble[box]
    canvas.paint(box, inside[box] * occupancy(distance - 1.5, 2.0), signals["bowel_wall"])
    canvas.paint(box, inside[box] * occupancy(distance, 2.0), signals[tissue], grain)


def _paint_muscles(canvas: Canvas, signals: Signals, spine: Spine, right: Array, behind: Array, fascia: Array,
                   rng: np.random.Generator) -> None:  # fmt: skip
    """Muscles of the back under their fascia, streaked with fat most near the sacrum, and the psoas at the sides."""
    whole, points = canvas.whole, canvas.points
    back = np.maximum(14 - behind, fascia)
    canvas.cover(whole, np.maximum(8 - behind, fascia - 1.0), signals["fascia"])
    canvas.cover(whole, back, signals["muscle"], 0.1)
    # Sheets of fat between the bundles, which slant up and back; most of it near the sacrum and the laminae.
    streaks = 0.8 * canvas.noise(rng, (6.0, 3.5, 22.0)) + 0.5 * canvas.noise(rng, (9.0, 6.0, 9.0))
    sheets = canvas.noise(rng, (16.0, 5.0, 30.0))
    low = np.clip((60 - points[2]) / 120, -0.3, 1)
    bias = np.float32(1.1 * spine.age + 0.3 * spine.habitus - 1.05 + rng.normal(0, 0.15)) + 0.7 * low
    near = np.clip((30 - behind) / 14, 0, 1) * np.float32(1.1)
    share = np.maximum((streaks + bias + near) * 1.6, 0.85 * np.exp(-((sheets / 0.16) ** 2)) * (0.4 + near))
    canvas.paint(whole, np.clip(share, 0, 0.95) * occupancy(back + 1.0, 2.0), signals["fat"], 0.05)
    side = np.abs(right)
    z = points[2]
    wide = at_height(spine, z, [d.half_width for d in spine.discs])
    reach = np.clip((float(spine.disc(6).frame.centre_mm[2]) - z) / 130, 0, 1.1) ** np.float32(0.5)
    low = np.clip(-z / 60, 0, 1.2)
    psoas = superellipse(side - wide * (0.95 + 0.1 * low) - 11 * reach, behind + 14 + 16 * low - 6 * reach,
                         0.5 + 15 * reach, 0.5 + 19 * reach, 2.0)  # fmt: skip
    share = occupancy(psoas, 1.5) * (reach > 0)
    canvas.paint(whole, share * (1 - 0.35 * np.clip(streaks - 0.6, 0, 1)), signals["muscle"], 0.08)
    quadratus = superellipse(side - 48, behind - 4, 14.0, 9.0, 2.0)
    canvas.paint(whole, occupancy(quadratus, 1.5) * (z > 0), signals["muscle"], 0.08)
    dome = float(spine.disc(7).frame.centre_mm[2]) + rng.uniform(-5, 35)
    lungs = ellipsoid(np.stack([side - 54, behind - 2, z - dome - 90]), (32, 28, 90))
    canvas.cover(whole, lungs - 1.5, signals["fascia"])
    canvas.cover(whole, lungs, signals["lung"], 0.3)


def _paint_front_wall(canvas: Canvas, signals: Signals, depth: Array) -> None:
    """The straight muscle of the belly between its sheaths."""
    band = np.abs(depth + 5) - 5
    canvas.cover(canvas.whole, band - 1, signals["fascia"])
    canvas.cover(canvas.whole, band, signals["muscle"], 0.1)


def _paint_vessels(canvas: Canvas, signals: Signals, spine: Spine, right: Array, behind: Array,
                   rng: np.random.Generator) -> None:  # fmt: skip
    """Aorta to the left and vena cava to the right, in front of the bodies, parting at L4."""
    flow = signals.blend("blood", "gas", float(rng.uniform(0.3, 1.0)))
    slow = signals.blend("blood", "gas", float(rng.uniform(0.2, 0.95)))
    fork = float(spine.disc(2).frame.centre_mm[2]) + rng.uniform(5, 25)
    box: Box = canvas.whole
    x, z = right[box], canvas.points[2][box]
    ahead = -behind[box] - at_height(spine, z, [2 * d.half_ap for d in spine.discs])
    split = np.clip((np.float32(fork) - z) / 40, 0, 1.5)
    for centre, half, signal in ((-9.0, 8.5, flow), (13.0, 10.0, slow)):
        outward = np.sign(centre) * 20 * split + centre
        vessel = superellipse(x - outward, ahead - half - 3 + 6 * split, half * (1 - 0.3 * split),
                              half * (1 - 0.3 * split), 2.0)  # fmt: skip
        canvas.cover(box, vessel - 1, signals["bowel_wall"])
        canvas.cover(box, vessel, signal, 0.1)
