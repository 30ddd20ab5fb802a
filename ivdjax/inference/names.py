"""What the files of a case are called: plain names, or those of a BIDS derivative dataset.

Everything here is text; nothing is read or written. BIDS: "Derivatives", sections "Segmentations" and "Dataset
description", of the specification, version 1.10.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

from ivdjax.commands.commands import is_utf8
from ivdjax.data.datasets import folded
from ivdjax.schema import is_path_part
from ivdjax.volume import UserError

Kind = Literal[
    "labels", "csv", "json", "overview", "report", "text", "itksnap", "slicer", "seg_nrrd", "dicom_seg", "dicom_sr",
    "probability", "tissues", "evidence", "sidecar", "label_table", "corrections", "outlines", "own_labels",
    "own_json",
]  # fmt: skip
"""Files of a case. Only BIDS has `sidecar` and `label_table` (the label map's own JSON; its names and colours); only a
case that a person has decided about has `corrections`, `outlines` (edited in another program) and the program's own
result, `own_labels` and `own_json`."""

KINDS: tuple[str, ...] = get_args(Kind)

BIDS_VERSION = "1.10.0"

_PLAIN: dict[str, str] = {
    "labels": "{case}_discs.nii.gz",
    "csv": "{case}_discs.csv",
    "json": "{case}_discs.json",
    "overview": "{case}_overview.png",
    "report": "report.html",
    "text": "{case}_report.txt",
    "itksnap": "{case}_discs.label",
    "slicer": "{case}_discs.ctbl",
    "seg_nrrd": "{case}_discs.seg.nrrd",
    "dicom_seg": "{case}_discs.dcm",
    "dicom_sr": "{case}_measures.dcm",
    "probability": "{case}_probability.nii.gz",
    "tissues": "{case}_tissues.nii.gz",
    "evidence": "{case}_evidence.npz",
    "corrections": "{case}_corrections.json",
    "outlines": "{case}_outlines.nii.gz",
    "own_labels": "{case}_uncorrected.nii.gz",
    "own_json": "{case}_uncorrected.json",
}

_BIDS: dict[str, str] = {
    "labels": "{stem}_desc-discs_dseg.nii.gz",
    "sidecar": "{stem}_desc-discs_dseg.json",
    "label_table": "{stem}_desc-discs_dseg.tsv",
    "probability": "{stem}_label-disc_desc-discs_probseg.nii.gz",
    "tissues": "{stem}_desc-tissues_dseg.nii.gz",
    # The specification has no names for what follows; `BIDS_IGNORE` tells validators so.
    "csv": "{stem}_desc-discs_measures.tsv",
    "json": "{stem}_desc-discs_result.json",
    "overview": "{stem}_desc-discs_overview.png",
    "report": "{stem}_desc-discs_report.html",
    "text": "{stem}_desc-discs_report.txt",
    "itksnap": "{stem}_desc-discs_itksnap.label",
    "slicer": "{stem}_desc-discs_slicer.ctbl",
    "seg_nrrd": "{stem}_desc-discs_segmentation.seg.nrrd",
    "dicom_seg": "{stem}_desc-discs_segmentation.dcm",
    "dicom_sr": "{stem}_desc-discs_measures.dcm",
    "evidence": "{stem}_desc-discs_evidence.npz",
    "corrections": "{stem}_desc-discs_corrections.json",
    "outlines": "{stem}_desc-edited_dseg.nii.gz",
    "own_labels": "{stem}_desc-uncorrected_dseg.nii.gz",
    "own_json": "{stem}_desc-uncorrected_result.json",
}

BIDS_IGNORE = """\
*_measures.tsv
*_result.json
*_overview.png
*_report.html
*_report.txt
*_itksnap.label
*_slicer.ctbl
*_segmentation.seg.nrrd
*_segmentation.dcm
*_measures.dcm
*_evidence.npz
*_corrections.json
index.html
summary.csv
discs.csv
changes.*
infer.log
"""
"""Content of `.bidsignore` at the root of a BIDS output: files that are no part of the standard."""

_ENTITY = re.compile(r"([a-z]+)-([0-9a-zA-Z]+)")
_OUTLINES_END = re.compile(r"(_outlines|_desc-edited)((?:_dseg)?\.nii\.gz)$")
_SUFFIX = re.compile(r"[0-9a-zA-Z]+")
_OWN_ENTITIES = {"space", "seg", "res", "den", "label", "desc"}
"""Entities that a derivative gives itself; the source's are not carried over."""


@dataclass(frozen=True)
class CaseNames:
    """Where the outputs of one case go, relative to the output folder.

    Attributes:
        case: its name.
        folder: of all its files, and of no other case's.
        files: their names in that folder, by kind.
    """

    case: str
    folder: PurePosixPath
    files: Mapping[str, str]

    def name(self, kind: Kind) -> str:
        """The file's name in its folder.

        Raises:
            KeyError: these names have no such kind of file (`sidecar` and `label_table` are for BIDS alone).
        """
        return self.files[kind]

    def outlines(self, number: int) -> str:
        """Name of the map that a person has drawn as the case's `number`th; the first has a name without a number."""
        name = self.files["outlines"]
        return name if number == 1 else _OUTLINES_END.sub(rf"\g<1>{number}\g<2>", name)

    def path(self, kind: Kind) -> PurePosixPath:
        """The file's path from the output folder; errors as `name`."""
        return self.folder / self.files[kind]


def is_result_file(name: str) -> bool:
    """Whether a file's name is that of a case's measures in an output, plain or BIDS."""
    return name.endswith((_PLAIN["json"].removeprefix("{case}"), _BIDS["json"].removeprefix("{stem}")))


def plain_names(case: str) -> CaseNames:
    """`<case>/<case>_discs.nii.gz` and so on."""
    return CaseNames(case, PurePosixPath(case), {kind: name.format(case=case) for kind, name in _PLAIN.items()})


def bids_names(case: str) -> CaseNames:
    """`sub-01/ses-02/anat/sub-01_ses-02_desc-discs_dseg.nii.gz` and so on.

    A name that follows BIDS (`sub-01`, `sub-01_ses-02`, `sub-01_ses-02_acq-sag_T2w`) keeps its subject, session and
    further entities. Any other name becomes the subject's label, reduced to the letters and digits that BIDS allows:
    `patient 7_b` gives `sub-patient7b`.

    Raises:
        UserError: nothing of the name is left.
    """
    entities = _entities(case) or {"sub": _label(case)}
    stem = "_".join(f"{key}-{value}" for key, value in entities.items())
    folder = PurePosixPath(f"sub-{entities['sub']}")
    if "ses" in entities:
        folder /= f"ses-{entities['ses']}"
    return CaseNames(case, folder / "anat", {kind: name.format(stem=stem) for kind, name in _BIDS.items()})


def refuse_shared_folders(names: Iterable[CaseNames]) -> None:
    """Makes sure that no two cases write into one folder, on file systems that ignore case or how accents are written.

    Raises:
        UserError: two cases would, and which.
    """
    seen: dict[str, str] = {}
    for one in names:
        key = folded(str(one.folder))
        if key in seen:
            raise UserError(
                f"cases {seen[key]} and {one.case} would both be written to {one.folder}; rename one, or name visits "
                "as sub-LABEL_ses-LABEL"
            )
        seen[key] = one.case


def bids_description(version: str, model: str, weights_sha256: str) -> dict[str, Any]:
    """Content of `dataset_description.json` at the root of a BIDS output.

    Args:
        version: of the program.
        model: its folder's name.
        weights_sha256: of the model.
    """
    return {
        "Name": "Intervertebral discs outlined by ivdjax",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [
            {
                "Name": "ivdjax",
                "Version": version,
                "Description": f"Discs outlined, numbered and measured with the model {model} ({weights_sha256})",
            }
        ],
    }


def bids_sidecar() -> dict[str, Any]:
    """Content of the JSON file beside a label map: drawn by a program, on the grid of the image it belongs to."""
    return {
        "Description": "Intervertebral discs: 1 = L5/S1, 2 = L4/5 and so on upward",
        "Manual": False,
        "SpatialReference": "orig",
    }


def csv_as_tsv(text: str) -> str:
    """A CSV table as BIDS writes tables: tabs between columns, n/a in empty cells."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    for row in csv.reader(io.StringIO(text)):
        writer.writerow([cell if cell.strip() else "n/a" for cell in row])
    return stream.getvalue()


def is_folder_name(name: str) -> bool:
    """Whether results can be stored in a folder of that name: one part of a path, not hidden, valid UTF-8."""
    return is_path_part(name) and is_utf8(name)


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts names with numbers in them by those numbers: visit2 before visit10."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((0, int(part), "") if part.isascii() and part.isdigit() else (1, 0, part) for part in parts if part)


def _entities(case: str) -> dict[str, str] | None:
    """Subject, session and further entities of a name that follows BIDS, in its order; None of any other name."""
    parts = case.split("_")
    if len(parts) > 1 and _SUFFIX.fullmatch(parts[-1]):
        parts = parts[:-1]
    matches = [_ENTITY.fullmatch(part) for part in parts]
    found: dict[str, str] = {}
    for place, match in enumerate(matches):
        if match is None or match[1] in found or (match[1] == "sub") != (place == 0):
            return None
        if match[1] == "ses" and place != 1:
            return None
        found[match[1]] = match[2]
    return {key: value for key, value in found.items() if key not in _OWN_ENTITIES}


def _label(case: str) -> str:
    """The ASCII letters and digits of a name, accents taken off."""
    plain = unicodedata.normalize("NFKD", case).encode("ascii", "ignore").decode()
    label = re.sub("[^0-9a-zA-Z]", "", plain)
    if not label:
        raise UserError(f"--bids: case {case!r} has no letter or digit that a BIDS label may have; rename it")
    return label
