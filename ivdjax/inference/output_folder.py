"""The folder that a run of inference writes into: its own files, one run at a time, and what killed runs left there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ivdjax import __version__
from ivdjax.commands.commands import describe_os_error, spoken
from ivdjax.imaging.folders import alone, sweep, write_whole
from ivdjax.inference.cohort import PAGE, UNDER_REVIEW
from ivdjax.inference.cohort_table import TABLE
from ivdjax.inference.names import BIDS_IGNORE, bids_description
from ivdjax.inference.results import OutputOptions
from ivdjax.inference.visits.compare import CSV_FILE, JSON_FILE, PAGE_FILE
from ivdjax.model.model import Model
from ivdjax.reports.tables import SUMMARY
from ivdjax.volume import CaseError, UserError

LOG = "infer.log"
"""Name of the workers' log in the output folder."""

BIDS_FILES = ("dataset_description.json", ".bidsignore")
"""Files at the root of an output with the names of BIDS."""

OWN_FILES: tuple[str, ...] = (SUMMARY, TABLE, PAGE, LOG, CSV_FILE, JSON_FILE, PAGE_FILE, *BIDS_FILES)
"""Names of what is written into the output folder itself, which no case's folder may have."""


@contextlib.contextmanager
def own_output(output: Path) -> Iterator[None]:
    """The output folder, made where it is not there, and kept from other runs meanwhile.

    A folder that was made and into which nothing came is removed again.

    Raises:
        UserError: it cannot be made or written to, or another run is at work in it.
    """
    made = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        if not os.access(output, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(output))
    except OSError as error:
        raise UserError(f"--output {output} cannot be made or written to: {describe_os_error(error)}") from error
    with alone(output) as undisturbed:
        if not undisturbed:
            raise UserError(_at_work(output))
        with contextlib.suppress(OSError):  # of a review that was killed
            (output / UNDER_REVIEW).unlink(missing_ok=True)
        try:
            yield
        finally:
            if made:
                with contextlib.suppress(OSError):
                    output.rmdir()


def _at_work(output: Path) -> str:
    """Who keeps an output folder from this run."""
    if (output / UNDER_REVIEW).exists():
        return f"{output} is under review ({spoken('review')}); end the review first, or give another --output"
    return f"another {spoken('infer')} is at work in {output}; wait for it, or give each run an --output of its own"


@contextlib.contextmanager
def kept_output(output: Path) -> Iterator[None]:
    """A block that writes into the output folder, which must not be made again once it is gone.

    A disk that was unmounted would otherwise be continued on the disk below it.

    Raises:
        CaseError: the folder has vanished.
    """
    words = (
        f"the output folder {output} has vanished in mid-run (deleted, renamed or unmounted); put it back and give the "
        "same command again"
    )
    if not output.is_dir():
        raise CaseError(words)
    try:
        yield
    except OSError as error:
        if output.is_dir():
            raise
        raise CaseError(words) from error


def sweep_output(output: Path, options: OutputOptions, cases: Iterable[str]) -> None:
    """Removes what killed runs and workers left behind."""
    for parent in sorted({output / options.names(case).folder.parent for case in cases}):
        with contextlib.suppress(OSError):  # the next run tries again
            sweep(parent)
    with contextlib.suppress(OSError):
        sweep(output, OWN_FILES)


def describe_output(output: Path, options: OutputOptions, model: Model) -> None:
    """Writes what a BIDS output has at its root."""
    if options.bids:
        description = bids_description(__version__, model.name, model.weights_sha256)
        for name, text in zip(BIDS_FILES, (json.dumps(description, indent=2) + "\n", BIDS_IGNORE), strict=True):
            write_whole(output / name, text)
