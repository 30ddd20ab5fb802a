from __future__ import annotations

from pathlib import Path

import pytest

from ivdjax.data.channel_names import named_channel, split_channel
from ivdjax.inference.inputs import find_inputs
from ivdjax.volume import UserError

DIXON = ("fat", "inn", "opp", "wat")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"image")


def found(root: Path, channels: tuple[str, ...], *inputs: str) -> dict[str, dict[str, str]]:
    """Names of the files of each case by channel."""
    cases = find_inputs(list(inputs) or [str(root)], channels)
    return {case.name: {channel: Path(str(path)).name for channel, path in case.files.channels.items()}
            for case in cases if case.files}  # fmt: skip


@pytest.mark.parametrize(
    ("word", "channel"),
    [("W", "wat"), ("water", "wat"), ("F", "fat"), ("ip", "inn"), ("IP", "inn"), ("in", "inn"), ("opp", "opp"),
     ("op", "opp"), ("out_of_phase", "opp"), ("OOP", "opp"), ("T2", None), ("x", None)],
)  # fmt: skip
def test_usual_names_of_channels(word, channel):
    assert named_channel(word, DIXON) == channel
    assert split_channel(f"P_01_{word}", DIXON) == (None if channel is None else ("P_01", word))


def test_an_own_name_counts_before_a_usual_one_and_two_meanings_are_none():
    assert named_channel("W", ("w", "wat")) == "w"
    assert named_channel("water", ("w", "wat")) is None
    assert named_channel("T2w", ("t1", "t2")) == "t2"


def test_a_flat_folder_is_grouped_by_channel_with_a_note_of_what_was_taken_for_what(tmp_path):
    touch(
        tmp_path, "P01_F.nii.gz", "P01_W.nii.gz", "P01_in_phase.nii.gz", "P01_Labels.nii.gz", "P_2_fat.mha", "notes.txt"
    )
    assert found(tmp_path, DIXON) == {
        "P01": {"fat": "P01_F.nii.gz", "inn": "P01_in_phase.nii.gz", "wat": "P01_W.nii.gz"},
        "P_2": {"fat": "P_2_fat.mha"},
    }
    first, second = find_inputs([str(tmp_path)], DIXON)
    assert "case P01: P01_W.nii.gz was taken for channel wat" in first.files.remarks
    assert second.files.remarks == ()
    touch(tmp_path, "P01_water.nii.gz")
    (case,) = [case for case in find_inputs([str(tmp_path)], DIXON) if case.name == "P01"]
    assert case.files is None and "both give wat; keep one" in case.problem


def test_a_flat_folder_for_a_model_of_one_channel(tmp_path):
    touch(tmp_path, "P01.nii.gz", "P02_STIR.nii.gz", "P02_seg.nii.gz", "P03.nrrd")
    assert set(found(tmp_path, ("t2",))) == {"P01", "P02_STIR", "P03"}
    touch(tmp_path, "P04_T2w.nii.gz")
    assert found(tmp_path, ("t2",)) == {"P04": {"t2": "P04_T2w.nii.gz"}}, "named ones are what was meant"


def test_case_folders_with_usual_names_or_one_image_of_any_name(tmp_path):
    touch(tmp_path / "dixon", "a/a_W.nii.gz", "a/a_F.nii.gz", "b/water.nii.gz")
    assert found(tmp_path / "dixon", DIXON) == {
        "a": {"fat": "a_F.nii.gz", "wat": "a_W.nii.gz"}, "b": {"wat": "water.nii.gz"},
    }  # fmt: skip
    touch(tmp_path / "any", "a/scan.nii.gz", "b/anything.mha", "b/anything_mask.mha")
    assert found(tmp_path / "any", ("t2",)) == {"a": {"t2": "scan.nii.gz"}, "b": {"t2": "anything.mha"}}
    with pytest.raises(UserError, match="no case was found"):
        find_inputs([str(tmp_path / "any")], DIXON)


