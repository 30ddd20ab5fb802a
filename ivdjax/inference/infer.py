"""Inference over a cohort: inputs become result folders and one summary; a bad case never costs the others."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tqdm import tqdm

from ivdjax.commands.commands import describe_os_error
from ivdjax.inference.case_pipeline import case_pipeline
from ivdjax.inference.cohort import PAGE, case_line, renew_disc_table, write_summary
from ivdjax.inference.inputs import InputCase, find_inputs
from ivdjax.inference.output_folder import LOG, describe_output, kept_output, own_output, sweep_output
from ivdjax.inference.ray_cohort import run_on_ray
from ivdjax.inference.request import InferenceRequest, refuse_request
from ivdjax.inference.results import is_corrected_anew, refuse_foreign, stored_summary
from ivdjax.inference.selection import selected
from ivdjax.inference.supervisor import CaseTask, Result, run_cohort
from ivdjax.inference.visits.compare import bids_visits, compared_visits, write_changes
from ivdjax.inference.visits.visits import find_visits
from ivdjax.inference.worker import Pipeline
from ivdjax.model.model import Model, override_inference, read_model
from ivdjax.reports.tables import SUMMARY, CaseSummary
from ivdjax.volume import CaseError, UserError


def infer(request: InferenceRequest) -> list[CaseSummary]:
    """Works on every case in a worker process and writes the summary; one row per case, in the inputs' order.

    The summary is written also when the run is interrupted, with the cases known so far. It keeps the rows of earlier
    runs into the same folder. One run at a time has an output folder to itself.

    Raises:
        UserError: model, overrides, inputs or output cannot be used, another run is at work in the output folder, an
            anchor for several cases, a case without a subject, or names that BIDS cannot have; nothing was started.
        CaseError: all cases were worked on, but the output folder has vanished, or visits cannot be compared.
        OSError: the summary cannot be written.
    """
    begin = time.monotonic()
    model = override_inference(read_model(request.model), request.overrides)
    cases = find_inputs(request.inputs, model.channels, request.case, request.output)
    cases = _chosen(request, cases)
    refuse_request(request, cases)
    with own_output(request.output):
        ordered = _infer_alone(request, cases, model)
        counts = {
            status: sum(row.status == status for row in ordered) for status in ("done", "skipped", "failed", "unread")
        }
        words = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
        summary, page = request.output / SUMMARY, request.output / PAGE
        print(f"{words} in {time.monotonic() - begin:.1f} s; summary: {summary}, {page}")
        if request.compares_visits or any(row.status == "done" for row in ordered):
            _write_changes(request)
    return ordered


def _chosen(request: InferenceRequest, cases: list[InputCase]) -> list[InputCase]:
    """The cases that fulfil the request's conditions; all where it has none.

    Raises:
        UserError: no summary, a condition that cannot be used, or none of the cases fulfils them.
    """
    if not request.where:
        return cases
    wanted = selected(request.summary or request.output, request.where)
    chosen = [case for case in cases if case.name in wanted]
    if not chosen:
        raise UserError(f"{' and '.join(request.where)} chooses {len(wanted)} cases, of which INPUT holds none")
    return chosen


def _infer_alone(request: InferenceRequest, cases: Sequence[InputCase], model: Model) -> list[CaseSummary]:
    """As `infer`, in an output folder that is there and that no other run touches."""
    output, options = request.output, request.options
    read_names = [case.name for case in cases if case.files]
    rows: dict[str, CaseSummary] = {}

    def conclude() -> list[CaseSummary]:
        sweep_output(output, options, read_names)
        ordered = [_kept(rows[case.name], request) for case in cases if case.name in rows]
        with kept_output(output):
            write_summary(output, ordered, options)
        return ordered

    with tqdm(total=len(cases), desc="discs", unit="case", disable=None) as bar:

        def settle(row: CaseSummary) -> None:
            rows[row.case] = row
            bar.write(case_line(row, output, options), file=sys.stdout)
            bar.update()

        sweep_output(output, options, read_names)
        for row in _settled_rows(cases, request, model):
            settle(row)
        describe_output(output, options, model)
        tasks = [CaseTask(case.name, case.files) for case in cases if case.name not in rows]
        try:
            pipeline = case_pipeline(request, model)
            for result in _results(tasks, pipeline, request):
                row = CaseSummary(result.case, "failed", reasons=(result.reason,)) if result.failed else result.payload
                settle(replace(row, seconds=round(result.seconds, 1)))
        except UserError:  # no worker became ready: nothing was started, and what was there stays as it is
            raise
        except BaseException:
            with contextlib.suppress(OSError, CaseError):  # why the run ends matters more
                conclude()
            raise
        return conclude()


def _results(tasks: Sequence[CaseTask], pipeline: Pipeline, request: InferenceRequest) -> Iterator[Result]:
    """The results of the tasks, from this machine's worker or from a cluster."""
    log = request.output / LOG
    if request.ray is None:
        return run_cohort(tasks, pipeline, request.timeout_s, log)
    return run_on_ray(tasks, pipeline, request.ray, request.timeout_s, log, request.output) if tasks else iter(())


