"""DICOM series of one phantom in many forms, as scanners, archives and programs leave them: a folder each.

The situations are those that dcm2niix and pydicom test their own reading with, made anew from an array.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from tests.dicom_series import OBLIQUE_RAS, sagittal_affine, write_enhanced, write_series

SHAPE = (36, 40, 5)
AFFINE = sagittal_affine()

_SAGITTAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
_CORONAL = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
_AXIAL = np.array([[-1.0, 0, 0], [0, -1, 0], [0, 0, 1]])
_TILTED = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


def phantom(dtype: Any = np.int16, low: int = 0, high: int = 3000, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Smooth in plane, with noise: no two voxels in a row are alike."""
    i, j, k = np.indices(shape)
    wave = 0.5 + 0.4 * np.sin(i / 5 + k) * np.cos(j / 7)
    noise = np.random.default_rng(0).random(shape) * 0.1
    return (low + (high - low) * (wave + noise - 0.1).clip(0, 1)).astype(dtype)


def plain(folder: Path, array: np.ndarray | None = None, affine: np.ndarray = AFFINE, **options: Any) -> list[Path]:
    """One classic series."""
    options = {"series": "1.2.3", "in_order": True, **options}
    return write_series(folder, phantom() if array is None else array, affine, **options)


def edited(folder: Path, change: Callable[[Any, int], None], array: np.ndarray | None = None, **options: Any) -> None:
    """One classic series whose data sets are changed one by one, with their place among the slices."""
    for place, path in enumerate(plain(folder, array, **options)):
        dataset = pydicom.dcmread(path)
        change(dataset, place)
        with path.open("wb") as stream:
            pydicom.dcmwrite(stream, dataset, enforce_file_format=False)


def attributes(**values: Any) -> Callable[[Any, int], None]:
    """A change that sets attributes; None takes one away."""

    def change(dataset: Any, _: int) -> None:
        for keyword, value in values.items():
            if value is not None:
                setattr(dataset, keyword, value)
            elif keyword in dataset:
                delattr(dataset, keyword)

    return change


def encoded(syntax: str) -> Callable[[Path], None]:
    """A series in another encoding of the same pixels."""

    def write(folder: Path) -> None:
        for path in plain(folder):
            dataset = pydicom.dcmread(path)
            dataset.file_meta.TransferSyntaxUID = syntax
            if syntax == ExplicitVRBigEndian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
                with path.open("wb") as stream:
                    pydicom.dcmwrite(stream, dataset, implicit_vr=False, little_endian=False, enforce_file_format=True)
            else:
                dataset.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)

    return write


def packed(dataset: Any, frame: bytes, syntax: str) -> None:
    """Gives a data set one compressed image."""
    dataset.PixelData = encapsulate([frame])
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True


def through_gdcm(compressor: str, array: np.ndarray, folder: Path) -> bytes:
    """One image (rows, columns) as GDCM compresses it."""
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.SetFileName(str(folder / "aside.dcm"))
    writer.Execute(SimpleITK.GetImageFromArray(array[None]))
    code = next(generate_frames(pydicom.dcmread(folder / "aside.dcm").PixelData, number_of_frames=1))
    (folder / "aside.dcm").unlink()
    return code


def jpeg_lossless(folder: Path) -> None:
    """JPEG Lossless, as GE scanners send it."""

    def change(dataset: Any, _: int) -> None:
        packed(dataset, through_gdcm("JPEG", dataset.pixel_array, folder), JPEGLosslessSV1)

    edited(folder, change, phantom(np.uint16))


def jpeg_baseline(folder: Path) -> None:
    """JPEG of 8 bits, which loses a little."""
    from io import BytesIO

    from PIL import Image

    def change(dataset: Any, _: int) -> None:
        stream = BytesIO()
        Image.fromarray(dataset.pixel_array.astype(np.uint8)).save(stream, "JPEG", quality=95)
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit, dataset.PixelRepresentation = 7, 0
        packed(dataset, stream.getvalue(), JPEGBaseline8Bit)

    edited(folder, change, phantom(np.uint16, 0, 255))


def twelve_bits(syntax: str | None, above: int, signed: bool = False) -> Callable[[Path], None]:
    """12 bits stored in 16, and something in the four above them."""

    def write(folder: Path) -> None:
        array = phantom(np.int16, -2000, 2000) if signed else phantom(np.uint16, 0, 4000)
        words = (array.view(np.uint16) & 0xFFF) | above
        edited(folder, attributes(BitsStored=12, HighBit=11), words.view(array.dtype), transfer_syntax=syntax)

    return write


