"""A case's discs with the measures of their levels' wear and the standard errors of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.discs.degeneration import measure_spine
from ivdjax.discs.standard_error import standard_errors
from ivdjax.volume import LORDOSIS, Case, Disc, LabelMap, Lordosis

_HEIGHTS = ("anterior_height_mm", "middle_height_mm", "posterior_height_mm")


def t2_image(case: Case, contrast: str = "told") -> NDArray[np.floating] | None:
    """The channel (D, H, W) of a case that is T2-weighted, fat included; None where none is known to be.

    Args:
        case: with what its files tell of its channels (`weightings`).
        contrast: "told" goes by that; any other word is a person's own for a case of one channel.
    """
    volume = case.volume
    if contrast != "told" and len(volume.channels) == 1:
        return volume.array[0] if contrast == "t2" else None
    for place, channel in enumerate(volume.channels):
        if case.weightings.get(channel) == "t2":
            return np.asarray(volume.array[place])
    return None


def with_wear(
    discs: Sequence[Disc], labels: LabelMap, tissues: LabelMap, image: NDArray[np.floating] | None,
    facts: Mapping[str, Any],
) -> tuple[list[Disc], Lordosis]:  # fmt: skip
    """The discs with the measures of their levels, reasons for those that are missing, and standard errors.

    Args:
        discs: as `measure_discs` gives them.
        labels: numbered discs (D, H, W).
        tissues: with the values of `ivdjax.volume.TISSUES`, on the same grid.
        image: T2-weighted, on the same grid; None: no signal is given.
        facts: the model's description, of which the standard errors are read.

    Returns:
        The discs, and the lordosis of the spine.
    """
    heights = {disc.level: _mean_height_mm(disc) for disc in discs}
    found = measure_spine(
        labels, tissues, image, {level: mean for level, mean in heights.items() if mean is not None},
        {disc.level: disc.outline_confidence for disc in discs if disc.outline_confidence is not None},
    )  # fmt: skip
    errors = standard_errors(facts)
    told = []
    for disc in discs:
        own = found.levels[disc.level]
        measures = disc.measures | own.values
        known: dict[str, float | None] = {
            f"{name}_se": errors[name] for name, value in measures.items() if value is not None and name in errors
        }
        told.append(replace(disc, measures=measures | known, missing={**disc.missing, **own.missing}))
    angles: dict[str, float | None] = {name: getattr(found, name) for name in LORDOSIS}
    angles |= {f"{name}_se": errors[name] for name in LORDOSIS if angles[name] is not None and name in errors}
    return told, Lordosis(angles, found.missing)


def _mean_height_mm(disc: Disc) -> float | None:
    """Mean of a disc's three heights, as its height index has it; None where one is missing."""
    heights = [disc.measures.get(name) for name in _HEIGHTS]
    known = [height for height in heights if height is not None]
    return float(np.mean(known)) if len(known) == len(_HEIGHTS) else None
