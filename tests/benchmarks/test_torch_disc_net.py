from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from ivdjax.config import DiscConfig, DiscNetConfig, read_config
from ivdjax.networks.disc_net import build_disc_net

torch = pytest.importorskip("torch", reason="PyTorch is not installed; pip install torch to compare with it")

from benchmarks.torch_disc_net import TorchDiscNet, enlarge  # noqa: E402

SMALL = DiscNetConfig(stem=8, growth=(8, 8, 8), layers=(1, 1, 1), aspp_rates=(1, 2), aspp_growth=8, path=(8, 8, 8))


def flax_parameters(settings: DiscNetConfig, shape: tuple[int, ...]):
    """Parameters with every entry random: biases that begin at zero would hide a mistake."""
    box = jax.ShapeDtypeStruct(shape, np.float32)
    shapes = jax.eval_shape(build_disc_net(settings).init, jax.random.key(0), box)["params"]
    random = np.random.default_rng(0)

    def values(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        spread = (2.0 / np.prod(leaf.shape[:-1])) ** 0.5 if len(leaf.shape) > 1 else 0.1
        return random.normal(float(len(leaf.shape) == 1), spread, leaf.shape).astype(np.float32)

    return jax.tree.map(values, shapes)


def both_logits(settings: DiscNetConfig, shape: tuple[int, ...]):
    params = flax_parameters(settings, shape)
    boxes = np.random.default_rng(1).uniform(size=shape).astype(np.float32)
    network = TorchDiscNet(settings, shape[-1]).to(memory_format=torch.channels_last)
    network.load_flax(params)
    with torch.no_grad():
        found = network(torch.from_numpy(boxes).permute(0, 3, 1, 2))
    return jax.jit(build_disc_net(settings).apply)({"params": params}, boxes), found


@pytest.mark.parametrize("name", ["lumbar", "tiny"])
def test_logits_equal_those_of_flax(root: Path, name: str):
    config = read_config(root / "configs" / f"{name}.yaml")
    shape = (2, *config.disc.training.crop, len(config.data.channels))
    wanted, found = both_logits(config.disc.network, shape)
    for one, other in zip(wanted, found, strict=True):
        assert one.shape == tuple(other.shape) and other.dtype == torch.float32
        np.testing.assert_allclose(other.numpy(), one, atol=1e-4 * np.abs(one).max(), rtol=0)


def test_logits_equal_with_a_bottleneck_and_odd_widths():
    """Five channels in groups of eight: groups of one; deeper paths; more than one channel."""
    settings = replace(SMALL, bottleneck=2, stem=5, path_layers=(1, 2, 0), path=(5, 8, 8))
    (wanted, _), (found, _) = both_logits(settings, (1, 16, 24, 3))
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-4 * np.abs(wanted).max(), rtol=0)


def test_enlarging_by_hand():
    """Between 0 and 4 lie 1 and 3; beyond the outermost centres the value stays."""
    x = torch.tensor([[[[0.0, 4.0]]]])
    np.testing.assert_allclose(enlarge(x, 2).numpy(), [[[[0, 1, 3, 4], [0, 1, 3, 4]]]])
    assert enlarge(x, 1) is x


def test_the_compute_type_is_that_of_the_input():
    network = TorchDiscNet(SMALL, 1)
    network.load_flax(flax_parameters(SMALL, (1, 16, 16, 1)))
    boxes = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    seen = []
    network.last.register_forward_hook(lambda module, given, result: seen.append(result.dtype))
    with torch.no_grad():
        (rough, _), (fine, _) = network(boxes.bfloat16()), network(boxes)
    assert seen == [torch.bfloat16, torch.float32] and rough.dtype == fine.dtype == torch.float32
    assert 0 < float((rough - fine).abs().max()) < 0.05 * float(fine.abs().max())


@pytest.mark.parametrize(
    ("other", "place"),
    [
        (replace(SMALL, stem=16), r"/ConvUnit_0/Conv_0: \(8, 1, 3, 3\) in Flax, \(16, 1, 3, 3\)"),
        (replace(SMALL, path_layers=(1, 1, 2)), r"/ConvUnit_10 is in one of the two networks alone"),
    ],
)
def test_parameters_of_another_network_are_refused(other, place):
    params = flax_parameters(SMALL, (1, 16, 16, 1))
    with pytest.raises(ValueError, match=place):
        TorchDiscNet(other, 1).load_flax(params)


@pytest.mark.parametrize("other", [replace(SMALL, pyramid="serial"), replace(SMALL, architecture="unet")])
def test_another_architecture_is_refused(other):
    with pytest.raises(ValueError, match=f"not {other.architecture} and {other.pyramid}"):
        TorchDiscNet(other, 1)


def test_default_settings_fit():
    settings = DiscConfig().network
    TorchDiscNet(settings, 2).load_flax(flax_parameters(settings, (1, 16, 16, 2)))
