"""Model folders that were damaged, exchanged or made to do harm: refused by name, and no code of theirs ever runs.

The checksums of what is put in are right throughout: they guard against accidents, not against whoever makes a folder.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ivdjax.inference.infer import infer
from ivdjax.inference.request import InferenceRequest
from ivdjax.inference.segmenter import load_segmenter
from ivdjax.model.model import read_model, write_model
from ivdjax.model.weights import MOST_INFLATED, misfits, sha256_of
from ivdjax.volume import LabelMap, UserError
from tests.untrained_model import write_untrained


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_untrained(tmp_path_factory.mktemp("sound") / "m", ["fat", "wat"])
    made = read_model(folder)
    write_model(folder, type(made)(made.config, made.parameters, made.meta, LabelMap(np.eye(3, dtype=np.uint8)[None],
                                                                                     np.eye(4))))  # fmt: skip
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "m"))


def describe(folder: Path, **facts: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def put(folder: Path, file: str, content: bytes) -> None:
    """Replaces weights.npz or reference.npz, with its checksum."""
    (folder / file).write_bytes(content)
    describe(folder, **{file.replace(".npz", "_sha256"): sha256_of(folder / file)})


def archive(entries: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name, content in entries.items():
            made.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def npy(array: NDArray, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=allow_pickle)
    return stream.getvalue()


def header(shape: str, kind: str = "<f4") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


class Intruder:
    """What makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __reduce__(self) -> tuple[Callable, tuple[Any, ...]]:
        return Path.touch, (Path(self.trace),)


def intruders(trace: Path) -> dict[str, bytes]:
    objects = npy(np.array([Intruder(trace)], dtype=object), allow_pickle=True)
    return {
        "an array of objects": archive({"disc/a.npy": objects, "labels.npy": objects, "affine.npy": objects}),
        "a pickle in place of the archive": pickle.dumps(Intruder(trace)),
        "a pickle in place of an array": archive({"disc/a.npy": pickle.dumps(Intruder(trace)),
                                                  "labels.npy": pickle.dumps(Intruder(trace))}),
        "a pickle beside the arrays": archive({"disc/a.npy": npy(np.ones(1)), "disc/b.pkl": b"",
                                               "labels.npy": npy(np.ones((1, 1, 1), np.uint8)), "x.pkl": objects}),
    }  # fmt: skip


@pytest.mark.parametrize("file", ["weights.npz", "reference.npz"])
@pytest.mark.parametrize("kind", list(intruders(Path("x"))))
def test_pickles_are_refused_unread(folder, tmp_path, file, kind):
    trace = tmp_path / "trace"
    content = intruders(trace)[kind]
    put(folder, file, content)
    with pytest.raises(UserError, match=f"{file} cannot be read: .*; copy the whole folder again"):
        read_model(folder)
    assert not trace.exists()


def test_the_intruder_would_have_left_a_trace(tmp_path):
    """Whoever allows pickles runs it."""
    trace = tmp_path / "trace"
    with np.load(io.BytesIO(intruders(trace)["an array of objects"]), allow_pickle=True) as stored:
        stored["labels"]
    assert trace.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (archive({"disc/a.npy": header("(1000000, 1000000, 10)")}), "holds 0 bytes, not the float32"),
        (archive({"disc/a.npy": header("(3,)") + bytes(8)}), r"holds 8 bytes, not the float32 \(3,\)"),
        (archive({"disc/a.npy": header("(-1, -2)") + bytes(8)}), "cannot be read"),
        (archive({"disc/a.npy": header("(__import__('os'),)")}), "cannot be read"),
        (archive({"disc/a.npy": b"\x93NUMPY\x02\x00" + bytes(20)}), "another version of NumPy's format"),
        (archive({"disc/a.npy": b"hello"}), "cannot be read"),
        (archive({"disc/a": npy(np.ones(2))}), r"disc/a is no array \(.npy\)"),
        (archive({"disc/a.npy": npy(np.ones(1)), "disc/b.npy": npy(np.ones(1))}).replace(b"disc/b", b"disc/a"),
         "disc/a.npy is given twice"),
        (archive({"disc/a.npy": npy(np.array([1]))}), "must hold floating-point numbers, not int64"),
        (archive({"disc/a.npy": npy(np.array([1j]))}), "must hold floating-point numbers, not complex128"),
        (archive({"disc/a.npy": npy(np.array(["x"]))}), "must hold floating-point numbers, not <U1"),
        (archive({"disc/a.npy": npy(np.array([1.0, np.nan]))}), "disc/a holds a number that is not finite"),
        (archive({"disc/a.npy": npy(np.ones(1)), "disc/a/b.npy": npy(np.ones(1))}), "runs through an array"),
        (archive({}), r"holds the networks \[\], but model.json names"),
        (b"", "File is not a zip file"),
    ],
)  # fmt: skip
def test_weights_that_are_no_numbers_are_refused(folder, content, words):
    put(folder, "weights.npz", content)
    with pytest.raises(UserError, match=words):
        read_model(folder)


