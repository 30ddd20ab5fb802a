"""A series is read as it was written, and as independent readers read it; what is no volume is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from ivdjax.imaging.files import dicom, read_channel, read_volume
from ivdjax.imaging.files.dicom import DicomSeries
from ivdjax.imaging.files.dicom_folder import channel_series
from ivdjax.imaging.geometry import to_canonical
from ivdjax.volume import CaseError, Grid, to_world_mm
from tests.dicom_series import PATIENT, PHILIPS, changed, sagittal_affine, write_enhanced, write_series

SHAPE = (10, 12, 5)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def voxels(shape=SHAPE, dtype=np.int16, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3000, shape).astype(dtype)


def found(folder: Path, channel="t2") -> DicomSeries:
    return channel_series(folder, channel, "P")


@pytest.mark.parametrize("spacing_mm", [(1.2, 1.1, 4.0), (0.625, 0.625, 0.9)])
def test_an_oblique_series_is_read_as_it_was_written(tmp_path, spacing_mm):
    array, affine = voxels(), sagittal_affine(spacing_mm)
    paths = write_series(tmp_path / "s", array, affine)
    series = found(tmp_path / "s")
    assert series.files == tuple(paths) and series.frames == () and series.name == "s"  # k runs along the normal
    image = dicom.read(series, "P")
    assert image.array.dtype == np.int16
    np.testing.assert_array_equal(image.array, array)
    np.testing.assert_allclose(image.affine, affine, atol=1e-6)


def test_simpleitk_and_highdicom_read_the_same(tmp_path):
    paths = write_series(tmp_path / "s", voxels(), sagittal_affine(), slope=0.5, intercept=-3)
    image = dicom.read(found(tmp_path / "s"), "P")

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "s")))
    itk = reader.Execute()
    itk_affine = np.eye(4)
    itk_affine[:3, :3] = np.reshape(itk.GetDirection(), (3, 3)) * itk.GetSpacing()
    itk_affine[:3, 3] = itk.GetOrigin()
    np.testing.assert_allclose(image.affine, LPS_TO_RAS @ itk_affine, atol=1e-6)
    np.testing.assert_allclose(image.array, SimpleITK.GetArrayFromImage(itk).T, atol=1e-4)

    other = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in paths])
    mine, affine = to_canonical(image.array, image.grid)
    theirs, their_affine = to_canonical(other.array, Grid(other.array.shape, LPS_TO_RAS @ other.affine))
    np.testing.assert_allclose(mine, theirs, atol=1e-4)
    np.testing.assert_allclose(affine, their_affine, atol=1e-6)


def test_slices_that_were_written_against_the_normal_are_turned(tmp_path):
    array, affine = voxels(), sagittal_affine()
    backwards = affine.copy()
    backwards[:3, 2] *= -1
    write_series(tmp_path / "s", array, backwards)
    image = dicom.read(found(tmp_path / "s"), "P")
    np.testing.assert_array_equal(image.array, array[:, :, ::-1])
    index = np.array([3.0, 4.0, 1.0])
    mirrored = index * (1, 1, -1) + (0, 0, SHAPE[2] - 1)
    np.testing.assert_allclose(to_world_mm(image.affine, mirrored), to_world_mm(backwards, index), atol=1e-6)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_series_that_pydicom_has_compressed(tmp_path, syntax, dtype):
    array = voxels(dtype=dtype)
    write_series(tmp_path / "s", array, sagittal_affine(), transfer_syntax=syntax)
    np.testing.assert_array_equal(dicom.read(found(tmp_path / "s"), "P").array, array)


def through_gdcm(array: np.ndarray, compressor: str, folder: Path) -> pydicom.Dataset:
    """What GDCM makes of one unsigned image (rows, columns)."""
    aside = folder / "aside.dcm"
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.SetFileName(str(aside))
    writer.Execute(SimpleITK.GetImageFromArray(array[None]))
    packed = pydicom.dcmread(aside)
    aside.unlink()
    return packed


def jpeg_lossless(array: np.ndarray, folder: Path) -> bytes:
    return next(generate_frames(through_gdcm(array, "JPEG", folder).PixelData, number_of_frames=1))


def compress(path: Path, compressor: str, syntax: str) -> None:
    """Compresses a file of one unsigned image in place, by GDCM."""
    dataset = pydicom.dcmread(path)
    packed = through_gdcm(dataset.pixel_array, compressor, path.parent)
    assert packed.file_meta.TransferSyntaxUID == syntax
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = packed.PixelData
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path)


@pytest.mark.parametrize(("compressor", "syntax"), [("JPEG", JPEGLosslessSV1), ("JPEG2000", JPEG2000Lossless)])
def test_series_that_gdcm_has_compressed_are_decoded_and_rescaled(tmp_path, compressor, syntax):
    array = voxels(dtype=np.uint16)
    slopes = [1.0, 2.0, 0.5, 3.0, 1.0]
    for path in write_series(tmp_path / "s", array, sagittal_affine(), slope=slopes, intercept=7):
        compress(path, compressor, syntax)
    np.testing.assert_allclose(dicom.read(found(tmp_path / "s"), "P").array, array * np.array(slopes) + 7, rtol=1e-6)


def test_each_slice_has_its_own_rescale_slope(tmp_path):
    array, slopes = voxels(), [0.25 * (k + 1) for k in range(SHAPE[2])]
    write_series(tmp_path / "s", array, sagittal_affine(), slope=slopes, intercept=-10)
    image = dicom.read(found(tmp_path / "s"), "P")
    assert image.array.dtype == np.float32
    np.testing.assert_allclose(image.array, array * np.array(slopes) - 10, rtol=1e-6)


def test_an_enhanced_file_gives_each_of_its_volumes(tmp_path):
    arrays = {PHILIPS[name]: voxels(seed=seed) for seed, name in enumerate(("wat", "fat", "inn"))}
    slopes = {PHILIPS["wat"]: 2.0, PHILIPS["fat"]: 0.5, PHILIPS["inn"]: 1.0}
    path = write_enhanced(tmp_path / "s" / "all.dcm", arrays, sagittal_affine(), slopes=slopes)
    for name in ("wat", "fat", "inn"):
        series = found(tmp_path / "s", name)
        assert series.files == (path,) and len(series.frames[0]) == SHAPE[2]
        image = dicom.read(series, "P")
        np.testing.assert_allclose(image.array, arrays[PHILIPS[name]] * slopes[PHILIPS[name]])
        np.testing.assert_allclose(image.affine, sagittal_affine(), atol=1e-6)


def test_an_enhanced_file_without_rescaling_keeps_its_type(tmp_path):
    kind = ("ORIGINAL", "PRIMARY", "T2", "NONE")
    write_enhanced(tmp_path / "s" / "one.dcm", {kind: voxels()}, sagittal_affine())
    image = dicom.read(found(tmp_path / "s"), "P")
    assert image.array.dtype == np.int16
    np.testing.assert_array_equal(image.array, voxels())


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_enhanced_files_of_a_few_frames_each_are_joined(tmp_path, frames):
    kind, array = ("ORIGINAL", "PRIMARY", "T2", "NONE"), voxels((10, 12, 8))
    for part in range(0, 8, frames):
        affine = sagittal_affine()
        affine[:3, 3] += affine[:3, 2] * part
        path = write_enhanced(tmp_path / "s" / f"{part}", {kind: array[:, :, part : part + frames]}, affine)
        changed(path, StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3", FrameOfReferenceUID="1.2.4")
    series = found(tmp_path / "s")
    assert len(series.files) == 8 // frames and len(series.frames[0]) == frames
    image = dicom.read(series, "P")
    np.testing.assert_array_equal(image.array, array)
    np.testing.assert_allclose(image.affine, sagittal_affine(), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
@pytest.mark.parametrize("slope", [None, 0.5])
def test_dark_high_values_are_turned(tmp_path, dtype, slope):
    array = voxels(dtype=dtype)
    dark = (int(array.max()) + int(array.min()) - array.astype(int)).astype(dtype)
    write_series(tmp_path / "s", dark, sagittal_affine(), slope=slope,
                 extra={"PhotometricInterpretation": "MONOCHROME1"})  # fmt: skip
    image = dicom.read(found(tmp_path / "s"), "P")
    np.testing.assert_allclose(image.array, array * (slope or 1))


def with_scale_slope(path: Path, scale_slope: float, block: int = 0x10) -> None:
    dataset = pydicom.dcmread(path)
    if block > 0x10:
        dataset.add_new((0x2005, 0x0010), "LO", "Philips Imaging DD 001")
    dataset.add_new((0x2005, block), "LO", "Philips MR Imaging DD 001")
    dataset.add_new((0x2005, block << 8 | 0x0E), "FL", scale_slope)
    dataset.save_as(path)


@pytest.mark.parametrize("block", [0x10, 0x12])
def test_the_scale_slope_of_philips(tmp_path, block):
    """Two series of one scan, each stored over its whole range, are one measure once RS and SS are undone."""
    truth = voxels().astype(np.float64)
    for name, slope, scale in (("wat", 2.0, 0.25), ("fat", 0.5, 0.125)):
        stored = np.rint(truth * scale).astype(np.int16)
        for path in write_series(tmp_path / name, stored, sagittal_affine(), slope=slope):
            with_scale_slope(path, scale, block)
        found_values = dicom.read(found(tmp_path / name, name), "P").array
        np.testing.assert_allclose(found_values, np.rint(truth * scale) / scale, rtol=1e-6)


def test_a_slope_of_zero_says_nothing(tmp_path):
    write_series(tmp_path / "s", voxels(), sagittal_affine(), slope=0.0)
    np.testing.assert_array_equal(dicom.read(found(tmp_path / "s"), "P").array, voxels())


def test_channels_of_another_frame_of_reference_or_place_are_refused(tmp_path):
    affine, far, frame = sagittal_affine(), sagittal_affine(origin_mm=(-30, 55, 90)), "1.2.3"
    write_series(tmp_path / "fat", voxels(), affine, frame_of_reference=frame)
    write_series(tmp_path / "wat", voxels(seed=1), affine, frame_of_reference=frame)
    write_series(tmp_path / "opp", voxels(seed=1), affine, frame_of_reference="1.2.4")
    write_series(tmp_path / "inn", voxels(seed=1), far, frame_of_reference=frame)
    remarks: list[str] = []
    volume = read_volume({c: found(tmp_path / c, c) for c in ("fat", "wat")}, "P", remarks.append)
    assert remarks == [] and volume.array.shape[0] == 2
    with pytest.raises(CaseError, match="channel opp has another DICOM frame of reference than channel fat"):
        read_volume({c: found(tmp_path / c, c) for c in ("fat", "opp")}, "P")
    with pytest.raises(CaseError, match=r"channel inn \(inn\) lies up to 20.0 mm off channel fat"):
        read_volume({c: found(tmp_path / c, c) for c in ("fat", "inn")}, "P")


def refused(match: str, folder: Path) -> None:
    with pytest.raises(CaseError, match=match) as caught:
        read_channel(found(folder), "P")
    text = str(caught.value)
    assert text.startswith("case P: ") and "/s" in text
    assert not any(word in text for word in ("Mustermann", "Erika", "4711", "19640812"))


def test_missing_and_doubled_slices(tmp_path):
    paths = write_series(tmp_path / "s", voxels(), sagittal_affine())
    paths[2].unlink()
    refused("uneven gaps: 8.00 mm between slices 2 and 3 of 4, 4.00 mm elsewhere; slices are missing", tmp_path / "s")
    write_series(tmp_path / "two" / "s", voxels(), sagittal_affine(), series="1.2.3", study="1.2.9")
    write_series(tmp_path / "two" / "s", voxels(), sagittal_affine(), series="1.2.3", study="1.2.9", seed=1)
    refused("5 of 10 images at the place of another", tmp_path / "two" / "s")


def test_rounded_positions_pass_and_odd_ones_do_not(tmp_path):
    paths = write_series(tmp_path / "s", voxels(), sagittal_affine())
    for path in paths:
        changed(path, ImagePositionPatient=[round(float(x), 1) for x in pydicom.dcmread(path).ImagePositionPatient])
    image = dicom.read(found(tmp_path / "s"), "P")
    np.testing.assert_allclose(image.affine, sagittal_affine(), atol=0.06)
    x, y, z = (float(value) for value in pydicom.dcmread(paths[2]).ImagePositionPatient)
    changed(paths[2], ImagePositionPatient=[x, y, z + 1.0])  # all but within the plane: the gaps stay as they are
    refused("up to 0.9. mm off a straight stack", tmp_path / "s")


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ({"PixelSpacing": [1.1, 1.3]}, "several pixel spacings"),
        ({"Rows": 6, "PixelData": b"\0" * 120}, "several sizes"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}, "2 planes, as a localizer"),
        ({"ImagePositionPatient": None}, "no ImagePositionPatient"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PixelData": b"\0" * 720}, "colors"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "high values are bright and dark"),
    ],
)
def test_images_that_do_not_go_together(tmp_path, odd, words):
    """One among many is left out and named; as many as the others are refused."""
    paths = write_series(tmp_path / "s", voxels((10, 12, 6)), sagittal_affine())
    changed(paths[0], **odd)
    remarks: list[str] = []
    image = dicom.read(channel_series(tmp_path / "s", "t2", "P", remarks.append), "P")
    np.testing.assert_array_equal(image.array, voxels((10, 12, 6))[:, :, 1:])
    (remark,) = remarks
    assert remark.startswith("case P: left out of series 1 in s (5 sagittal images") and paths[0].name in remark
    for path in paths[1:3]:
        changed(path, **odd)
    refused(words, tmp_path / "s")


def test_a_stray_in_the_midst_leaves_a_gap(tmp_path):
    paths = write_series(tmp_path / "s", voxels(), sagittal_affine())
    changed(paths[2], ImagePositionPatient=None)
    refused("uneven gaps", tmp_path / "s")
    for path in paths[1:]:
        path.unlink()
    changed(paths[0])
    refused("a single image", tmp_path / "s")


def test_files_that_are_damaged_or_gone(tmp_path):
    paths = write_series(tmp_path / "s", voxels(), sagittal_affine())
    series, whole = found(tmp_path / "s"), paths[1].read_bytes()
    paths[1].write_bytes(whole[:-40])
    refused("cannot be read as a DICOM image, it is truncated", tmp_path / "s")
    moved_bytes = whole[: whole.index(b"\xe0\x7f\x10\x00")]
    paths[1].write_bytes(moved_bytes)
    refused("the file ends before its pixels", tmp_path / "s")
    for length in (200, 400, 425, 700):  # 425: within the SOP class
        paths[1].write_bytes(whole[:length])
        refused(f"{paths[1].name}: the header cannot be read", tmp_path / "s")
    paths[1].unlink()
    with pytest.raises(CaseError, match=f"case P: no file .*{paths[1].name}"):
        dicom.read(series, "P")


def test_a_file_that_was_changed_since_it_was_found(tmp_path):
    kind = ("ORIGINAL", "PRIMARY", "T2", "NONE")
    write_enhanced(tmp_path / "s" / "one.dcm", {kind: voxels()}, sagittal_affine())
    series = replace(found(tmp_path / "s"), frames=((0, 1, 7),))
    with pytest.raises(CaseError, match="holds 5 frames, not 8; it was changed"):
        dicom.read(series, "P")


def test_an_enhanced_file_with_several_slopes_in_jpeg_lossless(tmp_path):
    """pydicom has no decoder, and GDCM would apply the first frame's slope to all."""
    slopes = {PHILIPS["wat"]: 0.5, PHILIPS["fat"]: 2.0}
    arrays = {kind: voxels(dtype=np.uint16, seed=seed) for seed, kind in enumerate(slopes)}
    path = write_enhanced(tmp_path / "s" / "one.dcm", arrays, sagittal_affine(), slopes=slopes)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([jpeg_lossless(frame, tmp_path) for frame in dataset.pixel_array])
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.save_as(path)
    for channel, kind in (("wat", PHILIPS["wat"]), ("fat", PHILIPS["fat"])):
        np.testing.assert_allclose(dicom.read(found(tmp_path / "s", channel), "P").array, arrays[kind] * slopes[kind])


