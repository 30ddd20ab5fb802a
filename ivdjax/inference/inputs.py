"""What `infer.py` was given: case folders, folders of them, single images or channel=path pairs, as cases.

A case has one or more of the model's channels. It is a folder of image files named by their channels; or of DICOM
files of one or several series; or of folders of such files, all of one study. Where image files are named by channels,
DICOM files beside them are left aside. Cases are looked for in the given folder and in those directly in it, DICOM
series one level below a case; links to DICOM files are followed, links to folders outside are not.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ivdjax.commands.commands import is_utf8, printable
from ivdjax.data.channel_names import named_channel, split_channel
from ivdjax.data.datasets import LABELS, CaseFiles, case_name, find_case, is_case
from ivdjax.data.dicom_cases import find_dicom_case, is_dicom_case, series_folders
from ivdjax.imaging.files import IMAGE_SUFFIXES, Source, split_suffix
from ivdjax.imaging.files.dicom_folder import channel_series, holds_dicom
from ivdjax.imaging.files.dicom_headers import is_dicom
from ivdjax.inference.layouts import Found, case_of, laid_out, likely_commands, listed_cases, what_lies_in
from ivdjax.volume import CaseError, UserError

LONGEST_NAME = 200
"""Bytes of a case's name: file systems take 255, of which the endings of results and of temporary names need some."""


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
            several), or channel=path pairs, whose paths are image files or folders of one DICOM series.
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
    return [_with_sound_name(case) for case in found]


def _from_pairs(inputs: Sequence[str], channels: Sequence[str], name: str | None) -> InputCase:
    if name is None:
        raise UserError("channel=path pairs need --case NAME, the name for the outputs")
    _refuse_name(name)
    paths: dict[str, Path] = {}
    for text in inputs:
        word, _, path = text.partition("=")
        channel = named_channel(word, channels)
        if channel is None:
            raise UserError(f"{text}: the model has no channel {word!r}; it has {', '.join(channels)}")
        if channel in paths:
            raise UserError(f"channel {channel} is given twice: {paths[channel]} and {path}")
        paths[channel] = Path(path)
        if paths[channel].is_dir():
            if not holds_dicom(paths[channel]):
                raise UserError(
                    f"{text}: no DICOM file lies in the folder {path}; give a series folder or an image file"
                )
        elif not paths[channel].is_file():
            raise UserError(f"{text}: there is no file or folder {path}")
        else:
            _refuse_dicom_file(paths[channel])
    try:
        sources: dict[str, Source] = {
            channel: channel_series(paths[channel], channel, name) if paths[channel].is_dir() else paths[channel]
            for channel in channels
            if channel in paths
        }
    except CaseError as error:
        return InputCase(name, problem=str(error))
    except OSError as error:
        return InputCase(name, problem=f"case {name}: {error.filename} cannot be read: {error.strerror}")
    return InputCase(name, CaseFiles(name, name, sources))


def _from_path(path: Path, channels: Sequence[str]) -> list[InputCase]:
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv"):
        return _found(listed_cases(path, channels))
    if path.is_file():
        return [_from_image(path, channels)]
    if not path.is_dir():
        raise UserError(f"there is no file or folder {path}")
    if is_case(path, channels):
        return [_from_folder(path, channels, find_case)]
    # By their names alone, so that no file of a large folder of cases is opened.
    named = {p: case for p in sorted(path.iterdir()) if (case := _named_case(p, channels)) is not None}
    if not named and (laid := laid_out(path, channels)):
        return _found(laid)
    if not named and _may_be_dicom(path, is_dicom_case):
        return [_from_folder(path, channels, find_dicom_case)]
    found = [
        named.get(p) or _from_folder(p, channels, find_dicom_case)
        for p in sorted(path.iterdir())
        if p in named or (_is_visible_folder(p) and _may_be_dicom(p, _holds_series))
    ]
    if found:
        _tell_left_out(path, {case.name for case in found}, channels)
    else:
        raise UserError(
            f"no case was found in {path}, which holds {what_lies_in(path)}. A case is a folder NAME with "
            f"NAME_{channels[0]}.nii.gz (or .nii, .mha, .nrrd) and such a file for each other channel of the model "
            f"({', '.join(channels)}); or a folder of DICOM files or of series folders. Perhaps you meant one of\n"
            f"{likely_commands(path, channels)}"
        )
    return found


