"""A model's calibration of level confidence and its verdict: fitted to cases whose levels are known, and tried.

Each kind of case (patients' views, phantoms, real scans) counts as much as each other kind. Confidence gets a slope and
an offset in log odds. The verdict is a logistic regression over the signs of `ivdjax.discs.signs`, no weight below 0,
with a penalty on their sum: a sign that does not help to predict an error gets the weight 0 and is a remark.

What is told of cases that took part is cross-fitted: each patient's cases are judged by a fit without that patient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.level_cases import LevelCase
from ivdjax.config import InferenceConfig
from ivdjax.discs.numbering import judge_candidates
from ivdjax.discs.outline import outline_sign
from ivdjax.discs.signs import OUTLINE, SIGNS, Sign, signs_of
from ivdjax.discs.verdict import Judgement
from ivdjax.volume import LUMBAR_DISCS

NAMES = (*SIGNS, OUTLINE)
_SUM_PENALTY, _PULL = 0.02, 0.02
"""Of the weights' sum, and of slope and offset away from 1 and 0, in log likelihood a case."""
_FOLDS = 5
_BINS = 10


@dataclass(frozen=True, eq=False)
class Judged:
    """A case as the solver answers it.

    Attributes:
        group: patient or phantom.
        kind: of the case.
        name: of the case.
        signs: by name.
        wrong: whether a level is wrong or a disc in view is missing.
        confidence: of every level that was given and can be judged, uncalibrated.
        right: of each of these.
    """

    group: str
    kind: str
    name: str
    signs: dict[str, Sign]
    wrong: bool
    confidence: tuple[float, ...]
    right: tuple[bool, ...]


def judge_case(settings: InferenceConfig, case: LevelCase) -> Judged:
    """The solver's answer to a case, and whether it is right."""
    answer = judge_candidates(case.candidates, case.line, case.guide_off_mm, settings)
    signs = signs_of(answer)
    if answer.places:
        outlines = {level: float(case.outlines[index]) for level, index in answer.places.items()}
        if not np.isnan(list(outlines.values())).any():
            signs[OUTLINE] = outline_sign(outlines, settings.sure_outline)
    found = {level: case.is_level(index, level) for level, index in answer.places.items() if level <= LUMBAR_DISCS}
    shown = [level for level, is_right in found.items() if is_right is not None]
    return Judged(
        case.group, case.kind, case.name, signs, not case.right(answer.levels),
        tuple(answer.confidence[level] for level in shown), tuple(bool(found[level]) for level in shown),
    )  # fmt: skip


def fit_judgement(cases: Sequence[Judged]) -> Judgement:
    """The judgement under which what came out is the likeliest."""
    slope, offset = _fit_confidence(cases)
    bias, weights = _fit_verdict(cases)
    return Judgement(slope, offset, bias, dict(zip(NAMES, weights, strict=True)))


def plain(judgement: Judgement) -> dict[str, Any]:
    """A judgement as a model's description holds it; signs without weight are left out."""
    return {
        "confidence": {"slope": round(judgement.slope, 4), "offset": round(judgement.offset, 4)},
        "bias": round(judgement.bias, 4),
        "weights": {name: round(float(w), 4) for name, w in judgement.weights.items() if w >= 0.005},
    }


def cross_fitted(cases: Sequence[Judged]) -> list[tuple[Judged, Judgement]]:
    """Each case with a judgement that its own patient or phantom took no part in."""
    groups = sorted({case.group for case in cases})
    order = np.random.default_rng(0).permutation(len(groups))
    fold = {groups[index]: place % _FOLDS for place, index in enumerate(order)}
    fits = [fit_judgement([case for case in cases if fold[case.group] != number]) for number in range(_FOLDS)]
    return [(case, fits[fold[case.group]]) for case in cases]


def reliability(pairs: Sequence[tuple[float, bool]]) -> tuple[float, list[tuple[float, float, int]]]:
    """Expected calibration error, and mean confidence, share of right ones and count in each tenth that occurs."""
    values, right = np.array([p for p, _ in pairs]), np.array([r for _, r in pairs], dtype=float)
    place = np.minimum((values * _BINS).astype(int), _BINS - 1)
    rows = [(float(values[place == b].mean()), float(right[place == b].mean()), int((place == b).sum()))
            for b in range(_BINS) if (place == b).any()]  # fmt: skip
    return sum(n * abs(c - r) for c, r, n in rows) / max(len(pairs), 1), rows


def interval(
    cases: Sequence[tuple[Judged, Judgement]], figure: Callable[[Sequence[Any]], float]
) -> tuple[float, float]:
    """95 % interval of a figure over patients drawn anew."""
    groups: dict[str, list[Any]] = {}
    for case in cases:
        groups.setdefault(case[0].group, []).append(case)
    draw, names = np.random.default_rng(0), sorted(groups)
    drawn = [figure([case for i in draw.integers(0, len(names), len(names)) for case in groups[names[i]]])
             for _ in range(300)]  # fmt: skip
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def confidence_error(cases: Sequence[tuple[Judged, Judgement]]) -> float:
    """Expected calibration error of calibrated level confidence."""
    return reliability(level_pairs(cases))[0]


