"""Scores a folder of predictions against a dataset's references, and writes and prints the result."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ivdjax.commands.commands import make_output, printable
from ivdjax.config import DataConfig
from ivdjax.data.datasets import CaseFiles, assign_subjects, case_names, find_case, folded, read_case
from ivdjax.discs.metrics import CaseScore, on_grid, score_case
from ivdjax.imaging.files import IMAGE_SUFFIXES, read_labels, split_suffix
from ivdjax.imaging.folders import write_whole
from ivdjax.inference.names import bids_names, plain_names
from ivdjax.reports.comparison import write_comparison
from ivdjax.reports.tables import SUMMARY, score_csv, score_tables, summary_rows
from ivdjax.volume import Case, CaseError, LabelMap, UserError

_SHOWN_FIRST = ("t2", "wat", "inn")
"""Channels that the pictures prefer, in this order; any other dataset shows its first by name."""

_NO_CHANNELS = ("labels", "discs", "tissues")


@dataclass(frozen=True)
class Evaluation:
    """What is scored, and where the result goes.

    Attributes:
        predictions: folder with `<case>/<case>_discs.nii.gz`, as inference writes it.
        references: dataset folder (`<case>/<case>_<channel>.nii.gz` and `<case>_Labels.nii.gz`), any channels.
        output: folder of the tables and pictures.
        cases: names to score; empty: every reference.
        subject_pattern: regular expression whose first group is a case's subject; empty: each case its own.
        subject_table: CSV with the columns case and subject, in place of the pattern.
    """

    predictions: Path
    references: Path
    output: Path
    cases: tuple[str, ...] = ()
    subject_pattern: str = ""
    subject_table: str = ""


@dataclass(frozen=True)
class _Scored:
    """One case's score, and whether it had a prediction that could be read."""

    files: CaseFiles
    score: CaseScore
    predicted: bool


def evaluate(job: Evaluation) -> int:
    """Scores every reference, writes discs.csv, tables.md, summary.json and the pictures, prints a table.

    A reference without a prediction, or with one that cannot be read, counts as missed: Dice 0 for each of its discs.
    Where inference left its `summary.csv`, only the cases that it was given count, those that failed among them: held
    out cases can be scored against a whole dataset. Whatever is left out or counts as missed is named on stderr.

    Returns:
        The exit code: 0, or 1 if a file of some case could not be read.

    Raises:
        UserError: a folder is missing, no reference or no prediction is found, `cases` names an unknown one, or
            `output` holds results of an inference.
        OSError: a result cannot be written.
    """
    started = time.monotonic()
    found, failures = _find_references(job)
    found = _given_to_inference(job, found)
    _check_predictions(job, found)
    if (job.output / SUMMARY).is_file():
        raise UserError(f"--output {job.output} holds results of ivdjax infer, whose discs.csv the scores would "
                        "replace; choose another folder")  # fmt: skip
    make_output(job.output)
    scored: list[_Scored] = []
    for files in tqdm(found, desc="scoring", unit="case"):
        try:
            scored.append(_score(job, files, failures))
        except CaseError as error:
            failures.append(f"{error}; not scored")
    for failure in failures:
        _say(f"failed: {failure}")
    if not scored:
        raise CaseError("no reference could be read, so nothing was scored")
    rows = score_rows(scored_cases := [(s.files.name, s.files.subject, s.score) for s in scored])
    write_whole(job.output / "discs.csv", score_csv(rows))
    write_whole(job.output / "tables.md", score_tables(rows))
    totals = summary([score for _, _, score in scored_cases])
    write_whole(job.output / "summary.json", json.dumps(totals, indent=2, allow_nan=False) + "\n")
    print(score_overview(scored_cases, totals))
    pictures = sum(s.predicted for s in scored)
    print(f"\n{job.output / 'summary.json'}\n{job.output / 'discs.csv'}\n{job.output / 'tables.md'}")
    print(f"{pictures} pictures: {job.output / '<case>_comparison.png'}")
    print(f"{len(scored)} cases scored in {time.monotonic() - started:.1f} s")
    return 1 if failures else 0


def score_rows(cases: Sequence[tuple[str, str, CaseScore]]) -> list[dict[str, Any]]:
    """One row per case and level, for discs.csv and the paper's tables, from (case, subject, score)."""
    return [
        {"case": case, "subject": subject, "level": disc.level, "dice": disc.dice, "asd_mm": disc.asd_mm,
         "hd95_mm": disc.hd95_mm, "localization_error_mm": disc.localization_error_mm}
        for case, subject, score in cases for disc in score.discs
    ]  # fmt: skip


