"""Which cases a dataset folder holds, how they are read, and who trains and who validates.

Layout: `<root>/<case>/<case>_<channel>.nii.gz` or plain `<channel>.nii.gz` (or another ending of `IMAGE_SUFFIXES`), and
`<case>_Labels.nii.gz` beside them or in `<root>/labels/`. A tissue map (1 disc, 2 vertebra, 3 canal) may lie beside the
channels as `<case>_Tissues.nii.gz`. Upper and lower case do not matter in these endings.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ivdjax.config import DataConfig
from ivdjax.data.channel_names import named_channel
from ivdjax.data.folds import fold_of, hold_out, read_subject_table
from ivdjax.data.reference_labels import number_reference, on_image, refuse_other_values
from ivdjax.data.weighting import told_weightings
from ivdjax.imaging.files import IMAGE_SUFFIXES, Source, read_labels, read_volume, source_files, split_suffix
from ivdjax.volume import Case, CaseError, UserError

LABELS = "labels"
"""Ending of a reference's file name, and the name of the folder that may hold all of them."""

TISSUE_MAP = "tissues"
"""Ending of a tissue map's file name."""

_MOST_NAMED = 12


@dataclass(frozen=True)
class CaseFiles:
    """Where one case lies.

    Attributes:
        name: the case, after its folder.
        subject: whose visit it is.
        channels: the file or DICOM series of each channel, in the configuration's order; of a partial case, of those
            that exist.
        labels: the reference's file, if there is one.
        ignored: names of other files in the case's folder, and DICOM series that are no channel.
        fold: the fold that the subject table assigns, if it does.
        remarks: what was remarked on finding the files.
        tissues: the tissue map's file, if there is one.
    """

    name: str
    subject: str
    channels: dict[str, Source]
    labels: Path | None = None
    ignored: tuple[str, ...] = ()
    fold: int | None = None
    remarks: tuple[str, ...] = ()
    tissues: Path | None = None


def find_cases(root: Path, data: DataConfig) -> list[CaseFiles]:
    """Every case of a dataset folder by rising name, with its subject.

    Folders without a channel's file are no cases.

    Raises:
        UserError: no such folder, no case in it, two names (links) for one folder, a channel of the name "labels" or
            "tissues", or a pattern or table that gives a case no subject.
        CaseError: a case lacks a channel or has two files for one.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"data.root must be a folder of cases; there is none at {root}")
    folders = [f for f in sorted(root.iterdir()) if is_case(f, data.channels)]
    _refuse_twins(folders)
    found = [find_case(f, data.channels) for f in folders]
    if not found:
        raise UserError(
            f"no case in {root}: expected <case>/<case>_<channel>.nii.gz for the channels {', '.join(data.channels)}"
        )
    return assign_subjects(found, data, root)


def is_case(folder: Path, channels: Sequence[str]) -> bool:
    """Whether a folder holds a file of at least one of the channels."""
    folder = Path(folder)
    if not folder.is_dir() or case_name(folder).startswith("."):
        return False
    names = case_names(folder)
    return any(
        _role(path, names, channels) in channels or _usual_role(path, names, channels) in channels
        for path in folder.iterdir()
    )


def case_name(folder: Path) -> str:
    """The name of the case in a folder: that by which it was given, be it a link; a real name for `.` and `..`."""
    folder = Path(folder)
    return folder.resolve().name if folder.name in ("", "..") else folder.name


def case_names(folder: Path) -> tuple[str, ...]:
    """Names by which a case's files may begin: its own, and where it is a link that of the folder it leads to."""
    return tuple(dict.fromkeys((case_name(folder), Path(folder).resolve().name)))


def folded(name: str) -> str:
    """A name by which two are told to be the same: in upper or lower case, its accents written either way."""
    return unicodedata.normalize("NFC", name).casefold()


