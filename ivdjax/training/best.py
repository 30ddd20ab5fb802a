"""The best parameters of a stage so far, by the mean figure of its validations; kept over kills and resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ivdjax.training.parameter_folder import read_facts, read_parameters, write_parameters

FOLDER, FACTS = "best", "best.json"


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
    plain = jax.tree.map(np.asarray, parameters)
    write_parameters(folder / FOLDER, FACTS, plain, {"step": step, "value": value})
    return True


def read_best(folder: Path) -> Chosen | None:
    """What `offer_best` kept; None where nothing was, or what was is damaged."""
    facts, parameters = _facts(folder), read_parameters(folder / FOLDER)
    return None if facts is None or parameters is None else Chosen(facts["step"], facts["value"], parameters)


def _facts(folder: Path) -> dict[str, Any] | None:
    facts = read_facts(folder / FOLDER, FACTS)
    return facts if facts is not None and {"step", "value"} <= facts.keys() else None
