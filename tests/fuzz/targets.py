"""What reads each kind of input, and what must hold of what comes of it."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ivdjax.config import plain_config, read_config
from ivdjax.data.datasets import read_case
from ivdjax.data.folds import read_subject_table
from ivdjax.discs.outline import calibrated
from ivdjax.evaluation.convert import Conversion, convert
from ivdjax.evaluation.evaluate import Evaluation, evaluate
from ivdjax.imaging.files import DicomSeries, read_labels
from ivdjax.imaging.files.dicom_seg import write_dicom_seg
from ivdjax.inference.disc_segments import disc_segments
from ivdjax.inference.inputs import find_inputs
from ivdjax.inference.visits.compare import write_changes
from ivdjax.inference.visits.visits import read_visit
from ivdjax.model.model import annotate_model, override_inference, read_model
from ivdjax.model.provenance import validation_words
from ivdjax.volume import CaseError, LabelMap, UserError, Volume
from tests.fuzz.corpus import CHANNELS

SECRET = 0xA7
"""What every voxel of the file outside is; an image made of it was read from there."""

_SECRET_VALUES = (0xA7, 0xA7A7, 0xA7A7 - 2**16, 0xA7 - 2**8)

DOCUMENTED = (CaseError, UserError)
"""How reading may end, beside well."""


class Broken(AssertionError):
    """A promise that was not kept, without an exception."""


def run(kind: str, files: Path, output: Path, words: tuple[str, ...]) -> tuple[str, list[str]]:
    """Reads an input as the program does: "read", or "refused" with a documented error; and every text for the user.

    Raises:
        Broken: something came of it that must not.
        Exception: whatever else the program raised.
    """
    said: list[str] = []
    stdout = io.StringIO()
    try:
        with contextlib.redirect_stdout(stdout):
            TARGETS[kind](files, output, words, said)
        return "read", [*said, stdout.getvalue()]
    except DOCUMENTED as error:
        _must(str(error).strip() != "", "an error without a message")
        _must(len(str(error)) < 20_000, f"a message of {len(str(error))} letters: {str(error)[:200]} ...")
        left = [path.relative_to(output).as_posix() for path in output.rglob("*") if not path.is_dir()]
        _must(not left, f"output in part after an error: {left[:5]}")
        return "refused", [*said, str(error), stdout.getvalue()]


def _must(holds: bool, message: str) -> None:
    if not holds:
        raise Broken(message)


def _read_volume(files: Path, output: Path, words: tuple[str, ...], said: list[str]) -> None:
    for case in find_inputs([str(files / "case")], CHANNELS):
        if case.files is None:
            said.append(case.problem)
            raise CaseError(case.problem)
        read = read_case(case.files, CHANNELS, partial=True)
        said += read.warnings
        _check_volume(read.volume)
        series = next(iter(case.files.channels.values()))
        if isinstance(series, DicomSeries):
            _write_segmentation(series, read.volume, output)


def _check_volume(volume: Volume) -> None:
    _must(bool(np.isfinite(volume.affine).all()), "an affine that is not finite")
    _must(all(0.009 < side < 101 for side in volume.spacing_mm), f"voxels of {volume.spacing_mm} mm")
    _must(volume.array.dtype == np.float32, f"a volume of {volume.array.dtype}")
    for channel in volume.array:
        _refuse_secret(channel)


def _refuse_secret(array: np.ndarray) -> None:
    for value in _SECRET_VALUES:
        _must(float(np.mean(array == value)) < 0.5, "voxels from a file outside of the input's folder")


def _write_segmentation(series: DicomSeries, volume: Volume, output: Path) -> None:
    """A DICOM segmentation of a box; a failure of it costs that file alone, as in `results`."""
    array = np.zeros(volume.array.shape[1:], np.uint8)
    array[tuple(slice(side // 3, side // 3 + 2) for side in array.shape)] = 1
    labels = LabelMap(array, volume.affine, volume.native)
    path = output / "case_discs.dcm"
    try:
        write_dicom_seg(path, labels, series, disc_segments(labels.levels), case="case", description="x",
                        model_name="m", model_version="1", weights_sha256="0" * 64, anonymous=True)  # fmt: skip
    except CaseError:
        _must(not any(output.iterdir()), "a segmentation in part")
        raise
    content = path.read_bytes()
    _must(content[128:132] == b"DICM", "a segmentation that is no DICOM file")


def _convert(files: Path, output: Path, words: tuple[str, ...], said: list[str]) -> None:
    before, after, ending = words
    for source in sorted(files.iterdir()):
        target = output / f"made{ending}"
        try:
            said += convert(Conversion(source, target, before, after))
        except ValueError as error:
            if isinstance(error, DOCUMENTED):
                raise
            raise
        made = read_labels(target, "made")
        _refuse_secret(made.array)
        target.unlink()


def _evaluate(files: Path, output: Path, words: tuple[str, ...], said: list[str]) -> None:
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        evaluate(Evaluation(files / "found", files / "data", output / "scores"))
    said.append(stderr.getvalue())
    totals = json.loads((output / "scores" / "summary.json").read_text(encoding="utf-8"))
    _must(totals["mean_dice"] is None or 0 <= totals["mean_dice"] <= 1, f"scores {totals}")


def _read_model(files: Path, output: Path, words: tuple[str, ...], said: list[str]) -> None:
    model = read_model(files)
    model = override_inference(model, ["inference.review_above=0.5"])
    said.append(validation_words(model))
    annotate_model(files, {"measured_later": 1})
    facts = model.meta.get("outline_calibration")
    if facts:
        calibrated([1.0], facts)
    if model.reference is not None:
        _must(bool(np.isfinite(model.reference.affine).all()), "a reference whose affine is not finite")


def _read_config(files: Path, output: Path, words: tuple[str, ...], said: list[str]) -> None:
    config = read_config(files / "config.yaml", words)
    json.dumps(plain_config(config), allow_nan=False)


def _override(files: Path, output: Path, words: tuple[str, ...], said: list[str]) -> None:
    _read_config(files, output, words, said)


def _read_subjects(files: Path, output: Path, words: tuple[str, ...], said: list[str]) -> None:
    for case, (subject, fold) in read_subject_table(files / "subjects.csv").items():
        _must(bool(case and subject) and (fold is None or fold >= 0), f"{case!r} of {subject!r} in fold {fold}")


def _compare(files: Path, output: Path, words: tuple[str, ...], said: list[str]) -> None:
    folders = [files / "first", files / "second"]
    for folder in folders:
        read_visit(folder)
    said.append(write_changes(output / "changes", {"subject": folders}).words())
    page = (output / "changes" / "changes.html").read_text(encoding="utf-8")
    _must("<script>alert(1)" not in page, "text that was not escaped")
    json.loads((output / "changes" / "changes.json").read_text(encoding="utf-8"))


def _probe(files: Path, output: Path, words: tuple[str, ...], said: list[str]) -> None:
    """Runs what a test puts in place of a reader, to see whether the watch hears it."""
    exec(words[0], {"output": output, "said": said, "CaseError": CaseError, "UserError": UserError})


TARGETS: dict[str, Callable[[Path, Path, tuple[str, ...], list[str]], None]] = {
    "volume": _read_volume,
    "series": _read_volume,
    "labels": _convert,
    "scores": _evaluate,
    "model": _read_model,
    "config": _read_config,
    "override": _override,
    "subjects": _read_subjects,
    "visits": _compare,
    "probe": _probe,
}
"""By kind: a function of the input's folder, an empty folder for outputs, the words, and a list for texts."""
