"""A small oblique volume with three discs, and a report of it: what the tests of the report's parts share."""

from __future__ import annotations

import numpy as np

from ivdjax.reports.page import Report
from ivdjax.volume import Disc, LabelMap, Volume, to_world_mm

SHAPE = (20, 80, 60)
SPACING_MM = (4.0, 1.5, 1.25)


def oblique_affine():
    """Canonical directions (left, down, back), turned by 10 degrees about the x axis and by 5 about the z axis."""
    a, b = np.radians((10.0, 5.0))
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    canonical = np.array([[-1.0, 0, 0], [0, 0, -1.0], [0, -1.0, 0]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ canonical * np.array(SPACING_MM)
    affine[:3, 3] = (35.0, 50.0, 60.0)
    return affine


def spine_case(levels=(1, 2, 3), channels=("fat", "wat"), shape=SHAPE):
    """Volume, labels and discs: boxes of 12 x 5 x 22 voxels, brighter than the noise, one above the other."""
    affine = oblique_affine()
    labels = np.zeros(shape, np.uint8)
    array = np.random.default_rng(0).uniform(20, 60, (len(channels), *shape)).astype(np.float32)
    discs = []
    for level in levels:
        top = 70 - 18 * level
        labels[4:16, top : top + 5, 12 + 4 * level : 34 + 4 * level] = level
        array[:, labels == level] += 60
        x, y, z = to_world_mm(affine, np.argwhere(labels == level).mean(axis=0))
        discs.append(Disc(level, 0.9, (float(x), float(y), float(z)), 7000.0, {"middle_height_mm": 7.5}, 0.9))
    array[1:] *= 3
    return Volume(array, affine, tuple(channels)), LabelMap(labels, affine), discs


def spine_report(case="case_01", reasons=("6 of 7 discs were found",), levels=(1, 2, 3)):
    """A report of `spine_case`, without an overview picture."""
    volume, labels, discs = spine_case(levels)
    return Report(
        case=case, verdict="review", reasons=reasons, discs=discs, overview_png=b"", model="a_model",
        validated_on="Mean Dice 0.9 on 6 patients.", synthetic=False, volume=volume, labels=labels,
    )  # fmt: skip
