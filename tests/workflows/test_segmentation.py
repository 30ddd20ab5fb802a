"""Probabilities of a whole volume from boxes, and the Dice that training watches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ivdjax.config import Config, InferenceConfig, StageConfig, TrainingConfig
from ivdjax.data.preparation import Prepared
from ivdjax.volume import Grid
from ivdjax.workflows.segmentation import disc_probability, working_dice


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
        disc=StageConfig(training=TrainingConfig(crop=(16, 12))),
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
