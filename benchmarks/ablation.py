"""The paper's choices against their alternatives: one small training each, under one budget, on the same cases.

    python benchmarks/ablation.py --config configs/ablation.yaml --set data.root=DATA_ROOT
        [--steps N] [--seeds 1 2 ...] [--variants NAME ...] [--output DIR]

The disc stage alone is trained, for each variant and seed, and scored on the held-out cases (data.validation): Dice of
all discs as one mask on the working grid. A spine region stage is trained once and serves every variant. Variants:

- paper: DenseNet with three paths, dense atrous pyramid, focal loss after cross-entropy, a loss for each path, all
  within the predicted spine region.
- parallel, serial: the atrous rates connected so.
- unet, wide_unet: a plain U-Net of four downsamplings, as wide as brings its parameters (unet) or its arithmetic
  (wide_unet) nearest to paper's.
- cross_entropy: no focal loss (disc.loss.gamma=0).
- no_path_losses: the fused output's loss alone (disc.loss.auxiliary=0).
- everywhere: samples and loss from the whole image; scored without the region, and within it, which tells what the
  region does in training from what it does in inference.

What is done already stays: the same command resumes, and further variants or seeds join the table. --steps shortens or
lengthens warm-up and cross-entropy in proportion.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax

from benchmarks.ablation_variants import (
    PAPER,
    VARIANTS,
    Study,
    budgeted,
    flops,
    parameter_count,
    variant_config,
)
from ivdjax.commands.commands import CommandParser, run_command
from ivdjax.config import Config, ConfigError, config_differences, parse_config, plain_config
from ivdjax.data.preparation import Prepared
from ivdjax.imaging.folders import alone, write_whole
from ivdjax.learning.devices import use_compilation_cache
from ivdjax.learning.steps import build_predict
from ivdjax.model.probabilities import Predict, with_region
from ivdjax.model.tasks import Scored, build_task, stage_network
from ivdjax.training.stage import train_stage
from ivdjax.training.stage_record import read_record, write_record
from ivdjax.training.training_cases import phantoms_beside, prepared_cases, split_cases
from ivdjax.volume import UserError

WITHIN = "everywhere, scored within the region"
"""The second row of the table that the variant `everywhere` gives."""

SCORES, RESOLVED = "scores.json", "config.json"


@dataclass(frozen=True)
class Score:
    """One training and what it came to.

    Attributes:
        variant: its row in the table.
        seed: of everything random in it.
        parameters: of the network.
        mflop: millions of floating-point operations of the network forward on one box.
        step_ms: wall time of a training step, from the fastest rows of the journal.
        dice: of all discs as one mask, by held-out case.
    """

    variant: str
    seed: int
    parameters: int
    mflop: float
    step_ms: float
    dice: dict[str, float]

    @property
    def mean(self) -> float:
        """Mean over the held-out cases."""
        return statistics.fmean(self.dice.values())

    @property
    def worst(self) -> float:
        """Of the worst held-out case."""
        return min(self.dice.values())


def main() -> int:
    """Trains and scores what is not there yet, and prints a table in markdown; the exit code."""
    parser = CommandParser(__doc__ or "")
    parser.add_argument("--config", required=True, metavar="FILE", help="configuration in YAML")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", dest="overrides",
                        help="override one value of the configuration; may be repeated")  # fmt: skip
    parser.add_argument("--steps", type=int, metavar="N", help="steps of each training (default: the configuration's)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], metavar="S", help="default: 1")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME",
                        help="default: all")  # fmt: skip
    parser.add_argument("--output", default="runs/ablation", metavar="DIR", help="default: runs/ablation")
    options = parser.parse_args()

    def run() -> int:
        study = budgeted(Path(options.config), tuple(options.overrides), options.steps)
        ablate(study, Path(options.output), options.variants, options.seeds)
        print(table(read_scores(Path(options.output))))
        return 0

    return run_command(run)


def ablate(study: Study, output: Path, variants: Sequence[str], seeds: Sequence[int]) -> None:
    """Trains and scores every variant with every seed that is not there yet, all variants with the first seed first.

    Raises:
        UserError: the configuration or its data cannot be used, or `output` holds a study of another one.
        CaseError, FloatingPointError, OSError: as `ivdjax.training.train.train`.
    """
    output.mkdir(parents=True, exist_ok=True)
    with alone(output) as undisturbed:
        if not undisturbed:
            raise UserError(f"another ablation.py is at work in {output}; wait for it, or choose another --output")
        base = study.config("stages=[region, disc]")
        configs = {(v, s): variant_config(study, v, s) for s in seeds for v in variants}
        _claim(base, output)
        wanted = {key: config for key, config in configs.items() if not (_folder(output, *key) / SCORES).exists()}
        if not wanted:
            return
        use_compilation_cache()
        training, held_out = cases_with_region(base, output)
        for (variant, seed), config in wanted.items():
            found = train_variant(config, variant, seed, training, held_out, _folder(output, variant, seed))
            print(f"{variant}, seed {seed}: " + "; ".join(f"mean Dice {score.mean:.3f}" for score in found), flush=True)


def cases_with_region(config: Config, output: Path) -> tuple[list[Prepared], list[Prepared]]:
    """Cases to train on and held-out ones with a reference, each with its spine region as a network predicts it.

    The network is trained in `<output>/region/` unless it has been.

    Raises:
        UserError: no held-out case has a reference.
    """
    training, held_out = split_cases(config, prepared_cases(config, output), None)
    training += phantoms_beside(config, output)
    held_out = [case for case in held_out if case.labels is not None and case.labels.any()]
    if not held_out:
        raise UserError("no held-out case has outlined discs to score against; name some in data.validation")
    record = read_record(output / "region")
    if record is None:
        record = train_stage(config, build_task(config, "region", training, held_out), output)
        write_record(output / "region", record)
    print(f"region: Dice {record.validation['region_dice']:.3f} on {len(held_out)} held-out cases", flush=True)
    predict, params = build_predict(stage_network(config, "region").apply), jax.device_put(record.parameters)
    return (
        [with_region(case, predict, params, config) for case in training],
        [with_region(case, predict, params, config) for case in held_out],
    )


def train_variant(
    config: Config, variant: str, seed: int, training: Sequence[Prepared], held_out: Sequence[Prepared], folder: Path
) -> list[Score]:
    """Trains the disc stage in `folder`, scores the held-out cases and keeps the scores there.

    All cases carry their predicted spine region, and the held-out ones a reference.
    """
    everywhere = not config.disc.within_region
    if everywhere:
        training = [replace(case, region=None) for case in training]
    size, mflop = parameter_count(config), flops(config) / 1e6
    task = build_task(config, "disc", training, held_out)
    dice: dict[str, dict[str, float]] = {}

    def score(predict: Predict, params: Any, case: Prepared) -> Scored:
        within = task.score(predict, params, case)
        if not everywhere:
            dice.setdefault(variant, {})[case.name] = within.score
            return within
        without = task.score(predict, params, replace(case, region=None))
        dice.setdefault(variant, {})[case.name] = without.score
        dice.setdefault(WITHIN, {})[case.name] = within.score
        return without

    train_stage(config, replace(task, score=score), folder)
    # The pace of the best row: others hold the compilation, a checkpoint, or what else the machine was at.
    pace = np.genfromtxt(folder / "disc" / "journal.csv", delimiter=",", names=True)["slices_per_second"]
    step_ms = 1000.0 * config.disc.training.batch_size / float(np.max(pace))
    found = [Score(row, seed, size, mflop, step_ms, cases) for row, cases in dice.items()]
    write_whole(folder / SCORES, json.dumps([vars(row) for row in found], indent=2) + "\n")
    return found


def read_scores(output: Path) -> list[Score]:
    """The scores of every training that is finished, in the order of `VARIANTS` and by seed.

    Raises:
        UserError: a file of scores is damaged.
    """
    found = []
    for variant in VARIANTS:
        for path in output.glob(f"{variant}/seed_*/{SCORES}"):
            try:
                found += [Score(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
            except (OSError, ValueError, TypeError) as error:
                raise UserError(f"{path} cannot be read ({error}); remove its folder to train it again") from error
    rows = [*VARIANTS, WITHIN]
    return sorted(found, key=lambda score: (rows.index(score.variant), score.seed))


def table(scores: Sequence[Score]) -> str:
    """One row a variant, in markdown: mean Dice (worst case) of each seed, their mean and spread, and a comparison.

    The spread is the largest less the smallest mean of a seed. `against paper` is the mean difference of Dice case by
    case, over the seeds that both have, and in how many cases the variant is the better one.
    """
    seeds = sorted({score.seed for score in scores})
    lines = [
        f"| variant | parameters | Mflop a box | ms a step | {' | '.join(f'seed {s}: mean (worst)' for s in seeds)} "
        "| mean of seeds | spread | against paper |",
        "|---" * (7 + len(seeds)) + "|",
    ]
    paper = [score for score in scores if score.variant == PAPER]
    for variant in dict.fromkeys(score.variant for score in scores):
        rows = {score.seed: score for score in scores if score.variant == variant}
        means = [row.mean for row in rows.values()]
        first = next(iter(rows.values()))
        cells = [variant, f"{first.parameters:,}", f"{first.mflop:.0f}"]
        cells += [f"{statistics.fmean(row.step_ms for row in rows.values()):.0f}"]
        cells += [f"{rows[s].mean:.3f} ({rows[s].worst:.3f})" if s in rows else "-" for s in seeds]
        cells += [f"{statistics.fmean(means):.3f}", f"{max(means) - min(means):.3f}" if len(means) > 1 else "-"]
        cells += ["-" if variant == PAPER else compared(list(rows.values()), paper)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def compared(rows: Sequence[Score], paper: Sequence[Score]) -> str:
    """The mean difference from the paper's variant and in how many cases it is above 0; "-" without common seeds."""
    pairs = [(row.dice, other.dice) for row in rows for other in paper if row.seed == other.seed]
    if not pairs:
        return "-"
    gains = [statistics.fmean(dice[case] - other[case] for dice, other in pairs) for case in pairs[0][0]]
    return f"{statistics.fmean(gains):+.3f}, better in {sum(gain > 0 for gain in gains)} of {len(gains)}"


def _folder(output: Path, variant: str, seed: int) -> Path:
    return output / variant / f"seed_{seed}"


def _claim(config: Config, output: Path) -> None:
    """Makes sure that `output` is this configuration's, or nobody's yet.

    Raises:
        ConfigError: it was begun with another one, and the message names the keys that differ.
    """
    path = output / RESOLVED
    if not any(output.glob("**/journal.csv")):
        write_whole(path, json.dumps(plain_config(config), indent=2) + "\n")
        return
    try:
        changes = config_differences(parse_config(json.loads(path.read_text(encoding="utf-8"))), config)
    except (OSError, ValueError) as error:  # a ConfigError is a ValueError
        raise ConfigError(f"{path} cannot be read ({error}); choose another --output, or remove {output}") from error
    if changes:
        raise ConfigError(
            f"{output} was begun with another configuration; choose another --output, or undo:\n  "
            + "\n  ".join(changes)
        )


if __name__ == "__main__":
    sys.exit(main())
