"""What a model found in a volume, as a user of the Python API sees it: measures, arrays, picture and files."""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.data.datasets import CaseFiles
from ivdjax.imaging.folders import whole_folder
from ivdjax.imaging.geometry import from_canonical
from ivdjax.inference.case_result import CaseResult
from ivdjax.inference.names import KINDS, is_folder_name
from ivdjax.inference.results import OutputOptions, refuse_foreign, write_result
from ivdjax.inference.stored_evidence import StoredEvidence
from ivdjax.model.model import Model
from ivdjax.reports.disc_table import disc_table_html
from ivdjax.reports.overview import overview_png
from ivdjax.reports.tables import disc_rows
from ivdjax.volume import ASSUMPTION, Disc, LabelMap, UserError, Volume


@dataclass(frozen=True, eq=False)
class DiscResult:
    """What a model found in a volume. In a notebook it shows itself as picture and table.

    Attributes:
        name: what the volume was called.
        volume: the image (C, D, H, W) in canonical order, as the model saw it.
        labels: numbered discs (D, H, W) on the same grid: 0 background, 1 = L5/S1 upward.
        discs: the found discs with their measures, from the lowest up.
        verdict: "ok" or "review".
        reasons: for a review, in short sentences, the decisive first.
        warnings: what was remarked on reading and preparing the volume.
        model: the model's name.
        synthetic: whether the model was trained on synthetic images alone.
        validated_on: what the model was validated on, in plain words; empty where that is not known.
        probability: float32 (D, H, W) of disc, 0 to 1, on the same grid.
        probability_wrong: that a level is wrong or a disc in view is missing, 0 to 1.
        remarks: what else may be worth knowing; they decide nothing.
        findings: of the spine itself: a likely transitional vertebra.
    """

    name: str
    volume: Volume
    labels: LabelMap
    discs: tuple[Disc, ...]
    verdict: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    model: str
    synthetic: bool
    validated_on: str
    probability: NDArray[np.float32]
    _found: Found | None = field(default=None, repr=False)
    probability_wrong: float | None = None
    remarks: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()

    def save(
        self,
        output: str | Path,
        parts: Sequence[str] | None = None,
        *,
        bids: bool = False,
        anonymous: bool = False,
        overwrite: bool = False,
    ) -> Path:
        """Writes what `ivdjax infer` writes for a case, into a folder of the result's name; gives that folder.

        The folder appears whole or not at all. Where the images came from memory, the files in which `ivdjax review`
        finds them again are left out.

        Args:
            output: the folder of all cases.
            parts: what is written, of `SAVED_PARTS`; None: everything but the probability.
            bids: whether files are named as in a BIDS derivative dataset.
            anonymous: whether the patient is left out of the DICOM files.
            overwrite: whether a result that is there already is replaced.

        Raises:
            UserError: an unknown part, a name that no folder can have, a result of that name that is there or that a
                person has corrected, or a folder that holds anything else.
            OSError: the disk is full or not writable.
        """
        if self._found is None:
            raise UserError("this result was made by hand and cannot be saved; only a model's own can")
        unknown = [part for part in parts or () if part not in SAVED_PARTS]
        if unknown:
            raise UserError(f"there is no part {', '.join(unknown)}; parts are {', '.join(SAVED_PARTS)}")
        if not is_folder_name(self.name):
            raise UserError(f"{self.name!r} cannot be the name of a folder; pass another name to the model")
        options = OutputOptions(bids, "probability" in (parts or ()), anonymous)
        names = options.names(self.name)
        folder = Path(output) / names.folder
        decided = folder / names.name("corrections")
        if decided.exists():
            raise UserError(f"{decided} holds what people decided about this case, and is not replaced; choose another "
                            "output, or let `ivdjax infer --overwrite` keep it")  # fmt: skip
        if not overwrite and folder.is_dir() and any(folder.iterdir()):
            raise UserError(f"{folder} is there already; pass overwrite=True, or another output or name")
        self._found.write(Path(output), self, options, parts)
        return folder

    def label_array(self) -> NDArray[np.uint8]:
        """The label map in the axis order of the image that was given, to be indexed and stored with its affine."""
        return np.asarray(from_canonical(self.labels.array, self.labels.native or self.labels.grid))

    def probability_array(self) -> NDArray[np.float32]:
        """The probability of disc, 0 to 1, in the axis order of the image that was given."""
        return np.asarray(from_canonical(self.probability, self.labels.native or self.labels.grid))

    def table(self) -> list[dict[str, Any]]:
        """One mapping per disc, from the lowest up, with the columns of the disc table; `pandas.DataFrame` takes it."""
        return disc_rows(self.discs)

    def picture(self) -> bytes:
        """The overview picture as PNG: sagittal and coronal planes, every disc outlined and named."""
        left_out = self._found.result.left_out if self._found is not None else None
        return overview_png(self.volume, self.labels, self.discs, self.name, self.verdict, self.reasons, left_out)

    def __repr__(self) -> str:
        found = ", ".join(disc.level_name for disc in self.discs) or "none"
        why = f" ({'; '.join(self.reasons)})" if self.reasons else ""
        return f"<{len(self.discs)} discs in {self.name!r}: {found}; {self.verdict}{why}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: verdict, reasons, picture and table; every text from outside is escaped."""
        picture = base64.b64encode(self.picture()).decode("ascii")
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in (*self.reasons, *self.findings))
        synthetic = "<p><b>The model was trained on synthetic images alone.</b></p>" if self.synthetic else ""
        return (
            f"<p><b>{escape(self.name)}: {escape(self.verdict)}</b></p><ul>{reasons}</ul>{synthetic}"
            f'<img style="max-width:100%" alt="overview" src="data:image/png;base64,{picture}">'
            f"{disc_table_html(self.discs)}<p><small>{ASSUMPTION} {escape(self.model)}. "
            f"{escape(self.validated_on)} For research; not a medical device.</small></p>"
        )


SAVED_PARTS: tuple[str, ...] = tuple(kind for kind in KINDS if not kind.startswith("own_")
                                     and kind not in ("corrections", "outlines"))  # fmt: skip
"""What `DiscResult.save` can write, by the names that `ivdjax.inference.names` has for the files of a case."""


@dataclass(frozen=True, eq=False)
class Found:
    """What saving a result takes beside what a user sees of it."""

    model: Model
    files: CaseFiles
    result: CaseResult
    kept: StoredEvidence | None
    source: Mapping[str, Any]

    def write(self, output: Path, shown: DiscResult, options: OutputOptions, parts: Sequence[str] | None) -> None:
        """Writes the case's folder, or some of its files; an earlier result may have been saved in parts too."""
        names = options.names(shown.name)
        refuse_foreign(output, self.files, names, parts=True)
        with tempfile.TemporaryDirectory() as whole, whole_folder(output / names.folder) as part:
            write_result(Path(whole), self.files, self.result, self.model, self.source, options, kept=self.kept)
            for kind in KINDS if parts is None else parts:
                made = Path(whole) / names.folder / names.files.get(kind, "")
                if made.is_file():
                    shutil.copyfile(made, part / made.name)
