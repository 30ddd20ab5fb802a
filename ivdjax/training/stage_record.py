"""What a finished stage leaves in the run's folder: its parameters and figures, for the stages that come after it."""

from __future__ import annotations

from pathlib import Path

from ivdjax.training.parameter_folder import read_facts, read_parameters, write_parameters
from ivdjax.training.stage import StageResult

FOLDER, FACTS = "result", "result.json"


def write_record(folder: Path, result: StageResult) -> None:
    """Keeps the result of a stage in `<folder>/result/`, whole or not at all.

    Raises:
        OSError: the disk is full or not writable.
    """
    facts = {name: getattr(result, name) for name in ("validation", "seconds", "steps", "chosen")}
    write_parameters(folder / FOLDER, FACTS, result.parameters, facts)


def read_record(folder: Path) -> StageResult | None:
    """The result that `write_record` kept; None without one, or if it is damaged (the stage's checkpoints remain)."""
    facts, parameters = read_facts(folder / FOLDER, FACTS), read_parameters(folder / FOLDER)
    if facts is None or parameters is None or not {"validation", "seconds", "steps"} <= facts.keys():
        return None
    chosen = facts.get("chosen", facts["steps"])
    return StageResult(parameters, facts["validation"], facts["seconds"], facts["steps"], chosen)
