from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ivdjax.config import InferenceConfig
from ivdjax.discs.candidates import blinded, find_candidates, level_votes, line_through
from ivdjax.discs.disc_axes import fit_axes
from ivdjax.discs.evidence import Evidence
from ivdjax.discs.surroundings import Surroundings
from ivdjax.volume import Grid, to_world_mm
from tests.discs.test_levels import typical

SHAPE = (16, 120, 50)
AFFINE = np.array([[-2.0, 0, 0, 15], [0, 0, -1.0, 24.5], [0, -1.0, 0, 119], [0, 0, 0, 1]])
GRID = Grid(SHAPE, AFFINE)
WORLD = to_world_mm(AFFINE, np.moveaxis(np.indices(SHAPE), 0, -1))
SETTINGS = InferenceConfig()


def box(centre, size):
    return np.all(np.abs(WORLD - np.array(centre)) < np.array(size) / 2, axis=-1)


def evidence(*masks, votes=None, **others):
    probability = np.zeros(SHAPE, np.float32)
    for place, mask in enumerate(masks):
        probability[mask] = 0.9 - 0.1 * place
    return Evidence(probability, GRID, level_probability=votes, level_grid=None if votes is None else GRID, **others)


def constant_votes(*values):
    votes = np.zeros((8, *SHAPE), np.float32)
    for level, value in values:
        votes[level] = value
    return votes


LOW, HIGH = box((0, 0, 29.5), (24, 36, 8)), box((0, 0, 69.5), (24, 36, 8))


def test_a_box_is_described_by_hand():
    low, high = find_candidates(evidence(LOW, HIGH), SETTINGS)
    assert low.centroid_mm == pytest.approx([0, 0, 29.5]) and high.centroid_mm[2] == pytest.approx(69.5)
    assert low.volume_mm3 == pytest.approx(24 * 36 * 8)
    assert low.ap_width_mm == pytest.approx(36, abs=1.0) and low.tilt_deg == pytest.approx(0, abs=0.1)
    assert (low.below_mm, low.above_mm) == pytest.approx((26, 86)) and not low.cut
    assert (low.certainty, high.certainty) == pytest.approx((0.9, 0.8))
    assert low.votes is None and low.favourite == 0 and low.origin == "whole"
    assert np.array_equal(np.argwhere(LOW), low.voxels)


def test_votes_are_the_mean_over_the_voxels():
    votes = constant_votes((0, 0.25), (3, 0.5), (4, 0.25))
    (low,) = find_candidates(evidence(LOW, votes=votes), SETTINGS)
    assert low.votes == pytest.approx([0.25, 0, 0, 0.5, 0.25, 0, 0, 0]) and low.favourite == 3
    unseen = find_candidates(evidence(LOW, votes=constant_votes((0, 0.6), (3, 0.4))), SETTINGS)[0]
    assert unseen.favourite == 0
    ignored = find_candidates(evidence(LOW, votes=votes), replace(SETTINGS, localization=False))[0]
    assert ignored.votes is None


def test_votes_between_voxels_are_linear_and_go_on_beyond_the_border():
    votes = constant_votes((0, 1.0))
    votes[1] = np.arange(SHAPE[1], dtype=np.float32)[:, None]
    points = np.array([[15.0, 24.5, 100.5], [15.0, 24.5, 500.0]])
    assert level_votes(points, evidence(LOW, votes=votes))[1] == pytest.approx([18.5, 0.0])
    assert level_votes(points, evidence(LOW)) is None


def test_threshold_region_and_smallest_volume():
    found = evidence(LOW, HIGH)
    assert len(find_candidates(found, replace(SETTINGS, threshold=0.85))) == 1
    assert find_candidates(found, replace(SETTINGS, threshold=0.95)) == []
    assert find_candidates(found, replace(SETTINGS, min_disc_mm3=7000.0)) == []
    confined = replace(found, region=~HIGH)
    assert len(find_candidates(confined, SETTINGS)) == 1
    assert len(find_candidates(confined, replace(SETTINGS, region=False))) == 2


def test_share_at_the_regions_border_is_that_of_the_cut_face():
    region = box((0, 0, 29.5), (28, 100, 40)) & (WORLD[..., 1] < 10)  # the disc's front edge lies at 18 mm
    (disc,) = find_candidates(evidence(LOW, region=region), SETTINGS)
    assert disc.at_border == pytest.approx(1 / 28)  # 28 rows of 1 mm are left, and one of them is the cut face
    assert find_candidates(evidence(LOW, region=region), replace(SETTINGS, region=False))[0].at_border == 0
    whole = box((0, 0, 29.5), (28, 40, 12))
    assert find_candidates(evidence(LOW, region=whole), SETTINGS)[0].at_border == 0
    image = np.ones(SHAPE, bool)  # the image's own border is no region's
    assert find_candidates(evidence(box((0, 0, 1.5), (24, 36, 8)), region=image), SETTINGS)[0].at_border == 0


