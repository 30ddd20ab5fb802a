"""How far two readers of the same cases agree: Cohen's kappa of their verdicts and of the levels of the discs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ivdjax.inference.case_result import CaseResult
from ivdjax.inference.corrections import Corrections
from ivdjax.review.decision import moved_levels


@dataclass(frozen=True)
class Agreement:
    """Of two readers.

    Attributes:
        readers: their names.
        cases: that both have decided about.
        verdicts: kappa of their verdicts (accepted as it was, corrected, not accepted); None: it has no value, since
            there are no cases or both say one and the same of every case.
        verdicts_same: cases with one verdict.
        discs: of those cases, as the program found them.
        levels: kappa of the levels that the readers leave these discs with; None as of the verdicts.
        levels_same: discs with one level.
    """

    readers: tuple[str, str]
    cases: int
    verdicts: float | None
    verdicts_same: int
    discs: int
    levels: float | None
    levels_same: int


@dataclass(frozen=True, eq=False)
class Reading:
    """What one reader made of one case: the verdict, and the level of each disc that the program found, by its own."""

    verdict: str
    levels: dict[int, int | None]


def reading_of(own: CaseResult, result: CaseResult, corrections: Corrections) -> Reading | None:
    """A reader's reading of a case; None where they have decided nothing.

    Args:
        own: the program's own result.
        result: that follows from the reader's decisions.
        corrections: the reader's decisions.
    """
    if not corrections.in_force:
        return None
    kind = "corrected" if corrections.changes_result else "accepted" if corrections.accepted_by else "not accepted"
    return Reading(kind, moved_levels(own.labels, result.labels))


def agreement(readers: tuple[str, str], pairs: Iterable[tuple[Reading, Reading]]) -> Agreement:
    """The agreement of two readers over the cases that both have read."""
    pairs = list(pairs)
    verdicts = [(one.verdict, other.verdict) for one, other in pairs]
    levels = [(one.levels[disc], other.levels.get(disc)) for one, other in pairs for disc in one.levels]
    return Agreement(
        readers, len(pairs), kappa(verdicts), _same(verdicts), len(levels), kappa(levels), _same(levels)
    )  # fmt: skip


def kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Cohen's kappa, (observed - expected) / (1 - expected) agreement: 1 for full agreement, 0 for that of chance.

    Source: J. Cohen, A coefficient of agreement for nominal scales, Educ Psychol Meas 20, 37 (1960).

    Args:
        pairs: what each of two readers says of each thing.

    Returns:
        None without a pair, or where both say one and the same of everything, which chance would do too.
    """
    if not pairs:
        return None
    kinds = list(dict.fromkeys(kind for pair in pairs for kind in pair))
    table = np.zeros((len(kinds), len(kinds)))
    for one, other in pairs:
        table[kinds.index(one), kinds.index(other)] += 1
    table /= table.sum()
    expected = float(table.sum(axis=1) @ table.sum(axis=0))
    return None if expected >= 1 - 1e-12 else float((np.trace(table) - expected) / (1 - expected))


def _same(pairs: Sequence[tuple[Hashable, Hashable]]) -> int:
    return sum(one == other for one, other in pairs)
