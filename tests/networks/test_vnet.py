"""The localization network: residual blocks, any number of channels and slices, and a voxel sees the whole spine."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from ivdjax.config import VNetConfig
from ivdjax.networks import vnet
from ivdjax.networks.layers import GroupNorm
from ivdjax.networks.vnet import CLASSES, SliceConv, VNet, build_vnet

TINY = VNetConfig(widths=(2, 4, 6), layers=(1, 1, 2), slice_pooling=(1, 2), groups=2)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def abstract(network: nn.Module, x: Any) -> Any:
    return jax.eval_shape(network.init, jax.random.key(0), x)


def some_variables(network: nn.Module, x: Any) -> Any:
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: (random.normal(size=leaf.shape) / 2).astype(leaf.dtype), abstract(network, x))


@pytest.mark.parametrize(("channels", "slices"), [(1, 2), (4, 6)])
def test_any_number_of_channels_gives_background_and_seven_discs(channels, slices):
    network, x = build_vnet(TINY), jax.ShapeDtypeStruct((2, slices, 8, 12, channels), jnp.bfloat16)
    logits, auxiliary = jax.eval_shape(network.apply, abstract(network, x), x)
    assert CLASSES == 8
    assert logits.shape == (2, slices, 8, 12, 8) and auxiliary.shape == (0, 2, slices, 8, 12, 8)
    assert logits.dtype == auxiliary.dtype == jnp.float32


def test_widths_layers_and_poolings_come_from_the_configuration():
    params = abstract(build_vnet(TINY), jax.ShapeDtypeStruct((1, 2, 8, 8, 3), jnp.float32))["params"]
    # Three channels and two of place. In plane at full resolution, across slices below; four convolutions on the way
    # down, two on the way up.
    assert [params[f"SliceConv_{i}"]["kernel"].shape for i in range(6)] == [
        (1, 3, 3, 5, 2), (3, 3, 3, 4, 4), (3, 3, 3, 6, 6), (3, 3, 3, 6, 6), (3, 3, 3, 8, 4), (1, 3, 3, 4, 2)
    ]  # fmt: skip
    # Where widths differ, the block's input is projected; joints read or give 4 voxels, or 8 where slices are pooled.
    # Heads at half and at full resolution, each with a hidden layer (Flax numbers the outer one first).
    assert [params[f"Dense_{i}"]["kernel"].shape for i in range(11)] == [
        (5, 2), (4 * 2, 4), (8 * 4, 6), (6, 8 * 4), (8, 4), (64, 8), (4, 64), (4, 4 * 2), (4, 2), (32, 8), (2, 32)
    ]  # fmt: skip
    assert "Dense_11" not in params and "SliceConv_6" not in params


def test_a_block_adds_its_input():
    network, x = (
        build_vnet(VNetConfig(widths=(2, 4), layers=(1, 2), slice_pooling=(1,), groups=2)),
        noise(1, 2, 4, 4, 1),
    )
    variables = some_variables(network, x)
    params = variables["params"]
    for name in params:
        if name.startswith("SliceConv"):
            params[name] = jax.tree.map(np.zeros_like, params[name])
        if name.startswith("GroupNorm"):
            params[name]["bias"] = np.zeros_like(params[name]["bias"])
    # What the convolutions give is now zero: the rest is joints and projections alone.
    shown = np.concatenate([4 * x - 2, np.asarray(vnet._places(jnp.asarray(x)))], axis=-1)
    skip = np.maximum(shown @ params["Dense_0"]["kernel"], 0)
    down = joined(vnet._gather(skip, 1) @ params["Dense_1"]["kernel"], params["GroupNorm_1"])
    up = joined(down @ params["Dense_4"]["kernel"], params["GroupNorm_4"])
    top = np.maximum(np.concatenate([skip, vnet._scatter(up, 1)], axis=-1) @ params["Dense_5"]["kernel"], 0)
    half, full = (
        np.maximum(dense(x, params[hidden]), 0) @ params[outer]["kernel"] + params[outer]["bias"]
        for x, hidden, outer in ((down, "Dense_3", "Dense_2"), (top, "Dense_7", "Dense_6"))
    )
    wanted = full + half.repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_allclose(jax.jit(network.apply)(variables, x)[0], wanted, atol=1e-4)


def test_places_run_from_minus_one_to_one_down_and_back():
    places = np.asarray(vnet._places(jnp.zeros((1, 2, 3, 5, 4))))
    assert places.shape == (1, 2, 3, 5, 2)
    np.testing.assert_allclose(places[0, 1, :, 2, 0], [-1, 0, 1])
    np.testing.assert_allclose(places[0, 1, 1, :, 1], [-1, -0.5, 0, 0.5, 1])


def dense(x: np.ndarray, params: Any) -> np.ndarray:
    return x @ params["kernel"] + params["bias"]


def joined(x: np.ndarray, params: Any) -> np.ndarray:
    return np.maximum(np.asarray(GroupNorm(2).apply({"params": params}, x)), 0)


@pytest.mark.parametrize(("slices", "dilation"), [(1, 1), (3, 1), (3, 2), (5, 1)])
@pytest.mark.parametrize("depth", [1, 4])
def test_a_slice_convolution_equals_xla_s_own(slices, dilation, depth):
    module, x = SliceConv(3, slices, dilation), noise(2, depth, 5, 6, 4)
    kernel = noise(slices, 3, 3, 4, 3, seed=1)
    wanted = jax.lax.conv_general_dilated(
        x, kernel, (1, 1, 1), "SAME", rhs_dilation=(1, dilation, dilation),
        dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
    )  # fmt: skip
    assert abstract(module, x)["params"]["kernel"].shape == kernel.shape
    np.testing.assert_allclose(jax.jit(module.apply)({"params": {"kernel": kernel}}, x), wanted, atol=1e-5)


@pytest.mark.parametrize("factor", [1, 2])
def test_gathering_before_a_product_is_a_strided_convolution(factor):
    x, kernel = noise(2, 4, 6, 8, 3), noise(factor, 2, 2, 3, 5, seed=1)
    wanted = jax.lax.conv_general_dilated(
        x, kernel, (factor, 2, 2), "VALID", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    gathered = vnet._gather(x, factor)
    np.testing.assert_allclose(gathered @ kernel.reshape(-1, 5), wanted, atol=1e-5)
    np.testing.assert_array_equal(vnet._scatter(gathered, factor), x)


def test_at_full_resolution_slices_are_convolved_one_by_one(monkeypatch):
    monkeypatch.setattr(GroupNorm, "__call__", lambda self, x: x)
    # One pooling of the plane alone and no layer that crosses slices: no slice may see another.
    network = build_vnet(VNetConfig(widths=(2, 2), layers=(1, 1), slice_pooling=(1,), groups=2))
    x = np.ones((1, 5, 4, 4, 1), np.float32)
    variables = jax.tree.map(np.abs, some_variables(network, x))
    crossed = seen(network, variables, x, (2, 2, 2))
    assert list(np.flatnonzero(crossed.any(axis=(1, 2)))) == [1, 2, 3]  # the coarse block's 3 x 3 x 3
    variables["params"]["SliceConv_1"]["kernel"][[0, 2]] = 0
    assert list(np.flatnonzero(seen(network, variables, x, (2, 2, 2)).any(axis=(1, 2)))) == [2]


def test_the_topmost_voxel_sees_the_sacrum(monkeypatch):
    monkeypatch.setattr(GroupNorm, "__call__", lambda self, x: x)
    defaults = VNetConfig()
    network = build_vnet(VNetConfig((1,) * 5, defaults.layers, defaults.slice_pooling, 1))
    x = np.ones((1, 4, 112, 16, 1), np.float32)
    variables = jax.tree.map(np.abs, some_variables(network, x))  # positive: no ReLU closes
    rows = np.flatnonzero(seen(network, variables, x, (0, 0, 8)).any(axis=(0, 2)))
    # Every one of 112 rows: 336 mm at 3 mm.
    np.testing.assert_array_equal(rows, np.arange(112))


def seen(network: VNet, variables: Any, x: np.ndarray, voxel: tuple[int, int, int]) -> np.ndarray:
    """The voxels (D, H, W) on which a voxel's logits depend."""
    slope = jax.jit(jax.grad(lambda v: network.apply(variables, v)[0][0][voxel].sum()))(x)
    return np.asarray(slope)[0, ..., 0] != 0


@pytest.mark.parametrize("size", [(3, 8, 8), (2, 6, 8), (2, 8, 10)])
def test_a_box_that_the_poolings_do_not_divide_is_refused(size):
    words = "divisible by 2 x 4 x 4 in slices, height and width, not {} x {} x {}".format(*size)
    with pytest.raises(ValueError, match=words):
        abstract(build_vnet(TINY), jax.ShapeDtypeStruct((1, *size, 1), jnp.float32))