def of_bits(dtype: Any, bits: int) -> Callable[[Path], None]:
    """Pixels of 8 or 32 bits."""

    def write(folder: Path) -> None:
        array = phantom(dtype, 0, 200 if bits == 8 else 100_000)

        def change(dataset: Any, place: int) -> None:
            dataset.BitsAllocated = dataset.BitsStored = bits
            dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(np.dtype(dtype).kind == "i")
            dataset.PixelData = np.ascontiguousarray(array[:, :, place].T).tobytes()
            dataset["PixelData"].VR = "OB" if bits == 8 else "OW"

        edited(folder, change)

    return write


def without_preamble(folder: Path) -> None:
    """The data set alone, as implicit little endian."""
    encoded(ImplicitVRLittleEndian)(folder)
    for path in folder.iterdir():
        content = path.read_bytes()
        path.write_bytes(content[content.index(b"\x08\x00\x05\x00") :])


def scattered(folder: Path) -> None:
    """A CD: each file in folders of its own, and a table of contents."""
    for place, path in enumerate(plain(folder / "all")):
        (folder / "DICOM" / f"PA{place % 2}" / f"SE{place}").mkdir(parents=True)
        path.rename(folder / "DICOM" / f"PA{place % 2}" / f"SE{place}" / "IM0")


def copied(folder: Path) -> None:
    """Every file twice."""
    for path in plain(folder):
        shutil.copy(path, path.with_name(f"{path.name}_copy"))


def with_icon(dataset: Any, _: int) -> None:
    """A small picture before the image, with pixels of its own."""
    icon = Dataset()
    icon.Rows = icon.Columns = 4
    icon.SamplesPerPixel, icon.PhotometricInterpretation = 1, "MONOCHROME2"
    icon.BitsAllocated = icon.BitsStored = 8
    icon.HighBit, icon.PixelRepresentation = 7, 0
    icon.add_new(0x7FE00010, "OB", bytes(16))
    dataset.IconImageSequence = Sequence([icon])


def with_nested(dataset: Any, _: int) -> None:
    """Sequences of undefined length, within each other."""
    inner, outer = Dataset(), Dataset()
    inner.CodeValue = "1"
    outer.PurposeOfReferenceCodeSequence = Sequence([inner])
    dataset.ReferencedImageSequence = Sequence([outer, outer])
    dataset["ReferencedImageSequence"].is_undefined_length = True


