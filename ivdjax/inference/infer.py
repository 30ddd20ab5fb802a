"""Inference over a cohort: inputs become result folders and one summary; a bad case never costs the others."""

from __future__ import annotations

import contextlib
import difflib
import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ivdjax import __version__
from ivdjax.commands.commands import describe_os_error, refuse_in_the_way
from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.discs.evidence import Anchor
from ivdjax.imaging.folders import alone, sweep, write_whole
from ivdjax.inference.cohort import PAGE, case_line, renew_disc_table, write_summary
from ivdjax.inference.cohort_table import TABLE
from ivdjax.inference.corrections import Correction, Corrections
from ivdjax.inference.inputs import InputCase, find_inputs
from ivdjax.inference.kept import Kept
from ivdjax.inference.names import BIDS_IGNORE, bids_description, refuse_shared_folders
from ivdjax.inference.ray_cohort import RayOptions, run_on_ray
from ivdjax.inference.results import (
    OutputOptions,
    is_corrected_anew,
    refuse_foreign,
    stored_corrections,
    stored_summary,
    write_result,
)
from ivdjax.inference.selection import selected
from ivdjax.inference.supervisor import Result, Task, run_cohort
from ivdjax.inference.visits.compare import CSV_FILE, JSON_FILE, PAGE_FILE, bids_visits, compared_visits, write_changes
from ivdjax.inference.visits.visits import find_visits, subjects_of
from ivdjax.inference.worker import Pipeline
from ivdjax.model.model import Model, override_inference, read_model
from ivdjax.model.provenance import provenance
from ivdjax.reports.tables import SUMMARY, CaseSummary
from ivdjax.volume import Case, CaseError, UserError

if TYPE_CHECKING:
    from ivdjax.data.preparation import Prepared
    from ivdjax.discs.evidence import Evidence

LOG = "infer.log"
"""Name of the workers' log in the output folder."""

_BIDS_FILES = ("dataset_description.json", ".bidsignore")

OWN_FILES: tuple[str, ...] = (SUMMARY, TABLE, PAGE, LOG, CSV_FILE, JSON_FILE, PAGE_FILE, *_BIDS_FILES)
"""Names of what is written into the output folder itself, which no case's folder may have."""


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
        anchors: likewise, by case.
        reset_corrections: take back what people decided about the cases before.
        options: which further outputs there are, and how all are named.
        subject_pattern: regular expression whose first group is a case's subject: visits of one are then compared.
        subject_table: CSV with the columns case and subject, in place of the pattern.
        where: conditions on the rows of an earlier summary, which choose the cases (`ivdjax.inference.selection`).
        summary: that summary, or its folder; None: the one in the output folder.
        ray: where to run on a cluster; None: in one worker process on this machine.
    """

    model: Path
    output: Path
    inputs: tuple[str, ...]
    case: str | None = None
    overwrite: bool = False
    timeout_s: float | None = None
    overrides: tuple[str, ...] = ()
    anchor: Anchor | None = None
    anchors: Mapping[str, Anchor] = field(default_factory=dict)
    reset_corrections: bool = False
    options: OutputOptions = field(default_factory=OutputOptions)
    subject_pattern: str = ""
    subject_table: str = ""
    where: tuple[str, ...] = ()
    summary: Path | None = None
    ray: RayOptions | None = None

    def corrections(self, case: str) -> Corrections:
        """What people have decided about a case: what lies beside its result, and what this request adds to it.

        Raises:
            UserError: the stored corrections cannot be read.
        """
        kept = stored_corrections(self.output, case, self.options)
        if self.reset_corrections and kept.in_force:
            kept = kept.with_entry(Correction("reset"))
        return kept.with_anchor(self.anchors.get(case, self.anchor))

    @property
    def compares_visits(self) -> bool:
        """Whether the visits of a subject are compared."""
        return bool(self.subject_pattern or self.subject_table)


def infer(request: InferenceRequest) -> list[CaseSummary]:
    """Works on every case in a worker process and writes the summary; one row a case, in the inputs' order.

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
    _refuse_request(request, cases)
    with _own_output(request.output):
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
    rows: dict[str, CaseSummary] = {}

    def conclude() -> list[CaseSummary]:
        _sweep_output(request, cases)
        ordered = [_kept(rows[case.name], request) for case in cases if case.name in rows]
        with _kept_output(output):
            write_summary(output, ordered, options)
        return ordered

    with tqdm(total=len(cases), desc="discs", unit="case", disable=None) as bar:

        def settle(row: CaseSummary) -> None:
            rows[row.case] = row
            bar.write(case_line(row, output, options), file=sys.stdout)
            bar.update()

        _sweep_output(request, cases)
        for row in _settled_rows(cases, request, model):
            settle(row)
        _describe_output(request, model)
        tasks = [Task(case.name, case.files) for case in cases if case.name not in rows]
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


def _results(tasks: Sequence[Task], pipeline: Pipeline, request: InferenceRequest) -> Iterator[Result]:
    """The results of the tasks, from this machine's worker or from a cluster."""
    log = request.output / LOG
    if request.ray is None:
        return run_cohort(tasks, pipeline, request.timeout_s, log)
    return run_on_ray(tasks, pipeline, request.ray, request.timeout_s, log, request.output) if tasks else iter(())


@dataclass(frozen=True, eq=False)
class _Work:
    """A case between two steps: its files, what its result will depend on, and what is known of it."""

    files: CaseFiles
    corrections: Corrections
    source: dict[str, Any]
    case: Case
    prepared: Prepared
    evidence: Evidence | None = None


