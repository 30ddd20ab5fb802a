"""Probabilities of a whole volume from boxes, and the Dice that training watches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ivdjax.config import (
    AugmentationConfig,
    Config,
    DiscConfig,
    InferenceConfig,
    LocalizationConfig,
    RegionConfig,
    TrainingConfig,
)
from ivdjax.data.preparation import Prepared
from ivdjax.model import probabilities
from ivdjax.model.probabilities import (
    disc_probability,
    level_dice,
    level_probability,
    region_dice,
    region_probability,
    with_region,
    working_dice,
)
from ivdjax.model.stages import predicted_box
from ivdjax.volume import Grid


def prepared(shape: tuple[int, int, int], channels: int = 1) -> Prepared:
    random = np.random.default_rng(0)
    grid = Grid(shape, np.diag([2.0, 1.25, 1.25, 1.0]))
    names = tuple(f"channel{place}" for place in range(channels))
    image = random.integers(0, 256, (channels, *shape)).astype(np.uint8)
    labels = np.zeros(shape, np.uint8)
    return Prepared("a", "a", names, image, labels, labels, 0, grid, grid, grid)


def settings(batch_size: int = 4, smoothing_mm: float = 0.0) -> Config:
    return Config(
        "x",
        region=RegionConfig(spacing_mm=(1.25, 1.25), margin_mm=0.0, training=TrainingConfig(crop=(16, 16))),
        disc=DiscConfig(training=TrainingConfig(crop=(16, 12))),
        localization=LocalizationConfig(training=TrainingConfig(crop=(4, 8, 8))),
        inference=InferenceConfig(batch_size=batch_size, overlap=0.25, slice_smoothing_mm=smoothing_mm),
    )


def last_channel(params: Any, boxes: np.ndarray) -> Any:
    """A network that gives its last channel back; it takes boxes of one compiled shape only."""
    assert boxes.shape[:3] == (4, 16, 12) and boxes.dtype == np.uint8 and params == "parameters"
    return boxes[..., -1].astype(np.float32) / 255


@pytest.mark.parametrize(("shape", "channels"), [((3, 40, 31), 1), ((5, 16, 12), 2), ((1, 7, 50), 3), ((2, 9, 5), 1)])
def test_each_voxel_gets_its_own_probability(shape, channels):
    case = prepared(shape, channels)
    probability = disc_probability(case, last_channel, "parameters", settings())
    assert probability.shape == shape and probability.dtype == np.float32
    np.testing.assert_allclose(probability, case.image[-1] / 255, rtol=1e-5)


def test_boxes_at_inference_may_have_another_shape_than_in_training():
    case, seen = prepared((2, 40, 8)), []

    def network(params: Any, boxes: np.ndarray) -> Any:
        seen.append(boxes.shape)
        return boxes[..., -1].astype(np.float32) / 255

    config = settings()
    config = replace(config, inference=replace(config.inference, box=(40, 8)))
    np.testing.assert_allclose(disc_probability(case, network, "", config), case.image[-1] / 255, rtol=1e-5)
    assert seen == [(4, 40, 8, 1)], "one box a slice, in one batch"
    assert [predicted_box(config, stage) for stage in ("region", "disc", "localization")] == [
        (16, 16), (40, 8), (4, 8, 8)
    ]  # fmt: skip


def test_smoothing_lies_across_slices_and_is_given_in_mm():
    case = prepared((9, 16, 12))
    case.image[:] = 0
    case.image[0, 4, 8, 6] = 255
    probability = disc_probability(case, last_channel, "parameters", settings(smoothing_mm=2.0))
    line = probability[:, 8, 6]
    sigma = 1.0  # 2 mm, on slices of 2 mm
    wanted = np.exp(-0.5 * ((np.arange(9) - 4) / sigma) ** 2)
    np.testing.assert_allclose(line, wanted / wanted.sum(), atol=1e-3)
    probability[:, 8, 6] = 0
    assert not probability.any()


def in_region(case: Prepared, *box: slice) -> Prepared:
    region = np.zeros(case.grid.shape, bool)
    region[box] = True
    return replace(case, region=region)


def test_outside_of_the_region_there_is_no_disc_and_the_network_does_not_look():
    case = in_region(prepared((6, 40, 31)), slice(2, 4), slice(5, 12), slice(20, 29))
    case.image[:] = np.maximum(case.image, 1)
    boxes = []
    probability = disc_probability(case, lambda p, b: boxes.append(b) or last_channel(p, b), "parameters", settings())
    np.testing.assert_allclose(probability, case.image[-1] / 255 * case.region, rtol=1e-5)
    (batch,) = boxes  # one box a slice of the region; the other two places of the batch are filled up
    assert batch[:2].any(axis=(1, 2, 3)).all() and not batch[2:].any()


def test_smoothing_leaks_nothing_out_of_the_region():
    case = in_region(prepared((9, 16, 12)), slice(4, 6))
    smooth = disc_probability(case, last_channel, "parameters", settings(smoothing_mm=2.0))
    assert smooth[case.region].min() > 0 and not smooth[~case.region].any()


def test_an_empty_region_gives_no_disc_without_a_look():
    case = in_region(prepared((3, 40, 31)), slice(0, 0))
    probability = disc_probability(case, lambda p, b: pytest.fail("looked"), "parameters", settings())
    assert probability.shape == (3, 40, 31) and not probability.any()


def bright(params: Any, boxes: np.ndarray) -> Any:
    """A network that says yes where its first channel is bright; it takes boxes of one compiled shape only."""
    assert boxes.shape == (16, 16, 16, 1) and boxes.dtype == np.uint8
    return (boxes[..., 0] > 127).astype(np.float32)


def with_block(shape: tuple[int, int, int], *box: slice) -> Prepared:
    case = prepared(shape)
    case.image[:] = 0
    case.image[(0, *box)] = 255
    return case


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets volumes of these tests' size have a region."""
    monkeypatch.setattr(probabilities, "LEAST_HEIGHT_MM", 5.0)


