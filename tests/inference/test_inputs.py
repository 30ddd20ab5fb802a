from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ivdjax.data.datasets import read_case
from ivdjax.imaging.files import source_name
from ivdjax.inference.cohort import case_line
from ivdjax.inference.inputs import find_inputs
from ivdjax.inference.results import OutputOptions
from ivdjax.reports.tables import CaseSummary
from ivdjax.volume import UserError
from tests.dicom_series import SIEMENS, sagittal_affine, write_enhanced, write_series

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
    refused(r"no case was found in .*, which holds 1 folder \(one\)", [tmp_path])
    refused("is one image, but the model needs 2 channels", [fat])
    refused("not an image that can be read", [touch(tmp_path / "note.txt")], ("t2",))
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


def test_a_linked_image_and_a_linked_folder_are_named_by_the_folder_that_the_user_sees(tmp_path):
    key = touch(tmp_path / "annex" / "MD5E-s1" / "MD5E-s1.nii")
    (tmp_path / "S05").mkdir()
    (tmp_path / "S05" / "t2.nii").symlink_to(key)
    (tmp_path / "S09").symlink_to(tmp_path / "S05")
    for given in ("S05", "S05/t2.nii", "S09", "S09/t2.nii"):
        assert [case.name for case in find_inputs([str(tmp_path / given)], ("t2",))] == [given[:3]]


def test_a_case_that_lacks_a_name_is_left_over_and_named(tmp_path):
    add_case(tmp_path, "a")
    touch(tmp_path / "bad\x1b[2J\nname" / "x.nii")
    _, left = find_inputs([str(tmp_path)], DIXON)
    assert left.left_over and "holds x.nii: no file for channel fat or wat by its name" in left.problem
    line = case_line(CaseSummary(left.name, "unread", reasons=(left.problem,)), tmp_path, OutputOptions())
    assert r"bad\x1b[2J\nname holds x.nii" in line and "\x1b" not in line


@pytest.mark.parametrize("name", ["", "  ", ".", "..", ".S01.abcdefgh.part", "a/b", "a\\b", "a\udcff"])
def test_a_case_name_that_no_folder_can_or_should_have_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="cannot be the name of a folder"):
        find_inputs([f"t2={touch(tmp_path / 'x.nii')}"], ("t2",), name)


def test_a_name_too_long_for_the_names_of_results_is_the_cases_own_problem(tmp_path):
    add_case(tmp_path, "a")
    add_case(tmp_path, "ä" * 101)
    first, second = find_inputs([str(tmp_path)], DIXON)
    assert first.files is not None and second.files is None
    assert "the name has 202 bytes, and results could not be stored under more than 200" in second.problem


def test_an_image_whose_name_is_no_utf8_is_the_cases_own_problem(tmp_path):
    (case,) = find_inputs([str(touch(tmp_path / "a\udcff_t2.nii"))], ("t2",))
    assert case.files is None and case.problem.startswith(r"case a\xff: the name is no valid UTF-8")


def test_accents_may_be_written_either_way(tmp_path):
    composed, decomposed = "Jos\u00e9", "Jose\u0301"
    touch(tmp_path / composed / f"{decomposed}_t2.nii")
    (case,) = find_inputs([str(tmp_path)], ("t2",))
    assert case.name == composed and case.files is not None and list(case.files.channels) == ["t2"]


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
    assert problems == {
        "a": "",
        "M\\xfcller": "case M\\xfcller: the name is no valid UTF-8; rename it, or set a locale of UTF-8",
    }


ARRAY = np.zeros((4, 5, 3), np.int16)


def add_dicom(folder: Path, **options) -> Path:
    write_series(folder, ARRAY, sagittal_affine(), **options)
    return folder


def channels_of(case) -> dict[str, str]:
    assert case.files is not None, case.problem
    return {channel: source_name(source) for channel, source in case.files.channels.items()}


def test_dicom_in_one_folder_and_in_series_folders(tmp_path):
    add_dicom(tmp_path / "P1", image_type=SIEMENS["fat"], study="1.2.3")
    add_dicom(tmp_path / "P1", image_type=SIEMENS["wat"], study="1.2.3")
    (case,) = find_inputs([str(tmp_path / "P1")], DIXON)
    assert case.name == "P1" and channels_of(case) == {"fat": "P1", "wat": "P1"}
    add_dicom(tmp_path / "P2" / "x", image_type=SIEMENS["fat"], study="1.2.4")
    add_dicom(tmp_path / "P2" / "y", image_type=SIEMENS["wat"], study="1.2.4")
    (case,) = find_inputs([str(tmp_path / "P2")], DIXON)
    assert case.name == "P2" and channels_of(case) == {"fat": "x", "wat": "y"}
    cases = find_inputs([str(tmp_path)], DIXON)
    assert {case.name: channels_of(case) for case in cases} == {
        "P1": {"fat": "P1", "wat": "P1"}, "P2": {"fat": "x", "wat": "y"},
    }  # fmt: skip


