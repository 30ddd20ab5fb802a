"""The cases that a benchmark works on: those with a reference, from case folders and folders of case folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ivdjax.config import DataConfig
from ivdjax.data.datasets import CaseFiles, find_case, find_cases, is_case
from ivdjax.volume import UserError


def reference_cases(paths: Sequence[str], channels: Sequence[str]) -> list[CaseFiles]:
    """Every case with a reference, in the order of the paths.

    Raises:
        UserError: a path holds no case, or no case has a reference.
        CaseError: a case lacks a channel.
    """
    data = DataConfig(channels=tuple(channels))
    found: list[CaseFiles] = []
    for path in map(Path, paths):
        found += [find_case(path, channels)] if is_case(path, channels) else find_cases(path, data)
    labelled = [files for files in found if files.labels is not None]
    if not labelled:
        raise UserError(f"no case in {', '.join(paths)} has a reference (<case>_Labels.nii.gz)")
    return labelled
