"""Models by name: those that come with the program, and those that a user has added."""

from __future__ import annotations

import difflib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import ivdjax
from ivdjax.imaging.folders import whole_folder
from ivdjax.schema import is_path_part
from ivdjax.volume import UserError

PREFERRED = "lumbar"
"""The model that is used where none is named, if it is there."""

_DESCRIPTION = "model.json"


def shipped_folder() -> Path:
    """The folder of the models that come with the program: in the installed package, or beside it in a checkout."""
    package = Path(ivdjax.__file__).resolve().parent
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def user_folder() -> Path:
    """The folder of models that the user has added (`ivdjax models import`); `IVDJAX_MODELS` names another one. A user
    without a home has none: the folder is not there, and cannot be made."""
    named = os.environ.get("IVDJAX_MODELS")
    if named:
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME")
    try:
        return (Path(data) if data else Path.home() / ".local" / "share") / "ivdjax" / "models"
    except RuntimeError:
        return Path(os.devnull) / "ivdjax" / "models"


def known_models() -> dict[str, Path]:
    """Every model that has a name, by name: shipped ones first, each group in the order of the alphabet."""
    found: dict[str, Path] = {}
    for folder in (shipped_folder(), user_folder()):
        try:
            entries = sorted(folder.iterdir()) if folder.is_dir() else []
        except OSError:
            continue
        for path in entries:
            if (path / _DESCRIPTION).is_file():
                found.setdefault(path.name, path)
    return found


def model_folder(given: str | Path) -> Path:
    """The folder of a model that is given by its path or its name; a folder that exists wins.

    Raises:
        UserError: there is neither a folder nor a model of that name.
    """
    path = Path(given)
    if path.is_dir():
        return path
    known = known_models()
    name = str(given)
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1)
    advice = f" Did you mean {near[0]}?" if near else ""
    raise UserError(
        f"no model at {given}: it is neither a model's folder, such as runs/NAME/model, nor a model's name.{advice} "
        f"Known names: {', '.join(known) or 'none'} (ivdjax models list)"
    )


def default_model() -> Path:
    """The folder of the model that is used where none is named: `lumbar`, else the first shipped one of one channel.

    Raises:
        UserError: no shipped model has one channel.
    """
    known = known_models()
    if PREFERRED in known:
        return known[PREFERRED]
    for path in known.values():
        if len(model_facts(path).get("channels") or ()) == 1:
            return path
    raise UserError(f"no model of one channel is installed; name one with --model ({', '.join(known) or 'none here'})")


def model_facts(folder: Path) -> dict[str, Any]:
    """The description of a model, unchecked, for a list; empty where it cannot be read."""
    try:
        facts = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def add_model(folder: Path, name: str, overwrite: bool = False) -> Path:
    """Copies a model's folder to the user's models, so that it can be used by its name; gives the new folder.

    Args:
        folder: of the model; who calls has read it.
        name: that it gets.
        overwrite: whether a model of that name that was added before is replaced.

    Raises:
        UserError: the name cannot be that of a folder, or is taken.
        OSError: the copy cannot be written.
    """
    if not is_path_part(name):
        raise UserError(f"--name {name!r} cannot be the name of a folder; use letters, digits, '_' and '-'")
    if (shipped_folder() / name / _DESCRIPTION).is_file():
        raise UserError(f"a model named {name} comes with the program; give --name and another name")
    target = user_folder() / name
    if target.exists() and not overwrite:
        raise UserError(f"there is a model {name} already, {target}; use --overwrite, or give --name and another name")
    with whole_folder(target) as part:
        for path in sorted(Path(folder).iterdir()):
            if path.is_file():
                shutil.copyfile(path, part / path.name)
    return target
