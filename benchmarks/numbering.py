"""How well levels are told with each step of the post-processing left out, and with plainer ways of numbering.

    python -m benchmarks.numbering --model models/NAME [--without-region] [--details FILE] CASES [CASES ...]

CASES are folders of cases with references, or case folders. The networks run once a case, and what they say is kept
under `cache/evidence` (with --without-region they run once more); every setting numbers what they found, is restored to
the case's grid and scored as evaluate.py does it. Columns:

- levels right: reference levels whose disc lies within 10 mm under its own number.
- wrong numbers: found discs whose number is not that of the reference disc they cover most, or that cover none although
  the reference has a disc of their number elsewhere. A disc that nobody outlined cannot be judged.
- missing: reference levels that no found disc carries.
- silent: how many wrong numbers and missing levels lie in cases with the verdict ok, and in how many cases. The verdict
  is the model's own on the numbering; what is unsure in the outlines is left to `benchmarks/real_scans.py`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.evidence_cache import looked_at, read_evidence
from benchmarks.reference_cases import reference_cases
from ivdjax.commands.commands import run_command
from ivdjax.config import InferenceConfig
from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.data.preparation import Prepared, restore_labels
from ivdjax.discs.evidence import Evidence
from ivdjax.discs.metrics import CaseScore, score_case
from ivdjax.discs.numbering import number_discs
from ivdjax.discs.verdict import Judgement, judgement_of
from ivdjax.evaluation.evaluate import summary
from ivdjax.imaging.folders import write_whole
from ivdjax.inference.case_result import prepare_case
from ivdjax.model.model import Model, read_model
from ivdjax.reports.tables import csv_text
from ivdjax.volume import LUMBAR_DISCS, LabelMap

FULL, NO_REGION = "full", "without region"
DETAIL_COLUMNS = (
    "case", "verdict", "levels_right", "levels_total", "wrong_numbers", "missing_levels", "mean_dice", "reasons",
)  # fmt: skip

Variant = Callable[[Evidence, InferenceConfig], tuple[Evidence, InferenceConfig]]
"""What a setting makes of the evidence and of the model's own settings."""


@dataclass(frozen=True)
class Outcome:
    """One case under one setting."""

    case: str
    verdict: str
    reasons: tuple[str, ...]
    score: CaseScore
    wrong: int
    missing: int

    @property
    def silent(self) -> int:
        """Wrong numbers and missing levels that no review tells of."""
        return self.wrong + self.missing if self.verdict == "ok" else 0