def test_a_field_of_view_too_low_for_a_region_has_none_and_it_is_said():
    case = replace(with_block((2, 119, 20), slice(0, 2), slice(0, 60)), warnings=("said before",))
    found = with_region(case, lambda p, b: pytest.fail("looked"), None, settings())
    assert found.region is None and found.warnings[0] == "said before"
    assert "case a: the field of view is 149 mm high" in found.warnings[1]
    assert with_region(with_block((2, 120, 20), slice(0, 2), slice(0, 60)), bright, None, settings()).region.sum() == (
        2 * 60 * 20
    )


def test_the_region_is_what_its_network_says_in_one_piece_and_widened(low):
    case = with_block((5, 40, 31), slice(1, 4), slice(10, 30), slice(6, 20))
    case.image[0, 2, 35, 28] = 255  # a stray voxel, more than 10 mm away
    found = with_region(case, bright, None, settings())
    wanted = np.zeros((5, 40, 31), bool)
    wanted[1:4, 10:30, 6:20] = True
    assert found.region is not None and found.region.dtype == bool
    np.testing.assert_array_equal(found.region, wanted)
    assert found.labels is case.labels and found.image is case.image and case.region is None
    config = settings()
    config = replace(config, region=replace(config.region, margin_mm=2.6))  # a slice of 2 mm, two voxels of 1.25 mm
    wide = with_region(case, bright, None, config).region
    assert wide is not None
    assert [np.flatnonzero(wide.any(axis=axes))[[0, -1]].tolist() for axes in ((1, 2), (0, 2), (0, 1))] == [
        [0, 4], [8, 31], [4, 21]
    ]  # fmt: skip


def test_a_region_found_on_a_coarser_grid_lies_on_the_working_grid(low):
    case = with_block((2, 40, 32), slice(0, 2), slice(8, 32), slice(8, 24))
    config = settings()
    config = replace(config, region=replace(config.region, spacing_mm=(2.5, 2.5)))
    found = with_region(case, bright, None, config).region
    wanted = np.zeros((2, 40, 32), bool)
    wanted[:, 8:32, 8:24] = True
    np.testing.assert_array_equal(found, wanted)
    assert with_region(with_block((2, 40, 32), slice(0, 0)), bright, None, config).region.sum() == 0


@pytest.mark.parametrize("shape", [(3, 40, 31), (20, 5, 7)])
def test_each_voxel_gets_its_own_probability_of_region(shape):
    case = prepared(shape)
    probability = region_probability(case, bright, None, settings())
    np.testing.assert_allclose(probability, case.image[0] > 127, atol=1e-6)


@pytest.mark.parametrize("overhang", [0.0, 0.5])
@pytest.mark.parametrize("shape", [(9, 20, 13), (4, 8, 8), (2, 5, 30)])
def test_each_voxel_gets_its_own_probabilities_of_levels(shape, overhang):
    case = prepared(shape)
    config = replace(settings(), augmentation=AugmentationConfig(overhang=overhang))
    air = []

    def network(params: Any, blocks: np.ndarray) -> Any:
        assert blocks.shape == (1, 4, 8, 8, 1) and blocks.dtype == np.uint8 and params == "parameters"
        air.append([not blocks[:, :, :2].any(), not blocks[:, :, :, :2].any()])
        share = blocks.astype(np.float32) / 255
        return np.concatenate([1 - share, share], axis=-1)

    probability = level_probability(case, network, "parameters", config)
    assert probability.shape == (2, *shape) and probability.dtype == np.float32
    assert (np.any(air, axis=0) == bool(overhang)).all(), "a quarter of the overhanging box is air, above and in front"
    np.testing.assert_allclose(probability[1], case.image[0] / 255, atol=1e-5)
    np.testing.assert_allclose(probability.sum(axis=0), 1, rtol=1e-5)


