"""A vertebral body whose walls lie on borders of voxels, so that every length is known exactly."""

from __future__ import annotations

import numpy as np
import pytest

from ivdjax.discs.disc_axes import DiscAxes
from ivdjax.discs.vertebra import fit_body

SHAPE = (50, 100, 90)
# Voxels of 1 mm, whose borders are whole millimetres.
AFFINE = np.array([[-1.0, 0, 0, 24.5], [0, 0, -1, 44.5], [0, -1, 0, 49.5], [0, 0, 0, 1]])
BACK_MM, FRONT_MM, LOW_MM, HIGH_MM = -14, 20, -13, 12


def axes(z_mm: float) -> DiscAxes:
    x, y, z = np.eye(3)
    return DiscAxes(np.array([0.0, 0.0, z_mm]), x, y, z)


def block(back_mm: int, front_mm: int, low_mm: int, high_mm: int) -> np.ndarray:
    """A mask of what lies between, over 40 mm from side to side."""
    mask = np.zeros(SHAPE, bool)
    mask[5:45, 50 - high_mm : 50 - low_mm, 45 - front_mm : 45 - back_mm] = True
    return mask


def assert_exact(mask: np.ndarray) -> None:
    body = fit_body(mask, AFFINE, axes(-16.0), axes(16.0))
    assert body is not None
    heights = (body.anterior_height_mm, body.middle_height_mm, body.posterior_height_mm)
    assert heights == pytest.approx((HIGH_MM - LOW_MM,) * 3, abs=0.05)
    assert body.depth_mm == pytest.approx(FRONT_MM - BACK_MM, abs=0.05) and body.height_ratio == pytest.approx(1)
    for plate, z in ((body.upper, HIGH_MM), (body.lower, LOW_MM)):
        np.testing.assert_allclose(plate.back_mm, (0, BACK_MM, z), atol=0.1)
        np.testing.assert_allclose(plate.front_mm, (0, FRONT_MM, z), atol=0.1)


def test_a_block_has_its_own_depth_heights_and_corners():
    assert_exact(block(BACK_MM, FRONT_MM, LOW_MM, HIGH_MM))


@pytest.mark.parametrize("side", [1, -1])
def test_bone_beyond_a_disc_is_another_body_even_where_a_bridge_joins_them(side):
    body, gap, other = (HIGH_MM, 20, 44) if side > 0 else (LOW_MM, -20, -44)
    mask = block(BACK_MM, FRONT_MM, LOW_MM, HIGH_MM)
    mask |= block(BACK_MM, FRONT_MM, *sorted((gap, other)))
    bridged = mask | block(FRONT_MM - 2, FRONT_MM, *sorted((body, gap)))
    assert_exact(mask)
    found = fit_body(bridged, AFFINE, axes(-16.0), axes(16.0))
    assert found is not None and found.middle_height_mm == pytest.approx(HIGH_MM - LOW_MM, abs=0.3)


def test_what_is_too_small_is_no_body():
    assert fit_body(block(0, 11, LOW_MM, HIGH_MM), AFFINE, axes(-16.0), axes(16.0)) is None
    assert fit_body(block(BACK_MM, FRONT_MM, -2, 3), AFFINE, axes(-8.0), axes(8.0)) is None
    assert fit_body(np.zeros(SHAPE, bool), AFFINE, axes(-16.0), axes(16.0)) is None
    assert fit_body(block(BACK_MM, FRONT_MM, 0, 1), AFFINE, axes(-8.0), axes(8.0)) is None
