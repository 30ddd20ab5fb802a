"""What is done for a case before and after its networks run: prepared for them; numbered, restored and measured.

Nothing here needs JAX, so that another case's networks run meanwhile, and a case is prepared while JAX still loads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ivdjax.data.preparation import Prepared, prepare, restore_labels, restore_probability, restore_tissues
from ivdjax.discs.contrast import contrast_doubts
from ivdjax.discs.evidence import Evidence
from ivdjax.discs.grades import graded, grader_of
from ivdjax.discs.measures import measure_discs
from ivdjax.discs.numbering import Numbering
from ivdjax.discs.outline import outline_confidence, outline_sign
from ivdjax.discs.signs import OUTLINE, Sign
from ivdjax.discs.verdict import Judgement, judged, judgement_of
from ivdjax.discs.wear import t2_image, with_wear
from ivdjax.inference.corrections import Corrections, corrected_numbering, corrected_outlines
from ivdjax.model.model import Model
from ivdjax.volume import Case, CaseError, Disc, LabelMap, LeftOut, Lordosis

_CONTRAST = 0.5
"""P(something is wrong) that a channel asks for which is not what it is called: everything rests on the channels."""


@dataclass(frozen=True, eq=False)
class CaseResult:
    """What was found in a case.

    Attributes:
        case: as it was read.
        labels: numbered discs on the case's own canonical grid, ready for the file's own grid.
        discs: their measures, from the lowest up.
        verdict: "ok" or "review".
        reasons: for a review, in short sentences, the decisive first.
        warnings: what was remarked on reading and preparing.
        probability_wrong: that a level is wrong or a disc in view is missing, 0 to 1, before anybody has accepted it;
            None where a person has drawn the discs.
        remarks: what else may be worth knowing; they decide nothing.
        findings: of the spine itself: a likely transitional vertebra.
        probability: float32 (D, H, W) of disc on the labels' grid, 0 to 1; None unless it was asked for.
        tissues: discs, vertebrae and canal on the labels' grid; None where the model outlines discs alone, or a person
            has drawn the discs.
        left_out: what was left out below the lowest disc; None: nothing was.
        lordosis: of the spine; empty without tissues.
    """

    case: Case
    labels: LabelMap
    discs: tuple[Disc, ...]
    verdict: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    probability_wrong: float | None = None
    remarks: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    probability: NDArray[np.float32] | None = None
    tissues: LabelMap | None = None
    left_out: LeftOut | None = None
    lordosis: Lordosis = field(default_factory=Lordosis)


def prepare_case(model: Model, case: Case) -> Prepared:
    """A case that has one or more of the model's channels, as its networks see it.

    Raises:
        CaseError: the case cannot be prepared.
    """
    config = model.config
    prepared = prepare(case, config.preparation, config.data.all_discs_outlined, config.data.channels)
    if len(prepared.missing) == len(prepared.channels):
        raise CaseError(f"case {case.name}: none of the model's channels {', '.join(prepared.channels)} is there")
    return prepared


def conclude(
    model: Model,
    case: Case,
    prepared: Prepared,
    evidence: Evidence,
    keep_probability: bool = False,
    corrections: Corrections | None = None,
) -> CaseResult:
    """The discs of a case, from what the networks said of it.

    Args:
        model: whose networks they are.
        case: as it was read.
        prepared: as the networks saw it.
        evidence: what they said (`ivdjax.inference.segmenter.look`).
        keep_probability: whether the result holds the probability of disc too.
        corrections: what people have decided about the case.

    Raises:
        CaseError: the anchor, or a point of a deletion, lies in no disc.
    """
    settings, decided, judgement = model.config.inference, corrections or Corrections(case.name), _judgement(model)
    if decided.outlines is not None:
        return _drawn(model, case, prepared, decided)
    evidence, numbering = _numbered(model, case.name, evidence, decided)
    labels = restore_labels(numbering.levels, prepared, evidence.probability, settings.threshold)
    calibration = _calibration(model)
    outlines = outline_confidence(evidence.probability, numbering.levels, prepared.grid, calibration)
    discs = measure_discs(labels, case.volume, numbering.confidence, outlines)
    signs = dict(numbering.signs)
    if calibration and outlines:  # uncalibrated figures rank a case's discs, but their size means nothing
        signs[OUTLINE] = outline_sign(outlines, settings.sure_outline)
    for place, doubt in enumerate(contrast_doubts(case.volume, labels)):
        signs[f"contrast {place}"] = Sign(1.0, doubt, _CONTRAST)
    found = judged(signs, judgement, settings.review_above)
    fine = restore_probability(evidence.probability, prepared) if keep_probability else None
    tissues = None
    if evidence.tissue_probability is not None:
        tissues = restore_tissues(evidence.tissue_probability, labels, prepared)
    lordosis = Lordosis()
    if tissues is not None:
        discs, lordosis = with_wear(discs, labels, tissues, t2_image(case, settings.contrast), model.meta)
    unsure = [level for level, dice in outlines.items() if calibration and dice < settings.sure_outline]
    discs = _with_grades(model, discs, unsure)  # last: they rest on what was measured
    result = CaseResult(
        case, labels, tuple(discs), found.kind, found.reasons, prepared.warnings, found.probability_wrong,
        (*_missing_remarks(prepared), *found.remarks), numbering.findings, fine, tissues,
        _left_out(numbering, prepared, evidence, settings.threshold), lordosis,
    )  # fmt: skip
    return accepted(result, decided)


def structures_left_out(
    model: Model, prepared: Prepared, evidence: Evidence, corrections: Corrections | None = None
) -> LeftOut | None:
    """What was left out below the lowest disc of a stored result: its discs are numbered again, which takes no network.

    Args:
        model: whose networks they are.
        prepared: as the networks saw the case.
        evidence: what they said.
        corrections: that the result follows.

    Returns:
        The structures; None: there are none, or a person has drawn the discs.

    Raises:
        CaseError: as `conclude`.
    """
    decided = corrections or Corrections(prepared.name)
    if any(entry.action == "outline" for entry in decided.in_force):
        return None
    evidence, numbering = _numbered(model, prepared.name, evidence, decided)
    return _left_out(numbering, prepared, evidence, model.config.inference.threshold)


def _numbered(model: Model, name: str, evidence: Evidence, decided: Corrections) -> tuple[Evidence, Numbering]:
    """The numbering of a case, and the evidence that it rests on (`corrected_numbering`).

    Raises:
        CaseError: a point of a correction lies in no disc.
    """
    try:
        return corrected_numbering(evidence, model.config.inference, decided, _judgement(model))
    except ValueError as error:
        if evidence.anchor is None and not decided.in_force:
            raise
        raise CaseError(f"case {name}: {error}") from error


def _left_out(numbering: Numbering, prepared: Prepared, evidence: Evidence, threshold: float) -> LeftOut | None:
    """What was left out below the lowest disc, at the file's resolution."""
    if not numbering.left_out:
        return None
    array = np.zeros(prepared.grid.shape, np.uint8)
    for value, (_, voxels) in enumerate(numbering.left_out, start=1):
        array[tuple(voxels.T)] = value
    labels = restore_labels(array, prepared, evidence.probability, threshold)
    return LeftOut(tuple(name for name, _ in numbering.left_out), labels)


