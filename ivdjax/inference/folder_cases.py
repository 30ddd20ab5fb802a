"""What a folder that is given as INPUT holds: its cases, and every image that makes none.

Nothing is passed over in silence: what looks like an image or a series and gives no case is named with the reason. New
ways to lay out a folder belong into `folder_cases`, before what is left over is told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ivdjax.data.datasets import LABELS, CaseFiles, case_name, find_case, is_case
from ivdjax.data.dicom_cases import case_files, dicom_cases
from ivdjax.imaging.files import IMAGE_SUFFIXES, split_suffix
from ivdjax.imaging.files.dicom_folder import holds_dicom
from ivdjax.imaging.files.dicom_tree import DicomTree, scan_tree
from ivdjax.imaging.files.nifti_pair import VOXEL_SUFFIXES, has_header
from ivdjax.inference.layouts import (
    Found,
    bids_cases,
    is_bids,
    is_label_name,
    laid_out,
    likely_commands,
    lone_image_cases,
    what_lies_in,
)
from ivdjax.inference.names import is_result_file
from ivdjax.reports.tables import SUMMARY
from ivdjax.volume import CaseError, UserError

_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
_UNKNOWN = (
    ".par",
    ".rec",
    ".mnc",
    ".nii.bz2",
    ".nii.xz",
    ".nii.zst",
    ".gipl",
)
"""Endings of images that nothing here reads."""
_MOST_NAMED = 4


@dataclass(frozen=True)
class InputCase:
    """One case to work on: its files, or the problem that keeps it from being one.

    Attributes:
        name: of the case; of what is no case its path within INPUT.
        files: None where there is a problem.
        problem: in words for people.
        left_over: whether this is no case at all, but images that give none.
    """

    name: str
    files: CaseFiles | None = None
    problem: str = ""
    left_over: bool = False


def folder_cases(root: Path, channels: Sequence[str], output: Path | None = None) -> list[InputCase]:
    """The cases in a folder, in the order of their folders, and after them what gives none.

    The folder is a case if it holds a file that is named by a channel. Else each folder in it that does is one, or what
    `layouts` makes of it; and DICOM files make cases at any depth, see `dicom_cases`. Results of earlier runs are
    passed over.

    Args:
        root: the folder.
        channels: of the model.
        output: where results go, and which is no input.

    Raises:
        UserError: the folder holds no case.
        OSError: the folder cannot be read.
    """

    def passed_over(path: Path) -> bool:
        return _is_passed_over(path, output)

    if is_case(root, channels):
        return [_named_case(root, channels), *_named_cases(root, channels, passed_over).values()]
    named = _named_cases(root, channels, passed_over)
    tree = scan_tree(root, lambda path: path in named or passed_over(path))
    found = dict(named)
    told: set[Path] = set()
    for case in _laid_out(root, channels, bool(named), passed_over):
        if root / case.name in named:
            continue
        paths = [path for path in case.files.channels.values() if isinstance(path, Path)] if case.files else []
        found[root / case.name] = case
        told.update(paths)
    for series in dicom_cases(tree, channels, among_others=bool(found)):
        found[series.folder] = input_case(
            series.name, series.folder, partial(case_files, series, channels, partial=True)
        )
        told.update(series.others)
    if not found:
        raise UserError(
            f"no case was found in {root}, which holds {what_lies_in(root)}. A case is a folder NAME with "
            f"NAME_{channels[0]}.nii.gz (or .nii, .mha, .nrrd) and such a file for each other channel of the model "
            f"({', '.join(channels)}); or a folder of DICOM files or of series folders. Perhaps you meant one of\n"
            f"{likely_commands(root, channels)}"
        )
    cases = [found[folder] for folder in sorted(found)]
    names = {case.name for case in cases}
    left = list(_left_over(tree, root, told, channels))
    return [*cases, *(replace(case, name=f"{case.name}/") if case.name in names else case for case in left)]


def laid_cases(laid: Found) -> list[InputCase]:
    """The cases of another layout."""
    return [InputCase(name, problem=case) if isinstance(case, str) else InputCase(name, case)
            for name, case in laid.items()]  # fmt: skip


def _laid_out(root: Path, channels: Sequence[str], named: bool, passed_over: Callable[[Path], bool]) -> list[InputCase]:
    """The cases of a flat folder, of a BIDS dataset, or of folders of one image; beside folders that are named by
    channels (`named`) those of a BIDS dataset, and for a model of one channel other folders of one image."""
    if named:
        laid = lone_image_cases(root, channels) | (bids_cases(root, channels) if is_bids(root) else {})
    else:
        laid = laid_out(root, channels)
    cases = laid_cases(laid)
    return [case for case in cases if case.files is None
            or not any(isinstance(path, Path) and path.parent != root and passed_over(path.parent)
                       for path in case.files.channels.values())]  # fmt: skip


def _named_cases(root: Path, channels: Sequence[str], passed_over: Callable[[Path], bool]) -> dict[Path, InputCase]:
    """The folders in a folder that hold files named by channels; by their names alone, so that no file is opened."""
    found = {}
    for path in sorted(root.iterdir()):
        try:
            if path.is_dir() and not passed_over(path) and is_case(path, channels):
                found[path] = _named_case(path, channels)
        except OSError as error:
            name = case_name(path)
            found[path] = InputCase(name, problem=f"case {name}: {path} cannot be read: {error.strerror}")
    return found


def _named_case(path: Path, channels: Sequence[str]) -> InputCase:
    """The case in a folder of files that are named by channels; one of the channels is enough."""

    def find() -> CaseFiles:
        files = find_case(path, channels, partial=True)
        inside = [f"folder {child.name}" for child in sorted(path.iterdir())
                  if _is_visible_folder(child) and not is_case(child, channels) and _holds_images(child)]  # fmt: skip
        return replace(files, ignored=(*files.ignored, *inside))

    return input_case(case_name(path), path, find)


def input_case(name: str, path: Path, find: Callable[[], CaseFiles]) -> InputCase:
    """The case whose files a function finds, or the problem that it met; references are left aside."""
    try:
        files = find()
    except CaseError as error:
        return InputCase(name, problem=str(error))
    except OSError as error:
        return InputCase(name, problem=f"case {name}: {path} cannot be read: {error.strerror}")
    return InputCase(files.name, replace(files, labels=None))


def _left_over(tree: DicomTree, root: Path, told: Collection[Path], channels: Sequence[str]) -> Iterator[InputCase]:
    """What in a folder looks like an image and is told by no case: a file of the root by itself, else by folder."""
    images = [path for path in tree.others if _looks_like_image(path) and path not in told]
    if tree.folder == root:
        for path in images:
            yield InputCase(path.name, problem=f"{path} is {_why([path], channels)}", left_over=True)
    elif images:
        shown = ", ".join(path.name for path in images[:_MOST_NAMED]) + " ..." * (len(images) > _MOST_NAMED)
        name = tree.folder.relative_to(root).as_posix()
        yield InputCase(name, problem=f"{tree.folder} holds {shown}: {_why(images, channels)}", left_over=True)
    for child in tree.folders:
        yield from _left_over(child, root, told, channels)


def _why(images: Sequence[Path], channels: Sequence[str]) -> str:
    if all(path.name.casefold().endswith(_ARCHIVES) for path in images):
        return "an archive, which is not looked into; unpack it"
    if all(path.name.casefold().endswith(VOXEL_SUFFIXES) for path in images):
        return "the voxels of an image, without their header (.hdr) beside them; copy it too"
    if not any(split_suffix(path)[1] for path in images):
        return f"of a form that is not read; convert it to one of {', '.join(IMAGE_SUFFIXES)}"
    return f"no file for channel {' or '.join(channels)} by its name; left out as no case"


def _looks_like_image(path: Path) -> bool:
    """Whether a file is an image or an archive by its ending, and no label map by its name."""
    if split_suffix(path)[1] in IMAGE_SUFFIXES:
        return not is_label_name(path)
    name = path.name.casefold()
    if name.endswith(VOXEL_SUFFIXES):
        return not has_header(path)
    return name.endswith((*_ARCHIVES, *_UNKNOWN))


def _holds_images(folder: Path) -> bool:
    try:
        return any(_looks_like_image(path) for path in folder.iterdir() if path.is_file()) or holds_dicom(folder)
    except OSError:
        return True


def _is_passed_over(path: Path, output: Path | None) -> bool:
    """Whether a folder is hidden, that of the references, or holds results."""
    if path.name.startswith(".") or path.name.casefold() == LABELS:
        return True
    if output is not None and output.exists() and path.exists() and path.samefile(output):
        return True
    try:
        if any(is_result_file(entry.name) for entry in path.iterdir()):
            return True
        # The folder of a case stays one where somebody has made it the output of a run.
        return _has_summary(path) and not any(_looks_like_image(entry) for entry in path.iterdir() if entry.is_file())
    except OSError:
        return False


def _has_summary(folder: Path) -> bool:
    """Whether a folder is the output of a run."""
    path = folder / SUMMARY
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(64).removeprefix(b"\xef\xbb\xbf").startswith(b"case,status,")


def _is_visible_folder(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")
