"""How well a model's measures repeat: phantoms are scanned several times, inferred, and their measures compared.

    python benchmarks/repeatability.py --model models/NAME [--subjects 10] [--visits 3] [--seed 900] [--field full]
                                       [--channels A,B] [--keep DIR] [--store]

The visits of a phantom are one anatomy scanned anew: discs, tissues and the timing of the sequence stay; position and
orientation of the field of view, how the patient lies, noise, blur, the coils' gain, the shift of fat and the scale of
the signal are drawn anew. A slab has the same number of slices at every visit, as a protocol has; only its place
varies.

For each measure of the disc table: the within-subject standard deviation, the smallest detectable change, ICC(2,1)
within levels (ivdjax/discs/repeatability.py has the formulas and their sources), the bias against the phantom's own
label map measured in the same way, and the within-subject standard deviation of that label map, which is what voxels
and position alone cost. A disc counts only where its level is right (its centroid within 10 mm of the truth).

--store writes the figures into the model's folder (model.json, model card).
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from ivdjax import __version__
from ivdjax.commands.commands import run_command
from ivdjax.config import DataConfig
from ivdjax.data.datasets import find_cases, read_case
from ivdjax.data.phantom import PhantomOptions, PhantomSet, write_phantoms
from ivdjax.data.phantom.dataset import holds_phantoms
from ivdjax.discs.change import numeric_measures
from ivdjax.discs.measures import measure_discs
from ivdjax.discs.metrics import RIGHT_WITHIN_MM
from ivdjax.discs.repeatability import repeatability_of, within_sd
from ivdjax.imaging.folders import write_whole
from ivdjax.inference.infer import infer
from ivdjax.inference.request import InferenceRequest
from ivdjax.inference.visits.visits import read_visit
from ivdjax.model.model import annotate_model, read_model
from ivdjax.reports.tables import csv_text, disc_rows
from ivdjax.volume import UserError

Rows = Mapping[int, Mapping[str, Any]]
"""A disc table by level."""


@dataclass(frozen=True)
class Scan:
    """One visit of a phantom: what was found, and its own label map measured in the same way."""

    subject: str
    case: str
    found: Rows
    truth: Rows
    verdict: str


def main() -> int:
    """Makes, infers and measures the phantoms, and prints a table in markdown; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR")
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--visits", type=int, default=3, help="scans of each (default: 3)")
    parser.add_argument("--seed", type=int, default=900, help="of the phantoms; none that the model was trained with")
    parser.add_argument("--field", default="full", help="field of view (default: full)")
    parser.add_argument("--channels", default="", metavar="A,B", help="default: the model's")
    parser.add_argument("--keep", metavar="DIR", help="folder for phantoms, results and details.csv (default: none)")
    parser.add_argument("--store", action="store_true", help="write the figures into the model's folder")
    options = parser.parse_args()

    def run() -> int:
        with tempfile.TemporaryDirectory(prefix="ivdjax-repeatability-") as place:
            phantoms = phantom_set(options)
            scans = scan(options.model, phantoms, Path(options.keep or place))
        measures = figures(scans)
        print(f"{told(scans)}\n\n{table(measures)}")
        if options.store:
            annotate_model(options.model, {"repeatability": facts(measures, phantoms, command_line(options))})
            print(f"\nstored in {options.model}")
        return 0

    return run_command(run)


def phantom_set(options: argparse.Namespace) -> PhantomSet:
    """The phantoms that the options ask for.

    Raises:
        UserError: fewer than two subjects or visits, or options that no phantom can have.
    """
    if options.subjects < 2 or options.visits < 2:
        raise UserError(f"repeatability takes two subjects and visits at least, not {options.subjects} and "
                        f"{options.visits}")  # fmt: skip
    channels = tuple(options.channels.split(",")) if options.channels else read_model(options.model).channels
    view = PhantomOptions(channels=channels, field=options.field)
    # A slab's number of slices is drawn for each visit unless it is stated; one protocol has one number.
    shape = view.grid_shape if options.field == "slab" else None
    view = PhantomOptions(channels=channels, field=options.field, shape=shape)
    return PhantomSet(options.subjects * options.visits, options.seed, options.visits, view)


def scan(model: str, phantoms: PhantomSet, folder: Path) -> list[Scan]:
    """Makes the phantoms (unless the folder has them already), infers them, and reads and measures both sides.

    Raises:
        UserError: the model, the phantoms or the folder cannot be used, or a case failed.
    """
    cases, results = folder / "cases", folder / "results"
    if not holds_phantoms(cases, phantoms):
        write_phantoms(cases, phantoms, overwrite=True)
    rows = infer(InferenceRequest(model=Path(model), output=results, inputs=(str(cases),)))
    failed = [f"{row.case} ({'; '.join(row.reasons)})" for row in rows if row.status == "failed"]
    if failed:
        raise UserError(f"every phantom must be inferred, but {len(failed)} failed: {', '.join(failed)}")
    subjects = {name: subject for name, subject, _, _ in map(phantoms.member, range(phantoms.cases))}
    channels = phantoms.options.channels
    scans = []
    for files in find_cases(cases, DataConfig(channels=channels)):
        stored, case = read_visit(results / files.name), read_case(files, channels)
        assert case.labels is not None  # phantoms have labels
        truth = {row["level"]: row for row in disc_rows(measure_discs(case.labels, case.volume, {}))}
        scans.append(Scan(subjects[files.name], files.name, stored.visit.discs, truth, stored.visit.verdict))
    write_whole(folder / "details.csv", _details(scans))
    return scans


