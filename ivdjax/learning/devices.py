"""One place that knows of several devices: the mesh, and how a per-device function is mapped over it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ivdjax.volume import UserError

AXIS = "batch"
"""Name of the axis over which a batch is divided and sums are taken."""

SHARED = PartitionSpec()
"""Every device holds the whole."""

DIVIDED = PartitionSpec(AXIS)
"""Each device holds its part of the first axis."""


def found_devices() -> list[Any]:
    """The devices that JAX works on.

    Raises:
        UserError: there are none of the kind that the environment asks for.
    """
    try:
        return jax.devices()
    except (AssertionError, RuntimeError) as error:  # JAX asserts that one of the platforms came up
        wanted = getattr(jax.config, "jax_platforms", None) or os.environ.get("JAX_PLATFORMS")
        if not wanted:
            raise
        raise UserError(
            f"JAX_PLATFORMS={wanted} asks for devices that JAX does not find here; unset the variable, or install what "
            'they need (for a GPU: pip install "jax[cuda13]")'
        ) from error


def data_mesh(devices: list[Any] | None = None) -> Mesh:
    """A one-axis mesh over all devices, or those given."""
    devices = devices if devices is not None else found_devices()
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)


def per_device_batch(batch_size: int, devices: int, micro_batches: int = 1) -> int:
    """Samples of one device, which works them off in `micro_batches` equal parts.

    Raises:
        ValueError: the devices, or the micro-batches of each, do not divide the batch.
    """
    if batch_size % devices:
        raise ValueError(
            f"a batch of {batch_size} cannot be divided over {devices} devices; use a multiple of {devices}"
        )
    local = batch_size // devices
    if local % micro_batches:
        raise ValueError(
            f"a batch of {batch_size} leaves {local} samples to each of {devices} devices, which cannot be divided "
            f"into {micro_batches} micro-batches; use a multiple of {devices * micro_batches}, or fewer micro_batches"
        )
    return local


def map_devices(function: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """`function` run once on each device over its part of the arguments; it sums over `AXIS` itself.

    Without varying-axes checks, as in `jax.pmap`: with them, gradients of shared parameters would arrive already
    summed.
    """
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def share(tree: Any, mesh: Mesh) -> Any:
    """A tree of arrays, the same on every process, put whole on every device."""
    sharding = NamedSharding(mesh, SHARED)
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: _put(np.asarray(leaf), sharding), tree)


def _put(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    # Without the comparison over all processes that `device_put` makes.
    return jax.make_array_from_callback(array.shape, sharding, lambda place: array[place])


def unshared(tree: Any) -> Any:
    """A tree that lies whole on every device, as it lies on the first one of this process; nothing is copied."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def keep_pace(tree: Any, mesh: Mesh) -> None:
    """Waits for a step's results where several devices are CPUs.

    They hold threads of one pool while they wait for each other: with many steps under way, none can end.
    """
    if mesh.devices.size > 1 and mesh.devices.flat[0].platform == "cpu":
        jax.block_until_ready(tree)


def use_compilation_cache() -> Path | None:
    """Keeps compiled programs on disk between runs, so that a second start, or a restarted worker, need not compile.

    In `JAX_COMPILATION_CACHE_DIR`, or else in `ivdjax` under the user's cache folder; nowhere for a user without
    a home. What JAX's own variables say stays as it is.

    Returns:
        The folder, if there is one and it lies on this machine.
    """
    # JAX makes the attributes of its configuration at run time, where types cannot see them.
    if not getattr(jax.config, "jax_compilation_cache_dir", None):
        with contextlib.suppress(RuntimeError):  # no home, no cache
            home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            jax.config.update("jax_compilation_cache_dir", str(home / "ivdjax" / "jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    folder = str(getattr(jax.config, "jax_compilation_cache_dir", None) or "")
    return Path(folder) if folder and "://" not in folder else None
