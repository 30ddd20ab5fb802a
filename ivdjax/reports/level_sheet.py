"""The discs as radiologists write them: a column a level, from T12/L1 to L5/S1, as a page to print and as plain text.

Both are made of the same cells. What cannot be given says why in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ivdjax.reports.columns import COLUMNS
from ivdjax.reports.disc_table import is_unsure, level_dot
from ivdjax.reports.tables import disc_rows
from ivdjax.volume import ASSUMPTION, LORDOSIS, PFIRRMANN_GRADES, READERS, Disc, Lordosis, level_name

SCRIPT = "assets/level_sheet.js"
"""What the sheet's buttons need in the page."""

LEVELS = (6, 5, 4, 3, 2, 1)
"""T12/L1 to L5/S1, from the top down, and those of an image that shows others alone."""

NO_LORDOSIS = Lordosis()

_NOT_FOUND = "disc not found"
_GRADE = "pfirrmann_grade"
_REASONS = "reasons"
_NOT_GIVEN = {column.name: column.empty_when for column in COLUMNS}


@dataclass(frozen=True)
class _Part:
    """One number of a cell: its column, the words round it with {} in its place, and those of its absence."""

    column: str
    words: str
    digits: int
    absent: str = ""
    """With {} in the place of the reason; empty: nothing is said where another number of the cell is there."""


@dataclass(frozen=True)
class _Line:
    """One line of the sheet: its heading, and its parts, of which the first one counts."""

    heading: str
    parts: tuple[_Part, ...]
    note: str = ""


_LINES: tuple[_Line, ...] = (
    _Line("Height", (_Part("middle_height_mm", "{} mm", 1), _Part("disc_height_index", "index {}", 2)),
          "middle of the disc; index: mean height over AP width"),
    _Line("Nucleus to CSF", (_Part("nucleus_over_csf", "{}", 2), _Part("nucleus_over_marrow", "to marrow {}", 2)),
          "signal, T2"),
    _Line("Pfirrmann estimate", (_Part(_GRADE, "{}", 0), _Part("pfirrmann_expected", "mean {}", 1)),
          "no diagnosis"),
    _Line("Bulge", (_Part("posterior_overhang_mm", "{} mm", 1),), "beyond the line of the end plates' rear corners"),
    _Line("Slip", (_Part("slip_mm", "{} mm", 1), _Part("slip_percent", "{} %", 0)), "positive: upper body forward"),
    _Line("Canal", (_Part("canal_ap_mm", "{} mm", 1), _Part("canal_area_mm2", "{} mm²", 0, "no area: {}")),
          "AP diameter and area at the disc"),
)  # fmt: skip


def level_sheet(discs: Sequence[Disc], lordosis: Lordosis = NO_LORDOSIS, corrected: bool = False) -> str:
    """The sheet as HTML, with its text and the buttons that copy and print; empty without a disc.

    Args:
        discs: from the lowest level up.
        lordosis: of the spine.
        corrected: whether a person has changed levels or outlines; a sentence says so.
    """
    if not discs:
        return ""
    rows = _by_level(discs)
    heads = "".join(f'<th scope="col">{_head(level, rows.get(level))}</th>' for level in LEVELS)
    body = "\n".join([*(_html_line(line, rows) for line in _LINES), _html_lordosis(lordosis)])
    notes = " ".join([READERS] if has_grades(rows.values()) else [])
    measured = f"Measured {_by('a program', corrected)} for research, not a medical device."
    return f"""<section class="sheet" aria-label="Levels">
<h2>Levels</h2>
<div class="wide"><table class="levels">
<thead><tr><th scope="col">Level</th>{heads}</tr></thead>
<tbody>
{body}
</tbody></table></div>
<p class="small">{escape(notes)} {escape(measured)} {ASSUMPTION}</p>
<p class="buttons" hidden><button type="button" id="copy-levels">Copy as text</button>
<button type="button" id="print-levels">Print</button> <output id="levels-said" aria-live="polite"></output></p>
<details class="text"><summary>The same as text</summary>
<pre id="levels-text">{escape(level_text(discs, lordosis, corrected))}</pre></details>
</section>"""


def level_text(discs: Sequence[Disc], lordosis: Lordosis = NO_LORDOSIS, corrected: bool = False) -> str:
    """The sheet as plain text, a line a level from the top down, to paste into a structured report.

    Args:
        discs: from the lowest level up; none gives a sentence.
        lordosis: of the spine.
        corrected: whether a person has changed levels or outlines; a sentence says so.
    """
    if not discs:
        return "No disc was found.\n"
    rows = _by_level(discs)
    found = [rows[level] for level in LEVELS if level in rows]
    blank = [line for line in _LINES if found and not any(_words(line.parts[0], row) for row in found)]
    given = [line for line in _LINES if line not in blank]
    lines = [f"{level_name(level)}: {_text_line(given, rows[level])}" if level in rows
             else f"{level_name(level)}: {_NOT_FOUND}." for level in LEVELS]  # fmt: skip
    lines += [f"{line.heading}: not given ({_why(line, found[0])})." for line in blank]  # said once for all levels
    lines.append(_text_lordosis(lordosis))
    notes = [READERS] if has_grades(rows.values()) else []
    notes += [f"Measured {_by('a program (ivdjax)', corrected)} for research, not a medical device. {ASSUMPTION}"]
    return "\n".join([*lines, *notes]) + "\n"


def _by(program: str, corrected: bool) -> str:
    return f"by {program}, after a person's correction," if corrected else f"by {program}"


