"""A spine of ellipsoids built after the table of disc shapes, and what two faultless networks would say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from ivdjax.discs import anatomy as a
from ivdjax.discs.evidence import Evidence
from ivdjax.imaging.geometry import resample, respaced
from ivdjax.volume import Grid, to_world_mm

SHAPE = (20, 250, 66)
AFFINE = np.array([[-2.0, 0, 0, 19], [0, 0, -1.25, 41], [0, -1.5, 0, 373.5], [0, 0, 0, 1]])
GRID = Grid(SHAPE, AFFINE)
WORLD = to_world_mm(AFFINE, np.moveaxis(np.indices(SHAPE), 0, -1))
BOTTOM_MM = 70.0
"""Height of L5/S1 above the image's lowest row (z = 0)."""
AP_MM, WIDTH_MM, HEIGHT_MM = 36.0, 30.0, 9.0


@dataclass(frozen=True)
class Body:
    """The levels of a label array stand for: its true level, and what the localization network takes it for."""

    mask: np.ndarray
    seen: int


class SpineBuilder:
    """Bodies on the grid by name; discs have their level for a name."""

    grid = GRID

    def __init__(self, levels=range(1, 9)):
        self.bodies: dict[object, Body] = {level: Body(disc(level), level if level <= 7 else 0) for level in levels}

    def without(self, *names):
        for name in names:
            del self.bodies[name]
        return self

    def with_body(self, name, mask, seen=0):
        self.bodies[name] = Body(mask & ~self.mask(), seen)
        return self

    def seen_as(self, names: Mapping[object, int]):
        self.bodies |= {name: Body(self.bodies[name].mask, seen) for name, seen in names.items()}
        return self

    def mask(self):
        return np.any([body.mask for body in self.bodies.values()] or [np.zeros(SHAPE, bool)], axis=0)

    def probability(self):
        return np.where(self.mask(), 0.95, 0.02).astype(np.float32)

    def evidence(self, vnet=True, rows=slice(None), **others):
        """Evidence of the image rows given; `vnet` says whether there is a localization network."""
        affine = AFFINE.copy()
        affine[:3, 3] = to_world_mm(AFFINE, np.array([0.0, rows.start or 0, 0.0]))
        probability = self.probability()[:, rows]
        grid = Grid(probability.shape, affine)
        votes = level_grid = None
        if vnet:
            seen = np.zeros(SHAPE, np.uint8)
            for body in self.bodies.values():
                seen[body.mask] = body.seen
            level_grid = respaced(grid, (4.0, 2.5, 2.5))
            coarse = resample(seen[:, rows], grid, level_grid, order=0)
            votes = np.full((8, *level_grid.shape), 0.02, np.float32)
            np.put_along_axis(votes, coarse[None].astype(np.int64), 0.86, axis=0)
        return Evidence(probability, grid, level_probability=votes, level_grid=level_grid, **others)


def height_of(level):
    """z in mm of a level's centre."""
    return BOTTOM_MM + a.HEIGHT_MM[level - a.LOWEST] - a.HEIGHT_MM[1 - a.LOWEST]


def ellipsoid(centre, size, tilt=0.0):
    """An ellipsoid of a size (right, anterior, superior) in mm, its front lifted by `tilt` degrees."""
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    x, y, z = np.moveaxis(WORLD - np.array(centre), -1, 0)
    along, across = c * y + s * z, c * z - s * y
    return (2 * x / size[0]) ** 2 + (2 * along / size[1]) ** 2 + (2 * across / size[2]) ** 2 <= 1


def disc(level, size=1.0, tilt=None):
    """The disc of a level; `size` scales it from front to back and in height."""
    row = level - a.LOWEST
    depth = AP_MM * np.exp(a.LOG_WIDTH[row]) * size
    return ellipsoid(
        (0, 0, height_of(level)), (WIDTH_MM, depth, HEIGHT_MM * size), a.TILT_DEG[row] if tilt is None else tilt
    )


@pytest.fixture
def spine():
    """A builder with discs 1 to 8, the top one thoracic."""
    return SpineBuilder()


@pytest.fixture
def shapes():
    """Functions that draw bodies: ellipsoid(centre, size, tilt), disc(level, size, tilt), height_of(level)."""
    return type("Shapes", (), {"ellipsoid": staticmethod(ellipsoid), "disc": staticmethod(disc),
                               "height_of": staticmethod(height_of)})  # fmt: skip
