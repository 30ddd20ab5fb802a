from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ivdjax.data.phantom import PhantomOptions, PhantomSet, make_phantom, write_phantoms
from ivdjax.data.phantom.dataset import holds_phantoms, write_case
from ivdjax.imaging.files import read_labels, read_volume
from ivdjax.volume import UserError

TINY = PhantomOptions(channels=("wat", "fat"), shape=(12, 80, 56), spacing_mm=(5.0, 4.0, 3.5))


def test_a_set_has_the_layout_of_a_dataset_and_the_truth_beside_it(tmp_path: Path) -> None:
    root = write_phantoms(tmp_path / "new" / "set", PhantomSet(3, seed=1, visits=2, options=TINY))
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*.*")) == sorted(
        [
            f"{case}/{case}_{part}.nii.gz"
            for case in ("S01_1", "S01_2", "S02_1")
            for part in ("Labels", "Tissues", "fat", "wat")
        ]
        + ["truth.json"]
    )
    assert [path.name for path in root.parent.iterdir()] == ["set"], "nothing is left beside it"
    truth = json.loads((root / "truth.json").read_text())["cases"]
    assert {case: truth[case]["subject"] for case in truth} == {"S01_1": "S01", "S01_2": "S01", "S02_1": "S02"}
    disc = truth["S01_1"]["discs"][0]
    assert disc["level"] == 1 and disc["level_name"] == "L5/S1" and disc["labelled"] is True
    labels = nibabel.load(root / "S01_1" / "S01_1_Labels.nii.gz")
    mask = np.asarray(labels.dataobj) == 1
    centre = nibabel.affines.apply_affine(labels.affine, np.argwhere(mask).mean(axis=0))
    np.testing.assert_allclose(disc["centroid_mm"], centre, atol=0.01)
    assert disc["volume_mm3"] == pytest.approx(mask.sum() * 70, rel=1e-3)


def test_files_read_back_as_the_phantom_that_was_written(tmp_path: Path) -> None:
    phantom = make_phantom(3, TINY)
    write_case(tmp_path / "one", phantom)
    files = {channel: tmp_path / "one" / f"one_{channel}.nii.gz" for channel in ("wat", "fat")}
    volume = read_volume(files, "one")
    assert nibabel.aff2axcodes(nibabel.load(files["fat"]).affine) == ("P", "S", "R")
    np.testing.assert_array_equal(volume.array, phantom.case.volume.array)
    np.testing.assert_allclose(volume.affine, phantom.case.volume.affine, atol=1e-3)
    labels = read_labels(tmp_path / "one" / "one_Labels.nii.gz", "one")
    assert phantom.case.labels is not None
    np.testing.assert_array_equal(labels.array, phantom.case.labels.array)


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    first = write_phantoms(tmp_path / "a", PhantomSet(1, seed=9, options=TINY))
    second = write_phantoms(tmp_path / "b", PhantomSet(1, seed=9, options=TINY))
    for path in first.rglob("*.*"):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()


def test_sets_of_other_seeds_share_no_subject() -> None:
    seeds = [{PhantomSet(50, seed=seed).member(index)[2] for index in range(50)} for seed in (1, 2)]
    assert not seeds[0] & seeds[1] and len(seeds[0]) == 50


def test_what_lies_in_the_output_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    root = write_phantoms(tmp_path / "set", PhantomSet(2, seed=1, options=TINY))
    (root / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="give --overwrite"):
        write_phantoms(root, PhantomSet(1, seed=2, options=TINY))
    write_phantoms(root, PhantomSet(1, seed=2, options=TINY), overwrite=True)
    assert sorted(path.name for path in root.iterdir()) == ["S01", "note.txt", "truth.json"]


