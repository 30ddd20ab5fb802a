"""A reader's gradings of discs, as the SPIDER data have them: a table with the columns Patient, IVD label (1 = the
lowest disc, upward), Pfirrman grade, and whole numbers in others."""

from __future__ import annotations

import csv
from pathlib import Path

from ivdjax.volume import PFIRRMANN_GRADES, UserError

PFIRRMANN = "Pfirrman grade"
"""As the data spell it."""


def read_gradings(path: Path) -> dict[tuple[int, int], dict[str, int]]:
    """What the reader said, by name of the column, of each disc: by patient and level.

    Raises:
        UserError: no such file, or a row that is no grading.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [{name: int(text) for name, text in row.items()} for row in csv.DictReader(stream)]
        found = {(row.pop("Patient"), row.pop("IVD label")): row for row in rows}
        wrong = [key for key, row in found.items() if row[PFIRRMANN] not in PFIRRMANN_GRADES]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} must have the columns Patient, IVD label and {PFIRRMANN}, whole numbers: {error!r}"
                        ) from error  # fmt: skip
    if wrong:
        raise UserError(f"{path}: patient {wrong[0][0]}, disc {wrong[0][1]} has no grade of 1 to 5")
    return found
