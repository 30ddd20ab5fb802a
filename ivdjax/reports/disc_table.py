"""The disc table as HTML: the columns that a person reads, uppermost disc first, for the report and for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ivdjax.config import InferenceConfig
from ivdjax.reports.colours import hex_colour, level_colour
from ivdjax.reports.columns import COLUMNS
from ivdjax.reports.tables import disc_rows
from ivdjax.volume import Disc

UNSURE_LEVEL = 1.0 - InferenceConfig().review_above
"""A level of lower confidence is marked: the verdict's own threshold, seen from the other side. The overview puts a
question mark behind its name."""
UNSURE_OUTLINE = 0.7
"""An outline of which a lower Dice is expected is marked."""

_DASH = "–"  # noqa: RUF001

_SHOWN: tuple[tuple[str, str, int], ...] = (
    ("level_confidence", "Level confidence", 2), ("outline_confidence", "Outline confidence", 2),
    ("volume_mm3", "Volume mm³", 0), ("volume_in_view_mm3", "Volume in view mm³", 0), ("cut_at", "Cut at", 0),
    ("anterior_height_mm", "Anterior height mm", 1), ("middle_height_mm", "Middle height mm", 1),
    ("posterior_height_mm", "Posterior height mm", 1), ("disc_height_index", "Height index", 2),
    ("ap_width_mm", "AP width mm", 1), ("lateral_width_mm", "Lateral width mm", 1),
    ("wedge_angle_deg", "Wedge angle °", 1), ("tilt_deg", "Tilt °", 0), ("fat_fraction", "Fat fraction", 2),
)  # fmt: skip
"""Key, heading and decimals of the columns that a person reads; the CSV beside the report holds all."""
_OF_CUT_DISCS = ("volume_in_view_mm3", "cut_at")
_OF_DIXON = ("fat_fraction",)

_MEANINGS = {column.name: column.meaning for column in COLUMNS}

_UNSURE = {"level_confidence": UNSURE_LEVEL, "outline_confidence": UNSURE_OUTLINE}

_CELL = "padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:right"
_NAME_CELL = "padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:left;white-space:nowrap"
_DOT = (
    "display:inline-block;width:.8em;height:.8em;border-radius:50%;border:1px solid #0004;margin-right:.5em;"
    "vertical-align:-.05em"
)


def disc_table_html(discs: Sequence[Disc]) -> str:
    """The disc table alone with its style in its elements, as a notebook shows it; a sentence for no disc."""
    if not discs:
        return "<p>No disc was found.</p>"
    columns, rows = _shown(discs)
    head = "".join(f'<th style="{_CELL}">{escape(heading)}</th>' for _, heading, _ in columns)
    lines = []
    for disc, row in rows:
        cells = "".join(f'<td style="{_CELL}">{number_text(row.get(key), digits)}</td>' for key, _, digits in columns)
        lines.append(f'<tr><td style="{_NAME_CELL}">{level_dot(disc.level)}{escape(disc.level_name)}</td>{cells}</tr>')
    table = 'style="border-collapse:collapse;font-variant-numeric:tabular-nums"'
    return f'<table {table}>\n<tr><th style="{_NAME_CELL}">Disc</th>{head}</tr>\n' + "\n".join(lines) + "\n</table>"


def selectable_table(discs: Sequence[Disc], detectable: Mapping[str, float]) -> str:
    """The disc table of a report: rows carry `data-level`, and a button in each names the disc, for mouse and keyboard.

    Args:
        discs: from the lowest level up.
        detectable: smallest change between two scans that lies beyond the measurement's own noise, by column; those
            of shown columns stand below them.
    """
    if not discs:
        return "<p>No disc was found.</p>"
    columns, rows = _shown(discs)
    head = "".join(f'<th scope="col" title="{escape(_MEANINGS.get(key, ""))}">{escape(heading)}</th>'
                   for key, heading, _ in columns)  # fmt: skip
    lines = [f'<thead><tr><th scope="col">Disc</th>{head}</tr></thead>', "<tbody>"]
    for disc, row in rows:
        cells = "".join(_cell(key, row.get(key), digits) for key, _, digits in columns)
        name = f'<button type="button" aria-pressed="false">{level_dot(disc.level)}{escape(disc.level_name)}</button>'
        lines.append(f'<tr data-level="{disc.level}"><th scope="row">{name}</th>{cells}</tr>')
    lines.append("</tbody>")
    if any(key in detectable for key, _, _ in columns):
        cells = "".join(f"<td>{number_text(detectable.get(key), max(digits, 1))}</td>" for key, _, digits in columns)
        lines.append(f'<tfoot><tr><th scope="row">Smallest detectable change</th>{cells}</tr></tfoot>')
    return '<div class="wide"><table class="discs">\n' + "\n".join(lines) + "\n</table></div>"


def number_text(value: Any, digits: int) -> str:
    """A number with so many decimals, a text escaped, a dash for None."""
    if value is None or value == "":
        return _DASH
    return f"{value:z.{digits}f}" if isinstance(value, (int, float)) else escape(str(value))


def level_dot(level: int) -> str:
    """A dot in a level's colour."""
    return f'<span style="{_DOT};background:{hex_colour(level_colour(level))}"></span>'


def is_unsure(key: str, value: Any) -> bool:
    """Whether a confidence (`level_confidence` or `outline_confidence`) is so low that it is marked."""
    return key in _UNSURE and value is not None and value < _UNSURE[key]


def _shown(discs: Sequence[Disc]) -> tuple[list[tuple[str, str, int]], list[tuple[Disc, dict[str, Any]]]]:
    """The columns that are shown, and the discs with their rows from the uppermost down."""
    rows = disc_rows(discs)
    left_out = set() if any(disc.cut_at for disc in discs) else set(_OF_CUT_DISCS)
    left_out.update(key for key in _OF_DIXON if all(row.get(key) is None for row in rows))
    columns = [column for column in _SHOWN if column[0] not in left_out]
    return columns, list(zip(reversed(discs), reversed(rows), strict=True))


def _cell(key: str, value: Any, digits: int) -> str:
    mark = ' class="unsure"' if is_unsure(key, value) else ""
    return f"<td{mark}>{number_text(value, digits)}</td>"
