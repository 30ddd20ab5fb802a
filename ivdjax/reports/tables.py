"""Tables as text: the discs of a case (CSV, JSON), the cases of a run (CSV), the scores of an evaluation (markdown).

Floats are written with as many digits as mean something, an absent value as an empty cell (CSV), null (JSON) or a dash
(markdown).
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ivdjax.reports.columns import COLUMNS, ERROR_ENDING, SCHEMA_VERSION
from ivdjax.volume import LORDOSIS, LUMBAR_DISCS, Disc, Lordosis

SUMMARY = "summary.csv"
"""Name of the table of a run's cases, in the folder of its results."""

DISC_COLUMNS: tuple[str, ...] = tuple(column.name for column in COLUMNS)
"""Columns that every disc table has, in this order, also without any disc; those of the channels follow."""

SCORE_COLUMNS: tuple[str, ...] = (
    "case", "subject", "level", "dice", "asd_mm", "hd95_mm", "localization_error_mm"
)  # fmt: skip

_PAPER_TABLES = (
    ("Table 1. Dice overlap coefficient.", "Dice", "dice", 3),
    ("Table 2. Average absolute distance.", "ASD(mm)", "asd_mm", 2),
    ("Table 3. Localization distance.", "Localization(mm)", "localization_error_mm", 2),
)


_ANGLES = tuple(column for name in LORDOSIS for column in (name, f"{name}{ERROR_ENDING}"))
_NO_ANGLE = "lordosis_not_measured"
"""The summary's columns of the spine."""

_LEVELS = range(1, LUMBAR_DISCS + 1)


@dataclass(frozen=True)
class CaseSummary:
    """One row of summary.csv: what became of a case.

    Attributes:
        case: its name.
        status: "done", "skipped" (it was there already), "failed", or "unread" (no case could be made out of it).
        verdict: "ok" or "review"; empty without a result.
        reasons: for the verdict, or why it failed.
        discs: how many were found; None where that is not known.
        seconds: that it took when it was computed; None where that is not known.
        probability_wrong: that a level is wrong or a disc in view is missing; None where that is not known.
        remarks: what else may be worth knowing; they decide nothing.
        corrected: what people have decided about it, in words; empty: the program's own result.
        lordosis: of its spine; in the table a column an angle and standard error, and one with the reasons.
    """

    case: str
    status: str
    verdict: str = ""
    reasons: tuple[str, ...] = ()
    discs: int | None = None
    seconds: float | None = None
    probability_wrong: float | None = field(default=None, kw_only=True)
    remarks: tuple[str, ...] = field(default=(), kw_only=True)
    corrected: tuple[str, ...] = field(default=(), kw_only=True)
    lordosis: Lordosis = field(default_factory=Lordosis, kw_only=True)

    @property
    def failed(self) -> bool:
        """Whether there is no result."""
        return self.status in ("failed", "unread")


def disc_rows(discs: Sequence[Disc]) -> list[dict[str, Any]]:
    """One mapping per disc with all columns of the table, in their order; None where a measure cannot be given."""
    names = _row_names(discs)
    rows = []
    for disc in discs:
        x, y, z = disc.centroid_mm
        fixed = {
            "level": disc.level, "level_name": disc.level_name, "level_confidence": disc.level_confidence,
            "outline_confidence": disc.outline_confidence,
            "centroid_x_mm": x, "centroid_y_mm": y, "centroid_z_mm": z, "volume_mm3": disc.volume_mm3,
            "cut_at": disc.cut_at,
        }  # fmt: skip
        values: dict[str, Any] = disc.measures | fixed
        rows.append({name: _plain(values.get(name)) for name in names})
    return rows


def _row_names(discs: Sequence[Disc]) -> list[str]:
    """The columns of a table of these discs: each with its standard error behind it, where one is known."""
    known = dict.fromkeys(name for disc in discs for name in disc.measures)
    names = []
    for name in dict.fromkeys((*DISC_COLUMNS, *known)):
        error = f"{name}{ERROR_ENDING}"
        names += [name, error] if error in known else [name]
    return list(dict.fromkeys(names))


