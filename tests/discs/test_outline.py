"""The confidence in an outline: expected Dice by hand, its calibration, and the reasons for a review."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from ivdjax.discs.outline import (
    LEAST_DISCS,
    REACH_MM,
    calibrated,
    expected_dice,
    fit_calibration,
    outline_confidence,
    outline_sign,
)
from ivdjax.discs.signs import Sign
from ivdjax.volume import Grid

SPACING_MM = (2.0, 1.0, 1.0)
SHAPE = (9, 60, 40)
GRID = Grid(SHAPE, np.diag([*SPACING_MM, 1.0]))
CURVE = {"scale": 1.5, "power": 2.0}


def spine(*tops: int) -> np.ndarray:
    """Discs of 5 slices, 6 rows and 20 columns, level 1 first, each at its top row."""
    levels = np.zeros(SHAPE, np.uint8)
    for level, top in enumerate(tops, start=1):
        levels[2:7, top : top + 6, 10:30] = level
    return levels


def sharp(levels: np.ndarray) -> np.ndarray:
    return (levels > 0).astype(np.float32)


def blurred(levels: np.ndarray, sigma_mm: float) -> np.ndarray:
    return ndimage.gaussian_filter(sharp(levels), [sigma_mm / size for size in SPACING_MM])


def test_a_sharp_map_that_is_the_outline_gives_1():
    levels = spine(45, 10)
    assert outline_confidence(sharp(levels), levels, GRID) == {1: 1.0, 2: 1.0}


def test_expected_dice_by_hand():
    levels = spine(25)  # 600 voxels
    probability = 0.8 * sharp(levels)
    assert expected_dice(probability, levels, GRID) == {1: pytest.approx(2 * 480 / (600 + 480), rel=1e-6)}
    probability[4, 25 - int(REACH_MM), 20] = 0.5  # as far above the top row as counts
    assert expected_dice(probability, levels, GRID) == {1: pytest.approx(2 * 480 / (600 + 480.5), rel=1e-6)}
    probability[4, 25 - int(REACH_MM) - 1] = 1.0  # farther: no matter
    assert expected_dice(probability, levels, GRID) == {1: pytest.approx(2 * 480 / (600 + 480.5), rel=1e-6)}


def test_reach_is_in_millimetres_across_slices_too():
    levels = np.zeros(SHAPE, np.uint8)
    levels[0, 30, 20] = 1
    probability = np.zeros(SHAPE, np.float32)
    probability[:, 30, 20] = 1.0  # slices 0 to 3 lie within 6 mm
    assert expected_dice(probability, levels, GRID) == {1: pytest.approx(2 / (1 + 4))}


def test_confidence_falls_as_the_map_gets_less_certain():
    levels = spine(25)
    blurs = [outline_confidence(blurred(levels, sigma_mm), levels, GRID)[1] for sigma_mm in (0.5, 1.0, 2.0, 3.0)]
    assert blurs[0] < 1 and all(a > b > 0 for a, b in pairwise(blurs))
    flat = [outline_confidence(np.abs(sharp(levels) - doubt), levels, GRID)[1] for doubt in (0.0, 0.05, 0.2, 0.4)]
    assert flat[0] == 1 and all(a > b for a, b in pairwise(flat))


def test_discs_far_apart_do_not_influence_each_other():
    both = spine(45, 10)
    probability = blurred(both, 1.0)
    worse = probability.copy()
    worse[:, :28] = blurred(both, 3.0)[:, :28]
    one = expected_dice(probability, np.where(both == 1, both, 0), GRID)[1]
    assert expected_dice(probability, both, GRID)[1] == pytest.approx(one)
    assert expected_dice(worse, both, GRID)[1] == pytest.approx(one)
    assert expected_dice(worse, both, GRID)[2] < expected_dice(probability, both, GRID)[2]


def test_what_lies_nearer_to_a_neighbour_counts_for_the_neighbour_alone():
    levels = spine(31, 20)  # rows 20 to 25 and 31 to 36; between them 26, 27 | 28 | 29, 30
    probability = sharp(levels)
    probability[4, 29, 20] = 0.5  # nearer to disc 1
    assert expected_dice(probability, levels, GRID) == {1: pytest.approx(1200 / 1200.5), 2: 1.0}


def test_a_disc_at_the_border_of_the_volume_and_one_without_any_probability():
    levels = np.zeros(SHAPE, np.uint8)
    levels[:2, :3, :20] = 3
    assert expected_dice(sharp(levels), levels, GRID) == {3: 1.0}
    assert expected_dice(np.zeros(SHAPE, np.float32), levels, GRID) == {3: 0.0}


def test_an_empty_map_has_no_confidence():
    empty = np.zeros(SHAPE, np.uint8)
    assert outline_confidence(np.ones(SHAPE, np.float32), empty, GRID) == {}
    assert outline_confidence(np.ones(SHAPE, np.float32), empty, GRID, CURVE) == {}


def test_the_calibration_follows_its_curve_and_is_clipped():
    np.testing.assert_allclose(calibrated([1.0, 0.8, 0.6, 0.1], CURVE), [1.0, 0.94, 0.76, 0.0])
    levels = spine(25)
    assert outline_confidence(sharp(levels), levels, GRID, CURVE) == {1: 1.0}
    probability = 0.8 * sharp(levels)
    assert outline_confidence(probability, levels, GRID, CURVE)[1] == pytest.approx(1 - 1.5 * (1 / 9) ** 2, rel=1e-5)


def test_a_fit_finds_the_curve_that_made_the_discs_and_wrong_discs_do_not_bend_it():
    expected = np.linspace(0.5, 0.9, 40)
    dice = calibrated(expected, CURVE)
    assert fit_calibration(expected, dice) == pytest.approx(CURVE, abs=1e-3)
    bent = fit_calibration([*expected, 0.7], [*dice, 0.0])
    assert np.abs(calibrated(expected, bent) - dice).max() < 0.01


def test_the_sign_of_the_outlines_names_the_least_sure_disc_first():
    confidence = {1: 0.624, 2: 0.9, 4: 0.31, 5: 0.7}
    assert outline_sign(confidence, 0.7) == Sign(pytest.approx(0.69), "The outline of L2/3, L5/S1 is unsure")
    assert outline_sign(confidence, 0.0).sentence == ""


@pytest.mark.parametrize("name", ["probability", "levels"])
def test_arrays_that_do_not_lie_on_the_grid_are_refused(name):
    arrays = {"probability": np.zeros(SHAPE, np.float32), "levels": np.zeros(SHAPE, np.uint8)}
    arrays[name] = arrays[name][1:]
    with pytest.raises(ValueError, match=rf"the {name}'s shape \(8, 60, 40\) must be that of the grid, \(9, 60, 40\)"):
        outline_confidence(**arrays, grid=GRID)


@pytest.mark.parametrize("changes", [{"scale": 0}, {"power": -1.0}, {"power": "2"}, {"scale": True},
                                     {"scale": float("nan")}, {"power": float("inf")}, {"power": None}])  # fmt: skip
def test_calibrations_that_cannot_be_used_are_refused(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"needs a {name} above 0, not .*make it anew"):
        calibrated([0.5], CURVE | changes)
    with pytest.raises(ValueError, match="needs a scale above 0, not None"):
        outline_confidence(sharp(spine(25)), spine(25), GRID, {})


def test_discs_that_cannot_be_fitted_are_refused():
    enough = [0.5] * LEAST_DISCS
    with pytest.raises(ValueError, match="there are 10 and 9"):
        fit_calibration(enough, enough[1:])
    with pytest.raises(ValueError, match="needs 10 discs or more, not 9; take more cases"):
        fit_calibration(enough[1:], enough[1:])
    for bad in (1.1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="within 0 to 1"):
            fit_calibration(enough, [*enough[1:], bad])
