from __future__ import annotations

from pathlib import Path

import pytest

from ivdjax.volume import UserError
from ivdjax.workflows.inputs import find_inputs

DIXON = ("fat", "wat")


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


def add_case(root: Path, name: str, channels=DIXON) -> Path:
    for channel in channels:
        touch(root / name / f"{name}_{channel}.nii.gz")
    return root / name


def test_a_case_folder_and_a_folder_of_cases(tmp_path):
    add_case(tmp_path, "a")
    add_case(tmp_path, "b")
    touch(tmp_path / "a" / "a_Labels.nii.gz")
    (tmp_path / "logs").mkdir()
    assert [case.name for case in find_inputs([str(tmp_path)], DIXON)] == ["a", "b"]
    (case,) = find_inputs([str(tmp_path / "a")], DIXON)
    assert case.files is not None and list(case.files.channels) == ["fat", "wat"]
    assert case.files.labels is None  # inference never looks at a reference


def test_a_case_folder_may_lack_channels_and_a_double_one_is_the_cases_own_problem(tmp_path):
    add_case(tmp_path, "a", ["wat"])
    add_case(tmp_path, "b")
    touch(tmp_path / "b" / "fat.nii")
    first, second = find_inputs([str(tmp_path)], DIXON)
    assert first.files is not None and list(first.files.channels) == ["wat"]
    assert second.files is None and "both give fat" in second.problem and "case b" in second.problem


def test_an_image_for_a_model_of_one_channel(tmp_path):
    path = touch(tmp_path / "P1_t2.nii.gz")
    (case,) = find_inputs([str(path)], ("t2",))
    assert case.name == "P1" and case.files is not None and case.files.channels == {"t2": path}
    (named,) = find_inputs([str(path)], ("t2",), "other")
    assert named.name == "other" and named.files is not None and named.files.name == "other"


def test_one_image_for_a_model_of_several_channels_tells_its_channel_by_its_name(tmp_path):
    path = touch(tmp_path / "P1_WAT.nii.gz")
    (case,) = find_inputs([str(path)], DIXON)
    assert case.name == "P1" and case.files is not None and case.files.channels == {"wat": path}
    (longest,) = find_inputs([str(touch(tmp_path / "P2_low_fat.nii"))], ("fat", "low_fat"))
    assert longest.name == "P2" and longest.files is not None and list(longest.files.channels) == ["low_fat"]
    plain = touch(tmp_path / "P3" / "fat.mha")
    (case,) = find_inputs([str(plain)], DIXON)
    assert case.name == "P3" and case.files is not None and case.files.channels == {"fat": plain}
    refused("channels of one case: give its folder", [path, touch(tmp_path / "P1_fat.nii.gz")])


def test_channel_path_pairs(tmp_path):
    fat, wat = touch(tmp_path / "x.nii"), touch(tmp_path / "y.mha")
    (case,) = find_inputs([f"wat={wat}", f"fat={fat}"], DIXON, "P1")
    assert case.name == "P1" and case.files is not None
    assert list(case.files.channels.items()) == [("fat", fat), ("wat", wat)]
    (case,) = find_inputs([f"wat={wat}"], DIXON, "P1")
    assert case.files is not None and case.files.channels == {"wat": wat}


def refused(match, inputs, channels=DIXON, name=None):
    with pytest.raises(UserError, match=match):
        find_inputs([str(text) for text in inputs], channels, name)


def test_refusals(tmp_path):
    fat, wat = touch(tmp_path / "one" / "x.nii"), touch(tmp_path / "one" / "y.nii")
    refused("no INPUT", [])
    refused("no file or folder", [tmp_path / "nowhere"])
    refused("is no case and holds none", [tmp_path])
    refused("is one image, but the model needs 2 channels", [fat])
    refused("no image that can be read", [touch(tmp_path / "note.txt")], ("t2",))
    refused("need --case", [f"fat={fat}", f"wat={wat}"])
    refused("no channel 'opp'", [f"opp={fat}"], name="P")
    refused("given twice", [f"fat={fat}", f"fat={wat}"], name="P")
    refused("there is no file", [f"fat={tmp_path / 'gone'}"], name="P")
    refused("cannot be the name of a folder", [f"fat={fat}", f"wat={wat}"], name="../P")


def test_two_cases_of_one_name_are_refused(tmp_path):
    one, other = add_case(tmp_path / "1", "a"), add_case(tmp_path / "2", "a")
    refused("two cases are named a", [one, other])


def test_a_name_for_several_cases_is_refused(tmp_path):
    add_case(tmp_path, "a")
    add_case(tmp_path, "b")
    refused("names one case, but INPUT holds 2", [tmp_path], name="P")


def test_a_plain_channel_file_is_named_by_its_folder_and_a_reference_is_no_image(tmp_path):
    path = touch(tmp_path / "P7" / "t2.nii.gz")
    (case,) = find_inputs([str(path)], ("t2",))
    assert case.name == "P7"
    refused("is a reference by its name", [touch(tmp_path / "P7" / "P7_Labels.nii.gz")], ("t2",))


def test_a_folder_by_its_relative_name(tmp_path, monkeypatch):
    monkeypatch.chdir(add_case(tmp_path, "a"))
    (case,) = find_inputs(["."], DIXON)
    assert case.name == "a" and case.files is not None


def test_a_name_that_is_no_utf8_is_the_cases_own_problem(tmp_path):
    folder = tmp_path / "M\udcfcller"
    for channel in DIXON:
        touch(folder / f"{channel}.nii.gz")
    add_case(tmp_path, "a")
    problems = {case.name: case.problem for case in find_inputs([str(tmp_path)], DIXON)}
    assert problems == {"a": "", "M\\xfcller": "case M\\xfcller: the folder's name is no valid UTF-8; rename it"}
