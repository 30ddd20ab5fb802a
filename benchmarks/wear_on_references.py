"""What the measures of wear say on outlines that people drew: against a reader's grades, and measured again.

    python -m benchmarks.wear_on_references --grades GRADINGS.csv [--repeats 3] [--store] CASES

CASES are case folders, or folders of them, with a T2-weighted image, `_Labels` and `_Tissues` beside it. GRADINGS.csv
has the columns of the SPIDER data: Patient, IVD label (1 = L5/S1), Pfirrman grade, Disc bulging, Spondylolisthesis.

First table: Spearman's correlation of each measure with the Pfirrmann grade, its 95 % interval from 2,000 bootstrap
samples of patients, and areas under the curve for bulging and spondylolisthesis. Second table: each case is resampled
to other voxels, shifted and turned by up to 3 degrees, with noise of 3 % of the fluid's signal, and measured again; the
deviation within a disc is the standard error of measuring alone. --store writes it into
ivdjax/discs/measure_errors.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.gradings import PFIRRMANN, read_gradings
from benchmarks.reference_cases import reference_cases
from ivdjax.commands.commands import run_command
from ivdjax.data.datasets import read_case
from ivdjax.discs.degeneration import LEVEL_MEASURES
from ivdjax.discs.measures import SHAPE_MEASURES, measure_discs
from ivdjax.discs.wear import with_wear
from ivdjax.imaging.folders import write_whole
from ivdjax.imaging.geometry import resample, respaced
from ivdjax.volume import LORDOSIS, Case, Grid, LabelMap, UserError, to_world_mm

ERRORS = Path(__file__).resolve().parent.parent / "ivdjax" / "discs" / "measure_errors.json"
MEASURES = (*SHAPE_MEASURES[1:], *LEVEL_MEASURES)

Values = dict[tuple[str, int], dict[str, float]]
"""Measures that are numbers, by case and level; level 0 is the spine as a whole."""


def main() -> int:
    """Measures, compares and prints; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="CASES")
    parser.add_argument("--grades", metavar="CSV", help="gradings of the discs (default: none)")
    parser.add_argument("--repeats", type=int, default=3, help="how often each case is measured again (3)")
    parser.add_argument("--store", action="store_true", help="write the standard errors into the package")
    options = parser.parse_args()

    def run() -> int:
        cases = [read_case(files, ("t2",)) for files in reference_cases(options.cases, ("t2",))]
        found: Values = {}
        for case in cases:
            found |= measured(case)
        if options.grades:
            print(grade_table(found, read_gradings(Path(options.grades))))
        if options.repeats > 1:
            errors = repeat_errors(cases, options.repeats)
            print(error_table(errors))
            if options.store:
                made_of = (f"{len(cases)} T2 slabs of the SPIDER data (CC BY 4.0), reference outlines, each resampled, "
                           f"turned and noised {options.repeats} times")  # fmt: skip
                document = {"made_of": made_of, "standard_errors": errors}
                write_whole(ERRORS, json.dumps(document, indent=1) + "\n")
        return 0

    return run_command(run)


def measured(case: Case) -> Values:
    """Every measure of a case from its own reference outlines.

    Raises:
        UserError: it has no tissue map.
    """
    if case.labels is None or case.tissues is None:
        raise UserError(f"case {case.name} needs <case>_Labels and <case>_Tissues beside its image")
    discs = measure_discs(case.labels, None, {})
    told, spine = with_wear(discs, case.labels, case.tissues, case.volume.array[0], {})
    found = {(case.name, disc.level): _numbers(disc.measures, MEASURES) for disc in told}
    return found | {(case.name, 0): _numbers(spine.measures, LORDOSIS)}


def area(values: NDArray[np.float64], is_case: NDArray[np.bool_]) -> float | None:
    """Area under the curve of a measure for a finding; None where all discs are alike."""
    if is_case.all() or not is_case.any():
        return None
    cases, others = values[is_case], values[~is_case]
    return float(mannwhitneyu(cases, others, method="asymptotic").statistic / (len(cases) * len(others)))


