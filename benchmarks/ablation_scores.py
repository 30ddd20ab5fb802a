"""What the trainings of `ablation.py` came to: their scores on disk, and the tables made of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ivdjax.volume import UserError

HELD_OUT = "held out"
"""The held-out cases as they are."""

SCORES = "scores.json"


@dataclass(frozen=True)
class Score:
    """One training and what it came to on one set of scans.

    Attributes:
        variant: its row in the table.
        seed: of everything random in it.
        parameters: of the network.
        mflop: millions of floating-point operations of the network forward on one box.
        step_ms: wall time of a training step, from the fastest rows of the journal.
        dice: of all discs as one mask, by case.
        scans: the set.
    """

    variant: str
    seed: int
    parameters: int
    mflop: float
    step_ms: float
    dice: dict[str, float]
    scans: str = HELD_OUT

    @property
    def mean(self) -> float:
        """Mean over the cases."""
        return statistics.fmean(self.dice.values())

    @property
    def worst(self) -> float:
        """Of the worst case."""
        return min(self.dice.values())


def read_scores(output: Path, variants: Sequence[str]) -> list[Score]:
    """The scores of every training of these variants that is finished, variant by variant and by seed.

    Raises:
        UserError: a file of scores is damaged.
    """
    found = []
    for variant in variants:
        trainings: list[Score] = []
        for path in output.glob(f"{variant}/seed_*/{SCORES}"):
            try:
                trainings += [Score(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
            except (OSError, ValueError, TypeError) as error:
                raise UserError(f"{path} cannot be read ({error}); remove its folder to train it again") from error
        found += sorted(trainings, key=lambda score: (score.variant != variant, score.variant, score.seed))
    return found


def table(scores: Sequence[Score], reference: str) -> str:
    """One row a variant, in markdown: mean Dice (worst case) of each seed, their mean and spread, and a comparison.

    The spread is the largest less the smallest mean of a seed. The last column is the mean difference of Dice from the
    reference case by case, over the seeds that both have, and in how many cases the variant is the better one.
    """
    seeds = sorted({score.seed for score in scores})
    lines = [
        f"| variant | parameters | Mflop a box | ms a step | {' | '.join(f'seed {s}: mean (worst)' for s in seeds)} "
        f"| mean of seeds | spread | against {reference} |",
        "|---" * (7 + len(seeds)) + "|",
    ]
    others = [score for score in scores if score.variant == reference]
    for variant in dict.fromkeys(score.variant for score in scores):
        rows = {score.seed: score for score in scores if score.variant == variant}
        means = [row.mean for row in rows.values()]
        first = next(iter(rows.values()))
        cells = [variant, f"{first.parameters:,}", f"{first.mflop:.0f}"]
        cells += [f"{statistics.fmean(row.step_ms for row in rows.values()):.0f}"]
        cells += [f"{rows[s].mean:.3f} ({rows[s].worst:.3f})" if s in rows else "-" for s in seeds]
        cells += [f"{statistics.fmean(means):.3f}", f"{max(means) - min(means):.3f}" if len(means) > 1 else "-"]
        cells += ["-" if variant == reference else compared(list(rows.values()), others)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def compared(rows: Sequence[Score], others: Sequence[Score]) -> str:
    """The mean difference from the others and in how many cases it is above 0; "-" without common seeds."""
    pairs = [(row.dice, other.dice) for row in rows for other in others if row.seed == other.seed]
    if not pairs:
        return "-"
    gains = [statistics.fmean(dice[case] - other[case] for dice, other in pairs) for case in pairs[0][0]]
    return f"{statistics.fmean(gains):+.3f}, better in {sum(gain > 0 for gain in gains)} of {len(gains)}"


def table_of_sets(scores: Sequence[Score], reference: str) -> str:
    """One row a variant and one column a set of scans, in markdown, and a last column for the mean of the sets.

    The reference's cells hold its mean Dice, those of the others the difference from it with the same seed; behind it
    are the smallest and the largest of several seeds.
    """
    sets = list(dict.fromkeys(score.scans for score in scores))
    means = {(score.variant, score.seed, score.scans): score.mean for score in scores}
    lines = [f"| variant | seeds | {' | '.join(sets)} | mean of sets |", "|---" * (3 + len(sets)) + "|"]
    for variant in dict.fromkeys(score.variant for score in scores):
        seeds = sorted({score.seed for score in scores if score.variant == variant})
        columns: list[list[float]] = []
        for scans in sets:
            wanted = [seed for seed in seeds if (variant, seed, scans) in means]
            found = {seed: means[variant, seed, scans] for seed in wanted}
            if variant != reference:
                base = {seed: means[reference, seed, scans] for seed in wanted if (reference, seed, scans) in means}
                found = {seed: found[seed] - base[seed] for seed in base}
            columns.append(list(found.values()))
        if len({len(column) for column in columns}) == 1:
            columns.append([statistics.fmean(values) for values in zip(*columns, strict=True)])
        else:
            columns.append([])
        sign = "" if variant == reference else "+"
        lines.append(f"| {variant} | {len(seeds)} | {' | '.join(_ranged(column, sign) for column in columns)} |")
    return "\n".join(lines)


def _ranged(values: Iterable[float], sign: str) -> str:
    """The mean of values, and from where to where they go if there are several."""
    values = list(values)
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):{sign}.3f}"
    return f"{mean} ({min(values):{sign}.3f} to {max(values):{sign}.3f})" if len(values) > 1 else mean
