"""Training: a configuration and its cases become a model folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from tqdm import tqdm

from ivdjax.config import Config, ConfigError, config_differences, parse_config, plain_config
from ivdjax.data.cache import training_cases
from ivdjax.data.folds import fold_of, hold_out
from ivdjax.data.phantom.dataset import PhantomSet, holds_phantoms, write_phantoms
from ivdjax.data.phantom.options import PhantomOptions
from ivdjax.data.preparation import Prepared
from ivdjax.imaging.folders import alone
from ivdjax.learning.devices import use_compilation_cache
from ivdjax.volume import UserError
from ivdjax.workflows.model import Model, read_model, write_model
from ivdjax.workflows.stage import train_disc_stage
from ivdjax.workflows.weights import Parameters

RESOLVED = "config.json"
PHANTOMS = "data"


def train(config: Config, output: Path, fold: int | None = None, init: Path | None = None) -> Path:
    """Trains all stages of a configuration, resuming what an earlier run of the same command left; the model's folder.

    A run that is finished is left as it is.

    Args:
        config: of the run.
        output: the run's folder; a fold gets a folder of its own in it.
        fold: the fold, from 0, that is held out in place of `data.validation`.
        init: a model whose parameters training begins with.

    Raises:
        UserError: the configuration differs from the one that `output` was begun with, its data cannot be used, there
            is no such fold, or `init` is no model of the same network.
        CaseError: a case cannot be read.
        FloatingPointError: the loss is no longer a finite number.
        OSError: the disk is full or not writable.
    """
    _check_fold(config, fold)
    folder = output if fold is None else output / f"fold_{fold}"
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--output {folder} is a file; give a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder) as undisturbed:
        if not undisturbed:
            raise UserError(f"another train.py is at work in {folder}; wait for it, or choose another --output")
        return _train_alone(config, output, folder, fold, init)


def _train_alone(config: Config, output: Path, folder: Path, fold: int | None, init: Path | None) -> Path:
    """As `train`, in a folder that no other process trains in."""
    _claim(config, folder, init)
    model = folder / "model"
    if _is_finished(model, _published(config)):
        print(f"{config.name}: nothing to do, all of its training is done\nmodel: {model}")
        return model
    start = _start_parameters(init)
    use_compilation_cache()
    cases = prepared_cases(config, output)  # folds share phantoms and cache
    training, held_out = split_cases(config, cases, fold)
    print(f"{config.name}: {len(training)} cases to train on, {len(held_out)} held out; run folder {folder}")
    result = train_disc_stage(config, training, held_out, folder, start)
    meta = {
        "training": {
            "cases": len(training), "held_out": [case.name for case in held_out], "disc_steps": result.steps,
            "crops": result.steps * config.disc.training.batch_size,
        },
        "limits": list(config.data.limits),
        "validation": {f"{name} on the working grid": value for name, value in result.validation.items()},
    }  # fmt: skip
    write_model(model, Model(_published(config), {"disc": result.parameters}, meta))
    figures = ", ".join(f"{name} {value:.4f}" for name, value in result.validation.items()) or "no held-out cases"
    print(f"trained in {result.seconds:.0f} s ({figures})")
    print(f"model: {model}\nnext: python infer.py --model {model} --output OUT INPUT")
    return model


def with_phantoms(config: Config, folder: Path) -> Config:
    """The configuration with `data.root` set to the phantoms in `<folder>/data`, made if need be.

    A configuration without phantoms is given back as it is.

    Raises:
        UserError: the phantoms cannot be made as asked.
    """
    data = config.data
    if not data.phantom_cases:
        return config
    root = folder / PHANTOMS
    options = PhantomOptions(
        channels=data.channels,
        shape=cast("tuple[int, int, int]", data.phantom_shape) or None,
        spacing_mm=cast("tuple[float, float, float]", data.phantom_spacing_mm) or None,
    )
    phantoms = PhantomSet(data.phantom_cases, data.phantom_seed, data.phantom_visits, options)
    if not holds_phantoms(root, phantoms):
        write_phantoms(
            root, phantoms, overwrite=True, progress=partial(tqdm, desc="phantoms", unit="case", disable=None)
        )
    return replace(config, data=replace(data, root=str(root), phantom_cases=0))


def prepared_cases(config: Config, folder: Path) -> list[Prepared]:
    """The configuration's cases on their working grid, from its images, its cache, or phantoms made for it.

    Raises:
        UserError: there is no data, or a stored case has other channels.
        CaseError: a case cannot be read.
    """
    config = with_phantoms(config, folder)
    cache = Path(config.data.cache) if config.data.cache else folder / "cache"
    with tqdm(desc="preparing", unit="case", disable=None) as bar:

        def show(done: int, total: int, name: str) -> None:
            bar.total = total
            bar.update(done - bar.n)

        cases = training_cases(config, cache, show)
    for case in cases:
        if case.channels != config.data.channels:
            raise UserError(
                f"case {case.name} in {cache} has the channels {', '.join(case.channels)}, but data.channels is "
                f"{', '.join(config.data.channels)}; use those channels, or another data.cache"
            )
        for warning in case.warnings:
            print(f"warning: {warning}")
    return cases


def split_cases(config: Config, cases: Sequence[Prepared], fold: int | None) -> tuple[list[Prepared], list[Prepared]]:
    """Cases to train on and cases held out, by subject: those of `data.validation`, or of a fold.

    Raises:
        UserError: the fold is out of range, the configuration has none, or nothing is left to train on.
    """
    _check_fold(config, fold)
    if fold is None:
        return hold_out(cases, config.data.validation)
    return fold_of(cases, config.data.folds, fold, config.seed)


def _check_fold(config: Config, fold: int | None) -> None:
    if fold is None:
        return
    if not config.data.folds:
        raise UserError(f"--fold {fold}: the configuration has no folds; set data.folds")
    if not 0 <= fold < config.data.folds:
        raise UserError(f"--fold must be 0 to {config.data.folds - 1} (data.folds is {config.data.folds}), not {fold}")


def _start_parameters(init: Path | None) -> Parameters | None:
    """Parameters of the segmentation network in the model that training begins with.

    Raises:
        UserError: no model, or one without such a network.
    """
    if init is None:
        return None
    model = read_model(init)
    if "disc" not in model.parameters:
        raise UserError(f"--init: {init} holds {', '.join(model.networks)}, but no network for disc")
    return model.parameters["disc"]


def _published(config: Config) -> Config:
    """The configuration as the model tells it: where the data lay on this machine is no use to anybody else."""
    return replace(config, data=replace(config.data, root="", cache="", subject_table=""))


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
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        part.replace(path)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        changes = config_differences(parse_config(found["config"]), config)
        start = found["init"]
    except (ValueError, KeyError, TypeError) as error:  # a ConfigError is a ValueError
        raise ConfigError(f"{path} cannot be read ({error}); choose another --output, or remove {folder}") from error
    if start != wanted["init"]:
        changes.append(f"--init: {start or 'none'} -> {wanted['init'] or 'none'}")
    if changes:
        raise ConfigError(
            f"{folder} was begun with another configuration; choose another --output, or undo:\n  "
            + "\n  ".join(changes)
        )
