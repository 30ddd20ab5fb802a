"""Prepared cases on disk: one npz per case, enough to train on a machine that has neither the images nor their readers.

A stored case is used again only if the names, sizes and times of its files, its channels and the preparation agree.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ivdjax.config import Config, plain_config
from ivdjax.data.datasets import CaseFiles, find_cases, read_case
from ivdjax.data.folds import hold_out
from ivdjax.data.preparation import Prepared, prepare
from ivdjax.imaging.files.source import Source, source_files
from ivdjax.imaging.folders import whole_file
from ivdjax.volume import Grid, UserError

SUFFIX = ".prepared.npz"

FORMAT = 3
"""Raised whenever preparation changes what it gives; older stored cases are then prepared again."""

Progress = Callable[[int, int, str], None]
"""Called with the number of cases done, the number of all, and the name of the case done last."""


def write_prepared(folder: Path, prepared: Prepared, key: str = "") -> Path:
    """Stores one prepared case and its key; the file's path. It appears whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{prepared.name}{SUFFIX}"
    told = {
        "format": FORMAT, "key": key, "name": prepared.name, "subject": prepared.subject, "fold": prepared.fold,
        "channels": list(prepared.channels), "ignore_above": prepared.ignore_above,
        "warnings": list(prepared.warnings),
        "grids": {n: list(getattr(prepared, n).shape) for n in ("grid", "source", "native")},
    }  # fmt: skip
    arrays: dict[str, Any] = {n: getattr(prepared, n).affine for n in ("grid", "source", "native")}
    arrays |= {"image": prepared.image, "told": np.array(json.dumps(told))}
    if prepared.labels is not None and prepared.occupancy is not None:
        arrays |= {"labels": prepared.labels, "occupancy": prepared.occupancy}
    if prepared.tissues is not None:
        arrays["tissues"] = prepared.tissues
    with whole_file(path) as part, part.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    return path


def read_prepared(path: Path) -> Prepared:
    """One stored case.

    Raises:
        UserError: no such file, damaged, or stored by another version.
    """
    return _read(Path(path))[0]


def prepare_cases(
    files: Sequence[CaseFiles], config: Config, folder: Path, progress: Progress | None = None
) -> list[Prepared]:
    """Every case prepared, in the order given; those whose stored form is still right are read from `folder`.

    Raises:
        CaseError: the first case that cannot be read.
    """
    result = []
    for index, case in enumerate(files):
        key = _key(case, config)
        stored = _stored(Path(folder) / f"{case.name}{SUFFIX}", key)
        prepared = stored or prepare(
            read_case(case, config.data.channels), config.preparation, config.data.all_discs_outlined
        )
        # Subject and fold take no part in the key: another table or pattern must not cost a new preparation. They are
        # stored again all the same, for a machine that has the stored cases alone.
        if stored is None or (stored.subject, stored.fold) != (case.subject, case.fold):
            prepared = dataclasses.replace(prepared, subject=case.subject, fold=case.fold)
            write_prepared(folder, prepared, key)
        result.append(prepared)
        if progress:
            progress(index + 1, len(files), case.name)
    return result


def cached_cases(folder: Path, config: Config | None = None) -> list[Prepared]:
    """Every stored case of a folder by rising name; none for an empty or missing folder.

    Raises:
        UserError: a damaged file; with `config`: a case stored with other channels or another preparation.
    """
    result = []
    for path in sorted(Path(folder).glob(f"*{SUFFIX}")):
        prepared, key = _read(path)
        if config is not None and key and json.loads(key)["preparation"] != _preparation_key(config):
            raise UserError(
                f"{path} was prepared with other settings than this run's (data.channels, data.all_discs_outlined or "
                "preparation); use those settings, or give data.root so that it can be prepared again"
            )
        result.append(prepared)
    return result


def training_cases(config: Config, folder: Path, progress: Progress | None = None) -> list[Prepared]:
    """The configuration's cases, prepared from the images in `data.root`, or where that is empty out of `folder`.

    Raises:
        UserError: neither images nor stored cases; as `find_cases`, `hold_out` and `cached_cases`.
        CaseError: as `prepare_cases`.
    """
    if config.data.root:
        root = Path(config.data.root)
        found = find_cases(root, config.data)
        hold_out(found, config.data.validation)  # a name that is no case's is told before hours of preparing
        return prepare_cases(found, config, folder, progress)
    stored = cached_cases(folder, config)
    if not stored:
        raise UserError(f"data.root is empty and there are no prepared cases in {folder}; give data.root=DATA_ROOT")
    return stored


def _preparation_key(config: Config) -> dict[str, Any]:
    return {
        "channels": list(config.data.channels),
        "all_discs_outlined": config.data.all_discs_outlined,
        **plain_config(config.preparation),
    }


def _key(case: CaseFiles, config: Config) -> str:
    """What a stored case depends on, as text."""
    sources = {**case.channels, "labels": case.labels, "tissues": case.tissues}
    files = {role: _state(source) for role, source in sources.items() if source is not None}
    return json.dumps({"files": files, "preparation": _preparation_key(config)}, sort_keys=True)


def _state(source: Source) -> list[Any]:
    """Name, size and time of each of a source's files that is there."""
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in source_files(source) if path.exists()]


def _stored(path: Path, key: str) -> Prepared | None:
    """The stored case if it is sound and has this key."""
    try:
        prepared, stored_key = _read(path)
    except UserError:
        return None
    return prepared if stored_key == key else None


def _read(path: Path) -> tuple[Prepared, str]:
    try:
        # Opened here, since np.load leaves the file open where its content is no zip.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            told = json.loads(str(stored["told"]))
            if told["format"] != FORMAT:
                raise UserError(f"{path} was prepared by another version (format {told['format']}); delete it")
            grids = {
                n: Grid((shape[0], shape[1], shape[2]), stored[n].astype(np.float64))
                for n, shape in told["grids"].items()
            }
            prepared = Prepared(
                told["name"], told["subject"], tuple(told["channels"]), stored["image"], stored.get("labels"),
                stored.get("occupancy"), int(told["ignore_above"]), grids["grid"], grids["source"], grids["native"],
                tuple(told["warnings"]), told["fold"], tissues=stored.get("tissues"),
            )  # fmt: skip
            return prepared, told["key"]
    except (OSError, EOFError, ValueError, TypeError, LookupError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is no prepared case, or damaged: {error}; delete it") from error
