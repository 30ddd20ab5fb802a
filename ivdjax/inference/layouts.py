"""Folders that people have: images side by side in one folder, BIDS datasets, and lists of files in a table.

Each gives cases by name: their files, or why one is none.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ivdjax.commands.commands import describe_os_error
from ivdjax.data.channel_names import named_channel, split_channel
from ivdjax.data.datasets import LABELS, CaseFiles
from ivdjax.imaging.files import IMAGE_SUFFIXES, Source, split_suffix
from ivdjax.imaging.files.dicom_file import is_dicom
from ivdjax.imaging.files.dicom_folder import channel_series, holds_dicom
from ivdjax.volume import CaseError, UserError

Found = dict[str, CaseFiles | str]
"""Cases by name: their files, or the problem in words."""

_NOT_IMAGES = (LABELS, "tissues", "mask", "seg", "dseg", "discs")
"""Endings of the names of files that hold labels."""

_COLUMNS = ("case", "channel", "path")
_MOST_SHOWN = 4


def flat_cases(root: Path, channels: Sequence[str]) -> Found:
    """The cases of a folder of images: `P01_fat.nii.gz` and `P01_wat.nii.gz` are two channels of P01.

    For a model of one channel, the files that are named by it are the cases; where none is, every image is one of its
    own, whatever its name.
    """
    images = list(_images(root))
    groups: dict[str, dict[str, Path]] = {}
    problems: dict[str, str] = {}
    for path in images:
        split = split_channel(split_suffix(path)[0], channels)
        if split is None or not split[0]:
            continue
        name, word = split
        channel = named_channel(word, channels)
        assert channel is not None
        other = groups.setdefault(name, {}).setdefault(channel, path)
        if other != path:
            problems[name] = f"case {name}: {other.name} and {path.name} both give {channel}; keep one of them"
    if not groups and len(channels) == 1:
        for path in images:
            name = split_suffix(path)[0]
            if name in groups:
                other = groups[name][channels[0]]
                problems[name] = f"case {name}: {other.name} and {path.name} have one name; keep one of them"
            groups.setdefault(name, {})[channels[0]] = path
    return {name: problems.get(name) or case_of(name, paths, channels) for name, paths in sorted(groups.items())}


def bids_cases(root: Path, channels: Sequence[str]) -> Found:
    """The cases of a BIDS dataset: one for each session of a subject, or for each acquisition where there are several.

    The suffix (`T2w`) or an entity of a file's name (`acq-water`) tells the channel. For a model of one channel, every
    image is a case where no name tells the channel anywhere in the dataset.
    """
    images = [path for folder in _sessions(root) for path in _images(folder)]
    found: dict[str, dict[str, dict[str, Path]]] = {}
    for path in images:
        told = _bids_channel(split_suffix(path)[0], channels)
        if told is not None:
            found.setdefault(_session(path), {}).setdefault(told[0], {}).setdefault(told[1], path)
    if not found and len(channels) == 1:
        for path in images:
            found.setdefault(_session(path), {})[split_suffix(path)[0]] = {channels[0]: path}
    cases: Found = {}
    for session, groups in sorted(found.items()):
        for group, paths in sorted(groups.items()):
            name = session if len(groups) == 1 else group
            cases[name] = case_of(name, paths, channels)
    return cases


def is_bids(root: Path) -> bool:
    """Whether a folder is the root of a BIDS dataset: it has folders of subjects."""
    return any(re.fullmatch("sub-[0-9A-Za-z]+", path.name) and path.is_dir() for path in root.iterdir())


def listed_cases(table: Path, channels: Sequence[str]) -> Found:
    """The cases of a CSV table with the columns case, channel and path; one row for each file or DICOM folder.

    A relative path is looked for from the table's folder. For a model of one channel the column channel may be left
    out.

    Raises:
        UserError: the table cannot be read, lacks a column, or has a row that is incomplete or names an unknown
            channel.
    """
    rows: dict[str, dict[str, Path]] = {}
    for number, row in _rows(table, channels):
        case, word, text = row["case"], row["channel"] or (channels[0] if len(channels) == 1 else ""), row["path"]
        where = f"{table}, line {number}"
        if not case or not text or not word:
            missing = "case" if not case else "path" if not text else "channel"
            raise UserError(f"{where}: the {missing} is missing")
        channel = named_channel(word, channels) or (channels[0] if len(channels) == 1 else None)
        if channel is None:
            raise UserError(f"{where}: the model has no channel {word!r}; it has {', '.join(channels)}")
        if channel in rows.setdefault(case, {}):
            raise UserError(f"{where}: case {case} has channel {channel} twice")
        path = Path(text)
        rows[case][channel] = path if path.is_absolute() else table.parent / path
    if not rows:
        raise UserError(f"{table} lists no case; give a row for each file")
    return {case: _listed(case, paths, channels) for case, paths in rows.items()}


def case_of(name: str, paths: Mapping[str, Path], channels: Sequence[str]) -> CaseFiles:
    """A case of image files, with a remark on each that is not called by the model's own name for the channel."""
    ordered: dict[str, Source] = {channel: paths[channel] for channel in channels if channel in paths}
    remarks = tuple(f"case {name}: {path.name} was taken for channel {channel}" for channel, path in paths.items()
                    if not _is_called(split_suffix(path)[0], channel))  # fmt: skip
    return CaseFiles(name, name, ordered, remarks=remarks)


