"""Stored weights are found by the names of layers: every layer has one of its own, and each still means the same.

Here every parameter's values follow from its name alone. Whoever renames a layer, or gives its name to another, gets
other numbers: then stored models would load wrongly, and without a word where shapes agree.
"""

from __future__ import annotations

import zlib

import jax
import numpy as np
import pytest
from flax import linen as nn

from ivdjax.config import DiscNetConfig, UNetConfig, VNetConfig
from ivdjax.networks.disc_net import build_disc_net
from ivdjax.networks.unet import build_unet
from ivdjax.networks.vnet import build_vnet

DISC = DiscNetConfig(stem=4, growth=(4, 4, 4), layers=(2, 1, 1), bottleneck=1, aspp_rates=(1, 2), aspp_growth=4,
                     path=(4, 4, 4), path_layers=(1, 1, 1), groups=4)  # fmt: skip
NETWORKS = {
    "disc": (build_disc_net(DISC), (1, 16, 16, 2), (-1.02724, 0.925372)),
    "region": (
        build_unet(UNetConfig(width=4, downsamplings=2, layers=2, groups=4)),
        (1, 16, 16, 2), (0.308884, 0.832073),
    ),
    "localization": (
        build_vnet(VNetConfig(widths=(4, 4, 4), layers=(1, 1, 2), slice_pooling=(1, 2), groups=4)),
        (1, 4, 16, 16, 2), (0.028898, 1.57467),
    ),
}  # fmt: skip


def named_values(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    name = "/".join(key.key for key in path)
    values = np.random.default_rng(zlib.crc32(name.encode())).normal(size=leaf.shape) * 0.4
    return (values + name.endswith("scale")).astype(np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_stored_name_still_means_the_same_layer(name):
    network, shape, (mean, deviation) = NETWORKS[name]
    boxes = np.random.default_rng(1).uniform(size=shape).astype(np.float32)
    wanted = jax.eval_shape(network.init, jax.random.key(0), boxes)["params"]
    params = jax.tree_util.tree_map_with_path(named_values, wanted)
    logits, _ = jax.jit(network.apply)({"params": params}, boxes)
    assert (float(logits.mean()), float(logits.std())) == pytest.approx((mean, deviation), rel=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_layer_has_the_name_that_flax_would_give_it(name, monkeypatch):
    """So that a layer put in between renames no other."""
    network, shape, _ = NETWORKS[name]
    made, unnamed, check = [], [], nn.Module.__post_init__

    def noted(module: nn.Module) -> None:
        made.append(module)
        if module.name is None:
            unnamed.append(type(module).__name__)
        check(module)

    monkeypatch.setattr(nn.Module, "__post_init__", noted)
    jax.eval_shape(network.init, jax.random.key(0), np.zeros(shape, np.float32))
    assert len(made) > 20 and set(unnamed) <= {type(network).__name__}
