"""The bytes of a file, plain or gzipped: as many as were asked for, and nothing beyond them in memory."""

from __future__ import annotations

import gzip
import os
import tracemalloc
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ivdjax.imaging.files import nifti
from ivdjax.imaging.files.content import MOST_DEFLATED, SLACK_BYTES, Content, opened, size_of_file
from ivdjax.volume import CaseError

BYTES = np.random.default_rng(0).integers(0, 9, 300_000).astype(np.uint8).tobytes()
MIB = 1 << 20


def stored(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [BYTES, gzip.compress(BYTES), gzip.compress(BYTES[:7]) + bytes(99) + gzip.compress(BYTES[7:]) + bytes(2 * MIB)],
    ids=["plain", "gzip", "members"],
)
def test_content_comes_in_parts_of_any_size(tmp_path, content):
    with Content(stored(tmp_path / "x", content)) as found:
        assert found.peek(10) == BYTES[:10] and found.peek(4) == BYTES[:4]
        parts = [found.take(count) for count in (3, 0, 1, 200_000, 10**9)]
        assert [len(part) for part in parts[:4]] == [3, 0, 1, 200_000] and b"".join(parts) == BYTES
        assert found.take(1) == b"" and found.finish()
        assert found.most_bytes >= len(BYTES) and found.file_bytes == len(content)


def test_an_empty_member_is_no_end(tmp_path):
    with Content(stored(tmp_path / "x", gzip.compress(b"") + gzip.compress(b"abc"))) as found:
        assert found.take(9) == b"abc"


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_little_may_follow_and_much_may_not(tmp_path, pack):
    for extra, fine in ((SLACK_BYTES, True), (SLACK_BYTES + 1, False)):
        with Content(stored(tmp_path / "x", pack(b"abc" + bytes(extra)))) as found:
            assert found.take(3) == b"abc" and found.finish() is fine


def test_damaged_streams_are_found_at_the_end_at_the_latest(tmp_path):
    packed = gzip.compress(BYTES)
    for content, error in (
        (packed[:-1], EOFError),
        (packed[:5], EOFError),
        (packed[: len(packed) // 2], EOFError),
        (packed[:-8] + bytes(8), zlib.error),
        (packed + packed[:40], EOFError),
    ):
        with pytest.raises(error), Content(stored(tmp_path / "x", content)) as found:
            assert BYTES.startswith(found.take(len(BYTES)))
            found.finish()


@pytest.mark.parametrize("rest", [b"no padding", b"\x1f", b"\0\0x", b"\x1fx" * 3 * MIB])
def test_what_follows_the_end_of_a_gzip_stream_is_passed_over(tmp_path, rest):
    """As gzip itself, nibabel and ITK do."""
    with Content(stored(tmp_path / "x", gzip.compress(BYTES) + rest)) as found:
        assert found.take(10**9) == BYTES and found.finish() and found.trailing
    with Content(stored(tmp_path / "x", gzip.compress(BYTES) + bytes(9))) as found:
        assert found.take(10**9) == BYTES and found.finish() and not found.trailing
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), np.diag([2.0, 2, 2, 1]))
    read = nifti.read(stored(tmp_path / "x.nii.gz", gzip.compress(image.to_bytes()) + rest), "x")
    assert read.remarks == ("x.nii.gz: bytes that follow the end of its gzip stream are passed over",)
    np.testing.assert_array_equal(read.array.ravel(), np.arange(60))


def test_deflate_packs_no_more_than_is_said(tmp_path):
    assert len(gzip.compress(bytes(8 * MIB), 9)) * MOST_DEFLATED > 8 * MIB


def test_what_is_no_file(tmp_path):
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    for name, message in (
        ("absent", "case x: no file "),
        ("link", "a link to a file that is not there"),
        ("pipe", "a pipe or a device"),
        ("folder", "cannot be read: Is a directory"),
        ("empty", "is empty"),
    ):
        with pytest.raises(CaseError, match=message):
            opened(tmp_path / name, "x")
    (tmp_path / "there").symlink_to(stored(tmp_path / "x", b"abc"))
    assert size_of_file(tmp_path / "there") == 3


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    def refuse(self, *_):
        raise PermissionError(13, "Permission denied", str(self))

    path = stored(tmp_path / "x.nii", b"abc")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CaseError, match=r"case x: .*x\.nii cannot be read: Permission denied"):
        nifti.read(path, "x")


def test_a_disk_that_fails_in_mid_file_says_so(tmp_path, monkeypatch):
    def fail(self, count):
        raise OSError(5, "Input/output error")

    path = tmp_path / "x.nii"
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4)), path)
    monkeypatch.setattr(Content, "take", fail)
    with pytest.raises(CaseError, match=r"case x: .*x\.nii cannot be read: Input/output error"):
        nifti.read(path, "x")


@pytest.mark.parametrize("kind", ["bomb", "bomb.gz", "claim", "claim.gz", "promise", "promise.gz", "offset.gz"])
def test_no_memory_is_taken_for_what_a_header_does_not_or_may_not_promise(tmp_path, kind):
    image = nibabel.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4)).to_bytes()
    shape = {"claim": (2200, 2200, 2200), "promise": (800, 800, 700)}.get(kind.removesuffix(".gz"), (3, 4, 5))
    content = image[:42] + np.array(shape, "<i2").tobytes() + image[48:]
    if kind.startswith("offset"):
        content = image[:108] + np.array(2e9, "<f4").tobytes() + image[112:]
    if kind.startswith("bomb"):
        content += bytes(64 * MIB)
    path = stored(tmp_path / "x.nii", gzip.compress(content, 1) if kind.endswith("gz") else content)
    del content
    nibabel.Nifti1Image.from_bytes(image)  # its modules are loaded
    tracemalloc.start()
    try:
        with pytest.raises(CaseError):
            nifti.read(path, "x")
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()
