"""Training: a configuration and its cases become a model folder, stage by stage."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from ivdjax.commands.commands import spoken
from ivdjax.config import Config, ConfigError, config_differences, parse_config, plain_config
from ivdjax.data.preparation import Prepared
from ivdjax.discs.reference import reference_mask
from ivdjax.imaging.folders import alone, write_whole
from ivdjax.learning.checkpoint import newest_step
from ivdjax.learning.devices import use_compilation_cache
from ivdjax.learning.hosts import announce, leads
from ivdjax.learning.optimizer import first_falling_step
from ivdjax.learning.steps import build_predict
from ivdjax.model.model import Model, annotated_facts, read_model, write_model
from ivdjax.model.model_card import CHOSEN
from ivdjax.model.probabilities import with_region
from ivdjax.model.stages import stage_settings
from ivdjax.model.tasks import build_task, stage_network
from ivdjax.model.weights import Parameters
from ivdjax.training.descent import case_marks, descent_of, seen_before
from ivdjax.training.jobs.follower import follow
from ivdjax.training.jobs.mirror import is_remote, mirrored
from ivdjax.training.stage import CHECKPOINTS, StageResult, train_stage
from ivdjax.training.stage_record import read_record, write_record
from ivdjax.training.training_cases import check_fold, phantoms_beside, prepared_cases, split_cases
from ivdjax.volume import LabelMap, UserError

RESOLVED, MODEL = "config.json", "model"


def train(
    config: Config, output: Path | str, fold: int | None = None, init: Path | None = None, stage: str | None = None
) -> Path | None:
    """Trains the stages of a configuration, resuming what an earlier run of the same command left; the model's folder.

    A run that is finished is left as it is. Of several processes that train together (`ivdjax.training.jobs.job`) the
    one that leads does all of this, and the others take part in its steps.

    Args:
        config: of the run.
        output: the run's folder, here or in a bucket (`ivdjax.training.jobs.mirror`); a fold gets a folder of its own.
        fold: the fold, from 0, that is held out in place of `data.validation`.
        init: a model whose parameters training begins with, network by network; one that it lacks begins at random.
        stage: the one stage to train; None: all of `config.stages`.

    Returns:
        The model's folder on this machine; None as long as a stage of the configuration is still to be trained, and on
        a process that does not lead.

    Raises:
        UserError: the configuration differs from the one that `output` was begun with, its data cannot be used, there
            is no such fold or stage, or `init` is no model of the same networks.
        CaseError: a case cannot be read.
        FloatingPointError: the loss is no longer a finite number.
        OSError: the disk is full or not writable.
    """
    if not leads():
        follow()
        return None
    try:
        check_fold(config, fold)
        if stage is not None and stage not in config.stages:
            raise UserError(f"--stage {stage}: the configuration trains {', '.join(config.stages)}; see its key stages")
        if not is_remote(str(output)):
            model = _train_here(_Run(config, Path(output), fold), init, stage)
        else:
            with mirrored(str(output), f"fold_{fold}" if fold is not None else "") as (local, mirror):
                model = _train_here(_Run(config, local, fold, str(output).rstrip("/"), mirror.push), init, stage)
    except UserError:
        announce({"do": "refused"})
        raise
    announce({"do": "end"})
    return model


@dataclass(frozen=True)
class _Run:
    """A run and where it lies.

    Attributes:
        config: of the run.
        output: its folder on this machine.
        fold: the fold that is held out, if one is.
        remote: its folder in a bucket, if it has one.
        push: to be called when there is something new in the folder.
    """

    config: Config
    output: Path
    fold: int | None = None
    remote: str = ""
    push: Callable[[], None] = lambda: None

    @property
    def folder(self) -> Path:
        """That of the fold, if there is one."""
        return self.output if self.fold is None else self.output / f"fold_{self.fold}"

    @property
    def model(self) -> Path:
        """The folder of the model that comes of it."""
        return self.folder / MODEL

    @property
    def place(self) -> str:
        """Where its user finds the model in the end."""
        fold = f"/fold_{self.fold}" if self.fold is not None else ""
        return f"{self.remote}{fold}/model" if self.remote else str(self.model)


def _train_here(run: _Run, init: Path | None, stage: str | None) -> Path | None:
    """As `train`, in a folder of this machine."""
    if run.folder.exists() and not run.folder.is_dir():
        raise ConfigError(f"--output {run.folder} is a file; give a folder")
    run.folder.mkdir(parents=True, exist_ok=True)
    with alone(run.folder) as undisturbed:
        if not undisturbed:
            raise UserError(
                f"another {spoken('train')} is at work in {run.folder}; wait for it, or choose another --output"
            )
        return _train_alone(run, init, stage)


def _train_alone(run: _Run, init: Path | None, stage: str | None) -> Path | None:
    """As `train`, in a folder that no other process trains in."""
    config, folder = run.config, run.folder
    _claim(config, folder, init)
    if _is_finished(run.model, _published(config)):
        print(f"{config.name}: nothing to do, all of its training is done\nmodel: {run.place}")
        return run.model
    base = read_model(init) if init is not None else None
    start = _start_parameters(init, base, config)
    descent = descent_of(base, sorted(start)) if base is not None else []
    done = {name: record for name in config.stages if (record := read_record(folder / name)) is not None}
    if stage == "disc" and "region" in config.stages and config.disc.within_region and "region" not in done:
        raise UserError("the disc stage trains within the predicted spine region, but the region stage has not run "
                        "yet; run --stage region first, or set disc.within_region=false")  # fmt: skip
    use_compilation_cache()
    # Folds share phantoms and cache.
    training, held_out = split_cases(config, prepared_cases(config, run.output), run.fold)
    beside = phantoms_beside(config, run.output)
    more = f" and {len(beside)} phantoms" if beside else ""
    print(f"{config.name}: {len(training)} cases{more} to train on, {len(held_out)} held out; run folder {folder}")
    for ancestor, names in seen_before(held_out, descent).items():
        print(
            f"warning: {', '.join(names)}: held out here, but this case or a visit of its subject trained {ancestor}, "
            "with which this training begins; figures on it promise too much",
            file=sys.stderr,
        )
    reference = _reference(training)  # before hours of training, not after them
    everyone = [*training, *beside]
    for name in config.stages:
        if name not in done and stage in (None, name):
            found = _train_stage(run, name, everyone, held_out, start, done.get("region"))
            write_record(folder / name, found)
            run.push()
            print(f"{name}: {found.steps} steps in {found.seconds:.0f} s ({_figures(found)})")
            done[name] = found
    missing = [name for name in config.stages if name not in done]
    if missing:
        still = f"still to be trained: {', '.join(missing)}"
        print(f"{config.name}: {still} (--stage {missing[0]}, or all without --stage)")
        return None
    results = {name: done[name] for name in config.stages}
    model = _model(config, results, reference, training, beside, held_out, descent)
    # What was measured of these networks holds on, where only a threshold or the precision of the weights has changed.
    write_model(run.model, replace(model, meta={**model.meta, **_measured_before(run.model, model)}), config.weights)
    _say_what_was_reached(run, results)
    return run.model


def _say_what_was_reached(run: _Run, results: dict[str, StageResult]) -> None:
    """One line for the user: what was reached in which time, where the model is, and what to do with it."""
    seconds = sum(result.seconds for result in results.values())
    reached = "; ".join(_figures(result) for result in results.values())
    fetch = f"copy {run.place} to this machine as MODEL, then " if run.remote else ""
    print(f"trained in {tqdm.format_interval(seconds)} ({reached}); model: {run.place}; next: {fetch}{spoken('infer')} "
          f"--model {'MODEL' if run.remote else run.model} --output OUT INPUT")  # fmt: skip


def _train_stage(
    run: _Run, name: str, training: Sequence[Prepared], held_out: Sequence[Prepared], start: dict[str, Parameters],
    region: StageResult | None,
) -> StageResult:  # fmt: skip
    """Trains one stage, the disc stage within the region that the region stage predicts."""
    config = run.config
    if name == "disc" and config.disc.within_region and region is not None:
        network = stage_network(config, "region")
        predict, params = build_predict(network.apply), jax.device_put(region.parameters)
        both = [*training, *held_out]
        bar = tqdm(both, desc="spine region", unit="case", disable=None)
        found = [with_region(case, predict, params, config) for case in bar]
        training, held_out = found[: len(training)], found[len(training) :]
    task = build_task(config, name, training, held_out)
    return train_stage(config, task, run.folder, start.get(name), run.push)


def _reference(training: Sequence[Prepared]) -> LabelMap:
    """The reference mask that the training set gives (paper, section 2.2).

    Raises:
        UserError: no case has a disc to give it.
    """
    try:
        return reference_mask([(case.labels, case.grid) for case in training if case.labels is not None])
    except ValueError as error:
        raise UserError(str(error)) from error


def _model(
    config: Config, results: dict[str, StageResult], reference: LabelMap, training: Sequence[Prepared],
    beside: Sequence[Prepared], held_out: Sequence[Prepared], descent: list[dict[str, Any]],
) -> Model:  # fmt: skip
    """The model that finished stages make."""
    steps = {f"{name}_steps": result.steps for name, result in results.items()}
    steps |= {f"{name}{CHOSEN}": result.chosen for name, result in results.items() if result.chosen < result.steps}
    meta: dict[str, Any] = {
        "training": {
            "cases": len(training), "phantoms": len(beside), "held_out": [case.name for case in held_out], **steps,
            "seconds": round(sum(result.seconds for result in results.values())),
            # Names of phantoms say nothing: those of another set are the same.
            **({} if config.data.synthetic else {"case_marks": case_marks(training)}),
        },
        **({"descent": descent} if descent else {}),
        **({"held_out_seen_before": seen} if (seen := seen_before(held_out, descent)) else {}),
        "limits": list(config.data.limits),
        "validation": {
            f"{name} on its stage's grid": value for result in results.values()
            for name, value in result.validation.items()
        },
    }  # fmt: skip
    parameters = {name: result.parameters for name, result in results.items()}
    return Model(_published(config), parameters, meta, reference)


def _figures(result: StageResult) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in result.validation.items()) or "no held-out cases"


def _start_parameters(init: Path | None, model: Model | None, config: Config) -> dict[str, Parameters]:
    """Parameters that training begins with, by stage; none for a stage that begins at random.

    Raises:
        UserError: no model, or one without any network of the configuration's stages.
    """
    if model is None:
        return {}
    found = {name: model.parameters[name] for name in config.stages if name in model.parameters}
    if not found:
        raise UserError(
            f"--init: {init} holds {', '.join(model.networks)}, but no network for {', '.join(config.stages)}"
        )
    return found


def _published(config: Config) -> Config:
    """The configuration as the model tells it: where the data lay on this machine is no use to anybody else."""
    return replace(config, data=replace(config.data, root="", cache="", subject_table=""))


def _measured_before(folder: Path, model: Model) -> dict[str, Any]:
    """The facts that were added to the model in a folder, if that is of the same training; else none."""
    try:
        former = read_model(folder)
    except UserError:
        return {}
    same = former.meta.get("training") == model.meta["training"] and former.networks == model.networks
    return annotated_facts(former) if same else {}


def _is_finished(model: Path, config: Config) -> bool:
    """Whether the run's model is there, whole, and of this configuration."""
    try:
        return read_model(model).config == config
    except UserError:
        return False


