"""Which voxels are read, told by points that are known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ivdjax.discs.canal import CanalLine
from ivdjax.discs.disc_axes import DiscAxes
from ivdjax.discs.tissue_signal import csf_signal, fit_bias, marrow_voxels, median_signal, nucleus_and_annulus
from ivdjax.discs.vertebra import Body, EndPlate

AXES = DiscAxes(np.zeros(3), *np.eye(3))
LINE = np.linspace(-1, 1, 41)


def block(half_mm):
    """Points (N, 3) of an even block about the origin."""
    return np.stack(np.meshgrid(*(half * LINE for half in half_mm), indexing="ij"), axis=-1).reshape(-1, 3)


def test_marrow_is_the_middle_of_a_body_in_all_three_directions():
    plate = EndPlate(*np.zeros((2, 3)), *np.eye(3)[:2])
    body = Body(AXES, 25.0, 26.0, 27.0, 34.0, plate, plate)
    inside = [(0, 0, 0), (7.9, 0, 0), (-7.9, 0, 0), (0, 10.1, 0), (0, -10.1, 0), (0, 0, 7.7), (0, 0, -7.7)]
    outside = [(8.1, 0, 0), (-8.1, 0, 0), (0, 10.3, 0), (0, -10.3, 0), (0, 0, 7.9), (0, 0, -7.9)]
    assert marrow_voxels(np.array(inside, float), body).all()
    assert not marrow_voxels(np.array(outside, float), body).any()


def test_nucleus_and_annulus_are_told_from_end_plates_sides_and_each_other():
    """Each voxel's signal says where it lies: means are those of the places that should be read."""
    points = block((12.0, 20.0, 5.0))
    share = (20.0 - points[:, 1]) / 40.0  # counted from the front
    middle = (np.abs(points[:, 0]) <= 8.0) & (np.abs(points[:, 2]) <= 2.6)
    nucleus, annulus = middle & (share >= 0.30) & (share <= 0.75), middle & ((share <= 0.12) | (share >= 0.88))
    signal = np.where(nucleus, 300.0 + 100.0 * share, np.where(annulus, 100.0 + share, -1e6))
    found = nucleus_and_annulus(points, signal)
    assert found == pytest.approx((signal[nucleus].mean(), signal[annulus].mean()), rel=0.01)
    # Bent and tilted from side to side, the same voxels are read.
    bent = points + np.stack([0 * share, 0 * share, 0.01 * points[:, 1] ** 2 + 0.1 * points[:, 0]], axis=1)
    assert nucleus_and_annulus(bent, signal) == pytest.approx(found, rel=0.01)


def test_a_part_needs_twelve_voxels():
    flat = np.stack([np.zeros(41), 20 * LINE, np.zeros(41)], axis=1)
    nucleus, annulus = nucleus_and_annulus(flat, np.ones(41))  # 19 voxels of nucleus, 10 of annulus
    assert nucleus == 1.0 and annulus is None
    longer = np.stack([np.zeros(49), np.linspace(-20, 20, 49), np.zeros(49)], axis=1)
    assert nucleus_and_annulus(longer, np.ones(49)) == (1.0, 1.0)  # twelve of annulus
    assert nucleus_and_annulus(flat[:23], np.ones(23)) == (None, None)
    assert median_signal(np.arange(12.0)) == 5.5 and median_signal(np.arange(11.0)) is None


def test_csf_is_the_bright_part_of_the_canal_within_30_mm_along_it():
    up = np.linspace(-60, 60, 121)
    line = CanalLine(np.stack([0 * up, 0 * up - 25, up], axis=1), np.tile([0.0, 0.0, 1.0], (121, 1)))
    points, signal = line.points_mm + np.array([3.0, 0, 0]), np.abs(up)
    assert csf_signal(points, signal, line, AXES) == pytest.approx(np.percentile(signal[np.abs(up) <= 30], 90))
    far = DiscAxes(np.array([0, 0, 80.0]), *np.eye(3))
    assert csf_signal(points, signal, line, far) is None
    assert csf_signal(points[::6], signal[::6], line, AXES) is None  # eleven voxels


def test_the_bias_that_is_fitted_is_the_one_that_was_put_in():
    points = block((5.0, 30.0, 60.0))[::7]
    y, z = points[:, 1] / 30, points[:, 2] / 60
    factor = np.exp(0.3 * y - 0.2 * z + 0.1 * y * z + 0.15 * z * z)
    found = fit_bias({"bone": (points, 150 * factor), "disc": (points, 60 * factor)})
    ratio = found.at(points) / factor
    assert np.ptp(ratio) / ratio.mean() < 0.03
    assert fit_bias({"bone": (points[:99], factor[:99])}) is None
