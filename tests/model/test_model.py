"""The model folder: round trip, equal bytes, and every refusal."""

from __future__ import annotations

import json
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

import ivdjax
from ivdjax.config import Config, DataConfig
from ivdjax.model.model import SCHEMA_VERSION, Model, annotate_model, read_model, write_model
from ivdjax.model.weights import read_weights, sha256_of, unflatten, write_weights
from ivdjax.volume import LabelMap, UserError


@pytest.fixture
def model() -> Model:
    random = np.random.default_rng(0)
    layer = {"kernel": random.normal(size=(3, 3, 2, 4)).astype(np.float32), "bias": np.zeros(4, np.float32)}
    config = Config("tiny", seed=3, data=DataConfig(channels=("fat", "wat"), credit="phantoms", synthetic=True))
    return Model(
        config,
        {"disc": {"stem": layer, "scale": np.float32(1.5)}},
        {
            "validation": {"mean Dice": 0.912345, "by case": {"a": 0.9, "b": "missed | lost"}},
            "limits": ["No scoliosis."],
        },
    )


def with_reference(model: Model) -> Model:
    labels = np.zeros((3, 5, 4), np.uint8)
    labels[1, 3, 1:3], labels[1, 1, 1:3] = 1, 2
    affine = np.array([[-2.0, 0, 0, 3], [0, 0, -1.5, 4], [0, -1.25, 0, 5], [0, 0, 0, 1]])
    return Model(model.config, model.parameters, model.meta, LabelMap(labels, affine))


def edit(folder, **changes):
    path = folder / "model.json"
    description = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in description.items() if value is not None}))


def test_round_trip_is_bit_exact(tmp_path, model):
    digest = write_model(tmp_path / "m", model)
    back = read_model(tmp_path / "m")
    assert back.config == model.config
    assert back.name == "tiny" and back.channels == ("fat", "wat") and back.networks == ("disc",)
    np.testing.assert_array_equal(back.parameters["disc"]["stem"]["kernel"], model.parameters["disc"]["stem"]["kernel"])
    assert back.parameters["disc"]["scale"].shape == () and back.parameters["disc"]["scale"].dtype == np.float32
    assert back.weights_sha256 == digest == sha256_of(tmp_path / "m" / "weights.npz")
    assert back.meta["validation"] == model.meta["validation"]
    assert back.meta["synthetic"] is True and back.meta["ivdjax_version"] == ivdjax.__version__
    assert model.weights_sha256 == "" and back.reference is None
    assert not (tmp_path / "m" / "reference.npz").exists() and back.meta["reference_sha256"] is None


def test_the_reference_mask_comes_back_as_it_was(tmp_path, model):
    given = with_reference(model)
    write_model(tmp_path / "m", given)
    back = read_model(tmp_path / "m")
    assert given.reference is not None and back.reference is not None
    assert back.reference.array.dtype == np.uint8 and back.reference.levels == (1, 2)
    np.testing.assert_array_equal(back.reference.array, given.reference.array)
    np.testing.assert_array_equal(back.reference.affine, given.reference.affine)
    assert back.meta["reference_sha256"] == sha256_of(tmp_path / "m" / "reference.npz")


