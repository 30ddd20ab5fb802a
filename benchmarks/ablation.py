"""What a choice brings: one small training for it and each alternative, under one budget, on the same cases.

    python benchmarks/ablation.py --config configs/ablation.yaml --set data.root=DATA_ROOT [--study NAME]
        [--steps N] [--seeds 1 2 ...] [--variants NAME ...] [--scans FOLDER] [--output DIR]

The disc stage alone is trained, for each variant and seed, and scored on the held-out cases (data.validation): Dice of
all discs as one mask on the working grid. A spine region stage is trained once and serves every variant.

--study paper (the default) has the paper's choices against their alternatives:

- paper: DenseNet with three paths, dense atrous pyramid, focal loss after cross-entropy, a loss for each path, all
  within the predicted spine region.
- parallel, serial: the atrous rates connected so.
- unet, wide_unet: a plain U-Net of four downsamplings, as wide as brings its parameters (unet) or its arithmetic
  (wide_unet) nearest to paper's.
- cross_entropy: no focal loss (disc.loss.gamma=0).
- no_path_losses: the fused output's loss alone (disc.loss.auxiliary=0).
- everywhere: samples and loss from the whole image; scored without the region, and within it, which tells what the
  region does in training from what it does in inference.

--study contrast has the contrast augmentation of configs/lumbar.yaml, with one group of changes left out at a time:

- all_groups: the paper's choices, all groups of changes.
- no_classes: no tissue changes its brightness against the others (redistribution, new_means).
- no_inversion, no_random_convolution, no_edges, no_bias: without the change of that name.
- no_curves: no equalization, remapping or gamma.
- no_slices: slices as thin as acquired. no_resolution: no blur, no noise.
- no_contrast: none of these changes.

It scores other contrasts too, made from the held-out cases (benchmarks/made_contrasts.py; they need tissue maps) and
looked at within the spine region of the scan that they were made from.

--scans names a folder of further cases with outlined discs, as another scanner makes them. They are scored and never
trained on; only the discs up to the highest outlined one count.

What is done already stays: the same command resumes, and further variants or seeds join the table. --steps shortens or
lengthens warm-up and cross-entropy in proportion.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax

from benchmarks.ablation_scores import HELD_OUT, SCORES, Score, read_scores, table, table_of_sets
from benchmarks.ablation_variants import STUDIES, Study, budgeted, flops, parameter_count, variant_config
from benchmarks.made_contrasts import CONTRASTS
from ivdjax.commands.commands import CommandParser, run_command
from ivdjax.config import Config, ConfigError, config_differences, parse_config, plain_config
from ivdjax.data.preparation import Prepared
from ivdjax.imaging.folders import alone, write_whole
from ivdjax.learning.devices import use_compilation_cache
from ivdjax.learning.steps import build_predict
from ivdjax.model.probabilities import with_region
from ivdjax.model.tasks import build_task, stage_network
from ivdjax.training.stage import train_stage
from ivdjax.training.stage_record import read_record, write_record
from ivdjax.training.training_cases import phantoms_beside, prepared_cases, split_cases
from ivdjax.volume import UserError

WITHIN = "everywhere, scored within the region"
"""The second row of the table that the variant `everywhere` gives."""

RESOLVED = "config.json"


def main() -> int:
    """Trains and scores what is not there yet, and prints a table in markdown; the exit code."""
    parser = CommandParser(__doc__ or "")
    parser.add_argument("--config", required=True, metavar="FILE", help="configuration in YAML")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", dest="overrides",
                        help="override one value of the configuration; may be repeated")  # fmt: skip
    parser.add_argument("--study", choices=list(STUDIES), default="paper", help="default: paper")
    parser.add_argument("--steps", type=int, metavar="N", help="steps of each training (default: the configuration's)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], metavar="S", help="default: 1")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="default: all of the study")
    parser.add_argument("--scans", type=Path, metavar="FOLDER", help="further cases to score (default: none)")
    parser.add_argument("--output", type=Path, metavar="DIR",
                        help="default: runs/ablation, and runs/ablation_contrast for that study")  # fmt: skip
    options = parser.parse_args()
    variants = options.variants or list(STUDIES[options.study])
    for variant in variants:
        if variant not in STUDIES[options.study]:
            parser.error(
                f"--variants of the study {options.study} are {', '.join(STUDIES[options.study])}, not {variant}"
            )
    output = options.output or Path("runs") / ("ablation" if options.study == "paper" else f"ablation_{options.study}")

    def run() -> int:
        study = budgeted(Path(options.config), tuple(options.overrides), options.steps, options.study)
        ablate(study, output, variants, options.seeds, options.scans)
        scores = read_scores(output, list(study.variants))
        print(table([score for score in scores if score.scans == HELD_OUT], study.reference))
        if len({score.scans for score in scores}) > 1:
            print(f"\n{table_of_sets(scores, study.reference)}")
        return 0

    return run_command(run)


def ablate(
    study: Study, output: Path, variants: Sequence[str], seeds: Sequence[int], scans: Path | None = None
) -> None:
    """Trains and scores every variant with every seed that is not there yet, all variants with the first seed first.

    A training that lacks the score of a set of scans is not done again: its last checkpoint is scored.

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
        sets = {HELD_OUT, *(CONTRASTS if study.name == "contrast" else ()), *((scans.name,) if scans else ())}
        there = {(score.variant, score.seed, score.scans) for score in read_scores(output, variants)}
        wanted = {key: config for key, config in configs.items() if any((*key, name) not in there for name in sets)}
        if not wanted:
            return
        use_compilation_cache()
        training, held_out = cases_with_region(base, output, scans)
        if study.name == "contrast":
            held_out |= {name: [make(case) for case in held_out[HELD_OUT]] for name, make in CONTRASTS.items()}
        for (variant, seed), config in wanted.items():
            found = train_variant(config, variant, seed, training, held_out, _folder(output, variant, seed))
            shown = "; ".join(f"{score.scans} {score.mean:.3f}" for score in found)
            print(f"{variant}, seed {seed}, mean Dice: {shown}", flush=True)


