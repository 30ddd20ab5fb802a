"""Channels that are missing, doubled, unknown, of other shapes or exchanged, from the files to the summary."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ivdjax.data.phantom import PhantomOptions, make_phantom
from ivdjax.discs.contrast import contrast_doubts
from ivdjax.imaging.files import write_volume
from ivdjax.inference.infer import infer
from ivdjax.inference.request import InferenceRequest
from ivdjax.volume import Grid, UserError
from tests.untrained_model import write_untrained

CHANNELS = ["fat", "wat"]
SHAPE = (40, 24, 6)  # of the file, whose axes run to posterior, inferior and left
AFFINE = np.array([[0, 0, -4.0, 0], [-2.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]])


def store(path: Path, shape: tuple[int, int, int] = SHAPE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(0).normal(100, 20, shape[::-1]).astype(np.float32)
    write_volume(path, image, Grid(shape, AFFINE))


def names(case: str, *endings: str) -> list[str]:
    return [f"{case}/{case}_{ending}" for ending in endings]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_untrained(tmp_path_factory.mktemp("models") / "untrained", CHANNELS)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    whole = ("fat.nii.gz", "wat.nii.gz")
    for name in (
        *names("whole", *whole), *names("one", "fat.nii.gz"), *names("double", *whole, "fat.mha"),
        *names("more", *whole, "t2.nii.gz", "FAT2.nii.gz"), *names("misnamed", "fett.nii.gz", "wasser.nii.gz"),
        *names("shapes", "fat.nii.gz"), *names("far", "fat.nii.gz"),
    ):  # fmt: skip
        store(root / name)
    store(root / "shapes" / "shapes_wat.nii.gz", (40, 23, 6))  # a row of 3 mm less
    store(root / "far" / "far_wat.nii.gz", (40, 20, 6))
    (root / "labels").mkdir()
    store(root / "labels" / "whole_Labels.nii.gz")
    (root / "notes").mkdir()
    (root / "notes" / "protocol.txt").touch()
    return root


@pytest.fixture(scope="module")
def found(model: Path, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, dict]]:
    """The output of the cohort, and its summary by case."""
    output = tmp_path_factory.mktemp("out")
    infer(InferenceRequest(model, output, (str(cohort),)))
    with (output / "summary.csv").open(newline="") as stream:
        return output, {row["case"]: row for row in csv.DictReader(stream)}


def warnings_of(output: Path, case: str) -> str:
    return " ".join(json.loads((output / case / f"{case}_discs.json").read_text())["warnings"])


def test_one_bad_case_costs_no_other_and_every_case_has_its_row(found):
    _, rows = found
    assert {name: row["status"] for name, row in rows.items()} == {
        "double": "unread", "far": "failed", "more": "done", "one": "done", "shapes": "done", "whole": "done",
        "misnamed": "unread",
    }  # fmt: skip


def test_a_missing_channel_is_answered_and_remarked(found):
    _, rows = found
    assert "Channel wat is missing" in rows["one"]["remarks"]
    assert "is missing" not in rows["whole"]["remarks"]


def test_two_files_for_one_channel_fail_the_case_and_are_named(found):
    output, rows = found
    assert "double_fat.mha and double_fat.nii.gz both give fat; keep one of them" in rows["double"]["reasons"]
    assert not (output / "double").exists()


def test_files_of_unknown_channels_are_left_aside_and_named(found):
    output, _ = found
    assert "ignored more_FAT2.nii.gz, more_t2.nii.gz" in warnings_of(output, "more")
    assert "ignored" not in warnings_of(output, "whole")


def test_channels_of_other_shapes_are_brought_together_and_it_is_said_or_refused_where_they_are_far_apart(found):
    output, rows = found
    assert "channel wat (far_wat.nii.gz) lies up to 12.0 mm off channel fat" in rows["far"]["reasons"]
    said = warnings_of(output, "shapes")
    assert "shapes_wat.nii.gz" in said and "resampled" in said


def test_a_folder_whose_images_are_no_channel_is_unread_and_one_without_images_is_nothing(found):
    _, rows = found
    assert (
        "misnamed holds misnamed_fett.nii.gz, misnamed_wasser.nii.gz: no file for channel fat or wat"
        in (rows["misnamed"]["reasons"])
    )
    assert "notes" not in rows and "labels" not in rows


def test_a_model_for_other_channels_is_refused_before_anything_is_written(cohort, model, tmp_path):
    store(tmp_path / "data" / "a" / "a_t1.nii.gz")
    with pytest.raises(
        UserError, match=r"no case was found in .*, which holds 1 folder \(a\)\. .*channel of the model \(fat, wat\)"
    ):
        infer(InferenceRequest(model, tmp_path / "out", (str(tmp_path / "data"),)))
    with pytest.raises(UserError, match="the model has no channel 't1'; it has fat, wat"):
        infer(InferenceRequest(model, tmp_path / "out", (f"t1={tmp_path / 'data' / 'a' / 'a_t1.nii.gz'}",), case="a"))
    assert not (tmp_path / "out").exists()


def test_exchanged_channels_of_a_scan_are_told_and_ordinary_ones_are_not():
    """A whole synthetic Dixon scan, its discs as they are; networks would find them nearly as well."""
    options = PhantomOptions(shape=(14, 140, 80), spacing_mm=(5.0, 2.2, 2.4))
    case = make_phantom(seed=11, options=options).case
    volume, labels = case.volume, case.labels
    assert volume.channels == ("fat", "inn", "opp", "wat") and contrast_doubts(volume, labels) == []
    (told,) = contrast_doubts(replace(volume, channels=("wat", "inn", "opp", "fat")), labels)
    assert told.startswith("the discs look like fat: are fat and wat exchanged? (fat fraction 0.")
    (told,) = contrast_doubts(replace(volume, channels=("inn", "fat", "opp", "wat")), labels)
    assert "do not fit together" in told and "inn were fat" in told
    lower = np.zeros(volume.grid.shape, bool)
    lower[:, int(np.argwhere(labels.array == 3)[:, 1].max()) + 2 :] = True
    swapped = np.where(lower, volume.array[[3, 1, 2, 0]], volume.array)
    (told,) = contrast_doubts(replace(volume, array=swapped), labels)
    assert told.startswith("L5/S1 and L4/5 look like fat") and told.endswith("at least in a part of the scan?")