def find_case(folder: Path, channels: Sequence[str], partial: bool = False) -> CaseFiles:
    """The files of one case folder; its name is the case's, and its subject's until `assign_subjects` says otherwise.

    In a folder to which a link leads, files may be named by the folder or by the link.

    Args:
        folder: of the case.
        channels: that are looked for.
        partial: whether one of the channels is enough.

    Raises:
        CaseError: no such folder, a channel without a file (of a partial case: no channel with one), or two files for
            one channel or for the labels.
        UserError: a channel of the name "labels" or "tissues".
    """
    folder = Path(folder)
    for reserved in (LABELS, TISSUE_MAP):
        if reserved in (c.casefold() for c in channels):
            raise UserError(f'"{reserved}" ends a reference\'s file name and is never a channel; rename the channel')
    if not folder.is_dir():
        raise CaseError(f"case {folder.name}: there is no folder {folder}")
    name, names = case_name(folder), case_names(folder)
    roles: dict[str, Path] = {}
    paths = sorted(p for p in folder.iterdir() if not p.is_dir())
    for role_of in (_role, _usual_role):  # a channel's own name counts before what others call it
        found: dict[str, Path] = {}
        for path in (p for p in paths if p not in roles.values()):
            role = role_of(path, names, channels)
            if role in found:
                raise CaseError(f"case {name}: {found[role].name} and {path.name} both give {role}; keep one of them")
            if role is not None and role not in roles:
                found[role] = path
        remarks = [f"case {name}: {path.name} was taken for channel {role}" for role, path in found.items()]
        roles |= found
    used = {path for role in roles.values() for path in _files_of(role)}
    ignored = [path.name for path in paths if path not in used]
    missing = [c for c in channels if c not in roles]
    if missing and (not partial or len(missing) == len(channels)):
        raise CaseError(
            f"case {name}: no file for channel {', '.join(missing)} in {folder}; expected {name}_{missing[0]}.nii.gz "
            f"(or .nii, .mha, .nrrd), found {', '.join(p.name for p in roles.values()) or 'none'}"
        )
    labels = roles.get(LABELS) or _labels_aside(folder.parent / LABELS, names)
    return CaseFiles(
        name, name, {c: roles[c] for c in channels if c in roles}, labels, tuple(n for n in ignored if n[0] != "."),
        remarks=tuple(remarks), tissues=roles.get(TISSUE_MAP),
    )  # fmt: skip


def assign_subjects(cases: Sequence[CaseFiles], data: DataConfig, root: Path) -> list[CaseFiles]:
    """The cases with their subjects from the table or the pattern of the configuration; else each is its own.

    A relative table path is looked for from the working folder, then from `root`.

    Raises:
        UserError: both are given; the table or the pattern cannot be read, or gives a case no subject.
    """
    if data.subject_table and data.subject_pattern:
        raise UserError("data.subject_table and data.subject_pattern exclude each other; keep one")
    if data.subject_table:
        path = Path(data.subject_table)
        table = read_subject_table(path if path.exists() else Path(root) / path)
        missing = [c.name for c in cases if c.name not in table]
        if missing:
            more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
            raise UserError(f"subject table {path} lists no subject for case {', '.join(missing[:8])}{more}; add them")
        return [replace(c, subject=table[c.name][0], fold=table[c.name][1]) for c in cases]
    if data.subject_pattern:
        return [replace(c, subject=_matched_subject(c.name, data.subject_pattern)) for c in cases]
    return list(cases)