def test_border_is_remarked():
    touching = box((0, 0, 1.5), (24, 36, 8))
    (disc,) = find_candidates(evidence(touching), SETTINGS)
    assert disc.cut and disc.below_mm == 0


def test_splitting_and_joining_can_be_left_out():
    bridged = LOW | HIGH | box((0, 0, 49.5), (6, 4, 40))
    assert [c.origin for c in find_candidates(evidence(bridged), SETTINGS)] == ["split", "split"]
    assert len(find_candidates(evidence(bridged), SETTINGS, whole_discs=False)) == 1
    broken = LOW & ~box((0, 0, 29.5), (24, 4, 8))
    assert [c.origin for c in find_candidates(evidence(broken, HIGH), SETTINGS)] == ["joined", "whole"]
    assert len(find_candidates(evidence(broken, HIGH), SETTINGS, whole_discs=False)) == 3


def test_at_most_thirty_components_are_looked_at_and_the_largest_stay():
    specks = np.zeros(SHAPE, bool)
    specks[1:14:2, 2:24:2, 2:40:2] = True
    found = find_candidates(evidence(specks, LOW), replace(SETTINGS, min_disc_mm3=1.0), whole_discs=False)
    assert len(found) == 30 and max(c.volume_mm3 for c in found) == pytest.approx(24 * 36 * 8)


def test_line_leaves_out_what_lies_far_off():
    discs = [box((0, 0, z), (24, 20, 6)) for z in (10.5, 35.5, 60.5, 85.5, 105.5)]
    aside = box((0, 18, 47.5), (8, 8, 8))
    line = line_through(find_candidates(evidence(np.any(discs, axis=0), aside), SETTINGS))
    assert np.abs(line.at(np.array([20.0, 48.0, 90.0]))[:, 1]).max() < 6
    with pytest.raises(ValueError, match="centre line needs"):
        line_through([])


def test_a_stray_of_any_size_takes_no_part_in_the_line():
    discs = [typical(level) for level in range(1, 7)]
    stray = typical(3, centroid_mm=np.array([0.0, 60.0, discs[2].centroid_mm[2]]), volume_mm3=30000.0)
    line = line_through([*discs[:3], stray, *discs[3:]])
    assert np.abs(line.at(np.array([0.0, 60.0, 150.0]))[:, 1]).max() < 0.5


@pytest.mark.parametrize(
    ("rows", "columns", "cut"),
    [
        ((50, 58), (10, 30), False), ((1, 9), (1, 21), False), ((111, 119), (29, 49), False), ((0, 8), (10, 30), True),
        ((112, 120), (10, 30), True), ((50, 58), (0, 20), True), ((50, 58), (30, 50), True),
    ],
)  # fmt: skip
def test_a_disc_at_a_border_within_the_plane_is_cut(rows, columns, cut):
    mask = np.zeros(SHAPE, bool)
    mask[3:13, slice(*rows), slice(*columns)] = True
    (disc,) = find_candidates(evidence(mask), SETTINGS)
    assert disc.cut is cut


def test_networks_that_see_nothing_at_all_leave_every_level_open():
    (low,) = find_candidates(evidence(LOW, votes=constant_votes()), SETTINGS)
    assert low.votes == pytest.approx([1 / 8] * 8)


@pytest.mark.parametrize("slices", [(3, 13), (0, 10), (6, 16)])
def test_axes_are_those_of_a_cut_disc_where_a_side_is_out_of_view(slices):
    x, y, z = np.moveaxis(WORLD, -1, 0)
    mask = (np.abs(z - 60 - 0.5 * x - 0.2 * y) < 4) & (np.abs(y) < 10 + 0.4 * x)
    mask[: slices[0]] = mask[slices[1] :] = False
    (disc,) = find_candidates(evidence(mask), SETTINGS)
    whole, cut = (fit_axes(to_world_mm(AFFINE, disc.voxels), AFFINE, as_whole).tilt_deg for as_whole in (True, False))
    assert abs(whole - cut) > 1
    assert disc.tilt_deg == pytest.approx(whole if slices == (3, 13) else cut, abs=1e-6)


def test_what_a_blinded_candidate_keeps_of_its_surroundings():
    around = Surroundings(0.5, 0.25, s1_below=0.6)
    disc = blinded(typical(2, votes=np.eye(8)[2], around=around))
    assert disc.votes is None and disc.around == around.without_levels() != around
    assert blinded(typical(2)).around is None
