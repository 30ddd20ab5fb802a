"""Who trains and who validates: by subject."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from ivdjax.data.folds import fold_of, hold_out, read_subject_table
from ivdjax.volume import UserError


@dataclass(frozen=True)
class Visit:
    name: str
    subject: str
    fold: int | None = None


VISITS = [Visit(f"{subject}_{visit}", subject) for subject in ("ann", "bob", "cat", "dan", "eve") for visit in (1, 2)]


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "subjects.csv"
    path.write_text(text)
    return path


def test_both_visits_of_a_held_out_subject_leave_training() -> None:
    training, validation = hold_out(VISITS, ["bob_2"])
    assert [v.name for v in validation] == ["bob_1", "bob_2"]
    assert len(training) == 8 and "bob" not in {v.subject for v in training}
    assert hold_out(VISITS, []) == (VISITS, [])


def test_unknown_validation_names_get_near_ones() -> None:
    with pytest.raises(UserError, match=r"'bob_3'.*did you mean .*bob_"):
        hold_out(VISITS, ["bob_3"])
    with pytest.raises(UserError, match="cases are ann_1"):
        hold_out(VISITS, ["?"])


def test_something_must_be_left_to_train_on() -> None:
    with pytest.raises(UserError, match="nothing is left"):
        hold_out(VISITS, [v.name for v in VISITS])


def test_folds_part_subjects_and_cover_each_once() -> None:
    seen: list[str] = []
    for fold in range(3):
        training, validation = fold_of(VISITS, 3, fold, seed=1)
        assert not {v.subject for v in training} & {v.subject for v in validation}
        assert len(training) + len(validation) == len(VISITS)
        seen += [v.name for v in validation]
    assert sorted(seen) == sorted(v.name for v in VISITS)


def test_folds_depend_on_the_seed_and_not_on_the_order_of_cases() -> None:
    names = [{v.name for v in fold_of(VISITS[::step], 5, 0, seed)[1]} for step, seed in ((1, 0), (-1, 0))]
    assert names[0] == names[1]
    assert len({frozenset(v.name for v in fold_of(VISITS, 5, 0, seed)[1]) for seed in range(8)}) > 1


@pytest.mark.parametrize(("folds", "fold", "message"), [(1, 0, "2 to"), (6, 0, "subjects, 5, not 6"), (3, 3, "0 to 2")])
def test_impossible_folds_are_refused(folds: int, fold: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fold_of(VISITS, folds, fold)


def test_folds_of_the_table_are_taken() -> None:
    given = [Visit(v.name, v.subject, int(v.subject in ("cat", "eve"))) for v in VISITS]
    assert {v.subject for v in fold_of(given, 2, 1)[1]} == {"cat", "eve"}
    with pytest.raises(UserError, match="every case a fold"):
        fold_of([Visit("x", "x"), *given], 2, 1)
    with pytest.raises(UserError, match="subject ann into folds 0 and 1"):
        fold_of([Visit("x", "ann", 1), *given], 2, 1)


def test_table_is_read_with_and_without_folds(tmp_path: Path) -> None:
    assert read_subject_table(table(tmp_path, "case,subject\n01, ann\n02,bob\n")) == {
        "01": ("ann", None), "02": ("bob", None),
    }  # fmt: skip
    assert read_subject_table(table(tmp_path, "\ufeffsubject,case,fold\nann,01,0\nbob,02,\n")) == {
        "01": ("ann", 0), "02": ("bob", None),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case;subject\n01;ann\n", "line 2: the columns case and subject"),
        ("case,subject\n01,\n", "line 2: the columns"),
        ("case,subject\n01,ann\n01,bob\n", "line 3: case 01 is given twice"),
        ("case,subject,fold\n01,ann,first\n", "whole number, not 'first'"),
        ("case,subject,fold\n01,ann,\u00b2\n", "whole number, not '\u00b2'"),
        ("case,subject,fold\n01,ann,0\n02,ann,1\n", "subject ann into folds 0 and 1"),
    ],
)
def test_faulty_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_subject_table(table(tmp_path, text))


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_subject_table(tmp_path / "absent.csv")


def test_names_without_end_are_refused_in_a_short_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 3: names have at most 255 letters, not 70,000; is it") as refused:
        read_subject_table(table(tmp_path, f"case,subject\n01,ann\n{'a' * 70_000},bob\n"))
    assert len(str(refused.value)) < 1000
