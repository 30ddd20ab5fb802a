"""Parameters of a network and facts about them in one folder: how a run keeps finished stages and the best so far.

The facts hold the SHA-256 of the parameters' file, so that damage to either counts as nothing kept: checkpoints remain.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ivdjax.imaging.folders import whole_folder
from ivdjax.model.weights import Parameters, read_weights, sha256_of, write_weights

WEIGHTS, _DIGEST = "weights.npz", "weights_sha256"


def write_parameters(folder: Path, facts_name: str, parameters: Parameters, facts: Mapping[str, Any]) -> None:
    """Keeps both in `folder`, whole or not at all, in the place of what was kept there.

    Args:
        folder: of the two files.
        facts_name: of the facts' file, JSON.
        parameters: nested arrays.
        facts: what JSON can hold.

    Raises:
        OSError: the disk is full or not writable.
        ValueError: the parameters cannot be stored (`write_weights`).
    """
    with whole_folder(folder) as part:
        digest = write_weights(part / WEIGHTS, parameters)
        text = json.dumps({**facts, _DIGEST: digest}, indent=2) + "\n"
        (part / facts_name).write_text(text, encoding="utf-8")


def read_facts(folder: Path, facts_name: str) -> dict[str, Any] | None:
    """The facts of parameters that are whole; None where nothing was kept, or what was is damaged."""
    try:
        facts: dict[str, Any] = json.loads((folder / facts_name).read_text(encoding="utf-8"))
        return facts if sha256_of(folder / WEIGHTS) == facts[_DIGEST] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_parameters(folder: Path) -> dict[str, Any] | None:
    """The parameters; None where they cannot be read."""
    try:
        return read_weights(folder / WEIGHTS)
    except (OSError, ValueError):
        return None
