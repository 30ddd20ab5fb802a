"""Losses over masked voxels, each as (sum, count): both are added over devices and micro-batches and divided once.

A mean of means would be wrong as soon as the masks of two devices differ in size.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Sums = tuple[jax.Array, jax.Array]
"""Sum of a loss over the voxels that take part, and their number; both float32 scalars."""


def focal_loss(
    logits: jax.Array, target: jax.Array, mask: jax.Array, alpha: tuple[float, float], gamma: jax.Array | float
) -> Sums:
    """Focal loss (paper, eq. 1): -alpha (1 - p)^gamma log(p), p being the probability of the voxel's true class.

    Args:
        logits: any shape, of the class "disc".
        target: the same shape, 0 to 1: the share of the voxel that is disc. Eq. 1 is applied to both classes and
            weighted with their shares; a hard label gives eq. 1 itself.
        mask: the same shape, 1 where a voxel takes part, else 0.
        alpha: weights of background and disc; the paper has one value for both.
        gamma: exponent; 0 is cross-entropy. It may be traced, so that the warm-up needs no second compilation.

    Returns:
        (sum, count); (0, 0) for an empty mask.
    """
    log_disc, log_background = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    # (1 - p)^gamma as exp(gamma log(1 - p)) is exact and has a gradient for p = 1 and gamma = 0.
    disc = -alpha[1] * jnp.exp(gamma * log_background) * log_disc
    background = -alpha[0] * jnp.exp(gamma * log_disc) * log_background
    loss = target * disc + (1.0 - target) * background
    return (loss * mask).sum(), mask.sum()


def path_losses(
    fused: jax.Array,
    auxiliary: jax.Array,
    target: jax.Array,
    mask: jax.Array,
    alpha: tuple[float, float],
    gamma: jax.Array | float,
    weight: float,
) -> Sums:
    """The fused output's loss plus `weight` times the mean loss of the resolution paths, each trained as its own task.

    Args:
        fused: logits (N, H, W).
        auxiliary: logits (P, N, H, W), one map per path; a network without such paths has P = 0.
        target: (N, H, W), as in `focal_loss`.
        mask: (N, H, W).
        alpha: as in `focal_loss`.
        gamma: as in `focal_loss`.
        weight: of the paths beside the fused output; 0 leaves them untrained.

    Returns:
        (sum, count) with the count of the mask's voxels.
    """
    total, count = focal_loss(fused, target, mask, alpha, gamma)
    paths = auxiliary.shape[0]
    if paths == 0:
        return total, count
    wide = (paths, *target.shape)
    aside, _ = focal_loss(auxiliary, jnp.broadcast_to(target, wide), jnp.broadcast_to(mask, wide), alpha, gamma)
    return total + weight * aside / paths, count


def tissue_loss(
    fused: jax.Array,
    auxiliary: jax.Array,
    target: jax.Array,
    mask: jax.Array,
    alpha: tuple[float, float],
    gamma: jax.Array | float,
    weight: float,
) -> jax.Array:
    """The mean over tissues of the sums of `path_losses`, each tissue being outlined by itself.

    Args:
        fused: logits (N, H, W, T).
        auxiliary: logits (P, N, H, W, T).
        target: (N, H, W, T), 0 or 1.
        mask: (N, H, W).
        alpha: as in `focal_loss`.
        gamma: as in `focal_loss`.
        weight: of the paths beside the fused outputs.

    Returns:
        The sum alone: it is divided by the count of the discs' loss, beside which it stands.
    """
    tissues = range(target.shape[-1])
    sums = [
        path_losses(fused[..., t], auxiliary[..., t], target[..., t], mask, alpha, gamma, weight)[0] for t in tissues
    ]
    return jnp.stack(sums).mean()


def level_loss(
    logits: jax.Array, target: jax.Array, mask: jax.Array, alpha: tuple[float, float], gamma: jax.Array | float
) -> Sums:
    """Focal loss (paper, eq. 1) over several classes, p being the softmax probability of a voxel's true class.

    Args:
        logits: (..., K), class 0 being background.
        target: (...), the number of the true class.
        mask: (...), 1 where a voxel takes part, else 0.
        alpha: weights of background and of every other class.
        gamma: exponent; 0 is cross-entropy. It may be traced.

    Returns:
        (sum, count); (0, 0) for an empty mask.
    """
    true = jax.nn.one_hot(target.astype(jnp.int32), logits.shape[-1])
    log_p = (jax.nn.log_softmax(logits) * true).sum(axis=-1)
    # 1 - p from below 1, where the power of 0 < gamma < 1 has no gradient.
    loss = -jnp.where(target > 0, alpha[1], alpha[0]) * (1.0 - jnp.minimum(jnp.exp(log_p), 1.0 - 1e-6)) ** gamma * log_p
    return (loss * mask).sum(), mask.sum()


def level_overlap_sums(logits: jax.Array, target: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Numerator and denominator of a Dice coefficient in which a voxel is common only if its level is right.

    Args:
        logits: (..., K), class 0 being background.
        target: (...), the number of the true class.
        mask: (...).
    """
    found = jnp.argmax(logits, axis=-1)
    common = (found == target.astype(jnp.int32)) & (found > 0)
    return 2.0 * (common * mask).sum(), ((found > 0) * mask).sum() + ((target > 0) * mask).sum()


def overlap_sums(logits: jax.Array, target: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Numerator and denominator of the Dice coefficient (paper, eq. 2) of hard decisions at one half, in the mask."""
    found = (logits > 0) * mask
    wanted = (target >= 0.5) * mask
    return 2.0 * (found * wanted).sum(), found.sum() + wanted.sum()
