"""Cases chosen by what an earlier run said of them: conditions on the rows of a summary.csv."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ivdjax.commands.commands import describe_os_error
from ivdjax.reports.tables import SUMMARY
from ivdjax.volume import UserError

_CONDITION = re.compile(r"\s*([A-Za-z_0-9]+)\s*(!=|<=|>=|=|<|>|~)\s*(.*?)\s*", re.DOTALL)

_NUMBERS: dict[str, Callable[[float, float], bool]] = {
    "<": float.__lt__, ">": float.__gt__, "<=": float.__le__, ">=": float.__ge__,
}  # fmt: skip


def selected(summary: Path, conditions: Sequence[str]) -> frozenset[str]:
    """Names of the cases whose row in a summary fulfils every condition.

    A condition is `COLUMN=VALUE`, `COLUMN!=VALUE`, `COLUMN~TEXT` (contains it) or `COLUMN<NUMBER` (also >, <=, >=).
    Texts are compared without regard to case. An empty cell fulfils `=` with nothing, `!=`, and no comparison of size.

    Args:
        summary: the table, or the folder that holds it.
        conditions: at least one.

    Raises:
        UserError: there is no such table, it cannot be read, a condition is none, names no column, compares with what
            is not a number, or no case fulfils all.
    """
    path = summary / SUMMARY if summary.is_dir() else summary
    columns, rows = _read(path)
    tests = [_test(condition, columns, path) for condition in conditions]
    found = frozenset(row["case"] for row in rows if all(test(row) for test in tests))
    if not found:
        raise UserError(f"no case of {path} fulfils {' and '.join(conditions)}; it has {len(rows)} cases")
    return found


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream)
            rows = [{key: value or "" for key, value in row.items() if key} for row in table]
            columns = list(table.fieldnames or ())
    except FileNotFoundError:
        raise UserError(f"--where: there is no {path}; it selects from the summary of an earlier run") from None
    except (OSError, csv.Error, ValueError) as error:
        why = describe_os_error(error) if isinstance(error, OSError) else str(error)
        raise UserError(f"--where: {path} cannot be read: {why}") from error
    if "case" not in columns:
        raise UserError(f"--where: {path} is not a summary of cases: it has no column 'case'")
    return columns, rows


def _test(condition: str, columns: Sequence[str], path: Path) -> Callable[[dict[str, str]], bool]:
    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise UserError(f"--where takes COLUMN=VALUE, such as verdict=review, not {condition!r}")
    column, sign, value = match.groups()
    if column not in columns:
        near = difflib.get_close_matches(column, columns, n=1)
        advice = f"did you mean {near[0]}?" if near else f"it has {', '.join(columns)}"
        raise UserError(f"--where {condition}: {path} has no column {column}; {advice}")
    if sign in _NUMBERS:
        compare, wanted = _NUMBERS[sign], _number(value)
        if wanted is None:
            raise UserError(f"--where {condition}: {value!r} is not a number")
        return lambda row: (own := _number(row[column])) is not None and compare(own, wanted)
    text = value.casefold()
    if sign == "~":
        return lambda row: text in row[column].casefold()
    return lambda row: (row[column].casefold() == text) == (sign == "=")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
