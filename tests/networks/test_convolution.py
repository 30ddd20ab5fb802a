"""The 3 x 3 convolution and its gradients, however they are computed, are those of the definition."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import linen as nn

from ivdjax.networks.convolution import PlaneConv, convolved

# Maps as they are, filled up with zeros, and with far more channels than the result.
SHAPES = [(3, 4, 1), (12, 5, 2), (16, 16, 1), (24, 8, 3), (9, 4, 24), (32, 4, 2)]


@pytest.mark.parametrize(("channels", "features", "dilation"), SHAPES)
def test_result_and_gradients_equal_flax_s(channels, features, dilation):
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 9, 7, channels)).astype(np.float32)
    weight = random.normal(size=(2, 9, 7, features)).astype(np.float32)
    kernel = random.normal(size=(3, 3, channels, features)).astype(np.float32)
    other = nn.Conv(features, (3, 3), kernel_dilation=(dilation, dilation), use_bias=False)

    def both(x, kernel):
        own, pull = jax.vjp(lambda x, kernel: convolved(x, kernel, dilation), x, kernel)
        flax, pull_flax = jax.vjp(lambda x, kernel: other.apply({"params": {"kernel": kernel}}, x), x, kernel)
        return (own, *pull(weight)), (flax, *pull_flax(weight))

    for own, flax in zip(*jax.jit(both)(x, kernel), strict=True):
        np.testing.assert_allclose(own, flax, atol=2e-5 * np.abs(flax).max())


def test_a_layer_begins_with_flax_s_kernel():
    x = np.zeros((1, 4, 4, 5), np.float32)
    own, flax = (
        layer.init(jax.random.key(3), x)["params"]["kernel"]
        for layer in (PlaneConv(6), nn.Conv(6, (3, 3), use_bias=False))
    )
    np.testing.assert_array_equal(own, flax)
