"""What a run of inference is asked for, and what of it cannot be done."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ivdjax.commands.commands import refuse_in_the_way
from ivdjax.data.datasets import CaseFiles
from ivdjax.discs.evidence import Anchor
from ivdjax.inference.corrections import Correction, Corrections
from ivdjax.inference.inputs import InputCase
from ivdjax.inference.names import refuse_shared_folders
from ivdjax.inference.output_folder import OWN_FILES
from ivdjax.inference.ray_cohort import RayOptions
from ivdjax.inference.results import OutputOptions, stored_corrections
from ivdjax.inference.visits.visits import subjects_of
from ivdjax.model.model import Model
from ivdjax.model.provenance import provenance
from ivdjax.volume import UserError


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

    def decided_source(self, files: CaseFiles, model: Model) -> tuple[Corrections, dict[str, Any]]:
        """The corrections of a case, and what its result depends on with them.

        Raises:
            UserError: the stored corrections cannot be read.
        """
        corrections = self.corrections(files.name)
        source = provenance(files, model, self.overrides, corrections.anchor)
        return corrections, source | corrections.facts()

    @property
    def compares_visits(self) -> bool:
        """Whether the visits of a subject are compared."""
        return bool(self.subject_pattern or self.subject_table)


def refuse_request(request: InferenceRequest, cases: Sequence[InputCase]) -> None:
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