def cases_with_region(
    config: Config, output: Path, scans: Path | None = None
) -> tuple[list[Prepared], dict[str, list[Prepared]]]:
    """Cases to train on, and sets of cases to score, each case with its spine region as a network predicts it.

    The sets are the held-out cases with a reference and, by the name of their folder, those in `scans`. The network is
    trained in `<output>/region/` unless it has been.

    Raises:
        UserError: no held-out case, or none of the scans, has a reference.
    """
    training, held_out = split_cases(config, prepared_cases(config, output), None)
    training += phantoms_beside(config, output)
    sets = {HELD_OUT: _outlined(held_out, "held-out case", "name some in data.validation")}
    if scans is not None:
        if scans.name in (HELD_OUT, *CONTRASTS):
            raise UserError(f"--scans: the name of {scans} is that of another set; rename the folder")
        apart = replace(config.data, root=str(scans), cache="", all_discs_outlined=False, phantom_cases=0,
                        subject_table="")  # fmt: skip
        found = prepared_cases(replace(config, data=apart), output / "scans")
        sets[scans.name] = _outlined(found, f"case in {scans}", "choose another --scans")
    record = read_record(output / "region")
    if record is None:
        record = train_stage(config, build_task(config, "region", training, sets[HELD_OUT]), output)
        write_record(output / "region", record)
    print(f"region: Dice {record.validation['region_dice']:.3f} on {len(sets[HELD_OUT])} held-out cases", flush=True)
    predict, params = build_predict(stage_network(config, "region").apply), jax.device_put(record.parameters)
    return (
        [with_region(case, predict, params, config) for case in training],
        {name: [with_region(case, predict, params, config) for case in cases] for name, cases in sets.items()},
    )


def _outlined(cases: Sequence[Prepared], what: str, remedy: str) -> list[Prepared]:
    """Those of the cases that have a reference; a UserError without any."""
    found = [case for case in cases if case.labels is not None and case.labels.any()]
    if not found:
        raise UserError(f"no {what} has outlined discs to score against; {remedy}")
    return found


def train_variant(
    config: Config, variant: str, seed: int, training: Sequence[Prepared], sets: Mapping[str, Sequence[Prepared]],
    folder: Path,
) -> list[Score]:  # fmt: skip
    """Trains the disc stage in `folder`, scores each set of cases and keeps the scores there.

    All cases carry their predicted spine region, and those to score a reference.
    """
    everywhere = not config.disc.within_region
    if everywhere:
        training = [replace(case, region=None) for case in training]
    size, mflop = parameter_count(config), flops(config) / 1e6
    task = build_task(config, "disc", training, ())
    params = jax.device_put(train_stage(config, task, folder).parameters)
    dice: dict[tuple[str, str], dict[str, float]] = {}
    for name, cases in sets.items():
        for case in cases:
            rows = {variant: replace(case, region=None), WITHIN: case} if everywhere else {variant: case}
            for row, seen in rows.items():
                dice.setdefault((row, name), {})[case.name] = task.score(task.predict, params, seen).score
    # The pace of the best row: others hold the compilation, a checkpoint, or what else the machine was at.
    pace = np.genfromtxt(folder / "disc" / "journal.csv", delimiter=",", names=True)["slices_per_second"]
    step_ms = 1000.0 * config.disc.training.batch_size / float(np.max(pace))
    found = [Score(row, seed, size, mflop, step_ms, cases, name) for (row, name), cases in dice.items()]
    write_whole(folder / SCORES, json.dumps([vars(row) for row in found], indent=2) + "\n")
    return found


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
