"""The results of a subject's visits: where they lie, what they hold, and whether they may be compared."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ivdjax.commands.commands import describe_os_error
from ivdjax.config import DataConfig
from ivdjax.data.datasets import CaseFiles, assign_subjects
from ivdjax.discs.change import Visit
from ivdjax.inference.names import natural
from ivdjax.inference.results import result_documents
from ivdjax.reports.tables import SCHEMA_VERSION
from ivdjax.volume import UserError

_REPORT = "report.html"
_HIGHEST_LEVEL = 255
"""That a label map can hold."""


@dataclass(frozen=True, eq=False)
class StoredVisit:
    """One visit's result as it lies on the disk.

    Attributes:
        path: of its disc JSON.
        case: the case's name.
        visit: name, verdict and disc rows, for the comparison.
        reasons: for the verdict.
        model: name, weights_sha256 and sha256 (weights and settings) of the model.
        inputs: checksum of each channel's file.
        anchored: whether the user pinned a level.
        schema_version: of the disc JSON.
        program: version of ivdjax that wrote it.
        repeatability: the model's repeatability facts; None where the result has none.
    """

    path: Path
    case: str
    visit: Visit
    reasons: tuple[str, ...]
    model: Mapping[str, Any]
    inputs: Mapping[str, str]
    anchored: bool
    schema_version: int
    program: str
    repeatability: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """Of the visit; different from those of the subject's other visits."""
        return self.visit.name

    def report(self) -> Path | None:
        """The case's page beside the JSON, if there is one."""
        path = self.path.parent / _REPORT
        return path if path.is_file() else None


def read_visit(path: Path) -> StoredVisit:
    """A case's result from its folder or from the disc JSON itself.

    Raises:
        UserError: there is no such folder or file, a folder holds no disc JSON or several, the file cannot be read, is
            no disc table, or was written by a newer version of this program.
    """
    path = _json_path(Path(path))
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {describe_os_error(error)}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON: {error}; infer the case again") from error
    try:
        # What ivdjax infer writes is finite and valid Unicode, and so must be what is made of it.
        json.dumps(document, allow_nan=False, ensure_ascii=False).encode()
        return _parsed(path, document)
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{path} is no disc table of ivdjax ({type(error).__name__}: {str(error)[:300]}); give a folder that "
            "ivdjax infer wrote, or its <case>_discs.json"
        ) from error


def find_visits(results: Path, pattern: str = "", table: str = "") -> dict[str, list[Path]]:
    """The disc tables of an output folder by subject, each subject's in the order of their case names.

    Numbers in names count as numbers: visit2 comes before visit10.

    Args:
        results: an output folder of `ivdjax infer`.
        pattern: regular expression whose first group is a case's subject.
        table: CSV with the columns case and subject, in place of the pattern.

    Raises:
        UserError: no such folder, no result in it, or a pattern or table that cannot be used (see `assign_subjects`).
    """
    results = Path(results)
    if not results.is_dir():
        raise UserError(f"--results must be an output folder of ivdjax infer; there is none at {results}")
    paths = result_paths(results)
    if not paths:
        raise UserError(f"no result in {results}: expected <case>/<case>_discs.json, as ivdjax infer writes it")
    by_subject = subjects_of(list(paths), results, pattern, table)
    return {subject: [paths[name] for name in names] for subject, names in by_subject.items()}


def result_paths(results: Path) -> dict[str, Path]:
    """Where the result of each case of an output folder lies: its folder, or its JSON in a BIDS output."""
    paths = {folder.name: folder for folder in results.iterdir() if folder.is_dir() and _own_documents(folder)}
    return paths | {_case_in(path): path for path in sorted(results.glob(_BIDS_RESULTS))}


def subjects_of(cases: Sequence[str], root: Path, pattern: str = "", table: str = "") -> dict[str, list[str]]:
    """Case names by subject, each subject's in their order, numbers in them counting as numbers.

    Raises:
        UserError: a pattern or table that cannot be used, or gives a case no subject (see `assign_subjects`).
    """
    files = [CaseFiles(name, name, {}) for name in sorted(cases, key=natural)]
    subjects: dict[str, list[str]] = {}
    for case in assign_subjects(files, DataConfig(subject_pattern=pattern, subject_table=table), Path(root)):
        subjects.setdefault(case.subject, []).append(case.name)
    return {subject: subjects[subject] for subject in sorted(subjects, key=natural)}


def named_apart(visits: Sequence[StoredVisit]) -> list[StoredVisit]:
    """The visits with names that differ: where two cases have one name, with their output folders before it."""
    names = _apart([visit.case for visit in visits], [_label(visit.path) for visit in visits])
    return [
        replace(visit, visit=replace(visit.visit, name=name)) for visit, name in zip(visits, names, strict=True)
    ]  # fmt: skip


def refuse_incomparable(subject: str, visits: Sequence[StoredVisit]) -> None:
    """Makes sure that a subject's visits may be compared.

    Raises:
        UserError: one visit alone, one file given twice, or visits of different models or schema versions.
    """
    if len(visits) < 2:
        raise UserError(f"subject {subject} has only one visit, {visits[0].path}; a comparison takes two or more")
    seen: set[Path] = set()
    for visit in visits:
        if visit.path.resolve() in seen:
            raise UserError(f"subject {subject}: {visit.path} is given twice; give each visit once")
        seen.add(visit.path.resolve())
    _same(subject, "schema versions of their disc tables", {v.name: str(v.schema_version) for v in visits})
    weights = {v.name: f"{v.model['name']} ({str(v.model['weights_sha256'])[:12]}...)" for v in visits}
    _same(subject, "models", weights, by={v.name: str(v.model["weights_sha256"]) for v in visits})