def lone_image_cases(root: Path, channels: Sequence[str]) -> Found:
    """For a model of one channel: the folders in a folder that hold one image each, whatever it is called."""
    if len(channels) != 1:
        return {}
    found: Found = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        images = list(_images(folder))
        if len(images) == 1:
            found[folder.name] = case_of(folder.name, {channels[0]: images[0]}, channels)
    return found


def laid_out(root: Path, channels: Sequence[str]) -> Found:
    """The cases of a folder in which no folder has files that are named by case and channel; empty for none.

    Raises:
        OSError: a folder cannot be read.
    """
    bids = bids_cases(root, channels) if is_bids(root) else {}
    return bids or flat_cases(root, channels) or lone_image_cases(root, channels)


def what_lies_in(folder: Path) -> str:
    """What a folder holds, in a few words, for a message."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    folders = [path.name for path in entries if path.is_dir()]
    images = [path.name for path in entries if path.is_file() and split_suffix(path)[1]]
    others = [path.name for path in entries if path.is_file() and not split_suffix(path)[1]]
    parts = [_counted(names, word) for names, word in ((folders, "folder"), (images, "image"), (others, "other file"))]
    return "; ".join(part for part in parts if part) or "nothing"


def likely_commands(folder: Path, channels: Sequence[str]) -> str:
    """The two commands that a folder in which no case was found was most likely meant for, but for other options."""
    images = (path for path in sorted(folder.rglob("*")) if split_suffix(path)[1] and path.is_file())
    path = next((path for path in images if not is_label_name(path)), folder / "IMAGE.nii.gz")
    deeper = len(path.relative_to(folder).parts) > 2  # FOLDER/DATA_ROOT/CASE/IMAGE: the dataset lies one level down
    quoted = shlex.quote(str(path.parent.parent if deeper else path))
    first = quoted if deeper else f"--case NAME {channels[0]}={quoted}"
    return (
        f"  ivdjax infer --output OUT {first}\n"
        f"  ivdjax infer --output OUT worklist.csv      (columns {', '.join(_COLUMNS)}; one row for each file)"
    )


def is_label_name(path: Path) -> bool:
    """Whether a file holds labels by its name."""
    return re.split("[_.-]", split_suffix(path)[0].casefold())[-1] in _NOT_IMAGES


def _counted(names: Sequence[str], word: str) -> str:
    if not names:
        return ""
    more = " ..." if len(names) > _MOST_SHOWN else ""
    return f"{len(names)} {word}{'' if len(names) == 1 else 's'} ({', '.join(names[:_MOST_SHOWN])}{more})"


def _is_called(stem: str, channel: str) -> bool:
    return stem.casefold() == channel.casefold() or stem.casefold().endswith(f"_{channel}".casefold())


def _images(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        image = split_suffix(path)[1] in IMAGE_SUFFIXES and not path.name.startswith(".")
        if image and path.is_file() and not is_label_name(path):
            yield path


def _sessions(root: Path) -> Iterator[Path]:
    """The folders of a BIDS dataset in which anatomical images lie."""
    for subject in sorted(path for path in root.iterdir() if re.fullmatch("sub-[0-9A-Za-z]+", path.name)):
        for place in (subject, *sorted(subject.glob("ses-*"))):
            for folder in (place, place / "anat"):
                if folder.is_dir():
                    yield folder


def _session(path: Path) -> str:
    """Subject and session in the name of a BIDS file."""
    match = re.match(r"(sub-[0-9A-Za-z]+)(_ses-[0-9A-Za-z]+)?", path.name)
    return match[0] if match else split_suffix(path)[0]


def _bids_channel(stem: str, channels: Sequence[str]) -> tuple[str, str] | None:
    """The name without what tells the channel, and the channel; None where nothing tells it."""
    parts = stem.split("_")
    for place, part in reversed(list(enumerate(parts))):
        key, separator, value = part.rpartition("-")
        if separator and key in ("sub", "ses", "run"):
            continue
        channel = named_channel(value, channels)
        if channel is not None:
            others = [other for number, other in enumerate(parts) if number != place]
            # Of a Dixon scan the suffix is the same for all channels and no part of the case's name.
            return "_".join(other for other in others if "-" in other), channel
    return None


def _rows(table: Path, channels: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{table} cannot be read: {describe_os_error(error)}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{table} is not UTF-8: {error}; save it as CSV with UTF-8") from error
    mark = next((mark for mark in "\t;" if lines and mark in lines[0]), ",")
    reader = csv.DictReader(lines, delimiter=mark)
    fields = {str(name).strip().casefold(): name for name in reader.fieldnames or ()}
    needed = [name for name in _COLUMNS if name != "channel" or len(channels) > 1]
    lacking = [name for name in needed if name not in fields]
    if lacking:
        raise UserError(f"{table} lacks the column {', '.join(lacking)}; a worklist has {', '.join(_COLUMNS)}")
    for number, row in enumerate(reader, start=2):
        values = {name: str(row.get(fields.get(name, "")) or "").strip() for name in _COLUMNS}
        if any(values.values()):
            yield number, values


def _listed(case: str, paths: Mapping[str, Path], channels: Sequence[str]) -> CaseFiles | str:
    sources: dict[str, Source] = {}
    for channel in (channel for channel in channels if channel in paths):
        path = paths[channel]
        try:
            if (path.is_dir() and holds_dicom(path)) or is_dicom(path):
                sources[channel] = channel_series(path, channel, case)
            elif path.is_file():
                sources[channel] = path
            else:
                return f"case {case}: there is no file and no DICOM folder {path}"
        except CaseError as error:
            return str(error)
        except OSError as error:
            return f"case {case}: {describe_os_error(error)}"
    return CaseFiles(case, case, sources)
