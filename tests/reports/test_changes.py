from __future__ import annotations

import csv
import io
from html.parser import HTMLParser

from ivdjax.reports.changes import (
    CHANGE_COLUMNS,
    SubjectChanges,
    VisitNote,
    changes_csv,
    changes_page,
    count_beyond,
)

OK, REVIEW = VisitNote("S1_1", "ok"), VisitNote("S1_2", "review", ("a disc is missing", "odd step"))


def row(level=1, measure="middle_height_mm", unit="mm", before=8.0, after=9.0, limit=0.5, beyond="yes", **more):
    change = None if before is None or after is None else after - before
    return {
        "subject": "S1", "level": level, "level_name": {1: "L5/S1", 2: "L4/5"}[level], "measure": measure, "unit": unit,
        "visit_from": "S1_1", "visit_to": "S1_2", "before": before, "after": after, "change": change,
        "change_percent": None, "smallest_detectable_change": limit, "beyond_noise": beyond, "remark": "",
    } | more  # fmt: skip


def subject(*rows, visits=(OK, REVIEW), **more) -> SubjectChanges:
    return SubjectChanges("S1", visits, rows, **({"repeatability": "10 phantoms"} | more))


class Page(HTMLParser):
    """Cells of the tables, row by row, and every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self._cell = True
            self.rows[-1].append("")
        elif tag in ("small", "br") and self._cell:
            self.rows[-1][-1] += "|"

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data):
        if self._cell:
            self.rows[-1][-1] += data


def test_the_table_has_its_columns_in_their_order_and_empty_cells():
    text = changes_csv([row(after=None, beyond="unknown", remark="S1_2: disc not found")])
    assert text.splitlines()[0].split(",") == list(CHANGE_COLUMNS)
    (read,) = csv.DictReader(io.StringIO(text))
    assert (read["before"], read["after"], read["change"], read["beyond_noise"]) == ("8.0", "", "", "unknown")
    assert read["remark"] == "S1_2: disc not found" and read["subject"] == "S1"


def test_changes_beyond_the_noise_are_counted_among_those_that_can_be_judged():
    assert count_beyond([row(), row(beyond="no"), row(beyond="unknown")]) == (1, 2)
    assert count_beyond([]) == (0, 0)


def test_discs_stand_from_the_top_with_changes_set_off_by_more_than_color():
    rows = [
        row(1), row(1, "volume_mm3", "mm3", 1000.0, 900.4, 80.0), row(2, after=8.1, beyond="no"),
        row(2, "volume_mm3", "mm3", 1000.0, None, 80.0, "unknown", remark="S1_2: not measured"),
    ]  # fmt: skip
    page = Page(changes_page([subject(*rows)]))
    assert page.rows == [
        ["Disc", "Middle height mm|± 0.50", "Volume mm³|± 80"],
        ["L4/5", "+0.10|8.00 → 8.10", "–|1000 → –"],  # noqa: RUF001
        ["L5/S1", "▲ +1.00|8.00 → 9.00", "▼ -100|1000 → 900"],
    ]
    kinds = [attrs.get("class") for tag, attrs in page.tags if tag == "td"]
    assert kinds.count("beyond") == 2 and kinds.count("unknown") == 1


def test_verdicts_reasons_warnings_and_the_source_of_the_noise_are_told():
    text = changes_page([subject(row(), warnings=["look at S1_2"])], ["S9 left out"])
    assert "REVIEW</span> a disc is missing; odd step" in text and "OK</span>" in text
    assert '<p class="notice">look at S1_2</p>' in text and '<p class="notice">S9 left out</p>' in text
    assert "1 of 1 changes lie beyond" in text and "The measure of the noise: 10 phantoms." in text
    assert "two measurements of one unchanged disc" in text and "not a medical device" in text


def test_an_unknown_noise_is_said_and_nothing_is_set_off():
    text = changes_page([subject(row(limit=None, beyond="unknown"), repeatability="")])
    page = Page(text)
    assert "not known for this model" in text and page.rows[0][1] == "Middle height mm|± ?"
    assert not any(tag == "rect" for tag, _ in page.tags) and 'class="beyond"' not in text


def test_a_remark_on_all_measures_of_a_disc_stands_once():
    rows = [row(remark="a: odd; b: odder"), row(measure="ap_width_mm", remark="a: odd"), row(2, remark="a: odd")]
    text = changes_page([subject(*rows)])
    assert "<li>L4/5, L5/S1: a: odd</li><li>L5/S1: b: odder (Middle height)</li>" in text


def test_measures_are_drawn_and_the_volume_in_view_only_where_there_is_no_whole_one():
    in_view = row(measure="volume_in_view_mm3", unit="mm3")
    text = changes_page([subject(row(), in_view, row(measure="volume_mm3", unit="mm3"), row(measure="tilt_deg"))])
    assert text.count("<svg") == 2 and "<figcaption>Volume in view" not in text
    assert "<figcaption>Volume in view mm³" in changes_page([subject(in_view)])


def test_every_later_visit_is_set_against_the_first():
    third = VisitNote("S1_3", "ok")
    rows = [row(), row(visit_to="S1_3", after=8.2, beyond="no")]
    text = changes_page([subject(*rows, visits=(OK, REVIEW, third))])
    assert "<h3>S1_1 → S1_2</h3>" in text and "<h3>S1_1 → S1_3</h3>" in text and text.count("<title>visit 3: 8.2") == 1


def test_several_subjects_have_an_index():
    page = Page(changes_page([subject(row()), SubjectChanges("S2", (OK, OK), [])]))
    assert page.rows[1:3] == [["S1", "2", "1 of 1", "1"], ["S2", "2", "0 of 0", ""]]
    ids = {attrs.get("id") for tag, attrs in page.tags if tag == "h2"}
    assert {(attrs.get("href") or "").lstrip("#") for tag, attrs in page.tags if tag == "a"} == ids


def test_everything_from_outside_is_escaped():
    evil = '<script>alert(1)</script>"&'
    visits = (VisitNote(evil, evil, (evil,), 'a"><script>'), VisitNote("b", "ok", (), "javascript:alert(1)"))
    rows = [row(measure=evil, remark=evil, level_name=evil, unit=evil, visit_from=evil, visit_to="b")]
    page = changes_page([SubjectChanges(evil, visits, rows, evil, [evil])] * 2, [evil])
    tags = {tag for tag, _ in Page(page).tags}
    assert "script" not in tags and "<script" not in page
    links = [attrs["href"] for tag, attrs in Page(page).tags if tag == "a"]
    assert "javascript%3Aalert%281%29" in links


def test_the_page_needs_nothing_beside_it():
    text = changes_page([subject(row())])
    assert "http" not in text and "src=" not in text and "@import" not in text and "url(" not in text
