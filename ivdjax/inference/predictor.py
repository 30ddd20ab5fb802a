"""A model as a Python function: a volume in, named and measured discs out, and no file in between.

from ivdjax import load_model
model = load_model("models/lumbar")
result = model(volume)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ivdjax.commands.anchor import parse_anchor
from ivdjax.data.channel_names import named_channel, split_channel
from ivdjax.data.datasets import CaseFiles
from ivdjax.data.preparation import Prepared
from ivdjax.data.weighting import told_weightings
from ivdjax.discs.evidence import Anchor, Evidence
from ivdjax.imaging.arrays import volume_of
from ivdjax.imaging.files import read_volume, split_suffix
from ivdjax.imaging.files.dicom import DicomSeries
from ivdjax.imaging.files.dicom_file import is_dicom
from ivdjax.imaging.files.dicom_folder import channel_series
from ivdjax.imaging.files.source import Source
from ivdjax.inference.case_result import CaseResult, conclude, prepare_case
from ivdjax.inference.corrections import Corrections
from ivdjax.inference.disc_result import DiscResult, Found
from ivdjax.inference.segmenter import Segmenter, load_segmenter, look
from ivdjax.inference.stored_evidence import StoredEvidence
from ivdjax.model.provenance import provenance, validation_words
from ivdjax.model.shipped import default_model, model_folder
from ivdjax.volume import Case, CaseError, UserError, Volume

Image = Any
"""One channel: a nibabel image, a SimpleITK image, (array, affine), or the path of a file or DICOM series."""


class DiscModel:
    """A loaded and compiled model; call it with a volume, as often as wanted.

    Calls of one model share its compiled networks; nothing is compiled for a volume of another shape.
    """

    def __init__(self, segmenter: Segmenter, folder: Path | None = None) -> None:
        self._segmenter = segmenter
        self.folder = folder
        """That it was read from."""

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
        self, volume: Volume | Mapping[str, Image] | Image, name: str | None = None, anchor: str | None = None
    ) -> DiscResult:
        """Finds, numbers and measures the discs of a volume.

        Args:
            volume: a `Volume` (see `ivdjax.volume_of` for arrays); or the model's channels by name (usual names for
                them will do), each a path, a nibabel or SimpleITK image, or (array, affine) with an array (I, J, K); or
                one of these alone, for a model of one channel; or (array, affine) with all channels of the model in
                their order, (C, I, J, K). Channels may be missing; a remark then says so.
            name: what messages, pictures and `save` call it; None: the name of its file without channel and ending, and
                "volume" where it is no file.
            anchor: pins one disc's level, as "L4/5=-3.5,12,-40" (a point in it, RAS+ mm).

        Raises:
            CaseError: an image that cannot be used (see `ivdjax.imaging.files.read_volume`), no channel of the model
                in it, or an anchor that lies in no disc.
            UserError: a channel that the model does not know, several for an image without a name, or an anchor that
                cannot be read.
        """
        work = self._read(volume, name or _name_of(volume, self.channels))
        pin = parse_anchor(anchor) if anchor is not None else None
        return self._conclude(*self._look(work), pin)

    def batch(
        self,
        volumes: Mapping[str, Any] | Iterable[Any],
        on_error: Callable[[str, CaseError | UserError], None] | None = None,
    ) -> Iterator[DiscResult]:
        """The results of many volumes, one after the other, in their order.

        While the networks look at one volume, the next is read and the one before is measured, so that two cores have
        something to do; a few volumes are in memory at once.

        Args:
            volumes: each as a call of the model takes it, by name; or without names, which are then `volume_1` and so
                on.
            on_error: called with the name and the error of a volume that cannot be used, which is then left out; None:
                the error is raised.

        Raises:
            CaseError, UserError: as a call of the model, where there is no `on_error`.
        """
        named = volumes.items() if isinstance(volumes, Mapping) else (
            (f"volume_{number}", volume) for number, volume in enumerate(volumes, start=1)
        )  # fmt: skip
        source = iter(named)
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            reading = self._submit(reader, source)
            writing: tuple[str, Future[DiscResult]] | None = None
            while reading is not None or writing is not None:
                looked, unread = None, None
                if reading is not None:
                    (name, future), reading = reading, self._submit(reader, source)
                    try:
                        looked = name, writer.submit(self._conclude, *self._look(future.result()), None)
                    except (CaseError, UserError) as error:
                        unread = name, error
                # The volume before comes first, and is not lost where this one cannot be used.
                if writing is not None:
                    try:
                        found = writing[1].result()
                    except (CaseError, UserError) as error:
                        _leave_out(writing[0], error, on_error)
                    else:
                        yield found
                if unread is not None:
                    _leave_out(*unread, on_error)
                writing = looked

    def __repr__(self) -> str:
        return f"<disc model {self.name!r} of {', '.join(self.channels)}>"

    def _submit(self, pool: Executor, source: Iterator[tuple[str, Any]]) -> tuple[str, Future[_Work]] | None:
        """The next volume on its way; None after the last."""
        for name, volume in source:
            return name, pool.submit(self._read, volume, name)
        return None

    def _read(self, given: Any, name: str) -> _Work:
        """A volume as a case that is ready for the networks, and the files that it came from."""
        remarks: list[str] = []
        volume, sources = self._volume(given, name, remarks)
        case = Case(name, name, volume, warnings=tuple(remarks), weightings=told_weightings(sources))
        return _Work(CaseFiles(name, name, sources), case, prepare_case(self._segmenter.model, case))

    def _look(self, work: _Work) -> tuple[_Work, Evidence]:
        prepared, evidence = look(self._segmenter, work.prepared)
        return replace(work, prepared=prepared), evidence

    def _conclude(self, work: _Work, evidence: Evidence, pin: Anchor | None) -> DiscResult:
        model = self._segmenter.model
        corrections = Corrections(work.case.name).with_anchor(pin)
        found = conclude(model, work.case, work.prepared, evidence, True, corrections)
        source = provenance(work.files, model, anchor=pin) | corrections.facts()
        kept = None
        if work.files.channels:
            kept = StoredEvidence(work.files, model, work.prepared, evidence, source)
        else:
            source["input"] = {
                channel: {"file": "image in memory", "sha256": hashlib.sha256(array.tobytes()).hexdigest()}
                for channel, array in zip(work.case.volume.channels, work.case.volume.array, strict=True)
            }
        return self._result(found, Found(model, work.files, found, kept, source))

    def _volume(self, given: Any, name: str, remarks: list[str]) -> tuple[Volume, dict[str, Source]]:
        """The volume, and its sources where they are all files."""
        if isinstance(given, Volume):
            self._refuse_unknown(given.channels)
            return given, {}
        if not isinstance(given, Mapping):
            _refuse_form(given)
            if isinstance(given, tuple):
                return _volume_of(given, self.channels, name), {}
            if len(self.channels) != 1:
                raise UserError(
                    f"the model has {len(self.channels)} channels; give a mapping of {', '.join(self.channels)} to "
                    "images, or a Volume with their names"
                )
            given = {self.channels[0]: given}
        given = self._own_names(given, name, remarks)
        self._refuse_unknown(tuple(given))
        if not given:
            raise CaseError(f"case {name}: none of the model's channels {', '.join(self.channels)} is there")
        ordered = {channel: _source(given[channel], channel, name, remarks.append)
                   for channel in self.channels if channel in given}  # fmt: skip
        on_disk = all(isinstance(source, (Path, DicomSeries)) for source in ordered.values())
        return read_volume(ordered, name, remarks.append), ordered if on_disk else {}

    def _own_names(self, given: Mapping[str, Image], name: str, remarks: list[str]) -> dict[str, Image]:
        """The channels under the model's own names, where they have usual ones."""
        own: dict[str, Image] = {}
        for word, image in given.items():
            alone = len(self.channels) == len(given) == 1  # such a model takes any contrast, whatever it is called
            channel = named_channel(str(word), self.channels) or (self.channels[0] if alone else str(word))
            if channel in own:
                raise UserError(f"channel {channel} is given twice, once as {word!r}; give one image for each channel")
            if channel != word:
                remarks.append(f"case {name}: {word} was taken for channel {channel}")
            own[channel] = image
        return own

    def _refuse_unknown(self, channels: tuple[str, ...]) -> None:
        unknown = [channel for channel in channels if channel not in self.channels]
        if unknown:
            raise UserError(f"the model has no channel {', '.join(unknown)}; it has {', '.join(self.channels)}")

    def _result(self, found: CaseResult, whole: Found) -> DiscResult:
        assert found.probability is not None
        model = self._segmenter.model
        return DiscResult(
            found.case.name, found.case.volume, found.labels, found.discs, found.verdict, found.reasons, found.warnings,
            model.name, model.config.data.synthetic, validation_words(model), found.probability, whole,
            found.probability_wrong, found.remarks, found.findings,
        )  # fmt: skip


