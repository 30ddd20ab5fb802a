"""Losses by hand: sums and counts, never means."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ivdjax.learning import losses

EQUAL = (1.0, 1.0)

focal_loss = jax.jit(losses.focal_loss, static_argnums=3)
path_losses = jax.jit(losses.path_losses, static_argnums=4)
overlap_sums = jax.jit(losses.overlap_sums)
level_loss = jax.jit(losses.level_loss, static_argnums=3)
level_overlap_sums = jax.jit(losses.level_overlap_sums)
slope_of_focal_loss = jax.jit(jax.value_and_grad(lambda *args: losses.focal_loss(*args, EQUAL, 2.0)[0]))


def array(*values: float) -> jax.Array:
    return jnp.asarray(values, jnp.float32)


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def test_focal_loss_is_equation_1_for_hard_labels():
    # A disc voxel with p = 0.8 and a background voxel of which the network says disc with 0.3: p = 0.7 there.
    total, count = focal_loss(array(logit(0.8), logit(0.3)), array(1, 0), array(1, 1), (0.25, 0.75), 2.0)
    wanted = -0.75 * (1 - 0.8) ** 2 * np.log(0.8) - 0.25 * (1 - 0.7) ** 2 * np.log(0.7)
    np.testing.assert_allclose(total, wanted, rtol=1e-5)
    assert count == 2


def test_a_shared_voxel_takes_its_share_of_both_classes():
    total, _ = focal_loss(array(logit(0.8)), array(0.25), array(1), (1.0, 2.0), 1.0)
    disc, background = -2.0 * 0.2 * np.log(0.8), -1.0 * 0.8 * np.log(0.2)
    np.testing.assert_allclose(total, 0.25 * disc + 0.75 * background, rtol=1e-5)


def test_gamma_0_is_cross_entropy():
    logits, target = array(-3, -0.5, 0, 2), array(0, 1, 0.5, 0.9)
    p = 1 / (1 + np.exp(-np.asarray(logits)))
    wanted = -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum()
    total, count = focal_loss(logits, target, jnp.ones(4), EQUAL, 0.0)
    np.testing.assert_allclose(total, wanted, rtol=1e-5)
    assert count == 4


def test_masked_voxels_count_for_nothing():
    whole = focal_loss(array(0.3), array(1), array(1), EQUAL, 2.0)
    masked = focal_loss(array(0.3, 50, -50), array(1, 0, 1), array(1, 0, 0), EQUAL, 2.0)
    assert masked == whole and masked[1] == 1
    assert focal_loss(array(0.3, 9), array(1, 0), array(0, 0), EQUAL, 2.0) == (0, 0)
    _, slope = slope_of_focal_loss(array(0.3, 9), array(1, 0), array(1, 0))
    assert slope[0] < 0 and slope[1] == 0


def test_parts_of_a_batch_add_up_to_the_whole():
    random = np.random.default_rng(0)
    logits, target = random.normal(size=(2, 6)).astype(np.float32), random.uniform(size=(2, 6)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 0, 0, 0, 0]], np.float32)
    parts = [focal_loss(*(jnp.asarray(a[i]) for a in (logits, target, mask)), EQUAL, 2.0) for i in (0, 1)]
    total, count = focal_loss(*map(jnp.asarray, (logits, target, mask)), EQUAL, 2.0)
    np.testing.assert_allclose(parts[0][0] + parts[1][0], total, rtol=1e-5)
    assert parts[0][1] + parts[1][1] == count == 7
    mean_of_means = (parts[0][0] / parts[0][1] + parts[1][0] / parts[1][1]) / 2
    assert abs(mean_of_means - total / count) > 0.01  # what a mean over each device would have given


def test_extreme_logits_give_finite_losses_and_slopes():
    logits = array(-1e4, -100, -1, 0, 1, 100, 1e4)
    evaluate = jax.jit(
        jax.value_and_grad(lambda x, goal, gamma: losses.focal_loss(x, goal, jnp.ones(7), EQUAL, gamma)[0])
    )
    for gamma in (0.0, 0.5, 1.0, 2.0, 5.0):
        for target in (0.0, 0.5, 1.0):
            value, slope = evaluate(logits, jnp.full(7, target), gamma)
            assert np.isfinite(value) and np.isfinite(slope).all()
        # Where the network is wrong without limit the loss still pulls, at any gamma.
        np.testing.assert_allclose(slope[0], -1.0, rtol=1e-5)


def test_the_slope_of_the_focal_loss_is_that_of_its_formula():
    def formula(x: float) -> float:
        p = 1 / (1 + np.exp(-x))
        return float(-((1 - p) ** 2) * np.log(p))

    value, slope = slope_of_focal_loss(array(0.4, 0), array(1, 0), array(1, 0))
    np.testing.assert_allclose(value, formula(0.4), rtol=1e-5)
    np.testing.assert_allclose(slope, [(formula(0.401) - formula(0.399)) / 0.002, 0], rtol=1e-4)


def test_the_exponent_may_change_without_another_compilation():
    focal_loss.clear_cache()
    values = [float(focal_loss(array(0.3), array(1), array(1), EQUAL, jnp.float32(gamma))[0]) for gamma in (0, 1, 2)]
    p = 1 / (1 + np.exp(-0.3))
    np.testing.assert_allclose(values, [-((1 - p) ** gamma) * np.log(p) for gamma in (0, 1, 2)], rtol=1e-5)
    assert focal_loss._cache_size() == 1


def test_paths_add_the_mean_of_their_losses():
    target, mask = array(1, 0, 1).reshape(1, 1, 3), array(1, 1, 0).reshape(1, 1, 3)
    fused = array(0.5, -0.5, 3).reshape(1, 1, 3)
    auxiliary = jnp.stack([fused, 2 * fused, -fused])
    total, count = path_losses(fused, auxiliary, target, mask, (0.5, 1.0), 2.0, 0.3)
    single = [focal_loss(logits, target, mask, (0.5, 1.0), 2.0)[0] for logits in (fused, *auxiliary)]
    np.testing.assert_allclose(total, single[0] + 0.3 * sum(single[1:]) / 3, rtol=1e-6)
    assert count == 2  # voxels, not voxels times paths
    assert path_losses(fused, auxiliary, target, mask, (0.5, 1.0), 2.0, 0.0)[0] == single[0]


def test_overlap_sums_are_those_of_dice():
    logits, target = array(2, 1, -1, -2, 5), array(1, 0.5, 0.49, 1, 1)
    common, both = overlap_sums(logits, target, array(1, 1, 1, 1, 0))
    # Found: the first two. Wanted: first, second and fourth. Common: two.
    assert common == 4 and both == 5
    assert overlap_sums(logits, target, jnp.zeros(5)) == (0, 0)


def test_level_loss_is_equation_1_over_classes():
    # Probabilities of three classes in three voxels; their true classes are 1, 0 and 2.
    p = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.25, 0.25, 0.5]])
    logits = jnp.asarray(np.log(p) + 3.0, jnp.float32)  # softmax takes no notice of a shift
    total, count = level_loss(logits, array(1, 0, 2), array(1, 1, 1), (0.5, 2.0), 2.0)
    wanted = -2 * 0.5**2 * np.log(0.5) - 0.5 * 0.4**2 * np.log(0.6) - 2 * 0.5**2 * np.log(0.5)
    np.testing.assert_allclose(total, wanted, rtol=1e-5)
    assert count == 3
    total, count = level_loss(logits, array(1, 0, 2), array(1, 0, 0), (0.5, 2.0), 0.0)  # gamma 0: cross-entropy
    np.testing.assert_allclose(total, -2 * np.log(0.5), rtol=1e-5)
    assert count == 1
    assert level_loss(logits, array(1, 0, 2), jnp.zeros(3), EQUAL, 2.0) == (0, 0)
    # Classes lie along the last axis, however many others there are: twice the same voxels, one upon the other.
    boxes = level_loss(jnp.stack([logits] * 2), jnp.stack([array(1, 0, 2)] * 2), jnp.ones((2, 3)), (0.5, 2.0), 2.0)
    np.testing.assert_allclose(boxes, (2 * wanted, 6), rtol=1e-5)


def test_two_classes_of_the_level_loss_are_the_focal_loss():
    x, target = array(-2, 0.3, 1.5), array(0, 1, 1)
    logits = jnp.stack([jnp.zeros(3), x], axis=-1)
    for gamma in (0.0, 0.5, 2.0):
        np.testing.assert_allclose(
            level_loss(logits, target, jnp.ones(3), (0.3, 0.7), gamma),
            focal_loss(x, target, jnp.ones(3), (0.3, 0.7), gamma), rtol=1e-5,
        )  # fmt: skip


def test_sure_levels_give_finite_losses_and_slopes():
    # True class 1 in every voxel; from certainly right over undecided to certainly wrong.
    logits = jnp.stack([-array(1e4, 100, 20, 0, -20, -100, -1e4), jnp.zeros(7), jnp.full(7, -1e4)], axis=-1)
    evaluate = jax.jit(
        jax.value_and_grad(lambda x, gamma: losses.level_loss(x, jnp.ones(7), jnp.ones(7), EQUAL, gamma)[0])
    )
    for gamma in (0.0, 0.5, 1.0, 2.0, 5.0):
        value, slope = evaluate(logits, gamma)
        assert np.isfinite(value) and np.isfinite(slope).all()
        np.testing.assert_allclose(slope[:3], 0, atol=1e-5)  # where the network is right there is nothing to pull
        np.testing.assert_allclose(slope[-1], [1, -1, 0], atol=1e-5)  # where it is wrong without limit there is


def test_the_slope_of_the_level_loss_is_that_of_its_formula():
    def formula(x: float) -> float:
        p = np.exp(x) / (np.exp(x) + 2)
        return float(-((1 - p) ** 1.5) * np.log(p))

    slope = jax.jit(jax.grad(lambda x: losses.level_loss(x, array(2), array(1), EQUAL, 1.5)[0]))(array(0, 0, 0.4)[None])
    np.testing.assert_allclose(slope[0, 2], (formula(0.401) - formula(0.399)) / 0.002, rtol=1e-3)
    np.testing.assert_allclose(slope.sum(), 0, atol=1e-6)


def test_a_disc_is_common_only_where_its_level_is_right():
    likeliest = np.array([1, 2, 2, 0, 3, 1, 0, 2, 3, 3])
    logits = jnp.asarray(np.eye(4)[likeliest], jnp.float32)
    target, mask = array(1, 1, 2, 3, 0, 1, 0, 2, 3, 0), array(1, 1, 1, 1, 1, 0, 1, 1, 1, 0)
    # Common: voxels 1, 3, 8 and 9. Found: 1, 2, 3, 5, 8 and 9. Wanted: 1 to 4, 8 and 9. The seventh is background.
    assert level_overlap_sums(logits, target, mask) == (8, 12)
    rows = (logits.reshape(2, 5, 4), target.reshape(2, 5), mask.reshape(2, 5))
    assert level_overlap_sums(*rows) == (8, 12)
    assert level_overlap_sums(logits, target, jnp.zeros(10)) == (0, 0)


def test_the_tissues_loss_is_the_mean_of_each_outlined_by_itself():
    random = np.random.default_rng(3)
    fused, aside = random.normal(size=(2, 4, 5, 2)), random.normal(size=(3, 2, 4, 5, 2))
    target, mask = random.integers(0, 2, (2, 4, 5, 2)).astype(float), (random.random((2, 4, 5)) < 0.7).astype(float)
    how = ((1.0, 2.0), 1.5, 0.3)
    both = [path_losses(*(jnp.asarray(a[..., t]) for a in (fused, aside, target)), jnp.asarray(mask), *how)[0]
            for t in (0, 1)]  # fmt: skip
    total = losses.tissue_loss(*(jnp.asarray(a) for a in (fused, aside, target, mask)), *how)
    np.testing.assert_allclose(total, (both[0] + both[1]) / 2, rtol=1e-5)
    np.testing.assert_allclose(
        losses.tissue_loss(*(jnp.asarray(a) for a in (fused, aside, target, 0 * mask)), *how), 0.0
    )
