"""The configuration: plain YAML into frozen dataclasses, strictly.

`data.py`, `networks.py` and `stages.py` hold the sections; `config.py` the whole, and how it is read. An unknown key is
refused with the nearest known one, a value of the wrong type or length is named with its key, and a number that YAML
read as text (`1e-3` without a dot) is explained; so is one out of its range (see `schema`). Overrides have the form
`section.key=value`.
"""

from ivdjax.config.config import (
    Config,
    InferenceConfig,
    config_differences,
    parse_config,
    parse_stored,
    plain_config,
    read_config,
    shaped_like,
)
from ivdjax.config.data import AugmentationConfig, DataConfig, PreparationConfig
from ivdjax.config.networks import DiscNetConfig, UNetConfig, VNetConfig
from ivdjax.config.stages import (
    STAGES,
    DiscConfig,
    LocalizationConfig,
    LossConfig,
    OptimizerConfig,
    RegionConfig,
    StageConfig,
    TrainingConfig,
)
from ivdjax.schema import ConfigError

__all__ = [
    "STAGES", "AugmentationConfig", "Config", "ConfigError", "DataConfig", "DiscConfig", "DiscNetConfig",
    "InferenceConfig", "LocalizationConfig", "LossConfig", "OptimizerConfig", "PreparationConfig", "RegionConfig",
    "StageConfig", "TrainingConfig", "UNetConfig", "VNetConfig", "config_differences", "parse_config", "parse_stored",
    "plain_config", "read_config", "shaped_like",
]  # fmt: skip
