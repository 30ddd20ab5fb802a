"""Compressed voxels behind a header: where they begin, and whether they are whole."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from ivdjax.imaging.files.content import SLACK_BYTES
from ivdjax.imaging.files.packed import check_packed, packed_begin

VOXELS = np.random.default_rng(0).integers(0, 99, (3, 40, 50)).astype(np.uint8)
WANTED = VOXELS.size


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".mhd", ".nhdr"])
def test_where_itk_puts_them(tmp_path: Path, suffix: str) -> None:
    image = SimpleITK.GetImageFromArray(VOXELS)
    SimpleITK.WriteImage(image, str(tmp_path / f"plain{suffix}"), False)
    assert packed_begin(tmp_path / f"plain{suffix}") is None
    folder = tmp_path / "packed"
    folder.mkdir()
    SimpleITK.WriteImage(image, str(folder / f"x{suffix}"), True)
    begin = packed_begin(folder / f"x{suffix}")
    (voxels,) = [p for p in folder.iterdir() if p.suffix != suffix] or list(folder.iterdir())
    assert begin is not None and (begin == 0) == (voxels.suffix != suffix)
    check_packed(voxels, begin, WANTED)


def test_headers_that_do_not_tell(tmp_path: Path) -> None:
    path = tmp_path / "x.nrrd"
    path.write_bytes(b"NRRD0004\nencoding: gzip\nline skip: 2\n\n")
    assert packed_begin(path) is None
    path.write_bytes(b"NRRD0004\nencoding: gzip\n")
    assert packed_begin(path) is None
    path.write_bytes(b"NRRD0004\r\nencoding: gz\r\n\r\nx")
    assert packed_begin(path) == path.read_bytes().index(b"x")


def test_streams_of_either_kind_and_several_in_one(tmp_path: Path) -> None:
    raw, path = VOXELS.tobytes(), tmp_path / "x"
    for packed in (gzip.compress(raw), zlib.compress(raw), gzip.compress(raw[:9]) + gzip.compress(raw[9:])):
        path.write_bytes(b"header" + packed)
        check_packed(path, 6, WANTED)
        path.write_bytes(b"header" + packed[:-1])
        with pytest.raises(EOFError):
            check_packed(path, 6, WANTED)


def test_what_is_damaged_short_or_long(tmp_path: Path) -> None:
    raw, path = VOXELS.tobytes(), tmp_path / "x"
    damaged = bytearray(zlib.compress(raw))
    damaged[-1] ^= 1
    for content, error in (
        (bytes(damaged), zlib.error),
        (zlib.compress(raw[:-1]), EOFError),
        (zlib.compress(raw + bytes(2 * SLACK_BYTES)), ValueError),
        (b"no stream", zlib.error),
        (b"", EOFError),
    ):
        path.write_bytes(content)
        with pytest.raises(error):
            check_packed(path, 0, WANTED)
