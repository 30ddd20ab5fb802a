"""A case that is looked at: loaded once, corrected in memory, each decision on the disk before it is answered."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace

from ivdjax.data.preparation import restore_tissues
from ivdjax.imaging.files import write_labels
from ivdjax.imaging.folders import write_whole
from ivdjax.inference.case_result import CaseResult, conclude, structures_left_out
from ivdjax.inference.corrections import Corrections, corrections_text
from ivdjax.inference.results import follows, read_document, stored_corrections, write_result
from ivdjax.inference.stored_evidence import StoredEvidence
from ivdjax.reports.tables import CaseSummary
from ivdjax.review.decision import Decision, decided, resulting
from ivdjax.review.folder import ResultFolder
from ivdjax.volume import CaseError, LabelMap


class Outdated(Exception):
    """Somebody has decided meanwhile, in another tab perhaps: what the page shows is not the present state."""


class OpenCase:
    """One case of a reviewed folder. All methods may be called from several threads.

    Attributes:
        name: of the case.
        own: the program's own result.
    """

    def __init__(self, folder: ResultFolder, name: str) -> None:
        """Loads the case.

        Raises:
            CaseError: its images, its evidence or its result cannot be read.
            UserError: its corrections cannot be read.
        """
        self.name = name
        self._folder = folder
        self._kept: StoredEvidence = folder.kept(name)
        images = folder.images_of(self._kept)
        self._corrections = stored_corrections(folder.path, name, folder.options(name))
        own = _whole(folder.stored(name, images, own=True), self._kept)
        # Without a result of its own beside it, it is the program's but for what people said of it beside its discs.
        marked = bool(self._corrections.in_force) and not folder.has_own(name)
        self.own: CaseResult = _as_judged(own, self._kept) if marked else own
        self._result = resulting(self._kept, self.own, self._corrections)
        self._written = self._is_on_disk()
        self._lock = threading.Lock()

    def state(self, blind_reader: str = "") -> tuple[int, Corrections, CaseResult]:
        """Number of decisions ever made, those in force, and the result that follows from them.

        Args:
            blind_reader: whose decisions alone count; empty: those that the results on the disk follow.
        """
        with self._lock:
            corrections, result = self._corrections, self._result
        if not blind_reader:
            return len(corrections.history), corrections, result
        own = corrections.read_blind_by(blind_reader)
        return len(corrections.history), own, resulting(self._kept, self.own, own)

    @property
    def is_written(self) -> bool:
        """Whether the results on the disk follow the decisions."""
        return self._written

    def decide(self, decision: Decision, reader: str, seen: int, blind: bool = False) -> None:
        """Adds a decision to the case; it is on the disk when this returns.

        Args:
            decision: of the person.
            reader: who decides.
            seen: how many decisions there were in the state that the person saw.
            blind: whether the reader does not see the others' decisions, nor the results theirs.

        Raises:
            Outdated: there were more.
            CaseError: it cannot be carried out.
            OSError: the disk is full.
        """
        with self._lock:
            self._refuse_outdated(seen)
            if blind:
                own = self._corrections.read_blind_by(reader)
                before = resulting(self._kept, self.own, own)
                after, _ = decided(decision, self._kept, self.own, before, own, reader)
                new = [replace(entry, details={**entry.details, "blind": True})
                       for entry in after.history[len(own.history) :]]  # fmt: skip
                self._store(replace(self._corrections, history=(*self._corrections.history, *new)))
                return
            after, result = decided(decision, self._kept, self.own, self._result, self._corrections, reader)
            self._store(after)
            self._result, self._written = result, False

    def draw(self, labels: LabelMap, reader: str, seen: int, file: str) -> None:
        """Takes outlines that a person has edited in another program in the place of the present ones.

        Args:
            labels: numbered discs on the image's canonical grid.
            reader: who did.
            seen: as of `decide`.
            file: its name, for the record.

        Raises:
            Outdated: as `decide`.
            OSError: the disk is full.
        """
        with self._lock:
            self._refuse_outdated(seen)
            after = self._corrections.with_outlines(labels, reader, file[:200])
            result = resulting(self._kept, self.own, after)
            names = self._folder.names(self.name)
            number = after.history[-1].map_number
            write_labels(self._folder.path / names.folder / names.outlines(number), labels)
            self._store(after)
            self._result, self._written = result, False

    def write(self) -> CaseSummary | None:
        """Writes the case's folder anew, whole, as its decisions have it; its row of the summary.

        None where somebody decided meanwhile: then it has to be written once more.

        Raises:
            OSError: the disk is full.
        """
        with self._lock:
            corrections, result = self._corrections, self._result
        changed = corrections.changes_result
        source = {**self._kept.source, "anchor": None}
        if corrections.anchor is not None:
            source["anchor"] = {"level": corrections.anchor.level, "point_mm": list(corrections.anchor.point_mm)}
        with contextlib.ExitStack() as held:
            try:
                write_result(
                    self._folder.path, self._kept.files, result, self._kept.model, source | corrections.facts(),
                    self._folder.options(self.name), corrections, self._kept, self.own if changed else None,
                    self._last_moment(held, corrections),
                )  # fmt: skip
            except Outdated:
                return None
            self._written = True
        words = tuple(entry.words() for entry in corrections.in_force)
        return CaseSummary(
            self.name, "done", result.verdict, result.reasons, len(result.discs),
            probability_wrong=result.probability_wrong, remarks=result.remarks, corrected=words,
            lordosis=result.lordosis,
        )  # fmt: skip

    def _last_moment(self, held: contextlib.ExitStack, corrections: Corrections) -> Callable[[], None]:
        """From the last look at the decisions until the folder is replaced none may be added to the old folder."""

        def look() -> None:
            held.enter_context(self._lock)
            if self._corrections is not corrections:
                raise Outdated

        return look

    def _refuse_outdated(self, seen: int) -> None:
        if seen != len(self._corrections.history):
            raise Outdated(f"case {self.name} has changed meanwhile: this is how it stands now. Decide again")

    def _store(self, corrections: Corrections) -> None:
        path = self._folder.path / self._folder.names(self.name).path("corrections")
        if not path.parent.is_dir():
            raise CaseError(f"the folder of case {self.name} has vanished; put it back")
        write_whole(path, corrections_text(corrections))
        self._corrections = corrections

    def _is_on_disk(self) -> bool:
        document = read_document(self._folder.path / self._folder.names(self.name).path("json"))
        return follows(document, self._corrections)


def _as_judged(stored: CaseResult, kept: StoredEvidence) -> CaseResult:
    """A result with the program's own verdict in the place of a person's acceptance, marks and notes."""
    own = conclude(kept.model, stored.case, kept.prepared, kept.evidence)
    return replace(stored, verdict=own.verdict, reasons=own.reasons, remarks=own.remarks)


def _whole(stored: CaseResult, kept: StoredEvidence) -> CaseResult:
    """A stored result with what its label map and table lack: tissues, and what was left out below the lowest disc."""
    evidence, prepared, tissues = kept.evidence, kept.prepared, None
    if evidence.tissue_probability is not None:
        tissues = restore_tissues(evidence.tissue_probability, stored.labels, prepared)
    return replace(stored, tissues=tissues, left_out=structures_left_out(kept.model, prepared, evidence))
