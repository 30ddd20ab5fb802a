"""What a person decides about a case, turned into corrections; and what each decision does to the levels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from ivdjax.inference.case_result import CaseResult, accepted, conclude
from ivdjax.inference.corrections import LARGEST_LEVEL, Correction, Corrections
from ivdjax.inference.stored_evidence import StoredEvidence
from ivdjax.volume import CaseError, Disc, LabelMap

Deed = Literal["shift", "level", "delete", "transitional", "accept", "note", "undo"]

DEEDS: tuple[str, ...] = get_args(Deed)

_LONGEST_NOTE = 2000


@dataclass(frozen=True)
class Decision:
    """One key or click.

    Attributes:
        deed: `shift` moves every level by `steps`; `level` gives the disc of level `disc` the level `to`, and the
            others follow; `delete` takes the disc `disc` away; `transitional` says that there is a transitional
            vertebra; `accept` agrees with the result as it is; `note` keeps `text`; `undo` takes the last decision
            back.
        disc: present level of the disc that is meant.
        to: the level that it gets.
        steps: of a shift, up or down.
        text: of a note.
    """

    deed: Deed
    disc: int = 0
    to: int = 0
    steps: int = 0
    text: str = ""


def resulting(kept: StoredEvidence, own: CaseResult, corrections: Corrections) -> CaseResult:
    """The result that follows from the program's own one and the corrections. No network runs.

    Args:
        kept: what the networks said of the case.
        own: the program's own result.
        corrections: of the case.

    Raises:
        CaseError: a correction is about a place where there is no disc.
    """
    if not corrections.changes_result:
        return accepted(own, corrections)
    return conclude(kept.model, own.case, kept.prepared, kept.evidence, corrections=corrections)


def decided(
    decision: Decision, kept: StoredEvidence, own: CaseResult, before: CaseResult, corrections: Corrections, reader: str
) -> tuple[Corrections, CaseResult]:
    """The corrections with one more decision, and the result that follows from them. No network runs.

    Args:
        decision: of the person.
        kept: what the networks said of the case.
        own: the program's own result.
        before: the result that the person saw.
        corrections: that it follows.
        reader: who decides, as they call themselves.

    Raises:
        CaseError: the decision cannot be carried out: there is no such disc or level, or nothing to take back.
    """
    if decision.deed == "undo":
        after = _undone(corrections, reader)
        return after, resulting(kept, own, after)
    tried = [corrections.with_entry(entry) for entry in _entries(decision, before, corrections, reader)]
    first: tuple[Corrections, CaseResult] | None = None
    for one in tried:
        result = resulting(kept, own, one)
        if decision.deed not in ("shift", "level", "delete"):
            return one, result
        moves = moved_levels(before.labels, result.labels)
        found = _with_moves(one, moves), result
        if decision.deed != "shift" or all(new in (None, old + decision.steps) for old, new in moves.items()):
            return found
        first = first or found
    assert first is not None  # the solver takes none of the pins for a plain shift: the person sees what it makes of it
    return first


def moved_levels(before: LabelMap, after: LabelMap) -> dict[int, int | None]:
    """The new level of each disc of a label map by its old one; None where it is no disc any more."""
    moves: dict[int, int | None] = {}
    for level in before.levels:
        counts = np.bincount(after.array[before.array == level])
        counts = np.append(counts, 0)
        moves[level] = int(counts[1:].argmax()) + 1 if counts[1:].any() else None
    return moves


def _entries(decision: Decision, before: CaseResult, corrections: Corrections, reader: str) -> list[Correction]:
    """The corrections that a decision may stand for, the likeliest first."""
    discs = {disc.level: disc for disc in before.discs}
    if decision.deed == "shift":
        return [_pin(disc, disc.level + decision.steps, reader, decision.steps)
                for disc in _middle_first(before.discs, decision.steps)]  # fmt: skip
    if decision.deed in ("level", "delete") and decision.disc not in discs:
        raise CaseError(f"there is no disc of level {decision.disc} any more; look again")
    if decision.deed == "level":
        return [_pin(discs[decision.disc], decision.to, reader)]
    if decision.deed == "delete":
        return [Correction("delete", point_mm=discs[decision.disc].centroid_mm, by=reader)]
    if decision.deed == "transitional" and any(entry.action == "transitional" for entry in corrections.in_force):
        raise CaseError("a transitional vertebra is marked already; undo takes the mark back")
    text = decision.text.strip()
    if decision.deed == "note" and not 0 < len(text) <= _LONGEST_NOTE:
        raise CaseError(f"a note has 1 to {_LONGEST_NOTE} letters, not {len(text)}")
    return [Correction(decision.deed, by=reader, text=text)]  # type: ignore[arg-type]


def _pin(disc: Disc, level: int, reader: str, steps: int | None = None) -> Correction:
    if not 1 <= level <= LARGEST_LEVEL:
        raise CaseError(f"{disc.level_name} cannot become level {level}: levels are 1 (L5/S1) to {LARGEST_LEVEL}")
    details = {} if steps is None else {"shift": steps}
    return Correction("anchor", level, disc.centroid_mm, reader, details=details)


def _middle_first(discs: tuple[Disc, ...], steps: int) -> list[Disc]:
    """The discs that may carry a shift, the one in the middle first: it is the least likely to be a false one."""
    able = [disc for disc in discs if 1 <= disc.level + steps <= LARGEST_LEVEL]
    if not able:
        raise CaseError("there is no disc whose level could be moved")
    middle = float(np.median([disc.level for disc in able]))
    return sorted(able, key=lambda disc: (abs(disc.level - middle), disc.level))


def _with_moves(corrections: Corrections, moves: dict[int, int | None]) -> Corrections:
    """The last entry with what it did to each level: {"1": 2, "2": 3, "7": null}."""
    *earlier, last = corrections.history
    details = {**last.details, "levels": {str(old): new for old, new in moves.items()}}
    return replace(corrections, history=(*earlier, replace(last, details=details)))


def _undone(corrections: Corrections, reader: str) -> Corrections:
    """All that is in force taken back, and made again but for the last: the history only grows."""
    in_force = corrections.in_force
    if not in_force:
        raise CaseError("there is no decision to take back")
    undone = corrections.with_entry(Correction("reset", by=reader, text=f"undo: {in_force[-1].words()}"))
    return replace(undone, history=(*undone.history, *in_force[:-1]))
