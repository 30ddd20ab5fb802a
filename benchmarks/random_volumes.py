"""Random volumes on the device, in place of prepared cases, to draw training samples from in a benchmark."""

from __future__ import annotations

import numpy as np

from ivdjax.learning.augmentation import COUNTED, OUTLINED, Crop, DeviceVolumes
from ivdjax.learning.contrast import CLASSES
from ivdjax.volume import LUMBAR_DISCS

THICKNESS_MM = 4.0
"""Of a slice, where the stage's grid leaves slices as they were acquired."""


def random_volumes(crop: Crop, channels: int, cases: int, seed: int = 0) -> DeviceVolumes:
    """Volumes of random intensities with seven random discs each, as NumPy arrays in the layout of `DeviceVolumes`.

    Nothing is blank: products with zeros draw less power and can run faster than real ones. Volumes are half as large
    again as the crop in plane, and as deep as it, but 20 slices at least.

    Args:
        crop: of the stage; with `levels` targets are levels, else shares.
        channels: of the image.
        cases: number of volumes.
        seed: of everything random.
    """
    random = np.random.default_rng(seed)
    *depth, h, w = crop.box
    shape = (max(20, *depth) if depth else 20, h * 3 // 2, w * 3 // 2)
    spacing_mm = crop.spacing_mm if depth else (THICKNESS_MM, *crop.spacing_mm)
    last = np.array(shape) - 1
    target = np.zeros((cases, *shape), np.uint8)
    centres = np.zeros((cases, LUMBAR_DISCS, 3), np.float32)
    for case in range(cases):
        for disc in range(LUMBAR_DISCS):
            centre = random.uniform(0.2, 0.8, 3) * last
            low = np.maximum(centre - np.array([20.0, 5.0, 16.0]) / spacing_mm, 0).astype(int)
            high = np.minimum(centre + np.array([20.0, 5.0, 16.0]) / spacing_mm, last).astype(int) + 1
            inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
            part = target[(case, *inside)]
            part[...] = disc + 1 if crop.levels else random.integers(128, 256, part.shape)
            centres[case, disc] = centre
    return DeviceVolumes(
        image=random.integers(1, 256, (cases, *shape, channels), np.uint8),
        target=target,
        counted=(random.random((cases, *shape)) < 0.9).astype(np.uint8) * np.uint8(COUNTED | OUTLINED),
        classes=random.integers(0, CLASSES, (cases, *shape), np.uint8),
        class_mean=np.tile(np.linspace(0, 1, CLASSES, dtype=np.float32)[None, :, None], (cases, 1, channels)),
        class_sd=np.full((cases, CLASSES, channels), 0.1, np.float32),
        base=np.zeros((cases, *shape), np.uint8),
        made=np.zeros(cases, np.int32),
        low=np.zeros((cases, 3), np.int32),
        high=np.tile(last.astype(np.int32), (cases, 1)),
        extent=np.tile(np.array(shape, np.int32), (cases, 1)),
        spacing_mm=np.tile(np.array(spacing_mm, np.float32), (cases, 1)),
        centres=centres,
        discs=np.full(cases, LUMBAR_DISCS, np.int32),
    )
