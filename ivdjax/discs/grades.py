"""An estimate of a disc's Pfirrmann grade from its measures: a probability of each grade, 1 to 5. No diagnosis.

Cumulative logits (McCullagh, J. R. Stat. Soc. B 42, 109, 1980) over a few features of the disc and of its spine:

    P(grade <= k) = 1 / (1 + exp(score - threshold_k)),    score = sum of weight x (feature - centre) / spread

A model holds the numbers (`grades` in its description; `python -m benchmarks.fit_grades`); one without them gives no
grades. They were fitted to what readers said of T2-weighted images, and two readers agree to a kappa of about 0.6: an
estimate cannot be surer than that, whatever its probabilities say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.volume import PFIRRMANN_GRADES, Disc

GRADE_MEASURES: tuple[str, ...] = (
    "pfirrmann_grade", "pfirrmann_expected", *(f"pfirrmann_probability_{grade}" for grade in PFIRRMANN_GRADES)
)  # fmt: skip
"""Columns of the disc table: the middle grade (half of the probability at or below it), the mean grade, and the
probability of each."""

_FURTHEST = 3.0
"""Spreads from the centre beyond which a feature says no more: what is odd is not extrapolated."""


def _log(name: str) -> Callable[[Disc], float | None]:
    return lambda disc: _log_ratio(disc.measures.get(name), 1.0)


_OF_DISC: Mapping[str, Callable[[Disc], float | None]] = {
    "log_nucleus_annulus": _log("nucleus_over_annulus"),
    "log_height_index": _log("disc_height_index"),
    "l5s1": lambda disc: float(disc.level == 1),
    "l4_to_s1": lambda disc: float(disc.level <= 2),
}
_OVER: Mapping[str, str] = {"log_nucleus_csf": "csf_signal", "log_nucleus_marrow": "marrow_signal"}
"""Features that are the signal of the nucleus over that of a tissue beside the disc; where that is not seen there, over
its median beside the spine's other discs."""
_OF_SPINE: Mapping[str, str] = {
    "spine_log_nucleus_csf": "log_nucleus_csf", "spine_log_nucleus_marrow": "log_nucleus_marrow",
}  # fmt: skip
"""Features that are the median of another over all discs of the spine: readers see the whole spine too."""

UNSURE = "the outline is unsure"
_NO_MEASURE = "a measure that it rests on is missing"
_RESTS_ON = ("nucleus_signal", "csf_signal", "marrow_signal", "nucleus_over_annulus", "disc_height_index")
"""Measures, in the order in which the lack of one is told."""

FEATURES: tuple[str, ...] = (*_OVER, *_OF_DISC, *_OF_SPINE)
"""What a grader may look at: logarithms of the signal of nucleus over that of CSF, marrow and annulus, and of the
height index; whether the level is L5/S1, or one of the lowest two."""