def grade_table(found: Values, grades: Mapping[tuple[int, int], Mapping[str, int]]) -> str:
    """Correlation with the Pfirrmann grade and areas under the curve, in markdown."""
    lines = ["| measure | discs | Spearman with grade | 95 % interval | AUC bulging | AUC slip (absolute value) |",
             "|---" * 6 + "|"]  # fmt: skip
    names = ("nucleus_over_csf", "nucleus_over_marrow", "nucleus_over_annulus", "disc_height_index",
             "disc_body_height_index", "posterior_overhang_mm", "slip_mm", "canal_ap_mm")  # fmt: skip
    for name in names:
        rows = [(case, values[name], own) for (case, level), values in found.items()
                if name in values and case.isdigit() and (own := grades.get((int(case), level)))]  # fmt: skip
        if len(rows) < 3:
            continue
        who, values = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
        grade, bulging, slipped = (np.array([row[2][key] for row in rows]) for key in
                                   (PFIRRMANN, "Disc bulging", "Spondylolisthesis"))  # fmt: skip
        low, high = _interval(who, values, grade)
        cells = [area(values, bulging > 0), area(np.abs(values), slipped > 0)]
        told = " | ".join("-" if cell is None else f"{cell:.2f}" for cell in cells)
        lines.append(
            f"| {name} | {len(rows)} | {spearmanr(values, grade).statistic:.2f} | {low:.2f} to {high:.2f} | {told} |"
        )
    return "\n".join(lines) + "\n"


def _interval(who: NDArray, values: NDArray[np.float64], grade: NDArray[np.int_]) -> tuple[float, float]:
    """95 % interval of Spearman's correlation over bootstrap samples of patients."""
    rng = np.random.default_rng(0)
    patients = {name: np.flatnonzero(who == name) for name in np.unique(who)}
    names, drawn = list(patients), []
    for _ in range(2000):
        rows = np.concatenate([patients[names[i]] for i in rng.integers(len(names), size=len(names))])
        drawn.append(spearmanr(values[rows], grade[rows]).statistic)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def rescanned(case: Case, rng: np.random.Generator) -> Case:
    """A case as it would be stored on other voxels: turned by up to 3 degrees, shifted by up to a voxel, with noise."""
    volume = case.volume
    spacing = tuple(float(step * rng.uniform(0.9, 1.15)) for step in volume.spacing_mm)
    grid = respaced(volume.grid, (None, spacing[1], spacing[2]))
    turn = np.eye(4)
    for axis in range(3):
        c, s = np.cos(a := np.radians(rng.uniform(-3, 3))), np.sin(a)
        one = np.eye(4)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        one[i, i], one[j, j], one[i, j], one[j, i] = c, c, -s, s
        turn = turn @ one
    middle = to_world_mm(grid.affine, (np.array(grid.shape) - 1) / 2)
    about = np.eye(4)
    about[:3, 3] = middle - turn[:3, :3] @ middle + rng.uniform(-0.5, 0.5, 3) * spacing
    target = Grid(grid.shape, about @ turn @ grid.affine)
    assert case.labels is not None and case.tissues is not None
    image = resample(volume.array, volume.grid, target, 1)
    noise = 0.03 * float(np.percentile(volume.array[0][case.tissues.array == 3], 90))
    image = image + rng.normal(0, noise, image.shape)
    labels, tissues = (LabelMap(resample(one.array, volume.grid, target, 0), target.affine)
                       for one in (case.labels, case.tissues))  # fmt: skip
    return Case(case.name, case.subject, type(volume)(image, target.affine, volume.channels), labels, (), tissues)


def repeat_errors(cases: Sequence[Case], repeats: int) -> dict[str, float]:
    """The deviation of each measure within a disc over several scans, pooled over all discs that have it in each."""
    rng = np.random.default_rng(1)
    values: dict[tuple[str, tuple[str, int]], list[float]] = defaultdict(list)
    for case in cases:
        for _ in range(repeats):
            for place, own in measured(rescanned(case, rng)).items():
                for name, value in own.items():
                    values[name, place].append(value)
    pooled: dict[str, list[float]] = defaultdict(list)
    for (name, _), own_values in values.items():
        if len(own_values) == repeats:
            pooled[name].append(float(np.var(own_values, ddof=1)))
    order = [name for name in (*MEASURES, *LORDOSIS) if name in pooled]
    return {name: float(f"{np.sqrt(np.mean(pooled[name])):.3g}") for name in order if not name.endswith("_signal")}


def error_table(errors: Mapping[str, float]) -> str:
    """The standard errors of measuring alone, in markdown."""
    return "\n".join(["| measure | standard error |", "|---|---|", *(f"| {n} | {v:g} |" for n, v in errors.items())])


def _numbers(measures: Mapping[str, Any], names: Sequence[str]) -> dict[str, float]:
    return {name: float(measures[name]) for name in names if measures.get(name) is not None}


if __name__ == "__main__":
    sys.exit(main())
