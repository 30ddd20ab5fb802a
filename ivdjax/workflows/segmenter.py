"""A loaded model that finds the discs of a case: prepare, predict, number, restore, measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ivdjax.data.preparation import prepare, restore_labels
from ivdjax.discs.measures import measure_discs
from ivdjax.discs.numbering import number_from_bottom
from ivdjax.learning.devices import use_compilation_cache
from ivdjax.learning.steps import build_predict
from ivdjax.networks.disc_net import build_disc_net
from ivdjax.volume import Case, Disc, LabelMap
from ivdjax.workflows.model import Model, read_model
from ivdjax.workflows.segmentation import Predict, disc_probability


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A model ready to run: its description, the compiled network and the parameters on the device."""

    model: Model
    predict: Predict
    params: Any


@dataclass(frozen=True, eq=False)
class CaseResult:
    """What was found in a case.

    Attributes:
        case: as it was read.
        labels: numbered discs on the case's own canonical grid, ready for the file's own grid.
        discs: their measures, from the lowest up.
        verdict: "ok" or "review".
        reasons: for a review, in plain words.
        warnings: what was remarked on reading and preparing.
    """

    case: Case
    labels: LabelMap
    discs: tuple[Disc, ...]
    verdict: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def load_segmenter(folder: str | Path) -> Segmenter:
    """The model in a folder, on the default device, compiled: no case pays for that, and no `--timeout` counts it.

    Raises:
        UserError: no such model, or a damaged one.
    """
    model = read_model(folder)
    use_compilation_cache()
    config = model.config
    predict = build_predict(build_disc_net(config.disc.network).apply)
    params = jax.device_put(model.parameters["disc"])
    boxes = np.zeros((config.inference.batch_size, *config.disc.training.crop, len(model.channels)), np.uint8)
    jax.block_until_ready(predict(params, jax.device_put(boxes)))
    return Segmenter(model, predict, params)


def find_discs(segmenter: Segmenter, case: Case) -> CaseResult:
    """Every disc of a case that has the model's channels in the model's order.

    Raises:
        CaseError: the case cannot be prepared.
    """
    config = segmenter.model.config
    settings = config.inference
    prepared = prepare(case, config.preparation, config.data.all_discs_outlined)
    probability = disc_probability(prepared, segmenter.predict, segmenter.params, config)
    mask = probability > settings.threshold
    numbering = number_from_bottom(mask, prepared.grid, settings.min_disc_mm3, settings.discs)
    labels = restore_labels(numbering.levels, prepared, probability, settings.threshold)
    discs = measure_discs(labels, case.volume, numbering.confidence)
    return CaseResult(case, labels, tuple(discs), numbering.verdict, numbering.reasons, prepared.warnings)
