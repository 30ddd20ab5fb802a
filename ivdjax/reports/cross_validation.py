"""The report of a cross-validation: who was held out in which fold, the paper's tables, and the paper beside them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ivdjax.config import Config
from ivdjax.imaging.folders import write_whole
from ivdjax.reports.paper import paper_rows
from ivdjax.reports.tables import score_tables

_FIGURES = (
    ("mean Dice", "dice", 4),
    ("mean average surface distance, mm", "asd_mm", 2),
    ("mean localization error, mm", "localization_error_mm", 2),
)

_PAPER = """
The paper's figures are those of the challenge's hidden on-site test set (8 sets of 4 subjects, Tables 1 to 3). The ones
here are a cross-validation of the public sets: other cases, and models of fewer subjects. The paper gives no figures of
its own cross-validation.
"""


@dataclass(frozen=True)
class FoldMembers:
    """One fold: its number from 0, its held-out cases as (case, subject), and how many cases its model learned from."""

    number: int
    held_out: tuple[tuple[str, str], ...]
    training: int

    @property
    def subjects(self) -> dict[str, list[str]]:
        """The held-out cases of each subject, both by rising name."""
        found: dict[str, list[str]] = {}
        for case, subject in sorted(self.held_out, key=lambda pair: (pair[1], pair[0])):
            found.setdefault(subject, []).append(case)
        return found

    @property
    def words(self) -> str:
        """The held-out subjects with their cases, such as "S01 (01, 02), S05 (09, 10)"."""
        return ", ".join(
            subject if cases == [subject] else f"{subject} ({', '.join(cases)})"
            for subject, cases in self.subjects.items()
        )


def write_report(folder: Path, config: Config, folds: Sequence[FoldMembers], failed: Sequence[int] = ()) -> None:
    """Completes the discs.csv and summary.json of an evaluation in `folder` by who was held out, and writes tables.md.

    Args:
        folder: where an evaluation of all held-out cases of `folds` wrote its files.
        config: of the folds.
        folds: those that are in it.
        failed: numbers of folds that should be in it, but came to nothing.

    Raises:
        OSError: a file cannot be read or written.
    """
    totals = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    with (folder / "discs.csv").open(newline="", encoding="utf-8") as stream:
        rows = [_parsed(row) for row in csv.DictReader(stream)]
    write_whole(folder / "tables.md", report(config, folds, failed, rows, totals))
    told = {str(fold.number): fold.subjects for fold in folds}
    totals |= {"folds": config.data.folds, "held_out_subjects": told, "failed_folds": list(failed)}
    write_whole(folder / "summary.json", json.dumps(totals, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def report(
    config: Config, folds: Sequence[FoldMembers], failed: Sequence[int], rows: Sequence[Mapping[str, Any]],
    totals: Mapping[str, Any],
) -> str:  # fmt: skip
    """The report in markdown.

    Args:
        config: of the folds; `data.paper_figures` says whether the paper's figures stand beside.
        folds: those that the rows come from.
        failed: numbers of folds that should be in it, but came to nothing.
        rows: as `score_tables` takes them, one a held-out case and level.
        totals: as the evaluation's summary.json has them.
    """
    data = config.data
    left_out = sorted({*range(data.folds)} - {fold.number for fold in folds} - {*failed})
    lines = [f"# Cross-validation of {config.name}\n"]
    if data.synthetic:
        lines.append("The cases are **synthetic phantoms**.\n")
    own = not (data.subject_pattern or data.subject_table)
    lines += [
        f"{len(folds)} of {data.folds} folds, by subject: every case was worked on by the model that has seen no case "
        f"of its subject{' (each case counts as a subject of its own)' if own else ''}.\n",
        "| fold | subjects held out (their cases) | cases that trained |\n|---|---|---|",
        *(f"| {fold.number} | {fold.words.replace('|', '/')} | {fold.training} |" for fold in folds),
        "",
    ]
    if failed:
        lines.append(f"**Failed, and missing in every figure: fold {_numbers(failed)}.**\n")
    if left_out:
        lines.append(f"Not asked for: fold {_numbers(left_out)}.\n")
    paper = paper_rows() if data.paper_figures else []
    lines += [score_tables(rows, {"paper's test set": paper} if paper else None), *_figures(rows, totals, paper)]
    return "\n".join(lines)


def _figures(
    rows: Sequence[Mapping[str, Any]], totals: Mapping[str, Any], paper: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The totals, beside them the paper's where there are any."""
    heads = ["figure", "cross-validation", *(["paper, hidden test set"] if paper else [])]
    lines = [
        "## All discs of all cases",
        _PAPER if paper else "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    for words, key, digits in _FIGURES:
        cells = [_mean_text(source, key, digits) for source in ([rows, paper] if paper else [rows])]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    none = ["not given"] if paper else []
    levels = f"{totals['levels_right']} of {totals['levels_total']}"
    for cells in (["levels right", levels, *none], ["extra discs", str(totals["extra_discs"]), *none]):
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", "A missed disc counts with Dice 0; distances are means over found discs.\n"]


def _mean_text(rows: Sequence[Mapping[str, Any]], key: str, digits: int) -> str:
    finite = [row[key] for row in rows if math.isfinite(row[key])]
    return f"{np.mean(finite):.{digits}f}" if finite else "-"


def _parsed(row: Mapping[str, str]) -> dict[str, Any]:
    """A row of discs.csv; an empty cell is not a number."""
    numbers = {key: float(row[key]) if row[key] else math.nan for _, key, _ in _FIGURES}
    return {"case": row["case"], "level": int(row["level"]), **numbers}


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)
