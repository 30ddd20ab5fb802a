from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest

from ivdjax.imaging.files import read_labels, read_volume, write_volume
from ivdjax.inference.cohort import write_summary
from ivdjax.inference.results import OutputOptions, stored_corrections
from ivdjax.inference.visits.compare import write_changes
from ivdjax.review.decision import Decision, moved_levels
from ivdjax.review.folder import ResultFolder
from ivdjax.review.open_case import OpenCase, Outdated
from ivdjax.review.session import Session
from ivdjax.volume import CaseError
from tests.review.results import store_case, store_cases


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return store_cases(tmp_path_factory.mktemp("review"), high=1)


@pytest.fixture
def case(stored, tmp_path) -> OpenCase:
    shutil.copytree(stored, tmp_path / "out")
    return OpenCase(ResultFolder(tmp_path / "out", False, {}), "high")


def decide(case: OpenCase, *decisions: Decision, reader: str = "Ada", blind: bool = False) -> None:
    for decision in decisions:
        case.decide(decision, reader, case.state()[0], blind)


def levels(case: OpenCase, reader: str = "") -> tuple[int, ...]:
    return case.state(reader)[2].labels.levels


def test_a_shift_moves_every_level_and_another_disc_may_come_in(case, tmp_path):
    before = case.state()[2]
    assert before.labels.levels == (2, 3, 4, 5, 6, 7)
    decide(case, Decision("shift", steps=-1))
    _, corrections, after = case.state()
    assert after.labels.levels == (1, 2, 3, 4, 5, 6, 7)
    assert moved_levels(before.labels, after.labels) == {level: level - 1 for level in range(2, 8)}
    entry = corrections.in_force[-1]
    assert entry.by == "Ada" and entry.at and entry.details["shift"] == -1
    assert entry.details["levels"] == {str(level): level - 1 for level in range(2, 8)}
    # On the disk before it is answered: another process reads the same.
    assert stored_corrections(tmp_path / "out", "high", OutputOptions()).history == corrections.history


def test_one_disc_gets_its_level_and_the_others_follow(case):
    decide(case, Decision("level", disc=5, to=4))
    assert levels(case) == (1, 2, 3, 4, 5, 6, 7)


def test_a_deleted_disc_is_gone_and_an_undo_brings_the_programs_own_result_back_to_the_voxel(case):
    own = case.own.labels.array
    decide(case, Decision("delete", disc=7))
    result = case.state()[2]
    assert not result.labels.array[own == 7].any() and result.labels.array[own == 4].all()
    decide(case, Decision("undo"))
    _, corrections, result = case.state()
    assert np.array_equal(result.labels.array, own) and corrections.in_force == ()
    assert [entry.action for entry in corrections.history] == ["delete", "reset"]
    with pytest.raises(CaseError, match="no decision to take back"):
        decide(case, Decision("undo"))


def test_an_undo_takes_back_the_last_decision_alone(case):
    decide(case, Decision("shift", steps=-1), Decision("delete", disc=7), Decision("undo"))
    assert levels(case) == (1, 2, 3, 4, 5, 6, 7)


def test_an_undo_brings_back_the_map_that_was_drawn_before_and_every_map_is_kept(case, tmp_path):
    first, second = (np.where(case.own.labels.array == level, level, 0).astype(np.uint8) for level in (3, 4))
    case.draw(case.own.labels.with_array(first), "Ada", 0, "edited.nii.gz")
    case.draw(case.own.labels.with_array(second), "Ada", 1, "edited.nii.gz")
    assert levels(case) == (4,)
    decide(case, Decision("undo"))
    assert levels(case) == (3,)
    case.write()
    again = OpenCase(ResultFolder(tmp_path / "out", False, {}), "high")
    assert levels(again) == (3,) and np.array_equal(again.state()[1].drawn[2].array, second)
    decide(again, Decision("undo"))
    assert levels(again) == case.own.labels.levels


def test_the_same_words_about_another_disc_are_not_taken_for_written(case, tmp_path):
    decide(case, Decision("delete", disc=7))
    case.write()
    decide(case, Decision("undo"), Decision("delete", disc=2))  # the process dies here
    assert not OpenCase(ResultFolder(tmp_path / "out", False, {}), "high").is_written