def _drawn(model: Model, case: Case, prepared: Prepared, decided: Corrections) -> CaseResult:
    """The result of a case whose outlines a person has edited: what they drew is not doubted, it is measured."""
    try:
        labels = corrected_outlines(decided)
    except ValueError as error:
        raise CaseError(f"case {case.name}: {error}") from error
    discs = _with_grades(model, measure_discs(labels, case.volume, dict.fromkeys(labels.levels, 1.0)))
    return accepted(CaseResult(case, labels, tuple(discs), "ok", (), prepared.warnings), decided)


def accepted(result: CaseResult, decided: Corrections) -> CaseResult:
    """A result with what people said of it beside its discs: marks, notes, and acceptance, which outweighs any reason.

    Args:
        result: that the program judged alone.
        decided: what people decided about the case.
    """
    remarks = [f"{entry.words()}." for entry in decided.in_force if entry.action in ("transitional", "note")]
    if not decided.accepted_by:
        return replace(result, remarks=(*result.remarks, *remarks))
    spite = f" although {'; '.join(result.reasons)}" if result.reasons else ""
    said = f"Accepted by {', '.join(decided.accepted_by)}{spite}."
    return replace(result, verdict="ok", reasons=(), remarks=(said, *result.remarks, *remarks))


def _with_grades(model: Model, discs: Sequence[Disc], unsure: Sequence[int] = ()) -> list[Disc]:
    """Discs with the grades that the model estimates; blank where it estimates none, or is told not to.

    Args:
        model: that found them.
        discs: measured.
        unsure: levels whose outlines are.
    """
    grader = grader_of(model.meta.get("grades")) if model.config.inference.grades else None
    return graded(discs, grader, unsure)


def _judgement(model: Model) -> Judgement:
    """What levels and verdict are made of for a model: its own calibration, or the program's."""
    return judgement_of(model.meta.get("levels"))


def _calibration(model: Model) -> Mapping[str, object] | None:
    """How the model's expected Dice becomes a right one; None for a model without."""
    return model.meta.get("outline_calibration")


def _missing_remarks(prepared: Prepared) -> list[str]:
    if not prepared.missing:
        return []
    there = ", ".join(channel for channel in prepared.channels if channel not in prepared.missing)
    return [f"Channel {', '.join(prepared.missing)} is missing: outlines and levels rest on {there} alone"]
