"""What `ivdjax infer` was given: case folders, folders of them, single images or channel=path pairs, as cases.

A case has one or more of the model's channels. It is a folder of image files named by their channels; or of DICOM
files, to any depth, of one study (see `folder_cases`). Where image files are named by channels, DICOM files beside them
are left aside. Links to DICOM files are followed, links to folders outside are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ivdjax.commands.commands import is_utf8
from ivdjax.data.channel_names import named_channel, split_channel
from ivdjax.data.datasets import LABELS, CaseFiles, case_name
from ivdjax.data.dicom_cases import find_dicom_file
from ivdjax.imaging.files import IMAGE_SUFFIXES, Source, split_suffix
from ivdjax.imaging.files.dicom_file import is_dicom
from ivdjax.imaging.files.dicom_folder import channel_series, holds_dicom
from ivdjax.inference.folder_cases import InputCase, folder_cases, input_case, laid_cases
from ivdjax.inference.layouts import case_of, listed_cases
from ivdjax.inference.names import is_folder_name
from ivdjax.volume import CaseError, UserError

LONGEST_NAME = 200
"""Bytes of a case's name: file systems take 255, of which the endings of results and of temporary names need some."""


def find_inputs(
    inputs: Sequence[str], channels: Sequence[str], name: str | None = None, output: Path | None = None
) -> list[InputCase]:
    """The cases that command line inputs stand for, in their order; reference labels beside images are left aside.

    Args:
        inputs: case folders, folders of case folders, image files (whose names tell the channel where the model has
            several; also a DICOM file of several frames), or channel=path pairs, whose paths are image files or folders
            of one DICOM series.
        channels: that the model knows.
        name: of the one case that channel=path pairs or a single image make.
        output: where results go: what lies there is no input.

    Raises:
        UserError: an input that does not exist or holds no case, two cases of one name, or a name that does not fit.
    """
    if not inputs:
        raise UserError("no INPUT; give a case folder, a folder of case folders, an image, or channel=path pairs")
    if not all(text.strip() for text in inputs):
        raise UserError("an INPUT is empty; give a path (is a variable unset?)")
    if all("=" in text and not Path(text).exists() for text in inputs):
        found = [_from_pairs(inputs, channels, name)]
    else:
        found = [case for text in inputs for case in _from_path(Path(text), channels, output)]
        if name is not None:
            count = sum(not case.left_over for case in found)
            if count != 1:
                raise UserError(f"--case {name} names one case, but INPUT holds {count}")
            found = [case if case.left_over else _renamed(case, name) for case in found]
    _refuse_doubles(found)
    return [_with_sound_name(case) for case in found]


def _from_pairs(inputs: Sequence[str], channels: Sequence[str], name: str | None) -> InputCase:
    if name is None:
        raise UserError("channel=path pairs need --case NAME, the name for the outputs")
    _refuse_name(name)
    paths: dict[str, Path] = {}
    for text in inputs:
        word, _, path = text.partition("=")
        # A model of one channel takes any contrast, whatever its user calls it.
        channel = channels[0] if len(channels) == 1 else named_channel(word, channels)
        if channel is None:
            raise UserError(f"{text}: the model has no channel {word!r}; it has {', '.join(channels)}")
        if channel in paths:
            raise UserError(f"channel {channel} is given twice: {paths[channel]} and {path}")
        if not path.strip():
            raise UserError(f"{text}: the path is missing; give a file or a series folder (is a variable unset?)")
        paths[channel] = Path(path)
        if paths[channel].is_dir():
            if not holds_dicom(paths[channel]):
                raise UserError(
                    f"{text}: no DICOM file lies in the folder {path}; give a series folder or an image file"
                )
        elif not paths[channel].is_file():
            raise UserError(f"{text}: there is no file or folder {path}")
        elif is_dicom(paths[channel]) and find_dicom_file(paths[channel], channels, told=channel) is None:
            raise UserError(f"{path} is a file of a DICOM series; give the folder that holds the series")
    remarks: list[str] = []

    def find() -> CaseFiles:
        sources: dict[str, Source] = {
            channel: channel_series(paths[channel], channel, name, remarks.append)
            if paths[channel].is_dir() or is_dicom(paths[channel]) else paths[channel]
            for channel in channels
            if channel in paths
        }  # fmt: skip
        return CaseFiles(name, name, sources, remarks=tuple(remarks))

    return input_case(name, Path(next(iter(paths.values()))), find)


def _from_path(path: Path, channels: Sequence[str], output: Path | None) -> list[InputCase]:
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv"):
        return laid_cases(listed_cases(path, channels))
    if path.is_file():
        return [_from_image(path, channels)]
    if not path.is_dir():
        raise UserError(f"there is no file or folder {path}")
    return folder_cases(path, channels, output)


def _from_dicom_file(path: Path, channels: Sequence[str]) -> InputCase:
    """The case of one DICOM file that holds several frames; of a file of a series the folder is needed."""
    try:
        files = find_dicom_file(path, channels)
    except CaseError as error:
        return InputCase(path.stem, problem=str(error))
    if files is None:
        raise UserError(f"{path} is a file of a DICOM series; give the folder that holds the series")
    return InputCase(files.name, files)


def _from_image(path: Path, channels: Sequence[str]) -> InputCase:
    if is_dicom(path):
        return _from_dicom_file(path, channels)
    stem, suffix = split_suffix(path)
    split = split_channel(stem, channels)
    channel = None if split is None else named_channel(split[1], channels)
    if channel is None and len(channels) != 1:
        raise UserError(
            f"{path} is one image, but the model needs {len(channels)} channels; give a case folder, or --case NAME "
            f"and {' '.join(f'{channel}=PATH' for channel in channels)}"
        )
    if suffix.lower() not in IMAGE_SUFFIXES:
        raise UserError(f"{path} is not an image that can be read ({', '.join(IMAGE_SUFFIXES)})")
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
    if not is_folder_name(name):
        raise UserError(f"--case {name!r} cannot be the name of a folder; use letters, digits, '_' and '-'")


def _with_sound_name(case: InputCase) -> InputCase:
    """The case, or its problem: no results could be stored under its name."""
    if not is_utf8(case.name):
        shown = case.name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        return InputCase(
            shown, problem=f"case {shown}: the name is no valid UTF-8; rename it, or set a locale of UTF-8"
        )
    if not is_folder_name(case.name):
        return InputCase(case.name, problem=(
            f"case {case.name}: results are stored in a folder of this name, which must not begin with a dot or have a "
            "slash in it; choose another name"
        ))  # fmt: skip
    if case.files is not None and len(case.name.encode()) > LONGEST_NAME:
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
