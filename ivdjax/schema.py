"""What a configuration may hold: plain values into dataclasses, strictly, and the ranges in which numbers can work.

Nothing here knows the configuration's classes: `parse` follows the types that a dataclass declares, and `check_values`
looks at dotted keys.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import reprlib
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from ivdjax.volume import DIXON, LEVEL_NAMES, TISSUES, UserError


class ConfigError(UserError):
    """A configuration that cannot be used; the message names the key, the value met and the remedy."""


class _Loader(yaml.SafeLoader):
    """Plain YAML, but a key that stands twice in one mapping is refused; YAML silently keeps the last."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value]
        for index, (key, _) in enumerate(node.value):
            if key.value in keys[:index]:
                raise yaml.YAMLError(f"line {key.start_mark.line + 1}: key {shown(key.value)} is given twice; keep one")
        return node

    def flatten_mapping(self, node: Any) -> None:
        """Merges (`<<`) what a mapping asks for, each key once: PyYAML keeps all, and ten lines can grow to 10 ** 8."""
        super().flatten_mapping(node)
        kept = {(key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key): (key, value)
                for key, value in node.value}  # fmt: skip
        node.value = list(kept.values())


class _WrittenInt(int):
    """A whole number that knows how it was written: `052` is 42 to YAML, and a name to whoever numbers patients."""

    text = ""


class _WrittenFloat(float):
    """Likewise of any other number."""

    text = ""


def _written(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    """A number with its text."""
    whole = node.tag.endswith(":int")
    number = (_WrittenInt if whole else _WrittenFloat)(
        loader.construct_yaml_int(node) if whole else loader.construct_yaml_float(node)
    )
    number.text = str(node.value)
    return number


for _tag in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _written)


def parse_yaml(text: str) -> Any:
    """The plain value that a YAML text stands for; None for an empty one.

    Raises:
        yaml.YAMLError: not YAML, values that are not what their tags say, one within the other too often, or a key
            stands twice in one mapping.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise yaml.YAMLError("lists or mappings lie within each other hundreds of times") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        # What the loader's constructors raise: a date of month 99, `!!int x`, a number of 5000 digits.
        raise yaml.YAMLError(f"a value cannot be read ({type(error).__name__}: {str(error)[:200]})") from None


class _Shown(reprlib.Repr):
    """Shows values in messages, cut to a length: a few lines of YAML aliases can stand for 10 ** 9 words."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 30
        self.maxstring = self.maxlong = self.maxother = 200

    def repr_int(self, value: int, level: int) -> str:
        """Python refuses to write a whole number of more than 4300 digits."""
        return super().repr_int(value, level) if abs(value) < _TOO_LARGE else f"a number of {value.bit_length()} bits"


_TOO_LARGE = 1 << 1000
_WHOLE = 1 << 63
"""Whole numbers of a configuration lie below this."""

_LONGEST_SHOWN = 500


def shown(value: Any) -> str:
    """A value as Python writes it, cut where it is long."""
    text = _Shown().repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def parse(kind: Any, value: Any, key: str = "", base: Any = None) -> Any:
    """A plain value as `kind`: a dataclass, a tuple type or one of int, float, str and bool.

    What the value of a dataclass leaves out is that of `base`, one of its kind; None stands for the kind's defaults.

    Raises:
        ConfigError: an unknown or missing key, or a wrong type or length; the message names the dotted `key`.
    """
    if isinstance(value, (_WrittenInt, _WrittenFloat)) and typing.get_origin(kind) is not tuple:
        value = value.text if kind is str else int(value) if isinstance(value, int) else float(value)
    if dataclasses.is_dataclass(kind):
        return _parse_section(kind, value, key, base)
    if typing.get_origin(kind) is tuple:
        return _parse_tuple(kind, value, key)
    if type(value) is int and kind in (int, float) and abs(value) >= _WHOLE:
        raise ConfigError(f"{key} must be a number below 2 ** 63, not {shown(value)}")
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is kind:
        return value
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}[kind]
    raise ConfigError(f"{key} must be {words}, not {shown(value)}{_hint(kind, value)}")


def _parse_section(kind: Any, value: Any, key: str, base: Any) -> Any:
    if not isinstance(value, dict):
        raise ConfigError(f"{key or 'the configuration'} must hold keys and values, not {shown(value)}")
    hints, prefix = typing.get_type_hints(kind), f"{key}." if key else ""
    for name in value:
        if name not in hints:
            near = difflib.get_close_matches(str(name)[:100], hints, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(hints)}"
            raise ConfigError(f"unknown key {shown(prefix + str(name))}; {advice}")
    given = {}
    for field in dataclasses.fields(kind):
        if field.name in value:
            # A section inside this one may have other defaults here than its kind has by itself.
            made = None if field.default_factory is dataclasses.MISSING else field.default_factory()
            inner = made if base is None else getattr(base, field.name)
            given[field.name] = parse(hints[field.name], value[field.name], prefix + field.name, inner)
        elif base is None and field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{prefix}{field.name} is missing")
    return kind(**given) if base is None else dataclasses.replace(base, **given)


