"""Training as a user starts it: real processes of train.py on a small configuration, for tests that disturb them."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.watched_process import WatchedProcess

STAGES = ("region", "disc", "localization")
STEPS = {"region": 40, "disc": 60, "localization": 60}
CHECKPOINT_EVERY = 5


def overrides(settings: dict[str, Any]) -> list[str]:
    """`--set` options."""
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


# configs/tiny.yaml with much to tear: a row a step, a checkpoint every 5, a validation every 10.
MUCH_TO_TEAR = overrides({
    f"{stage}.training.{key}": value for stage in STAGES
    for key, value in {"steps": STEPS[stage], "checkpoint_every": CHECKPOINT_EVERY, "log_every": 1,
                       "validate_every": 10, "keep": "best"}.items()
})  # fmt: skip


class Training(WatchedProcess):
    """One process of train.py.

    Args:
        folder: the run's folder.
        options: of train.py, beside --config and --output.
        environment: variables beside those of the tests.
        said: where its stdout and stderr go; by default beside the folder.
    """

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = MUCH_TO_TEAR,
        environment: dict[str, str] | None = None,
        said: Path | None = None,
    ) -> None:
        self.folder = folder
        words = [sys.executable, str(ROOT / "train.py"), "--config", str(ROOT / "configs" / "tiny.yaml"), *options,
                 "--output", str(folder)]  # fmt: skip
        super().__init__(words, said or folder.parent / f"{folder.name}.said", environment)


def finish(folder: Path, options: Sequence[str] = MUCH_TO_TEAR) -> str:
    """Trains to the end; what was said."""
    with Training(folder, options) as training:
        assert training.wait() == 0, training.said
        return training.said


def weights_sha256(folder: Path) -> str:
    """That of a finished run."""
    return str(json.loads((folder / "model" / "model.json").read_text())["weights_sha256"])


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a table that depend on nothing but the numbers of training; none without a file."""
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return [{k: v for k, v in row.items() if k not in ("slices_per_second", "seconds")}
                for row in csv.DictReader(stream)]  # fmt: skip


def leftovers(folder: Path) -> list[str]:
    """Temporary names in a run's folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")
                  if "tmp" in path.name or path.name.endswith((".part", ".old")))  # fmt: skip


def assert_same_run(folder: Path, whole: Path, steps: Mapping[str, int] = STEPS) -> None:
    """A finished run equals an undisturbed one: weights, choice, every row of every table, and nothing left over."""
    assert leftovers(folder) == []
    for stage in STAGES:
        journal = rows(folder / stage / "journal.csv")
        assert [int(row["step"]) for row in journal] == list(range(1, steps[stage] + 1))
        assert journal == rows(whole / stage / "journal.csv")
        assert rows(folder / stage / "validation.csv") == rows(whole / stage / "validation.csv") != []
        record, expected = (json.loads((run / stage / "result" / "result.json").read_text()) for run in (folder, whole))
        assert record | {"seconds": 0} == expected | {"seconds": 0}
    assert weights_sha256(folder) == weights_sha256(whole)


def newest_step(folder: Path, stage: str) -> int:
    """Of the whole checkpoints of a stage; 0 without any."""
    names = (path.name for path in (folder / stage / "checkpoints").glob("*"))
    return max((int(name) for name in names if name.isdigit()), default=0)
