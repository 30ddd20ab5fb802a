from __future__ import annotations

import json
import math
import re

import pytest

from ivdjax.inference.visits.visits import doubts_about, find_visits, named_apart, read_visit, refuse_incomparable
from ivdjax.volume import UserError
from tests.inference.visits.stored_visits import REPEATABILITY, disc, document, store


def visits(*folders):
    return named_apart([read_visit(folder) for folder in folders])


def test_a_result_is_read_from_its_folder_or_its_file(tmp_path):
    folder = store(tmp_path / "a", disc(2, 7.5), disc(1), verdict="review", reasons=["odd"], anchor={"level": 2})
    for path in (folder, folder / "a_discs.json"):
        read = read_visit(path)
        assert (read.case, read.name, read.visit.verdict, read.reasons) == ("a", "a", "review", ("odd",))
        assert sorted(read.visit.discs) == [1, 2] and read.visit.discs[2]["middle_height_mm"] == 7.5
        assert (read.inputs, read.anchored) == ({"wat": "sum of a"}, True)
        assert (read.schema_version, read.program, read.repeatability) == (1, "0.1.0", REPEATABILITY)
        assert read.report() is None
    (folder / "report.html").write_text("")
    assert read_visit(folder).report() == folder / "report.html"


def test_a_renamed_folder_is_read_by_its_only_table(tmp_path):
    folder = store(tmp_path / "a", disc(1)).rename(tmp_path / "b")
    assert read_visit(folder).case == "a"
    (folder / "c_discs.json").write_text("{}")
    with pytest.raises(UserError, match=r"several disc tables \(a_discs.json, c_discs.json\)"):
        read_visit(folder)


def test_results_without_repeatability_are_read(tmp_path):
    assert read_visit(store(tmp_path / "a", repeatability=None)).repeatability is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no JSON"),
        ("[]", "is no disc table of ivdjax"),
        ("{}", "is no disc table of ivdjax"),
        (json.dumps(document("a", schema_version=99)), r"^\S+ has schema version 99, but this ivdjax reads up to"),
        (json.dumps(document("a", disc(0))), "a level is 1 to 255"),
        (json.dumps(document("a", disc(10**9))), "a level is 1 to 255"),
        (json.dumps(document("a", {"level": math.inf})), "is no disc table of ivdjax"),
        (json.dumps(document("a", disc(1, math.nan))), "is no disc table of ivdjax"),
        (json.dumps(document("a", verdict="\ud800")), "is no disc table of ivdjax .UnicodeEncodeError"),
        ("[" * 100_000, "is no JSON"),
        (json.dumps(document("a", model={"weights_sha256": ""})), "weights_sha256 is empty"),
        (json.dumps(document("a", discs=7)), "is no disc table of ivdjax"),
    ],
)
def test_a_file_that_is_no_result_is_refused(tmp_path, text, words):
    path = tmp_path / "a_discs.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as error:
        read_visit(path)
    assert str(path) in str(error.value)


def test_a_path_that_holds_no_result_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no result at"):
        read_visit(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no <case>_discs.json"):
        read_visit(tmp_path)


def test_visits_are_found_by_subject_in_the_order_of_their_numbers(tmp_path):
    for name in ("07_visit10", "07_visit2", "08_visit1"):
        store(tmp_path / name)
    (tmp_path / "logs").mkdir()
    (tmp_path / "summary.csv").write_text("")
    found = find_visits(tmp_path, pattern=r"^(\d+)_")
    assert {subject: [path.name for path in paths] for subject, paths in found.items()} == {
        "07": ["07_visit2", "07_visit10"], "08": ["08_visit1"]
    }  # fmt: skip
    table = tmp_path / "who.csv"
    table.write_text("case,subject\n07_visit2,a\n07_visit10,b\n08_visit1,a\n")
    found = find_visits(tmp_path, table=str(table))
    assert {subject: len(paths) for subject, paths in found.items()} == {"a": 2, "b": 1}


def test_an_output_folder_must_hold_results_and_the_pattern_must_fit(tmp_path):
    with pytest.raises(UserError, match="there is none at"):
        find_visits(tmp_path / "nowhere", pattern="(.)")
    with pytest.raises(UserError, match="no result in"):
        find_visits(tmp_path, pattern="(.)")
    store(tmp_path / "a")
    with pytest.raises(UserError, match="must find the subject of case a"):
        find_visits(tmp_path, pattern=r"(\d)")


def test_equal_case_names_are_told_apart_by_their_output_folders(tmp_path):
    first, later = store(tmp_path / "OUT1" / "a"), store(tmp_path / "OUT2" / "a")
    assert [visit.name for visit in visits(first, later)] == ["OUT1/a", "OUT2/a"]
    again = store(tmp_path / "more" / "OUT2" / "a")
    names = [visit.name for visit in visits(first, later, again, store(tmp_path / "b"))]
    assert names == ["OUT1/a", "OUT2/a (visit 2)", "OUT2/a (visit 3)", "b"]


def test_one_visit_one_file_twice_other_models_and_schemas_are_refused(tmp_path):
    first = store(tmp_path / "a", disc(1))
    with pytest.raises(UserError, match="subject S has only one visit"):
        refuse_incomparable("S", visits(first))
    with pytest.raises(UserError, match="is given twice"):
        refuse_incomparable("S", visits(first, first / "a_discs.json"))
    model = store(tmp_path / "b", model={"name": "n", "weights_sha256": "v" * 64, "sha256": "s"})
    with pytest.raises(UserError, match=r"different models \(a: m \(w{12}\.\.\.\), b: n \(v{12}"):
        refuse_incomparable("S", visits(first, model))
    with pytest.raises(UserError, match=r"different schema versions of their disc tables \(a: 1, c: 0\)"):
        refuse_incomparable("S", visits(first, store(tmp_path / "c", schema_version=0)))
    refuse_incomparable("S", visits(first, store(tmp_path / "d")))


def test_nothing_speaks_against_two_ordinary_visits(tmp_path):
    assert doubts_about(visits(store(tmp_path / "a"), store(tmp_path / "b"))) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verdict": "review", "reasons": ["odd", "odder"]}, "b has the verdict review: odd; odder. Look at"),
        ({"input": {"wat": {"file": "x", "sha256": "sum of a"}}}, "a and b are results of the same images"),
        ({"input": {"fat": {"file": "x", "sha256": "f"}}}, "different channels"),
        ({"model": {"name": "m", "weights_sha256": "w" * 64, "sha256": "t"}}, "different settings"),
        ({"ivdjax_version": "0.2.0"}, r"different versions of ivdjax \(0.1.0, 0.2.0\)"),
        ({"anchor": {"level": 2}}, "pinned by hand in b"),
    ],
)  # fmt: skip
def test_what_speaks_against_a_comparison_is_told(tmp_path, changes, words):
    (doubt,) = doubts_about(visits(store(tmp_path / "a"), store(tmp_path / "b", **changes)))
    assert re.search(words, doubt)


def test_texts_of_a_model_are_texts_whatever_the_file_holds(tmp_path):
    folders = [store(tmp_path / name, disc(1), model={"weights_sha256": ["w"], "sha256": [name]}) for name in "ab"]
    visits = [read_visit(folder) for folder in folders]
    refuse_incomparable("s", visits)
    assert "used with different settings" in " ".join(doubts_about(visits))
