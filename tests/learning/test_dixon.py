"""Dixon channels made from another image, by what physics says of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivdjax.learning.contrast import AIR, CLASSES, S1_BLOCK, Classes
from ivdjax.learning.dixon import make_dixon
from ivdjax.volume import DIXON

KIND = np.repeat(np.arange(CLASSES), 8)[:, None] * np.ones((1, 40), int)
BASE = np.clip(0.5 + 0.1 * np.random.default_rng(0).normal(size=KIND.shape), 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def scans() -> np.ndarray:
    """(40, H, W, C) of all four channels."""
    classes = Classes(jnp.asarray(KIND), jnp.full((CLASSES, 4), 0.5), jnp.full((CLASSES, 4), 0.1))
    make = jax.jit(jax.vmap(lambda key: make_dixon(key, jnp.asarray(BASE), classes, DIXON)))
    return np.asarray(make(jax.random.split(jax.random.key(1), 40)))


def means(scans: np.ndarray, kind: int) -> np.ndarray:
    return scans[:, kind == KIND].mean(axis=1)


def test_every_channel_fills_its_range_and_air_is_dark(scans: np.ndarray):
    assert scans.shape == (40, *KIND.shape, 4) and scans.min() >= 0 and scans.max() <= 1
    assert (scans[:, KIND == AIR] == 0).all()
    assert (scans.max(axis=(1, 2)) > 0.99).all()


def test_discs_are_water_and_subcutaneous_fat_is_fat(scans: np.ndarray):
    fat, water = DIXON.index("fat"), DIXON.index("wat")
    disc, outer = means(scans, 1), means(scans, CLASSES - 1)
    assert (disc[:, fat] < 0.15).all() and (disc[:, water] > 0.15).all()
    assert (outer[:, fat] > 0.5).all()
    np.testing.assert_allclose(means(scans, S1_BLOCK), means(scans, 2), atol=0.2)  # S1 looks like a vertebra


def test_in_phase_is_the_sum_and_opposed_phase_the_difference(scans: np.ndarray):
    """But for the scale of each channel, and for fat that shows in the water image, which falls below a tenth."""
    for scan in scans[:5]:
        channel = dict(zip(DIXON, scan.reshape(-1, 4).T, strict=True))
        both = np.stack([channel["wat"], channel["fat"]], axis=1)
        unsaturated = scan.reshape(-1, 4).max(axis=1) < 0.98
        weights, *_ = np.linalg.lstsq(both[unsaturated], channel["inn"][unsaturated], rcond=None)
        assert (weights > 0.1).all()
        np.testing.assert_allclose(both[unsaturated] @ weights, channel["inn"][unsaturated], atol=0.03)
        assert np.corrcoef(np.abs(both @ (weights * [1, -1])), channel["opp"])[0, 1] > 0.8


def test_each_scan_is_another_and_keeps_the_texture(scans: np.ndarray):
    assert means(scans, 2)[:, DIXON.index("fat")].std() > 0.1
    water = scans[:, KIND == 1][..., DIXON.index("wat")]
    assert np.mean([abs(np.corrcoef(one, BASE[KIND == 1])[0, 1]) > 0.9 for one in water]) > 0.8