def _found(laid: Found) -> list[InputCase]:
    return [InputCase(name, problem=case) if isinstance(case, str) else InputCase(name, case)
            for name, case in laid.items()]  # fmt: skip


def _tell_left_out(path: Path, names: set[str], channels: Sequence[str]) -> None:
    """Warns of folders beside cases that hold images, but none that is named by a channel: a misnamed case is lost."""
    for folder in sorted(path.iterdir()):
        if folder.name in names or folder.name.casefold() == LABELS or not _is_visible_folder(folder):
            continue
        with contextlib.suppress(OSError):
            images = sorted(p.name for p in folder.iterdir() if split_suffix(p)[1] and not p.name.startswith("."))
            if images:
                text = (
                    f"warning: {folder} holds {', '.join(images[:4])}{' ...' * (len(images) > 4)}, but no file for "
                    f"channel {' or '.join(channels)}; it is left out as no case"
                )
                print(printable(text), file=sys.stderr)


def _named_case(path: Path, channels: Sequence[str]) -> InputCase | None:
    """The case of image files in a folder of a folder; None if it is none."""
    try:
        return _from_folder(path, channels, find_case) if path.is_dir() and is_case(path, channels) else None
    except OSError as error:
        return InputCase(case_name(path), problem=f"case {case_name(path)}: {path} cannot be read: {error.strerror}")


def _is_visible_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _holds_series(path: Path) -> bool:
    return holds_dicom(path) or bool(series_folders(path))


def _may_be_dicom(path: Path, question: Callable[[Path], bool]) -> bool:
    """The answer to a question about a folder's DICOM files; yes, where they cannot be read: the case will say why."""
    try:
        return question(path)
    except OSError:
        return True


def _from_folder(path: Path, channels: Sequence[str], find: Callable[..., CaseFiles]) -> InputCase:
    """The case in a folder, by `find_case` or `find_dicom_case`; one of the channels is enough."""
    name = case_name(path)
    try:
        files = find(path, channels, partial=True)
    except CaseError as error:
        return InputCase(name, problem=str(error))
    except OSError as error:
        return InputCase(name, problem=f"case {name}: {path} cannot be read: {error.strerror}")
    return InputCase(files.name, replace(files, labels=None))


def _refuse_dicom_file(path: Path) -> None:
    if not split_suffix(path)[1] and is_dicom(path):
        raise UserError(f"{path} is a file of a DICOM series; give the folder that holds the series")


def _from_image(path: Path, channels: Sequence[str]) -> InputCase:
    _refuse_dicom_file(path)
    stem, suffix = split_suffix(path)
    split = split_channel(stem, channels)
    channel = None if split is None else named_channel(split[1], channels)
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
    else:
        assert split is not None
        whole = len(split[1]) == len(stem)
        name = case_name(path.parent) if whole else split[0] or stem
    return InputCase(name, case_of(name, {channel: path}, channels))


def _renamed(case: InputCase, name: str) -> InputCase:
    _refuse_name(name)
    files = replace(case.files, name=name, subject=name) if case.files else None
    return replace(case, name=name, files=files)


def _refuse_name(name: str) -> None:
    hidden = not name.strip() or name.startswith(".")
    if hidden or "/" in name or "\\" in name or "\0" in name or not is_utf8(name):
        raise UserError(f"--case {name!r} cannot be the name of a folder; use letters, digits, '_' and '-'")


def _with_sound_name(case: InputCase) -> InputCase:
    """The case, or its problem: no results could be stored under its name."""
    if not is_utf8(case.name):
        shown = case.name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        return InputCase(
            shown, problem=f"case {shown}: the name is no valid UTF-8; rename it, or set a locale of UTF-8"
        )
    if len(case.name.encode()) > LONGEST_NAME:
        return InputCase(case.name, problem=(
            f"case {case.name}: the name has {len(case.name.encode())} bytes, and results could not be stored under "
            f"more than {LONGEST_NAME}; rename the folder or the image, or give --case"
        ))  # fmt: skip
    return case


def _refuse_doubles(cases: Sequence[InputCase]) -> None:
    seen: set[str] = set()
    for case in cases:
        if case.name in seen:
            raise UserError(
                f"two cases are named {case.name}; their outputs would overwrite each other, rename one "
                "(channels of one case: give its folder, or --case NAME and channel=path pairs)"
            )
        seen.add(case.name)
