"""The ranges of a configuration's numbers, rules over several values, and keys that stand twice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ivdjax.config import Config, ConfigError, parse_config, plain_config
from ivdjax.schema import parse_yaml


def tree(key: str, value: Any) -> dict[str, Any]:
    """A configuration that gives one dotted key."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return {"name": "x"} | value


def numeric_keys(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key whose default is a number or a list of numbers, with that default."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from numeric_keys(value, f"{prefix}{name}.")
        elif isinstance(value, list) and all(isinstance(item, (int, float)) for item in value):
            # The two lists that are empty by default stand for three values.
            yield prefix + name, value or {"phantom_shape": [9, 9, 9], "phantom_spacing_mm": [1.0] * 3}.get(name)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield prefix + name, value


NUMBERS = [(key, value) for key, value in numeric_keys(plain_config(Config("x"))) if value is not None]


def test_the_numbers_are_found():
    assert {"seed", "data.phantom_shape", "disc.network.aspp_rates", "inference.threshold"} < dict(NUMBERS).keys()
    assert {f"{stage}.training.crop" for stage in ("region", "disc", "localization")} < dict(NUMBERS).keys()


@pytest.mark.parametrize(("key", "default"), NUMBERS, ids=[key for key, _ in NUMBERS])
def test_no_number_may_be_negative_infinite_or_none(key, default):
    whole = isinstance(default[0] if isinstance(default, list) else default, int)
    for bad in (-(2**40),) if whole else (-1.0, -math.inf, math.inf, math.nan):
        value = [*default[:-1], bad] if isinstance(default, list) else bad
        with pytest.raises(ConfigError, match=rf"^{key}.* must be .*, not "):
            parse_config(tree(key, value))


ALONE = {
    "above 0": {
        "disc.network.se_ratio": 0, "disc.network.growth": [1, 0, 1], "disc.network.path": [0, 1, 1],
        "disc.network.aspp_rates": [1, 0], "disc.network.aspp_growth": 0, "disc.training.resident_steps": 0,
        "disc.training.resident_mib": 0, "disc.optimizer.clip_norm": 0, "augmentation.scale": [0, 1],
        "augmentation.gamma": [0.0, 1.0], "augmentation.elastic_step_mm": 0, "preparation.max_slice_mm": 0,
        "preparation.reformat_slice_mm": 0, "data.phantom_visits": 0, "data.phantom_shape": [1, 0, 1],
        "inference.discs": 0, "inference.batch_size": 0, "region.spacing_mm": [2.5, 0], "region.network.width": 0,
        "region.network.layers": 0, "localization.spacing_mm": [5, 0, 3],
        "localization.network.widths": [8, 0], "localization.network.slice_pooling": [0],
        "region.training.steps": 0, "localization.training.batch_size": 0, "localization.optimizer.clip_norm": 0,
    },
    "at least 0": {
        "region.dilation_mm": -1, "region.margin_mm": -1, "localization.dilation_mm": -1,
        "region.loss.alpha": [1, -1], "localization.loss.gamma": -0.5,
    },
    "within 0 to 1": {
        "augmentation.remap": 1.1, "augmentation.remap_probability": 2, "augmentation.channel_dropout": 1.5,
        "disc.optimizer.final_fraction": 1.1, "disc.training.disc_fraction": 1.01, "inference.review_above": 1.1,
        "localization.training.disc_fraction": -0.1,
    },
    "at least 0 and below 1": {"disc.optimizer.average_decay": 1, "disc.optimizer.momentum": 1.0},
    "above 0 and below 1": {"inference.threshold": 0},
    "within 1 to 8": {"region.network.downsamplings": 99_999_999_999},
    "within 0 to 100": {"preparation.percentiles": [0.5, 100.5]},
    "above 0 and finite": {"disc.optimizer.learning_rate": math.inf},
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "words"), [(key, value, words) for words, keys in ALONE.items() for key, value in keys.items()]
)
def test_a_number_at_the_edge_of_its_range_is_refused_with_the_range(key, value, words):
    with pytest.raises(ConfigError, match=rf"^{key}(\[\d\])? must be {words}, not "):
        parse_config(tree(key, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("disc.network.layers", [0, 0, 0]), ("disc.network.path_layers", [0, 0, 0]), ("inference.discs", 15),
        ("disc.training.validate_every", 0), ("disc.training.validation_cases", 0), ("augmentation.scale", [1, 1]),
        ("augmentation.gamma", [1, 1]), ("disc.training.disc_fraction", 1), ("augmentation.remap", 1),
        ("preparation.percentiles", [0, 100]), ("disc.optimizer.average_decay", 0), ("inference.min_disc_mm3", 0),
        ("disc.loss.auxiliary", 0), ("disc.loss.cross_entropy_steps", 0), ("inference.overlap", 0), ("data.folds", 2),
        ("region.dilation_mm", 0), ("region.margin_mm", 0), ("localization.dilation_mm", 0),
        ("inference.review_above", 1),
        ("region.training.crop", [16, 48]), ("disc.training.crop", [4, 8]), ("stages", ["disc", "localization"]),
        ("stages", ["region"]), ("inference.numbering", "line"), ("disc.network.pyramid", "serial"),
        ("disc.network", {"architecture": "unet"}), ("data", {"root": "a", "phantom_cases": 1}),
        ("region", {"network": {"downsamplings": 2}, "training": {"crop": [4, 12]}}),
        ("localization", {"network": {"widths": [8, 16], "layers": [1, 2], "slice_pooling": [3]},
                          "training": {"crop": [3, 2, 4]}}),
    ],
)  # fmt: skip
def test_the_edge_that_works_is_taken(key, value):
    parse_config(tree(key, value))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("inference.discs", 16, "inference.discs must be at most 15, the levels that have a name, not 16"),
        ("inference.threshold", 1.0, "inference.threshold must be above 0 and below 1, not 1.0"),
        ("preparation.percentiles", [50, 50], r"preparation.percentiles must rise, not \[50.0, 50.0\]"),
        ("augmentation.scale", [1.2, 0.8], r"augmentation.scale must be \(smallest, largest\), not \[1.2, 0.8\]"),
        ("augmentation.gamma", [1.2, 0.8], r"augmentation.gamma must be \(smallest, largest\), not \[1.2, 0.8\]"),
        ("disc.network.aspp_rates", [], r"disc.network.aspp_rates needs one or more rates, not \[\]"),
        ("data.phantom_shape", [9, 9], r"data.phantom_shape takes three values \(D, H, W\) or none, not \[9, 9\]"),
        ("data", {"subject_pattern": "a", "subject_table": "b"}, "data.subject_pattern and data.subject_table exclude"),
        ("stages", [], r"stages must be one or more of region, disc, localization, in this order, not \[\]"),
        ("stages", ["disc", "region"], r"in this order, not \['disc', 'region'\]"),
        ("stages", ["disc", "disc"], r"in this order, not \['disc', 'disc'\]"),
        ("stages", ["discs"], r"one or more of region, disc, localization, in this order, not \['discs'\]"),
        ("disc.network.architecture", "vnet", "disc.network.architecture must be densenet or unet, not 'vnet'"),
        ("disc.network.pyramid", "none", "disc.network.pyramid must be dense, parallel or serial, not 'none'"),
        ("inference.numbering", "top", "inference.numbering must be solver, line or bottom, not 'top'"),
        ("region.optimizer.name", "adam", "region.optimizer.name must be adamw or sgd, not 'adam'"),
        (
            "region.training.crop",
            [128, 120],
            r"region.training.crop must be two .* by 16, the network's .*\[128, 120\]",
        ),
        ("region.training.crop", [16, 16, 16], "region.training.crop must be two sizes divisible by 16"),
        ("region", {"network": {"downsamplings": 5}, "training": {"crop": [16, 16]}}, "two sizes divisible by 32"),
        ("disc", {"network": {"architecture": "unet"}, "training": {"crop": [24, 24]}}, "two sizes divisible by 16"),
        ("disc.training.crop", [8], r"disc.training.crop must be two sizes divisible by 4, .*not \[8\]"),
        ("localization.training.crop", [4, 80], r"localization.training.crop must be three .*\(4, 16, 16\).*\[4, 80\]"),
        ("localization.training.crop", [6, 80, 80], r"divisible by \(4, 16, 16\), the network's strides, not \[6, 80,"),
        ("localization.network.slice_pooling", [1, 3, 2, 1], r"divisible by \(6, 16, 16\), the network's strides"),
        (
            "localization.network.widths",
            [8, 16],
            "as many widths as layers, and one slice_pooling less, not 2, 5 and 4",
        ),
        ("localization.network.layers", [1], "localization.network needs as many widths as layers, .* not 5, 1 and 4"),
        (
            "localization.network",
            {"widths": [8], "layers": [1], "slice_pooling": []},
            "slice_pooling less, not 1, 1 an",
        ),
    ],
)
def test_values_that_cannot_go_together_are_refused(key, value, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(tree(key, value))


def test_a_key_twice_in_one_mapping_is_refused_and_once_in_each_is_not():
    with pytest.raises(yaml.YAMLError, match="line 3: key 'a' is given twice; keep one"):
        parse_yaml("x:\n  a: 1\n  a: 1\n")
    with pytest.raises(yaml.YAMLError, match="line 1: key 'a' is given twice"):
        parse_yaml("{a: 1, b: {c: 2}, 'a': 3}")
    assert parse_yaml("a: {b: 1}\nb: {a: 1}") == {"a": {"b": 1}, "b": {"a": 1}}


def test_a_merged_key_may_be_overridden():
    text = "base: &base {steps: 1, seed: 2}\nouter: {inner: &inner {<<: *base, steps: 3}}\nlast: {<<: *inner, seed: 4}"
    read = parse_yaml(text)
    assert read["outer"]["inner"] == {"steps": 3, "seed": 2} and read["last"] == {"steps": 3, "seed": 4}


@pytest.mark.parametrize(
    "text",
    ["seed: 2001-99-99", "seed: !!int x", "seed: !!float x", "seed: !!bool maybe", "seed: !!timestamp x",
     "seed: " + "9" * 5000, "seed: " + "[" * 3000, "seed: !!python/object/apply:os.system [true]"],
)  # fmt: skip
def test_whatever_is_no_yaml_is_one_kind_of_error(text):
    with pytest.raises(yaml.YAMLError) as error:
        parse_yaml(text)
    assert len(str(error.value)) < 1000


def test_a_message_stays_short_whatever_the_value_stands_for():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]  # 10 ** 30 words
    bomb = parse_yaml("\n".join(lines))["a29"]
    for key in ("name", "data", "data.channels", "preparation.spacing_mm", "inference.review_above"):
        with pytest.raises(ConfigError) as error:
            parse_config(tree(key, bomb))
        assert len(str(error.value)) < 20_000
    with pytest.raises(ConfigError, match="unknown key 'aaa.*did you mean|unknown key 'aaa.*known here"):
        parse_config({"name": "x", "a" * 100_000: 1})


@pytest.mark.parametrize("key", ["seed", "inference.review_above"])
def test_whole_numbers_of_any_length_are_answered(key):
    with pytest.raises(ConfigError, match=rf"{key} must be a number below 2 \*\* 63, not 1000000"):
        parse_config(tree(key, 10**100))
    with pytest.raises(ConfigError, match="not a number of 33220 bits"):  # Python would not write it
        parse_config(tree(key, 10**10_000))