def _claim(config: Config, folder: Path, init: Path | None) -> None:
    """Makes the run's folder for this configuration, or makes sure that it is this configuration's.

    A folder in which no training has begun is free for any: whoever mistyped `data.root` need not clear it away.

    Raises:
        ConfigError: it was begun with another one, and the message names the keys that differ, or with an unknown one.
    """
    path = folder / RESOLVED
    wanted = {"config": plain_config(config), "init": str(init) if init else ""}
    begun = any(folder.glob("*/journal.csv"))
    if begun and not path.exists():
        raise ConfigError(f"{folder} holds a run without its {RESOLVED}; choose another --output, or remove the folder")
    if not begun:
        model = folder / MODEL
        if model.is_dir() and any(model.iterdir()):
            raise ConfigError(f"{model} is there without the training that made it, and would be replaced; choose "
                              "another --output, or move it away")  # fmt: skip
        write_whole(path, json.dumps(wanted, indent=2) + "\n")
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        former, start = parse_config(found["config"]), found["init"]
    except (ValueError, KeyError, TypeError) as error:  # a ConfigError is a ValueError
        raise ConfigError(f"{path} cannot be read ({error}); choose another --output, or remove {folder}") from error
    changes = config_differences(_brought_up_to(config, former, folder), config)
    if start != wanted["init"]:
        changes.append(f"--init: {start or 'none'} -> {wanted['init'] or 'none'}")
    if changes:
        raise ConfigError(
            f"{folder} was begun with another configuration; choose another --output, or undo:\n  "
            + "\n  ".join(changes)
        )
    if former != config:
        write_whole(path, json.dumps(wanted, indent=2) + "\n")


def _brought_up_to(config: Config, former: Config, folder: Path) -> Config:
    """The configuration that a run was begun with, with what may be another one by now.

    That is how weights are stored, the verdict's threshold, and the number of steps of some stages. Such a stage has
    `decay_steps`, is not finished, and its learning rate had not begun to fall at its newest checkpoint under either
    number: its steps so far are those of a run that had the new number from the start.
    """
    verdict = replace(former.inference, review_above=config.inference.review_above)
    former = replace(former, weights=config.weights, inference=verdict)
    for name in former.stages:
        old, new = stage_settings(former, name), stage_settings(config, name)
        free = min(first_falling_step(stage.optimizer, stage.training.steps) for stage in (old, new))
        may = old.optimizer.decay_steps > 0 and newest_step(folder / name / CHECKPOINTS) <= free
        if may and read_record(folder / name) is None:
            length = replace(old.training, steps=new.training.steps)
            changed: dict[str, Any] = {name: replace(old, training=length)}
            former = replace(former, **changed)
    return former
