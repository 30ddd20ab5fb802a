"""What each stage learns: its network, its cases on its own grid, what its samples are like, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ivdjax.config import Config, StageConfig
from ivdjax.data.preparation import Prepared
from ivdjax.discs.region import whole_region
from ivdjax.learning.augmentation import Crop
from ivdjax.learning.steps import build_predict
from ivdjax.model.probabilities import (
    Predict,
    coarse_case,
    disc_probability,
    level_dice,
    level_probability,
    region_dice,
    region_probability,
    working_dice,
)
from ivdjax.model.stages import stage_crop, stage_settings
from ivdjax.model.targets import localization_target, region_target, with_classes
from ivdjax.networks.disc_net import build_disc_net
from ivdjax.networks.unet import build_unet
from ivdjax.networks.vnet import build_vnet
from ivdjax.volume import UserError


class Scored(NamedTuple):
    """A held-out case as a network outlines it, on the stage's grid.

    Attributes:
        score: better if larger.
        reference: uint8 (D, H, W), 0 for background; of the discs their levels, of the spine region 1.
        predicted: uint8 (D, H, W), likewise; a network that does not tell discs apart gives 1.
    """

    score: float
    reference: NDArray[np.uint8]
    predicted: NDArray[np.uint8]


Score = Callable[[Predict, Any, Prepared], Scored]
"""The compiled network, its parameters and a held-out case with reference discs to what comes of it."""


@dataclass(frozen=True, eq=False)
class StageTask:
    """All that the training of one stage needs.

    Attributes:
        name: region, disc or localization.
        settings: of the stage.
        network: the module; `apply` gives logits and auxiliary logits.
        crop: what samples are like.
        training: cases on the stage's grid.
        held_out: cases on the stage's grid, to be scored.
        score: of one held-out case with reference discs.
        figure: the name of that score.
        coarse: the training cases on a coarser grid, from which samples are cut until `coarse_until`.
        coarse_until: so many steps; 0: none.
    """

    name: str
    settings: StageConfig
    network: Any
    crop: Crop
    training: Sequence[Prepared]
    held_out: Sequence[Prepared]
    score: Score
    figure: str
    coarse: Sequence[Prepared] = ()
    coarse_until: int = 0

    @cached_property
    def predict(self) -> Predict:
        """The compiled prediction of the stage's network."""
        return build_predict(self.network.apply, self.crop.levels)


def stage_network(config: Config, stage: str) -> Any:
    """The network of a stage."""
    if stage == "region":
        return build_unet(config.region.network)
    if stage == "disc":
        return build_disc_net(config.disc.network, len(config.disc.outputs))
    return build_vnet(config.localization.network, config.localization.landmarks)


def build_task(config: Config, stage: str, training: Sequence[Prepared], held_out: Sequence[Prepared]) -> StageTask:
    """The task of a stage, from cases on the working grid.

    For the disc stage the cases carry the spine region that was predicted for them, if there is one.

    Raises:
        UserError: a case without reference labels.
    """
    for case in training:
        if case.labels is None:
            raise UserError(f"case {case.name} has no reference labels to train on; add {case.name}_Labels.nii.gz")
    training = [case if case.classes is not None else with_classes(case) for case in training]
    network, crop = stage_network(config, stage), stage_crop(config, stage)
    settings = stage_settings(config, stage)
    if stage == "region":
        cases = [[region_target(case, config) for case in part] for part in (training, held_out)]

        def score_region(predict: Predict, params: Any, case: Prepared) -> Scored:
            probability = region_probability(case, predict, params, config)
            wanted = np.zeros(case.grid.shape, bool) if case.occupancy is None else case.occupancy > 127
            region = whole_region(probability, case.grid)
            return Scored(region_dice(case, probability, case.grid), wanted.astype(np.uint8), region.astype(np.uint8))

        return StageTask(stage, settings, network, crop, cases[0], cases[1], score_region, "region_dice")
    if stage == "disc":

        def score_discs(predict: Predict, params: Any, case: Prepared) -> Scored:
            probability, threshold = disc_probability(case, predict, params, config), config.inference.threshold
            return Scored(
                working_dice(case, probability, threshold), _labels(case), (probability > threshold).astype(np.uint8)
            )

        until = config.disc.coarse_until
        coarse = [coarse_case(case, config) for case in training] if until else ()
        return StageTask(
            stage, settings, network, crop, training, held_out, score_discs, "all_discs_dice", coarse, until
        )
    cases = [[localization_target(case, config) for case in part] for part in (training, held_out)]

    def score_levels(predict: Predict, params: Any, case: Prepared) -> Scored:
        probability = level_probability(case, predict, params, config)
        return Scored(level_dice(case, probability), _labels(case), probability.argmax(axis=0).astype(np.uint8))

    return StageTask(stage, settings, network, crop, cases[0], cases[1], score_levels, "level_dice")


def _labels(case: Prepared) -> NDArray[np.uint8]:
    """The reference labels of a case; none of them where there is no reference."""
    return np.zeros(case.grid.shape, np.uint8) if case.labels is None else case.labels
