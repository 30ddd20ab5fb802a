"""A loaded model that finds the discs of a case: prepare, predict, number, restore, measure."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax

from ivdjax.config import STAGES, Config
from ivdjax.data.preparation import Prepared
from ivdjax.discs.evidence import Anchor, Evidence
from ivdjax.inference.case_result import CaseResult, conclude, prepare_case
from ivdjax.learning.devices import found_devices, use_compilation_cache
from ivdjax.model.model import Model, override_inference, read_model
from ivdjax.model.probabilities import (
    REGION_BATCH,
    Predict,
    level_probability,
    localization_case,
    outline_probability,
    with_region,
)
from ivdjax.model.programs import predict_program
from ivdjax.model.stages import stage_settings
from ivdjax.model.weights import misfits, shortened
from ivdjax.volume import TISSUES, Case, UserError


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


def load_segmenter(folder: str | Path, overrides: Sequence[str] = ()) -> Segmenter:
    """The model in a folder, ready to run (`build_segmenter`).

    Raises:
        UserError: no such model, a damaged one, one that cannot outline discs, or overrides that cannot be used (see
            `override_inference`).
    """
    return build_segmenter(override_inference(read_model(folder), overrides), folder)


def build_segmenter(model: Model, folder: str | Path) -> Segmenter:
    """A model on the default device, compiled: no case pays for that, and no `--timeout` counts it.

    Args:
        model: as it was read, with overridden settings.
        folder: that it was read from, for messages.

    Raises:
        UserError: it cannot outline discs, or its weights do not fit its networks; or there is no device.
    """
    if "disc" not in model.parameters:
        raise UserError(f"{folder} holds {', '.join(model.networks)}, but no network for disc; train that stage too")
    cache = use_compilation_cache()
    found_devices()
    stages = _wanted(model)
    try:
        with ThreadPoolExecutor() as pool:  # XLA compiles one network, or fetches it, while Python traces the next
            return Segmenter(model, dict(zip(stages, pool.map(partial(_compiled, model, cache), stages), strict=True)))
    except Exception as error:
        _refuse_misfits(folder, model, stages, error)
        raise


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
    prepared, evidence = look(segmenter, prepare_case(segmenter.model, case), anchor)
    return conclude(segmenter.model, case, prepared, evidence, keep_probability)


def look(segmenter: Segmenter, prepared: Prepared, anchor: Anchor | None = None) -> tuple[Prepared, Evidence]:
    """The part of `find_discs` that runs networks: the case in its spine region, and what they say of it."""
    prepared = in_region(segmenter, prepared)
    return prepared, gather_evidence(segmenter, prepared, anchor)


def in_region(segmenter: Segmenter, prepared: Prepared) -> Prepared:
    """A prepared case with its predicted spine region, where the segmenter uses one."""
    if "region" not in segmenter.networks:
        return prepared
    network = segmenter.networks["region"]
    return with_region(prepared, network.predict, network.params, segmenter.config)


def gather_evidence(segmenter: Segmenter, prepared: Prepared, anchor: Anchor | None = None) -> Evidence:
    """What the networks say of a prepared case, in its spine region if it has one (`in_region`), for `number_discs`."""
    config, networks = segmenter.config, segmenter.networks
    outlined = outline_probability(prepared, networks["disc"].predict, networks["disc"].params, config)
    levels = level_grid = None
    if "localization" in networks:
        coarse = localization_case(prepared, config)
        network = networks["localization"]
        levels, level_grid = level_probability(coarse, network.predict, network.params, config), coarse.grid
    return Evidence(
        outlined[0], prepared.grid, prepared.region, levels, level_grid, segmenter.model.reference, anchor,
        tissue_probability=outlined[1:] if len(outlined) == len(TISSUES) else None,
    )  # fmt: skip


def _wanted(model: Model) -> list[str]:
    """The networks that inference uses: all that the model has, but for those that its settings leave out."""
    settings = model.config.inference
    left_out = {"region": not settings.region, "localization": not settings.localization, "disc": False}
    return [stage for stage in STAGES if stage in model.parameters and not left_out[stage]]


def _compiled(model: Model, cache: Path | None, stage: str) -> Network:
    """A network compiled for the one shape that it will see."""
    batch = {"region": REGION_BATCH, "disc": model.config.inference.batch_size, "localization": 1}[stage]
    params = jax.device_put(model.parameters[stage])
    return Network(predict_program(model.config, stage, params, batch, cache), params)


def _refuse_misfits(folder: str | Path, model: Model, stages: Sequence[str], error: Exception) -> None:
    """A UserError where parameters are not those of the networks that the configuration describes.

    It is asked once a network has failed, since an answer costs seconds.
    """
    from ivdjax.learning.steps import abstract_state  # slow to import, as networks are, and of no use otherwise
    from ivdjax.model.tasks import stage_network

    for stage in stages:
        network, settings = stage_network(model.config, stage), stage_settings(model.config, stage)
        found = misfits(model.parameters[stage], abstract_state(network, settings, len(model.channels)).params)
        if found:
            raise UserError(
                f"{folder}: the weights do not fit the {stage} network that model.json describes: "
                f"{shortened(found)}; copy the whole folder again"
            ) from error
