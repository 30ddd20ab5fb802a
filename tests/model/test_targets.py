"""What the stages learn from, on cases that a person can follow (see also test_tasks)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ivdjax.discs.evidence import HIGHER_CLASS as HIGHER
from ivdjax.discs.evidence import L5_CLASS as L5
from ivdjax.discs.evidence import S1_CLASS as S1
from ivdjax.learning.contrast import AIR, CLASSES, S1_BLOCK
from ivdjax.model.targets import localization_target, with_classes
from ivdjax.volume import Grid
from tests.model.test_tasks import CONFIG
from tests.model.test_tasks import prepared as lying


def prepared(levels: int):
    """The case of test_tasks as a patient lies: slices to the left, rows downward, columns to the back."""
    case = lying(levels=levels)
    grid = Grid(case.grid.shape, np.array([[-4.0, 0, 0, 0], [0, 0, -1.0, 0], [0, -1.5, 0, 0], [0, 0, 0, 1.0]]))
    return replace(case, grid=grid, source=grid, native=grid)


LANDMARKS = replace(CONFIG, localization=replace(CONFIG.localization, landmarks=True, dilation_mm=1.0))


def test_landmarks_are_classes_of_their_own_and_discs_win_over_them():
    case = prepared(levels=2)
    target = localization_target(case, LANDMARKS)
    assert target.labels is not None
    column = target.labels[0, :, 7].tolist()
    assert S1 in column and L5 in column and column.index(L5) < column.index(1) < column.index(S1)
    plain = localization_target(case, replace(CONFIG, localization=replace(CONFIG.localization, dilation_mm=1.0)))
    discs = np.asarray(plain.labels) > 0
    np.testing.assert_array_equal(target.labels[discs], np.asarray(plain.labels)[discs])


def test_discs_above_the_seventh_are_one_class_or_background():
    case = prepared(levels=2)
    high = replace(case, labels=np.where(case.labels == 2, 9, case.labels).astype(np.uint8))
    with_them, without = localization_target(high, LANDMARKS), localization_target(high, CONFIG)
    assert set(np.unique(with_them.labels)) - {0, S1} == {1, HIGHER}
    assert set(np.unique(without.labels)) == {0, 1}
    assert with_them.ignore_above == 2 and without.ignore_above == 0


def test_a_thin_disc_keeps_its_target_on_a_coarse_grid():
    case = prepared(levels=1)
    thin = np.zeros_like(case.labels)
    thin[:, 17:18, 8:22] = 1  # 1.5 mm on voxels of 3 mm
    config = replace(CONFIG, localization=replace(CONFIG.localization, dilation_mm=4.0))
    target = localization_target(replace(case, labels=thin), config)
    assert (target.labels == 1).sum(axis=1).max() >= 2


def test_classes_are_air_tissues_the_block_of_s1_and_clusters_by_brightness():
    case = prepared(levels=1)
    image = np.zeros((1, *case.grid.shape), np.uint8)
    image[:, :, :, 4:] = 60
    image[:, :, :10, 4:] = 200
    tissues = np.where(case.labels > 0, 1, 0).astype(np.uint8)
    tissues[:, 2:4, 10:12] = 3
    found = with_classes(replace(case, image=image, tissues=tissues)).classes
    assert found is not None and found.max() < CLASSES
    assert (found[:, :, :4] == AIR).all()
    np.testing.assert_array_equal(found == 1, case.labels > 0)
    np.testing.assert_array_equal(found == 3, tissues == 3)
    assert (found[:, 21:23, 12:18] == S1_BLOCK).all()
    bright, dim = found[0, 0, 5], found[0, 14, 26]
    assert bright > dim > S1_BLOCK, "brighter clusters come later"
