"""The output folder of one case: label map, tables, picture, report and viewers' files, whole or not at all; and
reading it again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ivdjax import __version__
from ivdjax.data.datasets import CaseFiles
from ivdjax.discs.change import detectable_changes
from ivdjax.discs.evidence import Anchor
from ivdjax.imaging.files import read_labels, write_labels
from ivdjax.imaging.files.dicom import DicomSeries
from ivdjax.imaging.files.dicom_seg import write_dicom_seg
from ivdjax.imaging.files.dicom_sr import write_dicom_sr
from ivdjax.imaging.files.label_tables import bids_labels, itksnap_labels, slicer_colors
from ivdjax.imaging.files.probability import write_probability
from ivdjax.imaging.files.seg_nrrd import write_seg_nrrd
from ivdjax.imaging.files.source import source_folder
from ivdjax.imaging.folders import whole_folder, write_whole
from ivdjax.inference.corrections import Corrections, corrections_text, map_numbers, read_corrections
from ivdjax.inference.disc_segments import disc_segments
from ivdjax.inference.names import CaseNames, bids_names, bids_sidecar, csv_as_tsv, plain_names
from ivdjax.inference.stored_evidence import StoredEvidence, write_stored_evidence
from ivdjax.model.model import Model
from ivdjax.model.provenance import validation_words
from ivdjax.reports.coded_measures import codes_of, disc_readings
from ivdjax.reports.level_sheet import has_grades, level_text
from ivdjax.reports.overview import overview_png
from ivdjax.reports.page import Report, write_report
from ivdjax.reports.tables import CaseSummary, disc_csv, disc_json
from ivdjax.volume import ASSUMPTION, READERS, CaseError, LabelMap, Lordosis, UserError

if TYPE_CHECKING:  # at run time it would load JAX where cases are only handed out
    from ivdjax.inference.case_result import CaseResult


@dataclass(frozen=True)
class OutputOptions:
    """Which outputs a case gets beside those that it always has.

    Attributes:
        bids: name them as a BIDS derivative dataset does.
        probabilities: write the probability of disc too.
        anonymous: leave the patient out of the DICOM segmentation and the DICOM report.
    """

    bids: bool = False
    probabilities: bool = False
    anonymous: bool = False

    def names(self, case: str) -> CaseNames:
        """What the files of a case are called.

        Raises:
            UserError: the case's name gives no BIDS label.
        """
        return bids_names(case) if self.bids else plain_names(case)

    def expected(self) -> tuple[str, ...]:
        """Kinds of files that a whole result has, but for the DICOM files, which a case without discs lacks."""
        kinds = ["labels", "csv", "json", "overview", "report", "text", "itksnap", "slicer", "seg_nrrd"]
        if self.bids:
            kinds += ["sidecar", "label_table"]
        return (*kinds, "probability") if self.probabilities else tuple(kinds)


def refuse_foreign(output: Path, files: CaseFiles, names: CaseNames, parts: bool = False) -> None:
    """Makes sure that a case's output folder may be replaced: it is absent, empty, or holds an earlier result.

    Args:
        output: the folder of all cases.
        files: of the case.
        names: of its outputs.
        parts: whether a folder without the JSON, with nothing but files of the case's own names, counts as a result.

    Raises:
        UserError: it holds the case's own images, or anything else that no inference wrote.
    """
    folder = output / names.folder
    holding = [source_folder(source).resolve() for source in files.channels.values()]
    if any(folder.resolve() in (images, *images.parents) for images in holding):
        raise UserError(
            f"{folder} holds the images of case {files.name}: results would replace them; choose another --output"
        )
    if not folder.exists() or (folder / names.name("json")).is_file():
        return
    own = set(names.files.values()) if parts else set()
    if not folder.is_dir() or any(path.name not in own for path in folder.iterdir()):
        if other := _other_form(output, names):
            raise UserError(f"{folder} holds a result of case {files.name} with {other}, or choose another --output")
        raise UserError(
            f"{folder} exists and holds no result of case {files.name}: it is not replaced; choose another --output"
        )


def _other_form(output: Path, names: CaseNames) -> str:
    """Which names an earlier result of a case has, and what to do about it; empty where there is none."""
    forms = ((bids_names, "BIDS names: add --bids"), (plain_names, "plain names: leave out --bids"))
    for form, words in forms:
        with suppress(UserError):
            if (output / form(names.case).path("json")).is_file():
                return words
    return ""


def write_result(
    output: Path, files: CaseFiles, result: CaseResult, model: Model, source: Mapping[str, Any],
    options: OutputOptions, corrections: Corrections | None = None, kept: StoredEvidence | None = None,
    own: CaseResult | None = None, before_replacing: Callable[[], None] | None = None,
) -> None:  # fmt: skip
    """Writes every output of a case into its folder, which appears whole or not at all.

    A DICOM segmentation and a DICOM report of its measures are written where the first channel comes from a DICOM
    series and a disc was found; a series that cannot be referred to costs these files alone, and is remarked.

    Args:
        output: the folder of all cases.
        files: of the case.
        result: what was found in it.
        model: that found it.
        source: what the result depends on (`provenance`).
        options: what else is written, and under which names.
        corrections: that the result follows; they are kept beside it.
        kept: what numbering the discs again takes; None: it is left out.
        own: the program's own result, where corrections have changed it: it is kept beside the corrected one.
        before_replacing: called when all is written, before the folder takes the place of an older one; what it raises
            leaves the older one.

    Raises:
        UserError: as `refuse_foreign`.
        OSError: the disk is full or not writable.
    """
    names = options.names(files.name)
    corrected = corrections is not None and corrections.changes_result
    refuse_foreign(output, files, names)
    with whole_folder(output / names.folder) as part:
        write_labels(part / names.name("labels"), result.labels)
        if result.tissues is not None:
            write_labels(part / names.name("tissues"), result.tissues)
        if _is_dicom(files):
            remarks = _write_dicom(part, names, files, result, model, options, corrected)
            result = replace(result, warnings=(*result.warnings, *remarks))
        _write_tables(part, names, result, model, source, options)
        _write_for_viewers(part, names, result, options)
        if options.probabilities and result.probability is not None:
            native = result.labels.native or result.labels.grid
            write_probability(part / names.name("probability"), result.probability, native)
        elif options.probabilities and (earlier := output / names.path("probability")).is_file():
            shutil.copyfile(earlier, part / earlier.name)  # a review changes nothing of it
        if kept is not None:
            write_stored_evidence(part / names.name("evidence"), kept)
        _write_report(part, names, result, model, source, corrections or Corrections(files.name))
        if own is not None:
            _write_own(part, names, own, source)
        if corrections is not None and corrections.history:
            write_whole(part / names.name("corrections"), corrections_text(corrections))
            for number, drawn in corrections.drawn.items():
                write_labels(part / names.outlines(number), drawn)
        if before_replacing is not None:
            before_replacing()


def _write_own(part: Path, names: CaseNames, own: CaseResult, source: Mapping[str, Any]) -> None:
    """What the program found by itself: label map, verdict and table."""
    write_labels(part / names.name("own_labels"), own.labels)
    facts = {**source, "anchor": None, "deleted_mm": [], "corrections": [], "decisions": 0}
    document = disc_json(own.case.name, own.verdict, own.reasons, own.discs, **_told(own), **facts)
    write_whole(part / names.name("own_json"), document)


def stored_corrections(output: Path, case: str, options: OutputOptions) -> Corrections:
    """What people have decided about a case, from its result folder; nothing where there is no such file.

    A level that was pinned before there was such a file is taken from the result itself.

    Raises:
        UserError: as `read_corrections`.
    """
    names = options.names(case)
    found = read_corrections(output / names.path("corrections"), case)
    if found.history:
        return _with_outlines(found, output, names)
    document = read_document(output / names.path("json"))
    pinned = document.get("anchor")
    if "corrections" in document or not isinstance(pinned, dict):
        return found
    try:
        return found.with_anchor(Anchor(int(pinned["level"]), tuple(map(float, pinned["point_mm"]))))  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        return found


def _with_outlines(corrections: Corrections, output: Path, names: CaseNames) -> Corrections:
    """The corrections with all maps that people have drawn; one that was taken back may be gone."""
    needed = map_numbers(corrections.in_force)
    drawn: dict[int, LabelMap] = {}
    for number in sorted(set(map_numbers(corrections.history))):
        path = output / names.folder / names.outlines(number)
        if number not in needed and not path.is_file():
            continue
        try:
            drawn[number] = read_labels(path, corrections.case)
        except CaseError as error:
            raise UserError(
                f"the edited outlines of case {corrections.case} are gone: {error}; put the file back, or take the "
                "corrections back with --reset-corrections"
            ) from error
    return replace(corrections, drawn=drawn)


def stored_summary(output: Path, files: CaseFiles, source: Mapping[str, Any],
                   options: OutputOptions) -> CaseSummary | None:  # fmt: skip
    """The summary of a case that is whole with the same input, model, corrections and outputs; None if it is not."""
    names = options.names(files.name)
    folder = output / names.folder
    if not all(_has_content(folder / names.files[kind]) for kind in options.expected()):
        return None
    stored = read_document(folder / names.name("json"))
    try:
        if any(stored[key] != source[key] for key in ("input", "model")):
            return None  # the model's hash covers its settings, so that overrides need no look of their own
        if _decided(stored) != _decided(source):
            return None
        if _is_dicom(files) and stored["anonymous"] != options.anonymous:
            return None
        return CaseSummary(
            files.name, "skipped", stored["verdict"], tuple(stored["reasons"]), len(stored["discs"]),
            probability_wrong=stored.get("probability_wrong"), remarks=tuple(stored.get("remarks") or ()),
            corrected=tuple(stored.get("corrections") or ()), lordosis=Lordosis.of_document(stored.get("spine") or {}),
        )  # fmt: skip
    except (KeyError, TypeError):
        return None


def is_corrected_anew(output: Path, files: CaseFiles, source: Mapping[str, Any], options: OutputOptions) -> bool:
    """Whether a stored result differs from what is wanted in its corrections alone: it is then made anew, unasked."""
    stored = read_document(output / options.names(files.name).path("json"))
    decided = {key: stored.get(key) for key in _decided(source)}
    return stored_summary(output, files, {**source, **decided}, options) is not None


def _decided(source: Mapping[str, Any]) -> dict[str, Any]:
    """What people decided of a result that makes it another; None for nothing, as in results of earlier versions."""
    return {key: source.get(key) or None for key in ("anchor", "deleted_mm", "corrections", "decisions")}


def follows(document: Mapping[str, Any], corrections: Corrections) -> bool:
    """Whether a case's JSON is of a result that has all decisions applied; a kill may have come between."""
    return all((document.get(key) or None) == (fact or None) for key, fact in corrections.facts().items())


