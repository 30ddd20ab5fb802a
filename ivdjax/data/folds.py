"""Who trains and who validates: by subject, so that two visits of one subject never stand on both sides."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from ivdjax.volume import UserError


class _OfSubject(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def subject(self) -> str: ...


AnyCase = TypeVar("AnyCase", bound=_OfSubject)
"""Anything with a name and a subject: files of a case, or a prepared case."""


_LONGEST_NAME = 255
"""Letters of a case's or a subject's name; no folder has a longer one."""


def read_subject_table(path: Path) -> dict[str, tuple[str, int | None]]:
    """Subject and fold (None where there is no such column or it is empty) of each case in a CSV.

    The columns are case, subject and, if wanted, fold (counted from 0).

    Raises:
        UserError: no such file, a column is missing, a row is incomplete or of endless names, a case stands in two
            rows, or a subject stands in two folds.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"subject table {path} cannot be read: {error}") from error
    table: dict[str, tuple[str, int | None]] = {}
    for number, row in enumerate(rows, start=2):
        case, subject = (row.get("case") or "").strip(), (row.get("subject") or "").strip()
        if not case or not subject:
            raise UserError(f"subject table {path}, line {number}: the columns case and subject must be filled")
        if max(len(case), len(subject)) > _LONGEST_NAME:
            raise UserError(
                f"subject table {path}, line {number}: names have at most {_LONGEST_NAME} letters, not "
                f"{max(len(case), len(subject)):,}; is it the right file?"
            )
        if case in table:
            raise UserError(f"subject table {path}, line {number}: case {case} is given twice; keep one row")
        fold = (row.get("fold") or "").strip()
        if fold and not re.fullmatch("[0-9]{1,9}", fold):
            raise UserError(f"subject table {path}, line {number}: fold must be a whole number, not {fold[:50]!r}")
        table[case] = (subject, int(fold) if fold else None)
    _refuse_split_subjects(table, f"subject table {path}")
    return table


def hold_out(cases: Sequence[AnyCase], names: Sequence[str]) -> tuple[list[AnyCase], list[AnyCase]]:
    """Training and validation cases: the named ones and every other case of the same subjects validate.

    No names give no validation cases.

    Raises:
        UserError: a name that is no case, or nothing left to train on.
    """
    known = {case.name for case in cases}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
            advice = f"did you mean {', '.join(near)}?" if near else f"cases are {', '.join(sorted(known)[:12])} ..."
            raise UserError(f"data.validation names {name!r}, which is not a case of the dataset; {advice}")
    held = {case.subject for case in cases if case.name in set(names)}
    return _parted(cases, held, "data.validation")


def fold_of(cases: Sequence[AnyCase], folds: int, fold: int, seed: int = 0) -> tuple[list[AnyCase], list[AnyCase]]:
    """Training and validation cases of one of `folds` folds, counted from 0.

    Subjects are shuffled by `seed` and dealt out in turn; the result depends on nothing else. Where the subject table
    gives every case a fold, those are taken instead.

    Raises:
        UserError: fewer than two folds, more folds than subjects, a fold out of range, or a subject in two folds.
    """
    subjects = sorted({case.subject for case in cases})
    if not 2 <= folds <= len(subjects):
        raise UserError(f"folds must be 2 to the number of subjects, {len(subjects)}, not {folds}; set data.folds")
    if not 0 <= fold < folds:
        raise UserError(f"fold must be 0 to {folds - 1}, not {fold}")
    given = {case.name: (case.subject, getattr(case, "fold", None)) for case in cases}
    assigned = [number for _, number in given.values() if number is not None]
    if assigned:
        if len(assigned) < len(given) or max(assigned) >= folds:
            raise UserError(f"the subject table must give every case a fold of 0 to {folds - 1}, or none at all")
        _refuse_split_subjects(given, "the subject table")
        held = {subject for subject, number in given.values() if number == fold}
    else:
        order = np.random.default_rng(seed).permutation(len(subjects))
        held = {subjects[index] for place, index in enumerate(order) if place % folds == fold}
    return _parted(cases, held, f"fold {fold}")


def _parted(cases: Sequence[AnyCase], held: set[str], what: str) -> tuple[list[AnyCase], list[AnyCase]]:
    training = [case for case in cases if case.subject not in held]
    if not training:
        raise UserError(f"{what} holds out every subject; nothing is left to train on")
    return training, [case for case in cases if case.subject in held]


def _refuse_split_subjects(table: dict[str, tuple[str, int | None]], where: str) -> None:
    """A UserError if a table of (subject, fold) by case puts one subject into two folds."""
    folds: dict[str, set[int]] = {}
    for subject, fold in table.values():
        if fold is not None:
            folds.setdefault(subject, set()).add(fold)
    for subject, found in folds.items():
        if len(found) > 1:
            numbers = " and ".join(str(n) for n in sorted(found))
            raise UserError(f"{where} puts subject {subject} into folds {numbers}; visits of one subject stay together")
