"""The page of a whole run: every case in the order in which a person should look at it, with links to its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import quote

from ivdjax.imaging.folders import write_whole
from ivdjax.reports.disc_table import is_unsure, number_text
from ivdjax.reports.document import badge, html_document, items
from ivdjax.reports.tables import CaseSummary
from ivdjax.volume import ASSUMPTION

_STYLE = "assets/cohort.css"
_SCRIPTS = ("assets/cohort.js",)
_IMAGES = "'self' file: data:"

_HEADINGS = (
    ("", ""), ("Case", "text"), ("Verdict", "number"), ("Reasons", "number"),
    ("Chance of an error", "number"), ("Discs", "number"),
    ("Lowest level confidence", "number"), ("Lowest outline confidence", "number"), ("Seconds", "number"),
    ("Files", ""),
)  # fmt: skip
"""Heading of each column, and how a click on it sorts; empty: not at all."""

_STATES = ("failed", "review", "ok")
"""In their order of need."""

_WORDS = (
    "Review: the program found something that speaks against its numbering of the discs, stated under Reasons; a "
    "person should look at the case before its figures are used. Ok: nothing of that kind was found, which is no "
    "proof. Failed: there is no result. Cases stand in the order of their need: failed ones, then those to be "
    "reviewed, among them first those without a disc and those with the larger chance of an error. Level confidence: "
    "how sure the name of a disc is, 0 to 1. Outline confidence: the Dice that a careful outline is expected to have "
    "with this one. Chance of an error: that a level is wrong or a disc in view is missing. "
    f"{ASSUMPTION} For research; not a medical device."
)


@dataclass(frozen=True)
class CohortRow(CaseSummary):
    """One case of a run: its row of the summary, and what a page can show beside it.

    Attributes:
        level_confidence: the lowest of its discs, 0 to 1; None without a disc.
        outline_confidence: likewise.
        links: its files, by what they are ("report", "table"), as paths relative to the page.
        overview: path of its overview picture relative to the page; empty: none is shown.
    """

    level_confidence: float | None = None
    outline_confidence: float | None = None
    links: Mapping[str, str] = field(default_factory=dict)
    overview: str = ""

    @property
    def state(self) -> str:
        """The verdict, or "failed" where there is no result."""
        return "failed" if self.failed else self.verdict


def write_cohort_page(path: Path, rows: Sequence[CohortRow]) -> None:
    """Writes the page, such as OUT/index.html; whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole(path, cohort_page(rows))


def cohort_page(rows: Sequence[CohortRow]) -> str:
    """The page as HTML, its cases in the order of `by_need`. Every text that came from outside is escaped."""
    counts = " ".join(
        f'<span class="count">{badge(state)} {number}</span>'
        for state in _STATES
        if (number := sum(row.state == state for row in rows))
    )
    head = "".join(_heading(*heading) for heading in _HEADINGS)
    lines = "\n".join(_line(place, row) for place, row in enumerate(by_need(rows)))
    cases = f"{len(rows)} case{'' if len(rows) == 1 else 's'}"
    body = f"""<main>
<div class="head"><h1>{cases}</h1>{counts}</div>
<p class="small">{escape(_WORDS)}</p>
<p class="filter" hidden><label>Filter <input type="search" id="filter" placeholder="name, verdict, reason"></label>
<output id="shown"></output></p>
<div class="wide"><table><thead><tr>{head}</tr></thead>
<tbody>
{lines}
</tbody></table></div>
</main>"""
    return html_document(f"Discs of {cases}", body, _STYLE, _SCRIPTS, _IMAGES)


def by_need(rows: Sequence[CohortRow]) -> list[CohortRow]:
    """The cases in the order in which a person should look at them.

    Failed ones, then those to be reviewed, then the others; within these those without any disc, those with
    the larger chance of an error, with the lower level confidence, with the lower outline confidence, by name.
    """

    def need(row: CohortRow) -> tuple[int, bool, float, float, float, str]:
        state = _STATES.index(row.state) if row.state in _STATES else 1
        level, outline = (1.0 if share is None else share for share in (row.level_confidence, row.outline_confidence))
        return state, bool(row.discs), -(row.probability_wrong or 0.0), level, outline, row.case

    return sorted(rows, key=need)


def _heading(text: str, kind: str) -> str:
    if not kind:
        return f'<th scope="col">{escape(text)}</th>'
    return f'<th scope="col" data-sort="{kind}"><button type="button">{escape(text)}</button></th>'


def _line(place: int, row: CohortRow) -> str:
    """A row of the table; `data-value` is what a cell sorts by."""
    name = escape(row.case)
    links = " ".join(f'<a href="{_address(path)}">{escape(kind)}</a>' for kind, path in row.links.items())
    report = row.links.get("report")
    title = f'<a href="{_address(report)}">{name}</a>' if report else name
    cells = [
        f"<td>{_picture(row)}</td>",
        f'<th scope="row" data-value="{name}">{title}</th>',
        f'<td data-value="{place}">{badge(row.state) if row.state else ""}</td>',
        f'<td class="reasons" data-value="{len(row.reasons)}">{items(row.reasons)}</td>',
        _number(row.probability_wrong, 2),
        _number(row.discs, 0),
        _number(row.level_confidence, 2, is_unsure("level_confidence", row.level_confidence)),
        _number(row.outline_confidence, 2, is_unsure("outline_confidence", row.outline_confidence)),
        _number(row.seconds, 1),
        f'<td class="links">{links}</td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _picture(row: CohortRow) -> str:
    if not row.overview:
        return ""
    picture = f'<img loading="lazy" alt="overview of {escape(row.case)}" src="{_address(row.overview)}">'
    report = row.links.get("report")
    return f'<a href="{_address(report)}">{picture}</a>' if report else picture


def _number(value: float | None, digits: int, unsure: bool = False) -> str:
    mark = ' class="number unsure"' if unsure else ' class="number"'
    return f'<td{mark} data-value="{"" if value is None else value}">{number_text(value, digits)}</td>'


def _address(path: str) -> str:
    """A relative path as an address; a colon in it is no scheme."""
    return escape(quote(str(path)))