def _leave_out(
    name: str, error: CaseError | UserError, on_error: Callable[[str, CaseError | UserError], None] | None
) -> None:
    """Tells of a volume that cannot be used; raises the error where nobody wants to be told."""
    if on_error is None:
        raise error
    on_error(name, error)


def _name_of(given: Any, channels: Sequence[str]) -> str:
    """What a volume is called that nobody has named."""
    one = next(iter(given.values()), None) if isinstance(given, Mapping) else given
    if not isinstance(one, (str, Path)):
        return "volume"
    path = Path(one)
    stem = split_suffix(path)[0] or path.name
    before, _ = split_channel(stem, channels) or ("", "")
    return before or stem or "volume"


def _volume_of(given: tuple[Any, Any], channels: Sequence[str], name: str) -> Volume:
    """The volume of an array and its affine.

    Raises:
        CaseError: as `volume_of`.
        UserError: the array has another number of channels.
    """
    array, affine = given
    shape, wanted = np.shape(array), len(channels)
    if not ((len(shape) == 4 and shape[0] == wanted) or (len(shape) == 3 and wanted == 1)):
        form = "(I, J, K)" if wanted == 1 else f"({wanted}, I, J, K) with {', '.join(channels)} in this order"
        raise UserError(f"the array of {name} has the shape {shape}; it must be {form}")
    return volume_of(array, affine, channels, name)


