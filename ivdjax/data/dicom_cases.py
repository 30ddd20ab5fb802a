"""Which cases lie in folders of DICOM files, to any depth: one for each study.

A case is the highest folder that holds images of one study alone: a folder of files, a folder of series folders, an
XNAT session, the root of a CD. Where one folder holds those of several studies, its folders are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ivdjax.data.datasets import CaseFiles, case_name
from ivdjax.imaging.files import split_suffix
from ivdjax.imaging.files.dicom_folder import find_channels
from ivdjax.imaging.files.dicom_tree import DicomFile, DicomTree, dicom_file, scan_tree
from ivdjax.volume import CaseError

_BESIDE = {"nifti", "nii", "derivatives", "labels", "masks", "segmentations"}
"""Folders of images that lie beside the DICOM files of a case."""


@dataclass(frozen=True)
class DicomCase:
    """What may be one case: its folder, the DICOM files that are its own, and the other files beside them."""

    folder: Path
    files: tuple[DicomFile, ...]
    others: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The folder's name."""
        return case_name(self.folder)

    @property
    def studies(self) -> frozenset[str]:
        """Of its sound files."""
        return frozenset(file.study for file in self.files if file.images)


def dicom_cases(tree: DicomTree, channels: Sequence[str], among_others: bool = False) -> list[DicomCase]:
    """The cases in a folder, in the order of their folders; series folders of one study that lie among those of others
    are one case if together they give one series for each channel.

    Args:
        tree: of the folder.
        channels: of the model: folders that are named by them belong to one case.
        among_others: whether other cases lie in the folder, so that it is none.
    """
    company = among_others or any(_is_other_case(child) for child in tree.folders)
    return _joined(list(_split(tree, channels, company)), channels)


def find_dicom_case(folder: Path, channels: Sequence[str], partial: bool = False) -> CaseFiles:
    """The channels of the one case that a folder is, with all DICOM files in it, to any depth.

    Args:
        folder: of the case; its name is the case's.
        channels: that are looked for.
        partial: whether one of the channels is enough.

    Raises:
        CaseError: a channel without a series; else as `find_channels`.
        OSError: a folder or a file cannot be read.
    """
    tree = scan_tree(Path(folder))
    return case_files(DicomCase(tree.folder, tree.all_files, tree.all_others), channels, partial)


def case_files(case: DicomCase, channels: Sequence[str], partial: bool = False) -> CaseFiles:
    """The channels of a case; see `find_dicom_case`.

    Raises:
        CaseError: a channel without a series; else as `find_channels`.
    """
    found = find_channels(case.files, case.others, case.folder, channels, case.name)
    missing = [channel for channel in channels if channel not in found.channels]
    if missing and not partial:
        raise CaseError(f"case {case.name}: no DICOM series for channel {', '.join(missing)} in {case.folder}")
    elsewhere = sorted({f.path.parent.name for f in case.files if not f.path.is_relative_to(case.folder)})
    joined = [f"case {case.name}: images of its study in {', '.join(elsewhere)} are taken too"] if elsewhere else []
    remarks = (*found.remarks, *joined)
    return CaseFiles(case.name, case.name, dict(found.channels), ignored=found.ignored, remarks=remarks)


def find_dicom_file(path: Path, channels: Sequence[str], told: str | None = None) -> CaseFiles | None:
    """The channels of a case that is one DICOM file of several frames; None of a file of one image.

    Args:
        path: of the file, whose name without its ending is the case's.
        channels: that are looked for; one is enough.
        told: the channel that the file is said to be, so that nothing has to be looked for.

    Raises:
        CaseError: a damaged file; else as `find_channels`.
        OSError: the file cannot be read.
    """
    found = dicom_file(path)
    if found is None or (not found.problem and len(found.images) < 2):
        return None
    name = path.stem
    if told is not None:
        return CaseFiles(name, name, {})
    series = find_channels([found], (), path.parent, channels, name)
    return CaseFiles(name, name, dict(series.channels), ignored=series.ignored, remarks=series.remarks)


def _split(tree: DicomTree, channels: Sequence[str], company: bool = False) -> Iterator[DicomCase]:
    """The cases in a folder; one that holds further cases besides those of DICOM (`company`) is none itself."""
    whole = DicomCase(tree.folder, tree.all_files, tree.all_others)
    if not whole.files:
        return
    named = {f"{prefix}{channel}".casefold() for channel in channels for prefix in ("", f"{whole.name}_")}
    by_channel = any(child.folder.name.casefold() in named and child.all_files for child in tree.folders)
    if by_channel or (len(whole.studies) == 1 and not company):
        yield whole
        return
    if tree.files:
        yield DicomCase(tree.folder, tree.files, tree.others)
    for child in tree.folders:
        yield from _split(child, channels)


def _is_other_case(tree: DicomTree) -> bool:
    """Whether a folder holds images, or what may have been some, but no study."""
    return (
        tree.folder.name.casefold() not in _BESIDE
        and not any(file.images for file in tree.all_files)
        and bool(tree.all_files or any(split_suffix(path)[1] for path in tree.all_others))
    )


def _joined(cases: list[DicomCase], channels: Sequence[str]) -> list[DicomCase]:
    """Cases of one study as one, under the name of the first, where that gives each channel one series at most."""
    result: list[DicomCase] = []
    for case in cases:
        place = next((i for i, one in enumerate(result) if one.studies and one.studies == case.studies
                      and len(one.studies) == 1), None)  # fmt: skip
        together = None if place is None else _together(result[place], case)
        if place is None or together is None or not _sound(together, channels):
            result.append(case)
        else:
            result[place] = together
    return result


def _together(one: DicomCase, other: DicomCase) -> DicomCase:
    return replace(one, files=(*one.files, *other.files), others=(*one.others, *other.others))


def _sound(case: DicomCase, channels: Sequence[str]) -> bool:
    try:
        case_files(case, channels, partial=True)
    except CaseError:
        return False
    return True
