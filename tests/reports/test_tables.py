from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest

from ivdjax.discs.measures import SHAPE_MEASURES
from ivdjax.reports.columns import SCHEMA_VERSION
from ivdjax.reports.tables import (
    DISC_COLUMNS,
    SCORE_COLUMNS,
    CaseSummary,
    disc_csv,
    disc_json,
    score_csv,
    score_tables,
    summary_csv,
    summary_rows,
)
from ivdjax.volume import Disc, Lordosis

DISCS = [
    Disc(
        1, 0.85, (1.0, -2.0, 3.1234567), 7000.0, {"middle_height_mm": 7.5, "lateral_width_mm": None, "t2_mean": 40.25}
    ),
    Disc(
        2,
        0.5,
        (1.0, 4.0, 38.0),
        None,
        {"middle_height_mm": math.nan, "fat_fraction": 0.1, "t2_mean": 50.0},
        cut_at="left right",
    ),
]


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_disc_csv_has_fixed_columns_first_and_empty_cells_for_what_is_unknown():
    text = disc_csv(DISCS)
    assert text.splitlines()[0].split(",") == [*DISC_COLUMNS, "t2_mean"]
    first, second = read(text)
    assert (first["level"], first["level_name"], first["centroid_z_mm"]) == ("1", "L5/S1", "3.12346")
    assert (first["middle_height_mm"], first["lateral_width_mm"], first["fat_fraction"]) == ("7.5", "", "")
    assert (first["volume_mm3"], first["cut_at"]) == ("7000.0", "")
    assert (second["volume_mm3"], second["cut_at"]) == ("", "left right")
    assert (second["middle_height_mm"], second["fat_fraction"], second["t2_mean"]) == ("", "0.1", "50.0")


def test_disc_csv_without_discs_keeps_its_header():
    assert disc_csv([]) == ",".join(DISC_COLUMNS) + "\n"


def test_fixed_columns_hold_every_shape_measure():
    assert set(SHAPE_MEASURES) < set(DISC_COLUMNS)


def test_disc_json_is_strict_json_with_a_schema_version_and_context():
    text = disc_json("a", "review", ("two reasons", "é"), DISCS, model="tiny")
    assert "é" in text and '\n  "case": "a",\n' in text  # a person reads it too
    with pytest.raises(ValueError, match="not JSON compliant"):
        disc_json("a", "ok", (), [], seconds=math.nan)
    document = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert document["schema_version"] == SCHEMA_VERSION and document["model"] == "tiny"
    assert document["reasons"] == ["two reasons", "é"]
    assert document["discs"][1]["middle_height_mm"] is None and document["discs"][0]["level_name"] == "L5/S1"


def test_disc_json_refuses_context_that_hides_the_table():
    with pytest.raises(ValueError, match="its own schema_version"):
        disc_json("a", "ok", (), [], schema_version=2)


LORDOSIS = Lordosis(
    {"lordosis_l1_l5_deg": 34.5, "lordosis_l1_l5_deg_se": 3.1, "lordosis_l1_s1_deg": None},
    {"lordosis_l1_s1_deg": "S1 is unsure"},
)


def test_summary_csv():
    rows = read(
        summary_csv(
            [
                CaseSummary(
                    "a",
                    "done",
                    "review",
                    ("one", "two, three"),
                    6,
                    12.34,
                    probability_wrong=0.31,
                    remarks=("more",),
                    lordosis=LORDOSIS,
                ),
                CaseSummary("b", "failed"),
            ]
        )
    )
    assert rows[0] == {"case": "a", "status": "done", "verdict": "review", "reasons": "one; two, three", "discs": "6",
                       "seconds": "12.3", "probability_wrong": "0.31", "remarks": "more",
                       "corrected": "", "lordosis_l1_l5_deg": "34.5", "lordosis_l1_l5_deg_se": "3.1",
                       "lordosis_l1_s1_deg": "", "lordosis_l1_s1_deg_se": "",
                       "lordosis_not_measured": "lordosis_l1_s1_deg: S1 is unsure"}  # fmt: skip
    assert rows[1] == dict.fromkeys(rows[0], "") | {"case": "b", "status": "failed"}


def test_a_summary_is_read_as_it_was_written_and_what_it_lacks_is_unknown(tmp_path):
    path = tmp_path / "summary.csv"
    cases = [CaseSummary("a", "done", "review", ("one", "two, three"), 6, 12.3, probability_wrong=0.25,
                         remarks=("more",), corrected=("L5",), lordosis=LORDOSIS),
             CaseSummary("b", "failed", reasons=("no image",), seconds=4.0),
             CaseSummary("c", "done", "ok")]  # fmt: skip
    assert "lordosis_l1_l5_deg: no vertebrae are outlined" in summary_csv(cases[2:])
    path.write_text(summary_csv(cases))
    assert summary_rows(path) == cases
    path.write_text("case,status,discs,seconds,probability_wrong\na,done,six,1.2.3,nan\nb,done\n")
    assert summary_rows(path) == [CaseSummary("a", "done"), CaseSummary("b", "done")]
    path.write_text("case,status\na,done\n")
    assert summary_rows(path) == [CaseSummary("a", "done")]


def score(case, level, dice, mm):
    return {"case": case, "subject": case, "level": level, "dice": dice, "asd_mm": mm, "hd95_mm": mm,
            "localization_error_mm": mm}  # fmt: skip


def test_score_csv_leaves_no_number_empty():
    text = score_csv([score("a", 1, 0.9, 0.5), score("a", np.int64(2), 0.0, math.nan)])
    assert text.splitlines()[0].split(",") == list(SCORE_COLUMNS)
    assert text.splitlines()[2] == "a,a,2,0.0,,,"


def test_paper_tables_by_hand():
    rows = [score("a", 1, 0.9, 0.5), score("a", 2, 0.0, math.nan), score("b|c", 1, 0.7, 1.5), score("b|c", 2, 0.8, 1.0)]
    tables = score_tables(rows).split("Table ")[1:]
    assert [table.splitlines()[0] for table in tables] == [
        "1. Dice overlap coefficient.", "2. Average absolute distance.", "3. Localization distance."
    ]  # fmt: skip
    dice = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in tables[0].splitlines()[2:]}
    assert dice["Dice"][:2] == ["Disc_01", "Disc_02"] and len(dice["Dice"]) == 8
    assert dice["a"][:3] == ["0.900", "0.000", "–"] and dice["a"][7].startswith("0.450")  # noqa: RUF001
    assert dice["**mean**"][:2] == ["0.800", "0.400"] and dice["**mean**"][7].startswith("0.600")
    assert dice["**sd**"][0] == f"{np.std([0.9, 0.7], ddof=1):.3f}" == "0.141"
    assert dice["**worst**"][:2] == ["0.700", "0.000"]
    assert "b\\|c" in tables[0] and tables[0].splitlines()[3] == "|---" * 9 + "|"
    beside = score_tables(rows, {"other": [score("c", 1, 0.5, 2.0)]}).splitlines()
    assert "| **other, mean** | 0.500 " in "\n".join(beside) and "| **mean** | 0.800 " in "\n".join(beside)
    distance = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in tables[1].splitlines()[2:]}
    assert distance["**mean**"][:2] == ["1.00", "1.00"]  # the missed disc has no distance
    assert distance["**sd**"][1] == "–" and distance["**worst**"][0] == "1.50"  # noqa: RUF001


def test_tables_without_any_score_are_dashes():
    assert "**mean** | –" in score_tables([])  # noqa: RUF001
