from __future__ import annotations

import numpy as np
import pytest

from ivdjax.data.phantom.canvas import Canvas, make_canvas, smooth_noise
from ivdjax.data.phantom.shapes import Frame, rotation


@pytest.fixture
def canvas() -> Canvas:
    """10 x 20 x 30 voxels of 2 x 1 x 1 mm that start at the origin and run along the patient's axes."""
    return make_canvas(np.random.default_rng(1), 1, (10, 20, 30), np.diag([2.0, 1.0, 1.0, 1.0]))


def test_points_are_where_the_affine_says(canvas: Canvas) -> None:
    np.testing.assert_allclose(canvas.points[:, 3, 5, 7], [6, 5, 7])


def test_a_box_holds_what_it_must_and_is_none_outside(canvas: Canvas) -> None:
    assert canvas.box(np.array([10.0, 10, 10]), 3.0) == (slice(3, 8), slice(7, 14), slice(7, 14))
    assert canvas.box(np.array([-50.0, 0, 0]), 3.0) is None
    tilted = canvas.frame_box(Frame(np.array([10.0, 10, 10]), rotation(90)), (1.0, 1.0, 6.0))
    assert tilted == (slice(4, 7), slice(4, 17), slice(9, 12))


def test_painting_covers_the_share_of_a_voxel(canvas: Canvas) -> None:
    box = canvas.whole
    full, half = np.ones(canvas.planes.shape[1:]), np.full(canvas.planes.shape[1:], 0.5)
    canvas.paint(box, full, np.array([4.0]), grain=0)
    canvas.paint(box, half, np.array([1.0]), grain=0)
    np.testing.assert_allclose(canvas.planes, 2.5)


def test_texture_belongs_to_the_patient_and_not_to_the_grid() -> None:
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    moved = affine.copy()
    moved[:3, 3] = 4, 4, 4
    for scale in (2.5, 8.0):
        here = smooth_noise(np.random.default_rng(3), (20, 20, 20), affine, scale)
        there = smooth_noise(np.random.default_rng(3), (12, 12, 12), moved, scale)
        np.testing.assert_allclose(here[4:16, 4:16, 4:16], there, atol=1e-4)
        assert here.shape == (20, 20, 20) and 0.3 < here.std() < 2