def test_a_bids_dataset_gives_a_case_for_each_session(tmp_path):
    touch(
        tmp_path, "dataset_description.json", "participants.tsv",
        "sub-01/ses-01/anat/sub-01_ses-01_T2w.nii.gz", "sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz",
        "sub-01/ses-02/anat/sub-01_ses-02_acq-sag_T2w.nii.gz", "sub-01/ses-02/anat/sub-01_ses-02_acq-tra_T2w.nii.gz",
        "sub-02/anat/sub-02_T2w.nii.gz", "derivatives/x/sub-02/anat/sub-02_T2w.nii.gz",
    )  # fmt: skip
    assert found(tmp_path, ("t2",)) == {
        "sub-01_ses-01": {"t2": "sub-01_ses-01_T2w.nii.gz"},
        "sub-01_ses-02_acq-sag": {"t2": "sub-01_ses-02_acq-sag_T2w.nii.gz"},
        "sub-01_ses-02_acq-tra": {"t2": "sub-01_ses-02_acq-tra_T2w.nii.gz"},
        "sub-02": {"t2": "sub-02_T2w.nii.gz"},
    }
    assert set(found(tmp_path, ("mr",))) == {
        "sub-01_ses-01_T1w", "sub-01_ses-01_T2w", "sub-01_ses-02_acq-sag_T2w", "sub-01_ses-02_acq-tra_T2w", "sub-02",
    }  # fmt: skip


def test_dixon_channels_in_a_bids_dataset(tmp_path):
    touch(tmp_path, *(f"sub-7/anat/sub-7_acq-{word}_MEGRE.nii.gz" for word in ("water", "fat", "in", "opp")))
    assert found(tmp_path, DIXON) == {
        "sub-7": {
            c: f"sub-7_acq-{word}_MEGRE.nii.gz" for c, word in zip(DIXON, ("fat", "in", "opp", "water"), strict=True)
        }
    }


def test_a_worklist_names_files_anywhere(tmp_path):
    touch(tmp_path, "x/1.nii.gz", "x/2.nii.gz", "3.mha")
    (tmp_path / "list.csv").write_text(
        f"Case;Channel;Path\na;W;x/1.nii.gz\na;fat;{tmp_path}/x/2.nii.gz\nb;opp;gone.nii\n"
    )
    first, second = find_inputs([str(tmp_path / "list.csv")], DIXON)
    assert {c: Path(str(p)).name for c, p in first.files.channels.items()} == {"fat": "2.nii.gz", "wat": "1.nii.gz"}
    assert second.files is None and "there is no file and no DICOM folder" in second.problem
    (tmp_path / "one.csv").write_text("case,path\na,x/1.nii.gz\nb,3.mha\n")
    assert found(tmp_path, ("t2",), str(tmp_path / "one.csv")) == {"a": {"t2": "1.nii.gz"}, "b": {"t2": "3.mha"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,path\na,1.nii\n", "lacks the column channel"),
        ("case,channel,path\n", "lists no case"),
        ("case,channel,path\na,t1,1.nii\n", "line 2: the model has no channel 't1'"),
        ("case,channel,path\na,,1.nii\n", "line 2: the channel is missing"),
        ("case,channel,path\na,W,1.nii\na,water,2.nii\n", "line 3: case a has channel wat twice"),
    ],
)
def test_a_worklist_that_cannot_be_used_names_its_line(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=f"list.csv.*{message}"):
        find_inputs([str(tmp_path / "list.csv")], DIXON)


def test_a_folder_that_cannot_be_read_is_described_with_the_commands_that_were_likely_meant(tmp_path):
    touch(tmp_path, "x/scan_a.nii.gz", "x/scan_b.nii.gz", "README.txt")
    with pytest.raises(UserError) as refusal:
        find_inputs([str(tmp_path)], DIXON)
    said = str(refusal.value)
    assert "which holds 1 folder (x); 1 other file (README.txt)" in said
    assert f"--case NAME fat={tmp_path}/x/scan_a.nii.gz" in said and "worklist.csv" in said
    touch(tmp_path / "above", "DATA/P1/P1_Labels.nii.gz", "DATA/P1/P1_fat.nii.gz")
    with pytest.raises(UserError, match=f"infer --output OUT {tmp_path}/above/DATA\n"):
        find_inputs([str(tmp_path / "above")], DIXON)
    touch(tmp_path / "two words", "x/a 1.nii.gz", "x/b.nii.gz")  # what is to be pasted into a shell is quoted
    with pytest.raises(UserError, match=f"--case NAME fat='{tmp_path}/two words/x/a 1.nii.gz'\n"):
        find_inputs([str(tmp_path / "two words")], DIXON)


def test_pairs_take_usual_names(tmp_path):
    touch(tmp_path, "1.nii.gz")
    (case,) = find_inputs([f"water={tmp_path}/1.nii.gz"], DIXON, "me")
    assert list(case.files.channels) == ["wat"]
    (case,) = find_inputs([f"anything={tmp_path}/1.nii.gz"], ("t2",), "me")
    assert list(case.files.channels) == ["t2"], "a model of one channel takes any contrast"
