"""Cutting into boxes and blending back: nothing is lost, nothing is left out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ivdjax.imaging.boxes import blend_boxes, box_origins, cut_boxes, region_origins

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


def count_in_boxes(shape: tuple[int, int, int], origins: list, box: tuple[int, int]) -> np.ndarray:
    covered = np.zeros(shape, int)
    for d, h, w in origins:
        covered[d, h : h + box[0], w : w + box[1]] += 1
    return covered


def band(shape: tuple[int, int, int], width: int, slope: float = 0.2) -> np.ndarray:
    """A leaning band from top to bottom in the middle third of the slices, as a spine region looks."""
    d, h, w = np.indices(shape)
    middle = shape[2] / 2 + slope * (h - shape[1] / 2)
    return (np.abs(w - middle) <= width / 2) & (d >= shape[0] // 3) & (d < shape[0] - shape[0] // 3)


def test_boxes_follow_a_region_by_hand():
    region = np.zeros((3, 40, 50), bool)
    region[1, 4:32, 20] = True  # 28 rows: two boxes of 16 from row 4 to row 32, 12 apart
    region[1, 25, 24] = True  # columns 20 to 24 in the second: one more to each side than the single column
    assert region_origins(region, BOX, 0.25) == [(1, 4, 15), (1, 16, 17)]


def test_a_box_stays_inside_a_slice_that_is_larger():
    region = np.zeros((1, 40, 50), bool)
    region[0, 1, 48] = True
    assert region_origins(region, BOX, 0.25) == [(0, 0, 38)]
    assert region_origins(region[:, :10, 45:], BOX, 0.25) == [(0, 0, 0)]


def test_a_gap_in_a_region_gets_no_box():
    region = np.zeros((1, 200, 200), bool)
    region[0, 0, 0] = region[0, 199, 199] = True
    assert region_origins(region, BOX, 0.25) == [(0, 0, 0), (0, 184, 188)]


def test_an_empty_region_has_no_box():
    assert region_origins(np.zeros((2, 40, 50), bool), BOX, 0.25) == []


def test_a_whole_volume_gets_as_many_boxes_as_without_a_region():
    for shape in SHAPES:
        assert region_origins(np.ones(shape, bool), BOX, 0.25) == box_origins(shape, BOX, 0.25)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 60), st.integers(1, 60)),
    share=st.sampled_from([0.001, 0.02, 0.3]),
    overlap=st.sampled_from([0.0, 0.25, 0.6]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_voxel_of_a_region_is_covered(shape, share, overlap, seed):
    region = np.random.default_rng(seed).random(shape) < share
    origins = region_origins(region, BOX, overlap)
    assert (count_in_boxes(shape, origins, BOX)[region] >= 1).all()
    assert len(set(origins)) == len(origins) <= len(box_origins(shape, BOX, overlap))
    for d, h, w in origins:
        assert region[d, h : h + BOX[0], w : w + BOX[1]].any()
        assert 0 <= h <= max(shape[1] - BOX[0], 0) and 0 <= w <= max(shape[2] - BOX[1], 0)


def test_neighbours_along_a_region_share_at_least_the_overlap():
    region = band((1, 300, 200), width=50)
    for overlap in (0.25, 0.5):
        rows = sorted({h for _, h, _ in region_origins(region, (192, 128), overlap)})
        assert len(rows) > 1 and (192 - np.diff(rows) >= overlap * 192).all()


def test_a_spine_takes_far_fewer_boxes_than_the_volume():
    shape, box = (36, 256, 256), (192, 128)
    region = band(shape, width=60)
    origins = region_origins(region, box, 0.25)
    assert len(origins) == 2 * 12  # two boxes, one above the other, in each of the 12 slices with the region
    assert len(box_origins(shape, box, 0.25)) == 6 * 36


def test_cutting_and_blending_gives_the_image_back_inside_a_region():
    region = band((3, 40, 60), width=20)
    image = np.random.default_rng(0).integers(0, 256, (1, *region.shape)).astype(np.uint8)
    origins = region_origins(region, BOX, 0.25)
    boxes = np.concatenate(list(cut_boxes(image, origins, BOX, 4)))[: len(origins), ..., 0].astype(np.float32)
    blended = blend_boxes(boxes, origins, region.shape)
    np.testing.assert_allclose(blended[region], image[0][region], rtol=1e-6)
    assert not blended[[0, 2]].any()
