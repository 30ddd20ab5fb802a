"""Training volumes on the device: padded, exact, and in turns that depend on the step alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ivdjax.config import TrainingConfig
from ivdjax.data.preparation import Prepared
from ivdjax.learning.augmentation import COUNTED, OUTLINED
from ivdjax.learning.devices import data_mesh
from ivdjax.training import device_cache
from ivdjax.training.device_cache import (
    MAX_DISCS,
    DeviceCache,
    PhasedCache,
    ReceivedCache,
    received_cache,
    stack_volumes,
)
from ivdjax.volume import Grid, UserError

MIB = 2**20


def prepared(name: str, shape: tuple[int, int, int] = (2, 8, 6), value: int = 7, levels: int = 2) -> Prepared:
    """A case whose level k is one voxel thick and lies in row 2 k - 1."""
    labels = np.zeros(shape, np.uint8)
    for level in range(1, levels + 1):
        labels[:, 2 * level - 1, 1:4] = level
    grid = Grid(shape, np.diag([4.0, 1.25, 1.5, 1.0]))
    image = np.full((1, *shape), value, np.uint8)
    return Prepared(name, name, ("t2",), image, labels, (labels > 0) * np.uint8(255), 3, grid, grid, grid)


def sets(cases: list[Prepared], seed: int = 0, levels: bool = False, **training: Any) -> DeviceCache:
    return DeviceCache(cases, replace(TrainingConfig(resident_steps=10), **training), seed, data_mesh(), levels)


def values(volumes: Any) -> list[int]:
    return np.asarray(volumes.image)[:, 0, 0, 0, 0].tolist()


def test_cases_are_padded_at_their_end_and_keep_their_extent():
    first, second = prepared("a", (2, 8, 6), 7), prepared("b", (3, 5, 9), 9)
    stacked = stack_volumes([first, second], (3, 8, 9))
    assert stacked.image.shape == (2, 3, 8, 9, 1) and stacked.target.shape == stacked.counted.shape == (2, 3, 8, 9)
    for place, case in enumerate((first, second)):
        d, h, w = case.grid.shape
        np.testing.assert_array_equal(stacked.image[place, :d, :h, :w, 0], case.image[0])
        np.testing.assert_array_equal(stacked.target[place, :d, :h, :w], case.occupancy)
        assert stacked.image[place].sum() == case.image.sum() and stacked.target[place].sum() == case.occupancy.sum()
        assert stacked.counted[place].sum() == d * (h - 3) * w and stacked.counted[place, :d, 3:h, :w].all()
    np.testing.assert_array_equal(stacked.extent, [[2, 8, 6], [3, 5, 9]])
    np.testing.assert_array_equal(stacked.low, [[0, 3, 0]] * 2)
    np.testing.assert_array_equal(stacked.high, [[1, 7, 5], [2, 4, 8]])
    np.testing.assert_allclose(stacked.spacing_mm, [[4, 1.25, 1.5]] * 2)


def with_region(case: Prepared, *box: slice) -> Prepared:
    region = np.zeros(case.grid.shape, bool)
    region[box] = True
    return replace(case, region=region)


def test_only_the_region_counts_where_there_is_one():
    case = with_region(prepared("a"), slice(1, 2), slice(1, 6), slice(2, 5))
    stacked = stack_volumes([case, replace(case, ignore_above=0)], (3, 9, 9))
    # Rows above the third are not outlined: of the region's rows 1 to 5, rows 3 to 5 are left.
    for place, first in enumerate((3, 1)):
        counted = np.zeros((3, 9, 9), np.uint8)
        counted[1, first:6, 2:5] = 1
        np.testing.assert_array_equal(stacked.counted[place], counted)
        np.testing.assert_array_equal(stacked.low[place], [1, first, 2])
        np.testing.assert_array_equal(stacked.high[place], [1, 5, 4])
    assert case.region.sum() == 15  # the case itself stays as it is


@pytest.mark.parametrize("lost", [{"ignore_above": 8}, {"region": np.zeros((2, 8, 6), bool)}])
def test_where_nothing_counts_boxes_may_lie_anywhere(lost):
    stacked = stack_volumes([replace(prepared("a"), **lost)], (2, 8, 6))
    assert not stacked.counted.any()
    np.testing.assert_array_equal([stacked.low[0], stacked.high[0]], [[0, 0, 0], [1, 7, 5]])


def test_levels_are_the_labels_in_the_rows_that_are_outlined():
    case = with_region(replace(prepared("a", (2, 20, 6), levels=9), ignore_above=4), slice(0, 1))
    case = replace(case, region=None)
    stacked = stack_volumes([case], (2, 20, 6), levels=True)
    np.testing.assert_array_equal(stacked.target[0], case.labels)
    assert stacked.target.dtype == np.uint8
    np.testing.assert_array_equal(stacked.counted[0, :, 4:], COUNTED)
    assert not stacked.counted[0, :, :4].any()
    shares = stack_volumes([case], (2, 20, 6))
    np.testing.assert_array_equal(shares.target[0], case.occupancy)
    np.testing.assert_array_equal(
        np.asarray(sets([case], levels=True).at(0).target), np.asarray(stacked.target)
    )  # fmt: skip


def test_tissues_count_beyond_the_region_and_classes_come_with_their_brightness():
    case = with_region(prepared("a"), slice(1, 2), slice(1, 6), slice(2, 5))
    classes = np.zeros(case.grid.shape, np.uint8)
    classes[:, 4:] = 6
    image = np.where(classes == 6, 102, 51).astype(np.uint8)[None]
    image[0, 0, 4:] += 51
    told = replace(case, tissues=classes, classes=classes, image=image)
    stacked = stack_volumes([told, case], (2, 8, 6))
    np.testing.assert_array_equal(
        stacked.counted[0] & OUTLINED > 0, np.arange(8)[None, :, None] * np.ones((2, 1, 6)) >= 3
    )
    np.testing.assert_array_equal(stacked.counted[0] & COUNTED, stacked.counted[1])
    np.testing.assert_allclose(stacked.class_mean[0, [0, 6], 0], [0.2, 0.5], atol=1e-6)
    np.testing.assert_allclose(stacked.class_sd[0, [0, 6], 0], [0.0, 0.1], atol=1e-4)
    assert not stacked.classes[1].any() and not stacked.class_mean[1].any()


def test_channels_come_last_in_their_order():
    case = prepared("a")
    image = np.stack([case.image[0], case.image[0] + 1])
    stacked = stack_volumes([replace(case, channels=("fat", "wat"), image=image)], (2, 8, 6))
    np.testing.assert_array_equal(stacked.image[0, 0, 0, 0], [7, 8])


def test_centres_are_those_of_the_discs_and_fill_up_the_table():
    stacked = stack_volumes([prepared("a", levels=3), prepared("b", levels=0)], (2, 8, 6))
    np.testing.assert_array_equal(stacked.discs, [3, 0])
    assert stacked.centres.shape == (2, MAX_DISCS, 3)
    np.testing.assert_allclose(stacked.centres[0], [[0.5, 1 + 2 * (k % 3), 2] for k in range(MAX_DISCS)])
    np.testing.assert_array_equal(stacked.centres[1], np.zeros((MAX_DISCS, 3)))


def test_more_discs_than_the_table_holds_never_point_beyond_it():
    stacked = stack_volumes([prepared("a", (1, 40, 6), levels=18)], (1, 40, 6))
    assert stacked.discs[0] == MAX_DISCS and stacked.centres[0, -1, 1] == 2 * MAX_DISCS - 1


def test_everything_lies_on_the_device_where_it_fits():
    chosen = sets([prepared(name, value=place) for place, name in enumerate("abc")], resident_mib=1)
    volumes = chosen.at(0)
    assert values(volumes) == [0, 1, 2] and volumes.image.sharding.is_fully_replicated
    assert chosen.at(12345) is volumes


def test_a_subset_rotates_where_not_everything_fits(monkeypatch):
    # Half a MiB each: image, target, what counts, classes and base.
    cases = [prepared(str(place), (1, 512, 204), place) for place in range(5)]
    turns = [values(sets(cases, resident_mib=1).at(step)) for step in (0, 10, 20, 30, 40, 50)]
    assert all(len(set(turn)) == 2 for turn in turns)
    assert set().union(*turns) == {0, 1, 2, 3, 4}
    # A run that was resumed at a step sees what an uninterrupted one saw there.
    walked = sets(cases, resident_mib=1)
    assert [values(walked.at(step)) for step in (0, 9, 10, 19, 20, 30, 40, 50)] == [
        turns[0], turns[0], turns[1], turns[1], *turns[2:]
    ]  # fmt: skip
    assert [values(sets(cases, seed=1, resident_mib=1).at(step)) for step in (0, 10, 20, 30, 40, 50)] != turns


def test_no_more_voxels_than_an_index_can_count(monkeypatch):
    monkeypatch.setattr(device_cache, "MAX_VOXELS", 2 * 2 * 8 * 6 + 5)
    assert len(values(sets([prepared(name) for name in "abc"]).at(0))) == 2


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ([], "no case is left for training; give more cases, or hold out fewer"),
        ([prepared("a"), replace(prepared("b"), labels=None)], "case b has no reference labels.*add b_Labels"),
        ([prepared("a"), replace(prepared("b"), channels=("fat",))], "case b has the channels fat, but case a has t2"),
        ([prepared("a", (3, 512, 512))], r"one volume takes 3.8 MiB, above training.resident_mib = 1; raise it"),
    ],
)
def test_unusable_cases_are_refused(cases, words):
    with pytest.raises(UserError, match=words):
        sets(cases, resident_mib=1)


def test_a_case_without_labels_cannot_be_stacked():
    with pytest.raises(ValueError, match="case a has no reference labels"):
        stack_volumes([replace(prepared("a"), labels=None)], (2, 8, 6))


def test_a_process_without_cases_has_room_for_the_leader_s_and_asks_for_them_at_the_same_turns(monkeypatch):
    cases = [prepared("a", (2, 8, 6)), prepared("b", (3, 5, 9)), prepared("c", (1, 4, 4))]
    monkeypatch.setattr(device_cache, "MAX_VOXELS", 2 * 3 * 8 * 9)  # two of the three fit
    asked = []
    monkeypatch.setattr(device_cache, "from_leader", lambda tree: asked.append(tree) or tree)
    led = sets(cases)
    followed = ReceivedCache(json.loads(json.dumps(led.layout)), data_mesh())
    for step in (0, 9, 10, 19, 20):
        led.at(step), followed.at(step)
    assert len(asked) == 6  # three turns, on both sides
    for mine, theirs in zip(asked[::2], asked[1::2], strict=True):
        assert [(a.shape, a.dtype) for a in mine] == [(a.shape, a.dtype) for a in theirs]
    asked.clear()
    whole = ReceivedCache(sets(cases[:1]).layout, data_mesh())
    for step in (0, 10, 20):
        whole.at(step)
    assert len(asked) == 1  # everything fits: one turn for all steps


def test_the_first_steps_have_a_cache_of_their_own_and_give_its_memory_back(monkeypatch):
    asked = []
    monkeypatch.setattr(device_cache, "from_leader", lambda tree: asked.append(tree) or tree)
    first = sets([prepared("a", (2, 8, 6), 1)])
    led = PhasedCache(first, 5, sets([prepared("b", (2, 9, 7), 2)]))
    followed = received_cache(json.loads(json.dumps(led.layout)), data_mesh())
    assert [values(led.at(step)) for step in (0, 4, 5, 6)] == [[1], [1], [2], [2]]
    assert first._current is None
    assert [followed.at(step).image.shape for step in (0, 4, 5)] == [(1, 2, 8, 6, 1)] * 2 + [(1, 2, 9, 7, 1)]
    assert len(asked) == 4  # two phases, on both sides
    assert values(PhasedCache(first, 5, sets([prepared("b", value=2)])).at(7)) == [2]  # resumed in the second
