"""The model card: a model's README, made from the facts in its description."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ivdjax.volume import ASSUMPTION, READERS

GENERAL_LIMITS = (
    "A transitional vertebra, surgery, a collapsed vertebra, or a field of view without the sacrum can shift every "
    "level by one. As far as the program can see this, the confidence of each level and the verdict `review` show it; "
    "the verdict `ok` is no guarantee.",
    f"{ASSUMPTION} The confidence of a level does not say how well the disc is outlined.",
    "Images unlike the training data (other sequences, resolutions, implants, fractures, children) may fail silently; "
    "look at the overview picture of every case.",
)
"""What every model of this program has in common."""

CHOSEN = "_chosen_step"
"""What ends the name of a fact of the training: the stage before it keeps the parameters of an earlier step."""

COUNTED_LIMIT = (
    "Discs are counted from the lowest one that is found (`inference.numbering`): a missed or an extra disc shifts "
    "every level above it."
)
"""Of models that number without the solver."""

UNSEEN_GAPS_LIMIT = (
    "Trained with all of its channels present: a case that lacks one is answered, but nothing was learned about it."
)
"""Of models of several channels that were trained without channel dropout."""

INTENDED_USE = (
    "Research on the lumbar intervertebral discs of adults: outlining, numbering and measuring them in MR of the kind "
    "described here, each result looked at by a person. It is not a medical device, was not assessed as one, and must "
    "not guide the care of a patient."
)

_FREE, _WITH_CREDIT = re.compile(r"Apache-2\.0|CC0([ -]1\.0)?"), re.compile(r"CC[ -]BY[ -](\d\.\d)")
"""Licences of training data under which weights may be passed on under the program's own, freely or with credit."""

_OUTLINE = {
    "data": "measured on", "cases": "cases", "discs": "discs", "extra_discs": "of them not in the reference (Dice 0)",
    "mean_dice": "mean Dice", "rank_correlation": "rank correlation of predicted and measured Dice",
    "rank_correlation_95": "its 95 % interval, whole cases drawn anew", "mean_absolute_error": "mean absolute error",
    "mean_absolute_deviation": "that of predicting the mean Dice for each", "mean_error": "mean error",
}  # fmt: skip
"""What is told of the confidence in outlines, in this order, and in which words."""

_REPEATABILITY = ("within_sd", "smallest_detectable_change", "icc", "bias", "n")
"""What is told of each measure in the facts about repeatability, in this order."""


def model_card(description: Mapping[str, Any]) -> str:
    """The text of a model's README.md from its description.

    Used are name, channels, networks, precision, synthetic, credit, licence, weights_sha256 and ivdjax_version, and
    where they are given: `validation` (figures by name, nested once at most), `training` (facts by name), `limits`
    (sentences), `config` (how it numbers, and whether it was trained for missing channels), `reference_sha256`. What is
    missing is said to be missing. `repeatability`, `outline_calibration` and `grades` (of `annotate_model`) get
    sections of their own.
    """
    name, channels = description["name"], ", ".join(description["channels"])
    sections = [
        f"# {name}\n\nLocalizes and segments intervertebral discs in MR volumes with the channel(s) **{channels}**.\n"
        f"Made by ivdjax {description['ivdjax_version']}; networks: {', '.join(description['networks'])}; "
        f"stored as {description['precision']}.",
        _use(description),
        f"## Intended use\n\n{INTENDED_USE}",
        _data(description),
        _descent(description),
        _licences(description),
        _facts("Training", _without_marks(description.get("training"))),
        _facts("Figures on held-out cases", description.get("validation"))
        or "## Figures on held-out cases\n\nNone were recorded with this model.",
        _repeatability(description.get("repeatability")),
        _levels(description.get("levels")),
        _outline_confidence(description.get("outline_calibration")),
        _grades(description.get("grades")),
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in (*description.get("limits", ()), *_limits(description))),
        _integrity(description),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _use(description: Mapping[str, Any]) -> str:
    text = f"## Use\n\n```\nivdjax infer --model PATH/TO/{description['name']} --output OUT CASE_FOLDER\n```"
    if len(description["channels"]) > 1:
        text += "\n\nA case that lacks some of the channels is answered too; a remark says so."
    return text


