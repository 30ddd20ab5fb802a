"""The cases of a training run: from images, stored prepared cases, or phantoms made for it; and who is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

from tqdm import tqdm

from ivdjax.config import Config
from ivdjax.data.cache import SUFFIX, training_cases
from ivdjax.data.folds import fold_of, hold_out
from ivdjax.data.phantom.dataset import PhantomSet, holds_phantoms, write_phantoms
from ivdjax.data.phantom.options import PhantomOptions
from ivdjax.data.preparation import Prepared
from ivdjax.training.dixon_cases import as_dixon
from ivdjax.volume import UserError

PHANTOMS = "data"
BESIDE = "phantom_"
"""What the names of phantoms begin with that train beside cases of another source."""

BESIDE_FOLDER = "phantoms"
"""Where in the cache they are stored."""


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
    phantoms = PhantomSet(
        data.phantom_cases, data.phantom_seed, data.phantom_visits, options,
        hard=data.phantom_hard, fields=data.phantom_fields,
    )  # fmt: skip
    if not holds_phantoms(root, phantoms):
        write_phantoms(
            root, phantoms, overwrite=True, progress=partial(tqdm, desc="phantoms", unit="case", disable=None)
        )
    return replace(config, data=replace(data, root=str(root), phantom_cases=0))


def prepared_cases(config: Config, folder: Path) -> list[Prepared]:
    """The configuration's cases on their working grid, from its images, its cache, or phantoms made for it.

    Phantoms beside a `data.root` are not among them (`phantoms_beside`).

    Raises:
        UserError: there is no data, or a stored case has other channels.
        CaseError: a case cannot be read.
    """
    made = not config.data.root and not _holds_both(config)
    if made:
        config = with_phantoms(config, folder)
    if config.data.made_from and not made:
        as_they_are = replace(config, data=replace(config.data, channels=(config.data.made_from,)))
        return [as_dixon(case, config.data.channels) for case in _prepared(as_they_are, _cache(config, folder))]
    return _prepared(config, _cache(config, folder), quiet=made and bool(config.data.phantom_cases))


def phantoms_beside(config: Config, folder: Path) -> list[Prepared]:
    """The phantoms that train beside the cases of `data.root`, each a subject of its own; none where none are wanted.

    Where `data.root` is empty, those that an earlier run stored beside its cases in `data.cache` serve.

    Raises:
        UserError: as `with_phantoms`.
    """
    if not config.data.phantom_cases or not (config.data.root or _holds_both(config)):
        return []
    made = with_phantoms(config, folder) if config.data.root else config
    # Only the seven lumbar discs of a phantom are outlined, whatever holds for the other cases.
    data = replace(made.data, subject_pattern="", subject_table="", all_discs_outlined=False, validation=())
    found = _prepared(replace(made, data=data), _cache(config, folder) / BESIDE_FOLDER, quiet=True)
    return [replace(case, name=BESIDE + case.name, subject=BESIDE + case.subject) for case in found]


def split_cases(config: Config, cases: Sequence[Prepared], fold: int | None) -> tuple[list[Prepared], list[Prepared]]:
    """Cases to train on and cases held out, by subject: those of `data.validation`, or of a fold.

    Raises:
        UserError: the fold is out of range, the configuration has none, or nothing is left to train on.
    """
    check_fold(config, fold)
    if fold is None:
        return hold_out(cases, config.data.validation)
    return fold_of(cases, config.data.folds, fold, config.seed)


def check_fold(config: Config, fold: int | None) -> None:
    """Makes sure that the configuration has this fold.

    Raises:
        UserError: it has none, or not so many.
    """
    if fold is None:
        return
    if not config.data.folds:
        raise UserError(f"--fold {fold}: the configuration has no folds; set data.folds")
    if not 0 <= fold < config.data.folds:
        raise UserError(f"--fold must be 0 to {config.data.folds - 1} (data.folds is {config.data.folds}), not {fold}")


def _cache(config: Config, folder: Path) -> Path:
    return Path(config.data.cache) if config.data.cache else folder / "cache"


def _holds_both(config: Config) -> bool:
    """Whether `data.cache` holds cases and phantoms beside them: enough where the images are not at hand."""
    cache = Path(config.data.cache) / BESIDE_FOLDER
    return bool(config.data.cache) and any(cache.glob(f"*{SUFFIX}"))


def _prepared(config: Config, cache: Path, quiet: bool = False) -> list[Prepared]:
    """The cases of a configuration, prepared or from the cache; `quiet` for phantoms, whose labels are right."""
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
        for warning in () if quiet else case.warnings:
            print(f"warning: {warning}")
    return cases
