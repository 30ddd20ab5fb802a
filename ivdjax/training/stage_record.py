"""What a finished stage leaves in the run's folder: its parameters and figures, for the stages that come after it."""

from __future__ import annotations

import json
from pathlib import Path

from ivdjax.imaging.folders import whole_folder
from ivdjax.model.weights import read_weights, sha256_of, write_weights
from ivdjax.training.stage import StageResult

FOLDER, WEIGHTS, FACTS = "result", "weights.npz", "result.json"


def write_record(folder: Path, result: StageResult) -> None:
    """Keeps the result of a stage in `<folder>/result/`, whole or not at all.

    Raises:
        OSError: the disk is full or not writable.
    """
    with whole_folder(folder / FOLDER) as part:
        digest = write_weights(part / WEIGHTS, result.parameters)
        facts = {name: getattr(result, name) for name in ("validation", "seconds", "steps", "chosen")}
        facts["weights_sha256"] = digest
        (part / FACTS).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> StageResult | None:
    """The result that `write_record` kept; None without one, or if it is damaged (the stage's checkpoints remain)."""
    place = folder / FOLDER
    try:
        facts = json.loads((place / FACTS).read_text(encoding="utf-8"))
        if sha256_of(place / WEIGHTS) != facts["weights_sha256"]:
            return None
        parameters = read_weights(place / WEIGHTS)
        return StageResult(
            parameters, facts["validation"], facts["seconds"], facts["steps"], facts.get("chosen", facts["steps"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
