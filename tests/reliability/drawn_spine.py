"""A spine drawn on any grid, and a model that outlines whatever is bright: fast, and nothing in it is learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.config import parse_config
from ivdjax.inference.predictor import DiscModel
from ivdjax.inference.segmenter import Network, Segmenter
from ivdjax.model.model import Model
from ivdjax.volume import Grid, to_world_mm

FIELD_MM = (56.0, 300.0, 140.0)
CENTRE_MM = (3.0, -12.0, 25.0)
STEP_MM = 34.0
HALF_MM = (20.0, 17.0, 5.0)
"""Half axes of a disc: to the right, to the front and upward."""
BODY, DISC, NOISE = 60.0, 180.0, 4.0
_IN_SLICE = 4
"""A slice is the mean of so many thin ones, as a scanner sees it."""


def spine_grid(
    spacing_mm: tuple[float, float, float] = (4.0, 2.0, 2.0), turn_deg: float = 0.0, shift_slices: float = 0.0
) -> Grid:
    """Canonical axes over `FIELD_MM` about the middle, turned about the left-right axis, shifted from side to side."""
    cos, sin = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.array([[-1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]]) * np.array(spacing_mm)
    d, h, w = (round(extent / step) for extent, step in zip(FIELD_MM, spacing_mm, strict=True))
    middle = (np.array([d, h, w]) - 1) / 2 - (shift_slices, 0, 0)
    affine[:3, 3] = np.array(CENTRE_MM) - affine[:3, :3] @ middle
    return Grid((d, h, w), affine)


def draw_spine(grid: Grid, seed: int = 0) -> NDArray[np.float32]:
    """Whole numbers (D, H, W): noisy air in front and behind, a body, and seven bright discs in it."""
    index = np.moveaxis(np.indices(grid.shape), 0, -1).astype(float)
    thin = (np.arange(_IN_SLICE) + 0.5) / _IN_SLICE - 0.5
    image = np.mean(
        [_signal(to_world_mm(grid.affine, index + np.array([part, 0.0, 0.0])) - CENTRE_MM) for part in thin], axis=0
    )
    noise = np.random.default_rng(seed).normal(0.0, NOISE, (2, *grid.shape))
    return np.rint(np.hypot(image + noise[0], noise[1])).astype(np.float32)


def bright_model(channels: Sequence[str] = ("t2",)) -> DiscModel:
    """A model whose probability of disc rises with the first channel's brightness: its outline follows the image."""
    config = parse_config(
        {
            "name": "bright",
            "data": {"channels": list(channels), "synthetic": True},
            "preparation": {"spacing_mm": [1.7, 1.7]},
            "disc": {"training": {"crop": [64, 48]}},
        }
    )

    def predict(params: Any, boxes: NDArray[np.uint8]) -> NDArray[np.float32]:
        # One half is midway between body and disc; the scale ends at about 1.05 times a disc's brightness.
        middle = 255.0 * (BODY + DISC) / 2 / (1.05 * DISC)
        return (1.0 / (1.0 + np.exp((middle - boxes[..., 0].astype(np.float32)) / 12.0))).astype(np.float32)

    return DiscModel(Segmenter(Model(config, {}), {"disc": Network(predict, {})}))


def _signal(points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brightness (D, H, W) at points (D, H, W, 3) about the spine's middle."""
    image = BODY / (1.0 + np.exp(np.abs(points_mm[..., 1]) - 55.0))
    for level in range(1, 8):
        slope = np.radians(-40.0 + 7.0 * level)
        middle = np.array([0.0, 10.0 * np.cos((level - 3) / 2.0), (level - 4) * STEP_MM])
        near = np.abs(points_mm[..., 2] - middle[2]) < STEP_MM
        away = points_mm[near] - middle
        front = np.cos(slope) * away[:, 1] + np.sin(slope) * away[:, 2]
        up = np.cos(slope) * away[:, 2] - np.sin(slope) * away[:, 1]
        radius = np.sqrt((away[:, 0] / HALF_MM[0]) ** 2 + (front / HALF_MM[1]) ** 2 + (up / HALF_MM[2]) ** 2)
        image[near] += (DISC - BODY) / (1.0 + np.exp(np.clip((radius - 1.0) / 0.06, -50, 50)))
    return image
