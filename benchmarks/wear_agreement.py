"""How measures on a model's outlines agree with those on outlines that people drew: bias and limits of agreement.

    python -m benchmarks.wear_agreement --model models/NAME [--predictions OUT] [--grades GRADINGS.csv] [--plots DIR]
                                        [--store] CASES

CASES are case folders, or folders of them, with an image, `_Labels` and `_Tissues` beside it, none of which the model
was trained on. The model must outline tissues. With --predictions its outlines are read from results of `ivdjax infer`
and measured anew, in place of inferring the cases again. A disc counts where its
level is right (centroids within 10 mm).

For each measure (Bland and Altman, Lancet 1986): the bias (predicted less reference), the deviation of the
differences, and the limits of agreement, bias ± 1.96 deviations, with 95 % intervals from 2,000 bootstrap samples of
patients. --plots writes one plot a measure; --store writes bias and deviation into the model's folder, whose tables
then have the deviation as standard error. With --grades, Spearman's correlations with the Pfirrmann grade follow.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.gradings import read_gradings
from benchmarks.reference_cases import reference_cases
from benchmarks.wear_on_references import MEASURES, Values, grade_table, measured
from ivdjax.commands.commands import run_command
from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.discs.measures import measure_discs
from ivdjax.discs.metrics import RIGHT_WITHIN_MM
from ivdjax.discs.standard_error import AGREEMENT
from ivdjax.discs.wear import with_wear
from ivdjax.imaging.folders import write_whole
from ivdjax.inference.names import plain_names
from ivdjax.inference.results import read_document
from ivdjax.inference.segmenter import find_discs, load_segmenter
from ivdjax.model.model import annotate_model, read_model
from ivdjax.volume import LORDOSIS, Case, Disc, Lordosis, UserError


def main() -> int:
    """Infers, compares and prints; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="CASES")
    parser.add_argument("--model", required=True, metavar="DIR")
    parser.add_argument("--predictions", type=Path, metavar="OUT", help="the model's results of these cases")
    parser.add_argument("--grades", metavar="CSV", help="gradings of the discs (default: none)")
    parser.add_argument("--plots", metavar="DIR", help="folder for a Bland-Altman plot of each measure")
    parser.add_argument("--store", action="store_true", help="write the figures into the model's folder")
    options = parser.parse_args()

    def run() -> int:
        model = read_model(options.model)
        segmenter = None if options.predictions else load_segmenter(options.model)
        predicted: Values = {}
        reference: Values = {}
        for files in reference_cases(options.cases, model.channels):
            case = read_case(files, model.channels)
            reference |= measured(case)
            if segmenter is None:
                discs, spine = of_results(options.predictions, files, model.channels)
            else:
                found = find_discs(segmenter, case)
                discs, spine = list(found.discs), found.lordosis
                if found.tissues is None:
                    raise UserError(f"{options.model} outlines discs alone; it takes a model whose disc.outputs are "
                                    "[disc, vertebra, canal]")  # fmt: skip
            predicted |= of_right_levels(discs, spine, case)
        pairs = paired(predicted, reference)
        print(agreement_table(pairs))
        if options.grades:
            print(grade_table(predicted, read_gradings(Path(options.grades))))
        if options.plots:
            Path(options.plots).mkdir(parents=True, exist_ok=True)
            for name, own in pairs.items():
                write_whole(Path(options.plots) / f"{name}.svg", bland_altman_svg(name, own))
        if options.store:
            facts: dict[str, Any] = {name: stored(own) for name, own in pairs.items() if len(own) >= 3}
            cases = len({case for own in pairs.values() for case, _, _ in own})
            annotate_model(options.model, {AGREEMENT: facts | {"made_of": f"{cases} patients, reference outlines"}})
        return 0

    return run_command(run)


Pairs = list[tuple[str, float, float]]
"""Case, value on the model's outlines, value on the reference's."""


def of_results(output: Path, files: CaseFiles, channels: Sequence[str]) -> tuple[list[Disc], Lordosis]:
    """Discs and lordosis of a case, measured on the outlines that results hold of it.

    Raises:
        UserError: the folder has no results of the case, or none with tissues.
        CaseError: a file cannot be read.
    """
    names = plain_names(files.name)
    discs, tissues, table = (output / names.path(kind) for kind in ("labels", "tissues", "json"))
    if lacking := [path.name for path in (discs, tissues, table) if not path.exists()]:
        raise UserError("--predictions takes results with outlines of tissues; "
                        f"{output / names.folder} lacks {', '.join(lacking)}")  # fmt: skip
    case = read_case(replace(files, labels=discs, tissues=tissues), channels)
    assert case.labels is not None and case.tissues is not None
    sure = {row["level"]: row.get("outline_confidence") for row in read_document(table)["discs"]}
    found = [replace(disc, outline_confidence=sure.get(disc.level)) for disc in measure_discs(case.labels, None, {})]
    return with_wear(found, case.labels, case.tissues, case.volume.array[0], {})


