"""What the page is told: the list of cases, one case, and how far readers agree."""

from __future__ import annotations

from dataclasses import asdict
from itertools import combinations
from typing import Any

from ivdjax.inference.case_result import CaseResult
from ivdjax.inference.corrections import Correction, Corrections
from ivdjax.inference.names import Kind
from ivdjax.inference.results import OutputOptions, read_document, stored_corrections
from ivdjax.review.agreement import Reading, agreement, reading_of
from ivdjax.review.pictures import discs_data, image_data
from ivdjax.review.session import Session
from ivdjax.volume import CaseError, UserError

FIRST_READER = "First reading"

DOWNLOADS = {"seg_nrrd": "3D Slicer (.seg.nrrd)", "labels": "NIfTI", "itksnap": "ITK-SNAP labels", "csv": "table",
             "dicom_seg": "DICOM segmentation", "dicom_sr": "DICOM report", "report": "report"}  # fmt: skip
"""Files of a case that the page offers, those that there are."""


def list_view(session: Session, blind_reader: str = "") -> list[dict[str, Any]]:
    """A mapping per case: name, state, reasons, discs, what was decided, whether it has a picture.

    Args:
        session: the review.
        blind_reader: who is shown nothing of what others decided.
    """
    shown = []
    for row in session.rows():
        one = {
            "case": row.case, "state": row.state, "reasons": list(row.reasons), "discs": row.discs,
            "decided": list(row.corrected), "picture": bool(row.overview),
        }  # fmt: skip
        if blind_reader and not row.failed:
            one |= _blind_row(session, row.case, blind_reader)
        shown.append(one)
    return shown


def _blind_row(session: Session, case: str, reader: str) -> dict[str, Any]:
    names = session.folder.names(case)
    corrections = _stored(session, case)
    kind: Kind = "own_json" if (session.folder.path / names.path("own_json")).is_file() else "json"
    own = read_document(session.folder.path / names.path(kind))
    changed = bool(corrections.in_force)
    blind = corrections.read_blind_by(reader).in_force
    # An acceptance replaces the verdict in the result's own JSON.
    state = {} if changed and kind == "json" else {"state": own.get("verdict", ""), "reasons": own.get("reasons", [])}
    if changed and kind == "json":
        state = {"state": "", "reasons": []}
    return {**state, "decided": [entry.words() for entry in blind], "picture": not changed,
            "discs": len(own.get("discs") or [])}  # fmt: skip


def case_view(session: Session, name: str, blind_reader: str = "") -> dict[str, Any]:
    """One case: its verdict, reasons and remarks, its discs (`discs_data`), its history and the number of decisions.

    Args:
        session: the review.
        name: of the case.
        blind_reader: whose decisions alone count; empty: those that the results follow.

    Raises:
        KeyError: there is no such case.
        CaseError: it has no result or cannot be loaded.
    """
    case = session.opened(name)
    seen, corrections, result = case.state(blind_reader)
    mine = corrections.history if blind_reader else tuple(entry for entry in corrections.history if not entry.blind)
    return {
        "case": name, "seen": seen, "verdict": result.verdict, "reasons": list(result.reasons),
        "remarks": [*result.findings, *result.remarks, *result.warnings], "history": [_line(entry) for entry in mine],
        "in_force": len(corrections.in_force), "changed": corrections.changes_result,
        "accepted": list(corrections.accepted_by), "saved": case.is_written, "trouble": session.trouble(name),
        "files": {} if blind_reader else _files(session, name),
        **discs_data(case.own, result),
    }  # fmt: skip


def _files(session: Session, name: str) -> dict[str, str]:
    """The files of a case that there are: what the page calls them, by kind."""
    names, folder = session.folder.names(name), session.folder.path
    return {kind: words for kind, words in DOWNLOADS.items() if (folder / names.folder / names.files[kind]).is_file()}


def own_image(session: Session, name: str, channel: str) -> dict[str, Any]:
    """The image of a case (`image_data`)."""
    return image_data(session.opened(name).own, channel)


def agreements(session: Session) -> list[dict[str, Any]]:
    """Of every two readers who have read a case in common: `Agreement` as a mapping.

    What the results follow counts as one reading, each blind reader's decisions as another.
    """
    readings: dict[str, dict[str, Reading]] = {}
    for row in session.rows():
        if row.failed:
            continue
        corrections = _stored(session, row.case)
        blind = sorted({entry.by for entry in corrections.history if entry.blind})
        if not blind:
            continue
        case = session.opened(row.case)
        for reader in ("", *blind):
            _, own, result = case.state(reader)
            reading = reading_of(case.own, result, own)
            if reading is not None:
                readings.setdefault(reader or FIRST_READER, {})[row.case] = reading
    shown = []
    for one, other in combinations(readings, 2):
        common = [case for case in readings[one] if case in readings[other]]
        if common:
            pairs = [(readings[one][case], readings[other][case]) for case in common]
            shown.append(asdict(agreement((one, other), pairs)))
    return shown


def _stored(session: Session, case: str) -> Corrections:
    try:
        return stored_corrections(session.folder.path, case, OutputOptions(session.folder.bids))
    except UserError as error:
        raise CaseError(str(error)) from error


def _line(entry: Correction) -> dict[str, str]:
    return {"words": entry.words(), "at": entry.at}


__all__ = ["CaseResult", "agreements", "case_view", "list_view", "own_image"]
