from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

from ivdjax.inference.figure import results_of
from ivdjax.inference.visits.compare import main, write_changes
from ivdjax.inference.visits.visits import read_visit
from ivdjax.reports.changes import CHANGE_COLUMNS
from ivdjax.volume import UserError
from tests.inference.visits.stored_visits import REPEATABILITY, disc, document, store


@pytest.fixture
def two(tmp_path):
    """Two visits of S1: disc 1 unchanged but for noise, disc 2 lower by 1 mm, disc 3 lost."""
    out = tmp_path / "OUT"
    first = store(out / "S1_1", disc(1, 8.0), disc(2, 9.0), disc(3, 10.0))
    return [first, store(out / "S1_2", disc(1, 8.3), disc(2, 8.0))]


def table(folder):
    with (folder / "changes.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_changes_by_hand(tmp_path, two):
    summary = write_changes(tmp_path / "new" / "CHANGES", {"S1": two})
    assert (summary.subjects, summary.left_out, summary.beyond, summary.judged) == (("S1",), (), 1, 2)
    folder = tmp_path / "new" / "CHANGES"
    assert sorted(path.name for path in folder.iterdir()) == ["changes.csv", "changes.html", "changes.json"]
    rows = table(folder)
    assert list(rows[0]) == list(CHANGE_COLUMNS)
    heights = [row for row in rows if row["measure"] == "middle_height_mm"]
    assert [(row["level"], row["change"], row["beyond_noise"], row["remark"]) for row in heights] == [
        ("1", "0.3", "no", ""), ("2", "-1.0", "yes", ""), ("3", "", "unknown", "S1_2: disc not found")
    ]  # fmt: skip
    assert heights[1] | {"subject": "S1", "before": "9.0", "after": "8.0", "change_percent": "-11.1111",
                         "visit_from": "S1_1", "visit_to": "S1_2", "smallest_detectable_change": "0.5",
                         "unit": "mm"} == heights[1]  # fmt: skip
    assert {row["measure"] for row in rows} == {"middle_height_mm", "volume_mm3"}
    assert {row["beyond_noise"] for row in rows if row["measure"] == "volume_mm3"} == {"unknown"}


def test_the_json_has_the_visits_the_noise_and_the_same_changes(tmp_path, two):
    write_changes(tmp_path / "CHANGES", {"S1": two})
    document = json.loads((tmp_path / "CHANGES" / "changes.json").read_text())
    assert (document["schema_version"], document["kind"], document["notes"]) == (1, "ivdjax changes", [])
    (subject,) = document["subjects"]
    assert subject["subject"] == "S1" and subject["repeatability"] == REPEATABILITY and subject["warnings"] == []
    assert [(visit["name"], visit["levels"]) for visit in subject["visits"]] == [("S1_1", [1, 2, 3]), ("S1_2", [1, 2])]
    assert subject["model"] == {"name": "m", "weights_sha256": "w" * 64}
    rows = table(tmp_path / "CHANGES")
    assert len(subject["changes"]) == len(rows)
    assert [str(change["change"] if change["change"] is not None else "") for change in subject["changes"]] == [
        row["change"] for row in rows
    ]


def test_the_first_visit_is_the_baseline_of_all_others(tmp_path, two):
    third = store(tmp_path / "OUT" / "S1_3", disc(1, 9.0))
    write_changes(tmp_path / "CHANGES", {"S1": [*two, third]})
    rows = [row for row in table(tmp_path / "CHANGES") if row["measure"] == "middle_height_mm" and row["level"] == "1"]
    assert [(row["visit_from"], row["visit_to"], row["beyond_noise"]) for row in rows] == [
        ("S1_1", "S1_2", "no"), ("S1_1", "S1_3", "yes")
    ]  # fmt: skip


def test_a_result_without_repeatability_takes_that_of_the_other_or_leaves_the_noise_unknown(tmp_path, two):
    bare = store(tmp_path / "OUT" / "S1_3", disc(1, 9.0), repeatability=None)
    assert write_changes(tmp_path / "CHANGES", {"S1": [two[0], bare]}).judged == 1
    other = store(tmp_path / "OUT" / "S1_4", disc(1, 9.0), repeatability=None)
    summary = write_changes(tmp_path / "CHANGES", {"S1": [bare, other]})
    assert summary.judged == 0 and "no change can be judged, because the model has no figures" in summary.words()
    assert "not known for this model" in (tmp_path / "CHANGES" / "changes.html").read_text()


def test_a_review_warns_on_the_page_and_in_the_rows(tmp_path, two):
    later = store(tmp_path / "OUT" / "S1_3", disc(1), verdict="review", reasons=["<odd>"])
    summary = write_changes(tmp_path / "CHANGES", {"S1": [two[0], later]})
    assert summary.doubted == ("S1",) and "; 1 with doubts, see the page; " in summary.words()
    page = (tmp_path / "CHANGES" / "changes.html").read_text()
    assert "S1_3 has the verdict review: &lt;odd&gt;" in page and "<odd>" not in page
    assert all("numbered differently (S1_3: verdict review)" in row["remark"] for row in table(tmp_path / "CHANGES"))
    assert "doubts" not in write_changes(tmp_path / "CHANGES", {"S1": two}).words()


def test_reports_beside_the_page_are_linked_and_no_other_path_is_told(tmp_path, two):
    (two[0] / "report.html").write_text("")
    write_changes(tmp_path / "OUT" / "changes", {"S1": two})
    assert 'href="../S1_1/report.html"' in (tmp_path / "OUT" / "changes" / "changes.html").read_text()
    write_changes(tmp_path / "else" / "where", {"S1": two})
    for path in (tmp_path / "else" / "where").iterdir():
        assert "report.html" not in path.read_text() and str(tmp_path) not in path.read_text()


def test_subjects_of_one_visit_are_left_out_and_named(tmp_path, two):
    summary = write_changes(tmp_path / "CHANGES", {"S0": two[:1], "S1": two})
    assert (summary.subjects, summary.left_out) == (("S1",), ("S0",))
    assert "left out: S0" in (tmp_path / "CHANGES" / "changes.html").read_text()


def test_nothing_is_written_where_something_cannot_be_compared(tmp_path, two):
    other = store(tmp_path / "OUT" / "S2_1", model={"name": "n", "weights_sha256": "v", "sha256": "s"})
    more = store(tmp_path / "OUT" / "S2_2")
    for subjects, words in (
        ({"S1": two, "S2": [other, more]}, "subject S2.*different models"),
        ({"S1": two[:1]}, "no subject of 1 has two visits"),
        ({"S1": [*two, tmp_path]}, "holds no <case>_discs.json"),
    ):
        with pytest.raises(UserError, match=words):
            write_changes(tmp_path / "CHANGES", subjects)
    assert not (tmp_path / "CHANGES").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, two):
    (tmp_path / "CHANGES").write_text("mine")
    with pytest.raises(UserError, match=r"--output .*CHANGES cannot be made"):
        write_changes(tmp_path / "CHANGES", {"S1": two})


