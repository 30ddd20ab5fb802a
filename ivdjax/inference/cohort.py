"""What is known of the cases of an output folder: the summary's rows, and what is said of each."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ivdjax.commands.commands import printable
from ivdjax.imaging.folders import write_whole
from ivdjax.inference.cohort_table import write_disc_table
from ivdjax.inference.results import OutputOptions, read_document
from ivdjax.reports.cohort import CohortRow, by_need, write_cohort_page
from ivdjax.reports.tables import SUMMARY, CaseSummary, summary_csv, summary_rows
from ivdjax.volume import UserError

PAGE = "index.html"
"""Name of the cohort page."""

UNDER_REVIEW = ".ivdjax-review"
"""Name of the empty file that lies in an output folder as long as it is reviewed."""

_LINKS = {"report": "report", "csv": "table", "labels": "label map", "seg_nrrd": "3D Slicer", "dicom_seg": "DICOM"}
"""What the cohort page calls a case's files."""


def write_summary(output: Path, rows: Sequence[CaseSummary], options: OutputOptions) -> None:
    """Writes summary.csv, the table of all discs and the cohort page, with the rows of earlier runs about other cases.

    Of those, a failed case's row stays until the case is worked on again, any other as long as its result is there.
    Unread ones are of the input that was given then, and go.

    Raises:
        OSError: a file cannot be written.
    """
    earlier = {row.case: row for row in read_summary(output, set(), options)}
    names = {row.case for row in rows}
    known = [*(row for case, row in earlier.items() if case not in names), *(_timed(row, earlier) for row in rows)]
    write_whole(output / SUMMARY, summary_csv(known))
    write_disc_table(output, [row.case for row in known if not row.failed], options)
    write_cohort_page(output / PAGE, [_page_row(row, output, options) for row in known])


def _timed(row: CaseSummary, earlier: Mapping[str, CaseSummary]) -> CaseSummary:
    """The row of a case; of a skipped one with the seconds that it took when it was computed."""
    if row.status != "skipped" or row.case not in earlier:
        return row
    return replace(row, seconds=earlier[row.case].seconds)


def renew_disc_table(output: Path, options: OutputOptions) -> None:
    """Writes the table of all discs anew, for the cases of the summary.

    Raises:
        OSError: it cannot be written.
    """
    rows = read_summary(output, set(), options)
    write_disc_table(output, [row.case for row in rows if not row.failed], options)


def case_line(row: CaseSummary, output: Path, options: OutputOptions) -> str:
    """One line about a case, as soon as it is known; what a terminal would obey in a name stands escaped in it."""
    if row.failed:
        return printable(f"{row.case}: {row.status.upper()}: {'; '.join(row.reasons)}")
    reasons = f" ({'; '.join(row.reasons)})" if row.reasons else ""
    picture = output / options.names(row.case).path("overview")
    skipped = " (skipped)" if row.status == "skipped" else ""
    return printable(f"{row.case}{skipped}: {row.discs} discs, {row.verdict}{reasons}; {picture}")


def _page_row(row: CaseSummary, output: Path, options: OutputOptions) -> CohortRow:
    """A case as the cohort page shows it, with the confidences of its JSON and links to what is there."""
    shown = CohortRow(**{field.name: getattr(row, field.name) for field in fields(row)})
    if row.failed:
        return shown
    names = options.names(row.case)
    there = {kind: str(names.folder / name) for kind, name in names.files.items()
             if (output / names.folder / name).is_file()}  # fmt: skip
    discs = read_document(output / names.path("json")).get("discs") or []
    return replace(
        shown,
        level_confidence=_lowest(discs, "level_confidence"),
        outline_confidence=_lowest(discs, "outline_confidence"),
        links={words: there[kind] for kind, words in _LINKS.items() if kind in there},
        overview=there.get("overview", ""),
    )


def _lowest(discs: Sequence[dict[str, Any]], column: str) -> float | None:
    return min((disc[column] for disc in discs if disc.get(column) is not None), default=None)


def cohort_rows(output: Path, options: OutputOptions) -> list[CohortRow]:
    """The cases of an output folder as its page shows them, those in need of a look first (`by_need`)."""
    return by_need([_page_row(row, output, options) for row in read_summary(output, set(), options)])


def read_summary(output: Path, names: set[str], options: OutputOptions) -> list[CaseSummary]:
    """Rows of an earlier summary, those of other cases than `names`; none where there is no summary.

    A table that somebody has spoilt costs its rows and a warning. A case whose result is gone is left out.
    """
    path = output / SUMMARY
    if not path.is_file():
        return []
    try:
        rows = summary_rows(path)
    except ValueError:
        print(
            f"warning: {path} is not a summary any more; rows of earlier runs are left out of the new one",
            file=sys.stderr,
        )
        return []
    return [
        row for row in rows
        if row.case and row.case not in names and (row.status == "failed" or _has_result(output, row.case, options))
    ]  # fmt: skip


def _has_result(output: Path, case: str, options: OutputOptions) -> bool:
    try:
        return (output / options.names(case).path("json")).is_file()
    except UserError:  # a name that a BIDS output cannot have
        return False
