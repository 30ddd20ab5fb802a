"""`discs.csv`: every disc of every case of an output folder in one table, for R, pandas, SPSS and spreadsheets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ivdjax.imaging.folders import write_whole
from ivdjax.inference.names import natural
from ivdjax.inference.results import OutputOptions, read_document
from ivdjax.reports.columns import CHANNEL_COLUMNS, COLUMNS, ERROR_ENDING
from ivdjax.reports.tables import csv_text

TABLE = "discs.csv"
"""Its name in the output folder."""

CHANGES = "changes.json"
"""Name of the comparison of visits, which tells whose visit each case is."""

LEADING = ("case", "subject", "visit", "verdict", "corrected")
TRAILING = ("not_measured", "model")

_REASONS = {column.name: column.empty_when for column in COLUMNS}
_CHANNEL_REASON = CHANNEL_COLUMNS[0].empty_when
_ALWAYS_TEXT = {"cut_at"}
"""Columns in which an empty cell is an answer."""


def write_disc_table(output: Path, cases: Iterable[str], options: OutputOptions) -> None:
    """Writes the table of all cases, whole or not at all.

    Whose visit a case is comes from the last comparison in the folder, or from its name where that follows BIDS; any
    other case is the first visit of a subject of its own name.

    Args:
        output: the folder of all cases.
        cases: that have a result, in the order of the rows.
        options: how files are named.

    Raises:
        OSError: the file cannot be written.
    """
    cases = list(cases)
    visits = _visits(cases, compared_cases(output))
    rows = [
        row
        for case in cases
        for row in disc_lines(read_document(output / options.names(case).path("json")), *visits[case])
    ]
    write_whole(output / TABLE, disc_table(rows))


def disc_lines(document: Mapping[str, Any], subject: str, visit: int) -> list[dict[str, Any]]:
    """The rows of one case: one for each of its discs, from the lowest up.

    Args:
        document: the case's disc JSON.
        subject: whose visit the case is.
        visit: which one, from 1.
    """
    leading = {
        "case": document.get("case"), "subject": subject, "visit": visit, "verdict": document.get("verdict"),
        "corrected": "yes" if document.get("corrections") else "no",
    }  # fmt: skip
    model = document.get("model")
    trailing = {"model": model.get("name") if isinstance(model, dict) else None}
    reasons = document.get("not_measured")
    reasons = reasons if isinstance(reasons, dict) else {}
    return [
        leading | disc | {"not_measured": _not_measured(disc, reasons.get(str(disc.get("level"))))} | trailing
        for disc in document.get("discs") or ()
    ]


def disc_table(rows: list[dict[str, Any]]) -> str:
    """The table as CSV: one row for each disc; columns that would be empty in every row are left out.

    A standard error stands behind its own column. What was not measured is named in the column not_measured with the
    reason, also of columns that are left out.
    """
    measured = dict.fromkeys([column.name for column in COLUMNS])
    measured |= dict.fromkeys(name for row in rows for name in row if name not in (*LEADING, *TRAILING))
    errors = {name for name in measured if name.removesuffix(ERROR_ENDING) in measured and name.endswith(ERROR_ENDING)}
    measured = dict.fromkeys(
        name for own in measured if own not in errors for name in (own, own + ERROR_ENDING) if name in measured
    )
    kept = [name for name in measured if not rows or any(row.get(name) not in (None, "") for row in rows)]
    return csv_text((*LEADING, *kept, *TRAILING), rows)


def _not_measured(disc: Mapping[str, Any], own: Any) -> str:
    """The empty columns of a disc by their reasons, as "reason: column column; reason: column".

    `own` has the disc's own reasons by column; a column without one has the reason that its definition gives.
    """
    told = own if isinstance(own, dict) else {}
    by_reason: dict[str, list[str]] = {}
    for name, value in disc.items():
        if value is None and name not in _ALWAYS_TEXT and not name.endswith(ERROR_ENDING):
            by_reason.setdefault(str(told.get(name) or _REASONS.get(name, _CHANNEL_REASON)), []).append(name)
    return "; ".join(f"{reason}: {' '.join(names)}" for reason, names in by_reason.items())


def _visits(cases: list[str], subjects: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, int]]:
    """Subject and number of the visit of each case."""
    known = {case: (subject, number) for subject, own in subjects.items() for number, case in enumerate(own, start=1)}
    sessions: dict[str, dict[str, list[str]]] = {}
    for case in cases:
        if case not in known and (match := re.match(r"sub-([0-9A-Za-z]+)(?:_ses-([0-9A-Za-z]+))?(?:_|$)", case)):
            sessions.setdefault(match[1], {}).setdefault(match[2] or "", []).append(case)
    for subject, found in sessions.items():
        # Several acquisitions of one session are one visit.
        for number, session in enumerate(sorted(found, key=natural), start=1):
            known |= dict.fromkeys(found[session], (subject, number))
    return {case: known.get(case, (case, 1)) for case in cases}


def compared_cases(output: Path) -> dict[str, list[str]]:
    """Case names by subject as the last comparison of visits in a folder had them; empty for none."""
    try:
        document = json.loads((output / CHANGES).read_text(encoding="utf-8"))
        found = {str(subject["subject"]): [str(visit["case"]) for visit in subject["visits"]]
                 for subject in document["subjects"]}  # fmt: skip
        return found | {str(subject): [str(case)] for subject, case in document.get("single_visits", {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
