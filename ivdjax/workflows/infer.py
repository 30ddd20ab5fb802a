"""Inference over a cohort: inputs become result folders and one summary; a bad case never costs the others."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ivdjax import __version__
from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.discs.evidence import Anchor
from ivdjax.imaging.folders import clean_leftovers
from ivdjax.reports.tables import SUMMARY, CaseSummary, write_whole
from ivdjax.volume import Case, CaseError, UserError
from ivdjax.workflows.cohort import PAGE, case_line, write_summary
from ivdjax.workflows.commands import describe_os_error
from ivdjax.workflows.compare import write_changes
from ivdjax.workflows.inputs import InputCase, find_inputs
from ivdjax.workflows.model import Model, override_inference, read_model
from ivdjax.workflows.names import BIDS_IGNORE, bids_description, refuse_shared_folders
from ivdjax.workflows.provenance import provenance
from ivdjax.workflows.results import OutputOptions, refuse_foreign, stored_summary, write_result
from ivdjax.workflows.supervisor import Task, run_cohort
from ivdjax.workflows.visits import find_visits, subjects_of
from ivdjax.workflows.worker import Pipeline

if TYPE_CHECKING:  # at run time it would load JAX where cases are only handed out
    from ivdjax.workflows.segmenter import CaseResult


@dataclass(frozen=True)
class InferenceRequest:
    """What to infer.

    Attributes:
        model: the model's folder.
        output: where the case folders and the summary go.
        inputs: as on the command line.
        case: name of the one case, for channel=path pairs or a single image.
        overwrite: compute again what is already there, and replace results of another input or model.
        timeout_s: seconds after which a case is given up; None: never.
        overrides: other settings of the model, each as `inference.key=value`.
        anchor: the level of one disc of the one case.
        options: which further outputs there are, and how all are named.
        subject_pattern: regular expression whose first group is a case's subject: visits of one are then compared.
        subject_table: CSV with the columns case and subject, in place of the pattern.
    """

    model: Path
    output: Path
    inputs: tuple[str, ...]
    case: str | None = None
    overwrite: bool = False
    timeout_s: float | None = None
    overrides: tuple[str, ...] = ()
    anchor: Anchor | None = None
    options: OutputOptions = field(default_factory=OutputOptions)
    subject_pattern: str = ""
    subject_table: str = ""

    @property
    def compares_visits(self) -> bool:
        """Whether the visits of a subject are compared."""
        return bool(self.subject_pattern or self.subject_table)


def infer(request: InferenceRequest) -> list[CaseSummary]:
    """Works on every case in a worker process and writes the summary; one row a case, in the inputs' order.

    The summary is written also when the run is interrupted, with the cases known so far. It keeps the rows of earlier
    runs into the same folder whose results are still there.

    Raises:
        UserError: model, overrides, inputs or output cannot be used, an anchor for several cases, a case without a
            subject, or names that BIDS cannot have; nothing was started.
        CaseError: all cases were worked on, but visits cannot be compared.
        OSError: the summary cannot be written.
    """
    begin = time.monotonic()
    model = override_inference(read_model(request.model), request.overrides)
    cases = find_inputs(request.inputs, model.channels, request.case)
    _refuse_request(request, cases)
    output, options = request.output, request.options
    rows: dict[str, CaseSummary] = {}
    with tqdm(total=len(cases), desc="discs", unit="case", disable=None) as bar:

        def settle(row: CaseSummary) -> None:
            rows[row.case] = row
            bar.write(case_line(row, output, options), file=sys.stdout)
            bar.update()

        for row in _settled_rows(cases, request, model):
            settle(row)
        tasks = [Task(case.name, case.files) for case in cases if case.name not in rows]
        _make_output(request, model)
        try:
            pipeline = case_pipeline(request, model)
            for result in run_cohort(tasks, pipeline, request.timeout_s, output / "infer.log"):
                row = CaseSummary(result.case, "failed", reasons=(result.reason,)) if result.failed else result.payload
                settle(replace(row, seconds=round(result.seconds, 1)))
        finally:
            _clean_up(
                request, [task.case for task in tasks if task.case not in rows or rows[task.case].status == "failed"]
            )
            ordered = [rows[case.name] for case in cases if case.name in rows]
            write_summary(output, ordered, options)
    counts = {status: sum(row.status == status for row in ordered) for status in ("done", "skipped", "failed")}
    words = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    print(f"{words} in {time.monotonic() - begin:.1f} s; summary: {output / SUMMARY}, {output / PAGE}")
    if request.compares_visits:
        _write_changes(request)
    return ordered


def case_pipeline(request: InferenceRequest, model: Model) -> Pipeline:
    """What a worker process does with a case: reads it, finds its discs, and writes its folder."""
    return Pipeline(
        partial(_build_read, request, model), partial(_build_find, request), partial(_build_write, request, model)
    )


def _build_read(request: InferenceRequest, model: Model) -> Callable[[CaseFiles], tuple[CaseFiles, dict, Case]]:
    def read(files: CaseFiles) -> tuple[CaseFiles, dict, Case]:
        source = provenance(files, model, request.overrides, request.anchor)
        return files, source, read_case(files, model.channels, partial=True)

    return read


def _build_find(request: InferenceRequest) -> Callable[[Any], Any]:
    from ivdjax.workflows.segmenter import find_discs, load_segmenter  # JAX is the worker's alone

    segmenter = load_segmenter(request.model, request.overrides)

    def find(read: tuple[CaseFiles, dict, Case]) -> tuple[CaseFiles, dict, CaseResult]:
        files, source, case = read
        return files, source, find_discs(segmenter, case, request.anchor, request.options.probabilities)

    return find


def _build_write(request: InferenceRequest, model: Model) -> Callable[[Any], CaseSummary]:
    def write(found: tuple[CaseFiles, dict, CaseResult]) -> CaseSummary:
        files, source, result = found
        write_result(request.output, files, result, model, source, request.options)
        return CaseSummary(files.name, "done", result.verdict, result.reasons, len(result.discs))

    return write


def _clean_up(request: InferenceRequest, names: Sequence[str]) -> None:
    """Removes what a killed worker was writing for these cases."""
    for name in names:
        with contextlib.suppress(OSError):  # the next run that writes the case tries again
            clean_leftovers(request.output / request.options.names(name).folder)


def _settled_rows(cases: Sequence[InputCase], request: InferenceRequest, model: Model) -> list[CaseSummary]:
    """The rows of cases that need no work: those with a problem, and those that are whole already.

    Raises:
        UserError: a case's folder holds something else, or results of another input, model or anchor and overwriting
            was not asked for.
    """
    rows: list[CaseSummary] = []
    differing: list[str] = []
    for case in cases:
        if case.files is None:
            rows.append(CaseSummary(case.name, "failed", reasons=(case.problem,)))
            continue
        names = request.options.names(case.name)
        refuse_foreign(request.output, case.files, names)
        if request.overwrite or not (request.output / names.folder).exists():
            continue
        try:
            source = provenance(case.files, model, request.overrides, request.anchor)
            stored = stored_summary(request.output, case.files, source, request.options)
        except OSError as error:
            rows.append(CaseSummary(case.name, "failed", reasons=(f"case {case.name}: {describe_os_error(error)}",)))
            continue
        if stored is not None:
            rows.append(stored)
        else:
            differing.append(case.name)
    if differing:
        some = ", ".join(differing[:8]) + (f" and {len(differing) - 8} more" if len(differing) > 8 else "")
        raise UserError(
            f"{request.output} holds results of another input, model, setting, anchor or form for {len(differing)} of "
            f"{len(cases)} cases ({some}); use --overwrite to replace them, or another --output"
        )
    return rows


def _refuse_request(request: InferenceRequest, cases: Sequence[InputCase]) -> None:
    """Whatever cannot be done with these cases, before any work.

    Raises:
        UserError: an anchor for several cases, names that BIDS cannot have, or a case without a subject.
    """
    if request.anchor is not None and len(cases) != 1:
        raise UserError(f"--anchor pins a level of one case, but INPUT holds {len(cases)}; give one case")
    refuse_shared_folders(request.options.names(case.name) for case in cases)
    if request.compares_visits:
        subjects_of([case.name for case in cases], request.output, request.subject_pattern, request.subject_table)


def _write_changes(request: InferenceRequest) -> None:
    """Compares the visits of each subject in the output folder.

    Raises:
        CaseError: they cannot be compared.
    """
    try:
        visits = find_visits(request.output, request.subject_pattern, request.subject_table)
        print(write_changes(request.output, visits).words())
    except UserError as error:
        raise CaseError(f"visits were not compared: {error}") from error


def _make_output(request: InferenceRequest, model: Model) -> None:
    folder = request.output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {folder} cannot be made: {describe_os_error(error)}") from error
    if request.options.bids:
        description = bids_description(__version__, model.name, model.weights_sha256)
        write_whole(folder / "dataset_description.json", json.dumps(description, indent=2) + "\n")
        write_whole(folder / ".bidsignore", BIDS_IGNORE)