def _data(description: Mapping[str, Any]) -> str:
    lines = ["## Training data\n"]
    if description.get("synthetic"):
        lines.append(
            "**Synthetic images only.** No image of a person took part in the training; expect little of it on real "
            "images.\n"
        )
    lines.append(f"- Source and credit: {description.get('credit') or 'not stated'}")
    lines.append(f"- Licence of the data: {description.get('licence') or 'not stated'}")
    phantoms = (description.get("training") or {}).get("phantoms")
    if phantoms:
        lines.append(f"- Beside them: {phantoms} synthetic phantoms of ivdjax (Apache-2.0)")
    return "\n".join(lines)


def _descent(description: Mapping[str, Any]) -> str:
    """The models that the training began with, back to the first; empty for a model that began at random."""
    ancestors = description.get("descent") or ()
    if not ancestors:
        return ""
    lines = ["## Descent\n\nTraining began with the parameters of another model; the nearest ancestor stands first.\n"]
    for ancestor in ancestors:
        networks = ", ".join(map(str, ancestor.get("networks") or ())) or "no network"
        held_out = ", ".join(map(str, ancestor.get("held_out") or ())) or "none"
        cases = "an unknown number of" if ancestor.get("cases") is None else ancestor["cases"]
        data = "synthetic images; " if ancestor.get("synthetic") else ""
        lines.append(
            f"- **{ancestor.get('name')}** ({networks}; weights `{str(ancestor.get('weights_sha256'))[:12]}`): "
            f"trained on {cases} cases; {data}credit: {ancestor.get('credit') or 'not stated'}; licence: "
            f"{ancestor.get('licence') or 'not stated'}; held out: {held_out}"
        )
    for ancestor, names in (description.get("held_out_seen_before") or {}).items():
        lines.append(
            f"\n**Not unseen:** the held-out {', '.join(map(str, names))} (or a visit of the same subject) trained "
            f"{ancestor}. Figures on them promise too much."
        )
    return "\n".join(lines)


def _without_marks(training: Mapping[str, Any] | None) -> dict[str, Any]:
    """The facts of the training that a person reads."""
    return {name: value for name, value in (training or {}).items() if name != "case_marks"}


def _licences(description: Mapping[str, Any]) -> str:
    """Who may do what with the weights, the reference mask and the outputs."""
    data = str(description.get("licence") or "")
    if _FREE.fullmatch(data):
        weights = "Apache-2.0, as ivdjax itself."
    elif (found := _WITH_CREDIT.fullmatch(data)) is not None:
        weights = (
            "Apache-2.0, as ivdjax itself. The licence of the training data "
            f"(https://creativecommons.org/licenses/by/{found[1]}/) asks for credit: name source, changes and licence, "
            "as above, wherever you pass on the weights or publish a figure that comes from the data."
        )
    else:
        weights = (
            "not stated. Whoever trained this model may state it, within the licence of the training data; until then "
            "do not pass them on."
        )
    lines = [f"## Licence\n\n- Weights: {weights}"]
    if description.get("reference_sha256"):
        lines.append(
            "- `reference.npz` holds the numbered discs of one training case (labels, no image) and stays under the "
            "licence of the training data."
        )
    lines.append(
        "- Outputs (label maps, tables, pictures, reports) belong to whoever makes them, as far as their images do; "
        "ivdjax and this model claim no rights in them."
    )
    return "\n".join(lines)


def _limits(description: Mapping[str, Any]) -> tuple[str, ...]:
    config = description.get("config") or {}
    own = []
    if config.get("inference", {}).get("numbering", "solver") != "solver":
        own.append(COUNTED_LIMIT)
    if len(description["channels"]) > 1 and not config.get("augmentation", {}).get("channel_dropout", 0.0):
        own.append(UNSEEN_GAPS_LIMIT)
    for name, step in (description.get("training") or {}).items():
        if name.endswith(CHOSEN):
            own.append(
                f"The {name.removesuffix(CHOSEN)} network is that of step {step}, the best of several validations on "
                "held-out cases: its figures on those cases promise a little too much."
            )
    return (*own, *GENERAL_LIMITS)


def _integrity(description: Mapping[str, Any]) -> str:
    text = f"## Integrity\n\nSHA-256 of `weights.npz`: `{description['weights_sha256']}`"
    reference = description.get("reference_sha256")
    if reference:
        return f"{text}, of `reference.npz`: `{reference}`; both are checked whenever the model is loaded."
    return f"{text}; checked whenever the model is loaded."


