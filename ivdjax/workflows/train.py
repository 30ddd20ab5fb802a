"""Training: a configuration and its cases become a model folder."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from tqdm import tqdm

from ivdjax.config import Config, ConfigError, config_differences, parse_config, plain_config
from ivdjax.data.cache import training_cases
from ivdjax.data.folds import fold_of, hold_out
from ivdjax.data.phantom.dataset import TRUTH_FILE, PhantomSet, write_phantoms
from ivdjax.data.phantom.options import PhantomOptions
from ivdjax.data.preparation import Prepared
from ivdjax.learning.devices import use_compilation_cache
from ivdjax.volume import UserError
from ivdjax.workflows.model import Model, read_model, write_model
from ivdjax.workflows.stage import train_disc_stage

RESOLVED = "config.json"


def train(config: Config, output: Path, fold: int | None = None, init: Path | None = None) -> Path:
    """Trains all stages of a configuration, resuming what an earlier run of the same command left; the model's folder.

    Args:
        config: of the run.
        output: the run's folder; a fold gets a folder of its own in it.
        fold: the fold, from 0, that is held out in place of `data.validation`.
        init: a model whose parameters training begins with.

    Raises:
        UserError: the configuration differs from the one that `output` was begun with, or its data cannot be used.
        CaseError: a case cannot be read.
        FloatingPointError: the loss is no longer a finite number.
        OSError: the disk is full or not writable.
    """
    begin = time.monotonic()
    folder = output if fold is None else output / f"fold_{fold}"
    start_model = read_model(init) if init is not None else None
    _claim(config, folder, init)
    use_compilation_cache()
    cases = prepared_cases(config, folder)
    training, held_out = split_cases(config, cases, fold)
    print(f"{config.name}: {len(training)} cases to train on, {len(held_out)} held out; run folder {folder}")
    result = train_disc_stage(
        config, training, held_out, folder, start_model.parameters["disc"] if start_model else None
    )
    meta = {
        "training": {
            "cases": len(training), "held_out": [case.name for case in held_out], "disc_steps": result.steps,
            "crops": result.steps * config.disc.training.batch_size,
        },
        "validation": {f"{name} on the working grid": value for name, value in result.validation.items()},
    }  # fmt: skip
    model = folder / "model"
    write_model(model, Model(config, {"disc": result.parameters}, meta))
    seconds = time.monotonic() - begin
    figures = ", ".join(f"{name} {value:.4f}" for name, value in result.validation.items()) or "no held-out cases"
    print(
        f"trained in {seconds:.0f} s ({figures})\nmodel: {model}\nnext: python infer.py --model {model} --output OUT INPUT"
    )
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
    root = folder / "data"
    if not (root / TRUTH_FILE).exists():
        options = PhantomOptions(
            channels=data.channels,
            shape=cast("tuple[int, int, int]", data.phantom_shape) or None,
            spacing_mm=cast("tuple[float, float, float]", data.phantom_spacing_mm) or None,
        )
        phantoms = PhantomSet(data.phantom_cases, data.phantom_seed, data.phantom_visits, options)
        write_phantoms(
            root, phantoms, overwrite=True, progress=partial(tqdm, desc="phantoms", unit="case", disable=None)
        )
    return replace(config, data=replace(data, root=str(root), phantom_cases=0))


def prepared_cases(config: Config, folder: Path) -> list[Prepared]:
    """The configuration's cases on their working grid, from its images, its cache, or phantoms made for it.

    Raises:
        UserError: there is no data.
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
        for warning in case.warnings:
            print(f"warning: {warning}")
    return cases


def split_cases(config: Config, cases: Sequence[Prepared], fold: int | None) -> tuple[list[Prepared], list[Prepared]]:
    """Cases to train on and cases held out, by subject: those of `data.validation`, or of a fold.

    Raises:
        UserError: the fold is out of range, or the configuration has none.
    """
    if fold is None:
        return hold_out(cases, config.data.validation)
    if not 0 <= fold < config.data.folds:
        raise UserError(f"--fold must be 0 to {config.data.folds - 1} (data.folds is {config.data.folds}), not {fold}")
    return fold_of(cases, config.data.folds, fold, config.seed)


def _claim(config: Config, folder: Path, init: Path | None) -> None:
    """Makes the run's folder for this configuration, or makes sure that it is this configuration's.

    Raises:
        ConfigError: it was begun with another one; the message names the keys that differ.
    """
    path = folder / RESOLVED
    wanted = {"config": plain_config(config), "init": str(init) if init else ""}
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")
        part.replace(path)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        changes = config_differences(parse_config(found["config"]), config)
    except (ValueError, KeyError, ConfigError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); choose another --output, or remove {folder}") from error
    if found["init"] != wanted["init"]:
        changes.append(f"--init: {found['init'] or 'none'} -> {wanted['init'] or 'none'}")
    if changes:
        raise ConfigError(
            f"{folder} was begun with another configuration; choose another --output, or undo:\n  "
            + "\n  ".join(changes)
        )
