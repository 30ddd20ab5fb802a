"""Fits a model's estimate of Pfirrmann grades to gradings of a reader, and says how well it does.

    python -m benchmarks.fit_grades --references DATA_ROOT --gradings FILE.csv [--model models/NAME] [--features A,B]
        [--predictions OUT] [--table FILE.csv] [--data TEXT] [--credit TEXT] [--licence TEXT] [--held-out A,B]

DATA_ROOT holds cases with numbered discs (`_Labels`) and tissues (`_Tissues`) beside a T2-weighted image of the channel
t2. The gradings have the columns Patient, IVD label (1 = the lowest disc, upward) and Pfirrman grade, as the SPIDER
data have them; a patient is the case whose name is that number, with or without leading zeros.

Measured are the reference masks. The figures are those of patients left out in turn: every patient is graded by numbers
that were fitted to the others. The numbers that are kept are fitted without the patients that the model holds out
(`data.validation`, or --held-out), who are told apart. With --predictions, results of `ivdjax infer` of those patients
are graded too: what was measured on predicted masks. --model writes numbers, credit and figures into the model's folder
and card.

Fitted by maximum likelihood with a penalty of half the sum of squared weights, the thresholds free. Intervals: 95 % of
1000 draws of patients.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.gradings import PFIRRMANN, read_gradings
from ivdjax.commands.commands import run_command
from ivdjax.config import DataConfig
from ivdjax.data.datasets import find_cases, read_case
from ivdjax.discs.degeneration import measure_spine
from ivdjax.discs.grades import (
    FEATURES,
    Grader,
    expected_grades,
    grade_features,
    grade_probabilities,
    middle_grades,
    standard,
)
from ivdjax.discs.measures import measure_discs
from ivdjax.imaging.folders import write_whole
from ivdjax.inference.results import read_document
from ivdjax.model.model import annotate_model, read_model
from ivdjax.reports.tables import csv_text
from ivdjax.volume import PFIRRMANN_GRADES, Case, Disc, UserError

_PENALTY = 1.0
_DRAWS = 1000
CHOSEN = ("log_nucleus_csf", "log_nucleus_marrow", "log_nucleus_annulus", "log_height_index", "l4_to_s1")
"""The features that a fit takes unless it is told others: more brought nothing that 28 patients could show."""


@dataclass(frozen=True, eq=False)
class Graded:
    """Discs with a reader's grade: names of features, patient (N,), level (N,), features (N, F) and grade (N,)."""

    names: tuple[str, ...]
    patients: NDArray[np.int64]
    levels: NDArray[np.int64]
    values: NDArray[np.float64]
    grades: NDArray[np.int64]

    def of(self, chosen: NDArray[np.bool_]) -> Graded:
        """Those of some discs alone."""
        return Graded(self.names, self.patients[chosen], self.levels[chosen], self.values[chosen], self.grades[chosen])


def main() -> int:
    """Fits, prints the figures and writes what was asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=Path, required=True, metavar="DATA_ROOT")
    parser.add_argument("--gradings", type=Path, required=True, metavar="CSV")
    parser.add_argument("--model", type=Path, metavar="MODEL", help="is given the numbers")
    parser.add_argument("--features", default=",".join(CHOSEN), metavar="A,B", help=f"of {', '.join(FEATURES)}")
    parser.add_argument("--held-out", metavar="A,B", help="patients that take no part in the numbers that are kept")
    parser.add_argument("--predictions", type=Path, metavar="OUT", help="results of the held-out patients")
    parser.add_argument("--table", type=Path, metavar="CSV", help="features are read from it, or written to it")
    for text in ("data", "credit", "licence"):
        parser.add_argument(f"--{text}", default="", metavar="TEXT", help="said in the model's card")
    options = parser.parse_args()

    def run() -> int:
        facts = fit_all(options)
        if options.model is not None:
            annotate_model(options.model, {"grades": facts})
        return 0

    return run_command(run)


def fit_all(options: argparse.Namespace) -> dict[str, Any]:
    """What a model's description is to hold (`grades`), with its figures printed."""
    names = tuple(options.features.split(","))
    if unknown := set(names) - set(FEATURES):
        raise UserError(f"--features takes {', '.join(FEATURES)}, not {', '.join(sorted(unknown))}")
    gradings = {disc: own[PFIRRMANN] for disc, own in read_gradings(options.gradings).items()}
    rows = _table(options)
    discs = with_grades(rows, gradings, names)
    print(f"{len(discs.grades)} graded discs of {len(set(discs.patients))} patients measured; "
          f"{len([key for key in gradings if key[0] in set(discs.patients)]) - len(discs.grades)} more are graded, of "
          "which a feature is missing")  # fmt: skip
    for place, name in enumerate(names):
        print(f"Spearman of {name} against the grade: {spearmanr(discs.values[:, place], discs.grades)[0]:.2f}")
    held = _held_out(options)
    figures = {"patients left out in turn, reference masks": figures_of(discs, left_out(discs))}
    out = np.isin(discs.patients, held)
    numbers = fit(discs.of(~out))
    if out.any():
        figures["held-out patients, reference masks"] = figures_of(
            discs.of(out), numbers.probabilities(discs.values[out])
        )
    if options.predictions is not None:
        found = with_grades(predicted_rows(options.predictions), gradings, names)
        found = found.of(np.isin(found.patients, held))
        figures["held-out patients, predicted masks"] = figures_of(found, numbers.probabilities(found.values))
    for name, own in figures.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in own.items()))
    return {
        "features": {name: {"centre": round(c, 4), "spread": round(s, 4), "weight": round(w, 4)} for name, c, s, w in
                     zip(names, numbers.centres, numbers.spreads, numbers.weights, strict=True)},
        "thresholds": [round(value, 4) for value in numbers.thresholds],
        "data": options.data or f"{len(set(discs.patients[~out]))} patients, {int((~out).sum())} discs",
        "credit": options.credit, "licence": options.licence, "command": command_line(), "figures": figures,
    }  # fmt: skip