def test_a_cohort_of_dicom_folders_of_several_studies(tmp_path):
    for name in ("a", "b"):
        add_dicom(tmp_path / name)
    add_case(tmp_path / "mixed", "n", ["t2"])
    add_dicom(tmp_path / "mixed" / "d" / "series")
    add_dicom(tmp_path / "mixed" / ".hidden")
    assert [(case.name, channels_of(case)) for case in find_inputs([str(tmp_path)], ("t2",))[:2]] == [
        ("a", {"t2": "a"}), ("b", {"t2": "b"}),
    ]  # fmt: skip
    cases = find_inputs([str(tmp_path / "mixed")], ("t2",))
    assert [(case.name, channels_of(case)) for case in cases] == [
        ("d", {"t2": "series"}), ("n", {"t2": "n_t2.nii.gz"}),
    ]  # fmt: skip


def test_a_dicom_case_that_cannot_be_told_is_its_own_problem(tmp_path):
    add_dicom(tmp_path / "a", study="1.2.3")
    add_dicom(tmp_path / "b", study="1.2.4")
    add_dicom(tmp_path / "b", study="1.2.4")
    first, second = find_inputs([str(tmp_path)], ("t2",))
    assert channels_of(first) == {"t2": "a"}
    assert second.files is None and "case b: several DICOM series may be t2: series 1" in second.problem
    damaged = min((tmp_path / "a").iterdir())
    damaged.write_bytes(damaged.read_bytes()[:150])
    first, _ = find_inputs([str(tmp_path)], ("t2",))
    assert first.files is None and "case a: " in first.problem and "header cannot be read" in first.problem
    (alone,) = find_inputs([str(tmp_path / "a")], ("t2",))
    assert "header cannot be read" in alone.problem


def test_files_named_by_channels_come_before_dicom(tmp_path):
    add_case(tmp_path, "a", ["t2"])
    add_dicom(tmp_path / "a", series_description="t2")
    (case,) = find_inputs([str(tmp_path / "a")], ("t2",))
    assert channels_of(case) == {"t2": "a_t2.nii.gz"} and len(case.files.ignored) == 3


def test_channel_folder_pairs(tmp_path):
    fat = touch(tmp_path / "x.nii")
    folder = add_dicom(tmp_path / "water", image_type=SIEMENS["inn"])
    (case,) = find_inputs([f"wat={folder}", f"fat={fat}"], DIXON, "P1")
    assert case.name == "P1" and channels_of(case) == {"fat": "x.nii", "wat": "water"}
    slice_file = next(folder.iterdir())
    refused("is a file of a DICOM series; give the folder", [f"wat={slice_file}"], name="P")
    refused("is a file of a DICOM series; give the folder", [slice_file])
    (tmp_path / "empty").mkdir()
    refused("no DICOM file lies in the folder", [f"wat={tmp_path / 'empty'}"], name="P")
    add_dicom(tmp_path / "two")
    add_dicom(tmp_path / "two")
    (case,) = find_inputs([f"wat={tmp_path / 'two'}"], DIXON, "P1")
    assert case.files is None and "case P1: several DICOM series may be wat" in case.problem


def test_one_file_of_several_frames_is_a_case(tmp_path):
    path = write_enhanced(tmp_path / "x" / "P9.dcm", {SIEMENS["wat"]: ARRAY, SIEMENS["fat"]: ARRAY}, sagittal_affine())
    (case,) = find_inputs([str(path)], DIXON)
    assert case.name == "P9" and channels_of(case) == {"fat": "x", "wat": "x"}
    (case,) = find_inputs([f"wat={path}"], DIXON, "P1")
    assert case.files is not None and read_case(case.files, DIXON, partial=True).volume.channels == ("wat",)


def test_no_file_of_a_folder_of_named_cases_is_opened(tmp_path, monkeypatch):
    for number in range(5):
        add_case(tmp_path, f"c{number}")
    touch(tmp_path / "labels" / "c0_Labels.nii.gz")
    touch(tmp_path / "truth.json")
    opened = []
    monkeypatch.setattr(Path, "open", lambda path, *_: opened.append(path))
    assert len(find_inputs([str(tmp_path)], DIXON)) == 5
    assert opened == []


@pytest.mark.parametrize("name", ["site1/001", "../x", "/tmp/x", ".hidden"])
def test_a_listed_case_whose_name_is_no_folders_is_its_own_problem(tmp_path, name):
    image = touch(tmp_path / "P1_t2.nii.gz")
    table = tmp_path / "worklist.csv"
    table.write_text(f"case,channel,path\n{name},t2,{image}\nfine,t2,{image}\n")
    bad, fine = find_inputs([str(table)], ("t2",))
    assert bad.files is None and "which must not begin with a dot or have a slash in it" in bad.problem
    assert fine.name == "fine" and fine.files is not None


def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch):
    touch(tmp_path / "P1_t2.nii.gz")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="t2=: the path is missing"):
        find_inputs(["t2="], ("t2",), "a")
    with pytest.raises(UserError, match="an INPUT is empty"):
        find_inputs([""], ("t2",))
