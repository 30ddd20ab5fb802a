"""Computing in bfloat16 and keeping less for the backward pass: what changes, and what must not."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivdjax.config import DiscNetConfig, TrainingConfig, UNetConfig, VNetConfig
from ivdjax.learning.precision import training_apply
from ivdjax.networks.disc_net import build_disc_net
from ivdjax.networks.unet import build_unet
from ivdjax.networks.vnet import build_vnet

DISC = DiscNetConfig(stem=8, growth=(8, 8, 8), layers=(1, 1, 1), aspp_rates=(1,), aspp_growth=8, path=(8, 8, 8),
                     path_layers=(0, 0, 0))  # fmt: skip
NETWORKS = {
    "disc": (build_disc_net(DISC), (2, 16, 16, 1)),
    "region": (build_unet(UNetConfig(width=8, downsamplings=1, layers=1)), (2, 16, 16, 1)),
    "localization": (build_vnet(VNetConfig(widths=(8, 8), layers=(1, 2), slice_pooling=(2,))), (1, 4, 8, 8, 1)),
}
NAMES = tuple(NETWORKS)


def case(name: str) -> tuple[Any, Any, jax.Array]:
    """Network, random parameters and boxes."""
    network, shape = NETWORKS[name]
    random = np.random.default_rng(0)
    boxes = jnp.asarray(random.uniform(size=shape), jnp.float32)
    wanted = jax.eval_shape(network.init, jax.random.key(0), boxes)["params"]
    params = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.3, jnp.float32), wanted)
    return network, params, boxes


def gradients(name: str, **training: Any) -> Any:
    """Logits, auxiliary logits, and the gradients of a sum over both."""
    network, params, boxes = case(name)
    apply = training_apply(network.apply, TrainingConfig(**training))

    @jax.jit
    def both(params: Any) -> Any:
        def total(params: Any) -> Any:
            maps = apply({"params": params}, boxes)
            return sum((part**2).sum() for part in maps), maps

        return jax.value_and_grad(total, has_aux=True)(params)

    (_, maps), found = both(params)
    return maps, found


@cache
def kept_bytes(name: str, **training: Any) -> int:
    """Bytes that the forward pass leaves for the backward pass."""
    network, params, boxes = case(name)
    apply = training_apply(network.apply, TrainingConfig(**training))
    left = jax.eval_shape(lambda p: jax.vjp(lambda q: apply({"params": q}, boxes), p)[1], params)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(left))


def distance(tree: Any, other: Any) -> float:
    """Norm of the difference of two trees, as a share of the other's norm."""
    pairs = list(zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True))
    return float(np.sqrt(sum(((a - b) ** 2).sum() for a, b in pairs) / sum((b**2).sum() for _, b in pairs)))


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return {name: gradients(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_keeps_parameters_logits_and_gradients_in_float32_and_is_close(plain, name):
    maps, found = gradients(name, compute="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves((maps, found))} == {jnp.dtype(jnp.float32)}
    off = distance(found, plain[name][1])
    assert 1e-5 < off < 0.05  # bfloat16 has eight bits: it was used, and it is near
    # Logits are computed in float32: more than the eight bits that a rounded one has.
    assert len(np.unique(np.asarray(maps[0], jnp.bfloat16))) < len(np.unique(np.asarray(maps[0])))


@pytest.mark.parametrize("name", NAMES)
def test_rematerialisation_changes_no_number_and_keeps_less(plain, name):
    maps, found = gradients(name, remat=True)
    for a, b in zip(jax.tree.leaves((maps, found)), jax.tree.leaves(plain[name]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max(initial=0))
    assert kept_bytes(name, remat=True) < 0.65 * kept_bytes(name)
    assert kept_bytes(name, remat=True, compute="bfloat16") < 0.65 * kept_bytes(name, compute="bfloat16")
    assert kept_bytes(name, compute="bfloat16") < kept_bytes(name)
