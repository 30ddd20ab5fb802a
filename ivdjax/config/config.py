"""One configuration: all of its sections, read from YAML with overrides, compared, and put back into plain values."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from ivdjax.config.data import AugmentationConfig, DataConfig, PreparationConfig
from ivdjax.config.stages import STAGES, DiscConfig, LocalizationConfig, RegionConfig
from ivdjax.schema import ConfigError, check_values, parse, parse_yaml

_GONE = ("inference.sure",)
"""Keys of earlier versions that nothing heeds any more."""


@dataclass(frozen=True)
class InferenceConfig:
    """From probabilities to discs. Each step of the paper can be left out.

    Attributes:
        batch_size: boxes that the segmentation network sees at once.
        box: their rows and columns; empty: those of `disc.training.crop`. One box as high as most images, in place of
            two that overlap, takes less time.
        overlap: smallest share of a box that neighbouring boxes share.
        slice_smoothing_mm: standard deviation of a Gaussian that smooths probabilities across slices; 0: none.
        threshold: probability above which a voxel is disc.
        min_disc_mm3: smaller components are dropped.
        discs: the highest level in the result (7: T11/12); discs above it are dropped.
        region: whether discs are looked for only in the predicted spine region (paper, section 2.3).
        localization: whether the localization network is used (paper, section 2.2).
        registration: whether the reference mask is registered and gives the spine's centre line (paper, section 2.2,
            Fig. 4); if not, the line is fitted through the components themselves.
        numbering: solver (weighs all evidence; a missed disc leaves a gap), line (the paper's method: components that
            the centre line crosses, from the bottom up) or bottom (all components from the bottom up).
        review_above: probability that a level is wrong or a disc missing above which a case is sent to review.
        sure_outline: expected Dice of an outline below which a remark is made, for calibrated models; 0: never.
        contrast: weighting of the image, which decides what is measured of its signal: told (taken from the DICOM
            header or the file name, such as NAME_t2.nii.gz), or t1, t2, pd, stir or other.
        grades: whether a Pfirrmann grade is estimated, if the model supports it.
    """

    batch_size: int = 8
    box: tuple[int, ...] = ()
    overlap: float = 0.25
    slice_smoothing_mm: float = 0.0
    threshold: float = 0.5
    min_disc_mm3: float = 200.0
    discs: int = 7
    region: bool = True
    localization: bool = True
    registration: bool = True
    numbering: str = "solver"
    review_above: float = 0.1
    sure_outline: float = 0.7
    contrast: str = "told"
    grades: bool = True


@dataclass(frozen=True)
class Config:
    """One training run, and the model that it gives.

    Attributes:
        name: of the run and its model.
        seed: of all random numbers.
        stages: which of region, disc and localization are trained; they run in this order.
        weights: how the model's parameters are stored, float32 or float16. float16 halves the file, with a relative
            error of at most 2^-11.
    """

    name: str
    seed: int = 0
    stages: tuple[str, ...] = STAGES
    weights: str = "float32"
    data: DataConfig = field(default_factory=DataConfig)
    preparation: PreparationConfig = field(default_factory=PreparationConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    region: RegionConfig = field(default_factory=RegionConfig)
    disc: DiscConfig = field(default_factory=DiscConfig)
    localization: LocalizationConfig = field(default_factory=LocalizationConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)


def read_config(path: str | Path, overrides: Sequence[str] = (), base: Config | None = None) -> Config:
    """The configuration in a YAML file, with overrides of the form `section.key=value` (the value in YAML).

    Args:
        path: of the file.
        overrides: further values, in place of the file's.
        base: gives what neither says, in place of the defaults (`shaped_like`).

    Raises:
        ConfigError: no such file, not YAML, a key that is unknown or stands twice, a wrong type or length, or a value
            out of its range.
    """
    path = Path(path)
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration at {path}; see the configs/ folder for those that exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold keys and values, not {type(tree).__name__}")
    for override in overrides:
        _override(tree, override)
    tree.setdefault("name", path.stem)
    return parse_config(tree, base)


def parse_config(tree: dict[str, Any], base: Config | None = None) -> Config:
    """The configuration in nested plain mappings, as YAML or JSON gives them; `base` gives what they leave out.

    Raises:
        ConfigError: as `read_config`.
    """
    config: Config = parse(Config, tree, base=base)
    check_values(_flat(plain_config(config)))
    return config


def shaped_like(model: Config) -> Config:
    """The defaults for a training that begins with a model: its channels, its working grid, and of each stage the
    network, the grid and the boxes. How it was trained (loss, optimizer, steps, augmentation) is not taken over.
    """
    made = Config(name=model.name)
    stages = {}
    for stage in STAGES:
        own, its = getattr(made, stage), getattr(model, stage)
        training = dataclasses.replace(own.training, crop=its.training.crop)
        stages[stage] = dataclasses.replace(its, loss=own.loss, optimizer=own.optimizer, training=training)
    data = dataclasses.replace(made.data, channels=model.data.channels)
    return dataclasses.replace(made, data=data, preparation=model.preparation, inference=model.inference, **stages)


def parse_stored(tree: dict[str, Any]) -> Config:
    """The configuration that a model of this version or an earlier one stores: keys that are gone are left out.

    Raises:
        ConfigError: as `read_config`.
    """
    kept = {
        section: {key: value for key, value in values.items() if f"{section}.{key}" not in _GONE}
        if isinstance(values, dict)
        else values
        for section, values in tree.items()
    }
    return parse_config(kept)


def plain_config(config: Any) -> Any:
    """Nested plain mappings and lists that `parse_config` turns back into the same configuration."""
    if dataclasses.is_dataclass(config):
        return {f.name: plain_config(getattr(config, f.name)) for f in fields(config)}
    if isinstance(config, tuple):
        return [plain_config(item) for item in config]
    return config


def config_differences(old: Config, new: Config) -> list[str]:
    """Dotted keys whose values differ, each as `key: old -> new`; empty for equal configurations."""
    before, after = _flat(plain_config(old)), _flat(plain_config(new))
    return [f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
            for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]  # fmt: skip


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for key, value in tree.items() for k, v in _flat(value, f"{prefix}.{key}" if prefix else key).items()}


def _override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set takes section.key=value, not {override!r}")
    *sections, last = key.split(".")
    node = tree
    for section in sections:
        child = node.setdefault(section, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {section} is a value, not a section")
        node = child
    try:
        node[last] = parse_yaml(text) if text else ""  # YAML reads an empty text as null
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not YAML: {error}") from error