def summary(scores: Sequence[CaseScore]) -> dict[str, float | int | None]:
    """The figures of summary.json; None where there is nothing to average.

    `mean_dice` and `worst_dice` run over all reference discs up to the seventh, a missed one with 0; `all_discs_dice`
    is the mean over cases of all discs as one mask; distances are means over found discs.
    """
    discs = [disc for score in scores for disc in score.discs]
    dices = [disc.dice for disc in discs]
    return {
        "mean_dice": _mean(dices),
        "worst_dice": min(dices, default=None),
        "all_discs_dice": _mean([score.all_discs_dice for score in scores]),
        "mean_asd_mm": _mean([disc.asd_mm for disc in discs]),
        "mean_localization_error_mm": _mean([disc.localization_error_mm for disc in discs]),
        "levels_right": sum(score.levels_right for score in scores),
        "levels_total": sum(score.levels_total for score in scores),
        "extra_discs": sum(score.extra_discs for score in scores),
    }


def score_overview(cases: Sequence[tuple[str, str, CaseScore]], totals: dict[str, float | int | None]) -> str:
    """A table for the terminal: one line per case, the last line all of them."""
    width = max(4, *(len(name) for name, _, _ in cases))
    lines = [f"{'case':<{width}}  mean Dice  worst  all discs  ASD mm  localization mm  levels right  extra"]
    named = [(name, summary([score])) for name, _, score in cases]
    for name, figures in [*named, ("all", totals)]:
        levels = f"{figures['levels_right']} of {figures['levels_total']}"
        lines.append(
            f"{name:<{width}}  {_cell(figures['mean_dice'], 3):>9}  {_cell(figures['worst_dice'], 3):>5}  "
            f"{_cell(figures['all_discs_dice'], 3):>9}  {_cell(figures['mean_asd_mm'], 2):>6}  "
            f"{_cell(figures['mean_localization_error_mm'], 2):>15}  {levels:>12}  {figures['extra_discs']:>5}"
        )
    return "\n".join(lines)


def _find_references(job: Evaluation) -> tuple[list[CaseFiles], list[str]]:
    """Cases with a reference, by name, restricted to those asked for; and what went wrong in finding others."""
    if not job.references.is_dir():
        raise UserError(f"--references must be a dataset folder; there is none at {job.references}")
    found: list[CaseFiles] = []
    failures: list[str] = []
    names: set[str] = set()
    for folder in sorted(job.references.iterdir()):
        channel = picture_channel(folder)
        if channel is None:
            continue
        names.add(folder.name)
        if job.cases and folder.name not in job.cases:
            continue
        try:
            # Other channels are no concern of scoring, and not worth a remark.
            files = replace(find_case(folder, (channel,)), ignored=())
        except CaseError as error:
            failures.append(f"{error}; not scored")
            continue
        if files.labels is None:
            _say(f"case {files.name}: no reference ({files.name}_Labels.nii.gz); left out")
        else:
            found.append(files)
    unknown = [name for name in job.cases if name not in names]
    if unknown:
        raise UserError(f"--cases: no case {', '.join(unknown)} in {job.references}; it has {_some(sorted(names))}")
    if not found and not failures:
        raise UserError(f"no case with a reference in {job.references}: expected <case>/<case>_<channel>.nii.gz and "
                        "<case>_Labels.nii.gz beside it or in labels/")  # fmt: skip
    subjects = DataConfig(subject_pattern=job.subject_pattern, subject_table=job.subject_table)
    return assign_subjects(found, subjects, job.references), failures


def _run_statuses(job: Evaluation) -> dict[str, str]:
    """The status of each case in the summary that inference left; empty without one."""
    path = job.predictions / SUMMARY
    if not path.is_file():
        return {}
    try:
        return {row.case: row.status for row in summary_rows(path)}
    except ValueError as error:
        raise UserError(
            f"{path} is no longer a summary of ivdjax infer, so the cases that it was given are unknown; remove it to "
            "score every reference, or name the cases (--cases)"
        ) from error


def _given_to_inference(job: Evaluation, found: list[CaseFiles]) -> list[CaseFiles]:
    """The references of cases that the predicting run was given, or all where it left no summary.

    A case named by `--cases`, or with a prediction that the summary does not know, always counts.
    """
    given = _run_statuses(job)
    if job.cases or not given:
        return found
    kept = [f for f in found if f.name in given or _prediction_path(job, f.name).is_file()]
    if not kept:
        return found
    left_out = sorted({f.name for f in found} - {f.name for f in kept})
    if left_out:
        _say(f"not among the {len(given)} cases of {job.predictions / SUMMARY}, left out: {_some(left_out)}")
    return kept


