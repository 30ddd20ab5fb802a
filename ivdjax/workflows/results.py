"""The output folder of one case: label map, tables, picture and report, whole or not at all; and reading it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ivdjax import __version__
from ivdjax.config import plain_config
from ivdjax.data.datasets import CaseFiles
from ivdjax.discs.evidence import Anchor
from ivdjax.imaging.files import write_labels
from ivdjax.imaging.folders import whole_folder
from ivdjax.reports.overview import write_overview
from ivdjax.reports.page import Report, write_report
from ivdjax.reports.tables import CaseSummary, disc_csv, disc_json, write_whole
from ivdjax.volume import UserError
from ivdjax.workflows.model import Model

if TYPE_CHECKING:  # at run time it would load JAX where cases are only handed out
    from ivdjax.workflows.segmenter import CaseResult

OUTPUTS = ("{case}_discs.nii.gz", "{case}_discs.csv", "{case}_discs.json", "{case}_overview.png", "report.html")
"""Names of a case's files."""


def refuse_foreign(folder: Path, files: CaseFiles) -> None:
    """Makes sure that a case's output folder may be replaced: it is absent, empty, or holds an earlier result.

    Raises:
        UserError: it holds the case's own images, or anything else that no inference wrote.
    """
    if any(folder.resolve() == path.resolve().parent for path in files.channels.values()):
        raise UserError(
            f"{folder} holds the images of case {files.name}: results would replace them; choose another --output"
        )
    if not folder.exists() or (folder / f"{files.name}_discs.json").is_file():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise UserError(
            f"{folder} exists and holds no result of case {files.name}: it is not replaced; choose another --output"
        )


def provenance(files: CaseFiles, model: Model, overrides: Sequence[str] = (),
               anchor: Anchor | None = None) -> dict[str, Any]:  # fmt: skip
    """What a result depends on: input files by content, the model by weights and settings, an anchor, the program.

    Args:
        files: of the case.
        model: with its settings as they are used, overridden ones included.
        overrides: as the user gave them, for the reader.
        anchor: a level that the user has pinned.

    Raises:
        OSError: a file cannot be read.
    """
    settings = json.dumps(
        {"config": _settings(model), "weights": model.weights_sha256}, sort_keys=True, ensure_ascii=True
    )
    return {
        "input": {channel: {"file": path.name, "sha256": _sha256(path)} for channel, path in files.channels.items()},
        "model": {
            "name": model.name, "weights_sha256": model.weights_sha256,
            "sha256": hashlib.sha256(settings.encode()).hexdigest(), "synthetic": model.config.data.synthetic,
        },
        "overrides": list(overrides),
        "anchor": None if anchor is None else {"level": anchor.level, "point_mm": list(anchor.point_mm)},
        "ivdjax_version": __version__,
    }  # fmt: skip


def write_result(folder: Path, files: CaseFiles, result: CaseResult, model: Model, source: dict[str, Any]) -> None:
    """Writes every output of a case into its folder, which appears whole or not at all.

    Raises:
        UserError: as `refuse_foreign`.
        OSError: the disk is full or not writable.
    """
    refuse_foreign(folder, files)
    case, name = result.case, result.case.name
    with whole_folder(folder) as part:
        write_labels(part / f"{name}_discs.nii.gz", result.labels)
        write_whole(part / f"{name}_discs.csv", disc_csv(result.discs))
        text = disc_json(name, result.verdict, result.reasons, result.discs, warnings=list(result.warnings), **source)
        write_whole(part / f"{name}_discs.json", text)
        overview = part / f"{name}_overview.png"
        write_overview(overview, case.volume, result.labels, result.discs, name, result.verdict, result.reasons)
        report = Report(
            case=name,
            verdict=result.verdict,
            reasons=result.reasons,
            discs=result.discs,
            overview_png=overview.read_bytes(),
            model=model.name,
            validated_on=validation_words(model),
            synthetic=model.config.data.synthetic,
            warnings=result.warnings,
        )
        write_report(part / "report.html", report)


def stored_summary(folder: Path, case: str, source: dict[str, Any]) -> CaseSummary | None:
    """The summary of a case that is already whole with the same input, model and anchor; None if it is not."""
    if not all((folder / name.format(case=case)).is_file() for name in OUTPUTS):
        return None
    try:
        stored = json.loads((folder / f"{case}_discs.json").read_text(encoding="utf-8"))
        if any(stored[key] != source[key] for key in ("input", "model")) or stored.get("anchor") != source["anchor"]:
            return None  # the model's hash covers its settings, so that overrides need no look of their own
        return CaseSummary(case, "skipped", stored["verdict"], tuple(stored["reasons"]), len(stored["discs"]), 0.0)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def validation_words(model: Model) -> str:
    """What a model was validated on, in plain words; empty where its folder does not say."""
    figures = model.meta.get("validation") or {}
    words = ", ".join(f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
                      for name, value in figures.items() if not isinstance(value, dict))  # fmt: skip
    if not words:
        return ""
    data = "synthetic phantoms" if model.config.data.synthetic else model.config.data.credit or "data of its own"
    return f"Held-out cases of {data}: {words}."


def _settings(model: Model) -> dict[str, Any]:
    return {"preparation": plain_config(model.config.preparation), "inference": plain_config(model.config.inference)}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
