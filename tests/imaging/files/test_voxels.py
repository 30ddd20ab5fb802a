"""Voxels behind a text header: all of them, whatever the header says of their size in the file, or none."""

from __future__ import annotations

import bz2
import gzip
import re
import zlib
from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from ivdjax.imaging.files import itk
from ivdjax.imaging.files.content import SLACK_BYTES
from ivdjax.imaging.files.text_header import read_header
from ivdjax.imaging.files.voxels import read_voxels
from ivdjax.volume import CaseError

VOXELS = np.random.default_rng(0).integers(-99, 99, (3, 40, 50)).astype(np.int16)
RAW = VOXELS.tobytes()


def meta(**changes: str | None) -> str:
    fields = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False",
              "CompressedData": "True", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0",
              "ElementSpacing": "1 1 1", "DimSize": "50 40 3", "ElementType": "MET_SHORT"} | changes  # fmt: skip
    lines = [f"{key} = {value}\n" for key, value in {"ElementDataFile": "LOCAL", **fields}.items() if value]
    return "".join(lines[1:]) + lines[0]


def nrrd_header(*lines: str, encoding: str = "gzip") -> str:
    fields = [
        "NRRD0004",
        "type: short",
        "dimension: 3",
        "space: left-posterior-superior",
        "sizes: 50 40 3",
        "space directions: (1,0,0) (0,1,0) (0,0,1)",
        "endian: little",
        f"encoding: {encoding}",
        *lines,
    ]
    return "\n".join(fields) + "\n\n"