def doubts_about(visits: Sequence[StoredVisit]) -> list[str]:
    """What speaks against comparing these visits, though it can be done; in plain words, the weightiest first."""
    texts = []
    for visit in visits:
        if visit.visit.verdict != "ok":
            reasons = f": {'; '.join(visit.reasons)}" if visit.reasons else ""
            texts.append(
                f"{visit.name} has the verdict {visit.visit.verdict}{reasons}. Look at its report before you rely on a "
                "change: where its discs are numbered wrongly, different discs are compared."
            )
    for place, later in enumerate(visits):
        for first in visits[:place]:
            if later.inputs and later.inputs == first.inputs:
                texts.append(f"{first.name} and {later.name} are results of the same images: this is no second visit.")
    if len({frozenset(visit.inputs) for visit in visits}) > 1:
        texts.append("The visits were found in different channels; the figures of the noise do not hold for that.")
    if len({visit.model.get("sha256") for visit in visits}) > 1:
        texts.append("The model was used with different settings; the figures of the noise do not hold for that.")
    if len({visit.program for visit in visits}) > 1:
        versions = ", ".join(dict.fromkeys(visit.program for visit in visits))
        texts.append(f"The visits were measured by different versions of ivdjax ({versions}).")
    if any(visit.anchored for visit in visits):
        names = ", ".join(visit.name for visit in visits if visit.anchored)
        texts.append(f"A level was pinned by hand in {names}.")
    return texts


def _json_path(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"there is no result at {path}; give a folder OUT/<case> that ivdjax infer wrote")
    found = result_documents(path)
    if not found:
        raise UserError(f"{path} holds no <case>_discs.json; give the folder OUT/<case> of a case, or that file itself")
    own = path / f"{path.resolve().name}_discs.json"
    if own in found:
        return own
    if len(found) > 1:
        names = ", ".join(sorted(other.name for other in found)[:4])
        raise UserError(f"{path} holds several disc tables ({names}); give one of the files itself")
    return found[0]


_BIDS_RESULTS = "sub-*/**/anat/*_desc-discs_result.json"


def _case_in(path: Path) -> str:
    """The case that a disc JSON of a BIDS output is about; its file's name where it does not say."""
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["case"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return path.name


def _own_documents(folder: Path) -> list[Path]:
    """The disc JSON files right in a folder."""
    return [path for path in result_documents(folder) if path.parent == folder]


def _parsed(path: Path, document: Any) -> StoredVisit:
    version = document["schema_version"]
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, but this ivdjax reads up to {SCHEMA_VERSION}; use a newer ivdjax"
        )
    model, facts = dict(document["model"]), document.get("repeatability")
    if not model["weights_sha256"]:
        raise ValueError("model.weights_sha256 is empty")
    model |= {key: str(model.get(key, "")) for key in ("name", "weights_sha256", "sha256")}
    rows = {int(row["level"]): dict(row) for row in document["discs"]}
    inputs = {str(channel): str(source["sha256"]) for channel, source in document["input"].items()}
    if not all(1 <= level <= _HIGHEST_LEVEL for level in rows):
        raise ValueError(f"a level is 1 to {_HIGHEST_LEVEL}")
    case, reasons = str(document["case"]), tuple(str(text) for text in document["reasons"])
    return StoredVisit(
        path=path,
        case=case,
        visit=Visit(case, str(document["verdict"]), rows, document.get("anchor") is not None),
        reasons=reasons,
        model=model,
        inputs=inputs,
        anchored=document.get("anchor") is not None,
        schema_version=version,
        program=str(document.get("ivdjax_version", "")),
        repeatability=facts if isinstance(facts, dict) else None,
    )


def _same(subject: str, what: str, shown: Mapping[str, str], by: Mapping[str, str] | None = None) -> None:
    if len(set((by or shown).values())) > 1:
        words = ", ".join(f"{name}: {value}" for name, value in shown.items())
        raise UserError(
            f"subject {subject}: the visits must be comparable, but have different {what} ({words}); infer all of them "
            "again with one model and one version of ivdjax (--overwrite)"
        )


def _apart(cases: Sequence[str], places: Sequence[str]) -> list[str]:
    """Case names, with their places where they coincide, and with the visit's number where that is not enough."""
    names = [f"{place}/{case}" if cases.count(case) > 1 and place else case
             for case, place in zip(cases, places, strict=True)]  # fmt: skip
    return [f"{name} (visit {number})" if names.count(name) > 1 else name for number, name in enumerate(names, start=1)]


def _label(path: Path) -> str:
    """Name of the output folder that holds a case's folder."""
    return Path(os.path.abspath(path)).parent.parent.name  # noqa: PTH100 - a link keeps its own name


__all__ = ["StoredVisit", "doubts_about", "find_visits", "named_apart", "read_visit", "refuse_incomparable"]