def _parse_tuple(kind: Any, value: Any, key: str) -> tuple[Any, ...]:
    kinds = typing.get_args(kind)
    if kinds == (str, Ellipsis) and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        value = _names(value)
    if not isinstance(value, (list, tuple)):
        inner = value[:200] if isinstance(value, str) else shown(value)
        raise ConfigError(f"{key} must be a list, not {shown(value)}; write [{inner}]")
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    elif len(kinds) != len(value):
        raise ConfigError(f"{key} takes {len(kinds)} values, not {len(value)}: {shown(list(value))}")
    return tuple(parse(k, v, f"{key}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))


def _names(value: str | int | float) -> list[str]:
    """A list of names that was written without brackets: several words with commas between them, or one text."""
    text = value if isinstance(value, str) else getattr(value, "text", str(value))
    return re.split(r",\s*", text) if re.fullmatch(r"[^\s,]+(,\s*[^\s,]+)*", text) else [text]


def _hint(kind: Any, value: Any) -> str:
    if kind is str and type(value) is int:
        return "; YAML reads an unquoted 022 as a number; put names in quotes as they are written"
    if kind is str:
        return f'; put it in quotes: "{shown(value)}"'
    if kind in (int, float) and isinstance(value, str):
        try:
            return f"; YAML reads {value[:50]} as text, write {float(value)!r}"
        except ValueError:
            return ""
    return ""


# A range, and the sections and keys that it holds for; in a list it holds for every item. "stage." stands for each of
# the three stages. Every number of the configuration stands in one of them, but for the crops.
_STAGES = ("region", "disc", "localization")
_RANGES: tuple[tuple[str, Callable[[float], bool], dict[str, str]], ...] = (
    ("above 0", lambda v: v > 0, {
        "data.": "phantom_visits phantom_shape phantom_spacing_mm",
        "preparation.": "spacing_mm max_slice_mm reformat_slice_mm",
        "augmentation.": "scale elastic_step_mm gamma",
        "region.": "spacing_mm",
        "disc.": "coarse_spacing_mm",
        "region.network.": "width layers groups",
        "disc.network.": "stem growth se_ratio aspp_rates aspp_growth path groups",
        "localization.": "spacing_mm",
        "localization.network.": "widths layers slice_pooling groups",
        "stage.optimizer.": "learning_rate clip_norm",
        "stage.training.": "steps batch_size log_every checkpoint_every resident_mib resident_steps micro_batches",
        "inference.": "batch_size discs",
    }),
    ("at least 0", lambda v: v >= 0, {
        "": "seed",
        "data.": "phantom_cases phantom_seed",
        "augmentation.": "rotation_deg elastic_mm bend_deg noise bias blur slice_mm",
        "region.": "dilation_mm margin_mm",
        "disc.": "coarse_until",
        "disc.network.": "layers bottleneck path_layers",
        "localization.": "dilation_mm",
        "stage.loss.": "cross_entropy_steps alpha gamma auxiliary tissues",
        "stage.optimizer.": "warmup_steps decay_steps weight_decay",
        "stage.training.": "validate_every validation_cases calm_after",
        "inference.": "slice_smoothing_mm min_disc_mm3",
    }),
    ("within 0 to 1", lambda v: 0 <= v <= 1, {
        "augmentation.": "remap remap_probability channel_dropout redistribution new_means inversion equalization "
                         "random_convolution edges slice_probability cut_probability overhang calm",
        "stage.optimizer.": "final_fraction",
        "stage.training.": "disc_fraction",
        "inference.": "review_above sure_outline",
    }),
    ("at least 0 and below 1", lambda v: 0 <= v < 1, {
        "augmentation.": "cut",
        "stage.optimizer.": "momentum average_decay",
        "inference.": "overlap",
    }),
    ("above 0 and below 1", lambda v: 0 < v < 1, {"inference.": "threshold"}),
    ("within 1 to 8", lambda v: 1 <= v <= 8, {"region.network.": "downsamplings"}),
    ("within 0 to 100", lambda v: 0 <= v <= 100, {"preparation.": "percentiles"}),
    ("0 (none) or at least 2", lambda v: v == 0 or v >= 2, {"data.": "folds"}),
)  # fmt: skip
_CHOICES = {
    "disc.network.architecture": ("densenet", "unet"),
    "disc.network.pyramid": ("dense", "parallel", "serial"),
    "stage.optimizer.name": ("adamw", "sgd"),
    "stage.training.compute": ("float32", "bfloat16"),
    "weights": ("float32", "float16"),
    "stage.training.keep": ("best", "last"),
    "inference.numbering": ("solver", "line", "bottom"),
    "inference.contrast": ("told", "t1", "t2", "pd", "stir", "other"),
}
"""Texts that name one of several things."""


def check_values(values: Mapping[str, Any]) -> None:
    """Refuses values that have the right type but cannot work, alone or together.

    Args:
        values: every value of a configuration by its dotted key, tuples as lists.

    Raises:
        ConfigError: the first such value; what is infinite or not a number is always one.
    """
    for words, fits, sections in _RANGES:
        named = (section + name for section, names in sections.items() for name in names.split())
        for key in (key for name in named for key in _every_stage(name)):
            items = enumerate(values[key]) if isinstance(values[key], list) else [("", values[key])]
            for index, number in items:
                if not fits(number) or number == math.inf:
                    place = key if index == "" else f"{key}[{index}]"
                    raise ConfigError(
                        f"{place} must be {words}{' and finite' * (number == math.inf)}, not {shown(number)}"
                    )
    for name, choices in _CHOICES.items():
        for key in _every_stage(name):
            if values[key] not in choices:
                raise ConfigError(f"{key} must be {', '.join(choices[:-1])} or {choices[-1]}, not {shown(values[key])}")
    for holds, message in _rules(values):
        if not holds:
            raise ConfigError(message)


def _every_stage(key: str) -> Iterator[str]:
    """The keys that one of a table stands for."""
    yield from (f"{stage}{key.removeprefix('stage')}" for stage in _STAGES) if key.startswith("stage.") else (key,)


def is_path_part(name: str) -> bool:
    """Whether a name is one visible part of a path: not empty, without a dot in front, without slashes."""
    return bool(name.strip()) and not name.startswith(".") and not set("/\\\0") & set(name)


def _rules(values: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    """What no single number shows: whether it holds, and the message if it does not."""
    name = values["name"]
    yield (
        is_path_part(name),
        f"name is that of a folder, without slashes and without a dot in front, not {shown(name)}",
    )
    channels = values["data.channels"]
    yield (
        len(set(channels)) == len(channels) > 0,
        f"data.channels needs one or more different names, not {shown(channels)}",
    )
    yield (
        not values["data.made_from"] or set(channels) <= set(DIXON),
        f"data.made_from makes the channels {', '.join(DIXON)}; data.channels must be of these, not {shown(channels)}",
    )
    one, other = "data.subject_pattern", "data.subject_table"
    yield not (values[one] and values[other]), f"{one} and {other} exclude each other; keep one"
    stages = values["stages"]
    yield (
        len(stages) > 0 and stages == [stage for stage in _STAGES if stage in stages],
        f"stages must be one or more of {', '.join(_STAGES)}, in this order, not {shown(stages)}",
    )
    for key in ("data.phantom_shape", "data.phantom_spacing_mm"):
        yield len(values[key]) in (0, 3), f"{key} takes three values (D, H, W) or none, not {shown(values[key])}"
    low, high = values["preparation.percentiles"]
    yield low < high, f"preparation.percentiles must rise, not {shown([low, high])}"
    for key in ("augmentation.scale", "augmentation.gamma"):
        low, high = values[key]
        yield low <= high, f"{key} must be (smallest, largest), not {shown([low, high])}"
    outputs = values["disc.outputs"]
    yield (
        outputs in (["disc"], list(TISSUES)),
        f"disc.outputs must be [disc] or [{', '.join(TISSUES)}], not {shown(outputs)}",
    )
    rates = values["disc.network.aspp_rates"]
    yield len(rates) > 0, f"disc.network.aspp_rates needs one or more rates, not {shown(rates)}"
    yield from _network_rules(values)
    for stage in _STAGES:
        batch, parts = values[f"{stage}.training.batch_size"], values[f"{stage}.training.micro_batches"]
        yield (
            batch % parts == 0,
            f"{stage}.training.batch_size must be divisible by {stage}.training.micro_batches, not {batch} by {parts}",
        )
    discs, named = values["inference.discs"], len(LEVEL_NAMES)
    yield discs <= named, f"inference.discs must be at most {named}, the levels that have a name, not {shown(discs)}"


def _network_rules(values: Mapping[str, Any]) -> Iterator[tuple[bool, str]]:
    """How networks and crops fit together."""
    unet = values["disc.network.architecture"] == "unet"
    depth = values["region.network.downsamplings"]
    for stage, stride in (("region", 2**depth), ("disc", 16 if unet else 4)):
        crop = values[f"{stage}.training.crop"]
        yield (
            len(crop) == 2 and all(side >= stride and side % stride == 0 for side in crop),
            f"{stage}.training.crop must be two sizes divisible by {stride}, the network's stride, not {shown(crop)}",
        )
    box = values["inference.box"]
    yield (
        not box or (len(box) == 2 and all(side >= stride and side % stride == 0 for side in box)),
        f"inference.box must be empty, or two sizes divisible by {stride}, the disc network's stride, not {shown(box)}",
    )
    widths, layers, pooling = (values[f"localization.network.{key}"] for key in ("widths", "layers", "slice_pooling"))
    yield (
        len(widths) == len(layers) == len(pooling) + 1 >= 2,
        "localization.network needs as many widths as layers, and one slice_pooling less, not "
        f"{len(widths)}, {len(layers)} and {len(pooling)}",
    )
    crop = values["localization.training.crop"]
    strides = (math.prod(pooling), 2 ** len(pooling), 2 ** len(pooling))
    yield (
        len(crop) == 3 and all(side >= s and side % s == 0 for side, s in zip(crop, strides, strict=True)),
        f"localization.training.crop must be three sizes divisible by {strides}, the network's strides, not "
        f"{shown(crop)}",
    )
