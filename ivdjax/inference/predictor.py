"""A model as a Python function: a volume in, named and measured discs out, and no file in between.

from ivdjax import load_model
model = load_model("models/spider_t2")
result = model(volume)
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ivdjax.commands.anchor import parse_anchor
from ivdjax.imaging.files import read_volume
from ivdjax.imaging.files.dicom_folder import channel_series
from ivdjax.imaging.geometry import from_canonical
from ivdjax.inference.segmenter import CaseResult, Segmenter, find_discs, load_segmenter
from ivdjax.model.provenance import validation_words
from ivdjax.model.shipped import default_model
from ivdjax.reports.disc_table import disc_table_html
from ivdjax.reports.overview import overview_png
from ivdjax.reports.tables import disc_rows
from ivdjax.volume import Case, CaseError, Disc, LabelMap, UserError, Volume

Image = Any
"""One channel: a nibabel image, a SimpleITK image, or the path of a file or DICOM series."""


@dataclass(frozen=True, eq=False)
class DiscResult:
    """What a model found in a volume. In a notebook it shows itself as picture and table.

    Attributes:
        name: what the volume was called.
        volume: the image (C, D, H, W) in canonical order, as the model saw it.
        labels: numbered discs (D, H, W) on the same grid: 0 background, 1 = L5/S1 upward.
        discs: the found discs with their measures, from the lowest up.
        verdict: "ok" or "review".
        reasons: for a review, in plain words, the most important first.
        warnings: what was remarked on reading and preparing the volume.
        model: the model's name.
        synthetic: whether the model was trained on synthetic images alone.
        validated_on: what the model was validated on, in plain words; empty where that is not known.
        probability: float32 (D, H, W) of disc, 0 to 1, on the same grid.
    """

    name: str
    volume: Volume
    labels: LabelMap
    discs: tuple[Disc, ...]
    verdict: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    model: str
    synthetic: bool
    validated_on: str
    probability: NDArray[np.float32]

    def label_array(self) -> NDArray[np.uint8]:
        """The label map in the axis order of the image that was given, to be indexed and stored with its affine."""
        return np.asarray(from_canonical(self.labels.array, self.labels.native or self.labels.grid))

    def probability_array(self) -> NDArray[np.float32]:
        """The probability of disc, 0 to 1, in the axis order of the image that was given."""
        return np.asarray(from_canonical(self.probability, self.labels.native or self.labels.grid))

    def table(self) -> list[dict[str, Any]]:
        """One mapping a disc, from the lowest up, with the columns of the disc table; `pandas.DataFrame` takes it."""
        return disc_rows(self.discs)

    def picture(self) -> bytes:
        """The overview picture as PNG: sagittal and coronal planes, every disc outlined and named."""
        return overview_png(self.volume, self.labels, self.discs, self.name, self.verdict, self.reasons)

    def __repr__(self) -> str:
        found = ", ".join(disc.level_name for disc in self.discs) or "none"
        why = f" ({'; '.join(self.reasons)})" if self.reasons else ""
        return f"<{len(self.discs)} discs in {self.name!r}: {found}; {self.verdict}{why}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: verdict, reasons, picture and table; every text from outside is escaped."""
        picture = base64.b64encode(self.picture()).decode("ascii")
        reasons = "".join(f"<li>{escape(reason)}</li>" for reason in self.reasons)
        synthetic = "<p><b>The model was trained on synthetic images alone.</b></p>" if self.synthetic else ""
        return (
            f"<p><b>{escape(self.name)}: {escape(self.verdict)}</b></p><ul>{reasons}</ul>{synthetic}"
            f'<img style="max-width:100%" alt="overview" src="data:image/png;base64,{picture}">'
            f"{disc_table_html(self.discs)}<p><small>{escape(self.model)}. {escape(self.validated_on)} For research; "
            "not a medical device.</small></p>"
        )


