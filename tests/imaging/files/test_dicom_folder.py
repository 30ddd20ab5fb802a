"""Which series of a folder is which channel; ambiguity is refused and never resolved by chance."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import EnhancedMRImageStorage, RLELossless, generate_uid

from ivdjax.imaging.files import dicom
from ivdjax.imaging.files.dicom_folder import FoundSeries, channel_series, find_channels, holds_dicom
from ivdjax.imaging.files.dicom_tree import scan_tree, visible_entries
from ivdjax.volume import CaseError
from tests.dicom_series import GE, PHILIPS, SIEMENS, sagittal_affine, write_enhanced, write_series

DIXON = ("fat", "inn", "opp", "wat")
SHAPE = (6, 7, 4)
STUDY, FRAME = generate_uid(), generate_uid()


def voxels(value: int) -> np.ndarray:
    return np.full(SHAPE, value, np.int16)


def add(folder: Path, value: int, **options) -> list[Path]:
    options = {"study": STUDY, "frame_of_reference": FRAME, "series_number": value, **options}
    return write_series(folder, voxels(value), sagittal_affine(), **options)


def channels_in(folder: Path, channels: tuple[str, ...], case: str) -> FoundSeries:
    """The channels of a case whose folder this is."""
    tree = scan_tree(folder)
    return find_channels(tree.all_files, tree.all_others, tree.folder, channels, case)


def values(found) -> dict[str, int]:
    """The one value of each channel's voxels, which tells the series apart."""
    return {name: int(dicom.read(series, "P").array.max()) for name, series in found.channels.items()}


def add_dixon(folder: Path, vendor: str) -> None:
    for value, channel in enumerate(DIXON, 1):
        if vendor == "siemens":
            add(folder, value, image_type=SIEMENS[channel])
        elif vendor == "philips":
            add(folder, value, image_type=PHILIPS[channel], series="1.2.3", series_number=501)
        elif vendor == "ge":
            add(folder, value, series_description=GE[channel])
        elif vendor == "words":
            word = {"fat": "F", "inn": "in", "opp": "opp", "wat": "W"}[channel]
            add(folder, value, series_description=f"t1_vibe_dixon_sag_{word}")


@pytest.mark.parametrize("vendor", ["siemens", "philips", "ge", "words"])
def test_four_channels_in_one_folder(tmp_path, vendor):
    add_dixon(tmp_path, vendor)
    found = channels_in(tmp_path, DIXON, "P")
    assert values(found) == {"fat": 1, "inn": 2, "opp": 3, "wat": 4} and found.ignored == ()
    (remark,) = found.remarks
    assert remark.startswith("case P: told by DICOM headers: fat = series ") and "vibe" not in remark


def test_an_enhanced_file_of_all_four(tmp_path):
    arrays = {PHILIPS[channel]: voxels(value) for value, channel in enumerate(DIXON, 1)}
    write_enhanced(tmp_path / "one", arrays, sagittal_affine())
    assert values(channels_in(tmp_path, DIXON, "P")) == {"fat": 1, "inn": 2, "opp": 3, "wat": 4}


def test_series_folders_and_other_series_beside_them(tmp_path):
    folders = [tmp_path / name for name in ("a", "b", "c", "d", "loc")]
    for value, (folder, channel) in enumerate(zip(folders, DIXON, strict=False), 1):
        add(folder, value, image_type=SIEMENS[channel])
    add(folders[4], 9, image_type=("ORIGINAL", "PRIMARY", "M", "LOCALIZER"))
    add(folders[4], 8, image_type=("DERIVED", "PRIMARY", "DIXON", "FAT_FRACTION"))
    add(folders[4], 7, image_type=("ORIGINAL", "PRIMARY", "P", "ND"))
    add(folders[4], 6, modality="CT")
    add(folders[4], 5, extra={"ImagePositionPatient": None})
    (folders[4] / "notes.txt").write_text("x")
    (folders[4] / ".hidden").write_text("x")
    found = channels_in(tmp_path, DIXON, "P")
    assert values(found) == {"fat": 1, "inn": 2, "opp": 3, "wat": 4}
    assert sorted(found.ignored) == [
        "notes.txt",
        "series 5 in loc (4 images, echo time 90 ms): no ImagePositionPatient, ImageOrientationPatient or PixelSpacing",
        "series 6 in loc (4 sagittal images, echo time 90 ms): no MR images",
        "series 7 in loc (4 sagittal images, echo time 90 ms): no magnitude images",
        "series 8 in loc (4 sagittal images, echo time 90 ms): a fat fraction or another map",
        "series 9 in loc (4 sagittal images, echo time 90 ms): a localizer or other images in several planes",
    ]


