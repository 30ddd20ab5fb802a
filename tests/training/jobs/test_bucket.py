"""Addresses of buckets, listings of a run, and what of it counts as a whole."""

from __future__ import annotations

import importlib.util

import pytest
from etils import epath

from ivdjax.model.model import DESCRIPTION
from ivdjax.training.jobs import bucket
from ivdjax.training.jobs.bucket import (
    WholeFolder,
    further_folders,
    is_left_out,
    is_remote,
    local_files,
    open_place,
    remote_files,
    urgency,
    usable,
    whole_folder_of,
)
from ivdjax.training.stage_record import FACTS, FOLDER
from ivdjax.volume import UserError


@pytest.mark.parametrize("output", ["gs://bucket/run", "s3://bucket/run", "file:///tmp/run", "http://host/run"])
def test_an_address_with_a_scheme_is_remote(output):
    assert is_remote(output)


@pytest.mark.parametrize("output", ["runs/a", "/tmp/run", "C:/run", "runs/a://b", "://b", ""])
def test_a_path_is_not_remote(output):
    assert not is_remote(output)


@pytest.mark.parametrize("output", ["ftp://host/run", "gs://", "gs:///"])
def test_an_address_that_is_no_bucket_is_refused_with_the_known_schemes(output):
    with pytest.raises(UserError, match=r"schemes: gs://, s3://, az://, hf://"):
        open_place(output)


def test_a_file_address_is_asked_for_as_a_plain_path():
    with pytest.raises(UserError, match="give the plain path /tmp/run"):
        open_place("file:///tmp/run")


@pytest.mark.parametrize(("scheme", "package"), [("gs", "gcsfs"), ("s3", "s3fs"), ("az", "adlfs")])
def test_a_missing_package_is_named_with_its_install_line(scheme, package, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=f"pip install {package}"):
        open_place(f"{scheme}://bucket/run")


def test_a_place_is_opened_where_the_package_is_there(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert str(open_place("gs://bucket/run") / "disc") == "gs://bucket/run/disc"


def test_every_known_scheme_is_known_to_epath():
    for scheme in bucket.PACKAGES:
        assert str(epath.Path(f"{scheme}://bucket/run")) == f"{scheme}://bucket/run"


def test_files_belong_to_their_whole_folders():
    checkpoint = WholeFolder("disc/checkpoints/100", "disc/checkpoints/100/_CHECKPOINT_METADATA")
    assert whole_folder_of("disc/checkpoints/100/state/d/1f") == checkpoint
    assert whole_folder_of(checkpoint.seal) == checkpoint
    assert whole_folder_of("region/result/weights.npz") == WholeFolder("region/result", "region/result/result.json")
    assert whole_folder_of("model/README.md") == WholeFolder("model", "model/model.json")
    for loose in ("config.json", "disc/journal.csv", "disc/tensorboard/events.1", "disc/checkpoints/x/1", "models/a"):
        assert whole_folder_of(loose) is None


def test_seals_are_the_files_without_which_readers_pass_a_folder_over():
    assert whole_folder_of(f"disc/{FOLDER}/x").seal == f"disc/{FOLDER}/{FACTS}"
    assert whole_folder_of("model/x").seal == f"model/{DESCRIPTION}"


def test_the_model_and_results_go_before_checkpoints_and_new_ones_before_old_ones():
    paths = ["disc/checkpoints/90/a", "disc/checkpoints/100/a", "disc/result/a", "model/a"]
    folders = sorted((whole_folder_of(path) for path in paths), key=urgency)
    assert [folder.path for folder in folders] == [
        "model", "disc/result", "disc/checkpoints/100", "disc/checkpoints/90",
    ]  # fmt: skip


def test_a_whole_folder_without_its_seal_is_not_usable():
    half = {"disc/checkpoints/2/state/a", "disc/journal.csv"}
    assert usable(half) == {"disc/journal.csv"}
    assert usable(half | {"disc/checkpoints/2/_CHECKPOINT_METADATA"}) == half | {
        "disc/checkpoints/2/_CHECKPOINT_METADATA"
    }


def checkpoint(step, stage="disc"):
    return f"{stage}/checkpoints/{step}/_CHECKPOINT_METADATA"


@pytest.mark.parametrize(
    ("there", "here", "further"),
    [
        ({checkpoint(100)}, set(), {"disc"}),
        ({checkpoint(100)}, {checkpoint(90)}, {"disc"}),  # as numbers, not as text
        ({checkpoint(100)}, {checkpoint(100)}, set()),
        ({checkpoint(90)}, {checkpoint(100)}, set()),
        ({"disc/result/result.json"}, {checkpoint(100)}, {"disc"}),
        ({checkpoint(100)}, {"disc/result/result.json"}, set()),
        ({"disc/journal.csv"}, {"disc/journal.csv"}, set()),
        ({checkpoint(2, "region"), checkpoint(1)}, {checkpoint(1, "region"), checkpoint(2)}, {"region"}),
        ({"model/model.json"}, {checkpoint(1)}, {"model"}),
        ({"config.json"}, set(), set()),
    ],
)
def test_each_stage_is_taken_from_where_it_is_further(there, here, further):
    assert further_folders(there, here) == further


@pytest.mark.parametrize(
    "path",
    ["cache/a.npz", "data/S1/S1_t2.nii.gz", "fold_3/disc/journal.csv", "disc/.journal.csv.part",
     ".model.x1.part/weights.npz", "disc/checkpoints/7.orbax-checkpoint-tmp/a",
     "disc/checkpoints/7.orbax-checkpoint-tmp-99/a"],
)  # fmt: skip
def test_half_written_and_remade_files_are_left_out(path):
    assert is_left_out(path)


def test_only_the_top_is_named_cache_or_data():
    assert not is_left_out("disc/data/a") and not is_left_out("database") and not is_left_out("config.json")


def test_both_listings_agree(tmp_path):
    for path in (
        "config.json",
        "disc/journal.csv",
        "disc/checkpoints/1/state/d/a",
        "cache/a",
        "disc/.b.part",
        "data/x",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    expected = {path: len(path) for path in ("config.json", "disc/journal.csv", "disc/checkpoints/1/state/d/a")}
    assert remote_files(epath.Path(tmp_path)) == expected
    assert {path: size for path, (size, _) in local_files(tmp_path).items()} == expected


def test_a_folder_that_is_not_there_is_empty(tmp_path):
    assert remote_files(epath.Path(tmp_path / "none")) == {}
    assert local_files(tmp_path / "none") == {}