def case_pipeline(request: InferenceRequest, model: Model) -> Pipeline:
    """What a worker process does with a case: reads and prepares it; runs the networks; numbers, measures and writes.

    Only the second step needs the device, and only it waits for JAX.
    """
    return Pipeline(
        partial(_build_read, request, model),
        partial(_build_look, request, model),
        partial(_build_write, request, model),
    )


def _build_read(request: InferenceRequest, model: Model) -> Callable[[CaseFiles], _Work]:
    from ivdjax.inference.findings import prepare_case  # what only a worker needs, a worker imports

    def read(files: CaseFiles) -> _Work:
        with _kept_output(request.output):  # no case is computed that could not be stored
            pass
        corrections, source = _decided_source(request, files, model)
        case = read_case(files, model.channels, partial=True)
        return _Work(files, corrections, source, case, prepare_case(model, case))

    return read


def _build_look(request: InferenceRequest, model: Model) -> Callable[[_Work], _Work]:
    from ivdjax.inference.segmenter import build_segmenter, look  # JAX is the worker's alone

    segmenter = build_segmenter(model, request.model)

    def ask_networks(work: _Work) -> _Work:
        prepared, evidence = look(segmenter, work.prepared)
        return replace(work, prepared=prepared, evidence=evidence)

    return ask_networks


def _build_write(request: InferenceRequest, model: Model) -> Callable[[_Work], CaseSummary]:
    from ivdjax.discs.spine_line import registered
    from ivdjax.inference.findings import conclude

    def write(work: _Work) -> CaseSummary:
        assert work.evidence is not None
        evidence = work.evidence
        if model.config.inference.numbering == "solver":  # the other ways register something else
            evidence = registered(evidence, model.config.inference)
        kept = Kept(work.files, model, work.prepared, evidence, work.source)
        result = conclude(model, work.case, work.prepared, evidence, request.options.probabilities, work.corrections)
        own = conclude(model, work.case, work.prepared, evidence) if work.corrections.changes_result else None
        with _kept_output(request.output):
            write_result(
                request.output, work.files, result, model, work.source, request.options, work.corrections, kept, own
            )
        decided = tuple(entry.words() for entry in work.corrections.in_force)
        return CaseSummary(
            work.files.name, "done", result.verdict, result.reasons, len(result.discs),
            probability_wrong=result.probability_wrong, remarks=result.remarks, corrected=decided,
        )  # fmt: skip

    return write


def _decided_source(request: InferenceRequest, files: CaseFiles, model: Model) -> tuple[Corrections, dict[str, Any]]:
    """The corrections of a case, and what its result depends on with them."""
    corrections = request.corrections(files.name)
    source = provenance(files, model, request.overrides, corrections.anchor)
    return corrections, source | corrections.facts()


@contextlib.contextmanager
def _own_output(output: Path) -> Iterator[None]:
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
            raise UserError(
                f"another infer.py is at work in {output}; wait for it, or give each run an --output of its own"
            )
        try:
            yield
        finally:
            if made:
                with contextlib.suppress(OSError):
                    output.rmdir()


@contextlib.contextmanager
def _kept_output(output: Path) -> Iterator[None]:
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


def _kept(row: CaseSummary, request: InferenceRequest) -> CaseSummary:
    """A row as it holds at the end: a result that somebody has removed meanwhile is none."""
    if row.failed or (request.output / request.options.names(row.case).path("json")).is_file():
        return row
    reason = f"case {row.case}: its result has vanished in mid-run; give the same command again"
    return CaseSummary(row.case, "failed", reasons=(reason,), seconds=row.seconds)


def _sweep_output(request: InferenceRequest, cases: Sequence[InputCase]) -> None:
    """Removes what killed runs and workers left behind."""
    for parent in sorted(
        {request.output / request.options.names(case.name).folder.parent for case in cases if case.files}
    ):
        with contextlib.suppress(OSError):  # the next run tries again
            sweep(parent)
    with contextlib.suppress(OSError):
        sweep(request.output, OWN_FILES)


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
            _, source = _decided_source(request, case.files, model)
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


def _refuse_request(request: InferenceRequest, cases: Sequence[InputCase]) -> None:
    """Whatever cannot be done with these cases, before any work.

    Raises:
        UserError: an anchor for several cases, names that BIDS cannot have or that the output's own files have, a case
            without a subject, or something in the output folder in the place of one of its own files.
    """
    refuse_in_the_way(request.output, OWN_FILES)
    whole = [case for case in cases if not case.left_over]
    if request.anchor is not None and len(whole) != 1:
        raise UserError(
            f"--anchor pins a level of one case, but INPUT holds {len(whole)}; give one case, or --anchors with a table"
        )
    known = {case.name for case in cases}
    if strange := sorted(request.anchors.keys() - known):
        near = difflib.get_close_matches(strange[0], known, n=1)
        advice = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"--anchors names {', '.join(strange[:8])}, which INPUT does not hold{advice}")
    names = [request.options.names(case.name) for case in cases if case.files]
    refuse_shared_folders(names)
    for one in names:
        if str(one.folder).casefold() in OWN_FILES:
            raise UserError(
                f"case {one.case} has the name of a file that is written to --output; rename it, or use --case"
            )
    if request.compares_visits:
        subjects_of([case.name for case in whole], request.output, request.subject_pattern, request.subject_table)


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


def _describe_output(request: InferenceRequest, model: Model) -> None:
    """Writes what a BIDS output has at its root."""
    if request.options.bids:
        description = bids_description(__version__, model.name, model.weights_sha256)
        for name, text in zip(_BIDS_FILES, (json.dumps(description, indent=2) + "\n", BIDS_IGNORE), strict=True):
            write_whole(request.output / name, text)
