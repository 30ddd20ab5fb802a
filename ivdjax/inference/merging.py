"""Output folders of one cohort, such as those of a Slurm array's tasks, brought together in one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ivdjax.commands.commands import make_output
from ivdjax.imaging.folders import alone, whole_folder, write_whole
from ivdjax.inference.cohort import read_summary, write_summary
from ivdjax.inference.output_folder import BIDS_FILES
from ivdjax.inference.results import OutputOptions
from ivdjax.reports.tables import SUMMARY, CaseSummary
from ivdjax.volume import UserError


@dataclass(frozen=True)
class Merged:
    """What was merged.

    Attributes:
        rows: of the merged summary that came from the parts.
        kept: cases whose result was there already and stayed, with its corrections.
    """

    rows: tuple[CaseSummary, ...]
    kept: tuple[str, ...]


def merge_outputs(output: Path, parts: Sequence[Path]) -> Merged:
    """Makes one output folder of several: every case's folder, and summary, disc table and cohort page of all.

    The parts stay as they are, so that their runs can go on. On one disk no file is stored twice: files are linked, and
    no later step writes into a linked one. A case that the output folder has already stays as it is there.

    Args:
        output: is made where it is not there.
        parts: output folders of `ivdjax infer`.

    Raises:
        UserError: a part is no output folder, is the output itself, or is being worked on; two parts have one case; or
            only some of them have the names of BIDS.
        OSError: a file cannot be written.
    """
    if output.resolve() in [part.resolve() for part in parts]:
        raise UserError(f"--output {output} is one of the parts; give a folder of its own")
    for part in parts:
        if not (part / SUMMARY).is_file():
            raise UserError(f"{part} holds no {SUMMARY}; give output folders of ivdjax infer")
    forms = {_is_bids(part) for part in parts} | ({_is_bids(output)} if (output / SUMMARY).is_file() else set())
    if len(forms) > 1:
        raise UserError("some of the folders have the file names of BIDS and others have not; infer all with --bids")
    options = OutputOptions(bids=forms.pop())
    make_output(output)
    with ExitStack() as locks:
        for folder in (output, *parts):
            locks.enter_context(_undisturbed(folder))
        rows = _rows(parts, options)
        there = {row.case: row for row in read_summary(output, set(), options) if not row.failed}
        for case, (part, row) in rows.items():
            if case not in there and not row.failed:
                _link_case(part, output, options.names(case).folder)
        for name in BIDS_FILES if options.bids else ():
            write_whole(output / name, (parts[0] / name).read_bytes())
        fresh = [there.get(case, row) for case, (_, row) in rows.items()]
        write_summary(output, fresh, options)
    return Merged(tuple(fresh), tuple(case for case in rows if case in there))


@contextmanager
def _undisturbed(folder: Path) -> Iterator[None]:
    with alone(folder) as free:
        if not free:
            raise UserError(f"a run or a review is at work in {folder}; wait for it, or end it")
        yield


def _is_bids(folder: Path) -> bool:
    return (folder / BIDS_FILES[0]).is_file()


def _rows(parts: Sequence[Path], options: OutputOptions) -> dict[str, tuple[Path, CaseSummary]]:
    """The part and the row of each case."""
    found: dict[str, tuple[Path, CaseSummary]] = {}
    for part in parts:
        for row in read_summary(part, set(), options):
            if row.case in found:
                raise UserError(f"case {row.case} is in {found[row.case][0]} and in {part}; leave one of them out")
            found[row.case] = part, row
    return found


def _link_case(part: Path, output: Path, folder: PurePosixPath) -> None:
    """The folder of a case, whole or not at all."""
    with whole_folder(output / folder) as made:
        for source in sorted((part / folder).rglob("*")):
            target = made / source.relative_to(part / folder)
            if source.is_dir():
                target.mkdir(exist_ok=True)
            else:
                _link(source, target)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)