def level_is_right(found: Mapping[str, Any], truth: Mapping[str, Any] | None) -> bool:
    """Whether a found disc lies where the disc of its level is: centroids within 10 mm."""
    if truth is None:
        return False
    apart = [found[f"centroid_{axis}_mm"] - truth[f"centroid_{axis}_mm"] for axis in "xyz"]
    return float(np.linalg.norm(apart)) <= RIGHT_WITHIN_MM


def figures(scans: Sequence[Scan]) -> dict[str, dict[str, Any]]:
    """How each measure repeats: within_sd, smallest_detectable_change, icc, n, bias, truth_within_sd.

    A measure without a disc that has it twice is left out.
    """
    pairs = [(s, level) for s in scans for level in s.found if level_is_right(s.found[level], s.truth.get(level))]
    discs = sorted({(s.subject, level) for s, level in pairs})
    columns = {subject: [s.case for s in scans if s.subject == subject] for subject in {s.subject for s in scans}}
    shape = len(discs), max((len(cases) for cases in columns.values()), default=0)
    levels = [level for _, level in discs]
    result = {}
    for measure in numeric_measures([s.found[level] for s, level in pairs]):
        found, truth = np.full(shape, np.nan), np.full(shape, np.nan)
        for s, level in pairs:
            place = discs.index((s.subject, level)), columns[s.subject].index(s.case)
            found[place] = _value(s.found[level], measure)
            truth[place] = _value(s.truth[level], measure)
        repeated = repeatability_of(found, levels)
        if repeated is None:
            continue
        difference = (found - truth)[np.isfinite(found - truth)]
        result[measure] = asdict(repeated) | {
            "bias": float(difference.mean()) if len(difference) else None, "truth_within_sd": within_sd(truth)[0],
        }  # fmt: skip
    return result


def facts(measures: Mapping[str, Mapping[str, Any]], phantoms: PhantomSet, command: str) -> dict[str, Any]:
    """What the model's description keeps: a mapping for each measure, and what they were made of."""
    view, count = phantoms.options, phantoms.cases // phantoms.visits
    spacing = " x ".join(f"{value:g}" for value in view.grid_spacing_mm)
    voxels = "" if view.field == "clinical" else f"voxels of {spacing} mm, "  # there they vary between subjects
    made_of = (
        f"{count} synthetic phantoms scanned {phantoms.visits} times each, with another position, noise and coil "
        f"(field {view.field}, {voxels}channels {', '.join(view.channels)}; seed {phantoms.seed}); not patients"
    )
    kept = {
        name: {key: _rounded(value) for key, value in own.items() if key != "truth_within_sd"}
        for name, own in measures.items()
    }  # fmt: skip
    return {**kept, "made_of": made_of, "command": command, "ivdjax_version": __version__}


def command_line(options: argparse.Namespace) -> str:
    """The command that repeats the figures, with every option that they depend on."""
    words = ["python", "benchmarks/repeatability.py", "--model", f"models/{Path(options.model).resolve().name}"]
    for name in ("subjects", "visits", "seed", "field", "channels"):
        if getattr(options, name):
            words += [f"--{name}", str(getattr(options, name))]
    return shlex.join(words)


def table(measures: Mapping[str, Mapping[str, Any]]) -> str:
    """One row a measure, in markdown."""
    lines = [
        "| measure | within-subject sd | smallest detectable change | ICC(2,1) | bias | sd of the truth | discs |",
        "|---" * 7 + "|",
    ]
    keys = ("within_sd", "smallest_detectable_change", "icc", "bias", "truth_within_sd", "n")
    for name, own in measures.items():
        lines.append(f"| {name} | " + " | ".join(_cell(own[key]) for key in keys) + " |")
    return "\n".join(lines)


def told(scans: Sequence[Scan]) -> str:
    """One line about how many discs count, and how many do not."""
    found = [level_is_right(s.found[level], s.truth.get(level)) for s in scans for level in s.found]
    missed = sum(level not in s.found for s in scans for level in s.truth)
    review = sum(s.verdict != "ok" for s in scans)
    return (
        f"{len(scans)} scans of {len({s.subject for s in scans})} phantoms; {sum(found)} discs of the right level, "
        f"{len(found) - sum(found)} of a wrong one (left out), {missed} missed; {review} scans to review"
    )


def _details(scans: Sequence[Scan]) -> str:
    """Every measure of every disc, found and true, as CSV."""
    measures = numeric_measures([row for s in scans for row in (*s.found.values(), *s.truth.values())])
    rows = [
        {"subject": s.subject, "case": s.case, "level": level, "of": side} | {name: row.get(name) for name in measures}
        for s in scans
        for side, discs in (("found", s.found), ("truth", s.truth))
        for level, row in discs.items()
    ]
    return csv_text(("subject", "case", "level", "of", *measures), rows)


def _value(row: Mapping[str, Any], measure: str) -> float:
    value = row.get(measure)
    return float("nan") if value is None or isinstance(value, str) else float(value)


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
