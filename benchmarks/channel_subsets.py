"""What a model of several channels reaches with each non-empty subset of them.

    python benchmarks/channel_subsets.py --model models/NAME CASES [CASES ...]

CASES are folders of cases with references and every channel, or case folders. A channel that is left out is not in the
case at all, as in a scan that lacks it; the networks run once for each subset. Scores are those of evaluate.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.reference_cases import reference_cases
from ivdjax.commands.commands import run_command
from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.discs.metrics import CaseScore, score_case
from ivdjax.evaluation.evaluate import summary
from ivdjax.inference.segmenter import find_discs, load_segmenter
from ivdjax.model.model import read_model
from ivdjax.volume import Case, Volume

Subset = tuple[str, ...]


def main() -> int:
    """Scores every case with every subset, and prints a table in markdown; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="CASES")
    parser.add_argument("--model", required=True, metavar="M")
    options = parser.parse_args()

    def run() -> int:
        channels = read_model(options.model).channels
        scores = measure(options.model, reference_cases(options.cases, channels), subsets(channels))
        print(table(channels, scores))
        return 0

    return run_command(run)


def subsets(channels: Sequence[str]) -> list[Subset]:
    """Every non-empty subset in the channels' order, the whole first and single channels last."""
    return [subset for size in range(len(channels), 0, -1) for subset in combinations(channels, size)]


def measure(model: str, cases: Sequence[CaseFiles], chosen: Sequence[Subset]) -> dict[Subset, list[CaseScore]]:
    """The score of every case, by subset."""
    segmenter = load_segmenter(model)
    scores: dict[Subset, list[CaseScore]] = {subset: [] for subset in chosen}
    with tqdm(total=len(cases) * len(chosen), desc="subsets", unit="volume") as bar:
        for files in cases:
            case = read_case(files, segmenter.model.channels)
            assert case.labels is not None  # only such cases are looked at
            for subset in chosen:
                scores[subset].append(score_case(find_discs(segmenter, only(case, subset)).labels, case.labels))
                bar.update()
    return scores


def only(case: Case, channels: Subset) -> Case:
    """The case as it would be read without its other channels."""
    volume = case.volume
    kept = volume.array[[volume.channels.index(channel) for channel in channels]]
    return replace(case, volume=Volume(kept, volume.affine, channels, volume.native))


def table(channels: Sequence[str], scores: dict[Subset, list[CaseScore]]) -> str:
    """One row a subset, in markdown."""
    lines = [f"| {' | '.join(channels)} | mean Dice | worst Dice | levels right | localization mm | extra discs |",
             "|---" * (len(channels) + 5) + "|"]  # fmt: skip
    for subset, rows in scores.items():
        totals = summary(rows)
        cells = ["x" if channel in subset else "" for channel in channels]
        cells += [_figure(totals["mean_dice"], 3), _figure(totals["worst_dice"], 3)]
        cells += [f"{totals['levels_right']} of {totals['levels_total']}"]
        cells += [_figure(totals["mean_localization_error_mm"], 2), str(totals["extra_discs"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    sys.exit(main())
