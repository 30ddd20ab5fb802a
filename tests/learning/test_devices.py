"""The mesh and what is mapped over it, on devices of the test process."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ivdjax.learning.devices import (
    AXIS,
    DIVIDED,
    SHARED,
    data_mesh,
    map_devices,
    per_device_batch,
    share,
    use_compilation_cache,
)


def test_a_mesh_lies_over_all_devices_or_those_given():
    assert data_mesh().shape == {AXIS: len(jax.devices())}
    one = data_mesh(jax.devices()[1:2])
    assert one.devices.tolist() == jax.devices()[1:2]


def test_a_batch_is_divided_evenly_or_refused_with_both_numbers():
    assert per_device_batch(6, 2) == 3
    assert per_device_batch(12, 2, 3) == 6
    with pytest.raises(ValueError, match="a batch of 5 cannot be divided over 2 devices; use a multiple of 2"):
        per_device_batch(5, 2)
    with pytest.raises(
        ValueError, match="a batch of 12 leaves 6 samples to each of 2 devices, .* into 4 micro-batches"
    ):
        per_device_batch(12, 2, 4)


def test_each_device_sees_its_part_and_sums_reach_all():
    mesh = data_mesh(jax.devices()[:2])

    def part(whole: jax.Array, shared: jax.Array) -> tuple[jax.Array, jax.Array]:
        assert whole.shape == (2,) and shared.shape == (1,)
        return jax.lax.psum(whole.sum() * shared, AXIS), whole * (1 + jax.lax.axis_index(AXIS))

    mapped = jax.jit(map_devices(part, mesh, (DIVIDED, SHARED), (SHARED, DIVIDED)))
    total, own = mapped(jnp.arange(1.0, 5.0), jnp.ones(1))
    np.testing.assert_array_equal(total, [10])
    np.testing.assert_array_equal(own, [1, 2, 6, 8])


def test_gradients_of_shared_parameters_are_each_device_s_own():
    # Were they summed already, a sum over devices would count them once a device too often.
    mesh = data_mesh(jax.devices()[:2])

    def slope(weight: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.psum(jax.grad(lambda w: (w * x).sum())(weight), AXIS)

    mapped = jax.jit(map_devices(slope, mesh, (SHARED, DIVIDED), SHARED))
    assert mapped(jnp.float32(1), jnp.arange(1.0, 5.0)) == 10


def test_a_shared_tree_lies_whole_on_every_device():
    tree = share({"a": np.arange(3), "b": np.ones((2, 2), np.float32)}, data_mesh())
    for leaf in jax.tree.leaves(tree):
        assert leaf.sharding.is_fully_replicated and leaf.sharding.device_set == set(jax.devices())
    np.testing.assert_array_equal(tree["a"], np.arange(3))


@pytest.fixture
def cache_settings():
    """The two settings of the compilation cache, put back afterwards."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield lambda: tuple(getattr(jax.config, name) for name in names)
    for name, value in before.items():
        jax.config.update(name, value)


def test_programs_are_cached_under_the_user_s_cache_folder(tmp_path, monkeypatch, cache_settings):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", raising=False)
    jax.config.update("jax_compilation_cache_dir", None)
    use_compilation_cache()
    assert cache_settings() == (str(tmp_path / "ivdjax" / "jax"), 0.5)


def test_what_jax_s_own_variables_say_stays(tmp_path, monkeypatch, cache_settings):
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "7")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 7.0)
    use_compilation_cache()
    assert cache_settings() == (str(tmp_path), 7.0)
