"""A spine of straight-edged bodies whose slip, overhang, heights, angles, canal and signal are known by hand."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ivdjax.volume import LabelMap, to_world_mm

DEPTH, HEIGHT, GAP, WIDTH = 34.0, 27.0, 10.0, 46.0
CANAL_AP, CANAL_WIDTH = 14.0, 19.0
CANAL_Y = -26.5
SIGNAL = {"nucleus": 300.0, "annulus": 100.0, "marrow": 150.0, "csf": 600.0}


@dataclass(frozen=True)
class Block:
    """A body in the sagittal plane: its middle (y, z), tilt in degrees (front edge up), front and back height."""

    middle: tuple[float, float]
    tilt: float = 0.0
    front: float = HEIGHT
    back: float = HEIGHT

    @property
    def axes(self):
        t = np.radians(self.tilt)
        return np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]])

    def corner(self, forward, upward):
        """A corner (y, z): forward and upward are 1 or -1."""
        height = self.front if forward > 0 else self.back
        return np.array(self.middle) + np.array([forward * DEPTH / 2, upward * height / 2]) @ self.axes

    def plate(self, upward):
        """Direction of an end plate, to the front."""
        way = self.corner(1, upward) - self.corner(-1, upward)
        return way / np.linalg.norm(way)

    def holds(self, y, z):
        along, up = np.moveaxis((np.stack([y, z], axis=-1) - self.middle) @ self.axes.T, -1, 0)
        half = (self.front + self.back) / 4 + (self.front - self.back) / 2 * along / DEPTH
        return (np.abs(along) <= DEPTH / 2) & (np.abs(up) <= half)


def side_of(point, way, y, z):
    """Positive above a line through a point, seen along a way to the front."""
    return (z - point[1]) * way[0] - (y - point[0]) * way[1]


def between(lower, upper, overhang, y, z):
    """Inside the disc between two blocks, whose back lies `overhang` behind the line between their corners."""
    inside = (side_of(lower.corner(1, 1), lower.plate(1), y, z) >= 0) & (
        side_of(upper.corner(1, -1), upper.plate(-1), y, z) <= 0)  # fmt: skip
    back, front = ((lower.corner(end, 1), upper.corner(end, -1)) for end in (-1, 1))
    for (start, end), sign, off in ((back, 1, overhang), (front, -1, 0.0)):
        way = (end - start) / np.linalg.norm(end - start)
        inside &= sign * ((y - start[0]) * way[1] - (z - start[1]) * way[0]) >= -off
    return inside


def draw_levels(blocks, overhangs, grid, stenosis=(0.0, 1.0)):
    """Labels, tissues and a T2 image (D, H, W) of blocks from the lowest up; the lowest stands for S1, not outlined.

    `grid` is (shape, affine); `stenosis` is a height in mm and the share of the canal's AP diameter that is left within
    8 mm of it.
    """
    shape, affine = grid
    world = to_world_mm(affine, np.moveaxis(np.indices(shape), 0, -1).astype(float))
    x, y, z = np.moveaxis(world, -1, 0)
    labels, tissues = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    image = np.full(shape, 20.0)
    half_ap = np.where(np.abs(z - stenosis[0]) <= 8, stenosis[1], 1.0) * CANAL_AP / 2
    canal = (x / (CANAL_WIDTH / 2)) ** 2 + ((y - CANAL_Y) / half_ap) ** 2 <= 1
    tissues[canal], image[canal] = 3, SIGNAL["csf"]
    arch = (np.abs(x) <= 4) & (y < CANAL_Y - CANAL_AP / 2 - 3) & (np.mod(z, 37.0) < 20)
    tissues[arch] = 2
    for block in blocks[1:]:
        body = block.holds(y, z) & (np.abs(x) <= WIDTH / 2)
        tissues[body], image[body] = 2, SIGNAL["marrow"]
    for level, (lower, upper) in enumerate(pairwise(blocks), start=1):
        disc = between(lower, upper, overhangs[level - 1], y, z) & (np.abs(x) <= WIDTH / 2)
        middle = (lower.corner(1, 1) + lower.corner(-1, 1) + upper.corner(1, -1) + upper.corner(-1, -1)) / 4
        core = disc & (np.abs(y - middle[0] + 0.5) <= 0.30 * DEPTH)
        labels[disc], tissues[disc], image[disc] = level, 1, SIGNAL["annulus"]
        image[core] = SIGNAL["nucleus"]
    return LabelMap(labels, affine), LabelMap(tissues, affine), image