def _source(image: Image, channel: str, name: str, on_remark: Callable[[str], None]) -> Image:
    """What `read_volume` takes: a folder is that of a DICOM series, a file may hold one; an array becomes an image."""
    _refuse_form(image)
    if isinstance(image, tuple):
        from nibabel import Nifti1Image  # not needed where images come from files

        _volume_of(image, [channel], name)  # refuses what is no volume
        return Nifti1Image(np.asarray(image[0], np.float32), np.asarray(image[1], float))
    if isinstance(image, (str, Path)):
        path = Path(image)
        return channel_series(path, channel, name, on_remark) if path.is_dir() or is_dicom(path) else path
    return image


@dataclass(frozen=True, eq=False)
class _Work:
    """A case between two steps."""

    files: CaseFiles
    case: Case
    prepared: Prepared


def _refuse_form(given: Any) -> None:
    """Raises a UserError that says what to pass, where something is neither an image nor (array, affine)."""
    if isinstance(given, (str, Path, DicomSeries)) or hasattr(given, "dataobj") or hasattr(given, "GetDirection"):
        return
    if _is_dataset(given) or (isinstance(given, (list, tuple)) and given and all(map(_is_dataset, given))):
        raise UserError("pass the folder of the DICOM series in place of its datasets: how its slices lie is read from "
                        "the files")  # fmt: skip
    if isinstance(given, tuple):
        if len(given) != 2 or np.shape(given[1]) != (4, 4):
            raise UserError("a tuple must be (array, affine), the affine being 4 x 4 to RAS+ mm")
        return
    if isinstance(given, list):
        raise UserError("a list is not an image; pass a mapping of channel names to images, or call batch() for many")
    if hasattr(given, "__array__"):
        raise UserError("an array does not say where its voxels lie; pass (array, affine) with the affine to RAS+ mm")
    raise UserError(f"{type(given).__name__} is not an image; pass a path, (array, affine), a nibabel or SimpleITK "
                    "image, or a mapping of channel names to these")  # fmt: skip


def _is_dataset(given: Any) -> bool:
    """Whether it is a pydicom dataset, or what stands for one."""
    return hasattr(given, "PixelData") or hasattr(given, "pixel_array") or hasattr(given, "SOPInstanceUID")


def load_model(model: str | Path | None = None, **settings: Any) -> DiscModel:
    """A model, compiled and on the default device.

    Args:
        model: its name (`ivdjax models list`), or its folder, such as runs/NAME/model of a training; a folder that
            exists wins. None: the one for any single channel.
        settings: of its inference section that differ, such as `region=False` or `review_above=0.1`.

    Raises:
        UserError: no such model, a damaged one, one that cannot outline discs, or a setting that does not exist.
    """
    # JSON is YAML on one line; numbers may be NumPy's own.
    texts = {
        key: json.dumps(value, default=lambda other: getattr(other, "item", other.__str__)())
        for key, value in settings.items()
    }
    overrides = [f"inference.{key}={text}" for key, text in texts.items()]
    folder = default_model() if model is None else model_folder(model)
    return DiscModel(load_segmenter(folder, overrides), folder)
