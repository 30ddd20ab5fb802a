"""A growing CSV table of numbers by step, that survives kills and resumed runs without duplicates or holes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from ivdjax.imaging.folders import whole_file

Number = float | int


class StepTable:
    """A CSV file with a `step` column first; every row reaches the file at once.

    On opening, rows with a step beyond `last_step` go (a resumed run writes them again), and so does a row that a kill
    cut short. A column that is new in a later row is added to all rows, empty where it was not known.
    """

    def __init__(self, path: Path, last_step: int, columns: tuple[str, ...] = ()) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._columns, self._rows = _read(path, last_step)
        self._columns += [name for name in ("step", *columns) if name not in self._columns]
        self._rewrite()

    @property
    def last(self) -> dict[str, str]:
        """The last row as the file has it, empty without one."""
        return dict(zip(self._columns, self._rows[-1], strict=False)) if self._rows else {}

    def append(self, step: int, values: Mapping[str, Number]) -> None:
        """Adds one row; numbers have nine significant digits, as many as float32 needs.

        Rows of this step or later ones go: what is done again after a resume takes the place of what was done before.

        Raises:
            OSError: the file cannot be written.
        """
        named = {"step": step, **values}
        new = [name for name in named if name not in self._columns]
        row = [_text(named[name]) if name in named else "" for name in [*self._columns, *new]]
        kept = [old for old in self._rows if int(old[0]) < step]
        again = len(kept) < len(self._rows)
        self._rows = [*kept, row]
        if new or again:
            self._columns += new
            self._rewrite()
            return
        with self._path.open("a", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerow(row)

    def _rewrite(self) -> None:
        with whole_file(self._path) as part, part.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(self._columns)
            writer.writerows([*row, *[""] * (len(self._columns) - len(row))] for row in self._rows)


def _read(path: Path, last_step: int) -> tuple[list[str], list[list[str]]]:
    """Columns and the rows to keep; both empty for a file that is missing, empty or no such table."""
    if not path.is_file():
        return [], []
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        # A kill leaves at most one line without its end; what it holds may be half a number.
        lines = [line for line in stream if line.endswith("\n")]
    columns, *rows = list(csv.reader(lines)) or [[]]
    if not columns or columns[0] != "step":
        return [], []
    return columns, [row for row in rows if len(row) == len(columns) and row[0].isdigit() and int(row[0]) <= last_step]


def _text(value: Number) -> str:
    return str(value) if isinstance(value, int) else f"{float(value):.9g}"
