"""How one case of a cohort is run: read and prepared; seen by the networks; numbered, measured and written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.inference.corrections import Corrections
from ivdjax.inference.output_folder import kept_output
from ivdjax.inference.request import InferenceRequest
from ivdjax.inference.results import write_result
from ivdjax.inference.stored_evidence import StoredEvidence
from ivdjax.inference.worker import Pipeline
from ivdjax.model.model import Model
from ivdjax.reports.tables import CaseSummary
from ivdjax.volume import Case

if TYPE_CHECKING:
    from ivdjax.data.preparation import Prepared
    from ivdjax.discs.evidence import Evidence


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
    from ivdjax.inference.case_result import prepare_case  # what only a worker needs, a worker imports

    def read(files: CaseFiles) -> _Work:
        with kept_output(request.output):  # no case is computed that could not be stored
            pass
        corrections, source = request.decided_source(files, model)
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
    from ivdjax.inference.case_result import conclude

    def write(work: _Work) -> CaseSummary:
        assert work.evidence is not None
        evidence = work.evidence
        if model.config.inference.numbering == "solver":  # the other ways register something else
            evidence = registered(evidence, model.config.inference)
        kept = StoredEvidence(work.files, model, work.prepared, evidence, work.source)
        result = conclude(model, work.case, work.prepared, evidence, request.options.probabilities, work.corrections)
        own = conclude(model, work.case, work.prepared, evidence) if work.corrections.changes_result else None
        with kept_output(request.output):
            write_result(
                request.output, work.files, result, model, work.source, request.options, work.corrections, kept, own
            )
        decided = tuple(entry.words() for entry in work.corrections.in_force)
        return CaseSummary(
            work.files.name, "done", result.verdict, result.reasons, len(result.discs),
            probability_wrong=result.probability_wrong, remarks=result.remarks, corrected=decided,
            lordosis=result.lordosis,
        )  # fmt: skip

    return write