def picture_channel(folder: Path) -> str | None:
    """The channel of a case folder that its picture shows; None for a folder without an image."""
    if not folder.is_dir() or folder.name.startswith(".") or folder.name.casefold() == "labels":
        return None
    prefixes = [folded(f"{name}_") for name in case_names(folder)]
    channels = []
    for path in folder.iterdir():
        stem, suffix = split_suffix(path)
        if suffix not in IMAGE_SUFFIXES or stem.startswith(".") or not path.is_file():
            continue
        prefix = next((prefix for prefix in prefixes if folded(stem).startswith(prefix)), "")
        channel = folded(stem).removeprefix(prefix)
        if channel not in _NO_CHANNELS:
            channels.append(channel)
    ranked = {name: place for place, name in enumerate(_SHOWN_FIRST)}
    return min(channels, key=lambda name: (ranked.get(name, len(ranked)), name), default=None)


def _prediction_path(job: Evaluation, case: str) -> Path:
    """The label map of a case, under its plain name or that of a BIDS output; the plain one where there is none."""
    plain = job.predictions / plain_names(case).path("labels")
    if plain.is_file():
        return plain
    try:
        named = job.predictions / bids_names(case).path("labels")
    except UserError:
        return plain
    return named if named.is_file() else plain


def _check_predictions(job: Evaluation, found: Sequence[CaseFiles]) -> None:
    """Names predictions without a reference and references without a prediction; refuses if nothing meets."""
    if not job.predictions.is_dir():
        raise UserError(f"--predictions must be an output folder of ivdjax infer; there is none at {job.predictions}")
    known = {files.name for files in found}
    with_file = sorted(
        {p.name for p in job.predictions.iterdir() if p.is_dir() and _prediction_path(job, p.name).is_file()}
        | {name for name in known if _prediction_path(job, name).is_file()}
    )
    missing = sorted(known - set(with_file))
    if found and len(missing) == len(found):
        raise UserError(f"no prediction of any reference in {job.predictions}: expected "
                        f"<case>/<case>_discs.nii.gz for {_some(missing)}")  # fmt: skip
    for name in missing:
        _say(f"case {name}: no prediction ({_prediction_path(job, name)}); each of its discs counts as missed, Dice 0")
    strangers = [name for name in with_file if name not in known]
    if strangers and not job.cases:
        _say(f"predictions without a reference, left out: {', '.join(strangers)}")


def _score(job: Evaluation, files: CaseFiles, failures: list[str]) -> _Scored:
    """Scores one case and draws its picture; a prediction that cannot be read is added to `failures`.

    Raises:
        CaseError: the reference or its image cannot be read.
    """
    case = read_case(files, tuple(files.channels))
    for remark in case.warnings:
        _say(remark)
    reference = case.labels
    if reference is None:
        raise CaseError(f"case {files.name}: its reference {files.labels} is gone")
    path = _prediction_path(job, files.name)
    prediction = None
    if _run_statuses(job).get(files.name) in ("failed", "unread"):
        _say(
            f"case {files.name}: failed in inference by {job.predictions / SUMMARY}; each of its discs counts as missed"
        )
    elif path.is_file():
        try:
            prediction = read_labels(path, files.name)
        except CaseError as error:
            failures.append(f"{error}; each of its discs counts as missed, Dice 0")
    if prediction is None:
        empty = reference.with_array(np.zeros_like(reference.array))
        return _Scored(files, score_case(empty, reference), predicted=False)
    score = score_case(prediction, reference)
    _draw(job.output, case, on_grid(prediction, reference.grid), reference, score)
    return _Scored(files, score, predicted=True)


def _draw(output: Path, case: Case, prediction: LabelMap, reference: LabelMap, score: CaseScore) -> None:
    mean = _cell(_mean([disc.dice for disc in score.discs]), 3)
    title = f"{case.name}: mean Dice {mean}, {score.levels_right} of {score.levels_total} levels right"
    if score.extra_discs:
        title += f", {score.extra_discs} extra"
    write_comparison(output / f"{case.name}_comparison.png", case.volume, prediction, reference, title)


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _some(names: Sequence[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _say(text: str) -> None:
    """A line on stderr that does not tear the progress bar."""
    tqdm.write(printable(text), file=sys.stderr)
