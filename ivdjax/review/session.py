"""A review under way: the cases that are open, and the thread that brings their decisions to the disk.

A decision is in `<case>_corrections.json` before it is answered. What follows from it (label map, tables, pictures,
report, summary) takes some seconds and is written behind the page's back; what a kill left unwritten is written when
the next review of the folder begins.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import replace

from ivdjax.commands.commands import describe_os_error, printable
from ivdjax.inference.cohort import read_summary, write_summary
from ivdjax.inference.results import OutputOptions, follows, read_document, stored_corrections
from ivdjax.inference.visits.compare import compared_visits, write_changes
from ivdjax.reports.cohort import CohortRow
from ivdjax.reports.tables import CaseSummary
from ivdjax.review.folder import ResultFolder
from ivdjax.review.open_case import OpenCase
from ivdjax.volume import CaseError, UserError

MOST_OPEN = 4
"""Cases held in memory, of 100 MB or so each: the one that is looked at, those beside it, and one being written."""

_SUMMARY_AFTER_S = 1.0
"""How long the writer waits for a further case before it writes the summary."""


class Session:
    """One review of one folder. All methods may be called from several threads."""

    def __init__(self, folder: ResultFolder, only: Collection[str] | None = None) -> None:
        """A review.

        Args:
            folder: to be reviewed.
            only: names of the cases that are shown; None: all.
        """
        self.folder = folder
        self._open: OrderedDict[str, OpenCase] = OrderedDict()
        self._opening: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._rows = {row.case: row for row in folder.rows() if only is None or row.case in only}
        self._order = list(self._rows)
        self._to_write: queue.Queue[str | None] = queue.Queue()
        self._changed: dict[str, CaseSummary] = {}
        self._troubles: dict[str, str] = {}
        self._writer = threading.Thread(target=self._write_on, name="review writer", daemon=True)

    def start(self) -> None:
        """Begins to write, first what an earlier review has left unwritten."""
        for name in self._unwritten():
            self._to_write.put(name)
        self._writer.start()

    def stop(self) -> None:
        """Returns once everything that was decided is written."""
        self._to_write.put(None)
        self._writer.join()

    def rows(self) -> list[CohortRow]:
        """The cases in the order in which the review began: they do not jump about while somebody works."""
        with self._lock:
            return [self._rows[name] for name in self._order]

    def row(self, name: str) -> CohortRow:
        """The row of a case.

        Raises:
            KeyError: there is no such case.
        """
        with self._lock:
            return self._rows[name]

    def opened(self, name: str) -> OpenCase:
        """A case that has a result, loaded where it is not open yet.

        Raises:
            KeyError: there is no such case.
            CaseError: it has no result, or cannot be loaded.
            UserError: its corrections cannot be read.
        """
        row = self.row(name)
        if row.failed:
            raise CaseError(f"case {name} has no result: {'; '.join(row.reasons)}")
        with self._lock:
            opening = self._opening.setdefault(name, threading.Lock())
        with opening:
            with self._lock:
                if name in self._open:
                    self._open.move_to_end(name)
                    return self._open[name]
            found = OpenCase(self.folder, name)
            with self._lock:
                self._open[name] = found
                for other in list(self._open):  # a case that waits for the writer stays
                    if len(self._open) > MOST_OPEN and self._open[other].is_written and other != name:
                        del self._open[other]
        return found

    def is_open(self, name: str) -> bool:
        """Whether a case is in memory."""
        with self._lock:
            return name in self._open

    def note_changed(self, case: OpenCase) -> None:
        """Has the writer bring a case's decisions to the disk, and shows them in the list at once."""
        _, corrections, result = case.state()
        words = tuple(entry.words() for entry in corrections.in_force)
        with self._lock:
            self._rows[case.name] = replace(
                self._rows[case.name], verdict=result.verdict, reasons=result.reasons, discs=len(result.discs),
                probability_wrong=result.probability_wrong, remarks=result.remarks, corrected=words,
            )  # fmt: skip
        self._to_write.put(case.name)

    def trouble(self, name: str) -> str:
        """Why a case's decisions could not be written; empty where they were or will be."""
        with self._lock:
            return self._troubles.get(name, "")

    def _write_on(self) -> None:
        """Until it is told to stop: cases as they come, and the summary when none has come for a while."""
        for name in self._names_to_write():
            try:
                case = self.opened(name)
                row = None if case.is_written else case.write()
            except Exception as error:  # whatever it is: a thread that has died writes no other case
                self._say(name, _words(error))
                continue
            with self._lock:
                self._troubles.pop(name, None)
            if row is not None:
                self._changed[name] = row
            elif not case.is_written:
                self._to_write.put(name)

    def _names_to_write(self) -> Iterator[str]:
        stopping = False
        while True:
            try:
                name = self._to_write.get(timeout=0.0 if stopping else _SUMMARY_AFTER_S if self._changed else None)
            except queue.Empty:
                self._write_summary()
                if stopping:
                    return
                continue
            if name is None:
                stopping = True
            else:
                yield name

    def _write_summary(self) -> None:
        """The rows of changed cases take the place of the earlier ones; how long a case took stays known."""
        changed, self._changed = self._changed, {}
        if not changed:
            return
        options = OutputOptions(self.folder.bids)
        try:
            earlier = read_summary(self.folder.path, set(), options)
            rows = [_renewed(row, changed.get(row.case)) for row in earlier]
            write_summary(self.folder.path, rows, options)
            if visits := compared_visits(self.folder.path):  # what was compared before is compared anew
                write_changes(self.folder.path, visits)
        except UserError as error:
            self._say("", f"visits were not compared: {error}")
        except OSError as error:
            self._changed = changed | self._changed
            self._say("", f"the summary was not written: {describe_os_error(error)}")
        except Exception as error:  # as above
            self._say("", f"the summary was not written: {_words(error)}")

    def _say(self, name: str, words: str) -> None:
        print(printable(f"{name}: {words}" if name else words), file=sys.stderr, flush=True)
        with self._lock:
            self._troubles[name] = words

    def _unwritten(self) -> Iterator[str]:
        """Cases whose result does not say that it follows their corrections."""
        for row in self.rows():
            names = self.folder.names(row.case)
            if row.failed or not (self.folder.path / names.path("corrections")).is_file():
                continue
            try:
                corrections = stored_corrections(self.folder.path, row.case, OutputOptions(self.folder.bids))
            except UserError as error:
                self._say(row.case, str(error))
                continue
            if not follows(read_document(self.folder.path / names.path("json")), corrections):
                yield row.case


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return describe_os_error(error)
    return str(error) if isinstance(error, (CaseError, UserError)) else f"{type(error).__name__}: {error}"


def _renewed(row: CaseSummary, changed: CaseSummary | None) -> CaseSummary:
    return row if changed is None else replace(changed, seconds=row.seconds)
