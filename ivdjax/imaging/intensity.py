"""Robust intensity normalisation: the same picture whatever scale, offset or hot voxels its file has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_PADDING_SHARE = 0.01
_TISSUE_SHARE = 0.05


def normalized(
    array: NDArray, percentiles: tuple[float, float] = (0.5, 99.5)
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """One channel (D, H, W) of any scale as float32 from 0 to 1, and remarks on what had to be mended.

    The lower percentile of all voxels becomes 0; air and cortical bone are both without signal, so air may count. The
    upper percentile of tissue becomes 1, tissue being all that lies above the lower end by a twentieth of the range, so
    that the share of air in the field of view does not set the scale. Voxels at the very lowest value are padding and
    count for neither, if there are many. Voxels that are not finite become 0. A channel of one value becomes 0.

    Multiplying the input by a positive number or adding one changes nothing.
    """
    values = np.asarray(array, dtype=np.float32)
    finite = np.isfinite(values)
    remarks: list[str] = []
    broken = int(values.size - np.count_nonzero(finite))
    if broken:
        remarks.append(f"{broken} voxels ({100.0 * broken / values.size:.2g}%) are not finite; taken as without signal")
    sound = values[finite].astype(np.float64)
    bounds = _bounds(sound, percentiles) if sound.size else None
    if bounds is None:
        remarks.append("has one value everywhere; taken as without signal")
        return np.zeros(values.shape, np.float32), tuple(remarks)
    low, high = bounds
    scaled = (np.where(finite, values, low).astype(np.float64) - low) / (high - low)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32), tuple(remarks)


def _bounds(values: NDArray[np.float64], percentiles: tuple[float, float]) -> tuple[float, float] | None:
    """The intensities that become 0 and 1, or None for a constant channel."""
    least, most = values.min(), values.max()
    if not most > least:
        return None
    padding = values == least
    if np.count_nonzero(padding) > _PADDING_SHARE * values.size:
        values = values[~padding]
    low, high = np.percentile(values, percentiles)
    # The slack takes whole numbers off the edge, where the last bit of a file's scale factor would decide.
    tissue = values[values > low + (_TISSUE_SHARE + 1e-6) * (high - low)]
    if tissue.size:
        high = np.percentile(tissue, percentiles[1])
    if not high > low:
        # Nearly all voxels share one value: the few others are all there is to show.
        low, high = least, most
    return float(low), float(high)


def to_uint8(array: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Values of 0 to 1 as 0 to 255, rounded; values outside are clipped."""
    # The small shift takes ties off the edge, where the last bit of a file's scale factor would decide.
    return np.clip(np.floor(np.asarray(array, dtype=np.float32) * 255.0 + 0.501), 0, 255).astype(np.uint8)
