"""The columns of the disc table in coded terms, for DICOM reports and for programs that read the JSON.

A measure that DICOM's coding schemes have exactly gets their code. Few do: a scheme that knows "height" of a patient
does not know the posterior height of a disc, and a code that nearly fits would mislead. All others have a code of the
program's own scheme, which is the column's name; docs/measures.md defines them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ivdjax.imaging.files.codes import SCHEME, disc_code
from ivdjax.imaging.files.dicom_sr import PRIVATE_SCHEME, Reading
from ivdjax.imaging.files.segment import Term
from ivdjax.reports.columns import COLUMNS, ERROR_ENDING, Column
from ivdjax.reports.tables import disc_rows
from ivdjax.volume import Disc

_STANDARD: Mapping[str, Term] = {"volume_mm3": ("118565006", SCHEME, "Volume")}

_GRADE, _GRADE_METHOD = "pfirrmann_", (
    "PfirrmannEstimate", PRIVATE_SCHEME, "Estimate from measures; readers' kappa about 0.6; no diagnosis")  # fmt: skip
"""What the columns of an estimated grade begin with, and the method that is told of them."""

_UNITS: Mapping[str, Term] = {
    "": ("1", "UCUM", "no units"),
    "mm": ("mm", "UCUM", "mm"),
    "mm²": ("mm2", "UCUM", "square millimeter"),
    "mm³": ("mm3", "UCUM", "cubic millimeter"),
    "°": ("deg", "UCUM", "Degree"),
    "%": ("%", "UCUM", "Percent"),
}
"""UCUM codes of the units of the columns."""

_UNCODED = ("level", "centroid_x_mm", "centroid_y_mm", "centroid_z_mm")
"""Numbers that are no measures: a level has a code of its own, a place means nothing without its image."""

_SHORT = {"ap": "AP", "csf": "CSF"}
"""Words of columns' names that are short for others."""

_UNIT_ENDINGS = ("_mm3", "_mm2", "_mm", "_deg", "_percent")


def measure_terms(column: Column) -> tuple[Term, Term]:
    """Name and unit of a column in coded terms.

    Raises:
        KeyError: the column's unit has no code.
    """
    return _STANDARD.get(column.name) or (column.name, PRIVATE_SCHEME, _words(column.name)), _UNITS[column.unit]


def disc_readings(discs: Sequence[Disc]) -> dict[str, list[Reading]]:
    """What was measured of each disc, by the code value of its level, in the order of the columns.

    What could not be measured is left out.
    """
    return {
        disc_code(disc.level).value: [
            Reading(
                name,
                float(row[column.name]),
                unit,
                _GRADE_METHOD if column.name.startswith(_GRADE) else None,
                row.get(f"{column.name}{ERROR_ENDING}"),
            )
            for column, (name, unit) in _coded()
            if row.get(column.name) is not None
        ]
        for disc, row in zip(discs, disc_rows(discs), strict=True)
    }


def codes_of(discs: Sequence[Disc]) -> dict[str, Any]:
    """The codes of the levels and of the measures of discs, as the disc JSON holds them beside the table."""
    there = {name for row in disc_rows(discs) for name, value in row.items() if value is not None}
    levels = {str(disc.level): disc_code(disc.level) for disc in discs}
    return {
        "levels": {level: _document((code.value, code.scheme, code.meaning)) for level, code in levels.items()},
        "measures": {column.name: _document(name) | {"unit": unit[0]} for column, (name, unit) in _coded()
                     if column.name in there},
    }  # fmt: skip


def _coded() -> list[tuple[Column, tuple[Term, Term]]]:
    return [(column, measure_terms(column)) for column in COLUMNS if column.kind == "number"
            and column.name not in _UNCODED]  # fmt: skip


def _document(term: Term) -> dict[str, str]:
    return dict(zip(("value", "scheme", "meaning"), term, strict=True))


def _words(name: str) -> str:
    """A column's name in words, without its unit."""
    for ending in _UNIT_ENDINGS:
        name = name.removesuffix(ending)
    words = " ".join(_SHORT.get(word, word) for word in name.split("_"))
    return words[0].upper() + words[1:]
