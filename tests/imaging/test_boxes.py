"""Cutting into boxes and blending back: nothing is lost, nothing is left out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ivdjax.imaging.boxes import blend_boxes, box_origins, cut_boxes

SHAPES = [(3, 16, 12), (2, 17, 13), (1, 40, 31), (2, 9, 30), (1, 5, 4), (4, 16, 40), (1, 1, 1)]
BOX = (16, 12)


def coverage(shape: tuple[int, int, int], box: tuple[int, int], overlap: float) -> np.ndarray:
    covered = np.zeros(shape, int)
    for d, h, w in box_origins(shape, box, overlap):
        covered[d, h : h + box[0], w : w + box[1]] += 1
    return covered


def test_a_slice_by_hand():
    # 40 rows in boxes of 16 that share at least a quarter: a stride of at most 12, so three boxes, 12 apart.
    assert box_origins((1, 40, 12), BOX, 0.25) == [(0, 0, 0), (0, 12, 0), (0, 24, 0)]
    assert box_origins((2, 16, 12), BOX, 0.25) == [(0, 0, 0), (1, 0, 0)]
    assert box_origins((1, 17, 4), BOX, 0.0) == [(0, 0, 0), (0, 1, 0)]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_voxel_is_covered_and_no_box_leaves_a_slice_that_is_larger(shape, overlap):
    assert coverage(shape, BOX, overlap).min() >= 1
    for d, h, w in box_origins(shape, BOX, overlap):
        assert 0 <= d < shape[0]
        assert 0 <= h <= max(shape[1] - BOX[0], 0) and 0 <= w <= max(shape[2] - BOX[1], 0)


def test_neighbours_share_at_least_the_overlap_at_any_size():
    for side, box, overlap in itertools.product(range(1, 90), (4, 7, 12), (0.0, 0.2, 0.25, 0.5, 0.75)):
        starts = [h for _, h, _ in box_origins((1, side, 1), (box, 1), overlap)]
        steps = np.diff(starts)
        assert (steps > 0).all() and (box - steps >= overlap * box - 1e-9).all(), (side, box, overlap)
        # No more boxes than it takes.
        assert len(starts) <= 1 + -(-max(side - box, 0) // max(int(box * (1 - overlap)), 1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_cutting_and_blending_gives_the_image_back(shape, batch_size):
    image = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype(np.uint8)
    origins = box_origins(shape, BOX, 0.25)
    batches = list(cut_boxes(image, origins, BOX, batch_size))
    assert all(batch.shape == (batch_size, *BOX, 2) and batch.dtype == np.uint8 for batch in batches)
    boxes = np.concatenate(batches)
    assert len(boxes) - len(origins) < batch_size and not boxes[len(origins) :].any()
    for channel in range(2):  # the network that gives its input back
        blended = blend_boxes(boxes[: len(origins), ..., channel].astype(np.float32), origins, shape)
        assert blended.dtype == np.float32 and blended.shape == shape
        np.testing.assert_allclose(blended, image[channel], rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_stays_a_constant(shape):
    origins = box_origins(shape, BOX, 0.6)
    blended = blend_boxes(np.full((len(origins), *BOX), 0.3, np.float32), origins, shape)
    np.testing.assert_allclose(blended, 0.3, rtol=1e-6)


def test_a_slice_smaller_than_the_box_is_padded_at_its_end():
    image = np.arange(1, 7, dtype=np.uint8).reshape(1, 1, 2, 3)
    (batch,) = cut_boxes(image, [(0, 0, 0)], (4, 4), 1)
    np.testing.assert_array_equal(batch[0, ..., 0], [[1, 2, 3, 0], [4, 5, 6, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_where_boxes_disagree_the_one_farther_from_its_border_weighs_more():
    # Two boxes of five columns, three of them shared: weights 1 2 3 2 1, and 1 2 3 2 1 two columns on.
    boxes = np.stack([np.zeros((1, 5)), np.ones((1, 5))]).astype(np.float32)
    blended = blend_boxes(np.repeat(boxes, 5, axis=1), [(0, 0, 0), (0, 0, 2)], (1, 5, 7))
    np.testing.assert_allclose(blended[0, 2], [0, 0, 1 / 4, 2 / 4, 3 / 4, 1, 1], rtol=1e-6)


def test_a_voxel_without_a_box_is_0():
    blended = blend_boxes(np.ones((1, 2, 2), np.float32), [(0, 0, 0)], (2, 2, 3))
    np.testing.assert_array_equal(blended, [[[1, 1, 0], [1, 1, 0]], [[0, 0, 0], [0, 0, 0]]])


def test_another_number_of_boxes_than_of_origins_is_refused():
    with pytest.raises(ValueError, match="argument 2 is"):
        blend_boxes(np.ones((3, 2, 2), np.float32), [(0, 0, 0)], (1, 2, 2))
