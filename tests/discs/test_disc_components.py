from __future__ import annotations

import numpy as np
import pytest

from ivdjax.discs.centre_line import fit_centre_line
from ivdjax.discs.disc_components import along_mm, join_broken, split_fused, thickness_mm
from ivdjax.imaging.components import components
from ivdjax.volume import Grid, to_world_mm

SHAPE = (16, 80, 70)
GRID = Grid(SHAPE, np.array([[-2.0, 0, 0, 15], [0, 0, -1.0, 34.5], [0, -1.0, 0, 79], [0, 0, 0, 1]]))
WORLD = to_world_mm(GRID.affine, np.moveaxis(np.indices(SHAPE), 0, -1))
UPRIGHT = fit_centre_line(np.array([[0.0, 0.0, 0.0]]))


def box(centre, size):
    return np.all(np.abs(WORLD - np.array(centre)) <= np.array(size) / 2, axis=-1)


def split(mask, probability=None, favourite=None, min_mm3=200.0):
    labels = components(mask, GRID)
    probability = np.where(mask, 0.9, 0.0).astype(np.float32) if probability is None else probability
    return split_fused(labels, probability, favourite, GRID, UPRIGHT, min_mm3)


LOW, HIGH = box((0, 0, 20), (20, 34, 8)), box((0, 0, 54), (20, 34, 8))


def test_thickness_of_a_flat_block_is_its_height_however_it_slants():
    points = np.argwhere(np.ones((20, 30, 8), bool)).astype(float)
    assert thickness_mm(points) == pytest.approx(8 / np.sqrt(12), rel=0.01)
    slanted = points + points[:, :1] * np.array([0.0, 0.0, 0.3])  # rises from side to side, as in scoliosis
    assert thickness_mm(slanted) == pytest.approx(8 / np.sqrt(12), rel=0.01)
    assert thickness_mm(points[:1]) == 0.0


def test_along_is_the_distance_on_the_line():
    leaning = fit_centre_line(np.array([[0.0, 0.0, 0.0], [0.0, 30.0, 40.0]]))
    places = along_mm(np.array([[0.0, 0.0, 0.0], [0.0, 30.0, 40.0]]), leaning)
    assert np.diff(places) == pytest.approx(50.0)


def test_two_discs_with_a_thin_bridge_are_cut_half_way():
    mask = LOW | HIGH | box((0, 0, 37), (6, 4, 40))
    labels, cut = split(mask)
    assert cut == {1, 2} and np.array_equal(labels > 0, mask)
    for disc in (LOW, HIGH):
        assert len(np.unique(labels[disc])) == 1
    middle = WORLD[..., 2][mask & (labels == labels[HIGH][0])].min()
    assert middle == pytest.approx(37.5, abs=1.0)


def test_a_broad_bridge_of_low_probability_is_seen_through():
    bridge = box((0, 0, 37), (20, 30, 40)) & ~LOW & ~HIGH
    mask = LOW | HIGH | bridge
    labels, cut = split(mask, np.where(bridge, 0.55, np.where(mask, 0.95, 0)).astype(np.float32))
    assert len(cut) == 2 and labels[LOW].max() == labels[LOW].min() != labels[HIGH].max()


def test_a_broad_sure_bridge_is_cut_where_the_network_sees_two_levels():
    mask = box((0, 0, 37), (20, 34, 42))
    favourite = np.where(mask, np.where(WORLD[..., 2] > 44, 3, 2), 0).astype(np.int8)
    labels, cut = split(mask, favourite=favourite)
    assert len(cut) == 2
    assert np.unique(labels[mask & (favourite == 3)]).size == np.unique(labels[mask & (favourite == 2)]).size == 1


def test_a_block_as_long_as_two_discs_is_cut_by_place():
    mask = box((0, 0, 37), (20, 34, 42))
    labels, cut = split(mask)
    assert len(cut) == 2
    assert np.ptp(WORLD[..., 2][labels == 1]) == pytest.approx(20, abs=2)


def test_single_discs_stay_whole():
    steep = np.abs(WORLD[..., 2] - 37 - 1.2 * WORLD[..., 1]) < 5  # 50 degrees
    for mask in (LOW, LOW | HIGH, steep & box((0, 0, 37), (20, 26, 60)), box((0, 0, 37), (20, 34, 22))):
        labels, cut = split(mask)
        assert not cut and np.array_equal(labels > 0, mask)


def test_split_of_nothing():
    labels, cut = split(np.zeros(SHAPE, bool))
    assert not labels.any() and not cut


FRONT, BACK = box((0, 11, 20), (20, 12, 8)), box((0, -11, 20), (20, 12, 8))


def join(*masks, favourite=None):
    labels = np.zeros(SHAPE, np.int32)
    for number, mask in enumerate(masks, start=1):
        labels[mask] = number
    return join_broken(labels, favourite, GRID, UPRIGHT)


def test_front_and_back_of_one_disc_are_joined():
    labels, joined = join(HIGH, FRONT, BACK)
    assert len(joined) == 1 and len(np.unique(labels[FRONT | BACK])) == 1
    assert labels[HIGH].max() not in joined


@pytest.mark.parametrize(
    "other",
    [
        box((0, -11, 33), (20, 12, 8)),  # 13 mm higher
        box((0, -31, 20), (20, 2, 8)),  # together far longer than the other disc
    ],
)
def test_what_is_no_piece_stays_apart(other):
    assert join(HIGH, FRONT, other)[1] == frozenset()


def test_facet_joint_beside_the_line_stays_apart():
    aside = fit_centre_line(np.array([[0.0, 22.0, 0.0]]))
    labels = np.where(HIGH, 1, np.where(FRONT, 2, np.where(BACK, 3, 0))).astype(np.int32)
    assert join_broken(labels, None, GRID, aside)[1] == frozenset()


def test_pieces_of_different_levels_stay_apart():
    favourite = np.where(FRONT, 3, np.where(BACK, 4, 0)).astype(np.int8)
    assert join(HIGH, FRONT, BACK, favourite=favourite)[1] == frozenset()
    favourite[BACK] = 0  # the network does not see that piece
    assert len(join(HIGH, FRONT, BACK, favourite=favourite)[1]) == 1