def of_right_levels(discs: Iterable[Disc], spine: Lordosis, case: Case) -> Values:
    """The measures of the discs that a model gave their right level, by case and level; 0 is the spine as a whole."""
    assert case.labels is not None
    true = {disc.level: np.array(disc.centroid_mm) for disc in measure_discs(case.labels, None, {})}
    values: Values = {(case.name, 0): {name: v for name in LORDOSIS if (v := spine.measures.get(name)) is not None}}
    for disc in discs:
        place = true.get(disc.level)
        if place is not None and np.linalg.norm(place - disc.centroid_mm) <= RIGHT_WITHIN_MM:
            values[case.name, disc.level] = {n: v for n in MEASURES if (v := disc.measures.get(n)) is not None}
    return values


def paired(predicted: Mapping[tuple[str, int], Mapping[str, float]],
           reference: Mapping[tuple[str, int], Mapping[str, float]]) -> dict[str, Pairs]:  # fmt: skip
    """Both values of every measure that both sides have, by measure; signals without a unit are left out."""
    names = [name for name in (*MEASURES, *LORDOSIS) if not name.endswith("_signal")]
    found = {
        name: [(place[0], own[name], reference[place][name]) for place, own in predicted.items()
               if name in own and name in reference.get(place, {})]
        for name in names
    }  # fmt: skip
    return {name: own for name, own in found.items() if len(own) >= 2}


def limits(difference: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Bias, deviation, and lower and upper limit of agreement of differences (N,), N of two or more."""
    bias, deviation = float(difference.mean()), float(difference.std(ddof=1))
    return bias, deviation, bias - 1.96 * deviation, bias + 1.96 * deviation


def stored(pairs: Pairs) -> dict[str, float | int]:
    """What the model's folder keeps of a measure."""
    bias, deviation, low, high = limits(_differences(pairs))
    return {"n": len(pairs), "bias": _short(bias), "sd": _short(deviation), "low": _short(low), "high": _short(high)}


def agreement_table(pairs: Mapping[str, Pairs]) -> str:
    """One row a measure, in markdown."""
    lines = ["| measure | discs | bias (95 % interval) | sd of differences | limits of agreement |", "|---" * 5 + "|"]
    for name, own in pairs.items():
        bias, deviation, low, high = limits(_differences(own))
        least, most = _interval(own)
        lines.append(f"| {name} | {len(own)} | {bias:.3g} ({least:.3g} to {most:.3g}) | {deviation:.3g} | "
                     f"{low:.3g} to {high:.3g} |")  # fmt: skip
    return "\n".join(lines) + "\n"


def bland_altman_svg(name: str, pairs: Pairs) -> bytes:
    """The difference of each pair against its mean, with bias and limits of agreement; one colour a patient."""
    import io

    from matplotlib.figure import Figure

    difference = _differences(pairs)
    mean = np.array([(one + other) / 2 for _, one, other in pairs])
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    for case in sorted({pair[0] for pair in pairs}):
        own = np.array([pair[0] == case for pair in pairs])
        axes.plot(mean[own], difference[own], "o", markersize=4, label=case)
    bias, _, low, high = limits(difference)
    for value, style in ((bias, "-"), (low, "--"), (high, "--")):
        axes.axhline(value, color="#444", linestyle=style, linewidth=1)
        axes.annotate(f"{value:.3g}", (1.0, value), xycoords=("axes fraction", "data"), fontsize=8)
    axes.set(title=name, xlabel="mean of predicted and reference", ylabel="predicted less reference")
    axes.legend(fontsize=7, frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _differences(pairs: Pairs) -> NDArray[np.float64]:
    return np.array([one - other for _, one, other in pairs])


def _interval(pairs: Pairs) -> tuple[float, float]:
    """95 % interval of the bias over bootstrap samples of patients."""
    rng = np.random.default_rng(0)
    difference, who = _differences(pairs), np.array([pair[0] for pair in pairs])
    own = [difference[who == name] for name in np.unique(who)]
    drawn = [np.concatenate([own[i] for i in rng.integers(len(own), size=len(own))]).mean() for _ in range(2000)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def _short(value: float) -> float:
    return float(f"{value:.3g}")


if __name__ == "__main__":
    sys.exit(main())