def test_a_folder_named_as_a_channel_is_it_whatever_its_header_says(tmp_path):
    add(tmp_path / "wat", 1, image_type=SIEMENS["fat"])
    add(tmp_path / "P_fat", 2)
    add(tmp_path / "other", 3, image_type=SIEMENS["inn"])
    found = channels_in(tmp_path, DIXON, "P")
    assert values(found) == {"fat": 2, "inn": 3, "wat": 1}
    add(tmp_path / "fat", 4)
    with pytest.raises(CaseError, match="both give fat"):
        channels_in(tmp_path, DIXON, "P")


def test_a_model_of_one_channel_takes_the_one_series_or_the_one_that_names_it(tmp_path):
    add(tmp_path, 1, series_description="sag Mustermann")
    found = channels_in(tmp_path, ("t2",), "P")
    assert values(found) == {"t2": 1} and found.remarks[0].startswith("case P: told by DICOM headers: t2 = ")
    add(tmp_path, 2, series_description="T2W sag")
    assert values(channels_in(tmp_path, ("t2",), "P")) == {"t2": 2}
    add(tmp_path, 3, series_description="t2_tse_tra Mustermann")
    with pytest.raises(
        CaseError, match=r"several DICOM series may be t2: series 2 in .*; series 3 in .*t2=folder"
    ) as e:
        channels_in(tmp_path, ("t2",), "P")
    assert "Mustermann" not in str(e.value)


def test_a_known_part_is_not_taken_for_another(tmp_path):
    add(tmp_path, 1, image_type=SIEMENS["fat"])
    with pytest.raises(CaseError, match="no DICOM series of channel wat; found series 1 .*: fat by its header;"):
        channels_in(tmp_path, ("wat",), "P")


def test_two_candidates_and_a_series_for_two(tmp_path):
    add(tmp_path / "a", 1, image_type=SIEMENS["wat"])
    add(tmp_path / "b", 2, image_type=SIEMENS["wat"])
    with pytest.raises(
        CaseError, match=r"several DICOM series may be wat: series 1 in a .*; series 2 in b .*wat=folder"
    ):
        channels_in(tmp_path, DIXON, "P")
    add(tmp_path / "c", 3, series_description="Dixon fat and water")
    with pytest.raises(CaseError, match=r"series 3 in c .* matches fat and wat by its headers; say which"):
        channels_in(tmp_path / "c", DIXON, "P")
    add(tmp_path / "d", 4, series_description="t1 t2 sag", extra={"EchoTime": None})
    with pytest.raises(CaseError, match=r"series 4 in d .* matches t1 and t2"):
        channels_in(tmp_path / "d", ("t1", "t2"), "P")


def test_two_echoes_of_one_series_are_told_by_their_times(tmp_path):
    for value, echo_ms in enumerate((2.3, 4.6), 1):
        add(tmp_path, value, series="1.2.3", echo_time_ms=echo_ms, scanning_sequence="GR", series_number=7)
    found = channels_in(tmp_path, DIXON, "P")
    assert values(found) == {"inn": 2, "opp": 1}
    assert "case P: inn is told by its echo time alone" in found.remarks
    add(tmp_path, 3, series="1.2.3", echo_time_ms=9.2, scanning_sequence="GR", series_number=7)
    with pytest.raises(CaseError, match="several DICOM series may be inn"):
        channels_in(tmp_path, DIXON, "P")


def test_a_series_number_that_may_be_a_date_is_not_repeated(tmp_path):
    add(tmp_path, 1, image_type=SIEMENS["wat"], series_number=41)
    add(tmp_path, 2, series_description="localizer", series_number=19640812)
    found = channels_in(tmp_path, ("wat",), "P")
    assert values(found) == {"wat": 1}
    told = " ".join((*found.remarks, *found.ignored))
    assert "a series without number" in told and "19640812" not in told


def test_channels_of_two_studies_are_refused(tmp_path):
    add(tmp_path, 1, image_type=SIEMENS["wat"])
    add(tmp_path, 2, image_type=SIEMENS["fat"], study="1.2.9")
    with pytest.raises(CaseError, match="channels fat and wat come from two studies"):
        channels_in(tmp_path, ("fat", "wat"), "P")


