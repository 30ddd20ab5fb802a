"""Dixon channels made from one image of another sequence: real anatomy where no Dixon scan of it may be used.

Each class of tissue gets a signal and a share of fat drawn at random within what physiology allows, over the texture of
the image that is there. Water and fat follow; the in-phase image is their sum, the opposed-phase image the magnitude of
their difference. Channels are scaled one by one, as preparation scales those of a file.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ivdjax.learning.contrast import AIR, S1_BLOCK, VERTEBRA, Classes

# Class by class: least and most signal, least and most share of fat. Clusters rise in brightness on the T2-weighted
# image that they come from: bone cortex and vessels, muscle, organs and marrow, subcutaneous fat.
_SIGNAL = (
    (0.0, 0.0),
    (0.25, 0.8),
    (0.4, 1.0),
    (0.2, 0.9),
    (0.4, 1.0),
    (0.05, 0.35),
    (0.35, 0.8),
    (0.4, 1.1),
    (0.8, 1.3),
)
_FAT = (
    (0.0, 0.0),
    (0.0, 0.08),
    (0.2, 0.7),
    (0.0, 0.06),
    (0.2, 0.7),
    (0.0, 0.25),
    (0.02, 0.3),
    (0.05, 0.95),
    (0.7, 0.98),
)


def make_dixon(key: jax.Array, base: jax.Array, classes: Classes, channels: Sequence[str]) -> jax.Array:
    """Channels ([D,] H, W, C), 0 to 1, of a scan that was never made.

    Args:
        key: of this scan alone.
        base: intensities ([D,] H, W), 0 to 1, whose texture is kept.
        classes: of its voxels; mean and spread are those of the base, in every channel alike.
        channels: out of `ivdjax.volume.DIXON`, in the order wanted.
    """
    keys = jax.random.split(key, 6)
    signal, share = (_drawn(k, bounds) for k, bounds in zip(keys[:2], (_SIGNAL, _FAT), strict=True))
    gain = jax.random.uniform(keys[2], signal.shape, minval=0.03, maxval=0.2)
    gain = gain * jnp.where(jax.random.uniform(keys[3], signal.shape) < 0.25, -1.0, 1.0)
    mottle = 0.15 * jax.random.normal(keys[4], signal.shape)
    kind = classes.of_voxel
    texture = (base - classes.mean[kind, 0]) / jnp.maximum(classes.sd[:, 0], 0.02)[kind]
    texture = jnp.clip(texture, -2.5, 2.5)
    bright = jnp.where(kind == AIR, 0.0, signal[kind] * jnp.maximum(1.0 + gain[kind] * texture, 0.1))
    fatty = jnp.clip(share[kind] * (1.0 + mottle[kind] * texture), 0.0, 1.0)
    # A few per cent of fat show in the water image, and of water in the fat image.
    leak, stray = 0.09 * jax.random.uniform(keys[5], ()), 0.03 * jax.random.uniform(jax.random.fold_in(keys[5], 1), ())
    pure_water, pure_fat = bright * (1.0 - fatty), bright * fatty
    water, fat = pure_water + leak * pure_fat, (1.0 - leak) * pure_fat + stray * pure_water
    made = {"fat": fat, "inn": pure_water + pure_fat, "opp": jnp.abs(pure_water - pure_fat), "wat": water}
    return jnp.stack([_scaled(made[name]) for name in channels], axis=-1)


def _drawn(key: jax.Array, bounds: Sequence[tuple[float, float]]) -> jax.Array:
    """A number for each class within its bounds; the bone below L5/S1 has that of the vertebrae."""
    low, high = jnp.array(bounds).T
    values = low + (high - low) * jax.random.uniform(key, (len(bounds),))
    return values.at[S1_BLOCK].set(values[VERTEBRA])


def _scaled(channel: jax.Array) -> jax.Array:
    """Zero stays; the brightest half per cent of voxels reach 1."""
    return jnp.clip(channel / jnp.maximum(jnp.quantile(channel.ravel()[::5], 0.995), 1e-3), 0.0, 1.0)
