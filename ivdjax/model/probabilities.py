"""From a prepared case to what the networks say of it: spine region, probability of disc, probability of each level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.config import Config
from ivdjax.data.preparation import Prepared, regrid
from ivdjax.discs.region import whole_region, widened
from ivdjax.imaging.blocks import blend_blocks, block_origins, cut_blocks
from ivdjax.imaging.boxes import Origin, blend_boxes, box_origins, cut_boxes, region_origins
from ivdjax.imaging.geometry import resample
from ivdjax.model.stages import predicted_box
from ivdjax.volume import LUMBAR_DISCS, Grid

Predict = Callable[[Any, NDArray[np.uint8]], jax.Array]
"""Parameters and uint8 boxes (N, ..., C) to probabilities (see `ivdjax.learning.steps.build_predict`)."""

_OVERLAP = 0.25

_AIR = 8
"""Of 255: what no voxel of a row exceeds shows nothing."""

REGION_BATCH = 16
"""Slices that the region network sees at once; whoever compiles it ahead must use the same."""

LEAST_HEIGHT_MM = 150.0
"""Fields of view lower than this show too little of a spine for the region network, which learns on whole lumbar scans:
there the discs are looked for everywhere."""


def region_case(prepared: Prepared, config: Config) -> Prepared:
    """The case on the grid of the region stage."""
    return regrid(prepared, (None, *config.region.spacing_mm))


def localization_case(prepared: Prepared, config: Config) -> Prepared:
    """The case on the grid of the localization stage."""
    return regrid(prepared, config.localization.spacing_mm)


def coarse_case(prepared: Prepared, config: Config) -> Prepared:
    """The case on the coarser grid with which training of the disc stage begins, its spine region with it."""
    coarse = regrid(prepared, (None, *config.disc.coarse_spacing_mm))
    if prepared.region is None:
        return coarse
    return replace(coarse, region=resample(prepared.region, prepared.grid, coarse.grid, order=0))


def region_probability(coarse: Prepared, predict: Predict, params: Any, config: Config) -> NDArray[np.float32]:
    """Probability (D, H, W) of spine region of a case on the region stage's grid (`region_case`)."""
    box = _flat(predicted_box(config, "region"))
    return _tiled(coarse, box_origins(coarse.grid.shape, box, _OVERLAP), box, REGION_BATCH, predict, params)[0]


def with_region(prepared: Prepared, predict: Predict, params: Any, config: Config) -> Prepared:
    """The case with its predicted spine region on the working grid (paper, section 2.3), and a margin round it.

    A case whose field of view is lower than `LEAST_HEIGHT_MM` keeps none, and a remark that says so.
    """
    height_mm = prepared.grid.shape[1] * prepared.grid.spacing_mm[1]
    if height_mm < LEAST_HEIGHT_MM:
        remark = (
            f"case {prepared.name}: the field of view is {height_mm:.0f} mm high, too little to tell the spine region; "
            "discs were looked for everywhere"
        )
        return replace(prepared, region=None, warnings=(*prepared.warnings, remark))
    coarse = region_case(replace(prepared, labels=None, occupancy=None), config)
    found = whole_region(region_probability(coarse, predict, params, config), coarse.grid)
    wide = widened(found, coarse.grid, config.region.margin_mm)
    return replace(prepared, region=resample(wide, coarse.grid, prepared.grid, order=0))


def disc_probability(prepared: Prepared, predict: Predict, params: Any, config: Config) -> NDArray[np.float32]:
    """Probability (D, H, W) of disc, 0 to 1, on the working grid; 0 outside of the spine region, if there is one."""
    return outline_probability(prepared, predict, params, config)[0]


def outline_probability(prepared: Prepared, predict: Predict, params: Any, config: Config) -> NDArray[np.float32]:
    """Probability (K, D, H, W) of each of `disc.outputs`, 0 to 1, on the case's working grid.

    That of disc, the first, is 0 outside of the spine region, if the case has one; the others go as far as the boxes.

    Boxes (`predicted_box`) cover each slice, or the region alone; the compiled shape depends on the configuration,
    never on the case. Batches are sent ahead while the one before is computed.

    Args:
        prepared: the case, with the model's channels in the model's order.
        predict: the compiled function of `ivdjax.learning.steps.build_predict`.
        params: parameters on the device.
        config: the model's configuration.
    """
    settings, box = config.inference, _flat(predicted_box(config, "disc"))
    shape = prepared.grid.shape
    if prepared.region is None:
        origins = box_origins(shape, box, settings.overlap)
    else:
        origins = region_origins(prepared.region, box, settings.overlap)
    probability = _tiled(prepared, origins, box, settings.batch_size, predict, params)
    if settings.slice_smoothing_mm > 0:
        sigma = settings.slice_smoothing_mm / prepared.grid.spacing_mm[0]
        probability = ndimage.gaussian_filter1d(probability, sigma, axis=1, mode="nearest")
    if prepared.region is not None:
        probability[0] *= prepared.region
    return probability


