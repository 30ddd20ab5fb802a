"""Phantoms as a dataset on disk: the layout that training reads, and `truth.json` beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ivdjax.data.phantom.options import PhantomOptions
from ivdjax.data.phantom.phantom import Phantom, make_phantom
from ivdjax.imaging.files import write_labels, write_volume
from ivdjax.imaging.folders import clean_leftovers, whole_folder
from ivdjax.volume import UserError

TRUTH_FILE = "truth.json"
_FRESH = ".fresh"  # a whole set inside a folder that is in use, about to take the place of an earlier one
_GENERATOR = "ivdjax.data.phantom"


@dataclass(frozen=True)
class PhantomSet:
    """A dataset to make.

    Attributes:
        cases: how many; with two visits a subject, half as many subjects.
        seed: of the whole set; sets of other seeds share no subject.
        visits: cases of each subject.
        options: what each case is like.
        hard: hard kinds of the subjects in turn, "" for an ordinary one; empty: the kind of the options for all.
        fields: fields of view of the subjects in turn; empty: the field of the options for all.

    Raises:
        UserError: a count below 1, a negative seed, an unknown hard kind or field.
    """

    cases: int
    seed: int = 0
    visits: int = 1
    options: PhantomOptions = field(default_factory=PhantomOptions)
    hard: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.cases < 1 or self.visits < 1 or self.seed < 0:
            raise UserError(
                f"cases and visits must be at least 1 and the seed at least 0, not {self.cases}, {self.visits} and "
                f"{self.seed}"
            )
        for kind in self.hard:
            replace(self.options, hard=kind)  # refuses what it does not know
        for name in self.fields:
            replace(self.options, field=name)

    def member(self, index: int) -> tuple[str, str, int, int]:
        """Name, subject, subject's seed and visit of the case at `index`, from 0."""
        subject, visit = divmod(index, self.visits)
        digits = max(2, len(str((self.cases + self.visits - 1) // self.visits)))
        label = f"S{subject + 1:0{digits}d}"
        seed = int(np.random.SeedSequence([self.seed, subject]).generate_state(1)[0])
        return (f"{label}_{visit + 1}" if self.visits > 1 else label), label, seed, visit + 1

    def member_options(self, index: int) -> PhantomOptions:
        """What the case at `index`, from 0, is like; all visits of a subject are alike."""
        subject = index // self.visits
        hard = self.hard[subject % len(self.hard)] if self.hard else self.options.hard
        view = self.fields[subject % len(self.fields)] if self.fields else self.options.field
        return replace(self.options, hard=hard, field=view)


def write_phantoms(output: str | Path, phantoms: PhantomSet, overwrite: bool = False,
                   progress: Callable[[range], Any] = lambda indices: indices) -> Path:  # fmt: skip
    """Writes a dataset: `<output>/<case>/<case>_<channel>.nii.gz`, `_Labels` and `_Tissues` beside them, and
    `truth.json`.

    A set in a new or empty folder appears whole or not at all. In place of an earlier set, it is made whole first and
    then moved case by case; a kill in between leaves no `truth.json`, and the same call again makes it good. What
    killed runs left half made is removed.

    Args:
        output: the folder; new, empty, or with `overwrite` one that holds an earlier set.
        phantoms: what to make.
        overwrite: whether the cases of an earlier set are replaced; other files there stay.
        progress: wraps the range of cases, for a progress bar.

    Returns:
        The folder.

    Raises:
        UserError: `output` is a file, or holds something and `overwrite` is not given, or holds a folder of a case's
            name that was not made here.
        OSError: the disk refuses.
    """
    place = Path(output).resolve()  # a link to a folder stays one
    clean_leftovers(place)
    in_use = _in_use(place)
    earlier = _earlier_cases(place, phantoms, overwrite) if in_use else []
    with whole_folder(place / _FRESH if in_use else place) as part:
        _write_set(part, phantoms, progress)
    if in_use:
        _replace_set(place, earlier)
    return Path(output)


def holds_phantoms(folder: str | Path, phantoms: PhantomSet) -> bool:
    """Whether a folder holds just this set, whole."""
    path = Path(folder) / TRUTH_FILE
    if not path.is_file():
        return False
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
        names = [phantoms.member(index)[0] for index in range(phantoms.cases)]
        return made["seed"] == phantoms.seed and list(made["cases"]) == names and (
            made["options"] == json.loads(json.dumps(asdict(phantoms.options)))
            and made.get("hard", []) == list(phantoms.hard) and made.get("fields", []) == list(phantoms.fields)
        )  # fmt: skip
    except (ValueError, KeyError, TypeError):
        return False


def _write_set(folder: Path, phantoms: PhantomSet, progress: Callable[[range], Any]) -> None:
    """All cases and their truth into an empty folder."""
    truth = {}
    for index in progress(range(phantoms.cases)):
        name, subject, seed, visit = phantoms.member(index)
        options = phantoms.member_options(index)
        phantom = make_phantom(seed, options, visit, name)
        write_case(folder / name, phantom)
        truth[name] = {"subject": subject, "visit": visit, "seed": seed, "hard": phantom.hard,
                       **({"field": options.field} if phantoms.fields else {}),
                       "discs": [disc.plain() for disc in phantom.truth]}  # fmt: skip
    # Absent where they say nothing, so that plain sets stay the bytes that they were.
    turns = {key: list(names) for key, names in (("hard", phantoms.hard), ("fields", phantoms.fields)) if names}
    made = {
        "generator": _GENERATOR,
        "seed": phantoms.seed,
        "options": asdict(phantoms.options),
        **turns,
        "cases": truth,
    }
    (folder / TRUTH_FILE).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def _replace_set(output: Path, earlier: list[str]) -> None:
    """Moves the fresh set to the place of the earlier one.

    The truth goes first and comes last, so that it never stands beside other cases than its own; until then the fresh
    set's truth says which cases were made here.
    """
    fresh = output / _FRESH
    for name in earlier:
        shutil.rmtree(output / name, ignore_errors=True)
    (output / TRUTH_FILE).unlink(missing_ok=True)
    for path in sorted(path for path in fresh.iterdir() if path.name != TRUTH_FILE):
        path.replace(output / path.name)
    (fresh / TRUTH_FILE).replace(output / TRUTH_FILE)
    fresh.rmdir()


def write_case(folder: Path, phantom: Phantom) -> None:
    """Writes the channels and labels of one phantom into a new folder, named after it."""
    folder.mkdir(parents=True)
    volume, labels = phantom.case.volume, phantom.case.labels
    if labels is None or volume.native is None:
        raise ValueError(f"{phantom.case.name} must have labels and a native grid, as make_phantom gives them")
    for channel, array in zip(volume.channels, volume.array, strict=True):
        write_volume(folder / f"{folder.name}_{channel}.nii.gz", array.astype(np.int16), volume.native)
    write_labels(folder / f"{folder.name}_Labels.nii.gz", labels)
    if phantom.case.tissues is not None:
        write_labels(folder / f"{folder.name}_Tissues.nii.gz", phantom.case.tissues)


def _in_use(output: Path) -> bool:
    """Whether there is something in the folder already."""
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file; give a folder as output")
    return output.exists() and any(output.iterdir())


def _earlier_cases(output: Path, phantoms: PhantomSet, overwrite: bool) -> list[str]:
    """Names of the cases in `output` that are to be replaced; refuses what must not be touched."""
    if not overwrite:
        raise UserError(f"{output} is not empty; give --overwrite to replace the phantoms in it, or another output")
    earlier = {*_read_names(output / TRUTH_FILE), *_read_names(output / _FRESH / TRUTH_FILE)}
    for index in range(phantoms.cases):
        name = phantoms.member(index)[0]
        if (output / name).exists() and name not in earlier:
            raise UserError(f"{output / name} was not made by {_GENERATOR}; move it away or give another output")
    return sorted(name for name in earlier if (output / name).is_dir())


def _read_names(path: Path) -> list[str]:
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if not isinstance(made, dict) or made.get("generator") != _GENERATOR or not isinstance(made.get("cases"), dict):
        return []
    return [name for name in made["cases"] if name == Path(name).name and name not in ("", ".", "..")]