def test_air_above_and_below_changes_no_levels_of_a_network_trained_with_an_overhang():
    """The network says how far down its box it is: it would notice any shift."""
    config = replace(settings(), augmentation=AugmentationConfig(overhang=0.5))

    def network(params: Any, blocks: np.ndarray) -> Any:
        place = np.broadcast_to(np.arange(8.0)[None, None, :, None, None] / 8, blocks.shape)
        return np.concatenate([1 - place, place], axis=-1).astype(np.float32)

    case = prepared((3, 7, 9))
    plain = level_probability(case, network, None, config)
    image = np.pad(case.image, ((0, 0), (0, 0), (5, 11), (0, 0)))
    grid = Grid(image.shape[1:], case.grid.affine)
    airy = level_probability(replace(case, image=image, grid=grid, labels=None), network, None, config)
    np.testing.assert_array_equal(airy[:, :, 5:12], plain)
    assert (airy[0, :, :5] == 1).all() and (airy[1:, :, 12:] == 0).all()
    blank = level_probability(replace(case, image=case.image * np.uint8(0)), network, None, config)
    assert blank.shape == plain.shape


def with_labels(rows: tuple[int, ...], ignore_above: int = 0) -> Prepared:
    case = prepared((1, 8, 4))
    labels = np.zeros((1, 8, 4), np.uint8)
    for level, row in enumerate(rows, start=1):
        labels[0, row] = level
    return replace(case, labels=labels, ignore_above=ignore_above)


def found(*rows: int) -> np.ndarray:
    probability = np.full((1, 8, 4), 0.5, np.float32)
    probability[0, list(rows)] = 0.6
    return probability


def test_dice_by_hand():
    case = with_labels((2, 5))  # all discs as one mask
    assert working_dice(case, found(2, 5), 0.5) == 1.0
    assert working_dice(case, found(2), 0.5) == pytest.approx(2 * 4 / (4 + 8))
    assert working_dice(case, found(0), 0.5) == 0.0
    assert working_dice(case, found(2, 5), 0.7) == 0.0


def test_rows_that_take_no_part_in_the_loss_do_not_count():
    case = with_labels((2, 5), ignore_above=1)
    assert working_dice(case, found(0, 2, 5), 0.5) == 1.0
    assert working_dice(case, found(1, 2, 5), 0.5) == pytest.approx(2 * 8 / (8 + 12))


def test_two_empty_masks_agree():
    assert working_dice(with_labels(()), found(), 0.5) == 1.0
    assert working_dice(with_labels(()), found(3), 0.5) == 0.0
    assert working_dice(with_labels((2,), ignore_above=8), found(3), 0.5) == 1.0


def test_a_case_without_reference_is_refused():
    with pytest.raises(ValueError, match="case a has no reference labels"):
        working_dice(replace(with_labels(()), labels=None), found(), 0.5)
    with pytest.raises(ValueError, match="case a has no reference labels"):
        level_dice(replace(with_labels(()), labels=None), found())
    with pytest.raises(ValueError, match="case a has no reference to compare"):
        region_dice(replace(with_labels(()), occupancy=None), found(), with_labels(()).grid)


def test_dice_of_a_region_by_hand():
    case = with_labels((2, 5))
    target = np.zeros((1, 8, 4), np.uint8)
    target[0, 2:6] = 255
    case = replace(case, occupancy=target)
    assert region_dice(case, found(2, 3, 4, 5), case.grid) == 1.0
    assert region_dice(case, found(3, 4), case.grid) == pytest.approx(2 * 8 / (8 + 16))
    assert region_dice(case, found(0, 1, 2, 3, 4, 5), case.grid) == pytest.approx(2 * 16 / (24 + 16))
    # Rows that take no part in the loss do not count.
    assert region_dice(replace(case, ignore_above=2), found(0, 1, 2, 3, 4, 5), case.grid) == 1.0


def test_dice_of_levels_by_hand():
    case = with_labels((6, 4, 1))  # rows of level 1, 2 and 3
    likeliest = np.zeros((1, 8, 4), int)
    likeliest[0, 6], likeliest[0, 4], likeliest[0, 1] = 1, 3, 3  # the second disc is taken for the third
    probability = np.moveaxis(np.eye(8, dtype=np.float32)[likeliest], -1, 0)
    assert level_dice(case, probability) == pytest.approx((1 + 0 + 2 * 4 / (8 + 4)) / 3)
    likeliest[0, 4] = 2
    assert level_dice(case, np.moveaxis(np.eye(8, dtype=np.float32)[likeliest], -1, 0)) == 1.0
    assert level_dice(with_labels(()), probability) == 1.0
