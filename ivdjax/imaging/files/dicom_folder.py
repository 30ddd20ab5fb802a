"""Folders of DICOM files: which series they hold, and which of them is which channel."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ivdjax.imaging.files import split_suffix
from ivdjax.imaging.files.dicom import DicomSeries, planes_of, series_of
from ivdjax.imaging.files.dicom_headers import Slice, is_dicom, looks_cut, read_slices
from ivdjax.imaging.files.dixon import MAP, channel_part, names_channel, parts_of, phase_by_echo
from ivdjax.volume import CaseError

_NO_MAGNITUDE = {"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY"}
_COMPUTED = {"PROJECTION IMAGE", "MIP", "MAX_IP", "MIN_IP", "MINIP", "MNIP", "SUBTRACTION"}


@dataclass(frozen=True)
class Stack:
    """Images of one folder that may make a volume: of one series, one Dixon part and one echo.

    Attributes:
        folder: that holds them.
        images: in no order.
        parts: what they show of a Dixon scan; see `parts_of`.
    """

    folder: Path
    images: tuple[Slice, ...]
    parts: frozenset[str]

    @property
    def label(self) -> str:
        """What people find it by; it holds no words of the header."""
        first = self.images[0]
        number = "a series without number" if first.number is None else f"series {first.number}"
        echo = "" if first.echo_time_ms is None else f", echo time {first.echo_time_ms:g} ms"
        return f"{number} in {self.folder.resolve().name} ({len(self.images)} {self.plane}images{echo})"

    @property
    def plane(self) -> str:
        """ "sagittal ", "coronal " or "axial ", whatever is nearest; empty for images in several planes or in none."""
        if not all(image.placed for image in self.images) or len(planes_of(self.images)) != 1:
            return ""
        orientation = self.images[0].orientation
        across = max(range(3), key=lambda axis: abs(np.cross(orientation[:3], orientation[3:])[axis]))
        return ("sagittal ", "coronal ", "axial ")[across]

    @property
    def drawback(self) -> str:
        """Why it is no channel of any scan; empty where nothing speaks against it."""
        tokens = set(self.images[0].image_type[2:])
        if any(image.modality != "MR" for image in self.images):
            return "no MR images"
        if any(0 in image.shape for image in self.images):
            return "no images"
        if not all(image.placed for image in self.images):
            return "no ImagePositionPatient, ImageOrientationPatient or PixelSpacing"
        if "LOCALIZER" in tokens or len(planes_of(self.images)) > 1:
            return "a localizer or other images in several planes"
        if len(self.images) < 2:
            return "a single image"
        if not all(image.gray for image in self.images):
            return "colors"
        if tokens & _NO_MAGNITUDE:
            return "no magnitude images"
        if tokens & _COMPUTED:
            return "a projection or subtraction"
        return "a fat fraction or another map" if MAP in self.parts else ""


@dataclass(frozen=True)
class FoundSeries:
    """The channels that were found in folders.

    Attributes:
        channels: the series of each, in the order that was asked for; those that are there.
        ignored: names of files that are no DICOM images, and series that are no channel.
        remarks: how the channels were told.
    """

    channels: dict[str, DicomSeries]
    ignored: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def visible_entries(folder: Path) -> list[Path]:
    """What lies in a folder by rising name, but for hidden entries and links to folders outside of it.

    Links to files are followed, as those of image files are: programs that keep versions of data store nothing else in
    a folder. Links to folders could lead in circles, or to the cases of others.

    Raises:
        OSError: the folder cannot be read.
    """
    home = folder.resolve()
    found = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    return [p for p in found if not (p.is_symlink() and p.is_dir()) or p.resolve().is_relative_to(home)]


def holds_dicom(folder: Path) -> bool:
    """Whether a DICOM file lies directly in a folder.

    Raises:
        OSError: the folder or a file in it cannot be read.
    """
    return any(not split_suffix(path)[1] and is_dicom(path) for path in visible_entries(folder))


def first_study(folder: Path) -> str:
    """StudyInstanceUID of the first sound DICOM file in a folder; empty where there is none.

    Raises:
        OSError: the folder or a file in it cannot be read.
    """
    for path in visible_entries(folder):
        try:
            if not split_suffix(path)[1] and is_dicom(path):
                return read_slices(path)[0].study
        except ValueError:
            continue  # said when the case is read
    return ""


def scan_folder(folder: Path, case: str) -> tuple[list[Stack], list[str]]:
    """The stacks of images in a folder by series number, and the names of its other files; only headers are read.

    Raises:
        CaseError: a DICOM file is damaged, or a file that may have been one; a link that leads nowhere.
        OSError: the folder or a file in it cannot be read.
    """
    images: list[Slice] = []
    others: list[str] = []
    for path in visible_entries(folder):
        if path.is_dir():
            continue
        if path.is_symlink() and not path.exists():
            raise CaseError(
                f"case {case}: {path} is a link to a file that is not there; fetch its content, or mend or remove the "
                "link"
            )
        if is_dicom(path):
            images += _slices(path, case)
        elif looks_cut(path):
            raise CaseError(f"case {case}: {path} is empty or damaged; copy it again, or remove it if it is no image")
        else:
            others.append(path.name)
    stacks = [Stack(folder, tuple(part), parts_of(part[0])) for part in _split(images)]
    return sorted(stacks, key=lambda stack: (stack.images[0].number or 0, stack.images[0].echo_time_ms or 0)), others


def find_channels(folders: Sequence[Path], channels: Sequence[str], case: str) -> FoundSeries:
    """The series that are a case's channels. A folder named as a channel (`<channel>` or `<case>_<channel>`) is it;
    others are told by their headers, see `dixon`. A single series is the channel of a model that has but one.

    Raises:
        CaseError: no channel at all; several series for one, or one for several; channels of several studies; a
            damaged file; a series whose images make no volume (see `series_of`).
        OSError: a folder or a file cannot be read.
    """
    chosen: dict[str, Stack] = {}
    loose: list[Stack] = []
    ignored: list[str] = []
    for folder in folders:
        stacks, others = scan_folder(folder, case)
        ignored += others
        role = _named_channel(folder, channels, case)
        if role is not None and role in chosen:
            raise CaseError(f"case {case}: {chosen[role].folder} and {folder} both give {role}; keep one of them")
        if role is None:
            loose += stacks
        else:
            chosen[role] = _the_one(stacks, role, folder, case)
    named = set(chosen)
    usable = [stack for stack in loose if not stack.drawback]
    remarks = _choose(usable, [c for c in channels if c not in chosen], len(channels) == 1, chosen, case)
    if not chosen:
        listed = "; ".join(f"{stack.label}: {stack.drawback or 'not told by its headers'}" for stack in loose)
        raise CaseError(
            f"case {case}: no DICOM series of channel {', '.join(channels)}; found {listed or 'no image at all'}; "
            "say which is which by channel=folder"
        )
    _refuse_strangers(chosen, case)
    told = [f"{channel} = {chosen[channel].label}" for channel in channels if channel in set(chosen) - named]
    if told:
        remarks.append(f"case {case}: told by DICOM headers: {', '.join(told)}")
    taken = [id(stack) for stack in chosen.values()]
    ignored += [f"{s.label}: {s.drawback or 'no channel'}" for s in loose if id(s) not in taken]
    series = {c: series_of(chosen[c].images, chosen[c].folder, case) for c in channels if c in chosen}
    return FoundSeries(series, tuple(ignored), tuple(remarks))


def channel_series(folder: Path, channel: str, case: str) -> DicomSeries:
    """The series in a folder that the user has said to be a channel; of several the one whose headers say so too.

    Raises:
        CaseError: no DICOM series, or several that may be it; a damaged file; images that make no volume.
        OSError: the folder or a file in it cannot be read.
    """
    stacks, _ = scan_folder(folder, case)
    stack = _the_one(stacks, channel, folder, case)
    return series_of(stack.images, folder, case)


def _slices(path: Path, case: str) -> list[Slice]:
    try:
        return read_slices(path)
    except ValueError as error:
        raise CaseError(f"case {case}: {path}: {error}; copy or export it again, or remove it") from error


def _split(images: Iterable[Slice]) -> list[list[Slice]]:
    """Images by series; a series by Dixon part, and where images lie at one place further by type and by echo time."""
    result = []
    for series in _grouped(images, lambda image: (image.series, image.path if image.frame is not None else None)):
        for part in _grouped(series, parts_of):
            pieces = [part]
            for key in (lambda image: image.image_type, lambda image: image.echo_time_ms):
                pieces = [
                    smaller for piece in pieces for smaller in (_grouped(piece, key) if _doubled(piece) else [piece])
                ]
            result += pieces
    return result


def _grouped(images: Iterable[Slice], key: Callable[[Slice], Hashable]) -> list[list[Slice]]:
    groups: dict[Hashable, list[Slice]] = defaultdict(list)
    for image in images:
        groups[key(image)].append(image)
    return list(groups.values())


def _doubled(images: Sequence[Slice]) -> bool:
    places = {(image.orientation, tuple(round(x, 2) for x in image.position_mm)) for image in images}
    return len(places) < len(images)


def _named_channel(folder: Path, channels: Sequence[str], case: str) -> str | None:
    name = folder.name.casefold()
    return next((c for c in channels if name in (c.casefold(), f"{case}_{c}".casefold())), None)


def _matching(stacks: Sequence[Stack], channel: str, case: str) -> list[Stack]:
    """The stacks whose headers tell of one channel."""
    part = channel_part(channel)
    if part is None:
        return [stack for stack in stacks if names_channel(stack.images[0], channel)]
    for stack in stacks:
        if part in stack.parts and len(stack.parts) > 1:
            raise CaseError(
                f"case {case}: {stack.label} matches {' and '.join(sorted(stack.parts))} by its headers; say which it "
                f"is by channel=folder ({channel}=...)"
            )
    return [stack for stack in stacks if part in stack.parts]


def _choose(stacks: Sequence[Stack], channels: Sequence[str], alone: bool, chosen: dict[str, Stack],
            case: str) -> list[str]:  # fmt: skip
    """Adds to `chosen` what headers tell of the channels; gives remarks. `alone`: the model has but one channel."""
    remarks = []
    for channel in channels:
        found = _matching(stacks, channel, case)
        if not found and channel_part(channel) in ("inn", "opp"):
            plain = [stack for stack in stacks if not stack.parts]
            found = [stack for stack in plain if phase_by_echo(stack.images[0]) == channel_part(channel)]
            if found:
                remarks.append(f"case {case}: {channel} is told by its echo time alone")
        if not found and alone and len(stacks) == 1 and (not stacks[0].parts or channel_part(channel) is None):
            found = list(stacks)
            remarks.append(f"case {case}: its one MR series is taken as {channel}")
        if len(found) > 1:
            raise CaseError(_several(found, channel, case))
        for other, stack in chosen.items():
            if found and found[0] is stack:
                raise CaseError(f"case {case}: {stack.label} matches {other} and {channel}; use channel=folder")
        if found:
            chosen[channel] = found[0]
    return remarks


def _the_one(stacks: Sequence[Stack], channel: str, folder: Path, case: str) -> Stack:
    """The stack of a folder that is said to be a channel."""
    usable = [stack for stack in stacks if not stack.drawback]
    if len(usable) > 1:
        usable = _matching(usable, channel, case) or usable
    if len(usable) > 1:
        raise CaseError(_several(usable, channel, case))
    # One stack alone is what was meant, even where it is odd; what cannot be read is said when it is put in order.
    found = usable or (stacks if len(stacks) == 1 and stacks[0].drawback not in ("no MR images", "no images") else [])
    if not found:
        listed = "; ".join(f"{stack.label}: {stack.drawback}" for stack in stacks)
        raise CaseError(
            f"case {case}: {folder} holds no DICOM series of MR images for {channel}; found {listed or 'none'}"
        )
    return found[0]


def _several(stacks: Sequence[Stack], channel: str, case: str) -> str:
    return (
        f"case {case}: several DICOM series may be {channel}: {'; '.join(stack.label for stack in stacks)}; put each "
        f"into a folder of its own and say which it is by {channel}=folder"
    )


def _refuse_strangers(chosen: dict[str, Stack], case: str) -> None:
    first_name, first = next(iter(chosen.items()))
    for name, stack in chosen.items():
        if stack.images[0].study != first.images[0].study:
            raise CaseError(
                f"case {case}: channels {first_name} and {name} come from two studies ({first.label}; {stack.label}); "
                "keep one in the folder, or give channel=folder pairs if that is meant"
            )
