"""The report of one case: a single HTML file that opens anywhere, without a network or a file beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from ivdjax.imaging.folders import write_whole
from ivdjax.reports.disc_table import (
    disc_table_html,
    is_unsure,
    level_dot,
    number_text,
    selectable_table,
)
from ivdjax.reports.document import badge, data_url, html_document, items
from ivdjax.reports.level_sheet import SCRIPT as SHEET_SCRIPT
from ivdjax.reports.level_sheet import level_sheet
from ivdjax.reports.thumbnails import draw_thumbnails
from ivdjax.reports.viewer import SCRIPTS, viewer_section
from ivdjax.volume import ASSUMPTION, Disc, LabelMap, LeftOut, Lordosis, Volume

_STYLE = "assets/page.css"

_WORDS = {
    "ok": "Nothing found that speaks against the numbering or the outlines of the discs.",
    "review": "A person should look at the discs before these figures are used.",
}

_LEGEND = (
    "Level confidence: how sure the name of the disc is, 0 to 1. Outline confidence: the Dice, 0 to 1, that a careful "
    "outline of the disc is expected to have with this one. Heights are means over the front, middle and rear of the "
    "mid-sagittal part, across the disc's own plane; the height index is their mean over the AP width. Tilt: negative "
    "where the front edge is lower. Fat fraction: fat / (fat + water) of the signal magnitudes, not a proton density. "
    "A dash: not measurable here, for example the lateral width of a disc that the field of view cuts. Positions are "
    "in mm of the image's own world coordinates. For research; not a medical device."
)


@dataclass(frozen=True, eq=False)
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
        probability_wrong: that a level is wrong or a disc in view is missing, 0 to 1; None: not known.
        remarks: what else may be worth knowing; they decide nothing.
        findings: of the spine itself.
        volume: image (C, D, H, W) for thumbnails and viewer; None: neither is there.
        labels: numbered discs on the volume's grid; None: neither is there.
        provenance: what the result depends on (program, model, input files with their checksums, settings), as nested
            mappings of plain values; values that are None or empty are left out.
        left_out: what was left out below the lowest disc; None: nothing was.
        detectable: smallest change between two scans that lies beyond the measurement's own noise, by column of the
            disc table; empty: not known.
        lordosis: of the spine.
        corrected: whether a person has changed levels or outlines.
        accepted_by: who has accepted the case.
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
    probability_wrong: float | None = None
    remarks: Sequence[str] = ()
    findings: Sequence[str] = ()
    volume: Volume | None = None
    labels: LabelMap | None = None
    left_out: LeftOut | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    detectable: Mapping[str, float] = field(default_factory=dict)
    lordosis: Lordosis = field(default_factory=Lordosis)
    corrected: bool = False
    accepted_by: Sequence[str] = ()


def write_report(path: Path, report: Report) -> None:
    """Writes the report as one self-contained HTML file; whole or not at all.

    Raises:
        ValueError: the report's labels lie on another grid than its volume.
        OSError: the file cannot be written.
    """
    write_whole(path, report_page(report))


def report_page(report: Report) -> str:
    """The report as HTML. Every text that came from outside is escaped.

    Raises:
        ValueError: the report's labels lie on another grid than its volume.
    """
    parts = [
        "<main>",
        f'<div class="head"><h1>{escape(report.case)}</h1>{badge(report.verdict)}</div>',
        f"<p>{escape(_verdict_words(report))} {escape(_chance(report.probability_wrong))} {ASSUMPTION}</p>",
        items(report.reasons), items(report.findings), _synthetic_notice(report.synthetic),
        level_sheet(report.discs, report.lordosis, report.corrected),
        "<h2>Overview</h2>", _picture(report), "<h2>Discs</h2>",
    ]  # fmt: skip
    if report.volume is not None and report.labels is not None:
        parts += [
            _strip(report.discs, draw_thumbnails(report.volume, report.labels, report.discs)),
            viewer_section(report.volume, report.labels, report.discs, report.left_out),
        ]
    parts += [selectable_table(report.discs, report.detectable), _validation(report)]
    if report.remarks:
        parts += ["<h2>Remarks</h2>", items(report.remarks)]
    if report.warnings:
        parts += ["<h2>Remarks on the input</h2>", items(report.warnings)]
    parts += [_provenance(report.provenance), f'<p class="small">{escape(_LEGEND)}</p>', "</main>"]
    body = "\n".join(part for part in parts if part)
    scripts = (*(SCRIPTS if "viewer-data" in body else ()), *([SHEET_SCRIPT] if report.discs else ()))
    return html_document(f"Discs of {report.case}", body, _STYLE, scripts)


def _verdict_words(report: Report) -> str:
    if report.accepted_by:
        own = " The program's own estimate:" if report.probability_wrong is not None else ""
        return f"Accepted by {', '.join(report.accepted_by)}.{own}"
    return _WORDS.get(report.verdict, "")


def _chance(wrong: float | None) -> str:
    if wrong is None:
        return ""
    return f"Chance that a level is wrong or a disc in view is missing: {max(1, round(100 * wrong))} %."


def _synthetic_notice(synthetic: bool) -> str:
    if not synthetic:
        return ""
    return ('<p class="notice">This model was trained on synthetic images alone. It shows how the software works; its '
            "results on images of patients are not to be relied on.</p>")  # fmt: skip


def _picture(report: Report) -> str:
    if not report.overview_png:
        return "<p>No picture could be drawn.</p>"
    words = f"Sagittal and coronal planes of {report.case} with {len(report.discs)} discs outlined and named"
    return f'<img class="overview" alt="{escape(words)}" src="{data_url("image/png", report.overview_png)}">'


def _strip(discs: Sequence[Disc], pictures: Mapping[int, bytes]) -> str:
    """One thumbnail per disc, from the uppermost down."""
    if not discs:
        return ""
    return '<div class="strip">\n' + "\n".join(_thumbnail(d, pictures[d.level]) for d in reversed(discs)) + "\n</div>"


def _thumbnail(disc: Disc, picture: bytes) -> str:
    name = escape(disc.level_name)
    figures = "".join(
        f'<span class="figure{" unsure" if is_unsure(key, value) else ""}">{word} {number_text(value, 2)}</span>'
        for key, word, value in (("level_confidence", "level", disc.level_confidence),
                                 ("outline_confidence", "outline", disc.outline_confidence))
    )  # fmt: skip
    return (
        f'<button type="button" class="thumbnail" data-level="{disc.level}" aria-pressed="false">'
        f'<img alt="{name}, mid-sagittal, outlined" src="{data_url("image/jpeg", picture)}">'
        f'<span class="name">{level_dot(disc.level)}{name}</span>{figures}</button>'
    )


def _validation(report: Report) -> str:
    text = report.validated_on or "It is not known on what this model was validated: judge every result by eye."
    return f"<h2>Model</h2>\n<p>{escape(report.model)}. {escape(text)}</p>"


def _provenance(facts: Mapping[str, Any]) -> str:
    rows = "\n".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(text)}</td></tr>'
                     for name, text in _facts(facts))  # fmt: skip
    if not rows:
        return ""
    return f'<h2>Versions and checksums</h2>\n<div class="wide"><table class="facts">\n{rows}\n</table></div>'


def _facts(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Name and text of each plain value of nested mappings; "input", "fat", "file" gives "input fat file"."""
    for key, value in facts.items():
        name = f"{above} {key}".strip().replace("_", " ")
        if isinstance(value, Mapping):
            yield from _facts(value, name)
        elif isinstance(value, (list, tuple)):
            if value:
                yield name, ", ".join(str(part) for part in value)
        elif value is not None and value != "":
            yield name, {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


__all__ = ["Report", "disc_table_html", "report_page", "write_report"]
