from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from ivdjax.review import drop
from ivdjax.review.drop import DropBox, unpack
from ivdjax.volume import CaseError
from tests.untrained_model import write_untrained


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(write_untrained(tmp_path_factory.mktemp("models") / "untrained", ["t2"]))


@pytest.fixture
def box(model):
    with DropBox(model) as box:
        yield box


def archive(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            packed.writestr(name.replace("__", "/"), content)
    return path


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "a\\..\\..\\x", "n" * 300, "a/" * 9 + "x"])
def test_names_that_lead_elsewhere_are_refused(box, name):
    with pytest.raises(CaseError, match="cannot be used"):
        box.place(name)


def test_files_are_counted_and_limited(box, monkeypatch):
    path = box.place("study/series/1.dcm")
    assert path.parent.is_dir() and path.name == "1.dcm"
    monkeypatch.setattr(drop, "LARGEST", 10)
    box.count_bytes(10)
    with pytest.raises(CaseError, match="one image at a time"):
        box.count_bytes(1)
    monkeypatch.setattr(drop, "MOST_FILES", 1)
    with pytest.raises(CaseError, match="more than 1 files"):
        box.place("2.dcm")


def test_an_archive_is_unpacked_within_its_folder(tmp_path, monkeypatch):
    unpack(archive(tmp_path / "a.zip", series__1=b"one", two=b"2"), tmp_path / "in")
    assert (tmp_path / "in" / "series" / "1").read_bytes() == b"one"
    (tmp_path / "bad.zip").write_bytes(b"PK no archive")
    with pytest.raises(CaseError, match="cannot be unpacked"):
        unpack(tmp_path / "bad.zip", tmp_path / "in")
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as packed:
        packed.writestr("../out", b"x")
    with pytest.raises(CaseError, match="cannot be used"):
        unpack(tmp_path / "out.zip", tmp_path / "in")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(drop, "LARGEST", 3)
    with pytest.raises(CaseError, match="holds more"):
        unpack(archive(tmp_path / "big.zip", a=b"four"), tmp_path / "in")


def test_an_archive_that_lies_about_its_size_is_stopped(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        packed.writestr("a", b"0123456789")
    (tmp_path / "a.zip").write_bytes(content.getvalue().replace((10).to_bytes(4, "little"), (2).to_bytes(4, "little")))
    with pytest.raises(CaseError):
        unpack(tmp_path / "a.zip", tmp_path / "in")


def test_without_an_image_nothing_is_run(box):
    with pytest.raises(CaseError, match="no image yet"):
        box.run()
    box.cancel()
    assert box.progress.state == "waiting" and box.report is None


@pytest.mark.slow
def test_a_bad_image_fails_a_good_one_is_done_and_a_run_is_cancelled(box):
    import time

    import numpy as np

    from ivdjax.imaging.files import write_volume
    from tests.inference.test_infer import AFFINE, CANONICAL, SHAPE
    from tests.inference.test_infer import Grid as FileGrid

    def wait(wanted: set[str]) -> str:
        end = time.monotonic() + 120
        while (state := box.progress.state) not in wanted:
            assert time.monotonic() < end, box.progress
            time.sleep(0.05)
        return state

    box.place("scan.nii.gz").write_bytes(b"no image")
    box.run()
    with pytest.raises(CaseError, match="one image is being worked on"):
        box.run()
    with pytest.raises(CaseError, match="one image is being worked on"):
        box.place("more")
    assert wait({"done", "failed"}) == "failed" and "scan.nii.gz" in box.progress.reason
    assert "/dropped/" not in box.progress.reason  # the folder means nothing to a person

    box.begin()
    image = np.random.default_rng(0).normal(100, 20, CANONICAL).astype(np.float32)
    write_volume(box.place("scan.nii.gz"), image, FileGrid(SHAPE, AFFINE))
    box.run()
    assert wait({"done", "failed"}) == "done", box.progress
    assert box.report is not None and b"viewer" in box.report.read_bytes()

    box.run()
    box.cancel()
    assert box.progress.state == "cancelled" and box.report is None
    box.run()  # the next one starts a process of its own
    assert wait({"done", "failed"}) == "done", box.progress


def test_a_damaged_archive_is_refused_in_words(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a", bytes(range(256)) * 40)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[40:60] = b"\xff" * 20
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(CaseError, match="a.zip cannot be unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "in")