def test_an_acceptance_makes_the_verdict_ok_and_says_by_whom_in_spite_of_what(case):
    own = case.own
    assert own.verdict == "review"
    decide(case, Decision("transitional"), Decision("note", text=" looked twice "), Decision("accept"))
    _, _, result = case.state()
    assert result.verdict == "ok" and result.reasons == () and np.array_equal(result.labels.array, own.labels.array)
    assert f"Accepted by Ada although {own.reasons[0]}" in result.remarks[0]
    assert "looked twice" in result.remarks[-1] and "transitional" in result.remarks[-2]
    decide(case, Decision("shift", steps=-1))  # what was accepted is another result now
    assert case.state()[1].accepted_by == ()


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (Decision("level", disc=1, to=2), "no disc of level 1"),
        (Decision("level", disc=2, to=16), "levels are 1 .L5/S1. to 15"),
        (Decision("note", text=" "), "1 to 2000 letters"),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_nothing(case, decision, message):
    with pytest.raises(CaseError, match=message):
        decide(case, decision)
    assert case.state()[1].history == ()


def test_a_decision_on_an_outdated_page_is_refused(case):
    decide(case, Decision("note", text="first"))
    with pytest.raises(Outdated):
        case.decide(Decision("accept"), "Ada", 0)
    assert len(case.state()[1].history) == 1


def test_a_blind_reader_sees_and_changes_nothing_of_the_others(case):
    decide(case, Decision("shift", steps=-1))
    decide(case, Decision("delete", disc=7), reader="Grace", blind=True)
    assert levels(case) == (1, 2, 3, 4, 5, 6, 7)
    assert not case.state("Grace")[2].labels.array[case.own.labels.array == 7].any()
    assert levels(case, "Else") == (2, 3, 4, 5, 6, 7)
    assert [entry.by for entry in case.state()[1].in_force] == ["Ada"]


def test_all_outputs_follow_and_the_programs_own_result_stays(stored, tmp_path):
    shutil.copytree(stored, tmp_path / "out")
    folder = ResultFolder(tmp_path / "out", False, {})
    session = Session(folder)
    session.start()
    case = session.opened("high")
    own = read_labels(tmp_path / "out" / "high" / "high_discs.nii.gz", "high")
    decide(case, Decision("shift", steps=-1))
    session.note_changed(case)
    session.stop()
    home = tmp_path / "out" / "high"
    assert read_labels(home / "high_discs.nii.gz", "high").levels == (1, 2, 3, 4, 5, 6, 7)
    kept = read_labels(home / "high_uncorrected.nii.gz", "high")
    assert np.array_equal(kept.array, own.array) and kept.levels == (2, 3, 4, 5, 6, 7)
    with (home / "high_discs.csv").open() as stream:
        assert [row["level"] for row in csv.DictReader(stream)] == list("1234567")
    with (tmp_path / "out" / "summary.csv").open() as stream:
        rows = {row["case"]: row for row in csv.DictReader(stream)}
    assert rows["high"]["corrected"] == "All levels were moved by -1 by Ada" and rows["high"]["discs"] == "7"
    assert rows["high"]["seconds"] == "1.0" and rows["broken"]["status"] == "failed"
    with (tmp_path / "out" / "discs.csv").open() as stream:
        assert {row["corrected"] for row in csv.DictReader(stream)} == {"yes"}
    # A second correction starts from the program's own result, which is no other for it.
    again = OpenCase(folder, "high")
    assert again.is_written and np.array_equal(again.own.labels.array, own.array)
    assert again.state()[2].labels.levels == (1, 2, 3, 4, 5, 6, 7)


def test_what_a_kill_left_unwritten_is_written_by_the_next_review(case, tmp_path):
    decide(case, Decision("shift", steps=-1))  # the process dies here
    session = Session(ResultFolder(tmp_path / "out", False, {}))
    session.start()
    session.stop()
    assert read_labels(tmp_path / "out" / "high" / "high_discs.nii.gz", "high").levels == (1, 2, 3, 4, 5, 6, 7)