def test_a_folder_made_by_others_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "set" / "S01").mkdir(parents=True)
    with pytest.raises(UserError, match=r"S01 was not made by ivdjax\.data\.phantom"):
        write_phantoms(tmp_path / "set", PhantomSet(1, options=TINY), overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file; give a folder"):
        write_phantoms(tmp_path / "file", PhantomSet(1, options=TINY))


def test_an_interrupted_set_leaves_nothing(tmp_path: Path) -> None:
    def stop_after_one(indices: range) -> object:
        yield indices[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path / "set", PhantomSet(2, options=TINY), progress=stop_after_one)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_same_call(tmp_path: Path, root: Path) -> None:
    code = (
        "import time; from tests.data.phantom.test_dataset import *\n"
        "def stop(indices):\n"
        "    yield indices[0]\n"
        "    print(flush=True); time.sleep(60)\n"
        f"write_phantoms({str(tmp_path / 'set')!r}, PhantomSet(2, options=TINY), progress=stop)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 1 and left[0].startswith(".set.") and (tmp_path / left[0] / "S01").is_dir()
    write_phantoms(tmp_path / "set", PhantomSet(1, options=TINY))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("moves", [0, 1, 2, 3])
def test_a_replacement_stopped_at_any_move_is_made_good_by_the_same_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    root = write_phantoms(tmp_path / "set", PhantomSet(3, seed=1, options=TINY))
    (root / "note.txt").write_text("mine")
    move, done = Path.replace, []

    def stop(source: Path, target: Path) -> Path:
        if source.parent.name == ".fresh":
            if len(done) == moves:
                raise KeyboardInterrupt
            done.append(source)
        return move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        if moves < 3:
            with pytest.raises(KeyboardInterrupt):
                write_phantoms(root, PhantomSet(2, seed=2, options=TINY), overwrite=True)
        else:  # two cases and the truth: nothing is left to move
            write_phantoms(root, PhantomSet(2, seed=2, options=TINY), overwrite=True)
    assert (root / "truth.json").exists() == (moves == 3)
    write_phantoms(root, PhantomSet(2, seed=2, options=TINY), overwrite=True)
    assert sorted(path.name for path in root.iterdir()) == ["S01", "S02", "note.txt", "truth.json"]
    truth = json.loads((root / "truth.json").read_text())
    assert truth["seed"] == 2 and sorted(truth["cases"]) == ["S01", "S02"]


def test_an_empty_folder_and_a_link_to_one_are_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    assert write_phantoms(tmp_path / "link", PhantomSet(1, options=TINY)) == tmp_path / "link"
    assert (tmp_path / "link").is_symlink() and (tmp_path / "empty" / "truth.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "link"]


@pytest.mark.parametrize("given", [{"cases": 0}, {"cases": 1, "visits": 0}, {"cases": 1, "seed": -1}])
def test_counts_that_make_no_sense_are_refused(given: dict[str, int]) -> None:
    with pytest.raises(UserError, match="must be at least 1 and the seed at least 0"):
        PhantomSet(**given)


def test_a_phantom_without_labels_is_not_written(tmp_path: Path) -> None:
    phantom = make_phantom(3, TINY)
    bare = replace(phantom, case=replace(phantom.case, labels=None))
    with pytest.raises(ValueError, match="must have labels"):
        write_case(tmp_path / "one", bare)


def test_holds_phantoms_knows_a_set_by_seed_cases_and_options(tmp_path):
    made = PhantomSet(2, 3, options=TINY)
    assert not holds_phantoms(tmp_path / "set", made)
    write_phantoms(tmp_path / "set", made)
    assert holds_phantoms(tmp_path / "set", PhantomSet(2, 3, options=TINY))
    assert not holds_phantoms(tmp_path / "set", PhantomSet(2, 4, options=TINY))
    assert not holds_phantoms(tmp_path / "set", PhantomSet(1, 3, options=TINY))
    assert not holds_phantoms(tmp_path / "set", PhantomSet(2, 3, options=replace(TINY, hard="scoliosis")))


def test_subjects_take_hard_kinds_and_fields_in_turn(tmp_path: Path) -> None:
    mixed = PhantomSet(6, seed=4, visits=2, options=TINY, hard=("", "top_cut"), fields=("full", "slab", "clinical"))
    turns = [mixed.member_options(index) for index in range(12)]
    assert [options.hard for options in turns[:8]] == ["", "", "top_cut", "top_cut"] * 2
    assert [options.field for options in turns[::2]] == ["full", "slab", "clinical"] * 2
    assert turns[0] == replace(TINY, field="full")
    root = write_phantoms(tmp_path / "set", mixed)
    truth = json.loads((root / "truth.json").read_text())
    assert truth["hard"] == ["", "top_cut"] and truth["fields"] == ["full", "slab", "clinical"]
    assert [(case["hard"], case["field"]) for case in truth["cases"].values()] == [
        ("", "full"), ("", "full"), ("top_cut", "slab"), ("top_cut", "slab"), ("", "clinical"), ("", "clinical"),
    ]  # fmt: skip
    assert holds_phantoms(root, mixed)
    assert not holds_phantoms(root, replace(mixed, hard=()))
    assert not holds_phantoms(root, replace(mixed, fields=("full", "clinical")))


def test_a_set_without_turns_has_the_bytes_of_its_cases_and_a_truth_without_their_keys(tmp_path: Path) -> None:
    plain = PhantomSet(1, seed=9, options=TINY)
    root = write_phantoms(tmp_path / "plain", plain)
    truth = json.loads((root / "truth.json").read_text())
    assert list(truth) == ["generator", "seed", "options", "cases"]
    assert list(truth["cases"]["S01"]) == ["subject", "visit", "seed", "hard", "discs"]
    turns = write_phantoms(tmp_path / "turns", replace(plain, hard=("",), fields=("full",)))
    for path in (root / "S01").iterdir():
        assert path.read_bytes() == (turns / "S01" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ({"hard": ("", "scolios")}, "unknown hard kind 'scolios'; did you mean 'scoliosis'"),
        ({"fields": ("full", "clinic")}, "unknown field 'clinic'; did you mean 'clinical'"),
    ],
)
def test_unknown_turns_are_refused(turns: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        PhantomSet(2, options=TINY, **turns)
