"""The model folder: round trip, equal bytes, and every refusal."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

import ivdjax
from ivdjax.config import Config, DataConfig
from ivdjax.volume import UserError
from ivdjax.workflows.model import Model, read_model, write_model
from ivdjax.workflows.model_card import model_card
from ivdjax.workflows.weights import read_weights, sha256_of, unflatten, write_weights


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
    assert model.weights_sha256 == ""


def test_equal_models_give_equal_bytes_and_a_rewrite_keeps_them(tmp_path, model):
    write_model(tmp_path / "a", model)
    reordered = {"disc": dict(reversed(model.parameters["disc"].items()))}
    write_model(tmp_path / "b", Model(model.config, reordered, model.meta))
    write_model(tmp_path / "b", read_model(tmp_path / "b"))
    for name in ("model.json", "weights.npz", "README.md"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


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
        with pytest.raises(UserError, match="is no model: it is not replaced"):
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


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "model.json").unlink(), "is no model: it has no model.json"),
        (lambda f: (f / "weights.npz").unlink(), "has no weights.npz; the copy is incomplete"),
        (lambda f: (f / "model.json").write_text("{"), "model.json cannot be read"),
        (lambda f: (f / "model.json").write_text("[]"), "does not describe an ivdjax model"),
        (lambda f: edit(f, kind="other"), "does not describe an ivdjax model"),
        (lambda f: edit(f, schema_version=2), "schema version 2, but this ivdjax reads up to 1; use a newer"),
        (lambda f: edit(f, networks=None, config=None), "lacks networks, config"),
        (lambda f: edit(f, networks=["disc", "region"]), r"holds the networks \['disc'\], but"),
        (lambda f: edit(f, config={"name": "x", "sed": 1}), "unknown key 'sed'; did you mean 'seed'"),
        (cut, "is damaged or was exchanged"),
        (cut_with_its_checksum, "cannot be read"),
        (pickled, "cannot be read.*allow_pickle=False"),
        (lone_array, "cannot be read"),
    ],
)
def test_unusable_models_are_refused(tmp_path, model, damage, words):
    write_model(tmp_path / "m", model)
    damage(tmp_path / "m")
    with pytest.raises(UserError, match=words):
        read_model(tmp_path / "m")


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no model at .*nothing"):
        read_model(tmp_path / "nothing")


def test_model_card_states_data_figures_limits_and_use(tmp_path, model):
    write_model(tmp_path / "m", model)
    card = (tmp_path / "m" / "README.md").read_text()
    for words in ("# tiny", "fat, wat", "Synthetic images only", "credit: phantoms", "Licence of the data: not stated",
                  "| mean Dice | 0.9123 |", "| by case: b | missed \\| lost |", "No scoliosis.", "not a medical device",
                  model_sha(tmp_path / "m")):  # fmt: skip
        assert words in card
    bare = model_card(dict(read_model(tmp_path / "m").meta) | {"validation": {}, "synthetic": False})
    assert "None were recorded" in bare and "Synthetic" not in bare


def model_sha(folder) -> str:
    return json.loads((folder / "model.json").read_text())["weights_sha256"]
