"""Arrays that are in memory already, as volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ivdjax.imaging.files.image import checked_affine, checked_shape, checked_values
from ivdjax.imaging.geometry import to_canonical
from ivdjax.volume import Grid, Volume


def volume_of(array: ArrayLike, affine: ArrayLike, channels: Sequence[str] | str, name: str = "volume") -> Volume:
    """A volume from an array in any axis order, as `nibabel` gives it for instance.

    Args:
        array: (I, J, K) of one channel, or (C, I, J, K).
        affine: (4, 4) from (i, j, k, 1) to RAS+ mm.
        channels: the name of each channel; one name for one channel.
        name: what messages call it.

    Raises:
        CaseError: not 3D, an empty axis, complex values, nothing finite, or an affine that is not finite, singular or
            without plausible voxel sizes.
        ValueError: the number of names differs from C.
    """
    names = (channels,) if isinstance(channels, str) else tuple(channels)
    values = np.asarray(array)
    if values.ndim == 3:
        values = values[None]
    if len(values) != len(names):
        raise ValueError(f"{len(values)} channels in the array, but {len(names)} names: {', '.join(names)}")
    path = Path(name)
    shape = checked_shape(values.shape[1:], path, name)
    matrix = checked_affine(np.asarray(affine), shape, path, name)
    native = Grid(shape, matrix)
    turned = [to_canonical(checked_values(channel, path, name), native) for channel in values]
    stacked = np.stack([channel.astype(np.float32, copy=False) for channel, _ in turned])
    return Volume(stacked, turned[0][1], names, native)
