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
    ParallelAtrousPyramid,
    SerialAtrousPyramid,
    SqueezeExcitation,
    enlarge,
    halve,
)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def build(module: nn.Module, x: np.ndarray) -> Any:
    """Some parameters of the module; Flax's own random ones take seconds to compile."""
    random = np.random.default_rng(7)
    wanted = jax.eval_shape(module.init, jax.random.key(0), x)
    return jax.tree.map(lambda leaf: (random.normal(size=leaf.shape) / 3).astype(leaf.dtype), wanted)


def run(module: nn.Module, variables: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(module.apply)(variables, x))


def shapes(module: nn.Module, x: np.ndarray) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(build(module, x)["params"])
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


def normalised(x: np.ndarray, size: int, params: Any) -> np.ndarray:
    """Group normalisation as Wu and He write it down."""
    n, h, w, c = x.shape
    groups = x.reshape(n, h, w, c // size, size)
    mean = groups.mean(axis=(1, 2, 4), keepdims=True)
    whitened = ((groups - mean) / np.sqrt(groups.var(axis=(1, 2, 4), keepdims=True) + 1e-5)).reshape(x.shape)
    return whitened * params["scale"] + params["bias"]


@pytest.mark.parametrize("channels", [8, 24])
def test_group_norm_equals_flax_s(channels):
    x = 3 * noise(2, 6, 5, channels) + 1.5
    params = {"params": {"scale": noise(channels, seed=1), "bias": noise(channels, seed=2)}}
    theirs = nn.GroupNorm(num_groups=None, group_size=8, epsilon=1e-5)
    np.testing.assert_allclose(run(GroupNorm(8), params, x), run(theirs, params, x), atol=1e-5)


def test_group_norm_takes_smaller_groups_where_channels_are_no_multiple():
    x = noise(1, 4, 4, 12)  # the largest common divisor of 8 and 12 is 4
    variables = build(GroupNorm(8), x)
    np.testing.assert_allclose(run(GroupNorm(8), variables, x), normalised(x, 4, variables["params"]), atol=1e-5)


def test_group_norm_sees_one_sample_alone_and_keeps_the_type():
    x = noise(3, 4, 4, 8)
    variables = build(GroupNorm(8), x)
    np.testing.assert_array_equal(run(GroupNorm(8), variables, x)[1:2], run(GroupNorm(8), variables, x[1:2]))
    half = jax.ShapeDtypeStruct(x.shape, jnp.bfloat16)
    assert jax.eval_shape(GroupNorm(8).apply, variables, half).dtype == jnp.bfloat16


@pytest.mark.parametrize("space", [(12,), (3, 4), (3, 2, 2)])
def test_group_norm_is_the_same_over_any_number_of_axes(space):
    x = noise(2, 12, 8)
    variables = build(GroupNorm(4), x)
    result = run(GroupNorm(4), variables, x.reshape(2, *space, 8))
    assert result.shape == (2, *space, 8)
    wanted = normalised(x[:, None], 4, variables["params"])
    np.testing.assert_allclose(result.reshape(2, 1, 12, 8), wanted, atol=1e-5)


def test_group_norm_of_a_constant_is_its_bias():
    x = np.full((1, 4, 4, 8), 7, np.float32)  # no variance: nothing may be divided by zero
    params = {"params": {"scale": np.full(8, 2, np.float32), "bias": np.arange(8, dtype=np.float32)}}
    np.testing.assert_allclose(run(GroupNorm(8), params, x)[0, 0, 0], np.arange(8), atol=1e-4)
    slope = jax.jit(jax.grad(lambda v: GroupNorm(8).apply(params, v).sum()))(x)
    assert np.isfinite(slope).all()


def test_a_1_x_1_unit_equals_a_1_x_1_convolution():
    x = noise(2, 5, 4, 6)
    variables = build(ConvUnit(8, 1), x)
    params = variables["params"]
    kernel = params["Dense_0"]["kernel"]
    convolved = jax.lax.conv_general_dilated(
        x, kernel[None, None], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    wanted = np.maximum(normalised(np.asarray(convolved), 8, params["GroupNorm_0"]), 0)
    np.testing.assert_allclose(run(ConvUnit(8, 1), variables, x), wanted, atol=1e-5)


def test_a_slope_lets_a_part_through_below_zero():
    x = noise(2, 5, 4, 6)
    variables = build(ConvUnit(8, 1), x)
    plain, leaky = run(ConvUnit(8, 1), variables, x), run(ConvUnit(8, 1, slope=0.1), variables, x)
    np.testing.assert_allclose(leaky[plain > 0], plain[plain > 0], atol=1e-5)
    assert (plain == 0).any() and (leaky[plain == 0] < 0).all()
    # The map before the rectifier: what lies below zero comes through as a tenth.
    products = x @ variables["params"]["Dense_0"]["kernel"]
    wanted = normalised(products, 8, variables["params"]["GroupNorm_0"])
    np.testing.assert_allclose(plain + (leaky - plain) / np.float32(0.1), wanted, atol=1e-4)


def test_a_3_x_3_unit_equals_nine_shifted_products():
    x, rate = noise(1, 9, 8, 2), 2
    unit = ConvUnit(4, 3, rate, groups=4)
    variables = build(unit, x)
    params = variables["params"]
    kernel, padded = params["Conv_0"]["kernel"], np.pad(x, ((0, 0), (rate, rate), (rate, rate), (0, 0)))
    places = [(i, j) for i in range(3) for j in range(3)]
    total = sum(padded[:, i * rate : i * rate + 9, j * rate : j * rate + 8] @ kernel[i, j] for i, j in places)
    wanted = np.maximum(normalised(total, 4, params["GroupNorm_0"]), 0)
    np.testing.assert_allclose(run(unit, variables, x), wanted, atol=1e-5)
    assert set(params["Conv_0"]) == {"kernel"}  # the normalisation would remove a bias


def test_squeeze_excitation_scales_each_channel_by_its_factor():
    x = np.abs(noise(2, 4, 3, 8)) + 0.1
    variables = build(SqueezeExcitation(2), x)
    first, second = variables["params"]["Dense_0"], variables["params"]["Dense_1"]
    hidden = np.maximum(x.mean(axis=(1, 2)) @ first["kernel"] + first["bias"], 0)
    factor = 1 / (1 + np.exp(-(hidden @ second["kernel"] + second["bias"])))
    np.testing.assert_allclose(run(SqueezeExcitation(2), variables, x), x * factor[:, None, None], rtol=1e-5)


@pytest.mark.parametrize(("ratio", "hidden"), [(2, 8), (4, 4), (16, 4)])
def test_squeeze_excitation_keeps_four_hidden_units(ratio, hidden):
    assert shapes(SqueezeExcitation(ratio), noise(1, 2, 2, 16))["Dense_0/kernel"] == (16, hidden)


def test_each_dense_layer_reads_all_before_it():
    x, block = noise(1, 4, 4, 6), DenseBlock(4, 3, groups=4)
    assert [shapes(block, x)[f"ConvUnit_{i}/Conv_0/kernel"] for i in range(3)] == [
        (3, 3, 6, 4), (3, 3, 10, 4), (3, 3, 14, 4)
    ]  # fmt: skip
    variables = build(block, x)
    # Attention that says nothing scales by one half.
    variables["params"]["SqueezeExcitation_0"] = jax.tree.map(np.zeros_like, variables["params"]["SqueezeExcitation_0"])
    result = run(block, variables, x)
    assert result.shape == (1, 4, 4, 6 + 3 * 4)
    np.testing.assert_allclose(result[..., :6], x / 2, rtol=1e-6)


def test_a_bottleneck_comes_before_each_3_x_3_layer():
    found = shapes(DenseBlock(4, 2, bottleneck=3, groups=4), noise(1, 4, 4, 6))
    assert found["ConvUnit_0/Dense_0/kernel"] == (6, 12) and found["ConvUnit_1/Conv_0/kernel"] == (3, 3, 12, 4)
    assert found["ConvUnit_2/Dense_0/kernel"] == (10, 12) and found["ConvUnit_3/Conv_0/kernel"] == (3, 3, 12, 4)


def test_each_rate_of_the_pyramid_reads_the_input_and_all_smaller_rates():
    x, pyramid = noise(1, 4, 4, 6), DenseAtrousPyramid((3, 6, 12, 18, 24), 4, groups=4)
    found = shapes(pyramid, x)
    assert [found[f"ConvUnit_{2 * i}/Dense_0/kernel"] for i in range(5)] == [(6 + 4 * i, 8) for i in range(5)]
    assert [found[f"ConvUnit_{2 * i + 1}/Conv_0/kernel"] for i in range(5)] == [(3, 3, 8, 4)] * 5
    result = run(pyramid, build(pyramid, x), x)
    assert result.shape == (1, 4, 4, 6 + 5 * 4)
    np.testing.assert_array_equal(result[..., :6], x)


@pytest.mark.parametrize(("kind", "read"), [(ParallelAtrousPyramid, [6, 6, 6]), (SerialAtrousPyramid, [6, 4, 4])])
def test_the_other_pyramids_differ_in_what_each_rate_reads(kind, read):
    x, pyramid = noise(1, 4, 4, 6), kind((3, 6, 12), 4, groups=4)
    found = shapes(pyramid, x)
    assert [found[f"ConvUnit_{2 * i}/Dense_0/kernel"] for i in range(3)] == [(channels, 8) for channels in read]
    assert [found[f"ConvUnit_{2 * i + 1}/Conv_0/kernel"] for i in range(3)] == [(3, 3, 8, 4)] * 3
    result = run(pyramid, build(pyramid, x), x)
    assert result.shape == (1, 4, 4, 6 + 3 * 4)  # as the dense one gives
    np.testing.assert_array_equal(result[..., :6], x)


def reach(monkeypatch, rates: tuple[int, ...], side: int, kind: Any = DenseAtrousPyramid) -> list[np.ndarray]:
    """For each rate the voxels (side, side), from the middle, that its map's middle voxel depends on."""
    # Normalisation would let every voxel see every other; without it, a derivative shows the convolutions alone.
    monkeypatch.setattr(GroupNorm, "__call__", lambda self, x: x)
    pyramid, x = kind(rates, 1, groups=1), np.ones((1, side, side, 1), np.float32)
    variables = jax.tree.map(np.abs, build(pyramid, x))  # positive: no ReLU closes
    middle = jax.jit(jax.jacrev(lambda v: pyramid.apply(variables, v)[0, side // 2, side // 2]))(x)
    return [np.asarray(middle)[1 + place, 0, :, :, 0] != 0 for place in range(len(rates))]  # channel 0 is the input


def test_rates_are_dilations_and_their_sums_are_reached(monkeypatch):
    first, second, third = reach(monkeypatch, (3, 6, 12), 45)
    offsets = np.arange(45) - 22
    assert set(offsets[first.any(axis=1)]) == {-3, 0, 3} and first.sum() == 9
    # The second reads the input and the first rate's map: 6, and 6 with 3.
    assert set(offsets[second.any(axis=1)]) == {a + b for a in (-6, 0, 6) for b in (-3, 0, 3)}
    assert set(offsets[third.any(axis=1)]) == {a + b + c for a in (-12, 0, 12) for b in (-6, 0, 6) for c in (-3, 0, 3)}


def test_parallel_rates_each_reach_themselves_alone(monkeypatch):
    offsets = np.arange(45) - 22
    for rate, found in zip((3, 6, 12), reach(monkeypatch, (3, 6, 12), 45, ParallelAtrousPyramid), strict=True):
        assert set(offsets[found.any(axis=1)]) == {-rate, 0, rate} and found.sum() == 9


def test_serial_rates_reach_the_sums_of_all_before_them(monkeypatch):
    first, second, third = reach(monkeypatch, (1, 3, 9), 27, SerialAtrousPyramid)
    # Rates of 1, 3 and 9 in a row leave no hole: 3, 9 and 27 voxels wide.
    assert (first.sum(), second.sum(), third.sum()) == (3**2, 9**2, 27**2)


def test_halve_takes_the_mean_of_each_square():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(halve(x)[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])


def test_enlarge_keeps_a_constant_and_the_position():
    np.testing.assert_allclose(enlarge(np.full((1, 3, 2, 2), 0.7, np.float32), 4), np.full((1, 12, 8, 2), 0.7), 1e-6)
    ramp = np.arange(6, dtype=np.float32)[None, :, None, None]
    rows = enlarge(ramp, 2)[0, :, 0, 0]
    # The middle of voxel i of the fine map lies at (i + 1/2) / 2 - 1/2 of the coarse one; the ends are held.
    np.testing.assert_allclose(rows, np.clip((np.arange(12) + 0.5) / 2 - 0.5, 0, 5), atol=1e-6)
    x = noise(1, 4, 4, 3)
    np.testing.assert_allclose(enlarge(x, 1), x, atol=1e-6)
