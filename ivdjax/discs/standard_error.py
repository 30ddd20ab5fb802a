"""The standard error of each measure: how far it lies from what a careful outline of the same image would give."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

AGREEMENT = "agreement"
"""Key of a model's facts: by measure, how its outlines' measures differ from those of reference outlines."""
REPEATABILITY = "repeatability"
"""Key of a model's facts: by measure, how its measures of one subject scanned again differ."""


def standard_errors(facts: Mapping[str, Any]) -> dict[str, float]:
    """The standard error of each measure that a model's own facts or the program's figures give, in its unit.

    Best is the deviation between the measures of predicted and of reference outlines on patients (`agreement`, `sd`);
    without it the within-subject deviation of phantoms scanned again (`repeatability`, `within_sd`); without either
    that of measuring reference outlines of patients again after resampling, turns and noise (`measure_errors.json`),
    which knows nothing of the model's outlines and is too small.

    Args:
        facts: the model's description.
    """
    errors = dict(_of_measuring())
    for key, figure in ((REPEATABILITY, "within_sd"), (AGREEMENT, "sd")):
        own = facts.get(key)
        for name, figures in own.items() if isinstance(own, Mapping) else ():
            value = figures.get(figure) if isinstance(figures, Mapping) else None
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
                errors[name] = float(value)
    return errors


@cache
def _of_measuring() -> Mapping[str, float]:
    """The program's own figures, by measure."""
    text = (Path(__file__).parent / "measure_errors.json").read_text(encoding="utf-8")
    figures: dict[str, float] = json.loads(text)["standard_errors"]
    return figures
