"""What the stages learn from: the spine region, levels with their landmarks, and classes of voxels to recolour.

Targets are made in millimetres on the working grid, where an outline is fine, and then brought to the stage's grid: on
voxels of 4 mm a thin disc would vanish before it could be dilated.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.vq import kmeans2, vq

from ivdjax.config import Config
from ivdjax.data.preparation import Prepared, resample_labels
from ivdjax.discs.evidence import HIGHER_CLASS, L5_CLASS, S1_CLASS
from ivdjax.discs.landmarks import l5_body, s1_block
from ivdjax.discs.region import spine_region
from ivdjax.imaging.geometry import resample
from ivdjax.learning.contrast import AIR, CLASSES, S1_BLOCK
from ivdjax.model.probabilities import localization_case, region_case
from ivdjax.volume import TISSUES

_DARK = 12
"""Voxels of 0 to 255 below this in every channel are air."""
_SAMPLE = 20_000


def region_target(prepared: Prepared, config: Config) -> Prepared:
    """The case on the region stage's grid, with the spine region that its outlined discs give in place of the discs."""
    coarse = region_case(prepared, config)
    if prepared.labels is None:
        return coarse
    region = spine_region(prepared.labels > 0, prepared.grid, config.region.dilation_mm)
    inside = resample(region.astype(np.float32), prepared.grid, coarse.grid, order=1) > 0.5
    return replace(coarse, occupancy=inside.astype(np.uint8) * 255)


def localization_target(prepared: Prepared, config: Config) -> Prepared:
    """The case on the localization stage's grid, with each of the seven discs dilated; no disc grows into another.

    With `localization.landmarks` the discs above the seventh are one class, and the bone below L5/S1 and the body of L5
    one each (`ivdjax.discs.evidence` numbers them); rows in which discs are visible but not outlined do not count.
    Without, what is above the seventh disc is background to be learned, outlined or not.
    """
    landmarks = config.localization.landmarks
    coarse = replace(localization_case(prepared, config), labels=None)
    if not landmarks:
        coarse = replace(coarse, ignore_above=0)
    if prepared.labels is None:
        return coarse
    classes = np.minimum(prepared.labels, HIGHER_CLASS)
    if not landmarks:
        classes[classes == HIGHER_CLASS] = 0
    if classes.any():
        classes = _grown(classes, prepared, config.localization.dilation_mm)
    if landmarks:
        for value, found in (
            (S1_CLASS, s1_block(prepared.labels, prepared.grid)),
            (L5_CLASS, l5_body(prepared.labels, prepared.grid)),
        ):
            classes[found & (classes == 0)] = value
    return replace(coarse, labels=resample_labels(classes, prepared.grid, coarse.grid)[0])


def _grown(classes: NDArray[np.uint8], prepared: Prepared, dilation_mm: float) -> NDArray[np.uint8]:
    """Each class grown by so much into the background."""
    away_mm, nearest = ndimage.distance_transform_edt(
        classes == 0, sampling=prepared.grid.spacing_mm, return_indices=True
    )
    return np.where(away_mm <= dilation_mm, classes[tuple(nearest)], 0).astype(np.uint8)


def with_classes(prepared: Prepared) -> Prepared:
    """The case with the class of each voxel (`ivdjax.learning.contrast`), whose contrast augmentation may change.

    What has no outline is divided by its brightness; a case without a tissue map has only such classes.
    """
    bright = prepared.image.astype(np.float32)
    classes = np.zeros(prepared.grid.shape, np.uint8)
    lit = (prepared.image >= _DARK).any(axis=0)
    clusters = CLASSES - 1 - S1_BLOCK
    values = bright[:, lit].T
    if len(values) > clusters:
        sample = values[:: max(1, len(values) // _SAMPLE)]
        start = np.quantile(sample, (np.arange(clusters) + 0.5) / clusters, axis=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an image of few brightnesses has fewer clusters
            centres, _ = kmeans2(sample, start, minit="matrix")
        classes[lit] = S1_BLOCK + 1 + vq(values, centres[np.argsort(centres.mean(axis=1))])[0]
    if prepared.labels is not None:
        classes[s1_block(prepared.labels, prepared.grid) & (classes != AIR)] = S1_BLOCK
    if prepared.tissues is not None:
        for value in range(1, len(TISSUES) + 1):
            classes[prepared.tissues == value] = value
    return replace(prepared, classes=classes)


def class_brightness(
    image: NDArray[np.uint8], classes: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation (CLASSES, C), 0 to 1, of each class's voxels in an image (C, D, H, W); 0 for none."""
    flat = classes.ravel()
    voxels = np.maximum(np.bincount(flat, minlength=CLASSES), 1)
    mean, square = (
        np.stack([np.bincount(flat, (channel.ravel() / 255.0) ** power, CLASSES) / voxels for channel in image], axis=1)
        for power in (1, 2)
    )
    return mean.astype(np.float32), np.sqrt(np.maximum(square - mean**2, 0.0)).astype(np.float32)