def _repeatability(facts: Mapping[str, Any] | None) -> str:
    """A section about how well the measures repeat; empty without facts.

    The facts hold a mapping for each measure, and beside these `made_of` and `command`.
    """
    measures = {name: own for name, own in (facts or {}).items() if isinstance(own, Mapping)}
    if facts is None or not measures:
        return ""
    rows = [
        f"| {_cell(name)} | " + " | ".join(_cell(_known(own.get(key))) for key in _REPEATABILITY) + " |"
        for name, own in measures.items()
    ]
    made_of, command = str(facts.get("made_of") or "not stated"), facts.get("command")
    return (
        f"## Repeatability\n\nMeasured on: {made_of}.\n\n"
        "| measure | within-subject sd | smallest detectable change | ICC(2,1) within levels | bias | discs |\n"
        f"{'|---' * 6}|\n" + "\n".join(rows) + "\n\n"
        "A change between two visits of a subject that is smaller than the smallest detectable change may be noise "
        "alone. It does not hold for another scanner or sequence, and patients vary more."
        + (f"\n\n```\n{command}\n```" if command else "")
    )


def _levels(facts: Mapping[str, Any] | None) -> str:
    """A section about level confidence and verdict; empty for a model without a calibration of its own."""
    if not facts:
        return ""
    confidence = facts["confidence"]
    signs = ", ".join(sorted(facts["weights"], key=lambda name: -facts["weights"][name])) or "none"
    return (
        f"## Levels and verdict\n\n{ASSUMPTION} The confidence of a level is calibrated: its log odds are "
        f"{_cell(confidence['slope'])} times those of the model of a spine, {_added(confidence['offset'])}. The "
        f"verdict rests on these signs, the weightiest first: {signs}."
    )


def _added(number: float) -> str:
    """A summand in words."""
    return f"{'minus' if number < 0 else 'plus'} {_cell(abs(number))}"


def _outline_confidence(facts: Mapping[str, Any] | None) -> str:
    """A section about the predicted Dice of each disc; empty without facts.

    The facts hold `scale` and `power`, and figures: `fitted`, on what they were fitted to, and `checked`, on others.
    """
    if not facts:
        return ""
    text = (
        "## Outline confidence\n\nEach disc gets the Dice that its outline is expected to have with a careful one, "
        f"1 - {_cell(facts['scale'])} (1 - e)^{_cell(facts['power'])} with e from the disc network's probabilities. "
        "It does not see errors of which the network is sure."
    )
    sets = {name: facts[name] for name in ("fitted", "checked") if facts.get(name)}
    if "checked" not in sets:
        text += " It was not checked on cases that took no part in the fit."
    if not sets:
        return text
    rows = [
        f"| {words} | " + " | ".join(_cell(_known(own.get(key))) for own in sets.values()) + " |"
        for key, words in _OUTLINE.items()
        if any(key in own for own in sets.values())
    ]
    return f"{text}\n\n| | {' | '.join(sets)} |\n{'|---' * (len(sets) + 1)}|\n" + "\n".join(rows)


def _grades(facts: Mapping[str, Any] | None) -> str:
    """A section about the estimate of Pfirrmann grades; empty for a model that makes none.

    The facts hold `features` and `thresholds` (`ivdjax.discs.grades`), and where they are given `data`, `credit`,
    `licence`, `command` and `figures` by name.
    """
    if not facts:
        return ""
    rows = [f"| {_cell(name)} | {_cell(one['centre'])} | {_cell(one['spread'])} | {_cell(one['weight'])} |"
            for name, one in facts["features"].items()]  # fmt: skip
    text = (
        "## Estimate of Pfirrmann grades\n\nA probability of each grade, 1 to 5, from measures of the disc on "
        f"T2-weighted images (`ivdjax/discs/grades.py`). {READERS} `--no-grades` leaves it out.\n\n"
        f"- Fitted to: {facts.get('data') or 'not stated'}\n- Credit: {facts.get('credit') or 'not stated'}\n"
        f"- Licence of the gradings: {facts.get('licence') or 'not stated'}\n\n"
        "| feature | centre | spread | weight |\n|---|---|---|---|\n" + "\n".join(rows) + "\n\n"
        f"Thresholds: {_cell(facts['thresholds'])}."
    )
    figures = facts.get("figures")
    if isinstance(figures, Mapping) and figures:
        text += "\n\n| | |\n|---|---|\n" + "\n".join(f"| {_cell(name)} | {_cell(value)} |"
                                                    for name, value in _flat(figures))  # fmt: skip
    return text + (f"\n\n```\n{facts['command']}\n```" if facts.get("command") else "")


def _known(value: Any) -> Any:
    return "-" if value is None else value


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