def test_what_the_user_says_a_folder_is(tmp_path):
    add_dixon(tmp_path / "all", "philips")
    assert values_of(channel_series(tmp_path / "all", "opp", "P")) == 3
    add(tmp_path / "odd", 5, image_type=("DERIVED", "PRIMARY", "M", "SUBTRACTION"))
    assert values_of(channel_series(tmp_path / "odd", "wat", "P")) == 5
    for value in (1, 2):
        add(tmp_path / "two", value)
    with pytest.raises(CaseError, match="several DICOM series may be t2: series 1 in two .*; series 2 in two "):
        channel_series(tmp_path / "two", "t2", "P")
    add(tmp_path / "ct", 1, modality="CT")
    with pytest.raises(CaseError, match="holds no DICOM series of MR images for t2; found series 1 .*no MR images"):
        channel_series(tmp_path / "ct", "t2", "P")


def values_of(series) -> int:
    return int(dicom.read(series, "P").array.max())


def test_a_folder_without_dicom(tmp_path):
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "a.txt").write_bytes(b"not DICOM")
    assert not holds_dicom(tmp_path)
    with pytest.raises(CaseError, match="no DICOM series of channel t2; found no image at all"):
        channels_in(tmp_path, ("t2",), "P")


def test_links_to_files_are_followed_and_links_to_folders_elsewhere_are_not(tmp_path):
    paths = add(tmp_path / "elsewhere", 1)
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "folder").symlink_to(tmp_path / "elsewhere")
    assert visible_entries(tmp_path / "s") == []
    for path in paths:
        (tmp_path / "s" / path.name).symlink_to(path)
    assert holds_dicom(tmp_path / "s")
    assert len(channels_in(tmp_path / "s", ("t2",), "P").channels["t2"].files) == len(paths)
    paths[-1].unlink()  # nothing of a series is left out in silence
    with pytest.raises(CaseError, match=f"case P: .*{paths[-1].name} is a link to a file that is not there"):
        channels_in(tmp_path / "s", ("t2",), "P")


@pytest.mark.parametrize(
    ("name", "content"), [("x", b""), ("x", b"\0" * 90), ("x", b"\0" * 128 + b"DI"), ("x.DCM", b"not DICOM")]
)
def test_a_file_that_may_have_been_a_slice_is_not_left_aside(tmp_path, name, content):
    add(tmp_path, 1)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CaseError, match=f"case P: .*/{name} is empty or damaged; copy it again"):
        channels_in(tmp_path, ("t2",), "P")


def acquired(te: float, tr: float, ti: float | None = None) -> dict:
    return {"echo_time_ms": te, "extra": {"RepetitionTime": tr} | ({"InversionTime": ti} if ti else {})}


def test_a_stir_is_never_taken_for_t2(tmp_path):
    """Whatever the series is called: Siemens' STIR is "t2_tirm"."""
    add(tmp_path / "P", 1, series_description="t1_tse_sag", **acquired(10, 600))
    add(tmp_path / "P", 2, series_description="t2_tirm_sag", **acquired(60, 4000, 160))
    with pytest.raises(CaseError, match=r"no DICOM series of channel t2; found series 1 .*: T1 by its header; series 2 "
                       r".*inversion time 160 ms\): STIR by its header; say which"):  # fmt: skip
        channels_in(tmp_path / "P", ("t2",), "P")
    found = channels_in(tmp_path / "P", ("t1", "stir"), "P")
    assert values(found) == {"t1": 1, "stir": 2}
    add(tmp_path / "P", 3, series_description="sag", **acquired(100, 3500))
    assert values(channels_in(tmp_path / "P", ("t2",), "P")) == {"t2": 3}
    add(tmp_path / "one" / "P", 2, series_description="t2_tirm_sag", **acquired(60, 4000, 160))
    with pytest.raises(CaseError, match="STIR by its header"):  # nor where it is all there is
        channels_in(tmp_path / "one" / "P", ("t2",), "P")
    remarks: list[str] = []
    channel_series(tmp_path / "one" / "P", "t2", "P", remarks.append)  # the user says so: it is told
    assert remarks[0].startswith("case P: t2 was said to be series 2") and "which is STIR by its header" in remarks[0]


def test_of_several_series_of_one_contrast_the_plain_sagittal_one_is_taken_and_told(tmp_path):
    add(tmp_path / "P", 1, series_description="t2_fs", **acquired(90, 3500))
    axial = np.diag([-1.0, -1.0, 4.0, 1.0])
    write_series(tmp_path / "P", voxels(2), axial, study=STUDY, frame_of_reference=FRAME, series_number=2,
                 **acquired(90, 3500))  # fmt: skip
    found = channels_in(tmp_path / "P", ("t2",), "P")
    assert values(found) == {"t2": 2}  # axial, without fat suppression
    add(tmp_path / "P", 3, **acquired(90, 3500))
    found = channels_in(tmp_path / "P", ("t2",), "P")
    assert values(found) == {"t2": 3}
    assert "case P: of 2 series of t2 the one is taken that is sagittal" in found.remarks
    add(tmp_path / "fs" / "P", 1, series_description="t2_fs", **acquired(90, 3500))
    found = channels_in(tmp_path / "fs" / "P", ("t2",), "P")
    assert any("taken as t2, is T2 with fat suppression by its header" in remark for remark in found.remarks)


