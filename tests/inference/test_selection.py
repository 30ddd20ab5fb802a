from __future__ import annotations

import re

import pytest

from ivdjax.inference.selection import selected
from ivdjax.reports.tables import CaseSummary, summary_csv
from ivdjax.volume import UserError

ROWS = [
    CaseSummary("a", "done", "ok", (), 7, 3.0),
    CaseSummary("b", "done", "review", ("L5/S1 not found", "odd"), 6, 9.5),
    CaseSummary("c", "skipped", "review", ("no disc was found",), 0, 0.0),
    CaseSummary("d", "failed", reasons=("case d: no image",)),
]


@pytest.fixture
def summary(tmp_path):
    (tmp_path / "summary.csv").write_text(summary_csv(ROWS))
    return tmp_path


@pytest.mark.parametrize(
    ("conditions", "names"),
    [
        (["verdict=review"], "bc"), (["verdict=REVIEW", "discs>0"], "b"), (["verdict!=ok"], "bcd"), (["discs<7"], "bc"),
        (["discs>=6"], "ab"), (["reasons~l5/s1"], "b"), (["verdict="], "d"), (["seconds<=3", "status=done"], "a"),
    ],
)  # fmt: skip
def test_conditions(summary, conditions, names):
    assert selected(summary, conditions) == frozenset(names)
    assert selected(summary / "summary.csv", conditions) == frozenset(names)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("review", "--where takes COLUMN=VALUE"), ("verdikt=ok", "did you mean verdict?"),
        ("discs<many", "is not a number"),
        ("verdict=perfect", "no case of"),
    ],
)  # fmt: skip
def test_what_selects_nothing_says_why(summary, condition, message):
    with pytest.raises(UserError, match=re.escape(message)):
        selected(summary, [condition])


def test_no_summary(tmp_path):
    with pytest.raises(UserError, match="there is no"):
        selected(tmp_path, ["verdict=ok"])
    (tmp_path / "summary.csv").write_text("name,age\nx,1\n")
    with pytest.raises(UserError, match="no column 'case'"):
        selected(tmp_path, ["name=x"])