def test_no_word_about_the_patient_is_kept(tmp_path):
    write_series(tmp_path / "s", voxels(), sagittal_affine(), series_description="Mustermann t2")
    series = found(tmp_path / "s")
    assert not any(value in repr(series) for value in PATIENT.values() if len(value) > 1)
    assert "Mustermann" not in repr(series)


def test_warnings_of_the_library_repeat_no_header(tmp_path, recwarn):
    """pydicom warns of an unknown character set with its name, which may be anybody's text."""
    write_series(tmp_path / "s", voxels(), sagittal_affine(), series_description="T2",
                 extra={"SpecificCharacterSet": "Mustermann"})  # fmt: skip
    recwarn.clear()
    dicom.read(found(tmp_path / "s"), "P")
    assert [str(item.message) for item in recwarn] == []


def test_a_length_beyond_all_memory_is_a_damaged_header(tmp_path, monkeypatch):
    write_series(tmp_path / "s", voxels(), sagittal_affine())

    def starved(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr("pydicom.filereader.read_partial", starved)
    with pytest.raises(CaseError, match="tells of more bytes than memory holds; copy or export it again"):
        found(tmp_path / "s")


def test_reading_in_several_threads_repeats_no_header_either(tmp_path, recwarn):
    """pydicom's checks are a setting of the process: a thread that ends must not switch them on for another."""
    series = []
    for name in ("a", "b"):
        write_series(tmp_path / name, voxels((6, 5, 9)), sagittal_affine(), series_description="T2",
                     extra={"SpecificCharacterSet": "Mustermann"}, frame_of_reference="1.2.3")  # fmt: skip
        for path in (tmp_path / name).iterdir():  # a UID that is none
            path.write_bytes(path.read_bytes().replace(b"1.2.3\0", b"M-4711"))
        series.append(found(tmp_path / name))
    recwarn.clear()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda one: dicom.read(one, "P"), series * 20))
    assert [str(item.message) for item in recwarn] == []


def test_a_header_that_claims_too_much_is_refused_before_pixels_are_unpacked(tmp_path, monkeypatch):
    paths = write_series(tmp_path / "s", voxels(), sagittal_affine(), transfer_syntax=RLELossless)
    series = found(tmp_path / "s")
    dataset = pydicom.dcmread(paths[2])
    dataset.Rows = dataset.Columns = 65535
    dataset.save_as(paths[2])
    monkeypatch.setattr(pydicom.Dataset, "pixel_array", property(lambda dataset: pytest.fail("it was unpacked")))
    with pytest.raises(CaseError, match="claims 65535 x 65535 x 1 voxels, more than 500000000"):
        dicom.read(replace(series, files=(paths[2],)), "P")