def command_line() -> str:
    """The command as it was given, with folders by their last names."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return shlex.join(["python", "-m", "benchmarks.fit_grades", *words])


def _held_out(options: argparse.Namespace) -> list[int]:
    if options.held_out is not None:
        names: Sequence[str] = options.held_out.split(",")
    else:
        names = read_model(options.model).config.data.validation if options.model is not None else ()
    return [int(name) for name in names if name.isdigit()]


def _table(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One mapping a disc with case, level and all features; not a number where one is missing."""
    if options.table is not None and options.table.is_file():
        with options.table.open(newline="") as stream:
            return [{key: row[key] if key == "case" else float(row[key] or "nan") for key in row}
                    for row in csv.DictReader(stream)]  # fmt: skip
    rows = reference_rows(options.references)
    if options.table is not None:
        write_whole(options.table, csv_text(("case", "level", *FEATURES), rows))
    return rows


def reference_rows(root: Path) -> list[dict[str, Any]]:
    """The features of every disc of a folder's references."""
    rows: list[dict[str, Any]] = []
    for files in find_cases(root, DataConfig(channels=("t2",))):
        case = read_case(files, ("t2",))
        if case.labels is None or case.tissues is None:
            print(f"{case.name} has no numbered discs and tissues: left out")
            continue
        rows += _rows(case.name, measured(case))
    return rows


def predicted_rows(output: Path) -> list[dict[str, Any]]:
    """The features of every disc of the results in a folder."""
    rows: list[dict[str, Any]] = []
    for path in sorted(output.glob("*/*_discs.json")):
        document = read_document(path)
        discs = [
            Disc(
                row["level"],
                1.0,
                (0.0, 0.0, 0.0),
                None,
                {name: value for name, value in row.items() if isinstance(value, (int, float))},
            )
            for row in document["discs"]
        ]
        rows += _rows(str(document["case"]), discs)
    return rows


def _rows(case: str, discs: Sequence[Disc]) -> list[dict[str, Any]]:
    return [{"case": case, "level": level, **{name: np.nan if value is None else value for name, value in own.items()}}
            for level, own in grade_features(discs).items()]  # fmt: skip


def with_grades(rows: Sequence[dict[str, Any]], gradings: dict[tuple[int, int], int], names: Sequence[str]) -> Graded:
    """The rows of discs that have a grade and every feature."""
    found = [(int(row["case"]), int(row["level"]), [float(row[name]) for name in names]) for row in rows
             if str(row["case"]).isdigit()]  # fmt: skip
    kept = [(patient, level, values, gradings[patient, level]) for patient, level, values in found
            if (patient, level) in gradings and np.isfinite(values).all()]  # fmt: skip
    if not kept:
        raise UserError("no disc has a grade and every feature; are the cases named by the gradings' patient numbers, "
                        "and are their images T2-weighted with tissues outlined?")  # fmt: skip
    patients, levels, values, grades = zip(*kept, strict=True)
    return Graded(tuple(names), np.array(patients), np.array(levels), np.array(values, dtype=float), np.array(grades))


