from __future__ import annotations

from dataclasses import replace

from ivdjax.reports.cohort import CohortRow, by_need, cohort_page, write_cohort_page
from tests.reports.page_tags import parse

ROW = CohortRow("case_01", "done", "review", ("6 of 7 discs were found",), 6, 4.25, 0.42, 0.83,
                {"report": "case_01/report.html", "table": "case_01/case_01_discs.csv"},
                "case_01/case_01_overview.png", probability_wrong=0.31)  # fmt: skip


def test_order_of_need():
    rows = [
        CohortRow("ok, sure", "done", "ok", (), 7, 1.0, 0.9, 0.9, probability_wrong=0.1),
        CohortRow("ok, outline unsure", "skipped", "ok", (), 7, 1.0, 0.9, 0.8, probability_wrong=0.1),
        CohortRow("ok, level unsure", "done", "ok", (), 7, 1.0, 0.8, 0.9, probability_wrong=0.1),
        CohortRow("review, less likely, sure", "done", "review", ("a", "b"), 7, 1.0, 0.9, 0.9, probability_wrong=0.4),
        CohortRow("review, less likely, unsure", "done", "review", ("a",), 7, 1.0, 0.2, 0.9, probability_wrong=0.4),
        CohortRow("review, likely", "done", "review", ("a",), 7, 1.0, 0.9, 0.9, probability_wrong=0.6),
        CohortRow("review, no disc", "done", "review", ("a",), 0),
        CohortRow("failed b", "failed"),
        CohortRow("failed a", "failed"),
    ]
    assert [row.case for row in by_need(rows)] == [
        "failed a", "failed b", "review, no disc", "review, likely", "review, less likely, unsure",
        "review, less likely, sure", "ok, level unsure", "ok, outline unsure", "ok, sure",
    ]  # fmt: skip


def test_page_says_what_a_reader_needs():
    html = cohort_page([ROW, replace(ROW, case="case_02"), CohortRow("case_03", "failed", reasons=("no file",))])
    assert "<h1>3 cases</h1>" in html and "FAILED</span> 1<" in html and "REVIEW</span> 2<" in html
    assert "OK</span>" not in html
    for text in ("6 of 7 discs were found", "no file", ">0.31<", ">0.42<", ">0.83<", ">4.2<", "a person should look"):
        assert text in html
    assert 'class="number unsure" data-value="0.42"' in html and 'class="number" data-value="0.83"' in html


def test_one_case_is_no_plural():
    assert "<h1>1 case</h1>" in cohort_page([ROW])


def test_links_are_relative_and_quoted():
    row = replace(ROW, links={"report": "a:b #1/re port.html"}, overview="a:b #1/o%.png")
    tags = parse(cohort_page([row]))
    assert tags.links == ["a%3Ab%20%231/re%20port.html", "a%3Ab%20%231/o%25.png", *["a%3Ab%20%231/re%20port.html"] * 2]


def test_text_from_outside_is_escaped():
    nasty = '"><script>alert(1)</script>'
    html = cohort_page([CohortRow(nasty, "done", nasty, (nasty,), 7, links={nasty: nasty}, overview=nasty)])
    assert parse(html).seen.count("script") == 1  # the page's own
    assert "<script>alert" not in html


def test_page_without_a_case():
    tags = parse(cohort_page([]))
    assert tags.links == []


def test_write_cohort_page(tmp_path):
    write_cohort_page(tmp_path / "index.html", [ROW])
    assert (tmp_path / "index.html").read_text(encoding="utf-8") == cohort_page([ROW])
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