def test_an_archive_that_unpacks_to_far_more_than_it_is_costs_no_memory(folder):
    small = archive({"labels.npy": bytes(MOST_INFLATED + 1)}, zipfile.ZIP_DEFLATED)
    assert len(small) < 2**20
    put(folder, "reference.npz", small)
    with pytest.raises(UserError, match=f"would unpack to {MOST_INFLATED + 1} bytes, more than {MOST_INFLATED}"):
        read_model(folder)


@pytest.mark.parametrize("name", ["../../outside.npy", "/tmp/outside.npy", "disc/../../outside.npy"])
def test_names_in_an_archive_lead_nowhere(folder, tmp_path, name):
    """They are keys of mappings: nothing is unpacked."""
    before = sorted(tmp_path.rglob("*"))
    put(folder, "weights.npz", archive({"disc/a.npy": npy(np.ones(1)), name: npy(np.ones(1))}))
    if name.startswith("disc/"):
        assert read_model(folder).parameters["disc"][".."][".."]["outside"] == 1
    else:
        with pytest.raises(UserError, match="holds the networks .*copy the whole folder again"):
            read_model(folder)
    assert sorted(tmp_path.rglob("*")) == before and not Path("/tmp/outside.npy").exists()


@pytest.mark.parametrize(
    ("labels", "affine"),
    [
        (np.ones((2, 2, 2)), np.eye(4)),
        (np.ones((2, 2, 2), np.uint16), np.eye(4)),
        (np.ones((2, 2), np.uint8), np.eye(4)),
        (np.ones((2, 2, 2), np.uint8), np.eye(3)),
        (np.ones((2, 2, 2), np.uint8), np.full((4, 4), np.nan)),
        (np.ones((2, 2, 2), np.uint8), None),
    ],
)
def test_a_reference_that_is_none_is_refused(folder, labels, affine):
    arrays = {"labels.npy": npy(labels)} | ({} if affine is None else {"affine.npy": npy(affine)})
    put(folder, "reference.npz", archive(arrays))
    with pytest.raises(UserError, match="reference.npz cannot be read"):
        read_model(folder)