@dataclass(frozen=True)
class Grader:
    """The numbers of an estimate.

    Attributes:
        features: of `FEATURES`, one or more.
        centres, spreads, weights: of each feature; spreads above 0.
        thresholds: four, rising.
    """

    features: tuple[str, ...]
    centres: tuple[float, ...]
    spreads: tuple[float, ...]
    weights: tuple[float, ...]
    thresholds: tuple[float, ...]

    def probabilities(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probability of each grade (N, 5), 0 to 1, summing to 1, for values of the features (N, F)."""
        scores = standard(values, np.array(self.centres), np.array(self.spreads)) @ np.array(self.weights)
        return grade_probabilities(scores, np.array(self.thresholds))


def standard(
    values: NDArray[np.floating], centres: NDArray[np.floating], spreads: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Features (N, F) about their centres, in spreads, and no further away than 3 of them."""
    return np.clip((np.asarray(values, dtype=float) - centres) / spreads, -_FURTHEST, _FURTHEST)


def grade_probabilities(scores: NDArray[np.floating], thresholds: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probability of each grade (N, 5) for scores (N,) and four rising thresholds."""
    odds = np.clip(thresholds - np.asarray(scores, dtype=float)[:, None], -500, 500)
    below = np.concatenate([np.zeros((len(odds), 1)), 1 / (1 + np.exp(-odds)), np.ones((len(odds), 1))], axis=1)
    return np.diff(below, axis=1)


def middle_grades(probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """The grade (N,) at or below which half of the probability (N, 5) lies."""
    return 1 + (np.cumsum(probabilities[:, :-1], axis=1) < 0.5).sum(axis=1)


def expected_grades(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """The mean grade (N,), 1 to 5, of probabilities (N, 5)."""
    return np.asarray(probabilities, dtype=float) @ np.array(PFIRRMANN_GRADES, dtype=float)


def grade_features(discs: Sequence[Disc], names: Sequence[str] = FEATURES) -> dict[int, dict[str, float | None]]:
    """The features of each disc by level; None where a measure that one rests on cannot be given.

    Args:
        discs: of one spine, measured.
        names: of `FEATURES`.
    """
    own = {disc.level: {name: value(disc) for name, value in _OF_DISC.items()} for disc in discs}
    for name, tissue in _OVER.items():
        usual = _median([value for disc in discs if (value := disc.measures.get(tissue)) is not None])
        for disc in discs:
            own[disc.level][name] = _log_ratio(disc.measures.get("nucleus_signal"),
                                               disc.measures.get(tissue) or usual)  # fmt: skip
    spine: dict[str, float | None] = {}
    for name, of in _OF_SPINE.items():
        spine[name] = _median([value for found in own.values() if (value := found[of]) is not None])
    return {level: {name: (found | spine)[name] for name in names} for level, found in own.items()}


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if len(values) else None


def _log_ratio(part: float | None, whole: float | None) -> float | None:
    """The logarithm of a ratio of signals; None where one is missing or not positive."""
    if part is None or whole is None or part <= 0 or whole <= 0:
        return None
    return math.log(part / whole)


def graded(discs: Sequence[Disc], grader: Grader | None, unsure: Sequence[int] = ()) -> list[Disc]:
    """Discs with the columns `GRADE_MEASURES` beside their measures.

    They are None without a grader; and, with the reason in `missing`, for a disc of which a feature cannot be given (no
    T2-weighted signal, no canal), and where the outline is unsure.

    Args:
        discs: of one spine, measured.
        grader: None: no grades.
        unsure: levels whose outlines are.
    """
    if grader is None:
        return [replace(disc, measures=disc.measures | dict.fromkeys(GRADE_MEASURES)) for disc in discs]
    features = grade_features(discs, grader.features)
    return [_graded(disc, grader, features[disc.level], disc.level in unsure) for disc in discs]


def _graded(disc: Disc, grader: Grader, features: Mapping[str, float | None], unsure: bool) -> Disc:
    """A disc with its grade, or with the reason why it has none."""
    reason = UNSURE if unsure else _reason(disc) if None in features.values() else ""
    if reason:
        missing = disc.missing | dict.fromkeys(GRADE_MEASURES, reason)
        return replace(disc, measures=disc.measures | dict.fromkeys(GRADE_MEASURES), missing=missing)
    values = [value for value in features.values() if value is not None]
    return replace(disc, measures=disc.measures | _columns(grader, values))


def _reason(disc: Disc) -> str:
    """Why a feature of a disc cannot be given: what is said of the first measure that is missing."""
    return next((disc.missing[name] for name in _RESTS_ON if name in disc.missing), _NO_MEASURE)


def _columns(grader: Grader, values: Sequence[float]) -> dict[str, float | None]:
    found = grader.probabilities(np.array([values]))
    numbers = (int(middle_grades(found)[0]), float(expected_grades(found)[0]), *map(float, found[0]))
    return dict(zip(GRADE_MEASURES, numbers, strict=True))


def grader_of(facts: Mapping[str, Any] | None) -> Grader | None:
    """The grader that a model's description holds (`grades`); None for a model without.

    Raises:
        ValueError: what the description holds is no grader.
    """
    if facts is None:
        return None
    try:
        features = {str(name): [float(one[key]) for key in ("centre", "spread", "weight")]
                    for name, one in facts["features"].items()}  # fmt: skip
        thresholds = tuple(float(value) for value in facts["thresholds"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(
            f"a grader needs features with centre, spread and weight, and thresholds: {error!r}"
        ) from error
    if strange := features.keys() - set(FEATURES):
        raise ValueError(f"a grader takes the features {', '.join(FEATURES)}, not {', '.join(sorted(strange))}")
    numbers = np.array([*features.values()], dtype=float).reshape(-1, 3)
    if not len(numbers) or not np.isfinite(numbers).all() or (numbers[:, 1] <= 0).any():
        raise ValueError("a grader needs one or more features, finite numbers, and spreads above 0")
    if (
        len(thresholds) != len(PFIRRMANN_GRADES) - 1
        or not np.isfinite(thresholds).all()
        or (np.diff(thresholds) <= 0).any()
    ):
        raise ValueError(f"a grader needs {len(PFIRRMANN_GRADES) - 1} thresholds that rise, not {list(thresholds)}")
    centres, spreads, weights = (tuple(map(float, column)) for column in numbers.T)
    return Grader(tuple(features), centres, spreads, weights, thresholds)
