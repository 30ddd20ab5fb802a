"""How well the confidence in an outline predicts its Dice, on cases with references.

    python benchmarks/outline_confidence.py --model models/NAME --references DATA_ROOT [DATA_ROOT ...] [--cases A,B]
           [--degrade SEED] [--plot FILE.png] [--details FILE.csv] [--calibrate] [--store] [--note TEXT]

DATA_ROOT is a folder of cases with references, or one case folder. Every disc that is found (levels 1 to 7) counts: its
measured Dice is that with the reference disc it covers most, whatever its number, on the file's own grid as evaluate.py
measures it; one that covers no reference disc is extra and has Dice 0. A missed disc has no outline and does not count.

Without --calibrate the model's own calibration is checked. With it, one is fitted to these very cases, and the figures
say how well it fits, not how well it predicts. --degrade makes every case worse first (noise, blur, uneven brightness,
fewer slices; kind and strength drawn for each), so that there are bad outlines to learn from. --store writes into the
model's folder: with --calibrate the calibration, without it the figures as what came of checking it; --note says there
what the cases are.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import spearmanr
from tqdm import tqdm

if TYPE_CHECKING:
    from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.reference_cases import reference_cases
from ivdjax.commands.commands import run_command
from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.data.preparation import prepare, restore_labels
from ivdjax.discs.metrics import dice
from ivdjax.discs.numbering import number_discs
from ivdjax.discs.outline import calibrated, expected_dice, fit_calibration
from ivdjax.imaging.folders import write_whole
from ivdjax.inference.segmenter import Segmenter, gather_evidence, in_region, load_segmenter
from ivdjax.model.model import annotate_model, read_model
from ivdjax.reports.canvas import save_figure
from ivdjax.reports.tables import csv_text
from ivdjax.volume import LUMBAR_DISCS, Case, LabelMap, UserError, Volume

FACT = "outline_calibration"
BAD_DICE = 0.7
THRESHOLDS = (0.6, 0.65, 0.7, 0.75, 0.8)
BIN_EDGES = (0.0, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
KINDS = ("noise", "blur", "brightness", "slices", "all")
DETAIL_COLUMNS = ("case", "level", "expected", "predicted", "dice")
_NOISE, _BLUR_MM, _BRIGHTNESS, _THICK_MM = 0.3, 3.0, 1.0, 5.0
"""What strength 1 does: noise of 0.3 of the range, a blur of 3 mm (sd), brightness times e^+-1, a slice every 5 mm."""
_RESAMPLES = 1000


@dataclass(frozen=True)
class Outline:
    """One found disc: its expected Dice before calibration, the Dice measured, and whether the reference lacks it."""

    case: str
    level: int
    expected: float
    dice: float
    extra: bool


def main() -> int:
    """Measures every outline, prints the tables and writes what was asked for; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="M")
    parser.add_argument("--references", required=True, nargs="+", metavar="DATA_ROOT")
    parser.add_argument("--cases", metavar="A,B", help="these cases alone")
    parser.add_argument("--degrade", type=int, metavar="SEED", help="make every case worse first")
    parser.add_argument("--plot", metavar="FILE.png", help="predicted against measured Dice")
    parser.add_argument("--details", metavar="FILE.csv", help="a row a disc")
    parser.add_argument("--calibrate", action="store_true", help="fit a calibration to these cases")
    parser.add_argument("--store", action="store_true", help="write calibration or figures into the model's folder")
    parser.add_argument("--note", default="", metavar="TEXT", help="what the cases are, for the model")
    options = parser.parse_args()
    return run_command(lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    model = read_model(options.model)
    calibration = model.meta.get(FACT)
    if calibration is None and options.store and not options.calibrate:
        raise UserError(f"{options.model} has no calibration that could be checked; make one first with --calibrate")
    found = chosen_cases(reference_cases(options.references, model.channels), options.cases)
    outlines = measure(load_segmenter(options.model), found, options.degrade)
    if not outlines:
        raise UserError("no disc was found in any of these cases; take others")
    expected, measured = (np.array([getattr(o, name) for o in outlines]) for name in ("expected", "dice"))
    if options.calibrate:
        calibration = fit_calibration(expected, measured)
        print(f"dice = 1 - {calibration['scale']} (1 - expected) ^ {calibration['power']}\n")
    predicted = expected if calibration is None else calibrated(expected, calibration)
    print(tables(outlines, predicted))
    if options.plot:
        save_figure(calibration_plot(predicted, measured), Path(options.plot))
    if options.details:
        rows = [{"case": o.case, "level": o.level, "expected": round(o.expected, 4), "predicted": round(float(p), 4),
                 "dice": round(o.dice, 4)} for o, p in zip(outlines, predicted, strict=True)]  # fmt: skip
        write_whole(Path(options.details), csv_text(DETAIL_COLUMNS, rows))
    if options.store:
        facts = figures(outlines, predicted) | ({"data": options.note} if options.note else {})
        kept = {"scale": calibration["scale"], "power": calibration["power"]}
        fitted, checked = (facts, None) if options.calibrate else (calibration.get("fitted"), facts)
        annotate_model(options.model, {FACT: kept | {"fitted": fitted} | ({"checked": checked} if checked else {})})
    return 0


def chosen_cases(found: Sequence[CaseFiles], names: str | None) -> list[CaseFiles]:
    """The cases of these names, separated by commas; all without names.

    Raises:
        UserError: there is no case of such a name.
    """
    if names is None:
        return list(found)
    wanted = [name.strip() for name in names.split(",")]
    unknown = sorted(set(wanted) - {files.name for files in found})
    if unknown:
        raise UserError(f"--cases: no case with a reference is named {', '.join(unknown)}")
    return [files for files in found if files.name in wanted]


def measure(segmenter: Segmenter, cases: Sequence[CaseFiles], degrade: int | None = None) -> list[Outline]:
    """Every disc that is found in these cases, each made worse first where a seed for that is given."""
    config, outlines = segmenter.config, []
    for name, files in zip(distinct([files.name for files in cases]), tqdm(cases, unit="case"), strict=True):
        case = read_case(files, config.data.channels)
        if degrade is not None:
            case = degraded(case, np.random.default_rng([degrade, zlib.crc32(name.encode())]))
        assert case.labels is not None  # only such cases are looked at
        prepared = prepare(case, config.preparation, config.data.all_discs_outlined, config.data.channels)
        prepared = in_region(segmenter, prepared)
        evidence = gather_evidence(segmenter, prepared)
        levels = number_discs(evidence, config.inference).levels
        expected = expected_dice(evidence.probability, levels, evidence.grid)
        found = restore_labels(levels, prepared, evidence.probability, config.inference.threshold)
        outlines += judged(name, found, case.labels, expected)
    return outlines


def distinct(names: Sequence[str]) -> list[str]:
    """The names of cases from several folders, told apart: a, a (2), b."""
    counts = [names[: place + 1].count(name) for place, name in enumerate(names)]
    return [name if count == 1 else f"{name} ({count})" for name, count in zip(names, counts, strict=True)]


def judged(case: str, found: LabelMap, reference: LabelMap, expected: dict[int, float]) -> list[Outline]:
    """Each found disc of levels 1 to 7 against the reference disc it covers most; both maps lie on one grid."""
    outlines = []
    for level in found.levels:
        if level > LUMBAR_DISCS:
            continue
        mine = found.array == level
        covered = np.bincount(reference.array[mine], minlength=2)
        covered[0] = 0
        extra = not covered.any()
        measured = 0.0 if extra else dice(mine, reference.array == covered.argmax())
        outlines.append(Outline(case, level, expected[level], measured, extra))
    return outlines


def degraded(case: Case, random: np.random.Generator) -> Case:
    """A case made worse in one of `KINDS`, with a strength from 0 to 1 drawn for it; its reference loses slices too."""
    kind, strength = random.choice(KINDS), random.uniform()
    array, affine = case.volume.array.astype(np.float32), case.volume.affine.copy()
    d_mm, h_mm, w_mm = case.volume.spacing_mm
    labels = case.labels.array if case.labels is not None else None
    spans = np.array([np.ptp(np.percentile(channel, [0.5, 99.5])) for channel in array], np.float32)
    if kind in ("blur", "all"):
        array = ndimage.gaussian_filter(array, (0, 0, strength * _BLUR_MM / h_mm, strength * _BLUR_MM / w_mm))
    if kind in ("brightness", "all"):
        array = array * np.exp(strength * _BRIGHTNESS * _smooth_field(array.shape[1:], random))
    if kind in ("slices", "all"):
        step = 1 + int(strength * max(0.0, _THICK_MM / d_mm - 1))
        array, labels = array[:, ::step], labels[::step] if labels is not None else None
        affine[:, 0] *= step
    if kind in ("noise", "all"):
        array = array + strength * _NOISE * spans[:, None, None, None] * random.standard_normal(array.shape, np.float32)
    return Case(
        case.name, case.subject, Volume(array, affine, case.volume.channels),
        LabelMap(labels, affine) if labels is not None else None, case.warnings,
    )  # fmt: skip


def _smooth_field(shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float32]:
    """A field (D, H, W) that varies slowly between -1 and 1."""
    coarse = random.uniform(-1, 1, (3, 5, 5)).astype(np.float32)
    zoom = [n / m for n, m in zip(shape, coarse.shape, strict=True)]
    return np.clip(ndimage.zoom(coarse, zoom, order=3, mode="nearest", grid_mode=True), -1, 1)


def figures(outlines: Sequence[Outline], predicted: NDArray[np.float64]) -> dict[str, Any]:
    """Numbers of cases, discs and extra discs, rank correlation, and errors of the predicted Dice (N,)."""
    measured = np.array([outline.dice for outline in outlines])
    low, high = rank_correlation_interval(outlines)
    error = predicted - measured
    return {
        "cases": len({outline.case for outline in outlines}),
        "discs": len(outlines),
        "extra_discs": sum(outline.extra for outline in outlines),
        "rank_correlation": _rounded(_rank_correlation(predicted, measured)),
        "rank_correlation_95": [_rounded(low), _rounded(high)],
        "mean_absolute_error": _rounded(np.abs(error).mean()),
        "mean_error": _rounded(error.mean()),
        "mean_dice": _rounded(measured.mean()),
        "mean_absolute_deviation": _rounded(np.abs(measured - measured.mean()).mean()),
    }


def rank_correlation_interval(outlines: Sequence[Outline], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the rank correlation (Spearman) when whole cases are drawn anew with replacement.

    Discs of one case are alike, so that drawing discs would promise too much; few cases still do. Not a number where
    nothing varies.
    """
    by_case: dict[str, list[Outline]] = {}
    for outline in outlines:
        by_case.setdefault(outline.case, []).append(outline)
    pairs = [np.array([(o.expected, o.dice) for o in rows]) for rows in by_case.values()]
    random = np.random.default_rng(seed)
    drawn = [np.concatenate([pairs[i] for i in random.integers(len(pairs), size=len(pairs))])
             for _ in range(_RESAMPLES)]  # fmt: skip
    found = [value for value in (_rank_correlation(*sample.T) for sample in drawn) if np.isfinite(value)]
    if not found:
        return float("nan"), float("nan")
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def tables(outlines: Sequence[Outline], predicted: NDArray[np.float64]) -> str:
    """Three tables in markdown: the figures, predicted and measured Dice in bins, and what thresholds would flag."""
    measured = np.array([outline.dice for outline in outlines])
    cases = np.array([outline.case for outline in outlines])
    facts = figures(outlines, predicted)
    rank, low, high = (
        "-" if value is None else f"{value:.2f}" for value in (facts["rank_correlation"], *facts["rank_correlation_95"])
    )
    lines = [
        "| cases | discs | extra | mean Dice | rank correlation (95 %) | mean absolute error | the same of the mean | "
        "mean error |",
        "|---" * 8 + "|",
        f"| {facts['cases']} | {facts['discs']} | {facts['extra_discs']} | {facts['mean_dice']:.3f} | "
        f"{rank} ({low} to {high}) | {facts['mean_absolute_error']:.3f} | "
        f"{facts['mean_absolute_deviation']:.3f} | {facts['mean_error']:+.3f} |",
        "",
        "| predicted Dice | discs | mean predicted | mean measured | lowest measured |",
        "|---" * 5 + "|",
    ]
    places = np.digitize(predicted, BIN_EDGES[1:-1])
    for place in np.unique(places):
        inside = places == place
        lines.append(
            f"| {BIN_EDGES[place]:.2f} to {BIN_EDGES[place + 1]:.2f} | {inside.sum()} | "
            f"{predicted[inside].mean():.3f} | {measured[inside].mean():.3f} | {measured[inside].min():.3f} |"
        )
    lines += [
        "",
        f"| threshold | discs flagged | cases flagged | caught of Dice < {BAD_DICE} | mean Dice of flagged discs |",
        "|---" * 5 + "|",
    ]
    bad = measured < BAD_DICE
    for threshold in THRESHOLDS:
        flagged = predicted < threshold
        mean = f"{measured[flagged].mean():.3f}" if flagged.any() else "-"
        lines.append(
            f"| {threshold} | {flagged.sum()} of {len(measured)} | {len(np.unique(cases[flagged]))} of "
            f"{facts['cases']} | {(flagged & bad).sum()} of {bad.sum()} | {mean} |"
        )
    return "\n".join(lines)


def calibration_plot(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> Figure:
    """Predicted (across) against measured Dice (up), a point a disc, with the line on which both are equal."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4.5), dpi=110, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    least = np.floor(10 * min(predicted.min(), measured.min(), 0.6)) / 10
    axes.plot([least, 1], [least, 1], color="#888888", linewidth=1, label="equal")
    axes.plot(predicted, measured, "o", markersize=4, alpha=0.6, color="#1f5fa8", label="a disc")
    axes.set(xlim=(least, 1), ylim=(least, 1), xlabel="predicted Dice", ylabel="measured Dice", aspect="equal")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    return figure


def _rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Spearman's; not a number where one side does not vary."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)


def _rounded(value: float) -> float | None:
    """Three digits; None for what is not a number, which JSON cannot hold."""
    return round(float(value), 3) if np.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main())