def level_probability(coarse: Prepared, predict: Predict, params: Any, config: Config) -> NDArray[np.float32]:
    """Probability (K, D, H, W) of background and each level on the localization stage's grid (`localization_case`).

    A network whose training boxes stood out of the volume (`augmentation.overhang`) sees the body with air all round,
    half as broad as the boxes stood out at most: a border of the image on that of a box is what it saw least. Air that
    the image has above and below is cut off first, so that how much of it there is changes nothing.
    """
    d, h, w = predicted_box(config, "localization")
    if not config.augmentation.overhang:
        return _level_blocks(coarse.image, (d, h, w), predict, params)
    rows, columns = (round(config.augmentation.overhang / 2 * side) for side in (h, w))
    body = _rows_of_body(coarse.image)
    around = ((0, 0), (0, 0), (rows, rows), (columns, columns))
    seen = _level_blocks(np.pad(coarse.image[:, :, body], around), (d, h, w), predict, params)
    found = np.zeros((len(seen), *coarse.grid.shape), np.float32)
    found[0] = 1.0
    found[:, :, body] = seen[:, :, rows : seen.shape[2] - rows, columns : columns + coarse.grid.shape[2]]
    return found


def _level_blocks(
    image: NDArray[np.uint8], box: tuple[int, int, int], predict: Predict, params: Any
) -> NDArray[np.float32]:
    """Probabilities (K, D, H, W) of an image (C, D, H, W), box by box."""
    origins = block_origins(image.shape[1:], box, _OVERLAP)
    running = [predict(params, block) for block in cut_blocks(image, origins, box)]
    return blend_blocks([np.asarray(block)[0] for block in running], origins, image.shape[1:])


def _rows_of_body(image: NDArray[np.uint8]) -> slice:
    """From the first to the last row of an image (C, D, H, W) that is not all air; all rows where each is."""
    lit = np.flatnonzero((image > _AIR).any(axis=(0, 1, 3)))
    return slice(int(lit[0]), int(lit[-1]) + 1) if len(lit) else slice(0, image.shape[2])


def region_dice(coarse: Prepared, probability: NDArray[np.float32], grid: Grid) -> float:
    """Dice of a predicted spine region with the one that the reference gives, in the rows that take part in the loss.

    Raises:
        ValueError: the case has no reference.
    """
    if coarse.occupancy is None:
        raise ValueError(f"case {coarse.name} has no reference to compare with")
    rows = slice(coarse.ignore_above, None)
    return _dice(whole_region(probability, grid)[:, rows], coarse.occupancy[:, rows] > 127)


def working_dice(prepared: Prepared, probability: NDArray[np.float32], threshold: float) -> float:
    """Dice of all discs as one mask on the working grid, in the rows that take part in the loss; 1 for two empties.

    Args:
        prepared: the case, with its reference labels.
        probability: (D, H, W), as `disc_probability` gives it.
        threshold: probability above which a voxel is disc.

    Raises:
        ValueError: the case has no reference labels.
    """
    if prepared.labels is None:
        raise ValueError(f"case {prepared.name} has no reference labels to compare with")
    rows = slice(prepared.ignore_above, None)
    return _dice(probability[:, rows] > threshold, prepared.labels[:, rows] > 0)


def level_dice(coarse: Prepared, probability: NDArray[np.float32]) -> float:
    """Mean Dice of the outlined ones of the seven levels, each against the voxels where it is the likeliest class.

    Args:
        coarse: the case on the localization grid, with its reference labels.
        probability: (K, D, H, W), class 0 being background.

    Raises:
        ValueError: the case has no reference labels.
    """
    if coarse.labels is None:
        raise ValueError(f"case {coarse.name} has no reference labels to compare with")
    found = probability.argmax(axis=0)
    levels = [level for level in range(1, LUMBAR_DISCS + 1) if (coarse.labels == level).any()]
    return float(np.mean([_dice(found == level, coarse.labels == level) for level in levels])) if levels else 1.0


def _tiled(
    case: Prepared, origins: list[Origin], box: tuple[int, int], batch: int, predict: Predict, params: Any
) -> NDArray[np.float32]:
    """Probabilities (K, D, H, W) from boxes at these origins; 0 where no box lies, and then one for all outputs."""
    if not origins:
        return np.zeros((1, *case.grid.shape), np.float32)
    running = [predict(params, boxes) for boxes in cut_boxes(case.image, origins, box, batch)]
    boxes = np.concatenate([np.asarray(part) for part in running])[: len(origins)]
    outputs = boxes[..., None] if boxes.ndim == 3 else boxes
    return np.stack([blend_boxes(outputs[..., k], origins, case.grid.shape) for k in range(outputs.shape[-1])])


def _flat(crop: tuple[int, ...]) -> tuple[int, int]:
    height, width = crop
    return height, width


def _dice(found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    total = int(found.sum() + wanted.sum())
    return 2.0 * int((found & wanted).sum()) / total if total else 1.0
