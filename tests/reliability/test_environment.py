"""What a caller's environment must not decide, and what it must be told: displays, devices, homes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ivdjax.learning.devices import use_compilation_cache
from ivdjax.model.shipped import known_models, user_folder

DRAW = """
import os
from ivdjax.reports.canvas import figure_png, new_figure
png = figure_png(new_figure(1, 1))
assert png.startswith(b"\\x89PNG") and os.environ["MPLBACKEND"], os.environ
"""
DEVICES = """
from ivdjax.learning.devices import found_devices
from ivdjax.volume import UserError
try:
    found_devices()
except UserError as error:
    print(error)
"""


def run(code: str, root: Path, **environment: str) -> str:
    known = {key: value for key, value in os.environ.items() if not key.startswith(("JAX", "XLA"))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=known | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", ["module://not_there.backend_inline", "TkAgg", "nonsense"])
def test_a_notebooks_way_to_draw_does_not_reach_our_pictures(root, backend):
    """`!python infer.py` inherits it."""
    run(DRAW, root, MPLBACKEND=backend)


def test_devices_that_are_not_there_are_named_with_the_variable(root):
    said = run(DEVICES, root, JAX_PLATFORMS="tpu_of_nobody")
    assert said.startswith("JAX_PLATFORMS=tpu_of_nobody asks for devices that JAX does not find here; unset")


def test_a_user_without_a_home_goes_without_a_cache(monkeypatch):
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "IVDJAX_MODELS", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", staticmethod(homeless))
    monkeypatch.setattr("jax.config.update", lambda *_: None)
    use_compilation_cache()
    assert not user_folder().exists() and known_models() is not None
