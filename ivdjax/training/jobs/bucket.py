"""A run's files in a bucket and on this machine: their addresses, their listings, and what of them counts as a whole.

A checkpoint, a stage's result and the model are *whole folders*: each has one file, its seal, that is written last and
removed first, and without which nobody takes the folder for what its name says.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import logging
import os
import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ivdjax.volume import UserError

PACKAGES = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs", "hf": "huggingface_hub"}
"""Schemes that `etils.epath` knows, and the package that each needs."""

SKIPPED = ("cache", "data", "fold_*")
"""What is no part of a run's mirror, at its top: prepared cases and phantoms, which any machine makes again the same;
and folds, each of which is a run of its own."""

HALF_WRITTEN = "*.orbax-checkpoint-tmp*"
"""Names of checkpoints that are being written."""

CHUNK = 32 << 20
"""Bytes that are copied at once."""

_SEALS = (
    (re.compile(r"model(?=/)"), "model.json"),
    (re.compile(r"[^/]+/result(?=/)"), "result.json"),
    (re.compile(r"[^/]+/best(?=/)"), "best.json"),
    (re.compile(r"[^/]+/checkpoints/\d+(?=/)"), "_CHECKPOINT_METADATA"),
)


class WholeFolder(NamedTuple):
    """A folder that counts as a whole or not at all, and the file that makes it so; paths within the run."""

    path: str
    seal: str

    @property
    def step(self) -> int:
        """The step of a checkpoint; -1 for anything else."""
        name = self.path.rpartition("/")[2]
        return int(name) if name.isdigit() else -1


def is_remote(output: str) -> bool:
    """Whether an output is an address with a scheme (`gs://bucket/run`) and no path of this machine."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", output) is not None


def open_place(address: str) -> Any:
    """The `etils.epath.Path` of an address, or of a plain folder.

    Raises:
        UserError: an unknown scheme, no bucket, or the package that the scheme needs is missing.
    """
    from etils import epath  # type: ignore[import-untyped]

    if is_remote(address):
        scheme, _, rest = address.partition("://")
        if scheme == "file":
            raise UserError(f"--output {address}: give the plain path {rest or '/'}")
        if scheme not in PACKAGES or not rest.strip("/"):
            known = ", ".join(f"{name}://" for name in PACKAGES)
            raise UserError(f"--output {address} is no address of a bucket's folder; schemes: {known}, such as "
                            "gs://bucket/run")  # fmt: skip
        package = PACKAGES[scheme]
        if importlib.util.find_spec(package) is None and importlib.util.find_spec("tensorflow") is None:
            raise UserError(f"--output {address} needs the package {package}; pip install {package}")
        # It logs every failed request with its traceback; what the user must know is raised or said by the mirror.
        logging.getLogger(package).setLevel(logging.CRITICAL)
    return epath.Path(address)


def whole_folder_of(path: str) -> WholeFolder | None:
    """The whole folder that a file of the run (such as `disc/checkpoints/100/state/d/1f`) belongs to, if any."""
    for pattern, seal in _SEALS:
        if found := pattern.match(path):
            return WholeFolder(found[0], f"{found[0]}/{seal}")
    return None


def urgency(folder: WholeFolder) -> tuple[int, int, str]:
    """Sorts whole folders: the model, results, then checkpoints from the newest. The time to copy may be short."""
    rank = next(i for i, (pattern, _) in enumerate(_SEALS) if pattern.match(folder.path + "/"))
    return rank, -folder.step, folder.path


def usable(paths: Collection[str]) -> set[str]:
    """Those files that do not lie in a whole folder without its seal."""
    return {path for path in paths if not (folder := whole_folder_of(path)) or folder.seal in paths}


def further_folders(there: Collection[str], here: Collection[str]) -> set[str]:
    """The folders at the top of a run (stages, `model`) that are further there than here, by their usable files.

    Further is the one that is finished, then the one with the newer checkpoint; at a tie none is.
    """
    tops = {path.split("/")[0] for path in there if "/" in path}
    return {top for top in tops if _progress(there, top) > _progress(here, top)}


def _progress(paths: Iterable[str], top: str) -> tuple[bool, bool, int]:
    """Whether a folder is there, whether it is finished, and its newest checkpoint."""
    inside = [path for path in paths if path.startswith(f"{top}/")]
    folders = {folder for path in inside if (folder := whole_folder_of(path))}
    finished = any(folder.step < 0 for folder in folders)
    return bool(inside), finished, max((folder.step for folder in folders), default=-1)


def is_left_out(path: str) -> bool:
    """Whether a file of the run is not mirrored: hidden, half written, or under one of `SKIPPED`."""
    top, *_ = parts = path.split("/")
    return any(part.startswith(".") or fnmatch.fnmatch(part, HALF_WRITTEN) for part in parts) or any(
        fnmatch.fnmatch(top, pattern) for pattern in SKIPPED
    )


def remote_files(place: Any) -> dict[str, int]:
    """Sizes in bytes of the files of a remote run by their paths in it; empty for a folder that is not there."""
    found: dict[str, int] = {}
    # Not `walk`: on fsspec it loses the scheme, and takes a folder that it cannot list for an empty one.
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            children = list((place / folder if folder else place).iterdir())
        except FileNotFoundError:
            continue
        for child in children:
            path = f"{folder}/{child.name}".lstrip("/")
            if not child.name or child == place or is_left_out(path):
                continue
            if child.is_dir():
                folders.append(path)
            else:
                found[path] = int(child.stat().length)
    return found


def local_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size in bytes and time of the last change in ns of the files of a local run by their paths in it."""
    found: dict[str, tuple[int, int]] = {}
    for root, folders, names in os.walk(folder):
        inside = Path(root).relative_to(folder)
        folders[:] = [name for name in folders if not is_left_out((inside / name).as_posix())]
        for name in names:
            path = (inside / name).as_posix()
            if is_left_out(path):
                continue
            try:
                status = (folder / path).stat()
            except FileNotFoundError:  # an old checkpoint that gives way to a new one
                continue
            found[path] = status.st_size, status.st_mtime_ns
    return found


def download(source: Any, target: Path) -> None:
    """Copies a remote file to this machine; folders are made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as stream, target.open("wb") as copy:
        shutil.copyfileobj(stream, copy, CHUNK)


def make_folder(place: Any) -> None:
    """Makes a folder where folders exist; in a bucket they come with their files."""
    if not is_remote(str(place)):
        place.mkdir(parents=True, exist_ok=True)
