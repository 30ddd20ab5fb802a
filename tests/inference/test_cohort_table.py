from __future__ import annotations

import csv
import io
import json

import pytest

from ivdjax.inference.cohort_table import disc_lines, disc_table, write_disc_table
from ivdjax.inference.results import OutputOptions
from ivdjax.reports.columns import COLUMNS


def disc(level: int, **values) -> dict[str, object]:
    return {column.name: None for column in COLUMNS} | {
        "level": level, "level_name": f"name {level}", "cut_at": "", "volume_mm3": 100.0 * level, "t2_mean": 5.0,
    } | values  # fmt: skip


def store(output, case: str, *discs, bids: bool = False, **others) -> None:
    document = {"case": case, "verdict": "ok", "discs": list(discs), "model": {"name": "m"}} | others
    path = output / OutputOptions(bids=bids).names(case).path("json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_every_disc_of_every_case_has_a_row_with_its_case(tmp_path):
    store(tmp_path, "b", disc(1), disc(2), verdict="review", corrections=["L4/5 was pinned"])
    store(tmp_path, "a", disc(1))
    store(tmp_path, "none")
    write_disc_table(tmp_path, ["b", "a", "none"], OutputOptions())
    told = rows((tmp_path / "discs.csv").read_text())
    assert [(r["case"], r["subject"], r["visit"], r["level"], r["verdict"], r["corrected"]) for r in told] == [
        ("b", "b", "1", "1", "review", "yes"), ("b", "b", "1", "2", "review", "yes"), ("a", "a", "1", "1", "ok", "no"),
    ]  # fmt: skip
    assert [r["volume_mm3"] for r in told] == ["100.0", "200.0", "100.0"] and told[0]["t2_mean"] == "5.0"


def test_what_was_not_measured_is_named_with_its_reason_and_no_column_is_empty_throughout():
    cut = disc(1, volume_mm3=None, cut_at="left", t2_mean=None)
    table = disc_table(disc_lines({"case": "a", "verdict": "ok", "discs": [cut, disc(2)]}, "a", 1))
    first, second = rows(table)
    assert first["volume_mm3"] == "" and second["volume_mm3"] == "200.0"
    assert "the field of view cuts the disc: volume_mm3" in first["not_measured"]
    assert "no voxel of the disc has a finite value: t2_mean" in first["not_measured"]
    assert "fat_fraction" not in first and "fat_fraction" in second["not_measured"]
    measured = [name for name in first if name not in ("cut_at", "model")]
    assert all(any(row[name] for row in (first, second)) for name in measured)


@pytest.mark.parametrize(
    ("cases", "visits"),
    [
        (("P1_v2", "P1_v10", "P2", "x"), [("P1", "1"), ("P1", "2"), ("Q", "1"), ("x", "1")]),
        (("sub-01_ses-02", "sub-01_ses-01", "sub-02"), [("01", "2"), ("01", "1"), ("02", "1")]),
        (
            ("sub-01_ses-1_acq-sag", "sub-01_ses-1_acq-iso", "sub-01_ses-2"),  # two acquisitions are one visit
            [("01", "1"), ("01", "1"), ("01", "2")],
        ),
    ],
)
def test_subjects_and_visits_come_from_the_last_comparison_or_from_bids_names(tmp_path, cases, visits):
    for case in cases:
        store(tmp_path, case, disc(1))
    subjects = [{"subject": "P1", "visits": [{"case": "P1_v2"}, {"case": "P1_v10"}]}]
    (tmp_path / "changes.json").write_text(json.dumps({"subjects": subjects, "single_visits": {"Q": "P2"}}))
    write_disc_table(tmp_path, cases, OutputOptions())
    assert [(r["subject"], r["visit"]) for r in rows((tmp_path / "discs.csv").read_text())] == visits


def test_a_folder_without_discs_has_the_columns_alone(tmp_path):
    write_disc_table(tmp_path, [], OutputOptions())
    (head,) = (tmp_path / "discs.csv").read_text().splitlines()
    assert head.startswith("case,subject,visit,verdict,corrected,level,level_name,") and head.endswith(",model")


def test_a_standard_error_stands_behind_its_value():
    one = {"case": "a", "level": 1, "slip_mm": 2.0, "slip_percent": 5.0, "wat_mean": 7.0, "slip_mm_se": 0.5}
    header = disc_table([one]).splitlines()[0].split(",")
    assert header[header.index("slip_mm") + 1 :][:2] == ["slip_mm_se", "slip_percent"]
