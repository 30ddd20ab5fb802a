"""Cross-validation: every fold trained, every case found by the model that never saw its subject, all scored together.

One process of its own trains each fold and one finds the discs of its cases, because two processes cannot share an
accelerator: this one never touches it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

from ivdjax.commands.commands import FAILED, INTERRUPTED, REFUSED, TERMINATED, run_command, spoken
from ivdjax.commands.memory import keep_freed_memory
from ivdjax.config import Config
from ivdjax.data.datasets import CaseFiles, find_cases
from ivdjax.data.folds import fold_of
from ivdjax.evaluation.evaluate import Evaluation, evaluate
from ivdjax.imaging.folders import alone
from ivdjax.inference.infer import infer
from ivdjax.inference.request import InferenceRequest
from ivdjax.inference.results import OutputOptions, stored_summary
from ivdjax.inference.worker import end_with_parent
from ivdjax.inference.worker_process import describe_exit
from ivdjax.model.model import Model, read_model
from ivdjax.model.provenance import provenance
from ivdjax.reports.cross_validation import FoldMembers, write_report
from ivdjax.training.training_cases import check_fold, with_phantoms
from ivdjax.volume import UserError

RESULT = "cross_validation"
PREDICTIONS = "predictions"

_PATIENCE_S = 30.0
"""How long a training that was told to stop may take for it."""


@dataclass(frozen=True)
class Fold:
    """One fold of a dataset.

    Attributes:
        number: from 0.
        training: cases that its model learns from.
        held_out: cases of the subjects that its model never sees.
    """

    number: int
    training: tuple[CaseFiles, ...]
    held_out: tuple[CaseFiles, ...]

    @property
    def members(self) -> FoldMembers:
        """The held-out cases by subject, for the report."""
        cases = tuple((case.name, case.subject) for case in self.held_out)
        return FoldMembers(self.number, cases, len(self.training))


def cross_validate(config: Config, output: Path, folds: Sequence[int] = ()) -> int:
    """Trains folds, finds the discs of their held-out cases and scores these together; what is done already stays.

    Writes `<output>/fold_K/` (as `train` does) and `<output>/cross_validation/`: predictions, discs.csv, summary.json,
    tables.md and a picture of each case. A fold that fails does not stop the others; the tables say what is missing.

    Args:
        config: of every fold; its `data.folds` tells how many there are.
        output: the run's folder.
        folds: those to train and to score, from 0; none: all.

    Returns:
        The exit code: 0; 1 if a fold or a case failed; 2 if the first training was refused; 130 or 143 if a training
        was stopped.

    Raises:
        UserError: no folds in the configuration, no such fold, no images, or a fold's model that held out others.
        CaseError: a case lacks a channel, or no reference could be read.
        OSError: a result cannot be written.
    """
    begin = time.monotonic()
    chosen = _chosen(config, folds)
    rooted = _with_images(config, output)
    split = split_folds(rooted, chosen)
    for fold in split:
        _check_finished(fold, output)
    print(
        f"{config.name}: folds {_numbers(chosen)} of {config.data.folds}, by subject; run folder {output}", flush=True
    )
    finished: list[Fold] = []
    all_found = True
    for place, fold in enumerate(split):
        print(f"\nfold {fold.number}: holds out {fold.members.words}", flush=True)
        started = time.monotonic()
        code = run_training(config, output, fold.number)
        if code in (INTERRUPTED, TERMINATED):
            return code
        if code == REFUSED:  # every other fold would be refused for the same reason
            return REFUSED if place == 0 else FAILED
        if code:
            reason = f": {describe_exit(code)}" if code < 0 else ""
            print(f"fold {fold.number}: training failed{reason}; the other folds go on", file=sys.stderr, flush=True)
            continue
        trained = time.monotonic()
        try:
            all_found &= _find_discs(fold, Path(rooted.data.root), output)
        except UserError as error:
            print(f"fold {fold.number}: inference failed: {error}; the other folds go on", file=sys.stderr, flush=True)
            continue
        finished.append(fold)
        done = time.monotonic()
        left = len(split) - place - 1
        print(
            f"fold {fold.number}: training {trained - started:.0f} s, inference {done - trained:.0f} s; "
            f"{done - begin:.0f} s so far, {left} {'fold' if left == 1 else 'folds'} left",
            flush=True,
        )
    if not finished:
        return FAILED
    code = _score(rooted, output, finished, [fold.number for fold in split if fold not in finished])
    print(f"cross-validation: {output / RESULT / 'tables.md'} ({time.monotonic() - begin:.0f} s)")
    return code if all_found and len(finished) == len(split) else FAILED


def split_folds(config: Config, chosen: Sequence[int]) -> list[Fold]:
    """The chosen folds of the dataset in `data.root`, the same that `train` makes.

    Raises:
        UserError: the split cannot be made, a fold holds out nobody, or data with two visits of a subject (that
            `data.paper_figures` tells) come without their subjects.
        CaseError: a case lacks a channel.
    """
    data = config.data
    cases = find_cases(Path(data.root), data)
    if len({case.subject for case in cases}) == len(cases):
        if data.paper_figures:
            raise UserError(
                "every case counts as a subject of its own, but the subjects of IVDM3Seg were scanned twice: folds by "
                "case would train on the subjects that they score; give data.subject_table, a CSV with the columns "
                "case and subject, or data.subject_pattern (or set data.paper_figures=false for other data)"
            )
        if not (data.subject_pattern or data.subject_table):
            print("warning: without data.subject_pattern or data.subject_table every case counts as a subject of its "
                  "own; two visits of one subject would stand on both sides", file=sys.stderr)  # fmt: skip
    split = []
    for number in chosen:
        training, held_out = fold_of(cases, data.folds, number, config.seed)
        if not held_out:
            raise UserError(f"fold {number} holds out no case; see the column fold of data.subject_table")
        split.append(Fold(number, tuple(training), tuple(held_out)))
    return split


def parse_folds(text: str) -> list[int]:
    """Fold numbers out of a list such as "0,3"; none of an empty text.

    Raises:
        UserError: something else than whole numbers.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if not word.isdecimal():
            raise UserError(f"--folds takes numbers from 0, separated by commas, not {word!r}")
    return [int(word) for word in words]


