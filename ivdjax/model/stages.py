"""What the configuration says of a stage; nothing here needs its network."""

from __future__ import annotations

from ivdjax.config import Config, StageConfig
from ivdjax.learning.augmentation import Crop


def stage_settings(config: Config, stage: str) -> StageConfig:
    """The configuration of a stage."""
    settings: StageConfig = getattr(config, stage)
    return settings


def predicted_box(config: Config, stage: str) -> tuple[int, ...]:
    """Size of the boxes that a stage's network sees at inference, without the channels."""
    if stage == "disc" and config.inference.box:
        return config.inference.box
    return tuple(stage_settings(config, stage).training.crop)


def stage_crop(config: Config, stage: str) -> Crop:
    """What the samples of a stage are like."""
    training = stage_settings(config, stage).training
    spacing_mm: tuple[float, ...] = config.preparation.spacing_mm
    if stage == "region":
        spacing_mm = config.region.spacing_mm
    elif stage == "localization":
        spacing_mm = config.localization.spacing_mm
    made = config.data.channels if config.data.made_from else ()
    return Crop(tuple(training.crop), tuple(spacing_mm), training.disc_fraction, stage == "localization", made)
