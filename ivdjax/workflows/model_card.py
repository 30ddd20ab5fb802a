"""The model card: a model's README, made from the facts in its description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GENERAL_LIMITS = (
    "Discs are numbered from the lowest one that is found: a field of view without L5/S1, a transitional vertebra or a "
    "missed lowest disc shifts every level.",
    "Images unlike the training data (other sequences, resolutions, implants, fractures, children) may fail silently; "
    "look at the overview picture of every case.",
)
"""What every model of this program has in common."""


def model_card(description: Mapping[str, Any]) -> str:
    """The text of a model's README.md from its description.

    Used are name, channels, networks, precision, synthetic, credit, licence, weights_sha256 and ivdjax_version, and
    where they are given: `validation` (figures by name, nested once at most), `training` (facts by name), `limits`
    (sentences). What is missing is said to be missing.
    """
    name, channels = description["name"], ", ".join(description["channels"])
    credit = description.get("credit") or "not stated"
    licence = description.get("licence") or "not stated"
    synthetic = bool(description.get("synthetic"))
    sections = [
        f"# {name}\n\nLocalizes and segments intervertebral discs in MR volumes with the channel(s) **{channels}**.\n"
        f"Made by ivdjax {description['ivdjax_version']}; networks: {', '.join(description['networks'])}; "
        f"stored as {description['precision']}.",
        f"## Use\n\n```\npython infer.py --model PATH/TO/{name} --output OUT CASE_FOLDER\n```",
        "## Intended use\n\nResearch. It is not a medical device, was not assessed as one, and must not guide the care "
        "of a patient.",
        "## Training data\n\n" + (
            "**Synthetic images only.** No image of a person took part in the training; expect little of it on real "
            "images.\n\n" if synthetic else ""
        ) + f"- Source and credit: {credit}\n- Licence of the data: {licence}",
        _facts("Training", description.get("training")),
        _facts("Figures on held-out cases", description.get("validation"))
        or "## Figures on held-out cases\n\nNone were recorded with this model.",
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in (*description.get("limits", ()), *GENERAL_LIMITS)),
        f"## Integrity\n\nSHA-256 of `weights.npz`: `{description['weights_sha256']}`; checked whenever the model is "
        "loaded.",
    ]  # fmt: skip
    return "\n\n".join(section for section in sections if section) + "\n"


def _facts(title: str, facts: Mapping[str, Any] | None) -> str:
    """A section with a table of facts by name; empty without facts."""
    if not facts:
        return ""
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in _flat(facts)]
    return f"## {title}\n\n| | |\n|---|---|\n" + "\n".join(rows)


def _flat(facts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            rows += [(f"{name}: {inner}", inner_value) for inner, inner_value in _flat(value)]
        else:
            rows.append((name, value))
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(item) for item in value)
    return str(value).replace("|", "\\|").replace("\n", " ")