def run_training(config: Config, output: Path, fold: int) -> int:
    """Trains one fold in a process of its own; its exit code, negative if a signal killed it.

    The process ends with this one, however that ends.
    """
    process = multiprocessing.get_context("spawn").Process(target=_train, args=(config, output, fold))
    # Ctrl-C reaches every process of a terminal; here it is this one that answers it, and tells the other. The tracker
    # that Python starts on the side must not inherit that deafness, so it comes first.
    resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        process.join()
        return process.exitcode or 0
    finally:
        _end(process)


def _train(config: Config, output: Path, fold: int) -> None:
    """In the process of a training."""
    end_with_parent()
    keep_freed_memory()

    def run() -> int:
        from ivdjax.training.train import train

        train(config, output, fold)
        return 0

    sys.exit(run_command(run))


def _end(process: BaseProcess) -> None:
    """Ends a training that still runs, gently at first, so that it can leave its folder in order."""
    if process.is_alive():
        process.terminate()
        process.join(_PATIENCE_S)
        process.kill()
        process.join()
    process.close()


def _chosen(config: Config, folds: Sequence[int]) -> list[int]:
    if not config.data.folds:
        raise UserError("cross-validation needs folds, and the configuration has none; set data.folds")
    for number in folds:
        check_fold(config, number)
    return sorted(set(folds)) or list(range(config.data.folds))


def _with_images(config: Config, output: Path) -> Config:
    """The configuration with a folder of images: its own, or the phantoms that every fold shares."""
    if not config.data.root and not config.data.phantom_cases:
        raise UserError("cross-validation scores against the references beside the images; give data.root=DATA_ROOT")
    if output.exists() and not output.is_dir():
        raise UserError(f"--output {output} is a file; give a folder")
    return config if config.data.root else with_phantoms(config, output)


def _model_folder(output: Path, fold: Fold) -> Path:
    return output / f"fold_{fold.number}" / "model"


def _check_finished(fold: Fold, output: Path) -> None:
    """Makes sure that a model that is there already held out the cases that it would be scored on."""
    if _model_folder(output, fold).exists():
        _check_held_out(fold, output, read_model(_model_folder(output, fold)))


def _check_held_out(fold: Fold, output: Path, model: Model) -> None:
    """Raises a UserError for a model of another split: it may have learned from cases that it would be scored on."""
    held_out = set(model.meta.get("training", {}).get("held_out", ()))
    wanted = {case.name for case in fold.held_out}
    if held_out != wanted:
        raise UserError(
            f"{_model_folder(output, fold)} was trained with {_names(held_out)} held out, but fold {fold.number} is "
            f"now {_names(wanted)}: the dataset's cases or subjects have changed since; choose another --output, or "
            f"remove {_model_folder(output, fold).parent}"
        )


def _find_discs(fold: Fold, root: Path, output: Path) -> bool:
    """Infers the held-out cases of a trained fold; whether every one of them came through."""
    folder = _model_folder(output, fold)
    model = read_model(folder)
    _check_held_out(fold, output, model)
    predictions = output / RESULT / PREDICTIONS
    inputs = tuple(str(root / case.name) for case in fold.held_out)
    # Predictions of a model that has been trained anew since, or of other images, are this program's own to replace.
    stale = any(_is_stale(predictions, case, model) for case in fold.held_out)
    with _in_turn(output / RESULT):
        rows = infer(InferenceRequest(folder, predictions, inputs, overwrite=stale))
    return all(not row.failed for row in rows)


def _is_stale(predictions: Path, case: CaseFiles, model: Model) -> bool:
    there = (predictions / case.name).is_dir()
    return there and stored_summary(predictions, case, provenance(case, model), OutputOptions()) is None


def _score(config: Config, output: Path, finished: Sequence[Fold], failed: Sequence[int]) -> int:
    """Scores every held-out case of the finished folds and writes the tables; the exit code."""
    result, data = output / RESULT, config.data
    names = tuple(sorted(case.name for fold in finished for case in fold.held_out))
    job = Evaluation(
        result / PREDICTIONS, Path(data.root), result, names, data.subject_pattern, data.subject_table
    )  # fmt: skip
    with _in_turn(result):
        try:
            code = evaluate(job)
        except UserError as error:  # by now much was started, and what failed has been told
            print(f"error: {error}", file=sys.stderr)
            return FAILED
        write_report(result, config, [fold.members for fold in finished], failed)
    return code


@contextlib.contextmanager
def _in_turn(folder: Path) -> Iterator[None]:
    """Waits until no other process is at work in a folder that several may share, one for each fold."""
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while True:
        with alone(folder) as undisturbed:
            if undisturbed:
                yield
                return
        if not told:
            print(
                f"another {spoken('cross-validate')} is at work in {folder}; waiting for it",
                file=sys.stderr,
                flush=True,
            )
        told = True
        time.sleep(1.0)


def _names(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _numbers(numbers: Sequence[int]) -> str:
    return ", ".join(str(number) for number in numbers)
