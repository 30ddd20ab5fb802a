"""Similarities between spines: exact where they can be, and not led astray by a few wrong points."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ivdjax.imaging.similarity_transforms import fit_similarity, is_sane, robust_fits, scale_and_rotation, translation
from ivdjax.volume import to_world_mm

HEIGHTS = np.arange(7) * 35.0
SPINE = np.stack([np.zeros(7), -20 * np.sin(np.pi * HEIGHTS / 210), HEIGHTS], axis=1)


def similarity(scale: float, turn_deg: tuple[float, float, float], offset_mm: tuple[float, float, float]) -> np.ndarray:
    matrix = translation(np.array(offset_mm))
    matrix[:3, :3] = scale * Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    return matrix


def test_one_point_gives_a_translation():
    fit = fit_similarity(SPINE[:1], SPINE[:1] + np.array([3.0, 4, 5]))
    np.testing.assert_allclose(fit, translation(np.array([3.0, 4, 5])), atol=1e-9)


def test_equal_points_give_the_identity_and_a_shift_a_translation():
    np.testing.assert_allclose(fit_similarity(SPINE, SPINE), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(fit_similarity(SPINE, SPINE - 10), translation(np.full(3, -10.0)), atol=1e-9)


def test_a_scaled_spine_in_a_straight_line_by_hand():
    # Points 100 mm to each side of their middle, with a variance of 100 mm2 along each axis: the scale that brings them
    # to 110 mm is (100 * 110 + 300) / (100 * 100 + 300).
    line = np.array([[0.0, 0, -100], [0, 0, 100]])
    scale, rotation = scale_and_rotation(fit_similarity(line, 1.1 * line))
    assert scale == pytest.approx(11300 / 10300) and rotation.magnitude() == pytest.approx(0, abs=1e-9)


def test_a_tilt_is_found_and_a_turn_about_the_spine_is_held_back():
    tilted = fit_similarity(SPINE, to_world_mm(similarity(1.0, (10, 0, 0), (0, 0, 0)), SPINE))
    assert np.degrees(scale_and_rotation(tilted)[1].as_rotvec()[0]) == pytest.approx(10, abs=0.5)
    # A straight spine says nothing about a turn about itself.
    straight = SPINE * [0.0, 0.0, 1.0]
    assert scale_and_rotation(fit_similarity(straight, straight))[1].magnitude() == pytest.approx(0, abs=1e-9)


def test_a_mirror_image_is_met_by_no_reflection():
    fit = fit_similarity(SPINE, SPINE * [1.0, -1.0, 1.0])
    assert np.linalg.det(fit[:3, :3]) > 0


@pytest.mark.parametrize("wrong", [[6], [5, 6], [0], [1, 4], [0, 5, 6]])
def test_wrong_points_do_not_lead_the_best_fit_astray(wrong):
    true = similarity(1.1, (8, 3, 0), (5, -20, 40))
    target = to_world_mm(true, SPINE)
    target[wrong] += [0, 0, 37.0]
    best = robust_fits(SPINE, target)[0]
    right = np.setdiff1d(np.arange(7), wrong)
    away = np.linalg.norm(to_world_mm(best, SPINE) - to_world_mm(true, SPINE), axis=1)
    assert away[right].max() < 5


def test_a_fit_beyond_any_adult_is_refused():
    assert is_sane(np.eye(4)) and is_sane(similarity(1.2, (30, 0, 0), (900, 0, 0)))
    assert not is_sane(similarity(1.5, (0, 0, 0), (0, 0, 0))) and not is_sane(similarity(0.6, (0, 0, 0), (0, 0, 0)))
    assert not is_sane(similarity(1.0, (40, 0, 0), (0, 0, 0)))
    assert robust_fits(SPINE, 3 * SPINE) == []
