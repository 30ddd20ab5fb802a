"""The output folder that is reviewed: its form, its cases, and each case's result as it lies on the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ivdjax.commands.commands import spoken
from ivdjax.data.datasets import CaseFiles
from ivdjax.imaging.files import read_labels
from ivdjax.imaging.folders import alone
from ivdjax.inference.case_result import CaseResult
from ivdjax.inference.cohort import UNDER_REVIEW, cohort_rows
from ivdjax.inference.names import CaseNames
from ivdjax.inference.results import OutputOptions, read_document
from ivdjax.inference.stored_evidence import StoredEvidence, images_of, moved, read_stored_evidence
from ivdjax.reports.cohort import CohortRow
from ivdjax.reports.tables import SUMMARY
from ivdjax.volume import Case, CaseError, Disc, Lordosis, UserError

_BIDS_MARK = "dataset_description.json"


@dataclass(frozen=True)
class ResultFolder:
    """An output folder of `ivdjax infer`.

    Attributes:
        path: of the folder.
        bids: whether its files have the names of a BIDS derivative dataset.
        images: where the cases' images are now, by case; a case that is not here has them where they were.
    """

    path: Path
    bids: bool
    images: Mapping[str, CaseFiles]

    def names(self, case: str) -> CaseNames:
        """What the files of a case are called."""
        return OutputOptions(self.bids).names(case)

    def rows(self) -> list[CohortRow]:
        """The cases of the summary, those in need of a look first."""
        return cohort_rows(self.path, OutputOptions(self.bids))

    def options(self, case: str) -> OutputOptions:
        """Which outputs a case has, to be written again."""
        names = self.names(case)
        document = read_document(self.path / names.path("json"))
        return OutputOptions(
            self.bids, (self.path / names.path("probability")).is_file(), document.get("anonymous") is True
        )

    def kept(self, case: str) -> StoredEvidence:
        """What numbering a case again takes.

        Raises:
            CaseError: it is not there or damaged.
        """
        kept = read_stored_evidence(self.path / self.names(case).path("evidence"), case)
        files = self.images.get(case)
        return kept if files is None else moved(kept, files)

    def images_of(self, kept: StoredEvidence) -> Case:
        """The images of a case.

        Raises:
            CaseError: they are not where they were, cannot be read, or are not those that were inferred.
        """
        try:
            return images_of(kept)
        except (CaseError, OSError) as error:
            raise CaseError(
                f"the images cannot be used: {error}; if they have moved, start the review with --images FOLDER"
            ) from error

    def has_own(self, case: str) -> bool:
        """Whether the program's own result lies beside a corrected one."""
        return (self.path / self.names(case).path("own_json")).is_file()

    def stored(self, case: str, images: Case, own: bool = False) -> CaseResult:
        """A case's result as it lies on the disk.

        Args:
            case: its name.
            images: of the case.
            own: the program's own result, where a corrected one has taken its place.

        Raises:
            CaseError: there is none, or it is damaged.
        """
        names = self.names(case)
        own = own and self.has_own(case)
        labels = read_labels(self.path / names.path("own_labels" if own else "labels"), case)
        document = read_document(self.path / names.path("own_json" if own else "json"))
        try:
            blanks = document.get("not_measured") or {}
            discs = tuple(replace(_disc(row), missing=dict(blanks.get(str(row["level"])) or {}))
                          for row in document["discs"])  # fmt: skip
            return CaseResult(
                images, labels, discs, document["verdict"], tuple(document["reasons"]),
                tuple(document.get("warnings") or ()), document.get("probability_wrong"),
                tuple(document.get("remarks") or ()), tuple(document.get("findings") or ()),
                lordosis=Lordosis.of_document(document.get("spine") or {}),
            )  # fmt: skip
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CaseError(f"case {case}: its result is damaged ({error}); infer the case again") from error


@contextmanager
def reviewed_folder(path: Path, images: Mapping[str, CaseFiles]) -> Iterator[ResultFolder]:
    """An output folder, kept from other reviews and from runs of `ivdjax infer` while the block runs.

    Raises:
        UserError: it is no output folder, or somebody else is at work in it.
    """
    if not path.is_dir():
        raise UserError(f"there is no folder {path}; give the --output of an earlier ivdjax infer")
    if not (path / SUMMARY).is_file():
        raise UserError(f"{path} holds no {SUMMARY}, as ivdjax infer writes it; give its --output")
    with alone(path) as undisturbed:
        if not undisturbed:
            raise UserError(f"{spoken('infer')} or another review is at work in {path}; wait for it, or end it")
        with suppress(OSError):  # a folder that is read-only can be looked at
            (path / UNDER_REVIEW).touch()
        try:
            yield ResultFolder(path, (path / _BIDS_MARK).is_file(), images)
        finally:
            with suppress(OSError):
                (path / UNDER_REVIEW).unlink(missing_ok=True)


_OWN = {
    "level", "level_name", "level_confidence", "outline_confidence", "centroid_x_mm", "centroid_y_mm", "centroid_z_mm",
    "volume_mm3", "cut_at",
}  # fmt: skip
_FIELDS = {field.name for field in fields(Disc)} & _OWN


def _disc(row: Mapping[str, Any]) -> Disc:
    """A disc from its row of the JSON table (`disc_rows`)."""
    return Disc(
        centroid_mm=(float(row["centroid_x_mm"]), float(row["centroid_y_mm"]), float(row["centroid_z_mm"])),
        measures={name: value for name, value in row.items() if name not in _OWN},
        **{name: row[name] for name in _FIELDS if name in row},
    )