def disc_csv(discs: Sequence[Disc]) -> str:
    """The disc table; only its header for no disc."""
    rows = disc_rows(discs)
    return csv_text(list(rows[0]) if rows else DISC_COLUMNS, rows)


def disc_json(case: str, verdict: str, reasons: Sequence[str], discs: Sequence[Disc], **context: Any) -> str:
    """The same table with verdict and reasons; `context` (such as the model's name) is stored beside them.

    `discs.schema.json` beside this file describes the document (`columns.disc_schema`).

    Raises:
        ValueError: `context` holds a key of the table itself.
    """
    document = {
        "schema_version": SCHEMA_VERSION, "case": case, "verdict": verdict, "reasons": list(reasons),
        "discs": disc_rows(discs),
    }  # fmt: skip
    taken = document.keys() & context.keys()
    if taken:
        raise ValueError(f"the disc JSON has its own {', '.join(sorted(taken))}; store the context under other keys")
    return json.dumps(document | context, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def summary_csv(cases: Iterable[CaseSummary]) -> str:
    """One row per case with the fields of `CaseSummary`; texts are joined by semicolons."""
    names = [column.name for column in fields(CaseSummary) if column.name != "lordosis"]
    rows = [{name: getattr(case, name) for name in names} | _lordosis_cells(case) for case in cases]
    for row in rows:
        row |= {key: "; ".join(row[key]) for key in ("reasons", "remarks", "corrected")}
        row["seconds"] = None if row["seconds"] is None else round(row["seconds"], 1)
    return csv_text([*names, *_ANGLES, _NO_ANGLE], rows)


def _lordosis_cells(case: CaseSummary) -> dict[str, Any]:
    told = [f"{name}: {why}" for name in LORDOSIS if (why := case.lordosis.why(name))]
    return {**case.lordosis.measures, _NO_ANGLE: "" if case.failed else "; ".join(told)}


def summary_rows(path: Path) -> list[CaseSummary]:
    """The rows of a summary (`summary_csv`), whatever a spreadsheet did to its encoding; what is not a number is None.

    Raises:
        ValueError: the file is no table with the columns case and status.
        OSError: it cannot be read.
    """
    # A spreadsheet that saved the table may have put a mark before it, or written it in another encoding.
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
        table = csv.DictReader(stream)
        try:
            if table.fieldnames is None or not {"case", "status"} <= set(table.fieldnames):
                raise ValueError(f"{path} lacks a column case or status")
            return [_summary_row({name: text or "" for name, text in row.items()}) for row in table]
        except csv.Error as error:
            raise ValueError(f"{path}: {error}") from error


def _summary_row(row: Mapping[str, str]) -> CaseSummary:
    discs = row.get("discs", "")
    return CaseSummary(
        row["case"],
        row["status"],
        row.get("verdict", ""),
        _texts(row.get("reasons", "")),
        int(discs) if discs.isdecimal() else None,
        _number(row.get("seconds", "")),
        probability_wrong=_number(row.get("probability_wrong", "")),
        remarks=_texts(row.get("remarks", "")),
        corrected=_texts(row.get("corrected", "")),
        lordosis=_lordosis_of(row),
    )


def _lordosis_of(row: Mapping[str, str]) -> Lordosis:
    """From a summary's row; empty where it has no angle and gives the reason of an empty one."""
    angles = {name: _number(row.get(name, "")) for name in _ANGLES}
    angles = {name: value for name, value in angles.items() if value is not None or name in LORDOSIS}
    told = dict(text.split(": ", 1) for text in _texts(row.get(_NO_ANGLE, "")) if ": " in text)
    found, nothing = Lordosis(angles, {name: why for name, why in told.items() if name in LORDOSIS}), Lordosis()
    is_nothing = all(value is None for value in angles.values()) and all(
        found.why(name) == nothing.why(name) for name in LORDOSIS
    )
    return nothing if is_nothing else found


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _texts(cell: str) -> tuple[str, ...]:
    return tuple(text for text in cell.split("; ") if text)


def score_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Scores, one row per case and level, with the columns `SCORE_COLUMNS`; empty where a value is not a number."""
    return csv_text(SCORE_COLUMNS, rows)


def score_tables(
    rows: Sequence[Mapping[str, Any]], beside: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
) -> str:
    """The paper's Tables 1 to 3 in markdown, one row per case, then mean, sd and worst of each disc and of all.

    Args:
        rows: mappings with case, level, dice, asd_mm, localization_error_mm, one a case and level; a missed disc has a
            Dice of 0 and distances that are no number. Means of distances are over found discs.
        beside: rows of other evaluations by name, of which mean, sd and worst follow each table's own.

    Returns:
        Three tables; a disc that the reference lacks, or a distance of a missed disc, is a dash.
    """
    return "\n".join(_paper_table(rows, beside or {}, *table) for table in _PAPER_TABLES)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """A CSV with a header; floats to 6 significant digits, None and not-a-number empty, further keys left out."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if (value := _plain(row.get(name))) is None else value for name in columns])
    return out.getvalue()


def _plain(value: Any) -> Any:
    """A value for CSV and JSON: floats to 6 significant digits, None for what is no finite number."""
    if isinstance(value, (float, np.floating)):
        return float(f"{float(value):.6g}") if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _paper_table(
    rows: Sequence[Mapping[str, Any]], beside: Mapping[str, Sequence[Mapping[str, Any]]],
    title: str, corner: str, key: str, digits: int,
) -> str:  # fmt: skip
    lines = [f"{title}\n", f"| {corner} | " + " | ".join(f"Disc_{level:02d}" for level in _LEVELS) + " | All |",
             "|---" * (LUMBAR_DISCS + 2) + "|"]  # fmt: skip
    for case, cells in _by_case(rows, key).items():
        lines.append(_line(_cell_text(case), [*cells, _mean(cells)], digits))
    for name, others in {"": rows, **beside}.items():
        for statistic, cells in _statistics(others, key).items():
            words = f"{_cell_text(name)}, {statistic}" if name else statistic
            lines.append(_line(f"**{words}**", cells, digits))
    return "\n".join(lines) + "\n"


def _by_case(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[float]]:
    """The values of each case by level, not a number where there is none."""
    values = {(str(row["case"]), int(row["level"])): float(row[key]) for row in rows}
    cases = dict.fromkeys(str(row["case"]) for row in rows)
    return {case: [values.get((case, level), math.nan) for level in _LEVELS] for case in cases}


def _statistics(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[float]]:
    """Mean, standard deviation and worst of each disc, and last of all discs of all cases."""
    cases = _by_case(rows, key).values()
    columns = [[cells[place] for cells in cases] for place in range(LUMBAR_DISCS)]
    columns.append([value for column in columns for value in column])
    worst = min if key == "dice" else max
    return {
        "mean": [_mean(column) for column in columns],
        "sd": [_deviation(column) for column in columns],
        "worst": [worst(_finite(column), default=math.nan) for column in columns],
    }


def _line(name: str, cells: Sequence[float], digits: int) -> str:
    return f"| {name} | " + " | ".join(f"{c:.{digits}f}" if math.isfinite(c) else "–" for c in cells) + " |"  # noqa: RUF001


def _cell_text(text: str) -> str:
    """A name that cannot break a markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _mean(values: Sequence[float]) -> float:
    finite = _finite(values)
    return float(np.mean(finite)) if finite else math.nan


def _deviation(values: Sequence[float]) -> float:
    """Standard deviation of a sample; not a number for fewer than two values."""
    finite = _finite(values)
    return float(np.std(finite, ddof=1)) if len(finite) > 1 else math.nan