def test_equal_models_give_equal_bytes_and_a_rewrite_keeps_them(tmp_path, model):
    model = with_reference(model)
    write_model(tmp_path / "a", model)
    reordered = {"disc": dict(reversed(model.parameters["disc"].items()))}
    write_model(tmp_path / "b", Model(model.config, reordered, model.meta, model.reference))
    write_model(tmp_path / "b", read_model(tmp_path / "b"))
    for name in ("model.json", "weights.npz", "reference.npz", "README.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_model_that_lost_its_reference_on_purpose_claims_none(tmp_path, model):
    write_model(tmp_path / "m", with_reference(model))
    write_model(tmp_path / "m", replace(read_model(tmp_path / "m"), reference=None))
    assert read_model(tmp_path / "m").reference is None and not (tmp_path / "m" / "reference.npz").exists()


def test_half_precision_halves_the_file_and_comes_back_as_float32(tmp_path):
    kernel = np.random.default_rng(0).uniform(1, 2, (64, 64)).astype(np.float32)
    parameters = {"disc": {"kernel": kernel}}
    write_weights(tmp_path / "full.npz", parameters)
    write_weights(tmp_path / "half.npz", parameters, "float16")
    back = read_weights(tmp_path / "half.npz")["disc"]["kernel"]
    assert back.dtype == np.float32
    assert np.abs(back / kernel - 1).max() <= 2**-11
    assert (tmp_path / "half.npz").stat().st_size < 0.55 * (tmp_path / "full.npz").stat().st_size


def test_bfloat16_parameters_are_stored_as_float32(tmp_path):
    write_weights(tmp_path / "w.npz", {"disc": {"a": np.array([1.5, 3.0], ml_dtypes.bfloat16)}})
    np.testing.assert_array_equal(read_weights(tmp_path / "w.npz")["disc"]["a"], np.array([1.5, 3.0], np.float32))


@pytest.mark.parametrize(
    ("parameters", "precision", "words"),
    [
        ({"disc": {"a": np.array([1.0, np.nan])}}, "float32", "disc/a holds a number that is not finite"),
        ({"disc": {"a": np.array([1e5])}}, "float16", "not finite in float16"),
        ({"disc": {"a": np.array([1])}}, "float32", "disc/a must hold floating-point numbers, not int64"),
        ({"disc": {"a/b": np.array([1.0])}}, "float32", "without a slash"),
        ({"disc": {"": np.array([1.0])}}, "float32", "without a slash"),
        ({"disc": {}}, "float32", "no parameters"),
        ({"disc": {"a": np.array([1.0])}}, "int8", "precision must be one of float32, float16, not 'int8'"),
    ],
)
def test_parameters_that_cannot_be_stored(tmp_path, model, parameters, precision, words):
    with pytest.raises(ValueError, match=words):
        write_model(tmp_path / "m", Model(model.config, parameters), precision)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flat", [{"a": np.ones(1), "a/b": np.ones(1)}, {"a/b": np.ones(1), "a": np.ones(1)}])
def test_paths_that_contradict_each_other(flat):
    with pytest.raises(ValueError, match="runs through an array|occurs twice"):
        unflatten(flat)


def test_a_folder_of_something_else_is_not_replaced(tmp_path, model):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.txt").touch()
    (tmp_path / "file").touch()
    for name in ("thesis", "file"):
        with pytest.raises(UserError, match="is not a model: it is not replaced"):
            write_model(tmp_path / name, model)
    (tmp_path / "empty").mkdir()
    write_model(tmp_path / "empty", model)
    assert read_model(tmp_path / "empty").name == "tiny"


def cut(folder):
    path = folder / "weights.npz"
    path.write_bytes(path.read_bytes()[:-40])


def cut_with_its_checksum(folder):
    cut(folder)
    edit(folder, weights_sha256=sha256_of(folder / "weights.npz"))


def pickled(folder):
    np.savez(folder / "weights.npz", **{"disc/a": np.array([{}], dtype=object)})
    edit(folder, weights_sha256=sha256_of(folder / "weights.npz"))


def lone_array(folder):
    with (folder / "weights.npz").open("wb") as stream:
        np.save(stream, np.ones(3))
    edit(folder, weights_sha256=sha256_of(folder / "weights.npz"))


def other_reference(folder):
    np.savez_compressed(folder / "reference.npz", labels=np.zeros((1, 1, 1), np.uint8), affine=np.eye(4))


def flat_reference(folder):
    np.savez_compressed(folder / "reference.npz", labels=np.zeros((2, 2), np.uint8), affine=np.eye(4))
    edit(folder, reference_sha256=sha256_of(folder / "reference.npz"))


def no_archive_for_a_reference(folder):
    (folder / "reference.npz").write_bytes(b"no zip")
    edit(folder, reference_sha256=sha256_of(folder / "reference.npz"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "model.json").unlink(), "is not a model: it has no model.json"),
        (lambda f: (f / "weights.npz").unlink(), "has no weights.npz; the copy is incomplete"),
        (lambda f: (f / "model.json").write_text("{"), "model.json cannot be read"),
        (lambda f: (f / "model.json").write_text('{"validation": {"dice": NaN}}'), "cannot be read: NaN is no JSON"),
        (lambda f: (f / "model.json").write_text("[]"), "does not describe an ivdjax model"),
        (lambda f: edit(f, kind="other"), "does not describe an ivdjax model"),
        (lambda f: edit(f, schema_version=SCHEMA_VERSION + 1), f"reads up to {SCHEMA_VERSION}; use a newer ivdjax"),
        (lambda f: edit(f, networks=None, config=None), "lacks networks, config"),
        (lambda f: edit(f, networks=["disc", "region"]), r"holds the networks \['disc'\], but"),
        (lambda f: edit(f, config={"name": "x", "sed": 1}), "unknown key 'sed'; did you mean 'seed'"),
        (cut, "is damaged or was exchanged"),
        (cut_with_its_checksum, "cannot be read"),
        (pickled, "cannot be read: disc/a.npy must hold floating-point numbers, not object"),
        (lone_array, "weights.npz cannot be read"),
        (lambda f: (f / "reference.npz").unlink(), "has no reference.npz; the copy is incomplete"),
        (other_reference, "reference.npz is damaged or was exchanged"),
        (flat_reference, r"reference.npz cannot be read: .*\(D, H, W\)"),
        (no_archive_for_a_reference, "reference.npz cannot be read"),
    ],
)
def test_unusable_models_are_refused(tmp_path, model, damage, words):
    write_model(tmp_path / "m", with_reference(model))
    damage(tmp_path / "m")
    with pytest.raises(UserError, match=words):
        read_model(tmp_path / "m")


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no model at .*nothing"):
        read_model(tmp_path / "nothing")


