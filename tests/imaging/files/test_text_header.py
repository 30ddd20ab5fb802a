"""A header leads to voxels in its own folder and to no other file, and cannot overrun the readers in C."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ivdjax.imaging.files import itk
from ivdjax.volume import CaseError

SHAPE = (4, 5, 6)
SECRET = bytes([0xA7]) * 1000


def metaimage(data: str, **changes: str) -> bytes:
    fields = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "CompressedData": "False", "Offset": "0 0 0",
              "ElementSpacing": "2 1 1", "DimSize": "4 5 6", "ElementType": "MET_UCHAR"} | changes  # fmt: skip
    return "".join(f"{key} = {value}\n" for key, value in {**fields, "ElementDataFile": data}.items()).encode()


def nrrd(*lines: str) -> bytes:
    fields = ["NRRD0004", "type: unsigned char", "dimension: 3", "space: left-posterior-superior",
              "sizes: 4 5 6", "space directions: (2,0,0) (0,1,0) (0,0,1)", "encoding: raw",
              "space origin: (0,0,0)", *lines]  # fmt: skip
    return "\n".join(fields).encode() + b"\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With voxels in it and in a folder below, beside one with a file that must not be read."""
    for name, content in (("outside/secret.raw", SECRET), ("case/own.raw", bytes(range(120))),
                          ("case/below/own.raw", bytes(range(120)))):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path / "case"


def stored(folder: Path, ending: str, content: bytes) -> Path:
    (folder / f"x{ending}").write_bytes(content)
    return folder / f"x{ending}"


@pytest.mark.parametrize("name", ["own.raw", "./own.raw", "below/own.raw"])
@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_voxels_beside_the_header_or_below_are_read(folder, ending, name):
    content = metaimage(name) if ending == ".mhd" else nrrd(f"data file: {name}")
    image = itk.read(stored(folder, ending, content), "x")
    np.testing.assert_array_equal(image.array.ravel(order="F"), np.arange(120))


@pytest.mark.parametrize(
    "name",
    ["../outside/secret.raw",
     "below/../../outside/secret.raw", "{parent}/outside/secret.raw", "C:\\secret.raw",
     "..\\outside\\secret.raw"],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_voxels_elsewhere_are_not_read(folder, ending, name):
    name = name.format(parent=folder.parent)
    content = metaimage(name) if ending == ".mhd" else nrrd(f"data file: {name}")
    with pytest.raises(CaseError, match="names voxels outside of its own folder, which are not read"):
        itk.read(stored(folder, ending, content), "x")


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        (".mhd", metaimage("LIST") + b"../outside/secret.raw\n"),
        (".mhd", metaimage("%d.raw 1 6 1")),
        (".nhdr", nrrd("data file: LIST", "../outside/secret.raw")),
        (".nhdr", nrrd("data file: %d.raw 1 6 1")),
    ],
)
def test_voxels_in_several_files_are_refused(folder, ending, content):
    with pytest.raises(CaseError, match="must name one file that holds its voxels"):
        itk.read(stored(folder, ending, content), "x")


def test_one_file_holds_its_voxels_itself(folder):
    with pytest.raises(CaseError, match="which a .mha file does not; it must end in .mhd"):
        itk.read(stored(folder, ".mha", metaimage("own.raw")), "x")
    with pytest.raises(CaseError, match="which a .nrrd file does not; it must end in .nhdr"):
        itk.read(stored(folder, ".nrrd", nrrd("data file: own.raw", "", "")), "x")
    whole = stored(folder, ".mha", metaimage("LOCAL") + bytes(120))
    assert itk.read(whole, "x").array.shape == SHAPE


@pytest.mark.parametrize(
    ("ending", "content", "words"),
    [
        (".nrrd", nrrd("space units: " + "9" * 5000) + b"\n" + bytes(120), "a line of more than 500 letters"),
        (".nrrd", nrrd("note:=" + "x" * 200_000) + b"\n" + bytes(120), "a line of more than 100000 letters"),
        (".nrrd", nrrd("content: x\rdata file: own.raw") + b"\n" + bytes(120), "no sound NRRD header"),
        (".nrrd", nrrd(), "no sound NRRD header"),
        (".nrrd", metaimage("LOCAL") + bytes(120) + b"\n\n", "no sound NRRD header"),
        (".mha", metaimage("LOCAL", NDims="-1") + bytes(120), "NDims in .* must be a number from 2 to 9"),
        (".mha", metaimage("LOCAL", Comment="x" * 5000) + bytes(120), "a line of more than 500 letters"),
        (".mha", nrrd() + b"\n" + bytes(120), "no sound MetaImage header"),
        (".mha", metaimage("LOCAL").replace(b" = LOCAL", b" : LOCAL"), "no sound MetaImage header"),
    ],
)
def test_headers_that_the_readers_do_not_survive_never_reach_them(folder, ending, content, words):
    with pytest.raises(CaseError, match=words):
        itk.read(stored(folder, ending, content), "x")


def test_a_note_may_be_long(folder):
    content = nrrd("Segment0_Tags:=" + "x" * 3000) + b"\n" + bytes(range(120))
    assert itk.read(stored(folder, ".nrrd", content), "x").array.shape == SHAPE