def with_overlay(dataset: Any, _: int) -> None:
    """An overlay in a group of its own."""
    dataset.add_new(0x60000010, "US", dataset.Rows)
    dataset.add_new(0x60000011, "US", dataset.Columns)
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [1, 1])
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    dataset.add_new(0x60003000, "OW", bytes(dataset.Rows * dataset.Columns // 8))


def with_scale_slope(dataset: Any, _: int) -> None:
    """Philips' own scaling."""
    dataset.Manufacturer = "Philips Medical Systems"
    dataset.add_new((0x2005, 0x0010), "LO", "Philips MR Imaging DD 001")
    dataset.add_new((0x2005, 0x100D), "FL", 0.0)
    dataset.add_new((0x2005, 0x100E), "FL", 0.0125)


def rounded(dataset: Any, _: int) -> None:
    """Positions to a tenth of a millimetre."""
    dataset.ImagePositionPatient = [round(float(x), 1) for x in dataset.ImagePositionPatient]


def padded(folder: Path) -> None:
    """Bytes behind the pixels: a trailing padding element, as the standard allows."""
    edited(folder, lambda dataset, _: dataset.add_new(0xFFFCFFFC, "OB", bytes(126)))


ENHANCED = ("ORIGINAL", "PRIMARY", "T2", "NONE")


def enhanced(frames: int, slope: float | None = None) -> Callable[[Path], None]:
    """Enhanced MR in files of some frames each."""

    def write(folder: Path) -> None:
        array = phantom()
        for part in range(0, SHAPE[2], frames):
            affine = AFFINE.copy()
            affine[:3, 3] += affine[:3, 2] * part
            path = write_enhanced(folder / f"{part}.dcm", {ENHANCED: array[:, :, part : part + frames]}, affine,
                                  slopes=slope and {ENHANCED: slope})  # fmt: skip
            dataset = pydicom.dcmread(path)
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2", "1.2.3", "1.2.4"
            dataset.InstanceNumber = part + 1
            dataset.save_as(path)

    return write


def turned(directions: np.ndarray, spacing_mm: tuple[float, float, float] = (1.2, 1.1, 4.0),
           **options: Any) -> Callable[[Path], None]:  # fmt: skip
    """Another plane, spacing or order."""
    return lambda folder: (
        plain(folder, affine=sagittal_affine(spacing_mm, (-31.5, 55.25, 70), directions), **options) and None
    )


STRIPPED = attributes(SOPClassUID=None, Modality=None, Manufacturer=None, ImageType=None, StudyDate=None,
                      StudyTime=None, SeriesDescription=None, PatientName=None, ScanningSequence=None)  # fmt: skip

VARIANTS: dict[str, Callable[[Path], Any]] = {
    # places
    "oblique": plain,
    "sagittal": turned(_SAGITTAL),
    "coronal": turned(_CORONAL),
    "axial": turned(_AXIAL),
    "tilted about three axes": turned(_TILTED),
    "slices from left to right": turned(_SAGITTAL * (1, 1, -1)),
    "rows from back to front": turned(_SAGITTAL * (-1, 1, 1)),
    "columns upward": turned(_SAGITTAL * (1, -1, 1)),
    "isotropic": turned(OBLIQUE_RAS, (1.0, 1.0, 1.0)),
    "thin and fine": turned(OBLIQUE_RAS, (0.3125, 0.3125, 0.8)),
    "wide gaps": turned(OBLIQUE_RAS, (0.7, 0.7, 8.8)),
    "positions rounded": lambda folder: edited(folder, rounded),
    "two slices": lambda folder: plain(folder, phantom(shape=(36, 40, 2))),
    "odd sizes": lambda folder: plain(folder, phantom(shape=(33, 47, 5))),
    "instance numbers in reverse": lambda folder: edited(
        folder, lambda dataset, place: setattr(dataset, "InstanceNumber", 99 - place)
    ),
    "instance numbers all alike": lambda folder: edited(folder, attributes(InstanceNumber=1)),
    # values
    "unsigned": lambda folder: plain(folder, phantom(np.uint16)),
    "negative": lambda folder: plain(folder, phantom(np.int16, -1500, 1500)),
    "beyond 32767": lambda folder: plain(folder, phantom(np.uint16, 0, 65000)),
    "8 bits": of_bits(np.uint8, 8),
    "32 bits": of_bits(np.int32, 32),
    "12 bits": twelve_bits(None, 0),
    "12 bits signed": twelve_bits(None, 0xF000, True),
    "12 bits, the sign not carried on": twelve_bits(None, 0, True),
    "12 bits and an overlay above": twelve_bits(None, 0x1000),
    "slope and intercept": lambda folder: plain(folder, slope=0.25, intercept=-7),
    "slopes of each slice": lambda folder: plain(folder, slope=[0.5, 1.0, 2.0, 0.25, 1.5]),
    "slope of 0": lambda folder: plain(folder, slope=0.0),
    "Philips' scale slope": lambda folder: edited(folder, with_scale_slope, slope=2.0),
    "MONOCHROME1": lambda folder: edited(folder, attributes(PhotometricInterpretation="MONOCHROME1")),
    # encodings
    "implicit": encoded(ImplicitVRLittleEndian),
    "big endian": encoded(ExplicitVRBigEndian),
    "deflated": encoded(DeflatedExplicitVRLittleEndian),
    "RLE": lambda folder: plain(folder, transfer_syntax=RLELossless),
    "JPEG-LS": lambda folder: plain(folder, transfer_syntax=JPEGLSLossless),
    "JPEG-LS of 12 bits": twelve_bits(JPEGLSLossless, 0x1000),
    "JPEG 2000": lambda folder: plain(folder, phantom(np.uint16), transfer_syntax=JPEG2000Lossless),
    "JPEG 2000 of 12 bits": twelve_bits(JPEG2000Lossless, 0x1000),
    "JPEG lossless": jpeg_lossless,
    "JPEG baseline": jpeg_baseline,
    # headers
    "without preamble": without_preamble,
    "stripped by an archive": lambda folder: edited(folder, STRIPPED),
    "Enhanced MR in the meta header alone": lambda folder: edited(
        folder, lambda dataset, _: setattr(dataset.file_meta, "MediaStorageSOPClassUID", "1.2.840.10008.5.1.4.1.1.4.1")
    ),
    "NumberOfFrames of 1": lambda folder: edited(folder, attributes(NumberOfFrames=1)),
    "an icon before the image": lambda folder: edited(folder, with_icon),
    "nested sequences": lambda folder: edited(folder, with_nested),
    "an overlay of its own": lambda folder: edited(folder, with_overlay),
    "padding behind the pixels": padded,
    "a strange character set": lambda folder: edited(folder, attributes(SpecificCharacterSet="ISO_IR 100")),
    # files
    "each file in a folder of its own": scattered,
    "every file twice": copied,
    "Enhanced": enhanced(SHAPE[2]),
    "Enhanced with a slope": enhanced(SHAPE[2], 0.5),
    "Enhanced, one frame a file": enhanced(1),
}
"""By what is odd about it, what writes it into a folder."""