def test_the_folder_holds_its_model_card(tmp_path, model):
    write_model(tmp_path / "m", model)
    card = (tmp_path / "m" / "README.md").read_text()
    for words in (
        "# tiny",
        "fat, wat",
        "| mean Dice | 0.9123 |",
        "No scoliosis.",
        sha256_of(tmp_path / "m" / "weights.npz"),
    ):
        assert words in card


def test_facts_are_added_later_and_leave_the_rest_alone(tmp_path, model):
    folder = tmp_path / "m"
    write_model(folder, model)
    before = read_model(folder)
    annotate_model(folder, {"repeatability": {"a_mm": {"smallest_detectable_change": 0.5}}})
    after = read_model(folder)
    assert after.meta == {**before.meta, "repeatability": {"a_mm": {"smallest_detectable_change": 0.5}}}
    with pytest.raises(UserError, match="name of .* are written with the model and cannot be annotated"):
        annotate_model(folder, {"name": "other"})


def test_a_description_that_gives_no_card_is_not_annotated(tmp_path, model):
    folder = tmp_path / "m"
    write_model(folder, model)
    edit(folder, ivdjax_version=None)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match="lacks ivdjax_version; copy the whole folder again"):
        annotate_model(folder, {"later": 1})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"repeatability": {"a_mm": {"smallest_detectable_change": -1.0}}}, "repeatability must be keys and values"),
        ({"grades": {}}, "grades must be"),
        ({"levels": {"confidence": {}}}, "levels must be"),
        ({"later": float("nan")}, "a fact is no JSON"),
    ],
)
def test_a_fact_that_would_spoil_the_model_is_refused(tmp_path, model, facts, words):
    folder = tmp_path / "m"
    write_model(folder, model)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match=words):
        annotate_model(folder, facts)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
