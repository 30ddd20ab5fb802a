"""What is said of a case on the console, and kept of it in the summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from ivdjax.inference.cohort import case_line, read_summary, write_summary
from ivdjax.inference.results import OutputOptions
from ivdjax.reports.tables import CaseSummary

OUT, PLAIN = Path("out"), OutputOptions()


def test_a_done_case_tells_discs_verdict_reasons_and_picture():
    row = CaseSummary("a", "done", "review", ("doubt", "another"), 6, 1.0)
    assert case_line(row, OUT, PLAIN) == "a: 6 discs, review (doubt; another); out/a/a_overview.png"
    assert case_line(CaseSummary("a", "done", "ok", (), 7), OUT, PLAIN) == "a: 7 discs, ok; out/a/a_overview.png"
    skipped = CaseSummary("a", "skipped", "ok", (), 7)
    assert case_line(skipped, OUT, PLAIN) == "a (skipped): 7 discs, ok; out/a/a_overview.png"


def test_a_failed_case_tells_why():
    row = CaseSummary("a", "failed", reasons=("case a: no image", "b"))
    assert case_line(row, OUT, PLAIN) == "a: FAILED: case a: no image; b"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("new\nline", r"new\nline"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("ab\u202edc", r"ab\u202edc"),
        ("脊椎\u3000さん", "脊椎\u3000さん"),
        ("Ölçü", "Ölçü"),
    ],
)
def test_a_name_is_one_line_that_a_terminal_does_not_obey(name, shown):
    for row in (CaseSummary(name, "failed", reasons=(f"case {name}: bad",)), CaseSummary(name, "done", "ok", (), 7)):
        line = case_line(row, OUT, PLAIN)
        assert line.startswith(f"{shown}: ") and line.count(shown) >= 2 and (name == shown or name not in line)


def test_a_skipped_case_keeps_the_seconds_that_it_took(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a_discs.json").write_text("{}")
    for status, seconds in (("done", 4.2), ("skipped", None), ("skipped", None)):
        write_summary(tmp_path, [CaseSummary("a", status, "ok", (), 7, seconds)], PLAIN)
    (row,) = read_summary(tmp_path, set(), PLAIN)
    assert (row.status, row.seconds) == ("skipped", 4.2)
