"""Which cases lie in folders of DICOM files: series side by side in one folder, or each in a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ivdjax.data.datasets import CaseFiles, case_name
from ivdjax.imaging.files.dicom_folder import find_channels, first_study, holds_dicom, visible_entries
from ivdjax.volume import CaseError


def series_folders(folder: Path) -> list[Path]:
    """The folders directly in a folder that hold DICOM files.

    Raises:
        OSError: a folder or a file cannot be read.
    """
    return [path for path in visible_entries(Path(folder)) if path.is_dir() and holds_dicom(path)]


def is_dicom_case(folder: Path) -> bool:
    """Whether a folder holds DICOM files, or folders of them that are all of one study and none that holds such folders
    in turn; of each folder one header is read.

    Links to folders elsewhere are left out of a case; where one leads to another study, this is a folder of cases.

    Raises:
        OSError: a folder or a file cannot be read.
    """
    folder = Path(folder)
    if holds_dicom(folder):
        return True
    series = series_folders(folder)
    studies = {first_study(path) for path in series}
    if len(studies) != 1 or any(study not in studies for path in _linked(folder) for study in _studies(path)):
        return False
    others = [path for path in visible_entries(folder) if path.is_dir() and path not in series]
    return not any(series_folders(path) for path in others)


def _linked(folder: Path) -> list[Path]:
    """Folders elsewhere to which links in a folder lead."""
    seen = set(visible_entries(folder))
    return [path for path in sorted(folder.iterdir())
            if path not in seen and path.is_dir() and not path.name.startswith(".")]  # fmt: skip


def _studies(folder: Path) -> set[str]:
    """The studies in a folder of DICOM files, or of folders of them."""
    return {first_study(path) for path in ([folder] if holds_dicom(folder) else series_folders(folder))}


def find_dicom_case(folder: Path, channels: Sequence[str], partial: bool = False) -> CaseFiles:
    """The channels of a case in a folder of DICOM files or of series folders; the folder's name is the case's.

    Where DICOM files lie in the folder itself, folders within it are not looked at.

    Args:
        folder: of the case.
        channels: that are looked for.
        partial: whether one of the channels is enough.

    Raises:
        CaseError: a channel without a series; else as `find_channels`.
        OSError: a folder or a file cannot be read.
    """
    folder = Path(folder)
    name = case_name(folder)
    found = find_channels([folder] if holds_dicom(folder) else series_folders(folder), channels, name)
    missing = [channel for channel in channels if channel not in found.channels]
    if missing and not partial:
        raise CaseError(f"case {name}: no DICOM series for channel {', '.join(missing)} in {folder}")
    return CaseFiles(name, name, dict(found.channels), ignored=found.ignored, remarks=found.remarks)
