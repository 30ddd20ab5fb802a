"""The schedule and the rules by which parameters move."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

from ivdjax.config import OptimizerConfig
from ivdjax.learning.optimizer import build_optimizer, first_falling_step, learning_rate_schedule

PARAMS = {"kernel": np.full((2, 2), 2, np.float32), "bias": np.full(2, 2, np.float32)}


def first_update(settings: OptimizerConfig, gradients: Any) -> Any:
    optimizer = build_optimizer(settings, steps=10)
    updates, _ = jax.jit(lambda slopes: optimizer.update(slopes, optimizer.init(PARAMS), PARAMS))(gradients)
    return jax.tree.map(np.asarray, updates)


def gradients(kernel: float, bias: float) -> Any:
    return {"kernel": np.full((2, 2), kernel, np.float32), "bias": np.full(2, bias, np.float32)}


def test_the_rate_rises_to_the_peak_and_falls_by_a_cosine():
    settings = OptimizerConfig(learning_rate=0.1, warmup_steps=4, final_fraction=0.2)
    rate = jax.jit(learning_rate_schedule(settings, steps=24))
    np.testing.assert_allclose([rate(step) for step in range(5)], [0.02, 0.04, 0.06, 0.08, 0.1], rtol=1e-5)
    np.testing.assert_allclose(rate(14), (0.1 + 0.02) / 2, rtol=1e-5)  # half-way from step 4 to step 24
    np.testing.assert_allclose(rate(24), 0.02, rtol=1e-5)
    assert rate(23) == pytest.approx(0.02, rel=0.05)  # the last of the 24 steps
    assert all(rate(step) > rate(step + 1) for step in range(4, 24))


def test_with_decay_steps_the_rate_stays_at_the_peak_and_falls_at_the_end_alone():
    settings = OptimizerConfig(learning_rate=0.1, warmup_steps=4, decay_steps=10, final_fraction=0.2)
    rate, longer = (jax.jit(learning_rate_schedule(settings, steps)) for steps in (30, 50))
    assert first_falling_step(settings, 30) == 20
    np.testing.assert_allclose([rate(step) for step in (0, 2, 4, 12, 20)], [0.02, 0.06, 0.1, 0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose([rate(25), rate(30)], [(0.1 + 0.02) / 2, 0.02], rtol=1e-5)
    np.testing.assert_array_equal([rate(step) for step in range(21)], [longer(step) for step in range(21)])
    assert longer(21) > rate(21)


@pytest.mark.parametrize(("warmup", "steps"), [(0, 1), (0, 5), (100, 1), (100, 5), (5, 5)])
def test_short_runs_still_have_a_positive_finite_rate(warmup, steps):
    rate = jax.jit(learning_rate_schedule(OptimizerConfig(learning_rate=0.1, warmup_steps=warmup), steps))
    values = [float(rate(step)) for step in range(steps)]
    assert all(0 < value <= 0.1 * (1 + 1e-6) for value in values)
    assert max(values) == pytest.approx(0.1, rel=1e-5)  # the peak is reached however long the warm-up was meant to be


def test_sgd_moves_down_the_slope_and_decays_kernels_alone():
    settings = OptimizerConfig(name="sgd", learning_rate=0.1, warmup_steps=0, weight_decay=0.5, clip_norm=1e9)
    updates = first_update(settings, gradients(3.0, 3.0))
    np.testing.assert_allclose(updates["kernel"], -0.1 * (3 + 0.5 * 2), rtol=1e-6)
    np.testing.assert_allclose(updates["bias"], -0.1 * 3, rtol=1e-6)


def test_momentum_carries_on():
    settings = OptimizerConfig(name="sgd", learning_rate=0.1, warmup_steps=0, weight_decay=0.0, momentum=0.5,
                               clip_norm=1e9, final_fraction=1.0)  # fmt: skip
    for momentum, second in ((0.5, 0.5 * 3), (0.0, 0.0)):
        optimizer = build_optimizer(replace(settings, momentum=momentum), steps=10)
        update = jax.jit(optimizer.update)
        _, state = update(gradients(3.0, 3.0), optimizer.init(PARAMS), PARAMS)
        updates, _ = update(gradients(0.0, 0.0), state, PARAMS)
        np.testing.assert_allclose(updates["bias"], -0.1 * second, atol=1e-7)


def test_adamw_s_first_step_is_the_rate_and_its_decay_is_decoupled():
    settings = OptimizerConfig(learning_rate=0.1, warmup_steps=0, weight_decay=0.5, clip_norm=1e9)
    updates = first_update(settings, gradients(3.0, -1e-3))
    np.testing.assert_allclose(updates["kernel"], -0.1 * (1 + 0.5 * 2), rtol=1e-4)
    np.testing.assert_allclose(updates["bias"], 0.1, rtol=1e-3)


def test_a_gradient_is_cut_to_the_largest_norm_and_never_lengthened():
    settings = OptimizerConfig(name="sgd", learning_rate=1.0, warmup_steps=0, weight_decay=0.0, momentum=0.0,
                               clip_norm=1.0)  # fmt: skip
    long = first_update(settings, gradients(3.0, 4.0))
    norm = np.sqrt(4 * 3.0**2 + 2 * 4.0**2)
    np.testing.assert_allclose(long["kernel"], -3 / norm, rtol=1e-6)
    np.testing.assert_allclose(long["bias"], -4 / norm, rtol=1e-6)
    np.testing.assert_allclose(first_update(settings, gradients(0.01, 0.0))["kernel"], -0.01, rtol=1e-6)