def test_the_command_compares_results_in_the_given_order(tmp_path, two, capsys):
    assert main(["--output", str(tmp_path / "C"), str(two[1]), str(two[0] / "S1_1_discs.json")]) == 0
    assert "1 of 2 changes beyond the noise" in capsys.readouterr().out
    row = table(tmp_path / "C")[0]
    assert (row["subject"], row["visit_from"]) == ("S1", "S1_2")
    assert main(["--output", str(tmp_path / "C"), "--subject", "me", *map(str, two)]) == 0
    assert table(tmp_path / "C")[0]["subject"] == "me"


def test_the_command_compares_an_output_folder(tmp_path, two, capsys):
    store(tmp_path / "OUT" / "S2_1")
    out = str(tmp_path / "OUT")
    assert main(["--output", str(tmp_path / "C"), "--results", out, "--subject-pattern", r"^(S\d+)_"]) == 0
    assert "changes of 1 subject (1 with one visit left out)" in capsys.readouterr().out
    assert main(["--output", str(tmp_path / "C"), "--results", out, "--subject-table", "none.csv"]) == 2
    assert "none.csv cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give two results or more"),
        (["a"], "give two results or more"),
        (["--results", "OUT"], "needs --subject-pattern or --subject-table"),
        (["--results", "OUT", "--subject-pattern", "(.)", "a", "b"], "leave out RESULT"),
        (["a", "b", "--subject-pattern", "(.)"], "go with --results"),
    ],
)
def test_options_that_ask_for_no_one_thing_are_refused(tmp_path, capsys, arguments, words):
    assert main(["--output", str(tmp_path / "C"), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_bucket_as_output_and_missing_results_are_refused(tmp_path, capsys, two):
    assert main(["--output", "gs://b/c", *map(str, two)]) == 2
    assert main(["--output", str(tmp_path / "C"), str(two[0]), str(tmp_path / "gone")]) == 2
    assert "there is no result at" in capsys.readouterr().err


def test_it_runs_as_a_module_without_jax(tmp_path, two):
    code = (
        "import runpy, sys; sys.argv[1:] = sys.argv[1:]\n"
        "try: runpy.run_module('ivdjax.inference.visits.compare', run_name='__main__')\n"
        "except SystemExit as end: print(end.code, 'jax' in sys.modules, 'SimpleITK' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "--output", str(tmp_path / "C"), *map(str, two)], capture_output=True, text=True
    )
    assert result.stdout.splitlines()[-1] == "0 False False", result.stderr


def test_the_folder_of_a_bids_subject_stands_for_its_sessions(tmp_path, capsys):
    for number, height in ((10, 8.0), (2, 9.0)):
        anat = tmp_path / "OUT" / "sub-01" / f"ses-{number}" / "anat"
        anat.mkdir(parents=True)
        name = f"sub-01_ses-{number}"
        (anat / f"{name}_desc-discs_result.json").write_text(json.dumps(document(name, disc(1, height))))
    subject, session = tmp_path / "OUT" / "sub-01", tmp_path / "OUT" / "sub-01" / "ses-2"
    assert main(["--output", str(tmp_path / "C"), str(subject)]) == 0
    assert {(row["visit_from"], row["visit_to"]) for row in table(tmp_path / "C")} == {
        ("sub-01_ses-2", "sub-01_ses-10")
    }
    assert read_visit(session).case == "sub-01_ses-2"
    assert [path.parent.parent.name for path in results_of([subject])] == ["ses-10", "ses-2"]
