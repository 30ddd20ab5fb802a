"""The building blocks, each against its definition written out or against Flax's own layer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from ivdjax.networks.layers import (
    ConvUnit,
    DenseAtrousPyramid,
    DenseBlock,
    GroupNorm,
    SqueezeExcitation,
    enlarge,
    halve,
)


def noise(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def build(module: nn.Module, x: jax.Array) -> tuple[jax.Array, Any]:
    """The module's result for some parameters, and these; Flax's own random ones take seconds to compile."""
    random = np.random.default_rng(7)
    wanted = jax.eval_shape(module.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape) / 3, jnp.float32), wanted)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        assert leaf.dtype == jnp.float32, path
    return jax.jit(module.apply)(variables, x), variables


def shapes(variables) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


def normalised(x: np.ndarray, size: int) -> np.ndarray:
    """Group normalisation as Wu and He write it down."""
    n, h, w, c = x.shape
    groups = x.reshape(n, h, w, c // size, size)
    mean = groups.mean(axis=(1, 2, 4), keepdims=True)
    return ((groups - mean) / np.sqrt(groups.var(axis=(1, 2, 4), keepdims=True) + 1e-5)).reshape(x.shape)


@pytest.mark.parametrize("channels", [8, 16, 24])
def test_group_norm_equals_flax_s(channels):
    x = 3.0 * noise(2, 6, 5, channels) + 1.5
    params = {"scale": noise(channels, seed=1), "bias": noise(channels, seed=2)}
    ours = GroupNorm(8).apply({"params": params}, x)
    theirs = nn.GroupNorm(num_groups=None, group_size=8, epsilon=1e-5).apply({"params": params}, x)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_group_norm_takes_smaller_groups_where_channels_are_no_multiple():
    x = noise(1, 4, 4, 12)  # the largest common divisor of 8 and 12 is 4
    ours, variables = GroupNorm(8).init_with_output(jax.random.key(0), x)
    np.testing.assert_allclose(ours, normalised(np.asarray(x), 4), atol=1e-5)
    assert shapes(variables) == {"scale": (12,), "bias": (12,)}


def test_group_norm_sees_one_sample_alone_and_keeps_the_type():
    x = noise(3, 4, 4, 8)
    norm = GroupNorm(8)
    variables = norm.init(jax.random.key(0), x)
    alone = norm.apply(variables, x[1:2])
    np.testing.assert_array_equal(norm.apply(variables, x)[1:2], alone)
    half = norm.apply(variables, x.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16


def test_group_norm_of_a_constant_is_its_bias():
    x = jnp.full((1, 4, 4, 8), 7.0)  # no variance: nothing may be divided by zero
    params = {"scale": jnp.full(8, 2.0), "bias": jnp.arange(8.0)}
    result = GroupNorm(8).apply({"params": params}, x)
    np.testing.assert_allclose(result[0, 0, 0], np.arange(8.0), atol=1e-4)
    assert jnp.isfinite(jax.grad(lambda v: GroupNorm(8).apply({"params": params}, v).sum())(x)).all()


def test_a_1_x_1_unit_equals_a_1_x_1_convolution():
    x = noise(2, 5, 4, 6)
    ours, variables = ConvUnit(8, 1).init_with_output(jax.random.key(1), x)
    kernel = variables["params"]["Dense_0"]["kernel"]
    convolved = jax.lax.conv_general_dilated(
        x, kernel[None, None], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(ours, np.maximum(normalised(np.asarray(convolved), 8), 0), atol=1e-5)


def test_a_3_x_3_unit_equals_nine_shifted_products():
    x, dilation = noise(1, 9, 8, 2), 2
    ours, variables = ConvUnit(4, 3, dilation, groups=4).init_with_output(jax.random.key(1), x)
    kernel = np.asarray(variables["params"]["Conv_0"]["kernel"])
    padded = np.pad(x, ((0, 0), (dilation, dilation), (dilation, dilation), (0, 0)))
    total = sum(
        padded[:, i * dilation : i * dilation + 9, j * dilation : j * dilation + 8] @ kernel[i, j]
        for i in range(3)
        for j in range(3)
    )
    np.testing.assert_allclose(ours, np.maximum(normalised(total, 4), 0), atol=1e-5)
    assert "bias" not in variables["params"]["Conv_0"]  # the normalisation would remove it


def test_squeeze_excitation_scales_each_channel_by_its_factor():
    x = jnp.abs(noise(2, 4, 3, 8)) + 0.1
    ours, variables = SqueezeExcitation(2).init_with_output(jax.random.key(3), x)
    params = jax.tree.map(np.asarray, variables["params"])
    hidden = np.maximum(x.mean(axis=(1, 2)) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"], 0)
    factor = 1 / (1 + np.exp(-(hidden @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"])))
    np.testing.assert_allclose(ours, np.asarray(x) * factor[:, None, None], rtol=1e-5)


@pytest.mark.parametrize(("ratio", "hidden"), [(2, 8), (4, 4), (16, 4)])
def test_squeeze_excitation_keeps_four_hidden_units(ratio, hidden):
    variables = SqueezeExcitation(ratio).init(jax.random.key(0), noise(1, 2, 2, 16))
    assert shapes(variables)["Dense_0/kernel"] == (16, hidden)


def test_each_dense_layer_reads_all_before_it():
    x = noise(1, 4, 4, 6)
    result, variables = DenseBlock(4, 3, groups=4).init_with_output(jax.random.key(0), x)
    assert result.shape == (1, 4, 4, 6 + 3 * 4)
    inputs = [shapes(variables)[f"ConvUnit_{i}/Conv_0/kernel"][2] for i in range(3)]
    assert inputs == [6, 10, 14]


def test_a_dense_block_hands_its_input_on_under_attention():
    x = noise(1, 4, 4, 6)
    block = DenseBlock(4, 2, groups=4)
    variables = block.init(jax.random.key(0), x)
    # Attention that says nothing scales by one half.
    variables["params"]["SqueezeExcitation_0"] = jax.tree.map(
        jnp.zeros_like, variables["params"]["SqueezeExcitation_0"]
    )
    np.testing.assert_allclose(block.apply(variables, x)[..., :6], x / 2, rtol=1e-6)


def test_a_bottleneck_comes_before_each_3_x_3_layer():
    variables = DenseBlock(4, 2, bottleneck=3, groups=4).init(jax.random.key(0), noise(1, 4, 4, 6))
    found = shapes(variables)
    assert found["ConvUnit_0/Dense_0/kernel"] == (6, 12) and found["ConvUnit_1/Conv_0/kernel"] == (3, 3, 12, 4)
    assert found["ConvUnit_2/Dense_0/kernel"] == (10, 12) and found["ConvUnit_3/Conv_0/kernel"] == (3, 3, 12, 4)


def test_each_rate_of_the_pyramid_reads_the_input_and_all_smaller_rates():
    x = noise(1, 4, 4, 6)
    rates = (3, 6, 12, 18, 24)
    result, variables = DenseAtrousPyramid(rates, 4, groups=4).init_with_output(jax.random.key(0), x)
    assert result.shape == (1, 4, 4, 6 + 5 * 4)
    np.testing.assert_array_equal(result[..., :6], x)
    found = shapes(variables)
    assert [found[f"ConvUnit_{2 * i}/Dense_0/kernel"] for i in range(5)] == [(6 + 4 * i, 8) for i in range(5)]
    assert [found[f"ConvUnit_{2 * i + 1}/Conv_0/kernel"] for i in range(5)] == [(3, 3, 8, 4)] * 5


def test_the_pyramid_reaches_as_far_as_the_sums_of_its_rates(monkeypatch):
    # Normalisation would let every voxel see every other; without it, a derivative shows the convolutions alone.
    monkeypatch.setattr(GroupNorm, "__call__", lambda self, x: x)
    pyramid = DenseAtrousPyramid((1, 2, 4), 2, groups=2)
    x = jnp.abs(noise(1, 31, 31, 2))
    variables = jax.tree.map(jnp.abs, pyramid.init(jax.random.key(0), x))  # positive: no ReLU closes
    centre = jax.grad(lambda v: pyramid.apply(variables, v)[0, 15, 15].sum())(x)
    seen = np.abs(np.asarray(centre)).sum(axis=(0, 3)) > 0
    rows = np.flatnonzero(seen.any(axis=1)) - 15
    assert rows.min() == -7 and rows.max() == 7 and seen[15].sum() == 15  # 1 + 2 + 4, and every sum between


def test_the_last_rate_alone_reaches_exactly_its_own_taps(monkeypatch):
    monkeypatch.setattr(GroupNorm, "__call__", lambda self, x: x)
    pyramid = DenseAtrousPyramid((3,), 1, groups=1)
    x = jnp.ones((1, 9, 9, 1))
    variables = jax.tree.map(jnp.abs, pyramid.init(jax.random.key(0), x))
    centre = jax.grad(lambda v: pyramid.apply(variables, v)[0, 4, 4, 1])(x)  # channel 0 is the input itself
    taps = {(int(i) - 4, int(j) - 4) for i, j in np.argwhere(np.asarray(centre)[0, ..., 0] != 0)}
    assert taps == {(i, j) for i in (-3, 0, 3) for j in (-3, 0, 3)}


def test_halve_takes_the_mean_of_each_square():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(halve(x)[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])


def test_enlarge_keeps_a_constant_and_the_position():
    np.testing.assert_allclose(enlarge(jnp.full((2, 3, 2, 5), 0.7), 4), np.full((2, 12, 8, 5), 0.7), rtol=1e-6)
    ramp = jnp.broadcast_to(jnp.arange(6.0)[None, :, None, None], (1, 6, 6, 1))
    rows = enlarge(ramp, 2)[0, :, 0, 0]
    # Voxel i of the fine map has its middle at (i + 1/2) / 2 - 1/2 of the coarse one.
    np.testing.assert_allclose(rows[1:-1], (np.arange(12) + 0.5)[1:-1] / 2 - 0.5, atol=1e-6)
    x = noise(2, 4, 4, 3)
    np.testing.assert_allclose(enlarge(x, 1), x, atol=1e-6)
