"""Compares the discs of a subject's visits: `ivdjax compare`."""

from __future__ import annotations

import json
import os
import re
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ivdjax import __version__
from ivdjax.commands.command import Command
from ivdjax.commands.commands import DONE, given_folder, local_output, make_output, refuse_in_the_way
from ivdjax.discs.change import changes_between, detectable_changes
from ivdjax.imaging.folders import write_whole
from ivdjax.inference.cohort_table import CHANGES, compared_cases, write_disc_table
from ivdjax.inference.names import natural
from ivdjax.inference.results import SESSION_RESULTS, OutputOptions
from ivdjax.inference.visits.visits import (
    StoredVisit,
    doubts_about,
    find_visits,
    named_apart,
    read_visit,
    refuse_incomparable,
    result_paths,
)
from ivdjax.reports.changes import SubjectChanges, VisitNote, changes_csv, changes_page, count_beyond
from ivdjax.volume import UserError

DESCRIPTION = """\
Compares the discs of a subject's visits, and separates changes from noise.

  --output CHANGES RESULT RESULT [RESULT ...]
  --output CHANGES --results OUT --subject-pattern REGEX | --subject-table CSV

RESULT is a case's result folder (OUT/<case>) or its <case>_discs.json, in the order of the visits; the first is the
baseline. The folder of a BIDS subject (OUT/sub-01) stands for all of its sessions. With --results, all visits of each
subject in an output folder are compared, in the order of their case names. Writes CHANGES/changes.csv, changes.json
and changes.html. For research; not a medical device."""

_BIDS_SESSION = r"sub-[0-9A-Za-z]+_ses-[0-9A-Za-z]+$"

SCHEMA_VERSION = 1
"""Of changes.json; rises when a key changes its meaning or goes."""

CSV_FILE, JSON_FILE, PAGE_FILE = "changes.csv", CHANGES, "changes.html"


@dataclass(frozen=True)
class ChangesSummary:
    """What was compared.

    Attributes:
        subjects: those with two visits or more.
        left_out: those with one.
        beyond: changes beyond the measurement's own repeatability.
        judged: changes of which that is known.
        page: the page that shows them.
        doubted: subjects of which something speaks against comparing their visits; the page says what.
        measured_noise: whether a model has figures of its repeatability, without which no change is judged.
    """

    subjects: tuple[str, ...]
    left_out: tuple[str, ...]
    beyond: int
    judged: int
    page: Path
    doubted: tuple[str, ...] = ()
    measured_noise: bool = True

    def words(self) -> str:
        """One line for a terminal."""
        noise = f"{self.beyond} of {self.judged} changes beyond the noise"
        if not self.judged:
            why = "" if self.measured_noise else ", because the model has no figures of its repeatability"
            noise = f"no change can be judged{why}"
        left_out = f" ({len(self.left_out)} with one visit left out)" if self.left_out else ""
        count = len(self.subjects)
        doubts = f"; {len(self.doubted)} with doubts, see the page" if self.doubted else ""
        return f"changes of {count} subject{'' if count == 1 else 's'}{left_out}: {noise}{doubts}; {self.page}"


