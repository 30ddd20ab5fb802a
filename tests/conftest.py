"""What every test shares: JAX on the CPU with four devices, strict broadcasting, no window for pictures."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Set in the environment, before anything imports JAX or matplotlib, so that programs started by a test have them too.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["MPLBACKEND"] = "Agg"
# Tests compile for minutes what runs for milliseconds: unoptimized programs take half of the time, and must give the
# same results.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
# Likewise: loops are compiled without MLIR, and a program in one part, which takes a third of the time. A jaxlib that
# does not know a flag ends the process, so that only the one that is pinned gets them.
if version("jaxlib") == "0.10.2":
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")
# Compiled programs outlive a test run (the folder is ignored by git): the second run is several times faster.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

# No example is judged by the clock: on a busy machine any of them may take long.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

# Four devices in the test process alone, for sharded steps; programs started by a test see one device.
jax.config.update("jax_num_cpu_devices", 4)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT


def with_devices(number: int) -> dict[str, str]:
    """The environment variable that gives a program so many CPU devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={number}"
    return {"XLA_FLAGS": flags.strip()}