WRONG: dict[str, tuple[Any, ...]] = {
    "kind": (None, 3, "other"),
    "schema_version": (None, "2", 1.5, True, 0, 10**30),
    "config": (None, [], "x", {}, {"name": 3}, {"name": "x", "data": []}, {"name": "x", "data": {"channels": "fat"}}),
    "channels": (None, "fat", [], [1], {"fat": 1}, ["fat", "fat"], ["wat", "fat"], ["t2"]),
    "networks": (None, 3, True, "disc", [], [1], [[]], {"disc": 1}, ["disc", "disc"], ["disc", "region"]),
    "weights_sha256": (None, 3, [], "0" * 64),
    "reference_sha256": (3, [], "0" * 64),
    "name": (None, 3, []),
    "ivdjax_version": (None, 1.0),
    "precision": (None, 32),
    "credit": (None, []),
    "licence": (None, {}),
    "synthetic": (None, 1, "yes"),
    "training": (None, 3, []),
    "validation": (None, "x", [1]),
    "limits": (None, "x", [1], {}),
    "outline_calibration": (3, "x", [], {}, {"scale": 1.0}, {"scale": "x", "power": 1.0}, {"scale": 1.0, "power": -1},
                            {"scale": 10**400, "power": 1.0}),
    "repeatability": (3, "x", [], {"a_mm": {"smallest_detectable_change": "x"}},
                      {"a_mm": {"smallest_detectable_change": -1}}, {"a_mm": {"smallest_detectable_change": True}}),
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_a_fact_of_another_type_is_refused_by_its_name(folder, key, value):
    describe(folder, **{key: value})
    with pytest.raises(UserError) as raised:
        read_model(folder)
    said = str(raised.value)
    named = {"kind": "does not describe an ivdjax model", "schema_version": "schema", "config": "model.json"}
    assert named.get(key, key.removesuffix("_sha256")) in said and str(folder) in said and len(said) < 500


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"kind": NaN}', '{"a": ' + "9" * 5000 + "}", "null", "\0"])
def test_a_description_that_is_no_json_is_refused(folder, text):
    (folder / "model.json").write_text(text)
    with pytest.raises(UserError, match=r"model.json (cannot be read|does not describe)"):
        read_model(folder)


def test_links_and_things_that_are_no_files(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    assert read_model(tmp_path / "link").networks == ("disc",)
    # A file that is a link is what it leads to, as long as that has the checksum.
    (folder / "weights.npz").rename(tmp_path / "elsewhere.npz")
    (folder / "weights.npz").symlink_to(tmp_path / "elsewhere.npz")
    assert read_model(folder).networks == ("disc",)
    (tmp_path / "elsewhere.npz").write_bytes(b"other")
    with pytest.raises(UserError, match="is damaged or was exchanged"):
        read_model(folder)
    for make in (os.mkfifo, os.mkdir):
        (folder / "weights.npz").unlink()
        make(folder / "weights.npz")
        with pytest.raises(UserError, match="has no weights.npz"):
            read_model(folder)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="no model at .*loop"):
        read_model(tmp_path / "loop")


def test_misfits_are_named():
    wanted = {"a": {"kernel": np.ones((3, 3)), "bias": np.ones(3)}}
    assert misfits(wanted, wanted) == []
    assert misfits({"a": {"kernel": np.ones((3, 2))}, "b": np.ones(1)}, wanted) == [
        "a/bias is missing", "a/kernel has the shape (3, 2), and the network needs (3, 3)", "b belongs to no layer",
    ]  # fmt: skip
    assert misfits(np.ones(3), {"bias": np.ones(3)})[0] == "an array in place of layers belongs to no layer"


def test_weights_that_do_not_fit_the_network_are_refused_without_a_traceback(folder, tmp_path):
    describe(folder, channels=["fat", "inn", "wat"])
    path = folder / "model.json"
    description = json.loads(path.read_text())
    description["config"]["data"]["channels"] = ["fat", "inn", "wat"]
    path.write_text(json.dumps(description))
    words = (
        r"the weights do not fit the disc network that model.json describes: .*Conv_0/kernel has the shape "
        r"\(3, 3, 2, 4\), and the network needs \(3, 3, 3, 4\); copy the whole folder again"
    )
    with pytest.raises(UserError, match=words):
        load_segmenter(folder)


def test_a_model_that_cannot_be_read_is_refused_before_anything_is_written(folder, tmp_path):
    put(folder, "weights.npz", b"")
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match="weights.npz cannot be read"):
        infer(InferenceRequest(folder, tmp_path / "out", (str(tmp_path / "data"),)))
    assert not (tmp_path / "out").exists()