def write_changes(output_folder: Path, visits_by_subject: Mapping[str, Sequence[Path]]) -> ChangesSummary:
    """Compares every later visit of each subject with its first, and writes changes.csv, .json and .html.

    All results are read before anything is written; each file appears whole or not at all. Subjects with one visit are
    left out and named on the page.

    Args:
        output_folder: is made where it does not exist; other files in it stay.
        visits_by_subject: of each subject the result folders (or disc JSON files) in the order of the visits.

    Raises:
        UserError: no subject has two visits, a result cannot be read, a subject's visits cannot be compared (see
            `refuse_incomparable`), or the folder cannot be made.
        OSError: a file cannot be written.
    """
    left_out = tuple(subject for subject, paths in visits_by_subject.items() if len(paths) < 2)
    compared = {subject: paths for subject, paths in visits_by_subject.items() if len(paths) > 1}
    if not compared:
        raise UserError(
            f"no subject of {len(left_out)} has two visits, so that there is nothing to compare; check that the "
            "pattern or the table gives all visits of a subject the same subject"
        )
    folder = Path(output_folder)
    subjects = [_compare(subject, [read_visit(path) for path in paths], folder) for subject, paths in compared.items()]
    rows = [row for changes, _ in subjects for row in changes.rows]
    notes = [f"One visit alone, left out: {', '.join(left_out)}."] if left_out else []
    document = {
        "schema_version": SCHEMA_VERSION, "kind": "ivdjax changes", "ivdjax_version": __version__, "notes": notes,
        "single_visits": {subject: read_visit(paths[0]).case for subject, paths in visits_by_subject.items()
                          if len(paths) == 1},
        "subjects": [plain for _, plain in subjects],
    }  # fmt: skip
    make_output(folder)
    refuse_in_the_way(folder, (CSV_FILE, JSON_FILE, PAGE_FILE))
    write_whole(folder / CSV_FILE, changes_csv(rows))
    write_whole(folder / JSON_FILE, json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n")
    write_whole(folder / PAGE_FILE, changes_page([changes for changes, _ in subjects], notes))
    return ChangesSummary(tuple(compared), left_out, *count_beyond(rows), folder / PAGE_FILE,
                          tuple(plain["subject"] for _, plain in subjects if plain["warnings"]),
                          any(plain["repeatability"] for _, plain in subjects))  # fmt: skip


def compared_visits(output_folder: Path) -> dict[str, list[Path]]:
    """The visits by subject that an earlier comparison into an output folder of cases was about; empty for none.

    Subjects whose results are no longer all there are left out.
    """
    there = result_paths(Path(output_folder))
    named = compared_cases(Path(output_folder))
    return {subject: [there[case] for case in cases] for subject, cases in named.items() if there.keys() >= set(cases)}


def bids_visits(output_folder: Path) -> dict[str, list[Path]]:
    """The visits by subject of cases that are named as BIDS names sessions; empty where no subject has two."""
    there = {case: path for case, path in result_paths(Path(output_folder)).items() if re.match(_BIDS_SESSION, case)}
    subjects: dict[str, list[Path]] = {}
    for case in sorted(there, key=natural):
        subjects.setdefault(case.partition("_")[0].removeprefix("sub-"), []).append(there[case])
    return subjects if any(len(paths) > 1 for paths in subjects.values()) else {}


def _compare(subject: str, visits: Sequence[StoredVisit], folder: Path) -> tuple[SubjectChanges, dict[str, Any]]:
    """One subject, for the page and for the JSON."""
    visits = named_apart(visits)
    refuse_incomparable(subject, visits)
    # The same weights: the facts of the latest result that has some hold for all of them.
    facts = next((visit.repeatability for visit in reversed(visits) if visit.repeatability), None)
    detectable = detectable_changes(facts)
    source = str((facts or {}).get("made_of") or "not stated") if detectable else ""
    warnings = doubts_about(visits)
    rows = []
    for later in visits[1:]:
        for change in changes_between(visits[0].visit, later.visit, detectable):
            rows.append({"subject": subject, **{name: _plain(value) for name, value in asdict(change).items()}})
    notes = [VisitNote(v.name, v.visit.verdict, v.reasons, _link(v.report(), folder)) for v in visits]
    plain = {
        "subject": subject,
        "visits": [
            {
                "name": visit.name, "case": visit.case, "verdict": visit.visit.verdict, "reasons": list(visit.reasons),
                "levels": sorted(visit.visit.discs), "input_sha256": dict(visit.inputs),
            }
            for visit in visits
        ],
        "model": {key: visits[0].model.get(key) for key in ("name", "weights_sha256")},
        "repeatability": facts,
        "warnings": warnings,
        "changes": [{key: value for key, value in row.items() if key != "subject"} for row in rows],
    }  # fmt: skip
    return SubjectChanges(subject, notes, rows, source, warnings), plain


def _plain(value: Any) -> Any:
    """Floats to 6 significant digits, as the disc tables have them: a difference has no more."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _link(report: Path | None, folder: Path) -> str:
    """A relative link to a case's page where it lies beside the output or within it; no other path is told."""
    if report is None:
        return ""
    relative = Path(os.path.relpath(report.resolve(), folder.resolve()))
    return relative.as_posix() if relative.parts.count("..") <= 1 else ""


def _subject_name(paths: Sequence[Path]) -> str:
    """What the names of a subject's cases begin with; "subject" where they share nothing."""
    names = [path.resolve().name if path.is_dir() else path.name.removesuffix("_discs.json") for path in paths]
    return os.path.commonprefix(names).rstrip(" ._-") or "subject"  # noqa: RUF071 - these are names, no paths


def _sessions(path: Path) -> list[Path]:
    """The results of all sessions in the folder of a BIDS subject, in their order; else the path itself."""
    found = sorted(path.glob(SESSION_RESULTS), key=lambda found: natural(found.name))
    return found or [path]


def _visits_of(options: Any) -> dict[str, Sequence[Path]]:
    """The visits by subject that the command line asks for.

    Raises:
        UserError: it asks for no one thing.
    """
    if options.results is not None:
        if options.visits or options.subject:
            raise UserError("--results takes the visits from a folder; leave out RESULT and --subject")
        if not (options.subject_pattern or options.subject_table):
            raise UserError("--results needs --subject-pattern or --subject-table: whose visit is each case?")
        return dict(
            find_visits(given_folder(options.results, "--results"), options.subject_pattern, options.subject_table)
        )
    if options.subject_pattern or options.subject_table:
        raise UserError("--subject-pattern and --subject-table go with --results OUT")
    paths = [path for text in options.visits for path in _sessions(Path(text))]
    if len(paths) < 2:
        raise UserError("give two results or more, in the order of the visits, or --results OUT")
    return {options.subject or _subject_name(paths): paths}


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of a comparison."""
    parser.add_argument("visits", nargs="*", metavar="RESULT", help="a visit's result, the baseline first")
    parser.add_argument("--output", required=True, metavar="CHANGES", help="folder for the tables and the page")
    parser.add_argument("--subject", default="", metavar="NAME", help="whose visits the RESULTs are")
    parser.add_argument("--results", metavar="OUT", help="output folder of ivdjax infer")
    subjects = parser.add_mutually_exclusive_group()
    subjects.add_argument("--subject-pattern", default="", metavar="REGEX",
                          help="its first group, searched in a case's name, is the subject")  # fmt: skip
    subjects.add_argument("--subject-table", default="", metavar="CSV", help="columns case and subject")


def run(options: Namespace) -> int:
    """Compares; the exit code."""
    output = local_output(options.output)
    print(write_changes(output, _visits_of(options)).words())
    if options.results is not None and output.resolve() == Path(options.results).resolve():
        bids = OutputOptions(bids=(output / "dataset_description.json").is_file())
        write_disc_table(output, sorted(result_paths(output), key=natural), bids)
    return DONE


COMMAND = Command(DESCRIPTION, add_options, run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the options and compares; the exit code."""
    return COMMAND.main(arguments, prog="python -m ivdjax.inference.visits.compare")


if __name__ == "__main__":
    sys.exit(main())
