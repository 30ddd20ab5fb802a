"""Prepared cases on disk: the same again, never stale, enough on their own."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ivdjax.config import Config, DataConfig, PreparationConfig
from ivdjax.data import cache
from ivdjax.data.cache import cached_cases, prepare_cases, read_prepared, training_cases, write_prepared
from ivdjax.data.datasets import find_cases
from ivdjax.data.preparation import Prepared
from ivdjax.volume import Grid, UserError

AFFINE = np.array([[-3.0, 0, 0, 10], [0, 0, -1.0, 20], [0, -1.0, 0, 30], [0, 0, 0, 1]])


@pytest.fixture
def config(tmp_path: Path) -> Config:
    rng = np.random.default_rng(0)
    for name in ("a_1", "a_2", "b_1"):
        folder = tmp_path / "root" / name
        folder.mkdir(parents=True)
        labels = np.zeros((4, 20, 16), np.uint8)
        labels[1:3, 12:16, 4:12], labels[1:3, 4:8, 4:12] = 1, 2
        nibabel.save(
            nibabel.Nifti1Image(rng.integers(0, 200, labels.shape).astype(np.uint8), AFFINE), folder / "t2.nii"
        )
        nibabel.save(nibabel.Nifti1Image(labels, AFFINE), folder / "Labels.nii")
    return Config("x", data=DataConfig(root=str(tmp_path / "root"), subject_pattern="^(.)"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the cases whose images are read."""
    names: list[str] = []
    original = cache.read_case

    def read_case(files, channels):  # type: ignore[no-untyped-def]
        names.append(files.name)
        return original(files, channels)

    monkeypatch.setattr(cache, "read_case", read_case)
    return names


def same(one: Prepared, other: Prepared) -> bool:
    for field in fields(Prepared):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, Grid):
            equal = a.shape == b.shape and np.array_equal(a.affine, b.affine)
        else:
            equal = np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        if not equal:
            return False
    return True


def prepared_by(config: Config, folder: Path) -> list[Prepared]:
    return prepare_cases(find_cases(Path(config.data.root), config.data), config, folder)


def test_round_trip(tmp_path: Path, config: Config) -> None:
    prepared = prepared_by(config, tmp_path / "cache")[0]
    for version in (prepared, replace(prepared, labels=None, occupancy=None, warnings=("a", "b"), fold=2)):
        again = read_prepared(write_prepared(tmp_path / "other", version))
        assert same(again, version)
        assert again.image.dtype == np.uint8
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["a_1.prepared.npz"]


def test_a_second_run_reads_the_cache_alone(tmp_path: Path, config: Config, counted: list[str]) -> None:
    first = prepared_by(config, tmp_path / "cache")
    assert counted == ["a_1", "a_2", "b_1"]
    second = prepared_by(config, tmp_path / "cache")
    assert counted == ["a_1", "a_2", "b_1"]
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


def test_what_the_result_depends_on_prepares_again(tmp_path: Path, config: Config, counted: list[str]) -> None:
    prepared_by(config, tmp_path / "cache")
    del counted[:]
    os.utime(tmp_path / "root" / "a_2" / "Labels.nii", (1, 1))
    prepared_by(config, tmp_path / "cache")
    assert counted == ["a_2"]
    (tmp_path / "root" / "b_1" / "Labels.nii").unlink()
    assert prepared_by(config, tmp_path / "cache")[2].labels is None
    assert counted == ["a_2", "b_1"]
    for other in (
        replace(config, preparation=PreparationConfig(spacing_mm=(2.0, 2.0))),
        replace(config, data=replace(config.data, all_discs_outlined=True)),
    ):
        del counted[:]
        prepared_by(other, tmp_path / "cache")
        assert len(counted) == 3
    del counted[:]
    (tmp_path / "cache" / "a_1.prepared.npz").write_bytes(b"damaged")
    prepared_by(other, tmp_path / "cache")
    assert counted == ["a_1"]


def test_subjects_follow_the_configuration_without_preparing_again(
    tmp_path: Path, config: Config, counted: list[str]
) -> None:
    assert [p.subject for p in prepared_by(config, tmp_path / "cache")] == ["a", "a", "b"]
    other = replace(config, data=replace(config.data, subject_pattern=""))
    assert [p.subject for p in prepared_by(other, tmp_path / "cache")] == ["a_1", "a_2", "b_1"]
    assert [p.subject for p in cached_cases(tmp_path / "cache")] == ["a_1", "a_2", "b_1"]
    assert len(counted) == 3


def test_progress_is_told(tmp_path: Path, config: Config) -> None:
    told: list[tuple[int, int, str]] = []
    prepare_cases(find_cases(Path(config.data.root), config.data), config, tmp_path, lambda *seen: told.append(seen))
    assert told == [(1, 3, "a_1"), (2, 3, "a_2"), (3, 3, "b_1")]


def test_the_cache_is_enough_without_the_images(tmp_path: Path, config: Config) -> None:
    first = training_cases(config, tmp_path / "cache")
    elsewhere = replace(config, data=replace(config.data, root=""))
    second = training_cases(elsewhere, tmp_path / "cache")
    assert [p.name for p in second] == ["a_1", "a_2", "b_1"]
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    with pytest.raises(UserError, match="prepared with other settings"):
        training_cases(replace(elsewhere, preparation=PreparationConfig(spacing_mm=(2.0, 2.0))), tmp_path / "cache")
    with pytest.raises(UserError, match=r"data\.root is empty and there are no prepared cases"):
        training_cases(elsewhere, tmp_path / "empty")
    assert cached_cases(tmp_path / "empty") == []


def test_damaged_and_foreign_files_are_refused(tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.prepared.npz").write_bytes(b"damaged")
    np.savez(tmp_path / "other.npz", image=np.zeros(3))
    for name in ("bad.prepared.npz", "other.npz", "absent.npz"):
        with pytest.raises(UserError, match=rf"{name} is no prepared case, or damaged"):
            read_prepared(tmp_path / name)
    path = write_prepared(tmp_path / "cache", prepared_by(config, tmp_path / "cache")[0])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        cached_cases(tmp_path / "cache")
    path = write_prepared(tmp_path / "new", prepared_by(config, tmp_path / "cache")[0])
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    with pytest.raises(UserError, match="another version"):
        read_prepared(path)
