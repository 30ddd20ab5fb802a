from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK

from ivdjax.imaging.files import read_channel
from ivdjax.imaging.files.dicom_folder import channel_series
from ivdjax.imaging.files.source import source_files, source_folder, source_name, source_sha256
from tests.dicom_series import sagittal_affine, write_series


def test_a_file(tmp_path):
    path = tmp_path / "P_t2.nii"
    path.write_bytes(b"abc")
    assert source_sha256(path) == hashlib.sha256(b"abc").hexdigest()
    assert (source_name(path), source_folder(path), source_files(path)) == ("P_t2.nii", tmp_path, (path,))


def test_a_series(tmp_path):
    paths = write_series(tmp_path / "s", np.zeros((4, 5, 3), np.int16), sagittal_affine())
    series = channel_series(tmp_path / "s", "t2", "P")
    assert (source_name(series), source_folder(series), source_files(series)) == ("s", tmp_path / "s", tuple(paths))
    digest = source_sha256(series)
    assert len(digest) == 64
    for path in paths:  # other names, the same slices
        path.rename(path.with_name(f"x{path.name}"))
    assert source_sha256(channel_series(tmp_path / "s", "t2", "P")) == digest
    assert source_sha256(replace(channel_series(tmp_path / "s", "t2", "P"), frames=((0, 1),))) != digest
    first = tmp_path / "s" / f"x{paths[0].name}"
    first.write_bytes(first.read_bytes()[:-2] + b"\1\1")
    assert source_sha256(channel_series(tmp_path / "s", "t2", "P")) != digest


@pytest.mark.parametrize(("header", "voxels"), [("a.mhd", "a.raw"), ("a.nhdr", "a.raw")])
def test_a_detached_header_counts_its_voxels(tmp_path, header, voxels):
    image = SimpleITK.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    SimpleITK.WriteImage(image, str(tmp_path / header))
    path = tmp_path / header
    array, _, _ = read_channel(path, "P")
    assert array.size == 24
    assert source_files(path) == (path, tmp_path / voxels)
    digest = source_sha256(path)
    (tmp_path / voxels).write_bytes(b"\1" * 48)
    assert source_sha256(path) != digest
    (tmp_path / voxels).unlink()
    assert source_files(path) == (path,)
