"""The report of one case: a single HTML file that opens anywhere, without a network, a script or a file beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ivdjax.reports.colours import VERDICT, hex_colour, level_colour
from ivdjax.reports.tables import disc_rows, write_whole
from ivdjax.volume import Disc

_COLUMNS: tuple[tuple[str, str, int], ...] = (
    ("level_confidence", "Confidence in level", 2), ("volume_mm3", "Volume mm³", 0),
    ("anterior_height_mm", "Anterior height mm", 1), ("middle_height_mm", "Middle height mm", 1),
    ("posterior_height_mm", "Posterior height mm", 1), ("disc_height_index", "Height index", 2),
    ("ap_width_mm", "AP width mm", 1), ("lateral_width_mm", "Lateral width mm", 1),
    ("wedge_angle_deg", "Wedge angle °", 1), ("tilt_deg", "Tilt °", 0), ("fat_fraction", "Fat fraction", 2),
)  # fmt: skip
"""Key, heading and decimals of the columns that a person reads; the CSV beside the report holds all."""

_WORDS = {
    "ok": "Nothing found that speaks against the numbering of the discs.",
    "review": "A person should look at the numbering of the discs.",
}

_LEGEND = (
    "Heights are means over the front, middle and rear of the mid-sagittal part, across the disc's own plane; the "
    "height index is their mean over the AP width. Tilt: negative where the front edge is lower. Fat fraction: "
    "fat / (fat + water) of the signal magnitudes, not a proton density. A dash: not measurable here, for example the "
    "lateral width of a disc that the field of view cuts. Degeneration grades are not given. For research; not a "
    "medical device."
)

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 75rem; margin: 1.5rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 1.8rem 0 .4rem; }
.badge { color: #fff; border-radius: .4rem; padding: .15rem .7rem; font-weight: 600; }
.head { display: flex; gap: 1rem; align-items: center; flex-wrap: wrap; }
.notice { border-left: .35rem solid #c26a00; background: #fff4e2; padding: .5rem .9rem; margin: 1rem 0; }
img { max-width: 100%; height: auto; border-radius: .3rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; }
th { vertical-align: bottom; font-weight: 600; }
th:first-child, td:first-child { text-align: left; white-space: nowrap; }
.dot { display: inline-block; width: .8rem; height: .8rem; border-radius: 50%; border: 1px solid #0004;
       margin-right: .5rem; vertical-align: -.05rem; }
.small { color: #555; font-size: .9rem; }
"""


@dataclass(frozen=True)
class Report:
    """What the page says of one case.

    Attributes:
        case: its name.
        verdict: "ok" or "review".
        reasons: for the verdict, in plain words.
        discs: found discs from the lowest up.
        overview_png: the overview picture's bytes; empty: no picture.
        model: name of the model.
        validated_on: what the model was validated on and how well it did, in plain words; empty: said to be unknown.
        synthetic: whether the model was trained on synthetic images alone.
        warnings: what was remarked on reading and preparing the case.
    """

    case: str
    verdict: str
    reasons: Sequence[str]
    discs: Sequence[Disc]
    overview_png: bytes
    model: str
    validated_on: str
    synthetic: bool
    warnings: Sequence[str] = ()


def write_report(path: Path, report: Report) -> None:
    """Writes the report as one self-contained HTML file; whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    write_whole(path, report_page(report))


def report_page(report: Report) -> str:
    """The report as HTML. Every text that came from outside is escaped."""
    title = escape(report.case)
    parts = [
        "<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Discs of {title}</title>", f"<style>{_STYLE}</style>", "</head>", "<body>",
        f'<div class="head"><h1>{title}</h1>{_badge(report.verdict)}</div>',
        f"<p>{escape(_WORDS.get(report.verdict, ''))}</p>", _items(report.reasons), _synthetic_notice(report.synthetic),
        "<h2>Overview</h2>", _picture(report), "<h2>Discs</h2>", _table(report.discs), _validation(report),
    ]  # fmt: skip
    if report.warnings:
        parts += ["<h2>Remarks on the input</h2>", _items(report.warnings)]
    parts += [f'<p class="small">{escape(_LEGEND)}</p>', "</body>", "</html>"]
    return "\n".join(part for part in parts if part) + "\n"


def _badge(verdict: str) -> str:
    return f'<span class="badge" style="background:{VERDICT.get(verdict, "#555")}">{escape(verdict.upper())}</span>'


def _items(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>" if texts else ""


def _synthetic_notice(synthetic: bool) -> str:
    if not synthetic:
        return ""
    return ('<p class="notice">This model was trained on synthetic images alone. It shows how the software works; its '
            "results on images of patients are not to be relied on.</p>")  # fmt: skip


def _picture(report: Report) -> str:
    if not report.overview_png:
        return "<p>No picture could be drawn.</p>"
    data = base64.b64encode(report.overview_png).decode("ascii")
    words = f"Sagittal and coronal planes of {report.case} with {len(report.discs)} discs outlined and named"
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{data}">'


def _table(discs: Sequence[Disc]) -> str:
    if not discs:
        return "<p>No disc was found.</p>"
    head = "".join(f"<th>{escape(heading)}</th>" for _, heading, _ in _COLUMNS)
    body = "\n".join(_row(disc, row) for disc, row in zip(reversed(discs), reversed(disc_rows(discs)), strict=True))
    return f'<div class="wide"><table>\n<tr><th>Disc</th>{head}</tr>\n{body}\n</table></div>'


def _row(disc: Disc, row: dict[str, Any]) -> str:
    dot = f'<span class="dot" style="background:{hex_colour(level_colour(disc.level))}"></span>'
    cells = "".join(f"<td>{_number(row[key], digits)}</td>" for key, _, digits in _COLUMNS)
    return f"<tr><td>{dot}{escape(disc.level_name)}</td>{cells}</tr>"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"  # noqa: RUF001


def _validation(report: Report) -> str:
    text = report.validated_on or "It is not known on what this model was validated: judge every result by eye."
    return f"<h2>Model</h2>\n<p>{escape(report.model)}. {escape(text)}</p>"