def _text_lordosis(lordosis: Lordosis) -> str:
    told = [f"{ends} {angle or 'not given'} {further}".rstrip() for ends, angle, further in _lordosis(lordosis)]
    return f"Lordosis: {'; '.join(told)}."


def _html_lordosis(lordosis: Lordosis) -> str:
    """One cell over all levels."""
    told = [
        f'{ends} <span class="first">{angle}</span> {escape(further)}' if angle
        else f'<span class="none">{ends} not given {escape(further)}</span>'
        for ends, angle, further in _lordosis(lordosis)
    ]  # fmt: skip
    return (f'<tr><th scope="row">Lordosis<span class="note">angle between end plates</span></th>'
            f'<td class="spine" colspan="{len(LEVELS)}">{"; ".join(told)}</td></tr>')  # fmt: skip


def _lordosis(lordosis: Lordosis) -> list[tuple[str, str, str]]:
    """Between which vertebrae, the angle or nothing, and in brackets its standard error or why it is not given."""
    told = []
    for name, ends in LORDOSIS.items():
        angle, error = lordosis.measures.get(name), lordosis.measures.get(f"{name}_se")
        if angle is None:
            told.append((ends, "", f"({lordosis.why(name)})"))
        else:
            told.append((ends, f"{angle:.0f}°", "" if error is None else f"(standard error {error:.1f}°)"))
    return told


def _by_level(discs: Sequence[Disc]) -> dict[int, dict[str, Any]]:
    """The table's rows by level, each with the disc's own reasons beside its measures."""
    return {disc.level: row | {_REASONS: disc.missing} for disc, row in zip(discs, disc_rows(discs), strict=True)}


def has_grades(discs: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a grade was estimated of any of some discs, given the measures of each."""
    return any(measures.get(_GRADE) is not None for measures in discs)


def _words(part: _Part, row: Mapping[str, Any]) -> str:
    """A number in its words; empty for none. What rounds to zero has no sign."""
    value = row.get(part.column)
    if value is None:
        return ""
    text = f"{round(value, part.digits) + 0.0:.{part.digits}f}"
    return part.words.format(text)


def _further(line: _Line, row: Mapping[str, Any]) -> list[str]:
    """What stands behind the first number of a cell."""
    return [
        words for part in line.parts[1:]
        if (words := _words(part, row) or (part.absent and part.absent.format(_reason(part.column, row))))
    ]  # fmt: skip


def _why(line: _Line, row: Mapping[str, Any] | None) -> str:
    """Why a line's number is not given."""
    return _NOT_FOUND if row is None else _reason(line.parts[0].column, row)


def _reason(column: str, row: Mapping[str, Any]) -> str:
    return str(row[_REASONS].get(column) or _NOT_GIVEN.get(column) or "not measured")


def _shares(row: Mapping[str, Any]) -> list[float]:
    """Probability of each grade; empty where there is none."""
    found = [row.get(f"pfirrmann_probability_{grade}") for grade in PFIRRMANN_GRADES]
    return [] if None in found else [float(share) for share in found if share is not None]


def _text_line(lines: Sequence[_Line], row: Mapping[str, Any]) -> str:
    said = []
    for line in lines:
        found = _further(line, row)
        name = line.heading
        if line.parts[0].column != _GRADE:  # named after a person
            name = name[0].lower() + name[1:]
        if not _words(line.parts[0], row):
            said.append(f"{name} not given ({_why(line, row)})")
            continue
        if line.parts[0].column == _GRADE:
            found.append(", ".join(f"grade {grade} {100 * share:.0f} %"
                                   for grade, share in zip(PFIRRMANN_GRADES, _shares(row), strict=True)))  # fmt: skip
        said.append(f"{name} {_words(line.parts[0], row)}" + (f" ({'; '.join(found)})" if found else ""))
    return "; ".join(said) + "."


def _head(level: int, row: Mapping[str, Any] | None) -> str:
    name = f"{level_dot(level)}{escape(level_name(level))}"
    unsure = row is not None and is_unsure("level_confidence", row["level_confidence"])
    return f'<span class="unsure">{name}?</span>' if unsure else name


def _html_line(line: _Line, rows: Mapping[int, Mapping[str, Any]]) -> str:
    note = f'<span class="note">{escape(line.note)}</span>' if line.note else ""
    head = f'<th scope="row">{escape(line.heading)}{note}</th>'
    found = [rows[level] for level in LEVELS if level in rows]
    if found and not any(_words(line.parts[0], row) for row in found):  # one reason says it for all levels
        return f'<tr>{head}<td class="none" colspan="{len(LEVELS)}">{escape(_why(line, found[0]))}</td></tr>'
    return f"<tr>{head}{''.join(_html_cell(line, rows.get(level)) for level in LEVELS)}</tr>"


def _html_cell(line: _Line, row: Mapping[str, Any] | None) -> str:
    first = _words(line.parts[0], row) if row is not None else ""
    if row is None or not first:
        return f'<td class="none">{escape(_why(line, row))}</td>'
    further = "".join(f'<span class="further">{escape(words)}</span>' for words in _further(line, row))
    bars = _bars(_shares(row)) if line.parts[0].column == _GRADE else ""
    return f'<td><span class="first">{escape(first)}</span>{further}{bars}</td>'


def _bars(shares: Sequence[float]) -> str:
    """The probability of each grade as a bar."""
    bars = "".join(
        f'<span class="bar"><span>{grade}</span><span class="rail"><span style="width:{100 * share:.1f}%"></span>'
        f"</span><span>{100 * share:.0f} %</span></span>"
        for grade, share in zip(PFIRRMANN_GRADES, shares, strict=True)
    )
    return f'<span class="bars">{bars}</span>' if shares else ""