def main() -> int:
    """Numbers and scores every case, and prints a table in markdown; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="CASES")
    parser.add_argument("--model", required=True, metavar="M")
    parser.add_argument("--without-region", action="store_true", help="run the networks once more, without the region")
    parser.add_argument("--processes", type=int, default=2, metavar="N")
    parser.add_argument("--details", metavar="FILE", help="CSV of each case under the full setting")
    options = parser.parse_args()

    def run() -> int:
        found = reference_cases(options.cases, read_model(options.model).channels)
        outcomes = measure(options.model, found, options.without_region, options.processes)
        print(table(outcomes))
        if options.details:
            write_whole(Path(options.details), csv_text(DETAIL_COLUMNS, [_detail(o) for o in outcomes[FULL]]))
        return 0

    return run_command(run)


def measure(
    name: str, cases: Sequence[CaseFiles], without_region: bool, processes: int = 2
) -> dict[str, list[Outcome]]:
    """The outcome of every case, by setting."""
    looked = [(files, path) for files, _, path in looked_at(name, cases)]
    with ProcessPoolExecutor(processes) as pool:
        found = list(
            tqdm(pool.map(partial(measure_case, name), looked), total=len(looked), desc="numbering", unit="case")
        )
    outcomes = {setting: [case[setting] for case in found] for setting in found[0]}
    if without_region and _uses(read_model(name), "region"):
        from ivdjax.inference.segmenter import gather_evidence, load_segmenter  # JAX is needed here alone

        plain = load_segmenter(name, ["inference.region=false"])
        judgement = judgement_of(plain.model.meta.get("levels"))
        outcomes[NO_REGION] = []
        for files in tqdm(cases, desc=NO_REGION, unit="case"):
            case = read_case(files, plain.config.data.channels)
            assert case.labels is not None  # only such cases are looked at
            prepared = prepare_case(plain.model, case)
            evidence = gather_evidence(plain, prepared)
            outcomes[NO_REGION].append(judge(prepared, case.labels, evidence, plain.config.inference, judgement))
    return outcomes


def measure_case(name: str, looked: tuple[CaseFiles, Path]) -> dict[str, Outcome]:
    """One case under every setting, from the evidence that is kept at a path."""
    files, path = looked
    model, kept = read_model(name), read_evidence(path)
    case = read_case(files, model.config.data.channels)
    assert case.labels is not None  # only such cases are looked at
    judgement = judgement_of(model.meta.get("levels"))
    return {
        setting: judge(kept.prepared, case.labels, *vary(kept.evidence, model.config.inference), judgement)
        for setting, vary in variants(model).items()
    }


def variants(model: Model) -> dict[str, Variant]:
    """The settings that differ for this model, by name."""
    found: dict[str, Variant] = {
        FULL: lambda evidence, settings: (evidence, settings),
        "numbering=line": lambda evidence, settings: (evidence, replace(settings, numbering="line")),
        "numbering=bottom": lambda evidence, settings: (evidence, replace(settings, numbering="bottom")),
    }
    if _uses(model, "localization"):
        found["without localization"] = lambda evidence, settings: (
            replace(evidence, level_probability=None, level_grid=None), replace(settings, localization=False),
        )  # fmt: skip
    if model.reference is not None:
        found["without registration"] = lambda evidence, settings: (evidence, replace(settings, registration=False))
    return found


def judge(
    prepared: Prepared, reference: LabelMap, evidence: Evidence, settings: InferenceConfig, judgement: Judgement
) -> Outcome:
    """Numbers a case, restores it to its own grid and scores it."""
    numbering = number_discs(evidence, settings, judgement)
    labels = restore_labels(numbering.levels, prepared, evidence.probability, settings.threshold)
    wrong, missing = numbering_faults(labels, reference)
    return Outcome(
        prepared.name, numbering.verdict, numbering.reasons, score_case(labels, reference), len(wrong), len(missing)
    )


def numbering_faults(prediction: LabelMap, reference: LabelMap) -> tuple[list[int], list[int]]:
    """Levels of the prediction that are wrong numbers, and levels of the reference that are missing (see above).

    Both maps lie on one grid; predicted levels above the seventh count on neither side.
    """
    wrong = []
    for level in prediction.levels:
        if level > LUMBAR_DISCS:
            continue
        covered = np.bincount(reference.array[prediction.array == level], minlength=2)
        covered[0] = 0
        other = int(covered.argmax()) if covered.any() else None
        if other != level and (other is not None or level in reference.levels):
            wrong.append(level)
    return wrong, [n for n in reference.levels if n <= LUMBAR_DISCS and n not in prediction.levels]


def table(outcomes: dict[str, list[Outcome]]) -> str:
    """One row a setting, in markdown."""
    lines = ["| setting | levels right | wrong numbers | missing | silent | ok | review | mean Dice | extra discs |",
             "|---" * 9 + "|"]  # fmt: skip
    for name, rows in outcomes.items():
        totals = summary([row.score for row in rows])
        wrong, missing = sum(row.wrong for row in rows), sum(row.missing for row in rows)
        silent = f"{sum(row.silent for row in rows)} in {sum(row.silent > 0 for row in rows)} cases"
        ok = sum(row.verdict == "ok" for row in rows)
        dice = "-" if totals["mean_dice"] is None else f"{totals['mean_dice']:.3f}"
        lines.append(
            f"| {name} | {totals['levels_right']} of {totals['levels_total']} | {wrong} | {missing} | {silent} | "
            f"{ok} | {len(rows) - ok} | {dice} | {totals['extra_discs']} |"
        )
    return "\n".join(lines)


def _uses(model: Model, network: str) -> bool:
    return network in model.networks and bool(getattr(model.config.inference, network))


def _detail(outcome: Outcome) -> dict[str, object]:
    return {
        "case": outcome.case, "verdict": outcome.verdict, "levels_right": outcome.score.levels_right,
        "levels_total": outcome.score.levels_total, "wrong_numbers": outcome.wrong, "missing_levels": outcome.missing,
        "mean_dice": summary([outcome.score])["mean_dice"], "reasons": "; ".join(outcome.reasons),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
