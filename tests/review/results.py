"""An output folder to be reviewed: results of drawn spines, written as infer.py writes them, without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ivdjax.config import parse_config
from ivdjax.data.datasets import CaseFiles, read_case
from ivdjax.discs.evidence import Anchor
from ivdjax.imaging.files import write_volume
from ivdjax.inference.case_result import conclude, prepare_case
from ivdjax.inference.cohort import write_summary
from ivdjax.inference.corrections import Corrections
from ivdjax.inference.results import OutputOptions, write_result
from ivdjax.inference.stored_evidence import StoredEvidence
from ivdjax.model.model import Model
from ivdjax.model.provenance import provenance
from ivdjax.reports.tables import CaseSummary
from tests.discs.conftest import GRID, SpineBuilder, disc, height_of

MODEL = Model(
    parse_config({"name": "drawn", "data": {"channels": ["t2"], "synthetic": True},
                  "preparation": {"spacing_mm": [1.5, 1.25]}, "inference": {"registration": False}}),
    {}, {"weights_sha256": "w"},
)  # fmt: skip


def store_case(root: Path, name: str, off: int = 0, remnant: bool = False, **drawn) -> CaseSummary:
    """A case with the discs 1 to 8; the program's own result has every level too high by `off`.

    With a remnant there is a smaller S1/S2 below, which the program leaves out, and a canal behind the spine.
    """
    spine = SpineBuilder(**drawn)
    if remnant:
        spine = spine.with_body("S1/S2", disc(0, 0.8))
    folder = root / "data" / name
    folder.mkdir(parents=True)
    image = np.where(spine.mask(), 200.0, 60.0) + np.random.default_rng(0).normal(0, 5, GRID.shape)
    write_volume(folder / f"{name}_t2.nii.gz", image.astype(np.float32), GRID)
    files = CaseFiles(name, name, {"t2": folder / f"{name}_t2.nii.gz"})
    case, evidence = read_case(files, ("t2",)), spine.evidence()
    if remnant:
        tissues = np.zeros((2, *GRID.shape), np.float32)
        tissues[1, 8:12, 20:230, -12:-6] = 0.9
        evidence = replace(evidence, tissue_probability=tissues)
    prepared = prepare_case(MODEL, case)
    assert prepared.grid.matches(evidence.grid)
    wrong = Corrections(name).with_anchor(Anchor(3 + off, (0.0, 0.0, float(height_of(3))))) if off else None
    result = conclude(MODEL, case, prepared, evidence, corrections=wrong)
    source = provenance(files, MODEL) | Corrections(name).facts()
    kept = StoredEvidence(files, MODEL, prepared, evidence, source)
    write_result(root / "out", files, result, MODEL, source, OutputOptions(), Corrections(name), kept)
    return CaseSummary(name, "done", result.verdict, result.reasons, len(result.discs), 1.0)


def store_cases(root: Path, **off: int) -> Path:
    """An output folder with cases by name, each with every level too high by the number given, and a failed one.

    Those whose levels are right have a remnant below L5/S1.
    """
    (root / "out").mkdir()
    rows = [store_case(root, name, steps, remnant=not steps) for name, steps in off.items()]
    rows.append(CaseSummary("broken", "failed", reasons=("case broken: no image",)))
    write_summary(root / "out", rows, OutputOptions())
    return root / "out"
