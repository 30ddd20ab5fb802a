"""The plain U-Net: any number of channels, whole downsamplings, skips at every resolution."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivdjax.config import UNetConfig
from ivdjax.networks.layers import GroupNorm
from ivdjax.networks.unet import UNet, build_unet

TINY = UNetConfig(width=2, downsamplings=2, layers=1, groups=2)


def boxes(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def abstract(network: UNet, x: Any) -> Any:
    return jax.eval_shape(network.init, jax.random.key(0), x)


def some_variables(network: UNet, x: np.ndarray) -> Any:
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: (random.normal(size=leaf.shape) / 2).astype(leaf.dtype), abstract(network, x))


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels_gives_one_map_and_no_auxiliary_ones(channels):
    network, x = build_unet(TINY), jax.ShapeDtypeStruct((2, 12, 8, channels), jnp.bfloat16)
    logits, auxiliary = jax.eval_shape(network.apply, abstract(network, x), x)
    assert logits.shape == (2, 12, 8) and auxiliary.shape == (0, 2, 12, 8)
    assert logits.dtype == auxiliary.dtype == jnp.float32


def test_widths_double_with_each_downsampling():
    network = build_unet(UNetConfig(width=4, downsamplings=3, layers=2, groups=2))
    params = abstract(network, boxes(1, 8, 8, 3))["params"]
    units = [params[f"ConvUnit_{i}"] for i in range(17)]
    # Down to 4, 8, 16 and 32 channels; up by a reduction, then layers that read the skip beside it.
    assert [unit["Conv_0"]["kernel"].shape[2:] for unit in units[:8]] == [
        (3, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16), (16, 32), (32, 32)
    ]  # fmt: skip
    assert [unit["Dense_0"]["kernel"].shape for unit in units[8::3]] == [(32, 16), (16, 8), (8, 4)]
    assert [unit["Conv_0"]["kernel"].shape[2:] for unit in units[9::3]] == [(32, 16), (16, 8), (8, 4)]
    assert [unit["Conv_0"]["kernel"].shape[2:] for unit in units[10::3]] == [(16, 16), (8, 8), (4, 4)]
    assert "ConvUnit_17" not in params
    assert params["Dense_0"]["kernel"].shape[-1] == 1


@pytest.mark.parametrize("settings", [TINY, UNetConfig(width=2, downsamplings=1, layers=2, groups=2)])
def test_maps_are_halved_and_enlarged_as_often_as_asked(settings):
    network, x = build_unet(settings), boxes(1, 8, 12, 1)
    capture = lambda v: network.apply(v, x, capture_intermediates=True)  # noqa: E731
    _, found = jax.eval_shape(capture, abstract(network, x))
    sizes = [unit["__call__"][0].shape[1:3] for name, unit in found["intermediates"].items() if "ConvUnit" in name]
    assert set(sizes) == {(8 >> level, 12 >> level) for level in range(settings.downsamplings + 1)}


def test_both_the_skip_and_the_way_down_reach_the_result(monkeypatch):
    # Normalisation would let every voxel see every other; without it, a derivative shows the convolutions alone.
    monkeypatch.setattr(GroupNorm, "__call__", lambda self, x: x)
    network, x = build_unet(TINY), np.ones((1, 64, 4, 1), np.float32)
    variables = jax.tree.map(np.abs, some_variables(network, x))  # positive: no ReLU closes
    slope = jax.jit(jax.grad(lambda v: network.apply(variables, v)[0][0, 32, 2]))(x)
    rows = np.flatnonzero(np.asarray(slope)[0, :, 2, 0])
    # Row 32 reads 31 to 33 of the last layer's input; there the rows enlarged from half resolution are 15 to 17, of
    # whose layer's input 14 to 18 are read; enlarged from a quarter, 6 to 9; 5 to 10 there, so 10 to 21 at half
    # resolution and with its layer 9 to 22; 18 to 45 at full resolution, and with the first layer 17 to 46.
    np.testing.assert_array_equal(rows, np.arange(17, 47))


def test_skips_carry_what_pooling_loses():
    network, x = build_unet(TINY), np.zeros((1, 8, 8, 1), np.float32)
    flat = np.tile(np.float32([[0.5]]), (8, 8))[None, ..., None]
    board = (np.indices((8, 8)).sum(axis=0) % 2).astype(np.float32)[None, ..., None]  # pooled, it is flat too
    variables = some_variables(network, x)
    one, other = (np.asarray(jax.jit(network.apply)(variables, image)[0]) for image in (flat, board))
    assert np.abs(one - other).max() > 1e-3 and np.isfinite(other).all()


@pytest.mark.parametrize("size", [(12, 10), (6, 12)])
def test_a_box_that_the_downsamplings_do_not_divide_is_refused(size):
    with pytest.raises(ValueError, match=f"divisible by 4 in height and width, not {size[0]} x {size[1]}"):
        abstract(build_unet(TINY), boxes(1, *size, 1))


def test_intensities_are_centred():
    network, x = build_unet(UNetConfig(width=2, downsamplings=1, layers=1, groups=2)), boxes(1, 4, 4, 1)
    variables = some_variables(network, x)
    capture = jax.jit(lambda v: network.apply(variables, v, capture_intermediates=True)[1]["intermediates"])
    first = capture(np.full_like(x, 0.5))["ConvUnit_0"]["Conv_0"]["__call__"][0]
    np.testing.assert_array_equal(first, np.zeros((1, 4, 4, 2)))
