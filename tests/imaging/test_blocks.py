"""Blocks over volumes of any size: cut and blend are a round trip."""

from __future__ import annotations

import numpy as np
import pytest

from ivdjax.imaging.blocks import blend_blocks, block_origins, cut_blocks

BLOCK = (4, 8, 6)


@pytest.mark.parametrize("shape", [(4, 8, 6), (9, 20, 13), (2, 5, 3), (11, 5, 6), (5, 9, 7)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_cut_and_blend_give_the_volume_back(shape, overlap):
    image = np.random.default_rng(0).integers(0, 256, (2, *shape)).astype(np.uint8)
    origins = block_origins(shape, BLOCK, overlap)
    blocks = list(cut_blocks(image, origins, BLOCK))
    assert len(blocks) == len(origins)
    assert all(block.shape == (1, *BLOCK, 2) and block.dtype == np.uint8 for block in blocks)
    back = blend_blocks([block[0].astype(np.float32) for block in blocks], origins, shape)
    assert back.shape == (2, *shape) and back.dtype == np.float32
    np.testing.assert_allclose(back, image, rtol=1e-5)


def test_origins_by_hand():
    # 10 slices in blocks of 4 that share one slice: 0, 3, 6; the rows fit; 7 columns in blocks of 6: 0 and 1.
    assert block_origins((10, 8, 7), BLOCK, 0.25) == [(d, 0, w) for d in (0, 3, 6) for w in (0, 1)]
    assert block_origins((3, 2, 1), BLOCK, 0.25) == [(0, 0, 0)]


def test_neighbours_share_what_is_asked_for():
    firsts = sorted({d for d, _, _ in block_origins((23, 8, 6), (8, 8, 6), 0.5)})
    assert firsts[0] == 0 and firsts[-1] == 15 and max(np.diff(firsts)) <= 4


def test_a_block_beyond_the_end_is_filled_with_zeros():
    (block,) = cut_blocks(np.full((1, 2, 5, 3), 9, np.uint8), [(0, 0, 0)], BLOCK)
    assert block.sum() == 9 * 2 * 5 * 3 and (block[0, :2, :5, :3] == 9).all()


def test_overlapping_blocks_are_weighted_by_the_distance_from_their_border():
    # Along d two blocks of 4 on 6 slices: weights 1, 2, 2, 1 each (halved), so slices 2 and 3 are shared 2 : 1.
    blocks = [np.zeros((4, 1, 1, 2), np.float32), np.ones((4, 1, 1, 2), np.float32)]
    blended = blend_blocks(blocks, [(0, 0, 0), (2, 0, 0)], (6, 1, 1))
    np.testing.assert_allclose(blended[1, :, 0, 0], [0, 0, 1 / 3, 2 / 3, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(blended[0], blended[1])


def test_probabilities_add_up_to_one_again_and_uncovered_voxels_are_zero():
    logits = np.random.default_rng(1).normal(size=(2, *BLOCK, 5))
    share = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    blended = blend_blocks(list(share.astype(np.float32)), [(0, 0, 0), (2, 3, 1)], (9, 12, 8))
    covered = np.zeros((9, 12, 8), bool)
    covered[:4, :8, :6] = covered[2:6, 3:11, 1:7] = True
    np.testing.assert_allclose(blended.sum(axis=0), covered, atol=1e-5)


def test_no_block_and_another_number_of_blocks_are_refused():
    with pytest.raises(ValueError, match="there is no block to blend"):
        blend_blocks([], [], (4, 8, 6))
    with pytest.raises(ValueError, match="longer"):
        blend_blocks([np.zeros((*BLOCK, 2), np.float32)], [(0, 0, 0), (0, 0, 1)], (4, 8, 6))
