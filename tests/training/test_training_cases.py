"""The cases of a run: images or stored cases, phantoms in their place or beside them, and who is held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ivdjax.config import Config, DataConfig, read_config
from ivdjax.data.cache import write_prepared
from ivdjax.data.datasets import find_cases, read_case
from ivdjax.data.phantom.dataset import PhantomSet
from ivdjax.data.preparation import Prepared
from ivdjax.training import training_cases as workflow
from ivdjax.training.training_cases import phantoms_beside, prepared_cases, split_cases, with_phantoms
from ivdjax.volume import Grid, UserError

PHANTOMS = DataConfig(
    channels=("t2",), subject_pattern=r"^(S\d+)", phantom_cases=2, phantom_seed=5, all_discs_outlined=True,
    phantom_shape=(6, 76, 44), phantom_spacing_mm=(8.0, 3.5, 3.5), phantom_fields=("full",), phantom_hard=("", "s1s2"),
)  # fmt: skip


def prepared(name: str, channels: tuple[str, ...] = ("t2",)) -> Prepared:
    shape = (2, 6, 4)
    labels = np.ones(shape, np.uint8)
    grid = Grid(shape, np.diag([4.0, 1.25, 1.25, 1.0]))
    image = np.zeros((len(channels), *shape), np.uint8)
    return Prepared(name, name[0], channels, image, labels, labels * np.uint8(255), 0, grid, grid, grid)


@pytest.fixture
def stored(tmp_path: Path) -> Config:
    """A configuration whose prepared cases lie in `<tmp_path>/stored`."""
    for name in ("a1", "a2", "b1", "c1"):
        write_prepared(tmp_path / "stored", prepared(name))
    return Config("x", seed=3, data=DataConfig(cache=str(tmp_path / "stored"), validation=("a1",), folds=3))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[PhantomSet]:
    """The sets of phantoms that are asked for, none of which is made: the folder only says that it was."""
    sets: list[PhantomSet] = []

    def write(root: Path, phantoms: PhantomSet, overwrite: bool, progress: Any) -> None:
        assert overwrite
        sets.append(phantoms)
        root.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(workflow, "write_phantoms", write)
    monkeypatch.setattr(workflow, "holds_phantoms", lambda root, phantoms: root.exists() and phantoms in sets)
    return sets


def test_phantoms_are_made_once_as_asked_for_and_only_where_they_are(tmp_path, stored, made):
    assert with_phantoms(stored, tmp_path) is stored and made == []
    config = Config("x", data=PHANTOMS)
    for _ in range(2):
        found = with_phantoms(config, tmp_path / "run")
        assert found.data.root == str(tmp_path / "run" / "data") and found.data.phantom_cases == 0
    (only,) = made
    assert (only.cases, only.seed, only.visits, only.hard, only.fields) == (2, 5, 1, ("", "s1s2"), ("full",))
    assert only.options.shape == (6, 76, 44) and only.options.spacing_mm == (8.0, 3.5, 3.5)
    assert only.options.channels == ("t2",)


def test_phantoms_of_another_set_are_made_anew(tmp_path, made):
    for seed in (5, 6):
        with_phantoms(Config("x", data=replace(PHANTOMS, phantom_seed=seed)), tmp_path)
    assert [phantoms.seed for phantoms in made] == [5, 6]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"phantom_hard": ("sIs2",)}, "unknown hard kind 'sIs2'; did you mean 's1s2'"),
     ({"phantom_fields": ("clinic",)}, "unknown field 'clinic'; did you mean 'clinical'"),
     ({"channels": ("t1",)}, "unknown channel 't1'")],
)  # fmt: skip
def test_phantoms_that_cannot_be_made_are_refused(tmp_path, made, wrong, words):
    with pytest.raises(UserError, match=words):
        with_phantoms(Config("x", data=replace(PHANTOMS, **wrong)), tmp_path)
    assert made == []


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, Path]]:
    """What is looked for in place of reading: `b1` in the user's data, `S01` and `S02` in phantoms."""
    calls: list[tuple[Config, Path]] = []

    def cases(config: Config, folder: Path, progress: Any) -> list[Prepared]:
        calls.append((config, folder))
        ours = folder.name == "phantoms" or config.data.root.endswith("data")
        names = ("S01", "S02") if ours else ("b1",)
        return [replace(prepared(name), subject=name) for name in names]

    monkeypatch.setattr(workflow, "training_cases", cases)
    return calls


def test_phantoms_in_place_of_data_are_the_cases(tmp_path, made, asked):
    config = Config("x", data=PHANTOMS)
    assert [case.name for case in prepared_cases(config, tmp_path)] == ["S01", "S02"]
    assert asked[0][0].data.root == str(tmp_path / "data") and asked[0][1] == tmp_path / "cache"
    assert phantoms_beside(config, tmp_path) == []


