"""What a result depends on, and what its model was validated on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from ivdjax import __version__
from ivdjax.config import plain_config
from ivdjax.data.datasets import CaseFiles
from ivdjax.discs.evidence import Anchor
from ivdjax.imaging.files.source import source_name, source_sha256
from ivdjax.model.model import Model


def provenance(files: CaseFiles, model: Model, overrides: Sequence[str] = (),
               anchor: Anchor | None = None) -> dict[str, Any]:  # fmt: skip
    """What a result depends on: input files by content, the model by weights and settings, an anchor, the program.

    Args:
        files: of the case.
        model: with its settings as they are used, overridden ones included.
        overrides: as the user gave them, for the reader.
        anchor: a level that the user has pinned.

    Raises:
        OSError: a file cannot be read.
    """
    settings = json.dumps(
        {"config": _settings(model), "weights": model.weights_sha256}, sort_keys=True, ensure_ascii=True
    )
    return {
        "input": {channel: {"file": source_name(source), "sha256": source_sha256(source)}
                  for channel, source in files.channels.items()},
        "model": {
            "name": model.name, "weights_sha256": model.weights_sha256,
            "sha256": hashlib.sha256(settings.encode()).hexdigest(), "synthetic": model.config.data.synthetic,
        },
        "overrides": list(overrides),
        "anchor": None if anchor is None else {"level": anchor.level, "point_mm": list(anchor.point_mm)},
        "ivdjax_version": __version__,
    }  # fmt: skip


def validation_words(model: Model) -> str:
    """What a model was validated on, in plain words; empty where its folder does not say."""
    figures = model.meta.get("validation") or {}
    words = ", ".join(f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
                      for name, value in figures.items() if not isinstance(value, dict))  # fmt: skip
    if not words:
        return ""
    data = "synthetic phantoms" if model.config.data.synthetic else model.config.data.credit or "data of its own"
    return f"Held-out cases of {data}: {words}."


def _settings(model: Model) -> dict[str, Any]:
    """All of a model that changes a result, but for its weights."""
    return {
        "preparation": plain_config(model.config.preparation), "inference": plain_config(model.config.inference),
        "outline_calibration": model.meta.get("outline_calibration"), "levels": model.meta.get("levels"),
    }  # fmt: skip