def test_a_case_without_a_result_or_without_its_images_says_so(case, tmp_path, stored):
    session = Session(ResultFolder(tmp_path / "out", False, {}))
    with pytest.raises(CaseError, match="case broken has no result: case broken: no image"):
        session.opened("broken")
    with pytest.raises(KeyError):
        session.opened("../high")
    image = stored.parent / "data" / "high" / "high_t2.nii.gz"
    image.rename(image.with_name("gone"))
    try:
        with pytest.raises(CaseError, match="--images FOLDER"):
            session.opened("high")
    finally:
        image.with_name("gone").rename(image)


def test_the_comparison_of_visits_follows_a_correction(tmp_path):
    out = store_cases(tmp_path, S1_1=1, S1_2=0)
    write_changes(out, {"S1": [out / "S1_1", out / "S1_2"]})

    def lost() -> set[str]:
        with (out / "changes.csv").open(newline="") as stream:
            return {row["level_name"] for row in csv.DictReader(stream) if "disc not found" in row["remark"]}

    assert lost() == {"L5/S1"}, "the first visit has every level too high"
    session = Session(ResultFolder(out, False, {}))
    session.start()
    case = session.opened("S1_1")
    decide(case, Decision("shift", steps=-1))
    session.note_changed(case)
    session.stop()
    assert lost() == set()


@pytest.fixture
def doubtful(tmp_path) -> ResultFolder:
    """A case without L5/S1 in view, which the program itself sends to review."""
    (tmp_path / "out").mkdir()
    write_summary(tmp_path / "out", [store_case(tmp_path, "short", levels=range(2, 9))], OutputOptions())
    return ResultFolder(tmp_path / "out", False, {})


def test_an_acceptance_that_is_undone_in_a_later_review_brings_the_verdict_back(doubtful):
    case = OpenCase(doubtful, "short")
    before = case.own
    assert before.verdict == "review" and before.reasons
    decide(case, Decision("accept"), Decision("note", text="odd"))
    case.write()
    again = OpenCase(doubtful, "short")
    accepted = again.state()[2]
    assert accepted.verdict == "ok" and sum("Accepted by Ada" in remark for remark in accepted.remarks) == 1
    assert again.state("Grace")[2].verdict == "review", "a blind reader sees the program's own result"
    decide(again, Decision("undo"), Decision("undo"))
    again.write()
    after = doubtful.stored("short", before.case)
    assert (after.verdict, after.reasons, after.remarks) == (before.verdict, before.reasons, before.remarks)


def test_the_map_of_probabilities_stays(doubtful):
    path = doubtful.path / "short" / "short_probability.nii.gz"
    path.write_bytes(b"as it was")
    case = OpenCase(doubtful, "short")
    decide(case, Decision("accept"))
    case.write()
    assert path.read_bytes() == b"as it was"


def test_another_image_in_the_place_of_the_inferred_one_is_refused(doubtful, tmp_path):
    image = tmp_path / "data" / "short" / "short_t2.nii.gz"
    volume = read_volume({"t2": image}, "short")
    write_volume(image, volume.array[0] + 1, volume.grid)
    with pytest.raises(CaseError, match=r"short_t2\.nii\.gz is not the image that was inferred.*--images FOLDER"):
        OpenCase(doubtful, "short")


def test_a_case_that_cannot_be_written_does_not_keep_the_others_from_it(tmp_path, monkeypatch):
    out = store_cases(tmp_path, a=0, b=0)
    session = Session(ResultFolder(out, False, {}))
    cases = {name: session.opened(name) for name in "ab"}
    for case in cases.values():
        decide(case, Decision("accept"))

    def fail() -> None:
        raise ValueError("labels lie on another grid")

    monkeypatch.setattr(cases["a"], "write", fail)
    session.start()
    session.stop()
    assert session.trouble("a") == "ValueError: labels lie on another grid" and not session.trouble("b")
    assert OpenCase(session.folder, "b").is_written and "Accepted by Ada" in (out / "summary.csv").read_text()