def test_phantoms_beside_data_have_names_and_subjects_of_their_own_and_are_never_held_out(tmp_path, made, asked):
    config = Config("x", data=replace(PHANTOMS, root="mine", validation=("b1",), subject_pattern="^(.)"))
    assert [case.name for case in prepared_cases(config, tmp_path)] == ["b1"] and made == []
    assert asked[0] == (config, tmp_path / "cache")
    beside = phantoms_beside(config, tmp_path)
    assert [(case.name, case.subject) for case in beside] == [
        ("phantom_S01", "phantom_S01"), ("phantom_S02", "phantom_S02")
    ]  # fmt: skip
    looked_for, folder = asked[1]
    assert folder == tmp_path / "cache" / "phantoms" and looked_for.data.root == str(tmp_path / "data")
    # The user's pattern says nothing of them, and only seven of their discs are outlined.
    assert looked_for.data.subject_pattern == "" and not looked_for.data.all_discs_outlined
    assert phantoms_beside(replace(config, data=replace(config.data, phantom_cases=0)), tmp_path) == []


def test_stored_phantoms_serve_beside_stored_cases_where_no_image_is_at_hand(tmp_path, made, stored):
    for name in ("S01", "S02"):
        write_prepared(tmp_path / "stored" / "phantoms", prepared(name))
    config = replace(stored, data=replace(stored.data, phantom_cases=2))
    assert [case.name for case in prepared_cases(config, tmp_path / "run")] == ["a1", "a2", "b1", "c1"]
    assert [case.name for case in phantoms_beside(config, tmp_path / "run")] == ["phantom_S01", "phantom_S02"]
    assert made == [] and not (tmp_path / "run").exists()


def test_stored_cases_of_other_channels_are_refused(tmp_path, stored):
    write_prepared(tmp_path / "stored", prepared("d1", ("fat", "wat")))
    with pytest.raises(UserError, match="case d1 in .*stored has the channels fat, wat, but data.channels is t2; use"):
        prepared_cases(stored, tmp_path / "run")


def test_warnings_of_cases_are_shown(tmp_path, capsys, stored):
    write_prepared(tmp_path / "stored", replace(prepared("d1"), warnings=("case d1: the slices are turned",)))
    assert len(prepared_cases(stored, tmp_path / "run")) == 5
    assert capsys.readouterr().out == "warning: case d1: the slices are turned\n"


def test_cases_are_held_out_by_subject(stored):
    cases = [prepared(name) for name in ("a1", "a2", "b1", "c1")]
    training, held_out = split_cases(stored, cases, None)
    assert [case.name for case in training] == ["b1", "c1"] and [case.name for case in held_out] == ["a1", "a2"]
    folds = [split_cases(stored, cases, fold) for fold in range(3)]
    assert sorted(case.name for _, part in folds for case in part) == ["a1", "a2", "b1", "c1"]
    assert all(len(training) + len(held_out) == 4 for training, held_out in folds)


def test_holding_out_everything_or_somebody_unknown_is_refused(stored):
    cases = [prepared("a1"), prepared("b1")]
    with pytest.raises(UserError, match="data.validation holds out every subject; nothing is left to train on"):
        split_cases(replace(stored, data=replace(stored.data, validation=("a1", "b1"))), cases, None)
    with pytest.raises(UserError, match="data.validation names 'a9', which is not a case"):
        split_cases(replace(stored, data=replace(stored.data, validation=("a9",))), cases, None)


@pytest.mark.parametrize(
    ("folds", "fold", "words"),
    [
        (3, 3, r"--fold must be 0 to 2 \(data.folds is 3\), not 3"),
        (3, -1, r"--fold must be 0 to 2 \(data.folds is 3\), not -1"),
        (0, 0, "--fold 0: the configuration has no folds; set data.folds"),
    ],
)
def test_an_unknown_fold_is_refused(stored, folds, fold, words):
    with pytest.raises(UserError, match=words):
        split_cases(replace(stored, data=replace(stored.data, folds=folds)), [prepared("a1")], fold)


@pytest.mark.slow
def test_the_phantoms_of_the_small_configuration_are_read_without_a_warning(root, tmp_path):
    config = read_config(root / "configs" / "tiny.yaml")
    data = with_phantoms(config, tmp_path).data
    cases = find_cases(Path(data.root), data)
    assert len(cases) == config.data.phantom_cases
    assert [read_case(case, data.channels).warnings for case in cases] == [()] * len(cases)


def test_a_held_out_name_that_is_no_case_is_found_before_anything_is_prepared(tmp_path):
    for name in ("a", "b"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for role in ("t2", "Labels"):
            (folder / f"{name}_{role}.nii.gz").write_bytes(b"no image: reading it would fail")
    config = Config("x", data=DataConfig(root=str(tmp_path / "data"), channels=("t2",), validation=("ZZ",)))
    with pytest.raises(UserError, match="data.validation names 'ZZ', which is not a case"):
        prepared_cases(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
