"""From a prepared case to the probability of disc at every voxel of its working grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ivdjax.config import Config
from ivdjax.data.preparation import Prepared
from ivdjax.imaging.boxes import blend_boxes, box_origins, cut_boxes

Predict = Callable[[Any, NDArray[np.uint8]], jax.Array]
"""Parameters and uint8 boxes (N, H, W, C) to the probability of disc (N, H, W)."""


def disc_probability(prepared: Prepared, predict: Predict, params: Any, config: Config) -> NDArray[np.float32]:
    """Probability (D, H, W) of disc, 0 to 1, on the case's working grid.

    Boxes of the size the network was trained with cover each slice; the compiled shape depends on the configuration
    alone, never on the case. Batches are sent ahead while the one before is computed.

    Args:
        prepared: the case, with the model's channels in the model's order.
        predict: the compiled function of `ivdjax.learning.steps.build_predict`.
        params: parameters on the device.
        config: the model's configuration.
    """
    settings, box = config.inference, config.disc.training.crop
    shape = prepared.grid.shape
    origins = box_origins(shape, box, settings.overlap)
    running = [predict(params, batch) for batch in cut_boxes(prepared.image, origins, box, settings.batch_size)]
    boxes = np.concatenate([np.asarray(batch) for batch in running])[: len(origins)]
    probability = blend_boxes(boxes, origins, shape)
    if settings.slice_smoothing_mm > 0:
        sigma = settings.slice_smoothing_mm / prepared.grid.spacing_mm[0]
        probability = ndimage.gaussian_filter1d(probability, sigma, axis=0, mode="nearest")
    return probability


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
    found = probability[:, prepared.ignore_above :] > threshold
    wanted = prepared.labels[:, prepared.ignore_above :] > 0
    total = int(found.sum() + wanted.sum())
    return 2.0 * int((found & wanted).sum()) / total if total else 1.0