def test_a_water_image_that_is_wanted_as_such_is_not_the_t2_image_too(tmp_path):
    add(tmp_path / "P", 1, image_type=SIEMENS["wat"], **acquired(90, 3500))  # T2-weighted Dixon scans exist
    assert values(channels_in(tmp_path / "P", ("t2", "wat"), "P")) == {"wat": 1}
    assert values(channels_in(tmp_path / "P", ("t2",), "P")) == {"t2": 1}
    add(tmp_path / "P", 2, image_type=SIEMENS["inn"], **acquired(90, 3500))
    assert values(channels_in(tmp_path / "P", ("t2", "wat"), "P")) == {"t2": 2, "wat": 1}


def test_of_a_t2_dixon_scan_the_in_phase_image_alone_is_t2_weighted(tmp_path):
    for value, part in enumerate(SIEMENS, start=1):
        add(tmp_path / "P", value, image_type=SIEMENS[part], **acquired(97, 3800))
    found = channels_in(tmp_path / "P", tuple(SIEMENS), "P").channels
    assert {part: series.weighting for part, series in found.items()} == {"inn": "t2", "opp": "", "wat": "", "fat": ""}


STRIPPED = ("SOPClassUID", "Modality", "Manufacturer", "ImageType", "StudyDate", "StudyTime", "SeriesNumber",
            "MagneticFieldStrength", "ScanningSequence", "PatientName", "PatientID")  # fmt: skip


@pytest.mark.parametrize("kind", ["as it was", "Enhanced in the meta header", "RLE", "without any UID"])
def test_headers_that_an_archive_has_stripped(tmp_path, kind):
    paths = add(tmp_path / "P", 1, transfer_syntax=RLELossless if kind == "RLE" else None)
    for path in paths:
        dataset = pydicom.dcmread(path)
        gone = [*STRIPPED, "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"]
        for keyword in gone if kind == "without any UID" else STRIPPED:
            if keyword in dataset:
                delattr(dataset, keyword)
        if kind == "Enhanced in the meta header":
            dataset.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
        with path.open("wb") as stream:
            pydicom.dcmwrite(stream, dataset)
    found = channels_in(tmp_path / "P", ("t2",), "P")
    assert values(found) == {"t2": 1} and len(found.channels["t2"].files) == SHAPE[2]


def test_copies_of_a_file_count_once(tmp_path):
    for path in add(tmp_path / "P" / "a", 1):
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    shutil.copytree(tmp_path / "P" / "a", tmp_path / "P" / "b")
    found = channels_in(tmp_path / "P", ("t2",), "P")
    assert len(found.channels["t2"].files) == SHAPE[2]
    assert any(f"{3 * SHAPE[2]} files are copies of others of series 1" in remark for remark in found.remarks)


def test_files_of_one_uid_that_are_no_copies_all_count(tmp_path):
    """Some archives give every file the same one."""
    for path in add(tmp_path / "P", 1):
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        dataset.save_as(path)
    assert len(channels_in(tmp_path / "P", ("t2",), "P").channels["t2"].files) == SHAPE[2]


def test_a_series_in_several_folders_is_one(tmp_path):
    for place, path in enumerate(add(tmp_path / "P", 1)):
        (tmp_path / "P" / str(place)).mkdir()
        path.rename(tmp_path / "P" / str(place) / "IM0")
    found = channels_in(tmp_path / "P", ("t2",), "P")
    assert found.channels["t2"].folder == tmp_path / "P" and len(found.channels["t2"].files) == SHAPE[2]


def test_channels_without_a_common_scale_are_told(tmp_path):
    for value, channel in enumerate(("fat", "wat"), 1):
        add(tmp_path / "P", value, image_type=PHILIPS[channel], slope=float(value), manufacturer="Philips Medical")
    (_, told) = channels_in(tmp_path / "P", ("fat", "wat"), "P").remarks
    assert "the header of fat, wat does not tell how any more (scale slope)" in told
    assert len(channels_in(tmp_path / "P", ("fat",), "P").remarks) == 1  # one channel is compared with none
