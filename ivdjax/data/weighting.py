"""Which weighting a channel's own file tells of: a DICOM series by its header, another file by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ivdjax.imaging.files import DicomSeries, split_suffix
from ivdjax.imaging.files.weighting import weighting_of_channel


def told_weightings(sources: Mapping[str, Any]) -> dict[str, str]:
    """The weightings of channels, as far as their sources tell them."""
    told = {channel: told_weighting(source) for channel, source in sources.items()}
    return {channel: weighting for channel, weighting in told.items() if weighting}


def told_weighting(source: Any) -> str:
    """The weighting of a channel: "t1", "t2", "pd", "stir", "flair", or empty where nothing tells it.

    Where fat is suppressed, "_fs" follows.

    A file's name tells it in its last words: `NAME_t2.nii.gz`, `t2.nii.gz`, `NAME_T2w.mha`. The channel that a model
    gives to a file without such a name says nothing of the image.

    Args:
        source: a path, a DICOM series, or an image in memory, of which nothing is known.
    """
    if isinstance(source, DicomSeries):
        return source.weighting
    try:
        stem = split_suffix(source)[0]
    except (TypeError, ValueError, AttributeError):
        return ""
    words = stem.rsplit("_", 2)
    for channel in ("_".join(words[-2:]), words[-1]):
        weighting = weighting_of_channel(channel)
        if weighting is not None:
            return weighting.code
    return ""
