from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from ivdjax.config import Config, parse_config
from ivdjax.reports.cross_validation import FoldMembers, report, write_report
from ivdjax.reports.tables import score_csv

FOLDS = [FoldMembers(0, (("02", "S01"), ("01", "S01")), 2), FoldMembers(2, (("b|c", "b|c"),), 3)]
TOTALS = {"mean_dice": 0.65, "levels_right": 2, "levels_total": 3, "extra_discs": 1}


@pytest.fixture
def config() -> Config:
    return parse_config({"name": "mine", "data": {"folds": 4, "subject_table": "subjects.csv"}})


def row(case: str, level: int, dice: float, mm: float) -> dict:
    return {"case": case, "subject": "", "level": level, "dice": dice, "asd_mm": mm, "hd95_mm": mm,
            "localization_error_mm": mm}  # fmt: skip


ROWS = [row("01", 1, 0.9, 0.5), row("01", 2, 1.0, 0.25), row("02", 1, 0.0, math.nan)]


def with_paper(config: Config, **changes) -> Config:
    return replace(config, data=replace(config.data, paper_figures=True, **changes))


def test_subjects_with_their_cases():
    assert FOLDS[0].subjects == {"S01": ["01", "02"]}
    assert FoldMembers(1, (("c", "S02"), ("a", "a"), ("b", "S02")), 5).words == "S02 (b, c), a"


def test_report_names_the_folds_their_subjects_and_what_is_missing(config):
    text = report(config, FOLDS, [1], ROWS, TOTALS)
    assert text.startswith("# Cross-validation of mine\n")
    assert "2 of 4 folds, by subject" in text and "subject of its own" not in text and "synthetic" not in text
    assert "| 0 | S01 (01, 02) | 2 |\n| 2 | b/c | 3 |" in text
    assert "missing in every figure: fold 1." in text and "Not asked for: fold 3." in text
    assert "| 01 | 0.900 | 1.000 |" in text and "| 02 | 0.000 |" in text
    assert "| mean Dice | 0.6333 |" in text
    assert "| mean localization error, mm | 0.38 |" in text  # of (0.5 + 0.25) / 2
    assert "| levels right | 2 of 3 |" in text and "| extra discs | 1 |" in text
    assert "paper" not in text


def test_whole_report_has_nothing_missing_to_tell(config):
    text = report(
        replace(config, data=replace(config.data, folds=2)), [*FOLDS[:1], FoldMembers(1, (), 1)], [], ROWS, TOTALS
    )
    assert "2 of 2 folds" in text and "issing" not in text and "Not asked" not in text


def test_paper_stands_beside_only_where_the_data_are_its_own(config):
    text = report(with_paper(config), FOLDS, [], ROWS, TOTALS)
    assert text.count("| **paper's test set, mean** |") == 3
    assert "| **worst** | 0.000 | 1.000 |" in text and "| **paper's test set, worst** | 0.865 | 0.896 |" in text
    assert "| mean Dice | 0.6333 | 0.9058 |" in text and "| mean localization error, mm | 0.38 | 0.78 |" in text
    assert "hidden on-site test set" in text and "cross-validation of the public sets" in text
    assert "gives no figures of\nits own cross-validation" in text


def test_phantoms_and_cases_without_subjects_are_told(config):
    data = replace(config.data, subject_table="", synthetic=True)
    text = report(replace(config, data=data), FOLDS, [], ROWS, TOTALS)
    assert "**synthetic phantoms**" in text and "each case counts as a subject of its own" in text


def test_files_of_an_evaluation_are_completed(config, tmp_path):
    (tmp_path / "discs.csv").write_text(score_csv(ROWS))
    (tmp_path / "summary.json").write_text(json.dumps(TOTALS))
    write_report(tmp_path, config, FOLDS, [1])
    assert (tmp_path / "tables.md").read_text() == report(config, FOLDS, [1], ROWS, TOTALS)
    told = json.loads((tmp_path / "summary.json").read_text())
    assert told == TOTALS | {
        "folds": 4, "held_out_subjects": {"0": {"S01": ["01", "02"]}, "2": {"b|c": ["b|c"]}}, "failed_folds": [1]
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["discs.csv", "summary.json", "tables.md"]
