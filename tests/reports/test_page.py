from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from ivdjax.reports.page import Report, report_page, write_report
from ivdjax.volume import Disc

REPORT = Report(
    case="case_01", verdict="review", reasons=("6 of 7 discs were found",),
    discs=[Disc(1, 0.4, (0, 0, 0), 7000.0, {"middle_height_mm": 7.53, "lateral_width_mm": None})],
    overview_png=b"\x89PNG picture", model="spider_t2", validated_on="Mean Dice 0.9 on 6 patients.", synthetic=False,
)  # fmt: skip


class Tags(HTMLParser):
    """Collects tags and checks that those with an end are closed in order."""

    VOID = ("meta", "img")

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parse(html):
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags


def test_page_is_one_file_without_links_or_scripts():
    tags = parse(report_page(REPORT))
    assert "script" not in tags.seen and "link" not in tags.seen
    (picture,) = tags.links
    assert picture == "data:image/png;base64," + base64.b64encode(REPORT.overview_png).decode()


def test_page_says_what_a_reader_needs():
    html = report_page(REPORT)
    for text in ("case_01", "REVIEW", "6 of 7 discs were found", "L5/S1", "<td>7.5</td>", "<td>0.40</td>",
                 "spider_t2. Mean Dice 0.9 on 6 patients."):  # fmt: skip
        assert text in html
    assert "<td>–</td>" in html  # noqa: RUF001 - the lateral width that could not be given
    assert "synthetic" not in html


def test_synthetic_model_says_so():
    assert "trained on synthetic images alone" in report_page(replace(REPORT, synthetic=True))


def test_unknown_validation_is_admitted():
    assert "It is not known on what this model was validated" in report_page(replace(REPORT, validated_on=""))


@pytest.mark.parametrize("field", ["case", "model", "validated_on", "verdict"])
def test_text_from_outside_is_escaped(field):
    html = report_page(replace(REPORT, **{field: '<script>alert("1")</script>'}))
    assert "script" not in parse(html).seen
    assert re.search(r"&lt;script&gt;", html, re.IGNORECASE)


@pytest.mark.parametrize("field", ["reasons", "warnings"])
def test_lists_from_outside_are_escaped(field):
    html = report_page(replace(REPORT, **{field: ("<b>bold</b>", "a & b")}))
    assert "b" not in parse(html).seen and "a &amp; b" in html


def test_page_without_disc_or_picture():
    html = report_page(replace(REPORT, discs=[], overview_png=b""))
    assert "No disc was found." in html and "No picture could be drawn." in html
    assert parse(html).links == []


def test_write_report(tmp_path):
    write_report(tmp_path / "report.html", REPORT)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == report_page(REPORT)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