class DiscModel:
    """A loaded and compiled model; call it with a volume, as often as wanted.

    Calls of one model share its compiled networks; nothing is compiled for a volume of another shape.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter

    @property
    def name(self) -> str:
        """The model's name."""
        return self._segmenter.model.name

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that it knows."""
        return self._segmenter.model.channels

    @property
    def validated_on(self) -> str:
        """What it was validated on and how well it did, in plain words; empty where that is not known."""
        return validation_words(self._segmenter.model)

    def __call__(
        self, volume: Volume | Mapping[str, Image] | Image, name: str = "volume", anchor: str | None = None
    ) -> DiscResult:
        """Finds, numbers and measures the discs of a volume.

        Args:
            volume: a `Volume` (see `ivdjax.volume_of` for arrays); or the model's channels by name, each a nibabel or
                SimpleITK image or a path; or one of these alone, for a model of one channel. A volume may lack some of
                the channels; its verdict is then `review`.
            name: what messages and pictures call it.
            anchor: pins one disc's level, as "L4/5=-3.5,12,-40" (a point in it, RAS+ mm).

        Raises:
            CaseError: an image that cannot be used (see `ivdjax.imaging.files.read_volume`), no channel of the model
                in it, or an anchor that lies in no disc.
            UserError: a channel that the model does not know, several for an image without a name, or an anchor that
                cannot be read.
        """
        remarks: list[str] = []
        image = self._volume(volume, name, remarks)
        case = Case(name, name, image, warnings=tuple(remarks))
        pin = parse_anchor(anchor) if anchor is not None else None
        return self._result(find_discs(self._segmenter, case, pin, keep_probability=True))

    def __repr__(self) -> str:
        return f"<disc model {self.name!r} of {', '.join(self.channels)}>"

    def _volume(self, given: Volume | Mapping[str, Image] | Image, name: str, remarks: list[str]) -> Volume:
        if isinstance(given, Volume):
            self._refuse_unknown(given.channels)
            return given
        if not isinstance(given, Mapping):
            if len(self.channels) != 1:
                raise UserError(
                    f"the model has {len(self.channels)} channels; give a mapping of {', '.join(self.channels)} to "
                    "images, or a Volume with their names"
                )
            given = {self.channels[0]: given}
        self._refuse_unknown(tuple(given))
        if not given:
            raise CaseError(f"case {name}: none of the model's channels {', '.join(self.channels)} is there")
        ordered = {channel: _source(given[channel], channel, name) for channel in self.channels if channel in given}
        return read_volume(ordered, name, remarks.append)

    def _refuse_unknown(self, channels: tuple[str, ...]) -> None:
        unknown = [channel for channel in channels if channel not in self.channels]
        if unknown:
            raise UserError(f"the model has no channel {', '.join(unknown)}; it has {', '.join(self.channels)}")

    def _result(self, found: CaseResult) -> DiscResult:
        assert found.probability is not None
        model = self._segmenter.model
        return DiscResult(
            found.case.name, found.case.volume, found.labels, found.discs, found.verdict, found.reasons, found.warnings,
            model.name, model.config.data.synthetic, validation_words(model), found.probability,
        )  # fmt: skip


def _source(image: Image, channel: str, name: str) -> Image:
    """What `read_volume` takes: a folder is that of a DICOM series."""
    if isinstance(image, (str, Path)):
        path = Path(image)
        return channel_series(path, channel, name) if path.is_dir() else path
    return image


def load_model(model: str | Path | None = None, **settings: Any) -> DiscModel:
    """A model, compiled and on the default device.

    Args:
        model: its name (`ivdjax models list`), or its folder, such as runs/NAME/model of a training; a folder that
            exists wins. None: the one for any single channel.
        settings: of its inference section that differ, such as `region=False` or `sure=0.8`.

    Raises:
        UserError: no such model, a damaged one, one that cannot outline discs, or a setting that does not exist.
    """
    overrides = [f"inference.{key}={yaml.safe_dump(value).partition(chr(10))[0]}" for key, value in settings.items()]
    return DiscModel(load_segmenter(default_model() if model is None else model, overrides))
