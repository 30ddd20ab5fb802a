"""The segmentation network: two downsamplings, three paths of their own, any number of channels."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivdjax.config import DiscNetConfig
from ivdjax.networks.disc_net import PATHS, DiscNet, build_disc_net
from ivdjax.networks.layers import enlarge
from ivdjax.networks.unet import UNet

TINY = DiscNetConfig(stem=4, growth=(4, 4, 4), layers=(1, 1, 1), aspp_growth=4, path=(4, 4, 8), groups=4)

# Flax numbers the layers of a module in the order in which they are made; shipped weights rely on these names.
ENCODER = ["ConvUnit_0", "DenseBlock_0", "ConvUnit_1", "DenseBlock_1", "ConvUnit_2", "DenseBlock_2",
           "DenseAtrousPyramid_0"]  # fmt: skip
OWN_LAYERS = [["ConvUnit_3", "ConvUnit_4"], ["ConvUnit_5", "ConvUnit_6"], ["ConvUnit_7", "ConvUnit_8"]]
OWN = [unit for units in OWN_LAYERS for unit in units]
AUXILIARY = ["Dense_0", "Dense_1", "Dense_2"]
FUSION = ["Dense_3", "Dense_4", "Dense_5", "GroupNorm_0", "ConvUnit_9", "Dense_6"]


def boxes(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def abstract(network: DiscNet, x: Any) -> Any:
    return jax.eval_shape(network.init, jax.random.key(0), x)


def some_variables(network: DiscNet, x: np.ndarray) -> Any:
    random = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: (random.normal(size=leaf.shape) / 2).astype(leaf.dtype), abstract(network, x))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_channels_gives_a_fused_and_three_auxiliary_maps(channels):
    network, x = build_disc_net(TINY), jax.ShapeDtypeStruct((2, 32, 24, channels), jnp.bfloat16)
    variables = abstract(network, x)
    assert variables["params"]["ConvUnit_0"]["Conv_0"]["kernel"].shape == (3, 3, channels, 4)
    fused, auxiliary = jax.eval_shape(network.apply, variables, x)
    assert fused.shape == (2, 32, 24) and auxiliary.shape == (PATHS, 2, 32, 24) == (3, 2, 32, 24)
    assert fused.dtype == auxiliary.dtype == jnp.float32


def test_maps_are_halved_exactly_twice():
    network, x = build_disc_net(TINY), boxes(1, 32, 24, 2)
    variables = abstract(network, x)
    _, found = jax.eval_shape(lambda v: network.apply(v, x, capture_intermediates=True), variables)
    sizes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(found["intermediates"]):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        # Attention works on the mean of the box; the network's own results are no maps.
        if "SqueezeExcitation_0/Dense" not in name and not name.startswith("__call__"):
            sizes[name.split("/__call__")[0]] = leaf.shape[1:3]
    assert set(sizes.values()) == {(32, 24), (16, 12), (8, 6)}
    assert [sizes[f"DenseBlock_{level}"] for level in range(3)] == [(32, 24), (16, 12), (8, 6)]
    assert sizes["DenseAtrousPyramid_0"] == (8, 6)
    for level, units in enumerate(OWN_LAYERS):
        assert {sizes[unit] for unit in units} == {(32 >> level, 24 >> level)}


def test_each_path_is_trained_by_its_own_output_alone():
    network, x = build_disc_net(dataclasses.replace(TINY, aspp_rates=(3,))), boxes(1, 16, 16, 1)
    variables = some_variables(network, x)
    assert sorted(variables["params"]) == sorted([*ENCODER, *OWN, *AUXILIARY, *FUSION])

    def losses(params: Any) -> jax.Array:
        fused, auxiliary = network.apply({"params": params}, x)
        return jnp.append((auxiliary**2).sum(axis=(1, 2, 3)), (fused**2).sum())

    slopes = jax.jit(jax.jacrev(losses))(variables["params"])

    def reached(loss: int) -> set[str]:
        return {
            name
            for name, layer in slopes.items()
            if any(np.any(np.asarray(leaf)[loss]) for leaf in jax.tree.leaves(layer))
        }

    # A path's loss reaches its own layers, its own output and the encoder up to its resolution, and nothing else.
    assert reached(0) == {*ENCODER[:2], *OWN_LAYERS[0], "Dense_0"}
    assert reached(1) == {*ENCODER[:4], *OWN_LAYERS[1], "Dense_1"}
    assert reached(2) == {*ENCODER, *OWN_LAYERS[2], "Dense_2"}
    assert reached(3) == {*ENCODER, *OWN, *FUSION}


def test_a_product_may_be_taken_before_a_map_is_enlarged():
    x = boxes(1, 4, 3, 5) - 0.5
    kernel = boxes(5, 2) - 0.5
    np.testing.assert_allclose(enlarge(x @ kernel + 0.3, 4), np.asarray(enlarge(x, 4)) @ kernel + 0.3, atol=1e-6)


@pytest.mark.parametrize(
    ("pyramid", "name"), [("parallel", "ParallelAtrousPyramid_0"), ("serial", "SerialAtrousPyramid_0")]
)
def test_another_pyramid_leaves_the_rest_of_the_network_as_it_is(pyramid, name):
    dense, other = (
        abstract(build_disc_net(settings), boxes(1, 16, 16, 1))["params"]
        for settings in (TINY, dataclasses.replace(TINY, pyramid=pyramid))
    )
    assert other.pop(name) != dense.pop("DenseAtrousPyramid_0")
    assert other == dense


def test_the_plain_u_net_may_stand_in():
    network = build_disc_net(dataclasses.replace(TINY, architecture="unet"))
    assert isinstance(network, UNet)
    assert (network.settings.width, network.settings.downsamplings, network.settings.groups) == (4, 4, 4)
    variables = abstract(network, boxes(2, 32, 16, 3))
    fused, auxiliary = jax.eval_shape(network.apply, variables, boxes(2, 32, 16, 3))
    assert fused.shape == (2, 32, 16) and auxiliary.shape == (0, 2, 32, 16)


@pytest.mark.parametrize("size", [(16, 18), (14, 16), (2, 4)])
def test_a_box_that_two_downsamplings_do_not_divide_is_refused(size):
    with pytest.raises(ValueError, match=f"divisible by 4 in height and width, not {size[0]} x {size[1]}"):
        abstract(build_disc_net(TINY), boxes(1, *size, 1))


def test_widths_and_depths_come_from_the_configuration():
    settings = DiscNetConfig(stem=6, growth=(2, 4, 6), layers=(1, 2, 3), bottleneck=2, se_ratio=2, aspp_rates=(1, 2, 5),
                             aspp_growth=10, path=(3, 5, 7), path_layers=(1, 2, 0), groups=2)  # fmt: skip
    network = build_disc_net(settings)
    assert network.settings == settings
    params = abstract(network, boxes(1, 16, 16, 1))["params"]
    for level, (growth, layers) in enumerate(zip(settings.growth, settings.layers, strict=True)):
        units = [params[f"DenseBlock_{level}"][f"ConvUnit_{2 * i + 1}"]["Conv_0"]["kernel"] for i in range(layers)]
        assert [unit.shape[2:] for unit in units] == [(2 * growth, growth)] * layers
        assert len(params[f"DenseBlock_{level}"]) == 2 * layers + 1
    assert len(params["DenseAtrousPyramid_0"]) == 2 * 3
    # 6 + 2, halved to a whole number of groups; then 4 + 2 * 4; then 6 + 3 * 6, and the pyramid's 3 * 10.
    assert params["ConvUnit_1"]["Dense_0"]["kernel"].shape == (8, 4)
    assert params["ConvUnit_2"]["Dense_0"]["kernel"].shape == (12, 6)
    # Each path: a reduction, then its own 3 x 3 layers (1, 2, 0 of them).
    reductions = [params[f"ConvUnit_{i}"]["Dense_0"]["kernel"].shape for i in (3, 5, 8)]
    assert reductions == [(8, 3), (12, 5), (6 + 18 + 30, 7)]
    assert [params[f"ConvUnit_{i}"]["Conv_0"]["kernel"].shape for i in (4, 6, 7)] == [
        (3, 3, 3, 3), (3, 3, 5, 5), (3, 3, 5, 5)
    ]  # fmt: skip
