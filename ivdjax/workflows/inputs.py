"""What `infer.py` was given: case folders, folders of them, single images or channel=path pairs, as cases.

A case has one or more of the model's channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ivdjax.data.datasets import LABELS, CaseFiles, find_case, is_case
from ivdjax.imaging.files import IMAGE_SUFFIXES, split_suffix
from ivdjax.volume import CaseError, UserError


@dataclass(frozen=True)
class InputCase:
    """One case to work on: its files, or the problem that keeps it from being one."""

    name: str
    files: CaseFiles | None = None
    problem: str = ""


def find_inputs(inputs: Sequence[str], channels: Sequence[str], name: str | None = None) -> list[InputCase]:
    """The cases that command line inputs stand for, in their order; reference labels beside images are left aside.

    Args:
        inputs: case folders, folders of case folders, image files (whose names tell the channel where the model has
            several), or channel=path pairs.
        channels: that the model knows.
        name: of the one case that channel=path pairs or a single image make.

    Raises:
        UserError: an input that does not exist or holds no case, two cases of one name, or a name that does not fit.
    """
    if not inputs:
        raise UserError("no INPUT; give a case folder, a folder of case folders, an image, or channel=path pairs")
    if all("=" in text and not Path(text).exists() for text in inputs):
        found = [_from_pairs(inputs, channels, name)]
    else:
        found = [case for text in inputs for case in _from_path(Path(text), channels)]
        if name is not None:
            if len(found) != 1:
                raise UserError(f"--case {name} names one case, but INPUT holds {len(found)}")
            found = [_renamed(found[0], name)]
    _refuse_doubles(found)
    return found


def _from_pairs(inputs: Sequence[str], channels: Sequence[str], name: str | None) -> InputCase:
    if name is None:
        raise UserError("channel=path pairs need --case NAME, the name for the outputs")
    paths: dict[str, Path] = {}
    for text in inputs:
        channel, _, path = text.partition("=")
        if channel not in channels:
            raise UserError(f"{text}: the model has no channel {channel!r}; it has {', '.join(channels)}")
        if channel in paths:
            raise UserError(f"channel {channel} is given twice: {paths[channel]} and {path}")
        if not Path(path).is_file():
            raise UserError(f"{text}: there is no file {path}")
        paths[channel] = Path(path)
    _refuse_name(name)
    return InputCase(name, CaseFiles(name, name, {channel: paths[channel] for channel in channels if channel in paths}))


def _from_path(path: Path, channels: Sequence[str]) -> list[InputCase]:
    if path.is_file():
        return [_from_image(path, channels)]
    if not path.is_dir():
        raise UserError(f"there is no file or folder {path}")
    if is_case(path, channels):
        return [_from_folder(path, channels)]
    found = [case for p in sorted(path.iterdir()) if (case := _from_subfolder(p, channels)) is not None]
    if not found:
        raise UserError(
            f"{path} is no case and holds none; a case is a folder NAME with NAME_{channels[0]}.nii.gz "
            f"(or .nii, .mha, .nrrd) and such a file for each other channel of the model: {', '.join(channels)}"
        )
    return found


def _from_subfolder(path: Path, channels: Sequence[str]) -> InputCase | None:
    """The case in a folder of a folder; None if it is none."""
    try:
        return _from_folder(path, channels) if path.is_dir() and is_case(path, channels) else None
    except OSError as error:
        return InputCase(path.name, problem=f"case {path.name}: {path} cannot be read: {error.strerror}")


def _from_folder(path: Path, channels: Sequence[str]) -> InputCase:
    name = path.resolve().name
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        return InputCase(shown, problem=f"case {shown}: the folder's name is no valid UTF-8; rename it")
    try:
        files = find_case(path, channels, partial=True)
    except CaseError as error:
        return InputCase(name, problem=str(error))
    return InputCase(files.name, replace(files, labels=None))


def _from_image(path: Path, channels: Sequence[str]) -> InputCase:
    stem, suffix = split_suffix(path)
    channel = _named_channel(stem, channels)
    if channel is None and len(channels) != 1:
        raise UserError(
            f"{path} is one image, but the model needs {len(channels)} channels; give a case folder, or --case NAME "
            f"and {' '.join(f'{channel}=PATH' for channel in channels)}"
        )
    if suffix.lower() not in IMAGE_SUFFIXES:
        raise UserError(f"{path} is no image that can be read ({', '.join(IMAGE_SUFFIXES)})")
    if stem.casefold() == LABELS or stem.casefold().endswith(f"_{LABELS}"):
        raise UserError(f"{path} is a reference by its name, not an image; leave it out")
    # A plain <channel>.nii.gz tells nothing; its folder is then the case.
    if channel is None:
        channel, name = channels[0], stem
    elif len(stem) == len(channel):
        name = path.resolve().parent.name
    else:
        name = stem[: -len(channel) - 1] or stem
    return InputCase(name, CaseFiles(name, name, {channel: path}))


def _named_channel(stem: str, channels: Sequence[str]) -> str | None:
    """The channel that a file's name ends in (`<case>_<channel>`) or is; of several the longest."""
    matching = [c for c in channels if stem.lower() == c.lower() or stem.lower().endswith(f"_{c}".lower())]
    return max(matching, key=len, default=None)


def _renamed(case: InputCase, name: str) -> InputCase:
    _refuse_name(name)
    files = replace(case.files, name=name, subject=name) if case.files else None
    return replace(case, name=name, files=files)


def _refuse_name(name: str) -> None:
    if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise UserError(f"--case {name!r} cannot be the name of a folder; use letters, digits, '_' and '-'")


def _refuse_doubles(cases: Sequence[InputCase]) -> None:
    seen: set[str] = set()
    for case in cases:
        if case.name in seen:
            raise UserError(
                f"two cases are named {case.name}; their outputs would overwrite each other, rename one "
                "(channels of one case: give its folder, or --case NAME and channel=path pairs)"
            )
        seen.add(case.name)