def fit(discs: Graded) -> Grader:
    """The numbers that make the grades likeliest, with a penalty on the weights."""
    centres, spreads = discs.values.mean(axis=0), np.maximum(discs.values.std(axis=0), 1e-6)
    x, y = standard(discs.values, centres, spreads), discs.grades - 1
    count = x.shape[1]

    def thresholds(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.cumsum([numbers[count], *np.exp(numbers[count + 1 :])])

    def cost(numbers: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        edges, score = thresholds(numbers), x @ numbers[:count]
        chances = np.maximum(grade_probabilities(score, edges)[np.arange(len(y)), y], 1e-9)
        below = 1 / (1 + np.exp(-np.clip(edges - score[:, None], -500, 500)))
        slope = np.pad(below * (1 - below), ((0, 0), (1, 1)))  # of every edge, with the outer two at infinity
        upper, lower = slope[np.arange(len(y)), y + 1] / chances, slope[np.arange(len(y)), y] / chances
        by_edge = np.array(
            [upper[y == edge].sum() - lower[y == edge + 1].sum() for edge in range(len(PFIRRMANN_GRADES) - 1)]
        )
        from_here = np.cumsum(by_edge[::-1])[::-1]  # an increment moves its edge and all above it
        steps = np.concatenate([[1.0], np.exp(numbers[count + 1 :])])
        gradient = np.concatenate([x.T @ (upper - lower) + _PENALTY * numbers[:count], -from_here * steps])
        return float(-np.log(chances).sum() + _PENALTY * (numbers[:count] ** 2).sum() / 2), gradient

    start = np.concatenate([np.zeros(count), [-2.0, 0.0, 0.0, 0.0]])
    found = minimize(cost, start, jac=True, method="L-BFGS-B").x
    return Grader(discs.names, *(tuple(map(float, part)) for part in (centres, spreads, found[:count],
                                                                          thresholds(found))))  # fmt: skip


def left_out(discs: Graded) -> NDArray[np.float64]:
    """Probabilities (N, 5) of every disc by numbers that were fitted to the other patients."""
    found = np.zeros((len(discs.grades), len(PFIRRMANN_GRADES)))
    for patient in np.unique(discs.patients):
        own = discs.patients == patient
        found[own] = fit(discs.of(~own)).probabilities(discs.values[own])
    return found


def figures_of(discs: Graded, probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """How probabilities agree with the reader: figures by name, intervals as texts."""
    told = middle_grades(probabilities)
    random = np.random.default_rng(0)
    by_patient = [np.flatnonzero(discs.patients == patient) for patient in np.unique(discs.patients)]
    draws = [np.concatenate([by_patient[i] for i in random.integers(0, len(by_patient), len(by_patient))])
             for _ in range(_DRAWS)]  # fmt: skip
    measures = {
        "quadratic kappa": lambda at: quadratic_kappa(discs.grades[at], told[at]),
        "within one grade": lambda at: float(np.mean(np.abs(discs.grades[at] - told[at]) <= 1)),
        "exact": lambda at: float(np.mean(discs.grades[at] == told[at])),
    }
    every = np.arange(len(told))
    figures: dict[str, Any] = {"patients": len(by_patient), "discs": len(told)}
    for name, measure in measures.items():
        low, high = np.nanpercentile([measure(draw) for draw in draws], (2.5, 97.5))
        figures[name] = f"{measure(every):.2f} ({low:.2f} to {high:.2f})"
    shares = probabilities[every, discs.grades - 1]
    figures["mean log loss"] = round(float(-np.log(np.maximum(shares, 1e-9)).mean()), 3)
    error = expected_grades(probabilities) - discs.grades
    figures["mean error of the expected grade"] = round(float(error.mean()), 2)
    return figures


def quadratic_kappa(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Cohen's kappa of two series of grades (N,), disagreements counting by their square; not a number where both are
    one single grade."""
    apart = np.subtract.outer(np.array(PFIRRMANN_GRADES), np.array(PFIRRMANN_GRADES)) ** 2
    seen = np.zeros(apart.shape)
    np.add.at(seen, (one - 1, other - 1), 1)
    by_chance = np.outer(seen.sum(axis=1), seen.sum(axis=0)) / len(one)
    return float(1 - (apart * seen).sum() / expected) if (expected := (apart * by_chance).sum()) else float("nan")


def measured(case: Case) -> list[Disc]:
    """The discs of a case's references with all their measures; the image is taken for T2-weighted."""
    assert case.labels is not None and case.tissues is not None
    discs = measure_discs(case.labels, case.volume, {})
    heights = {disc.level: [disc.measures[f"{part}_height_mm"] for part in ("anterior", "middle", "posterior")]
               for disc in discs}  # fmt: skip
    means = {level: float(np.mean(own)) for level, own in heights.items() if None not in own}  # type: ignore[arg-type]
    spine = measure_spine(case.labels, case.tissues, case.volume.array[0], means)
    return [replace(disc, measures=disc.measures | spine.levels[disc.level].values) for disc in discs]


if __name__ == "__main__":
    sys.exit(main())
