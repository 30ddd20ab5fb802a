"""Stored values are those of the header's bits, whatever compressed them; other pixels are refused in true words."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLSLossless,
    RLELossless,
)

from ivdjax.imaging.files import dicom
from ivdjax.imaging.files.dicom_folder import channel_series
from ivdjax.imaging.files.dicom_pixels import of_stored_bits
from ivdjax.volume import CaseError
from tests.dicom_series import changed, sagittal_affine, write_series

SHAPE = (40, 48, 3)
BITS = 12

_ROWS, _COLUMNS = np.indices((10, 12))
HT_IMAGE = ((300 * _ROWS + 37 * _COLUMNS * _COLUMNS) % 4096).astype(np.uint16)
HT_CODED = base64.b64decode(
    "/0//UQApQAAAAAAMAAAACgAAAAAAAAAAAAAADAAAAAoAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wAEyCIkJCQkJCQkJCQ"
    "kJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAO4AAf+TwAAm+fEFB3QAAMAAE0AAE0AAEoA0+QMHdADa/QMHdABHA4d0AMAA"
    "E8AAE0AAEwDzaLoDC3QACdMAgjQAf/0Ch3QAwAAWpAABWQAAVYAnT45NuCkET4KFcMscS8yhA384AEkeoeA9zwAhAbxWAD/yy498ACEAdlYAwAAu"
    "ugABb0AALRBJMpkkSZIkEdrYHiBEkkwmSZAESUIbSZ4kEAZhySQJkjgJIOwttmORdAjkMboA/3E//3jff/9+57//WNJKK61YsfLQ+kjWtDccwpoA"
    "/2f/f/9//f9/2ACgvHMJeAD/2Q=="
)
"""`HT_IMAGE` as an HTJ2K codestream, which OpenJPH made: nothing here can."""
JPEG12_IMAGE = np.kron(np.array([[100, 900], [2500, 4000]], np.uint16), np.ones((8, 8), np.uint16))
JPEG12_CODED = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
    "AQEBAQH/wQALDAAQABABAREA/8QAFQABAQAAAAAAAAAAAAAAAAAADg3/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/9oACAEBAAA/AAY+sgBkAF3A/9k="
)
"""`JPEG12_IMAGE` as a JPEG of 12 bits (process 4), which libjpeg made."""


def voxels(signed: bool) -> np.ndarray:
    low, high = (-(1 << (BITS - 1)), 1 << (BITS - 1)) if signed else (0, 1 << BITS)
    return np.random.default_rng(0).integers(low, high, SHAPE).astype(np.int16 if signed else np.uint16)


def read(folder: Path) -> np.ndarray:
    return dicom.read(channel_series(folder, "t2", "P"), "P").array


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("above", ["overlay", "no sign"])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.keyword
)
def test_bits_above_the_stored_ones_are_no_intensity(tmp_path, syntax, above, signed):
    """All 16 bits are coded, of which 12 are the image: above them an overlay, or zeros where the sign should go on."""
    array = voxels(signed)
    words = array.view(np.uint16) & ((1 << BITS) - 1)
    if above == "overlay":
        words = words | (np.random.default_rng(1).integers(0, 16, SHAPE).astype(np.uint16) << BITS)
    stored = words.view(np.int16) if signed else words
    paths = write_series(
        tmp_path / "s", stored, sagittal_affine(), transfer_syntax=None if syntax == ExplicitVRLittleEndian else syntax
    )
    for path in paths:
        changed(path, BitsStored=BITS, HighBit=BITS - 1)
    found = read(tmp_path / "s")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 16), st.booleans(), st.integers(0, 2**16 - 1))
def test_stored_bits_by_hand(bits, signed, word):
    value = word % (1 << bits)
    if signed and value >= 1 << (bits - 1):
        value -= 1 << bits
    for dtype in ("<u2", "<i2", ">u2", ">i2"):
        words = np.array([word], dtype[0] + "u2").view(dtype)
        assert int(of_stored_bits(words, bits, signed)[0]) == value


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"BitsStored": 12, "HighBit": 15}, "stores 12 of 16 bits with 15 as the highest"),
        ({"BitsStored": 17, "HighBit": 16}, "stores 17 of 16 bits"),
        ({"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11}, "stores 12 of 12 bits"),
        ({"PixelData": None, "FloatPixelData": np.zeros(120, "<f4").tobytes()}, "floating point numbers"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "holds colors"),
    ],
)
def test_pixels_of_other_kinds_are_refused_in_words_that_are_true(tmp_path, attributes, words):
    for path in write_series(tmp_path / "s", voxels(False), sagittal_affine()):
        changed(path, **attributes)
    with pytest.raises(CaseError, match=f"case P: .*{words}"):
        read(tmp_path / "s")


def coded(folder: Path, image: np.ndarray, code: bytes, syntax: str) -> None:
    """A series whose every slice is one compressed image."""
    array = np.repeat(image.T[:, :, None], 3, axis=2)
    for path in write_series(folder, array, sagittal_affine()):
        dataset = pydicom.dcmread(path)
        dataset.BitsStored, dataset.HighBit = BITS, BITS - 1
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([code])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.save_as(path)


@pytest.mark.parametrize(
    ("image", "code", "syntax"),
    [(HT_IMAGE, HT_CODED, HTJ2KLossless), (HT_IMAGE, HT_CODED, HTJ2K), (JPEG12_IMAGE, JPEG12_CODED, JPEGExtended12Bit)],
)
def test_compressions_that_one_library_alone_does_not_read(tmp_path, image, code, syntax):
    coded(tmp_path / "s", image, code, syntax)
    np.testing.assert_array_equal(read(tmp_path / "s"), np.repeat(image.T[:, :, None], 3, axis=2))
    coded(tmp_path / "damaged" / "s", image, code[: len(code) // 2] + b"\0" * 9, syntax)
    with pytest.raises(CaseError, match="truncated, damaged or holds no pixels"):
        read(tmp_path / "damaged" / "s")


def test_a_deflated_file(tmp_path):
    array = voxels(True)
    for path in write_series(tmp_path / "s", array, sagittal_affine()):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
    np.testing.assert_array_equal(read(tmp_path / "s"), array)


@pytest.mark.parametrize(
    ("syntax", "name"),
    [(MPEG2MPML, r"MPEG2 Main Profile / Main Level"), ("1.2.3.4711", "an unknown transfer syntax")],
)
def test_a_compression_without_a_decoder_is_named(tmp_path, syntax, name):
    coded(tmp_path / "s", HT_IMAGE, HT_CODED, syntax)
    with pytest.raises(CaseError, match="decodes \\(" + name) as caught:
        read(tmp_path / "s")
    assert "decompress it first" in str(caught.value) and "4711" not in str(caught.value)


def test_a_decoder_that_is_not_installed_is_named_too(tmp_path, monkeypatch):
    coded(tmp_path / "s", HT_IMAGE, HT_CODED, HTJ2KLossless)
    monkeypatch.setattr("pydicom.pixels.decoders.base.Decoder.is_available", False)
    with pytest.raises(CaseError, match=r"High-Throughput JPEG 2000.*install a decoder for pydicom"):
        read(tmp_path / "s")


def test_a_lossy_file_is_decoded(tmp_path):
    coded(tmp_path / "s", HT_IMAGE, HT_CODED, JPEG2000)  # the codestream says itself which it is
    assert np.array_equal(read(tmp_path / "s")[:, :, 0].T, HT_IMAGE)


@pytest.mark.parametrize("missing", ["BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation",
                                     "SamplesPerPixel"])  # fmt: skip
def test_attributes_of_pixels_that_can_be_done_without(tmp_path, missing):
    array = voxels(False)
    for path in write_series(tmp_path / "s", array, sagittal_affine()):
        changed(path, **{missing: None})
    np.testing.assert_array_equal(read(tmp_path / "s"), array)
