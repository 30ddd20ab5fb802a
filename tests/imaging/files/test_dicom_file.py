"""Which files are DICOM, by their first bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ivdjax.imaging.files import dicom
from ivdjax.imaging.files.dicom_file import is_dicom, looks_cut
from ivdjax.imaging.files.dicom_folder import channel_series
from tests.dicom_series import sagittal_affine, write_series

ARRAY = np.random.default_rng(0).integers(0, 3000, (6, 7, 4)).astype(np.int16)


@pytest.mark.parametrize("meta", [False, True], ids=["bare", "meta header"])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_files_without_preamble_are_read(tmp_path, syntax, meta):
    for path in write_series(tmp_path / "s", ARRAY, sagittal_affine()):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
        content = path.read_bytes()
        begin = 132 if meta else content.index(b"\x08\x00\x05\x00")  # the first element of the data set
        path.write_bytes(content[begin:])
        assert is_dicom(path)
    np.testing.assert_array_equal(dicom.read(channel_series(tmp_path / "s", "t2", "P"), "P").array, ARRAY)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x", b""), ("x", b"\0" * 90), ("x", b"not DICOM"), ("x", b"\x08\x00" * 400),
        ("DICOMDIR", b"\0" * 128 + b"DICM"),
        ("x.nii", b"\0" * 128 + b"DICM"), ("x", b"\x08\x00\x05\x00\xff\xff\xff\xff" + b"x" * 2000),
        ("x", b"\x08\x00\x05\x00CS\x04\x00abcd\x08\x00\x05\x00CS\x04\x00abcd\x08\x00\x05\x00CS\x04\x00abcd"),
    ],
)  # fmt: skip
def test_other_files_are_not(tmp_path: Path, name, content):
    (tmp_path / name).write_bytes(content)
    assert not is_dicom(tmp_path / name)


def test_what_may_have_been_one(tmp_path):
    for name, content, cut in (("x", b"", True), ("x", b"\0" * 90, True), ("x", b"\0" * 128 + b"DI", True),
                               ("x.dcm", b"text", True), ("x", b"text", False), ("x.txt", b"", False)):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        assert looks_cut(tmp_path / name) is cut, name