def _kept(row: CaseSummary, request: InferenceRequest) -> CaseSummary:
    """A row as it holds at the end: a result that somebody has removed meanwhile is none."""
    if row.failed or (request.output / request.options.names(row.case).path("json")).is_file():
        return row
    reason = f"case {row.case}: its result has vanished in mid-run; give the same command again"
    return CaseSummary(row.case, "failed", reasons=(reason,), seconds=row.seconds)


def _settled_rows(cases: Sequence[InputCase], request: InferenceRequest, model: Model) -> list[CaseSummary]:
    """The rows of cases that need no work: those with a problem, and those that are whole already.

    Raises:
        UserError: a case's folder holds something else, or results of another input or model and overwriting was not
            asked for.
    """
    rows: list[CaseSummary] = []
    differing: list[str] = []
    for case in cases:
        if case.files is None:
            rows.append(CaseSummary(case.name, "unread", reasons=(case.problem,)))
            continue
        names = request.options.names(case.name)
        refuse_foreign(request.output, case.files, names)
        if request.overwrite or not (request.output / names.folder).exists():
            continue
        try:
            _, source = request.decided_source(case.files, model)
            stored = stored_summary(request.output, case.files, source, request.options)
        except OSError as error:
            rows.append(CaseSummary(case.name, "failed", reasons=(f"case {case.name}: {describe_os_error(error)}",)))
            continue
        except UserError as error:  # corrections that cannot be read cost their case alone, and are kept
            rows.append(CaseSummary(case.name, "failed", reasons=(f"case {case.name}: {error}",)))
            continue
        if stored is not None:
            rows.append(stored)
        elif not is_corrected_anew(request.output, case.files, source, request.options):
            differing.append(case.name)
    if differing:
        some = ", ".join(differing[:8]) + (f" and {len(differing) - 8} more" if len(differing) > 8 else "")
        raise UserError(
            f"{request.output} holds results of another input, model, setting or form for {len(differing)} of "
            f"{len(cases)} cases ({some}); use --overwrite to replace them, or another --output"
        )
    return rows


def _write_changes(request: InferenceRequest) -> None:
    """Compares the visits of each subject in the output folder.

    Where nothing was said of subjects, those that were compared before are, and sessions of a BIDS dataset.

    Raises:
        CaseError: they cannot be compared, though it was asked for.
    """
    try:
        if request.compares_visits:
            visits = find_visits(request.output, request.subject_pattern, request.subject_table)
        else:
            visits = compared_visits(request.output) or bids_visits(request.output)
        if visits:
            print(write_changes(request.output, visits).words())
            renew_disc_table(request.output, request.options)
    except UserError as error:
        if request.compares_visits:
            raise CaseError(f"visits were not compared: {error}") from error
        print(f"note: visits were not compared: {error}", file=sys.stderr)