def level_pairs(cases: Sequence[tuple[Judged, Judgement]]) -> list[tuple[float, bool]]:
    """Calibrated confidence of every level, and whether it is right."""
    return [(judgement.confidence(p), r) for case, judgement in cases
            for p, r in zip(case.confidence, case.right, strict=True)]  # fmt: skip


def report(title: str, cases: Sequence[tuple[Judged, Judgement]]) -> str:
    """Reliability and what each threshold costs, in markdown."""
    error, rows = reliability(level_pairs(cases))
    low, high = interval(cases, confidence_error)
    wrong = np.array([case.wrong for case, _ in cases])
    chance = np.array([judgement.probability_wrong(case.signs) for case, judgement in cases])
    verdict_error, verdict_rows = reliability(list(zip(chance.tolist(), wrong.tolist(), strict=True)))
    lines = [
        f"### {title}: {len(cases)} cases, {int(wrong.sum())} with something wrong", "",
        f"Level confidence: expected calibration error {error:.3f} (95 % interval {low:.3f} to {high:.3f}).", "",
        "| mean confidence | share right | levels |", "|---|---|---|",
        *(f"| {c:.3f} | {r:.3f} | {n} |" for c, r, n in rows), "",
        f"P(something is wrong): expected calibration error {verdict_error:.3f}.", "",
        "| mean probability | share wrong | cases |", "|---|---|---|",
        *(f"| {c:.3f} | {r:.3f} | {n} |" for c, r, n in verdict_rows), "",
        "| review above | right ones in review | wrong ones that pass |", "|---|---|---|",
    ]  # fmt: skip
    for threshold in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5):
        review = chance > threshold
        lines.append(f"| {threshold} | {int((review & ~wrong).sum())} of {int((~wrong).sum())} | "
                     f"{int((~review & wrong).sum())} of {int(wrong.sum())} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def worth(cases: Sequence[Judged], judgement: Judgement) -> str:
    """Each sign's weight, and what the likelihood a case loses without it, in markdown."""
    lines = ["| sign | weight | log likelihood a case without it |", "|---|---|---|"]
    whole = _verdict_loss(*_table(cases), _free(judgement))
    for name in sorted(NAMES, key=lambda name: -judgement.weights[name]):
        others = [replace(case, signs={k: v for k, v in case.signs.items() if k != name}) for case in cases]
        bias, weights = _fit_verdict(others)
        without = _verdict_loss(*_table(others), np.array([bias, *weights]))
        lines.append(f"| {name} | {judgement.weights[name]:.2f} | {whole - without:+.4f} |")
    return "\n".join(lines) + "\n"


def _free(judgement: Judgement) -> NDArray[np.float64]:
    return np.array([judgement.bias, *(judgement.weights[name] for name in NAMES)])


def _kind_weights(kinds: Sequence[str]) -> NDArray[np.float64]:
    names, counts = np.unique(kinds, return_counts=True)
    share = {name: 1 / (len(names) * count) for name, count in zip(names, counts, strict=True)}
    return np.array([share[kind] for kind in kinds])


def _table(cases: Sequence[Judged]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    signs = np.array([[case.signs[name].value if name in case.signs else 0.0 for name in NAMES] for case in cases])
    return signs, np.array([case.wrong for case in cases], dtype=float), _kind_weights([case.kind for case in cases])


def _verdict_loss(
    signs: NDArray[np.float64], wrong: NDArray[np.float64], share: NDArray[np.float64], free: NDArray[np.float64]
) -> float:
    odds = free[0] + signs @ free[1:]
    return float((share * (np.logaddexp(0, odds) - wrong * odds)).sum())


def _fit_verdict(cases: Sequence[Judged]) -> tuple[float, NDArray[np.float64]]:
    # What nothing was found in is wrong without any regression.
    signs, wrong, share = _table([case for case in cases if "nothing" not in case.signs])

    def objective(free: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        odds = free[0] + signs @ free[1:]
        off = share * (1 / (1 + np.exp(-odds)) - wrong)
        slope = np.concatenate([[off.sum()], signs.T @ off + _SUM_PENALTY / len(NAMES)])
        return _verdict_loss(signs, wrong, share, free) + _SUM_PENALTY * free[1:].mean(), slope

    start = np.concatenate([[-3.0], np.full(len(NAMES), 0.5)])
    bounds = [(-12.0, 6.0), *[(0.0, 12.0)] * len(NAMES)]
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000})
    return float(found.x[0]), np.where(found.x[1:] < 0.05, 0.0, found.x[1:])


def _fit_confidence(cases: Sequence[Judged]) -> tuple[float, float]:
    rows = [(p, r, case.kind) for case in cases for p, r in zip(case.confidence, case.right, strict=True)]
    share = _kind_weights([kind for _, _, kind in rows])
    p = np.clip([p for p, _, _ in rows], 1e-6, 1 - 1e-6)
    odds, right = np.log(p / (1 - p)), np.array([r for _, r, _ in rows], dtype=float)

    def objective(free: NDArray[np.float64]) -> float:
        moved = np.exp(free[0]) * odds + free[1]
        return float((share * (np.logaddexp(0, moved) - right * moved)).sum() + _PULL * (free**2).sum())

    found = minimize(objective, np.zeros(2), method="L-BFGS-B")
    return float(np.exp(found.x[0])), float(found.x[1])
