"""Which DICOM files lie in a folder and in the folders within it, to any depth; what each holds by its header."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ivdjax.imaging.files.dicom_file import is_dicom, looks_cut
from ivdjax.imaging.files.dicom_headers import Slice, read_slices

_ENDINGS = (".dcm", ".ima")


@dataclass(frozen=True)
class DicomFile:
    """One DICOM file, or one that may have been.

    Attributes:
        path: of the file.
        images: that it holds; none where there is a problem.
        problem: what keeps it from being read, in words that follow its path.
        doubtful: whether nothing but its company would make it a DICOM file.
    """

    path: Path
    images: tuple[Slice, ...] = ()
    problem: str = ""
    doubtful: bool = False

    @property
    def study(self) -> str:
        """By what the images of one study are known: StudyInstanceUID, else FrameOfReferenceUID; else its folder."""
        first = self.images[0] if self.images else None
        return (first.study or first.frame_of_reference if first else "") or f"folder {self.path.parent}"


@dataclass(frozen=True)
class DicomTree:
    """A folder: its DICOM files, the names of its other files, and the folders within it; none is without files."""

    folder: Path
    files: tuple[DicomFile, ...] = ()
    others: tuple[Path, ...] = ()
    folders: tuple[DicomTree, ...] = ()

    @property
    def all_files(self) -> tuple[DicomFile, ...]:
        """Those of the folder itself, then those of the folders within it."""
        return (*self.files, *(file for tree in self.folders for file in tree.all_files))

    @property
    def all_others(self) -> tuple[Path, ...]:
        """As `all_files`, of files that are not DICOM."""
        return (*self.others, *(path for tree in self.folders for path in tree.all_others))


def visible_entries(folder: Path) -> list[Path]:
    """What lies in a folder by rising name, but for hidden entries and links to folders outside of it.

    Links to files are followed, as those of image files are: programs that keep versions of data store nothing else in
    a folder. Links to folders could lead in circles, or to the cases of others.

    Raises:
        OSError: the folder cannot be read.
    """
    home = folder.resolve()
    found = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return [p for p in found if not (p.is_symlink() and p.is_dir()) or p.resolve().is_relative_to(home)]


def scan_tree(folder: Path, passed_over: Callable[[Path], bool] = lambda path: False) -> DicomTree:
    """The DICOM files in a folder and the folders within it; only headers are read.

    Args:
        folder: to look into.
        passed_over: whether a folder within it is not looked into.

    Raises:
        OSError: the folder itself cannot be read; what within it cannot be read stands among the files, as a problem.
    """
    return _scan(Path(folder), passed_over, set())


def _scan(folder: Path, passed_over: Callable[[Path], bool], seen: set[str]) -> DicomTree:
    seen.add(os.path.realpath(folder))
    files: list[DicomFile] = []
    odd: list[DicomFile] = []
    others: list[Path] = []
    folders: list[DicomTree] = []
    for path in visible_entries(folder):
        try:
            if path.is_dir():
                # A link within the folder shows no image twice.
                if os.path.realpath(path) not in seen and not passed_over(path):
                    folders.append(_scan(path, passed_over, seen))
            elif (file := dicom_file(path)) is None:
                others.append(path)
            else:
                (odd if file.doubtful else files).append(file)
        except OSError as error:
            files.append(DicomFile(path, problem=f" cannot be read: {error.strerror or error}"))
    # What merely looks damaged is of a series where there is one; else it is any file.
    if any(file.images for file in files):
        files += odd
    else:
        others += [file.path for file in odd]
    within = tuple(tree for tree in folders if tree.files or tree.folders or tree.others)
    return DicomTree(folder, tuple(sorted(files, key=lambda file: file.path)), tuple(others), within)


def dicom_file(path: Path) -> DicomFile | None:
    """A DICOM file, or one that may have been; None of any other.

    Raises:
        OSError: the file cannot be read.
    """
    if path.is_symlink() and not path.exists():
        words = " is a link to a file that is not there; fetch its content, or mend or remove the link"
        return DicomFile(path, problem=words, doubtful=True)
    if is_dicom(path):
        try:
            return DicomFile(path, tuple(read_slices(path)))
        except ValueError as error:
            return DicomFile(path, problem=f": {error}; copy or export it again, or remove it")
    if looks_cut(path):
        words = " is empty or damaged; copy it again, or remove it if it is no image"
        return DicomFile(path, problem=words, doubtful=path.suffix.casefold() not in _ENDINGS)
    return None
