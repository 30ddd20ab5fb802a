"""Inference over a cohort: inputs become result folders and one summary; a bad case never costs the others."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.discs.evidence import Anchor
from ivdjax.reports.tables import SUMMARY, CaseSummary, summary_csv, write_whole
from ivdjax.volume import UserError
from ivdjax.workflows.commands import describe_os_error
from ivdjax.workflows.inputs import InputCase, find_inputs
from ivdjax.workflows.model import Model, override_inference, read_model
from ivdjax.workflows.results import provenance, refuse_foreign, stored_summary, write_result
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
        overrides: other settings of the model, each as `inference.key=value`.
        anchor: the level of one disc of the one case.
    """

    model: Path
    output: Path
    inputs: tuple[str, ...]
    case: str | None = None
    overwrite: bool = False
    timeout_s: float | None = None
    overrides: tuple[str, ...] = ()
    anchor: Anchor | None = None


def infer(request: InferenceRequest) -> list[CaseSummary]:
    """Works on every case in a worker process and writes the summary; one row a case, in the inputs' order.

    The summary is written also when the run is interrupted, with the cases known so far. It keeps the rows of earlier
    runs into the same folder whose results are still there.

    Raises:
        UserError: model, overrides, inputs or output cannot be used, or an anchor for several cases; nothing was
            started.
        OSError: the summary cannot be written.
    """
    begin = time.monotonic()
    model = override_inference(read_model(request.model), request.overrides)
    cases = find_inputs(request.inputs, model.channels, request.case)
    if request.anchor is not None and len(cases) != 1:
        raise UserError(f"--anchor pins a level of one case, but INPUT holds {len(cases)}; give one case")
    rows: dict[str, CaseSummary] = {}
    with tqdm(total=len(cases), desc="discs", unit="case", disable=None) as bar:
        for row in _settled_rows(cases, request, model):
            rows[row.case] = row
            _tell(row, request.output, bar)
        tasks = [Task(case.name, case.files) for case in cases if case.name not in rows]
        _make_output(request.output)
        try:
            build = partial(build_worker, str(request.model), str(request.output), request.overrides, request.anchor)
            for result in run_cohort(tasks, build, request.timeout_s, request.output / "infer.log"):
                row = CaseSummary(result.case, "failed", reasons=(result.reason,)) if result.failed else result.payload
                rows[result.case] = replace(row, seconds=round(result.seconds, 1))
                _tell(rows[result.case], request.output, bar)
        finally:
            ordered = [rows[case.name] for case in cases if case.name in rows]
            earlier = _earlier_rows(request.output, {case.name for case in cases})
            write_whole(request.output / SUMMARY, summary_csv([*earlier, *ordered]))
    counts = {status: sum(row.status == status for row in ordered) for status in ("done", "skipped", "failed")}
    words = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    print(f"{words} in {time.monotonic() - begin:.1f} s; summary: {request.output / SUMMARY}")
    return ordered


def build_worker(model: str, output: str, overrides: Sequence[str] = (),
                 anchor: Anchor | None = None) -> Callable[[CaseFiles], CaseSummary]:  # fmt: skip
    """In a worker process: loads and compiles the model once, and gives the function that works on a case."""
    from ivdjax.workflows.segmenter import find_discs, load_segmenter  # JAX is the worker's alone

    segmenter = load_segmenter(model, overrides)

    def work(files: CaseFiles) -> CaseSummary:
        source = provenance(files, segmenter.model, overrides, anchor)
        result = find_discs(segmenter, read_case(files, segmenter.model.channels, partial=True), anchor)
        write_result(Path(output) / files.name, files, result, segmenter.model, source)
        return CaseSummary(files.name, "done", result.verdict, result.reasons, len(result.discs))

    return work


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
        folder = request.output / case.name
        refuse_foreign(folder, case.files)
        if request.overwrite or not folder.exists():
            continue
        try:
            stored = stored_summary(folder, case.name, provenance(case.files, model, request.overrides, request.anchor))
        except OSError as error:
            rows.append(CaseSummary(case.name, "failed", reasons=(f"case {case.name}: {describe_os_error(error)}",)))
            continue
        if stored is not None:
            rows.append(stored)
        else:
            differing.append(case.name)
    if differing:
        names = ", ".join(differing[:8]) + (f" and {len(differing) - 8} more" if len(differing) > 8 else "")
        raise UserError(
            f"{request.output} holds results of another input, model, setting or anchor for {len(differing)} of "
            f"{len(cases)} cases ({names}); use --overwrite to replace them, or another --output"
        )
    return rows


def _make_output(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {folder} cannot be made: {describe_os_error(error)}") from error


def _earlier_rows(output: Path, names: set[str]) -> list[CaseSummary]:
    """Rows of an earlier summary about other cases whose results are still there."""
    path = output / SUMMARY
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return list(_parsed_rows(csv.DictReader(stream), output, names))


def _parsed_rows(table: Iterable[dict[str, str]], output: Path, names: set[str]) -> Iterable[CaseSummary]:
    for row in table:
        case = row.get("case") or ""
        if case in names or not (output / case / f"{case}_discs.json").is_file():
            continue
        discs, seconds = row.get("discs") or "", row.get("seconds") or ""
        yield CaseSummary(
            case,
            row.get("status") or "",
            row.get("verdict") or "",
            tuple(text for text in (row.get("reasons") or "").split("; ") if text),
            int(discs) if discs.isdigit() else None,
            float(seconds) if seconds.replace(".", "", 1).isdigit() else None,
        )


def _tell(row: CaseSummary, output: Path, bar: tqdm) -> None:
    """One line about a case, as soon as it is known."""
    if row.status == "failed":
        line = f"{row.case}: FAILED: {'; '.join(row.reasons)}"
    else:
        reasons = f" ({'; '.join(row.reasons)})" if row.reasons else ""
        line = (
            f"{row.case}: {row.discs} discs, {row.verdict}{reasons}; {output / row.case / (row.case + '_overview.png')}"
        )
    bar.write(line, file=sys.stdout)
    bar.update()