def read_case(files: CaseFiles, channels: Sequence[str], partial: bool = False) -> Case:
    """One case from its files: volume, numbered labels on the volume's grid, and what was remarked.

    Args:
        files: of the case.
        channels: that the volume holds, in this order.
        partial: whether one of the channels is enough; the volume then holds those that exist.

    Raises:
        CaseError: a channel is missing (of a partial case: every one), a file cannot be read, labels go beyond 15 or do
            not lie within the image.
    """
    missing = [c for c in channels if c not in files.channels]
    if missing and (not partial or len(missing) == len(channels)):
        raise CaseError(f"case {files.name}: no file for channel {', '.join(missing)}")
    remarks = list(files.remarks)
    if files.ignored:
        more = len(files.ignored) - _MOST_NAMED
        listed = ", ".join(files.ignored[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        remarks.append(f"case {files.name}: ignored {listed}")
    volume = read_volume({c: files.channels[c] for c in channels if c in files.channels}, files.name, remarks.append)
    labels = None
    if files.labels is not None:
        read = read_labels(files.labels, files.name, remarks.append)
        numbered, notes = number_reference(read, files.name, files.labels.name)
        remarks += notes
        labels, notes = on_image(numbered, volume.grid, volume.native, files.name, files.labels.name)
        remarks += notes
    tissues = None
    if files.tissues is not None:
        found = read_labels(files.tissues, files.name, remarks.append)
        refuse_other_values(found, files.name, files.tissues.name)
        tissues, notes = on_image(found, volume.grid, volume.native, files.name, files.tissues.name)
        remarks += notes
    weightings = told_weightings({channel: files.channels[channel] for channel in volume.channels})
    return Case(files.name, files.subject, volume, labels, tuple(remarks), tissues, weightings)


def _refuse_twins(folders: Sequence[Path]) -> None:
    """One scan as two cases could lie on both sides of a fold."""
    homes: dict[Path, Path] = {}
    for folder in folders:
        twin = homes.setdefault(folder.resolve(), folder)
        if twin != folder:
            raise UserError(f"{twin} and {folder} are one folder under two names; remove one of them")


def _role(path: Path, cases: Sequence[str], channels: Sequence[str]) -> str | None:
    """The channel that a file holds, or `LABELS`, or `TISSUE_MAP`, or None for any other file."""
    stem, suffix = split_suffix(path)
    if not suffix or path.name.startswith("."):
        return None
    stem = folded(stem)
    for role in (*channels, LABELS, TISSUE_MAP) if suffix in IMAGE_SUFFIXES else (LABELS,):
        if stem in (folded(role), *(folded(f"{case}_{role}") for case in cases)):
            return role
    return None


def _files_of(path: Path) -> tuple[Path, ...]:
    """An image's file, and that of its voxels where they lie in one of their own."""
    try:
        return source_files(path)
    except OSError:  # which is told when the image is read
        return (path,)


def _usual_role(path: Path, cases: Sequence[str], channels: Sequence[str]) -> str | None:
    """The channel that a file holds by a usual name for it, such as W for wat; None for any other file."""
    stem, suffix = split_suffix(path)
    if not suffix or path.name.startswith("."):
        return None
    stem = folded(stem)
    for start in ("", *(f"{folded(case)}_" for case in cases)):
        if stem.startswith(start) and (channel := named_channel(stem[len(start) :], channels)) is not None:
            return channel
    return None


def _labels_aside(folder: Path, cases: Sequence[str]) -> Path | None:
    """The reference of a case of those names in the dataset's folder of labels."""
    wanted = {folded(f"{case}_{LABELS}") for case in cases}
    if not folder.is_dir():
        return None
    found = [p for p in sorted(folder.iterdir()) if split_suffix(p)[1] and folded(split_suffix(p)[0]) in wanted]
    if len(found) > 1:
        raise CaseError(f"case {cases[0]}: {found[0].name} and {found[1].name} in {folder} both give labels; keep one")
    return found[0] if found else None


def _matched_subject(case: str, pattern: str) -> str:
    try:
        match = re.search(pattern, case)
    except re.error as error:
        raise UserError(f"subject pattern {pattern!r} is not a regular expression: {error}") from error
    if match is None or match.re.groups < 1 or not match.group(1):
        raise UserError(
            f"subject pattern {pattern!r} must find the subject of case {case} by its first group, as "
            r"'^(\d+)_' does in 07_visit2; it finds none"
        )
    return match.group(1)


__all__ = [
    "CaseFiles", "assign_subjects", "case_name", "case_names", "find_case", "find_cases", "fold_of", "folded",
    "hold_out", "is_case", "read_case",
]  # fmt: skip