def _has_content(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def read_document(path: Path) -> dict[str, Any]:
    """A case's JSON; empty where there is none that can be read."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


SESSION_RESULTS = "ses-*/anat/*_desc-discs_result.json"
"""The disc JSON files of all sessions in a BIDS subject's folder."""


def result_documents(folder: Path) -> list[Path]:
    """The disc JSON files in a result folder, or those of all sessions in a BIDS subject's folder; none elsewhere."""
    for pattern in ("*_discs.json", "*_desc-discs_result.json", "anat/*_desc-discs_result.json", SESSION_RESULTS):
        found = [path for path in folder.glob(pattern) if not path.name.startswith(".") and path.is_file()]
        if found:
            return sorted(found)
    return []


def _write_tables(
    part: Path, names: CaseNames, result: CaseResult, model: Model, source: Mapping[str, Any], options: OutputOptions
) -> None:
    table = disc_csv(result.discs)
    write_whole(part / names.name("csv"), csv_as_tsv(table) if options.bids else table)
    document = disc_json(
        result.case.name, result.verdict, result.reasons, result.discs, **_told(result),
        anonymous=options.anonymous, repeatability=model.meta.get("repeatability"), codes=codes_of(result.discs),
        grades=READERS if has_grades(disc.measures for disc in result.discs) else None,
        **source,
    )  # fmt: skip
    write_whole(part / names.name("json"), document)


def _told(result: CaseResult) -> dict[str, Any]:
    """What a result says beside its verdict and discs."""
    blanks = {str(disc.level): disc.missing for disc in result.discs if disc.missing}
    return {
        "probability_wrong": result.probability_wrong, "remarks": list(result.remarks),
        "findings": list(result.findings), "assumption": ASSUMPTION, "warnings": list(result.warnings),
        **({"spine": result.lordosis.document} if result.lordosis.measures else {}),
        **({"not_measured": blanks} if blanks else {}),
    }  # fmt: skip


def _write_for_viewers(part: Path, names: CaseNames, result: CaseResult, options: OutputOptions) -> None:
    segments = disc_segments(result.labels.levels)
    write_whole(part / names.name("itksnap"), itksnap_labels(segments))
    write_whole(part / names.name("slicer"), slicer_colors(segments))
    if options.bids:
        write_whole(part / names.name("label_table"), bids_labels(segments))
        write_whole(part / names.name("sidecar"), json.dumps(bids_sidecar(), indent=2) + "\n")
    write_seg_nrrd(part / names.name("seg_nrrd"), result.labels, segments)


def _write_dicom(
    part: Path, names: CaseNames, files: CaseFiles, result: CaseResult, model: Model, options: OutputOptions,
    corrected: bool,
) -> tuple[str, ...]:  # fmt: skip
    """Writes the DICOM segmentation of a case whose first channel is a series, and the DICOM report of its measures;
    remarks where that is not possible."""
    path = part / names.name("dicom_seg")
    series = next(iter(files.channels.values()))
    assert isinstance(series, DicomSeries)
    try:
        found = write_dicom_seg(
            path, result.labels, series, disc_segments(result.labels.levels), case=files.name,
            description="Intervertebral discs, corrected by a person" if corrected else "Intervertebral discs",
            model_name=f"ivdjax {model.name}", model_version=__version__,
            weights_sha256=model.weights_sha256, anonymous=options.anonymous, corrected=corrected,
        )  # fmt: skip
        if found:
            write_dicom_sr(part / names.name("dicom_sr"), path, disc_readings(result.discs), case=files.name)
    except CaseError as error:
        return (f"no DICOM {'report of the measures' if path.exists() else 'segmentation'} was written: {error}",)
    return ()


def _write_report(
    part: Path, names: CaseNames, result: CaseResult, model: Model, source: Mapping[str, Any], decided: Corrections
) -> None:
    case, corrected = result.case, decided.changes_result
    overview = overview_png(
        case.volume, result.labels, result.discs, case.name, result.verdict, result.reasons, result.left_out
    )
    write_whole(part / names.name("overview"), overview)
    report = Report(
        case=case.name, verdict=result.verdict, reasons=result.reasons, discs=result.discs, overview_png=overview,
        model=model.name, validated_on=validation_words(model), synthetic=model.config.data.synthetic,
        warnings=result.warnings, probability_wrong=result.probability_wrong, remarks=result.remarks,
        findings=result.findings, volume=case.volume, labels=result.labels, left_out=result.left_out,
        provenance=source, detectable=detectable_changes(model.meta.get("repeatability")), lordosis=result.lordosis,
        corrected=corrected, accepted_by=decided.accepted_by,
    )  # fmt: skip
    write_report(part / names.name("report"), report)
    write_whole(part / names.name("text"), level_text(result.discs, result.lordosis, corrected))


def _is_dicom(files: CaseFiles) -> bool:
    return isinstance(next(iter(files.channels.values()), None), DicomSeries)
