"""Grids, volumes, label maps and discs, with geometry that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ivdjax.volume import Case, Disc, Grid, LabelMap, Volume, level_name, spacing_of, to_index, to_world_mm

# One step of d is 2 mm along -x, one of h 1.25 mm along -z, one of w 1 mm along -y.
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 0, -1.0, 20], [0, -1.25, 0, 30], [0, 0, 0, 1]])


def oblique(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(4)
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    return turn @ AFFINE


def test_level_names_count_upward_from_the_sacrum():
    assert [level_name(n) for n in (1, 2, 7, 15, 16)] == ["L5/S1", "L4/5", "T11/12", "T3/4", "level 16"]
    with pytest.raises(ValueError, match=r"a level is 1 \(L5/S1\) or more, not 0"):
        level_name(0)


@pytest.mark.parametrize("affine", [AFFINE, oblique(25.0)])
def test_spacing_and_voxel_volume_follow_from_the_affine(affine):
    assert spacing_of(affine) == pytest.approx((2.0, 1.25, 1.0))
    grid = Grid((3, 4, 5), affine)
    assert grid.spacing_mm == pytest.approx((2.0, 1.25, 1.0))
    assert grid.voxel_mm3 == pytest.approx(2.5)


def test_voxel_volume_of_a_sheared_grid_is_its_determinant():
    sheared = AFFINE.copy()
    sheared[:3, 1] += sheared[:3, 0]  # h leans over by a whole step of d: longer, but no larger
    grid = Grid((2, 2, 2), sheared)
    assert grid.spacing_mm[1] == pytest.approx(np.hypot(1.25, 2.0))
    assert grid.voxel_mm3 == pytest.approx(2.5)


def test_index_to_world_by_hand_and_back():
    np.testing.assert_allclose(to_world_mm(AFFINE, np.array([1, 2, 3])), [8.0, 17.0, 27.5])
    points = np.random.default_rng(0).uniform(-5, 5, (2, 4, 3))
    np.testing.assert_allclose(to_index(oblique(25.0), to_world_mm(oblique(25.0), points)), points, atol=1e-12)


def test_grids_match_within_the_tolerance_and_say_how_far_they_are_apart():
    grid = Grid((3, 4, 5), AFFINE)
    moved = AFFINE.copy()
    moved[:3, 3] += [3.0, 4.0, 0.0]
    assert grid.matches(Grid((3, 4, 5), AFFINE.copy()))
    assert grid.displacement_mm(Grid((3, 4, 5), moved)) == pytest.approx(5.0)
    assert not grid.matches(Grid((3, 4, 5), moved)) and grid.matches(Grid((3, 4, 5), moved), tolerance_mm=5.1)
    assert not grid.matches(Grid((3, 4, 6), AFFINE))
    wider = AFFINE @ np.diag([1.0, 1.0, 1.5, 1.0])  # the far corner, at w = 4, moves by 4 x 0.5 mm
    assert grid.displacement_mm(Grid((3, 4, 5), wider)) == pytest.approx(2.0)


def test_volume_derives_its_grid_and_refuses_what_does_not_fit():
    volume = Volume(np.zeros((2, 3, 4, 5)), AFFINE, ("fat", "wat"))
    assert volume.grid.shape == (3, 4, 5)
    assert volume.spacing_mm == volume.grid.spacing_mm == (2.0, 1.25, 1.0)
    with pytest.raises(ValueError, match=r"\(C, D, H, W\); this one has shape \(3, 4, 5\)"):
        Volume(np.zeros((3, 4, 5)), AFFINE, ("fat",))
    with pytest.raises(ValueError, match="2 channels in the array, but 1 names"):
        Volume(np.zeros((2, 3, 4, 5)), AFFINE, ("fat",))


def test_label_map_lists_its_levels_and_keeps_its_grid():
    labels = LabelMap(np.zeros((3, 4, 5), np.uint8), AFFINE)
    assert labels.levels == ()
    array = labels.array.copy()
    array[0, 0, :3] = [7, 2, 2]
    numbered = labels.with_array(array)
    assert numbered.levels == (2, 7) and labels.levels == ()
    assert numbered.grid.matches(labels.grid) and numbered.spacing_mm == (2.0, 1.25, 1.0)
    with pytest.raises(ValueError, match=r"\(D, H, W\); this one has shape \(1, 3, 4, 5\)"):
        LabelMap(np.zeros((1, 3, 4, 5), np.uint8), AFFINE)


def test_case_and_disc_carry_their_names():
    volume = Volume(np.zeros((1, 3, 4, 5)), AFFINE, ("t2",))
    case = Case("01_a", "01", volume)
    assert case.labels is None and case.warnings == ()
    disc = Disc(1, 0.9, (0.0, 0.0, 0.0), 5000.0)
    assert disc.level_name == "L5/S1" and disc.measures == {}
