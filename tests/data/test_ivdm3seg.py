"""IVDM3Seg's own layout is read as it is: binary masks, two visits a subject, one label on another grid."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from ivdjax.config import DataConfig
from ivdjax.data.datasets import find_cases, fold_of, read_case
from tests.ivdm3seg_layout import write_ivdm3seg

CHANNELS = ("fat", "inn", "opp", "wat")
DATA = DataConfig(channels=CHANNELS, subject_table="subjects.csv", folds=2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ivdm3seg(tmp_path_factory.mktemp("ivdm3seg"), sets=4, displaced="04")


def test_the_files_are_those_of_the_challenge(root: Path) -> None:
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*")) == sorted(
        [f"{n:02d}/{n:02d}_{channel}.nii" for n in range(1, 5) for channel in CHANNELS]
        + [f"labels/{n:02d}_Labels.nii" for n in range(1, 5)]
        + ["subjects.csv"]
    )
    labels = nibabel.load(root / "labels" / "01_Labels.nii")
    assert labels.get_data_dtype() == np.uint8 and np.unique(labels.dataobj).tolist() == [0, 1]


def test_labels_may_lie_beside_the_images(tmp_path: Path) -> None:
    root = write_ivdm3seg(tmp_path, sets=2, labels_aside=False)
    assert (root / "01" / "01_Labels.nii").is_file() and not (root / "labels").exists()
    assert [case.labels for case in find_cases(root, DATA)] == [root / n / f"{n}_Labels.nii" for n in ("01", "02")]


def test_both_visits_of_a_subject_fall_into_one_fold(root: Path) -> None:
    cases = find_cases(root, DATA)
    assert [(case.name, case.subject) for case in cases] == [("01", "S01"), ("02", "S01"), ("03", "S02"), ("04", "S02")]
    train, held_out = fold_of(cases, DATA.folds, 0)
    assert {case.subject for case in train}.isdisjoint(case.subject for case in held_out) and len(held_out) == 2


def test_binary_masks_are_numbered_and_the_displaced_one_is_resampled_and_told(root: Path) -> None:
    for files in find_cases(root, DATA):
        case = read_case(files, CHANNELS)
        assert case.volume.channels == CHANNELS and case.labels is not None
        assert case.labels.levels == (1, 2, 3, 4, 5, 6, 7) and case.labels.grid.matches(case.volume.grid)
        told = [text for text in case.warnings if "lies on another grid" in text]
        assert len(told) == (files.name == "04")
        # A disc is water: only where the labels lie on the discs is its fat image dark.
        fat = case.volume.array[0]
        assert np.median(fat[case.labels.array > 0]) < 0.4 * np.median(fat[fat > fat.mean()])


def test_the_displaced_label_would_miss_the_discs_if_its_affine_were_not_looked_at(root: Path) -> None:
    stored = np.asarray(nibabel.load(root / "labels" / "04_Labels.nii").dataobj) > 0
    fat = np.asarray(nibabel.load(root / "04" / "04_fat.nii").dataobj)
    assert stored.shape == fat.shape
    affines = [nibabel.load(root / part).affine for part in ("labels/04_Labels.nii", "04/04_fat.nii")]
    assert 8 < np.linalg.norm(affines[0][:3, 3] - affines[1][:3, 3]) < 13
    assert np.median(fat[stored]) > 0.4 * np.median(fat[fat > fat.mean()])
