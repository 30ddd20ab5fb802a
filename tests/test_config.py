"""The configuration: every refusal, and the way through JSON and back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ivdjax.config import (
    STAGES,
    Config,
    ConfigError,
    DataConfig,
    TrainingConfig,
    config_differences,
    parse_config,
    plain_config,
    read_config,
    shaped_like,
)
from ivdjax.volume import UserError

CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.yaml"))


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "spine.yaml"
    path.write_text("data:\n  channels: [fat, wat]\ndisc:\n  optimizer:\n    learning_rate: 0.01\n")
    return path


def test_what_a_file_leaves_out_has_its_default_and_the_name_is_the_file_s(path):
    config = read_config(path)
    assert config.name == "spine"
    assert config.data == DataConfig(channels=("fat", "wat"))
    assert config.disc.optimizer.learning_rate == 0.01
    assert config.preparation == Config("x").preparation


def test_overrides_win_are_yaml_and_reach_new_sections(path):
    config = read_config(
        path, ["name=other", "disc.optimizer.learning_rate=2", "data.channels=[t2]", "inference.overlap=0.5"]
    )
    assert config.name == "other"
    assert config.disc.optimizer.learning_rate == 2.0 and isinstance(config.disc.optimizer.learning_rate, float)
    assert config.data.channels == ("t2",) and config.inference.overlap == 0.5


def test_plain_form_survives_json():
    config = Config("x", data=DataConfig(channels=("a", "b"), validation=("c",), synthetic=True))
    assert parse_config(json.loads(json.dumps(plain_config(config)))) == config


def test_each_stage_has_its_own_defaults():
    config = parse_config({"name": "x", "region": {"training": {"steps": 7}}, "localization": {"loss": {"gamma": 1}}})
    assert config.stages == STAGES == ("region", "disc", "localization")
    assert [len(getattr(config, stage).training.crop) for stage in STAGES] == [2, 2, 3]
    # What a section leaves out is the stage's own, and not what the stages have in common.
    assert config.region.training == dataclasses.replace(Config("x").region.training, steps=7)
    assert config.localization.training == Config("x").localization.training
    assert config.localization.training != TrainingConfig()
    assert config.localization.loss.gamma == 1.0 and config.disc.loss.gamma == 2.0
    assert parse_config(plain_config(config)) == config


def test_differences_name_the_keys():
    old = Config("x")
    new = dataclasses.replace(old, seed=1, data=DataConfig(channels=("fat",)))
    assert config_differences(old, old) == []
    assert config_differences(old, new) == ["data.channels: ['t2'] -> ['fat']", "seed: 0 -> 1"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n- b", "must hold keys and values, not list"),
        ("", "must hold keys and values, not NoneType"),
        ("a: [1", "cannot be read as YAML"),
        ("seed: 1\ndata:\n  folds: 2\n  folds: 3", "cannot be read as YAML: line 4: key 'folds' is given twice"),
        ("name: \udc00", "cannot be read as YAML"),
        ("data: {chanels: [t2]}", "unknown key 'data.chanels'; did you mean 'channels'"),
        ("zzz: 1", "unknown key 'zzz'; known here: name, seed"),
        ("data: 3", "data must hold keys and values, not 3"),
        ("seed: 1.5", "seed must be a whole number, not 1.5"),
        ("seed: true", "seed must be a whole number, not True"),
        ("disc: {training: {steps: 1e3}}", "steps must be a whole number, not '1e3'; YAML reads 1e3 as text"),
        ("disc: {optimizer: {learning_rate: 1e-3}}", "YAML reads 1e-3 as text, write 0.001"),
        ("disc: {optimizer: {learning_rate: fast}}", "learning_rate must be a number, not 'fast'$"),
        ("disc: {optimizer: {learning_rate: true}}", "learning_rate must be a number, not True"),
        ("data: {synthetic: maybe}", "data.synthetic must be true or false, not 'maybe'"),
        ("preparation: {spacing_mm: [1.0]}", "preparation.spacing_mm takes 2 values, not 1"),
        ("disc: {training: {steps: 0}}", "disc.training.steps must be above 0, not 0"),
        ("disc: {training: {batch_size: -1}}", "disc.training.batch_size must be above 0, not -1"),
        ("disc: {optimizer: {learning_rate: .nan}}", "disc.optimizer.learning_rate must be above 0, not nan"),
        ("preparation: {spacing_mm: [1.0, 0.0]}", r"preparation.spacing_mm\[1\] must be above 0, not 0.0"),
        ("data: {channels: []}", r"data.channels needs one or more different names, not \[\]"),
        ("data: {channels: [fat, fat]}", "data.channels needs one or more different names"),
        ("inference: {box: [256, 90]}", r"box must be empty, or two sizes divisible by 4, .* not \[256, 90\]"),
        ("inference: {overlap: 1.0}", "inference.overlap must be at least 0 and below 1, not 1.0"),
        ("disc: {optimizer: {name: adam}}", "disc.optimizer.name must be adamw or sgd, not 'adam'"),
        ("disc: {training: {crop: [190, 128]}}", r"two sizes divisible by 4, the network's stride, not \[190, 128\]"),
        ("disc: {training: {crop: [0, 128]}}", "disc.training.crop must be two sizes divisible by 4"),
        ("region: {training: {crop: 64}}", r"region.training.crop must be a list, not 64; write \[64\]"),
        ("localisation: {}", "unknown key 'localisation'; did you mean 'localization'"),
        ("disc: {network: {architecture: 1}}", "architecture must be densenet or unet, not '1'"),
        ("stages: discs", r"stages must be one or more of region, disc, localization"),
        ("name: ../x", "name is that of a folder, without slashes and without a dot in front, not '../x'"),
        ("data: {folds: 1}", r"data.folds must be 0 \(none\) or at least 2, not 1"),
    ],
)  # fmt: skip
def test_refusals_name_the_key_the_value_and_the_remedy(tmp_path, text, words):
    path = tmp_path / "c.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigError, match=words):
        read_config(path)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed", "--set takes section.key=value, not 'seed'"),
        ("=1", "--set takes section.key=value"),
        ("data.channels.first=t2", "channels is a value, not a section"),
        ("seed=[1", "the value is not YAML"),
        ("data.rot=x", "unknown key 'data.rot'; did you mean 'root'"),
        ("disc.training.steps=1e3", "YAML reads 1e3 as text"),
        ("disc={training: {steps: 1, steps: 2}}", "not YAML: line 1: key 'steps' is given twice; keep one"),
    ],
)
def test_overrides_that_cannot_be_used(path, override, words):
    with pytest.raises(ConfigError, match=words):
        read_config(path, [override])


def test_missing_file_and_missing_name():
    with pytest.raises(UserError, match="no configuration at nowhere.yaml; see the configs/ folder"):
        read_config("nowhere.yaml")
    with pytest.raises(ConfigError, match="name is missing"):
        parse_config({})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_are_valid_and_say_what_they_are_for(path):
    assert isinstance(read_config(path), Config)
    lines = path.read_text(encoding="utf-8").splitlines()
    header = "\n".join(line for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")])
    assert f"python train.py --config configs/{path.name}" in header


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("data.validation=052", ("052",)),
        ("data.validation=[022,061]", ("022", "061")),
        ("data.validation=022,061", ("022", "061")),
        ("data.validation=[1.50, 1e3, 0x1F]", ("1.50", "1e3", "0x1F")),
        ("data.validation=S01_1", ("S01_1",)),
        ("data.limits=Slabs, and nothing else.", ("Slabs, and nothing else.",)),
    ],
)
def test_names_that_look_like_numbers_stay_as_they_are_written_and_one_needs_no_brackets(path, override, names):
    config = read_config(path, [override])
    assert names in (config.data.validation, config.data.limits)


def test_numbers_stay_numbers(path):
    config = read_config(path, ["seed=052", "disc.optimizer.learning_rate=1.5e-3", "disc.network.layers=[1,2,3]"])
    assert (config.seed, config.disc.optimizer.learning_rate, config.disc.network.layers) == (42, 1.5e-3, (1, 2, 3))
    assert type(config.seed) is int and type(config.disc.optimizer.learning_rate) is float


def test_a_training_that_begins_with_a_model_has_its_shape_and_its_own_pace(path):
    model = parse_config({
        "name": "m", "data": {"channels": ["fat", "wat"], "validation": ["x"]},
        "preparation": {"spacing_mm": [2.0, 2.0]},
        "disc": {"network": {"stem": 8}, "optimizer": {"learning_rate": 0.5},
                 "training": {"crop": [64, 64], "steps": 7}},
    })  # fmt: skip
    config = read_config(path, ["disc.network.growth=[4,4,4]"], shaped_like(model))
    assert config.disc.network.stem == 8 and config.disc.network.growth == (4, 4, 4)
    assert config.preparation.spacing_mm == (2.0, 2.0) and config.disc.training.crop == (64, 64)
    assert config.disc.training.steps == 1000 and config.disc.optimizer.learning_rate == 0.01
    assert config.data.validation == () and config.name == read_config(path).name
