"""What changed between the visits of subjects: a table (CSV), and a page that opens anywhere, without a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import quote

from ivdjax.reports.change_chart import BEYOND, course_svg
from ivdjax.reports.colours import VERDICT, hex_colour, level_colour
from ivdjax.reports.tables import csv_text

CHANGE_COLUMNS: tuple[str, ...] = (
    "subject", "level", "level_name", "measure", "unit", "visit_from", "visit_to", "before", "after", "change",
    "change_percent", "smallest_detectable_change", "beyond_noise", "remark",
)  # fmt: skip
"""Of the table of changes, in this order."""

Row = Mapping[str, Any]
"""One line of that table."""

_PICTURED = (
    "volume_mm3", "volume_in_view_mm3", "anterior_height_mm", "middle_height_mm", "posterior_height_mm", "fat_fraction",
)  # fmt: skip
"""Measures that are drawn; the volume in view stands in where no whole volume was measured."""

_DECIMALS = {"mm": 2, "mm2": 0, "mm3": 0, "deg": 1, "%": 1}
_SIGNS = {"mm2": "mm²", "mm3": "mm³", "deg": "°"}

_STYLE = f"""
:root {{ color-scheme: light; }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 80rem; margin: 1.5rem auto;
       padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; margin: 0; }} h2 {{ font-size: 1.25rem; margin: 2.4rem 0 .4rem; border-top: 2px solid #ddd;
       padding-top: 1rem; }}