def read(path: Path, content: bytes) -> np.ndarray:
    path.write_bytes(content)
    return itk.read(path, "x").array.T


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("size", [None, "0", "1", "1000", "{right}", "99999999", "-5"])
def test_a_wrong_size_of_compressed_voxels_costs_nothing(tmp_path, size, detached):
    """ITK gives memory that nothing was written to for most of these, an earlier image's voxels among it."""
    packed = zlib.compress(RAW)
    size = size and size.format(right=len(packed))
    if detached:
        (tmp_path / "x.zraw").write_bytes(packed)
        content = meta(CompressedDataSize=size, ElementDataFile="x.zraw").encode()
        assert np.array_equal(read(tmp_path / "x.mhd", content), VOXELS)
    else:
        content = meta(CompressedDataSize=size).encode() + packed
        assert np.array_equal(read(tmp_path / "x.mha", content), VOXELS)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_header_gives_more_voxels_than_its_file_has(tmp_path_factory, data):
    """Of any form and any sizes: the file's own voxels, or a refusal."""
    sizes = data.draw(st.tuples(*[st.sampled_from([1, 2, 3, 39, 40, 50, 51, 300])] * 3))
    kind = data.draw(st.sampled_from(["MET_SHORT", "MET_UCHAR", "MET_DOUBLE"]))
    packed = data.draw(st.booleans())
    bytes_there = data.draw(st.sampled_from([RAW, RAW[:1], RAW[:-1], RAW[: len(RAW) // 2], RAW * 2]))
    size = data.draw(st.sampled_from([None, "0", "7", str(len(RAW))]))
    header = meta(DimSize=" ".join(map(str, sizes)), ElementType=kind, CompressedData=str(packed),
                  CompressedDataSize=size)  # fmt: skip
    content = header.encode() + (zlib.compress(bytes_there) if packed else bytes_there)
    dtype = {"MET_SHORT": "<i2", "MET_UCHAR": "u1", "MET_DOUBLE": "<f8"}[kind]
    wanted = int(np.prod(sizes)) * np.dtype(dtype).itemsize
    try:
        found = read(tmp_path_factory.mktemp("x") / "x.mha", content)
    except CaseError:
        assert wanted > len(bytes_there) or min(sizes) == 1 or dtype == "<f8"
    else:
        np.testing.assert_array_equal(found.ravel(), np.frombuffer(bytes_there[:wanted], dtype))


def test_no_voxel_of_an_image_read_before_comes_back(tmp_path):
    first = meta().encode() + zlib.compress(bytes([77]) * len(RAW))
    assert (read(tmp_path / "first.mha", first) == 77 * 257).all()
    with pytest.raises(CaseError, match="is truncated or damaged.* of 12000 bytes are there"):
        read(tmp_path / "second.mha", meta().encode() + zlib.compress(RAW[:4000]))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("kind", ["u1", "i2", "u4", "f4", "f8"])
def test_what_another_library_writes_as_nrrd(tmp_path, encoding, kind, order):
    array = (VOXELS % 100).astype(np.dtype(kind).newbyteorder(order))
    path = tmp_path / "x.nrrd"
    nrrd.write(str(path), array.T, {"encoding": encoding, "space": "RAS", "space directions": np.eye(3)})
    found = itk.read(path, "x").array
    assert np.array_equal(found, array.T) and found.dtype == np.dtype(kind)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_what_itk_writes(tmp_path, suffix, kind, packed):
    array = (VOXELS % 100).astype(kind)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(tmp_path / f"x{suffix}"), packed)
    found = itk.read(tmp_path / f"x{suffix}", "x").array.T
    assert np.array_equal(found, array) and found.dtype == array.dtype


def test_other_ways_to_store_a_metaimage(tmp_path):
    big = meta(CompressedData="False", BinaryDataByteOrderMSB="True").encode() + VOXELS.astype(">i2").tobytes()
    assert np.array_equal(read(tmp_path / "big.mha", big), VOXELS)
    text = meta(CompressedData="False", BinaryData="False").encode() + " ".join(map(str, VOXELS.ravel())).encode()
    assert np.array_equal(read(tmp_path / "text.mha", text), VOXELS)
    for head, place in (("7", b"1234567" + RAW), ("-1", b"whatever" + RAW)):
        (tmp_path / "x.raw").write_bytes(place)
        content = meta(CompressedData="False", HeaderSize=head, ElementDataFile="x.raw").encode()
        assert np.array_equal(read(tmp_path / "x.mhd", content), VOXELS)
    with pytest.raises(CaseError, match=r"truncated or damaged.*only|11999 of 12000 bytes|more than it can hold"):
        read(tmp_path / "short.mha", meta(CompressedData="False").encode() + RAW[:-1])


def test_lines_and_bytes_that_an_nrrd_skips(tmp_path):
    for lines, content in (
        (("byte skip: 7",), nrrd_header("byte skip: 7", encoding="raw").encode() + b"1234567" + RAW),
        (("line skip: 2",), nrrd_header("line skip: 2", encoding="raw").encode() + b"a\nb\n" + RAW),
        (("byte skip: -1",), nrrd_header("byte skip: -1", encoding="raw").encode() + b"whatever" + RAW),
        (("byte skip: 7",), nrrd_header("byte skip: 7").encode() + gzip.compress(b"1234567" + RAW)),
    ):
        assert np.array_equal(read(tmp_path / "x.nrrd", content), VOXELS), lines
    for odd in ("line skip: -1", "byte skip: -2", "byte skip: 99999999", "line skip: 5", "byte skip: x"):
        with pytest.raises(CaseError, match="truncated(,| or) damaged"):
            read(tmp_path / "x.nrrd", nrrd_header(odd, encoding="raw").encode() + RAW)


def test_streams_of_either_kind_and_several_in_one(tmp_path):
    path = tmp_path / "x.mha"
    for packed in (gzip.compress(RAW), zlib.compress(RAW), gzip.compress(RAW[:9]) + gzip.compress(RAW[9:])):
        path.write_bytes(meta().encode() + packed)
        assert np.array_equal(read_voxels(read_header(path, "x"), "x")[0], VOXELS.ravel())
        path.write_bytes(meta().encode() + packed[:-1])
        with pytest.raises(CaseError, match="12000 of 12000 bytes are there|of 12000 bytes are there"):
            read_voxels(read_header(path, "x"), "x")


def test_what_follows_a_stream_is_a_remark(tmp_path):
    (tmp_path / "x.mha").write_bytes(meta().encode() + zlib.compress(RAW) + b"a note")
    image = itk.read(tmp_path / "x.mha", "x")
    assert image.remarks == ("x.mha: what follows the end of its compressed voxels is passed over",)
    assert np.array_equal(image.array.T, VOXELS)
    (tmp_path / "x.mha").write_bytes(meta().encode() + zlib.compress(RAW) + bytes(99))
    assert itk.read(tmp_path / "x.mha", "x").remarks == ()


def test_what_is_damaged_short_or_long(tmp_path):
    damaged = bytearray(zlib.compress(RAW))
    damaged[-1] ^= 1
    for content in (bytes(damaged), zlib.compress(RAW[:-1]), zlib.compress(RAW + bytes(2 * SLACK_BYTES)),
                    b"no stream" * 99, b"\x78"):  # fmt: skip
        with pytest.raises(CaseError, match="truncated or damaged"):
            read(tmp_path / "x.mha", meta().encode() + content)
    packed = bytearray(bz2.compress(RAW))
    assert np.array_equal(read(tmp_path / "x.nrrd", nrrd_header(encoding="bz2").encode() + packed), VOXELS)
    packed[len(packed) // 2] ^= 1
    for content in (packed, bz2.compress(RAW[:-1]), bz2.compress(RAW)[:-3]):
        with pytest.raises(CaseError, match="truncated or damaged"):
            read(tmp_path / "x.nrrd", nrrd_header(encoding="bz2").encode() + content)


@pytest.mark.parametrize(
    ("suffix", "change", "words"),
    [
        (".mha", ("MET_SHORT", "MET_STRING"), "of a type that is not read|cannot be read"),
        (".mha", ("NDims = 3", "NDims = 3\nDimSize = 50 40 2"), "two fields DimSize"),
        (".nrrd", ("type: short", "type: block"), "of a type that is not read|cannot be read"),
        (".nrrd", ("encoding: gzip", "encoding: hex"), "encoded in a way that is not read"),
        (".nrrd", ("endian: little\n", ""), "does not state the byte order|cannot be read"),
        (".nrrd", ("type: short", "type: short\nsizes: 50 40 2"), "two fields sizes"),
    ],
)
def test_headers_that_cannot_be_followed(tmp_path, suffix, change, words):
    header = meta() if suffix == ".mha" else nrrd_header()
    assert change[0] in header
    with pytest.raises(CaseError, match=words) as caught:
        read(tmp_path / f"x{suffix}", header.replace(*change, 1).encode() + zlib.compress(RAW))
    assert re.match(r"case x: ", str(caught.value))
