"""The best parameters of a stage so far, by the mean figure of its validations; kept over kills and resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ivdjax.imaging.folders import whole_folder
from ivdjax.model.weights import read_weights, sha256_of, write_weights

FOLDER, WEIGHTS, FACTS = "best", "weights.npz", "best.json"


class Chosen(NamedTuple):
    """Parameters that were validated.

    Attributes:
        step: after which they were.
        value: their mean figure, better if larger.
        parameters: of the network, NumPy arrays.
    """

    step: int
    value: float
    parameters: Any


def offer_best(folder: Path, step: int, value: float, parameters: Any) -> bool:
    """Keeps parameters in `<folder>/best/` unless those there are as good; whether they were kept.

    What a sitting that was killed had kept of later steps stays: the same steps give the same parameters again.

    Raises:
        OSError: the disk is full or not writable.
    """
    facts = _facts(folder)
    if facts is not None and facts["value"] >= value:
        return False
    with whole_folder(folder / FOLDER) as part:
        digest = write_weights(part / WEIGHTS, jax.tree.map(np.asarray, parameters))
        facts = {"step": step, "value": value, "weights_sha256": digest}
        (part / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return True


def read_best(folder: Path) -> Chosen | None:
    """What `offer_best` kept; None where nothing was, or what was is damaged."""
    facts = _facts(folder)
    if facts is None:
        return None
    try:
        return Chosen(facts["step"], facts["value"], read_weights(folder / FOLDER / WEIGHTS))
    except (OSError, ValueError):
        return None


def _facts(folder: Path) -> dict[str, Any] | None:
    place = folder / FOLDER
    try:
        facts: dict[str, Any] = json.loads((place / FACTS).read_text(encoding="utf-8"))
        whole = sha256_of(place / WEIGHTS) == facts["weights_sha256"]
        return facts if whole and {"step", "value"} <= facts.keys() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
