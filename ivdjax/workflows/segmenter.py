"""A loaded model that finds the discs of a case: prepare, predict, number, restore, measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from ivdjax.config import STAGES, Config
from ivdjax.data.preparation import Prepared, prepare, restore_labels, restore_probability
from ivdjax.discs.measures import measure_discs
from ivdjax.discs.numbering import Anchor, Evidence, number_discs
from ivdjax.discs.outline import calibrated as outline_calibrated
from ivdjax.discs.outline import outline_confidence, outline_reasons
from ivdjax.learning.devices import use_compilation_cache
from ivdjax.learning.steps import build_predict
from ivdjax.volume import Case, CaseError, Disc, LabelMap, UserError
from ivdjax.workflows.model import Model, override_inference, read_model
from ivdjax.workflows.segmentation import (
    REGION_BATCH,
    Predict,
    disc_probability,
    level_probability,
    localization_case,
    with_region,
)
from ivdjax.workflows.tasks import stage_crop, stage_network


@dataclass(frozen=True, eq=False)
class Network:
    """A compiled network and its parameters on the device."""

    predict: Predict
    params: Any


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A model ready to run: its description (with overridden settings) and its networks by stage."""

    model: Model
    networks: dict[str, Network]

    @property
    def config(self) -> Config:
        """The configuration that inference follows."""
        return self.model.config


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
        probability: float32 (D, H, W) of disc on the labels' grid, 0 to 1; None unless it was asked for.
    """

    case: Case
    labels: LabelMap
    discs: tuple[Disc, ...]
    verdict: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    probability: NDArray[np.float32] | None = None


def load_segmenter(folder: str | Path, overrides: Sequence[str] = ()) -> Segmenter:
    """The model in a folder, on the default device, compiled: no case pays for that, and no `--timeout` counts it.

    Raises:
        UserError: no such model, a damaged one, one that cannot outline discs, or overrides that cannot be used (see
            `override_inference`).
    """
    model = override_inference(read_model(folder), overrides)
    if "disc" not in model.parameters:
        raise UserError(f"{folder} holds {', '.join(model.networks)}, but no network for disc; train that stage too")
    try:
        outline_calibrated([1.0], _calibration(model) or {"scale": 1.0, "power": 1.0})
    except ValueError as error:
        raise UserError(f"{folder}: outline_calibration: {error}; copy the whole folder again") from error
    use_compilation_cache()
    networks = {}
    for stage in _wanted(model):
        crop = stage_crop(model.config, stage)
        predict = build_predict(stage_network(model.config, stage).apply, crop.levels)
        networks[stage] = Network(predict, jax.device_put(model.parameters[stage]))
    segmenter = Segmenter(model, networks)
    _predict_blank(segmenter)
    return segmenter


def find_discs(
    segmenter: Segmenter, case: Case, anchor: Anchor | None = None, keep_probability: bool = False
) -> CaseResult:
    """Every disc of a case that has one or more of the model's channels.

    Args:
        segmenter: the model.
        case: as it was read.
        anchor: the user's word on one disc's level.
        keep_probability: whether the result holds the probability of disc too.

    Raises:
        CaseError: the case cannot be prepared, or the anchor lies in no disc.
    """
    config = segmenter.config
    prepared = prepare(case, config.preparation, config.data.all_discs_outlined, config.data.channels)
    if len(prepared.missing) == len(prepared.channels):
        raise CaseError(f"case {case.name}: none of the model's channels {', '.join(prepared.channels)} is there")
    prepared = in_region(segmenter, prepared)
    evidence = gather_evidence(segmenter, prepared, anchor)
    try:
        numbering = number_discs(evidence, config.inference)
    except ValueError as error:
        if anchor is None:
            raise
        raise CaseError(f"case {case.name}: --anchor: {error}") from error
    labels = restore_labels(numbering.levels, prepared, evidence.probability, config.inference.threshold)
    calibration = _calibration(segmenter.model)
    outlines = outline_confidence(evidence.probability, numbering.levels, prepared.grid, calibration)
    # Uncalibrated figures rank a case's discs, but their size means nothing.
    unsure = outline_reasons(outlines, config.inference.sure_outline) if calibration else []
    discs = measure_discs(labels, case.volume, numbering.confidence, outlines)
    reasons = (*_missing_reasons(prepared), *numbering.reasons, *unsure)
    fine = restore_probability(evidence.probability, prepared) if keep_probability else None
    return CaseResult(case, labels, tuple(discs), "review" if reasons else "ok", reasons, prepared.warnings, fine)


def in_region(segmenter: Segmenter, prepared: Prepared) -> Prepared:
    """A prepared case with its predicted spine region, where the segmenter uses one."""
    if "region" not in segmenter.networks:
        return prepared
    network = segmenter.networks["region"]
    return with_region(prepared, network.predict, network.params, segmenter.config)


def gather_evidence(segmenter: Segmenter, prepared: Prepared, anchor: Anchor | None = None) -> Evidence:
    """What the networks say of a prepared case, in its spine region if it has one (`in_region`), for `number_discs`."""
    config, networks = segmenter.config, segmenter.networks
    probability = disc_probability(prepared, networks["disc"].predict, networks["disc"].params, config)
    levels = level_grid = None
    if "localization" in networks:
        coarse = localization_case(prepared, config)
        network = networks["localization"]
        levels, level_grid = level_probability(coarse, network.predict, network.params, config), coarse.grid
    return Evidence(
        probability, prepared.grid, prepared.region, levels, level_grid, segmenter.model.reference, anchor
    )  # fmt: skip


def _calibration(model: Model) -> Mapping[str, object] | None:
    """How the model's expected Dice becomes a right one; None for a model without."""
    return model.meta.get("outline_calibration")


def _wanted(model: Model) -> list[str]:
    """The networks that inference uses: all that the model has, but for those that its settings leave out."""
    settings = model.config.inference
    left_out = {"region": not settings.region, "localization": not settings.localization, "disc": False}
    return [stage for stage in STAGES if stage in model.parameters and not left_out[stage]]


def _predict_blank(segmenter: Segmenter) -> None:
    """Compiles every network for the one shape that it will see."""
    config, channels = segmenter.config, len(segmenter.model.channels)
    batch = {"region": REGION_BATCH, "disc": config.inference.batch_size, "localization": 1}
    for stage, network in segmenter.networks.items():
        box = stage_crop(config, stage).box
        jax.block_until_ready(network.predict(network.params, np.zeros((batch[stage], *box, channels), np.uint8)))


def _missing_reasons(prepared: Prepared) -> list[str]:
    if not prepared.missing:
        return []
    there = ", ".join(channel for channel in prepared.channels if channel not in prepared.missing)
    return [f"channel {', '.join(prepared.missing)} is missing: outlines and levels rest on {there} alone"]
