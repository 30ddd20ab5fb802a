"""Prediction programs of a model's networks, kept between runs as JAX exports them.

Tracing a network in Python takes longer than anything else in a new process that finds its compiled programs on the
disk. An exported program has been traced already, and needs neither the network's module nor Flax.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from ivdjax.config import Config, plain_config
from ivdjax.imaging.folders import write_whole
from ivdjax.model.probabilities import Predict
from ivdjax.model.stages import predicted_box, stage_crop

FOLDER = "programs"
"""In the folder of compiled programs."""

_PACKAGE = Path(__file__).resolve().parent.parent
_SOURCES = ("networks/*.py", "learning/steps.py", "model/tasks.py")
"""What a program is made of besides its configuration."""


def predict_program(config: Config, stage: str, params: Any, batch: int, cache: Path | None = None) -> Predict:
    """A network's prediction (`ivdjax.learning.steps.build_predict`), compiled for one shape of boxes; nothing is run.

    Args:
        config: of the model.
        stage: of the network.
        params: its parameters, on the device.
        batch: number of boxes.
        cache: folder of compiled programs, in which exported ones are looked for and kept; None: traced anew.
    """
    boxes = jax.ShapeDtypeStruct((batch, *predicted_box(config, stage), len(config.data.channels)), jnp.uint8)
    exported = _exported(config, stage, params, boxes, cache)
    program: Predict = jax.jit(exported.call).lower(params, boxes).compile()
    return program


def _exported(
    config: Config, stage: str, params: Any, boxes: jax.ShapeDtypeStruct, cache: Path | None
) -> export.Exported:
    """The exported program, from the cache if a whole one is there."""
    path = None if cache is None else cache / FOLDER / f"{stage}_{_key(config, stage, boxes)}.jax"
    if path is not None:
        # Whatever is wrong with the file, the program can be had without it.
        with contextlib.suppress(Exception):
            return export.deserialize(bytearray(path.read_bytes()))
    traced = _traced(config, stage, params, boxes)
    if path is not None:
        with contextlib.suppress(OSError, ImportError):  # no room, or no flatbuffers
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, bytes(traced.serialize()))
    return traced


def _traced(config: Config, stage: str, params: Any, boxes: jax.ShapeDtypeStruct) -> export.Exported:
    from ivdjax.learning.steps import build_predict  # Flax and Optax take time to import
    from ivdjax.model.tasks import stage_network

    predict = build_predict(stage_network(config, stage).apply, stage_crop(config, stage).levels)
    return export.export(predict)(params, boxes)


def _key(config: Config, stage: str, boxes: jax.ShapeDtypeStruct) -> str:
    """Another one for any change of what the program depends on."""
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for path in sorted(_PACKAGE.glob(pattern)):
            digest.update(path.read_bytes())
    about = (plain_config(config)[stage], boxes.shape, jax.default_backend(), jax.__version__, version("flax"))
    digest.update(json.dumps(about, sort_keys=True).encode())
    return digest.hexdigest()[:24]
