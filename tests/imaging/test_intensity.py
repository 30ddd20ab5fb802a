"""Normalisation that depends on the picture and not on a file's units."""

from __future__ import annotations

import numpy as np
import pytest

from ivdjax.imaging.intensity import normalized, to_uint8


@pytest.fixture
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    array = rng.gamma(2.0, 50.0, (8, 32, 32))
    array[:, :, :8] = 0.0
    return array.astype(np.float32)


def test_range_and_type(picture: np.ndarray) -> None:
    scaled, remarks = normalized(picture)
    assert scaled.dtype == np.float32 and scaled.min() == 0 and scaled.max() == 1
    assert remarks == ()


@pytest.mark.parametrize(("scale", "offset"), [(1e-3, 0.0), (1.0, -500.0), (37.5, 1000.0)])
def test_scale_and_offset_change_nothing(picture: np.ndarray, scale: float, offset: float) -> None:
    plain, _ = normalized(picture)
    other, _ = normalized(picture.astype(np.float64) * scale + offset)
    assert np.array_equal(to_uint8(plain), to_uint8(other))


def test_percentiles_become_zero_and_one() -> None:
    ramp = np.arange(1001.0).reshape(1, 7, 143)
    scaled, _ = normalized(ramp, (10.0, 100.0))
    assert scaled.ravel()[100] == pytest.approx(0, abs=1e-6)
    assert scaled.ravel()[1000] == 1
    assert scaled.ravel()[550] == pytest.approx(0.5)


def test_hot_voxels_do_not_set_the_scale(picture: np.ndarray) -> None:
    plain, _ = normalized(picture)
    hot = picture.copy()
    hot[0, 0, :3] = 1e9
    assert np.abs(normalized(hot)[0] - plain)[1:].max() < 0.02


def test_more_air_or_padding_does_not_set_the_scale(picture: np.ndarray) -> None:
    plain, _ = normalized(picture)
    padded, _ = normalized(np.pad(picture, ((0, 0), (40, 40), (0, 0))))
    assert np.allclose(padded[:, 40:-40], plain, atol=1e-6)
    rng = np.random.default_rng(1)
    noisy = np.concatenate([picture, rng.random((8, 40, 32), dtype=np.float32)], axis=1)
    assert np.abs(normalized(noisy)[0][:, :32] - plain).max() < 0.05


def test_broken_voxels_are_replaced_and_told(picture: np.ndarray) -> None:
    plain, _ = normalized(picture)
    broken = picture.copy()
    broken[0, 0, 20], broken[1, 1, 21], broken[2, 2, 22] = np.nan, np.inf, -np.inf
    scaled, remarks = normalized(broken)
    assert np.isfinite(scaled).all() and scaled[0, 0, 20] == 0 and scaled[1, 1, 21] == 0
    assert len(remarks) == 1 and "3 voxels" in remarks[0]
    assert np.abs(scaled - plain)[3:].max() < 0.01


def test_constant_and_empty_channels_give_zeros_and_a_remark() -> None:
    for values in (np.full((2, 3, 4), 7.0), np.full((2, 3, 4), np.nan)):
        scaled, remarks = normalized(values)
        assert not scaled.any() and scaled.shape == (2, 3, 4)
        assert any("one value everywhere" in remark for remark in remarks)


def test_a_few_voxels_on_a_flat_ground_are_still_shown() -> None:
    values = np.zeros((1, 100, 100))
    values[0, 0, 0] = 5.0
    scaled, remarks = normalized(values)
    assert scaled[0, 0, 0] == 1 and scaled.sum() == 1 and remarks == ()


def test_to_uint8_rounds_and_clips() -> None:
    assert to_uint8(np.array([-1.0, 0.0, 0.5, 1.0 / 255.0, 1.0, 2.0])).tolist() == [0, 0, 128, 1, 255, 255]