h3 {{ font-size: 1rem; margin: 1.2rem 0 .3rem; }}
.badge {{ color: #fff; border-radius: .4rem; padding: .1rem .5rem; font-weight: 600; font-size: .85rem; }}
.notice {{ border-left: .35rem solid #c26a00; background: #fff4e2; padding: .5rem .9rem; margin: .7rem 0; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }}
th {{ vertical-align: bottom; font-weight: 600; }}
th:first-child, td:first-child {{ text-align: left; white-space: nowrap; }}
ul.small {{ margin: .3rem 0; }}
td small, th small {{ color: #666; font-weight: 400; display: block; white-space: nowrap; }}
td.beyond {{ background: #fbe9e7; color: {BEYOND}; font-weight: 700; white-space: nowrap; }}
td.unknown {{ color: #777; }}
.pictures {{ display: flex; flex-wrap: wrap; gap: .5rem 2rem; }}
figure {{ margin: 0; }} figcaption {{ font-size: .9rem; font-weight: 600; }}
svg {{ max-width: 100%; height: auto; }}
svg text {{ font: 11px system-ui, sans-serif; fill: #444; }}
.dot {{ display: inline-block; width: .8rem; height: .8rem; border-radius: 50%; border: 1px solid #0004;
       margin-right: .5rem; vertical-align: -.05rem; }}
.small {{ color: #555; font-size: .9rem; }}
"""

_MEANING = (
    "A change is set off where it is beyond the measurement's own repeatability: larger than the smallest detectable "
    "change (± under each heading), which two measurements of one unchanged disc, scanned anew, exceed in 5 of 100 "
    "pairs. A smaller change may be noise alone. A larger one is no proof either: of many comparisons, 5 in 100 lie "
    "beyond it by chance where nothing has changed."
)
_BOUNDS = (
    "Another scanner, sequence or slice thickness, and a patient who moves, lies otherwise or comes at another hour of "
    "the day, change what is measured by more than that. For research; not a medical device."
)
_UNKNOWN_NOISE = (
    "How well these measures repeat is not known for this model: no change here can be told from noise. "
    "docs/two_visits.md says how that is measured."
)


@dataclass(frozen=True)
class VisitNote:
    """What the page says of one visit: its name, verdict, the reasons for it, and a relative link to its report."""

    name: str
    verdict: str
    reasons: Sequence[str] = ()
    link: str = ""


@dataclass(frozen=True)
class SubjectChanges:
    """What the page says of one subject.

    Attributes:
        subject: the name.
        visits: in their order, the baseline first.
        rows: changes of every later visit against the baseline, with the columns `CHANGE_COLUMNS`.
        repeatability: where the smallest detectable changes come from, in plain words; empty: they are not known.
        warnings: what speaks against comparing the visits.
    """

    subject: str
    visits: Sequence[VisitNote]
    rows: Sequence[Row]
    repeatability: str = ""
    warnings: Sequence[str] = field(default_factory=tuple)


def changes_csv(rows: Iterable[Row]) -> str:
    """The table of changes, one row per disc, measure and pair of visits."""
    return csv_text(CHANGE_COLUMNS, rows)


def count_beyond(rows: Iterable[Row]) -> tuple[int, int]:
    """How many changes lie beyond the noise, and how many could be judged."""
    judged = [row["beyond_noise"] for row in rows if row["beyond_noise"] != "unknown"]
    return judged.count("yes"), len(judged)


def changes_page(subjects: Sequence[SubjectChanges], notes: Sequence[str] = ()) -> str:
    """The page of all subjects as HTML, one self-contained file. Every text that came from outside is escaped.

    Args:
        subjects: in the order in which they are shown.
        notes: about the whole, such as subjects that were left out.
    """
    title = f"Changes of discs: {subjects[0].subject}" if len(subjects) == 1 else "Changes of discs"
    parts = [
        "<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>", f"<style>{_STYLE}</style>", "</head>", "<body>",
        f"<h1>{escape(title)}</h1>", f"<p>{escape(_MEANING)}</p>", f'<p class="small">{escape(_BOUNDS)}</p>',
        *(_notice(note) for note in notes), _index(subjects) if len(subjects) > 1 else "",
        *(_section(number, subject) for number, subject in enumerate(subjects)), "</body>", "</html>",
    ]  # fmt: skip
    return "\n".join(part for part in parts if part) + "\n"


def _index(subjects: Sequence[SubjectChanges]) -> str:
    """A table of subjects with links to their sections."""
    lines = []
    for number, subject in enumerate(subjects):
        beyond, judged = count_beyond(subject.rows)
        review = sum(visit.verdict != "ok" for visit in subject.visits)
        lines.append(
            f'<tr><td><a href="#s{number}">{escape(subject.subject)}</a></td><td>{len(subject.visits)}</td>'
            f"<td>{beyond} of {judged}</td><td>{review or ''}</td></tr>"
        )
    head = "<tr><th>Subject</th><th>Visits</th><th>Beyond the noise</th><th>Visits to review</th></tr>"
    return f'<div class="wide"><table>\n{head}\n{"".join(lines)}\n</table></div>'


def _section(number: int, subject: SubjectChanges) -> str:
    names = [visit.name for visit in subject.visits]
    beyond, judged = count_beyond(subject.rows)
    if subject.repeatability and not judged:
        noise = _notice("No change can be judged here; the remarks below the tables say why.")
    elif subject.repeatability:
        words = f"{beyond} of {judged} changes lie beyond the measurement's own repeatability"
        by_chance = f" (about {0.05 * judged:.0f} would by chance)" if judged >= 10 else ""
        noise = f"<p>{words}{by_chance}. The measure of the noise: {escape(subject.repeatability)}.</p>"
    else:
        noise = _notice(_UNKNOWN_NOISE)
    parts = [
        f'<h2 id="s{number}">{escape(subject.subject)}</h2>', _visits(subject.visits),
        *(_notice(text) for text in subject.warnings), noise, _pictures(subject.rows, names),
    ]  # fmt: skip
    for name in names[1:]:
        rows = [row for row in subject.rows if row["visit_to"] == name]
        parts += [f"<h3>{escape(names[0])} → {escape(name)}</h3>", _table(rows)]
    return "\n".join(part for part in parts if part)


def _notice(text: str) -> str:
    return f'<p class="notice">{escape(text)}</p>'


def _visits(visits: Sequence[VisitNote]) -> str:
    lines = []
    for visit in visits:
        name = f'<a href="{escape(quote(visit.link))}">{escape(visit.name)}</a>' if visit.link else escape(visit.name)
        badge = f'<span class="badge" style="background:{VERDICT.get(visit.verdict, "#555")}">'
        reasons = f" {escape('; '.join(visit.reasons))}" if visit.reasons else ""
        lines.append(f"<li>{name} {badge}{escape(visit.verdict.upper())}</span>{reasons}</li>")
    return f"<ol>{''.join(lines)}</ol>"


def _pictures(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Courses of the measures that tell most, over all visits."""
    measured = {row["measure"] for row in rows}
    figures = []
    for measure in _PICTURED:
        own = [row for row in rows if row["measure"] == measure]
        if not own or (measure == "volume_in_view_mm3" and "volume_mm3" in measured):
            continue
        unit, limit = str(own[0]["unit"]), own[0]["smallest_detectable_change"]
        if all(row["beyond_noise"] == "unknown" for row in own):
            limit = None
        unjudged = {(row["level"], names.index(row["visit_to"])) for row in own if row["beyond_noise"] == "unknown"}
        svg = course_svg(_heading(measure, unit), _SIGNS.get(unit, unit), _courses(own, names), limit, unjudged)
        figures.append(f"<figure><figcaption>{escape(_heading(measure, unit))}</figcaption>{svg}</figure>")
    if not figures:
        return ""
    legend = (
        "Each disc at its visits, from left to right. Band: first visit ± smallest detectable change; a diamond lies "
        "outside of it."
    )
    return f'<div class="pictures">{"".join(figures)}</div>\n<p class="small">{legend}</p>'


def _courses(rows: Sequence[Row], names: Sequence[str]) -> dict[int, list[float | None]]:
    """The values of one measure by level, in the order of the visits."""
    courses: dict[int, list[float | None]] = {}
    for row in rows:
        course = courses.setdefault(row["level"], [None] * len(names))
        course[0] = row["before"]
        course[names.index(row["visit_to"])] = row["after"]
    return courses


def _table(rows: Sequence[Row]) -> str:
    """Discs by measures for one pair of visits, the highest disc on top."""
    if not rows:
        return "<p>No disc was measured at these visits.</p>"
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    by_place = {(row["level"], row["measure"]): row for row in rows}
    head = "".join(
        _head(measure, next(row for row in rows if row["measure"] == measure)) for measure in measures
    )  # fmt: skip
    lines = []
    for level in sorted({row["level"] for row in rows}, reverse=True):
        own = [row for row in rows if row["level"] == level]
        dot = f'<span class="dot" style="background:{hex_colour(level_colour(level))}"></span>'
        cells = "".join(_cell(by_place.get((level, measure))) for measure in measures)
        lines.append(f"<tr><td>{dot}{escape(own[0]['level_name'])}</td>{cells}</tr>")
    body = "\n".join(lines)
    return f'<div class="wide"><table>\n<tr><th>Disc</th>{head}</tr>\n{body}\n</table></div>\n{_remarks(rows)}'


def _head(measure: str, row: Row) -> str:
    limit, unit = row["smallest_detectable_change"], row["unit"]
    noise = f"<small>± {_figure(limit, unit)}</small>" if limit is not None else "<small>± ?</small>"
    return f"<th>{escape(_heading(measure, unit))}{noise}</th>"


def _cell(row: Row | None) -> str:
    if row is None:
        return "<td></td>"
    unit = row["unit"]
    pair = f"<small>{_figure(row['before'], unit)} → {_figure(row['after'], unit)}</small>"
    if row["change"] is None:
        return f'<td class="unknown">–{pair}</td>'  # noqa: RUF001
    words = _figure(row["change"], unit, "+")
    if row["beyond_noise"] == "yes":
        return f'<td class="beyond">{"▲" if row["change"] > 0 else "▼"} {words}{pair}</td>'
    kind = ' class="unknown"' if row["beyond_noise"] == "unknown" else ""
    return f"<td{kind}>{words}{pair}</td>"


def _remarks(rows: Sequence[Row]) -> str:
    """Remarks, each once, with its discs from the top down, and its measures where these are not all of a disc."""
    discs: dict[str, list[str]] = {}
    for level in sorted({row["level"] for row in rows}, reverse=True):
        own = [row for row in rows if row["level"] == level]
        about: dict[str, list[str]] = {}
        for row in own:
            for remark in filter(None, row["remark"].split("; ")):
                about.setdefault(remark, []).append(_heading(row["measure"], ""))
        for remark, measures in about.items():
            which = "" if len(measures) == len(own) else f" ({', '.join(measures)})"
            discs.setdefault(remark + which, []).append(own[0]["level_name"])
    items = "".join(f"<li>{escape(', '.join(names))}: {escape(text)}</li>" for text, names in discs.items())
    return f'<ul class="small">{items}</ul>' if items else ""


def _heading(measure: str, unit: str) -> str:
    """A measure's name as a person writes it."""
    name = measure
    for ending in ("_mm3", "_mm2", "_mm", "_deg", "_percent"):
        name = name.removesuffix(ending)
    words = name.replace("_", " ").capitalize().replace("Ap ", "AP ")
    return f"{words} {_SIGNS.get(unit, unit)}".rstrip()


def _figure(value: float | None, unit: str, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.{_DECIMALS.get(unit, 3)}f}"  # noqa: RUF001
