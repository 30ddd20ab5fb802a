"""Inference over a cohort: inputs become result folders and one summary; a bad case never costs the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.reports.tables import SUMMARY, CaseSummary, summary_csv, write_whole
from ivdjax.volume import UserError
from ivdjax.workflows.inputs import InputCase, find_inputs
from ivdjax.workflows.model import read_model
from ivdjax.workflows.results import provenance, stored_summary, write_result
from ivdjax.workflows.supervisor import Task, run_cohort

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
    """

    model: Path
    output: Path
    inputs: tuple[str, ...]
    case: str | None = None
    overwrite: bool = False
    timeout_s: float | None = None


def infer(request: InferenceRequest) -> list[CaseSummary]:
    """Works on every case in a worker process and writes the summary; one row a case, in the inputs' order.

    Raises:
        UserError: model, inputs or output cannot be used; nothing was started.
        OSError: the summary cannot be written.
    """
    begin = time.monotonic()
    model = read_model(request.model)
    cases = find_inputs(request.inputs, model.channels, request.case)
    rows: dict[str, CaseSummary] = {}
    tasks: list[Task] = []
    for case in cases:
        row = _settled(case, request, lambda files: provenance(files, model))
        if row is not None:
            rows[case.name] = row
        else:
            tasks.append(Task(case.name, case.files))
    request.output.mkdir(parents=True, exist_ok=True)
    log = request.output / "infer.log"
    with tqdm(total=len(cases), initial=len(rows), desc="discs", unit="case", disable=None) as bar:
        build = partial(build_worker, str(request.model), str(request.output))
        for result in run_cohort(tasks, build, request.timeout_s, log):
            row = result.payload if not result.failed else CaseSummary(result.case, "failed", reasons=(result.reason,))
            rows[result.case] = CaseSummary(
                row.case, row.status, row.verdict, row.reasons, row.discs, round(result.seconds, 1)
            )
            bar.update()
    ordered = [rows[case.name] for case in cases]
    write_whole(request.output / SUMMARY, summary_csv(ordered))
    _say(ordered, request.output, time.monotonic() - begin)
    return ordered


def build_worker(model: str, output: str) -> Callable[[CaseFiles], CaseSummary]:
    """In a worker process: loads and compiles the model once, and gives the function that works on a case."""
    from ivdjax.workflows.segmenter import find_discs, load_segmenter

    segmenter = load_segmenter(model)

    def work(files: CaseFiles) -> CaseSummary:
        source = provenance(files, segmenter.model)
        result = find_discs(segmenter, read_case(files, segmenter.model.channels))
        write_result(Path(output) / files.name, result, segmenter.model, source)
        return CaseSummary(files.name, "done", result.verdict, result.reasons, len(result.discs))

    return work


def _settled(case: InputCase, request: InferenceRequest, source_of: Callable[[CaseFiles], dict]) -> CaseSummary | None:
    """The row of a case that needs no work: it has a problem, or is whole already; None if it must be worked on.

    Raises:
        UserError: its folder holds something else, and overwriting was not asked for.
    """
    if case.files is None:
        return CaseSummary(case.name, "failed", reasons=(case.problem,))
    if request.overwrite:
        return None
    folder = request.output / case.name
    if not folder.exists():
        return None
    try:
        stored = stored_summary(folder, case.name, source_of(case.files))
    except OSError as error:
        return CaseSummary(case.name, "failed", reasons=(f"case {case.name}: {error.filename}: {error.strerror}",))
    if stored is None:
        raise UserError(
            f"{folder} holds results of another input, model or version; use --overwrite to replace them, or another "
            "--output"
        )
    return stored


def _say(rows: Sequence[CaseSummary], output: Path, seconds: float) -> None:
    for row in rows:
        if row.status == "failed":
            print(f"{row.case}: FAILED: {'; '.join(row.reasons)}")
        else:
            reasons = f" ({'; '.join(row.reasons)})" if row.reasons else ""
            told = f"{row.discs} discs, {row.verdict}{reasons}"
            print(f"{row.case}: {told}; {output / row.case / (row.case + '_overview.png')}")
    counts = {status: sum(row.status == status for row in rows) for status in ("done", "skipped", "failed")}
    words = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    print(f"{words} in {seconds:.1f} s; summary: {output / SUMMARY}")
