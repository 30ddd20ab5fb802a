"""Which series of DICOM files is which channel of a case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ivdjax.imaging.files.dicom import DicomSeries, series_of
from ivdjax.imaging.files.dicom_file import is_dicom
from ivdjax.imaging.files.dicom_stack import Stack, stacks_of
from ivdjax.imaging.files.dicom_tree import DicomFile, dicom_file, scan_tree, visible_entries
from ivdjax.imaging.files.dixon import channel_part, names_channel, phase_by_echo
from ivdjax.imaging.files.weighting import Weighting, weighting_of_channel
from ivdjax.volume import CaseError

_MOST_NAMED = 8


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


def holds_dicom(folder: Path) -> bool:
    """Whether a DICOM file lies in a folder or in folders within it, to any depth.

    Raises:
        OSError: a folder or a file cannot be read.
    """
    entries = visible_entries(folder)
    return any(is_dicom(path) for path in entries) or any(
        holds_dicom(path) for path in entries if path.is_dir() and not path.is_symlink()
    )


def find_channels(
    files: Sequence[DicomFile], others: Sequence[Path], root: Path, channels: Sequence[str], case: str
) -> FoundSeries:
    """The series that are a case's channels. A folder named as a channel (`<channel>` or `<case>_<channel>`) is it;
    others are told by their headers, see `dixon` and `weighting`. A single series is the channel of a model that has
    but one, unless its header says that it is something else.

    Args:
        files: of the case.
        others: that are not DICOM.
        root: the folder of the case, which is not named as a channel.
        channels: that are looked for.
        case: its name.

    Raises:
        CaseError: no channel at all; several series for one, or one for several; channels of several studies; a
            damaged file; a series whose images make no volume (see `series_of`).
    """
    _refuse_problems(files, case)
    by_role: dict[str | None, list[DicomFile]] = {}
    homes: dict[str, Path] = {}
    for file in files:
        role, home = _named_channel(file.path, root, channels, case)
        if role is not None and home is not None and homes.setdefault(role, home) != home:
            raise CaseError(f"case {case}: {homes[role]} and {home} both give {role}; keep one of them")
        by_role.setdefault(role, []).append(file)
    remarks: list[str] = []
    chosen = {role: _the_one(_stacks(found), role, homes[role], case, remarks)
              for role, found in by_role.items() if role is not None}  # fmt: skip
    loose = _stacks(by_role.get(None, []))
    named = set(chosen)
    usable = [stack for stack in loose if not stack.drawback]
    remarks += _choose(usable, [c for c in channels if c not in chosen], len(channels) == 1, chosen, case)
    if not chosen:
        listed = "; ".join(f"{stack.label}: {_why_not(stack)}" for stack in loose)
        raise CaseError(
            f"case {case}: no DICOM series of channel {', '.join(channels)}; found {listed or 'no image at all'}; "
            "say which is which by channel=folder"
        )
    _refuse_strangers(chosen, case)
    told = [f"{channel} = {chosen[channel].label}" for channel in channels if channel in set(chosen) - named]
    if told:
        remarks.append(f"case {case}: told by DICOM headers: {', '.join(told)}")
    for channel, stack in chosen.items():
        remarks += _stack_remarks(stack, channel, case)
    remarks += _scale_remarks(chosen, case)
    taken = [id(stack) for stack in chosen.values()]
    ignored = [path.name for path in others if path.name.casefold() != "dicomdir"]
    ignored += [f"{s.label}: {_why_not(s)}" for s in loose if id(s) not in taken]
    series = {c: series_of(chosen[c].images, chosen[c].folder, case) for c in channels if c in chosen}
    return FoundSeries(series, tuple(ignored), tuple(remarks))


def channel_series(
    folder: Path, channel: str, case: str, on_remark: Callable[[str], None] | None = None
) -> DicomSeries:
    """The series in a folder, or in one file of several frames, that the user has said to be a channel; of several the
    one whose headers say so too.

    Raises:
        CaseError: no DICOM series, or several that may be it; a damaged file; images that make no volume.
        OSError: the folder or a file in it cannot be read.
    """
    folder = Path(folder)
    one = dicom_file(folder) if folder.is_file() else None
    files = [one] if one is not None else list(scan_tree(folder).all_files)
    _refuse_problems(files, case)
    remarks: list[str] = []
    stack = _the_one(_stacks(files), channel, folder, case, remarks)
    for remark in (*remarks, *_stack_remarks(stack, channel, case)):
        if on_remark:
            on_remark(remark)
    return series_of(stack.images, stack.folder, case)


def _refuse_problems(files: Sequence[DicomFile], case: str) -> None:
    for file in files:
        if file.problem:
            raise CaseError(f"case {case}: {file.path}{file.problem}")


def _stacks(files: Sequence[DicomFile]) -> list[Stack]:
    return stacks_of(image for file in files for image in file.images)


def _named_channel(path: Path, root: Path, channels: Sequence[str], case: str) -> tuple[str, Path] | tuple[None, None]:
    """The channel that a folder between a file and the case's is named by, and that folder."""
    for folder in path.parents:
        if folder == root or not folder.is_relative_to(root):
            break
        name = folder.name.casefold()
        for channel in channels:
            if name in (channel.casefold(), f"{case}_{channel}".casefold()):
                return channel, folder
    return None, None


def _matching(stacks: Sequence[Stack], channel: str, case: str, remarks: list[str]) -> list[Stack]:
    """The stacks whose headers tell of one channel; of several contrasts alike those that fit best."""
    part, wanted = channel_part(channel), weighting_of_channel(channel)
    if part is not None:
        for stack in stacks:
            if part in stack.parts and len(stack.parts) > 1:
                raise CaseError(
                    f"case {case}: {stack.label} matches {' and '.join(sorted(stack.parts))} by its headers; say which "
                    f"it is by channel=folder ({channel}=...)"
                )
        return [stack for stack in stacks if part in stack.parts]
    named = [stack for stack in stacks if names_channel(stack.images[0], channel)]
    if wanted is None:
        return named
    found = [
        stack for stack in stacks if _fits(stack.weighting, wanted) or (stack.weighting is None and stack in named)
    ]
    return _nearest(found, named, wanted, channel, case, remarks)


def _fits(found: Weighting | None, wanted: Weighting) -> bool:
    return found is not None and found.kind == wanted.kind and (found.fat_suppressed or not wanted.fat_suppressed)


def _nearest(found: list[Stack], named: Sequence[Stack], wanted: Weighting, channel: str, case: str,
             remarks: list[str]) -> list[Stack]:  # fmt: skip
    """Of several series of one contrast the one that is meant, where that is plain, and it is said."""
    for test, words in (
        (lambda stack: bool(stack.weighting) and stack.weighting.fat_suppressed == wanted.fat_suppressed, ""),
        (lambda stack: not stack.parts or stack.parts == {"inn"}, "shows fat and water together"),
        (lambda stack: stack.plane == "sagittal ", "is sagittal"),
        (lambda stack: stack in named, ""),
    ):
        fitting = [stack for stack in found if test(stack)]
        if words and len(fitting) == 1 < len(found):
            remarks.append(f"case {case}: of {len(found)} series of {channel} the one is taken that {words}")
        if 0 < len(fitting) < len(found):
            found = fitting
    return found


def _choose(stacks: Sequence[Stack], channels: Sequence[str], alone: bool, chosen: dict[str, Stack],
            case: str) -> list[str]:  # fmt: skip
    """Adds to `chosen` what headers tell of the channels; gives remarks. `alone`: the model has but one channel."""
    remarks: list[str] = []
    dixon = {part for part in map(channel_part, channels) if part is not None}
    for channel in channels:
        # A water image that the model wants as such is not its T2 image too, though it may be T2-weighted.
        free = stacks if channel_part(channel) else [stack for stack in stacks if not stack.parts & dixon]
        found = _matching(free, channel, case, remarks)
        if not found and channel_part(channel) in ("inn", "opp"):
            plain = [stack for stack in stacks if not stack.parts]
            found = [stack for stack in plain if phase_by_echo(stack.images[0]) == channel_part(channel)]
            if found:
                remarks.append(f"case {case}: {channel} is told by its echo time alone")
        if not found and alone and len(stacks) == 1 and _may_be(stacks[0], channel):
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


def _may_be(stack: Stack, channel: str) -> bool:
    """Whether nothing in a header speaks against its being a channel."""
    if channel_part(channel) is not None:
        return not stack.parts
    return stack.weighting is None or weighting_of_channel(channel) is None


def _the_one(stacks: Sequence[Stack], channel: str, folder: Path, case: str, remarks: list[str]) -> Stack:
    """The stack of a folder that is said to be a channel."""
    usable = [stack for stack in stacks if not stack.drawback]
    if len(usable) > 1:
        usable = _matching(usable, channel, case, remarks) or usable
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


def _why_not(stack: Stack) -> str:
    """Why a series is no channel that was looked for."""
    if stack.drawback:
        return stack.drawback
    told = " and ".join(sorted(stack.parts)) or stack.weighting
    return f"{told} by its header" if told else "not told by its header"


def _stack_remarks(stack: Stack, channel: str, case: str) -> list[str]:
    """What is to be said of a series that is taken as a channel."""
    remarks = []
    if stack.copies:
        remarks.append(f"case {case}: {stack.copies} files are copies of others of {stack.label} and count once")
    if stack.strays:
        more = len(stack.strays) - _MOST_NAMED
        listed = ", ".join(stack.strays[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        remarks.append(f"case {case}: left out of {stack.label}: {listed}")
    wanted, found = weighting_of_channel(channel), stack.weighting
    if wanted and found and found.kind != wanted.kind:
        remarks.append(f"case {case}: {channel} was said to be {stack.label}, which is {found} by its header")
    elif wanted and found and found.fat_suppressed != wanted.fat_suppressed:
        remarks.append(f"case {case}: {stack.label}, taken as {channel}, is {found} by its header")
    return remarks


def _scale_remarks(chosen: dict[str, Stack], case: str) -> list[str]:
    """Philips scales every series by a slope of its own; what is told where the private one that undoes it is gone."""
    images = [stack.images[0] for stack in chosen.values()]
    philips = any(image.philips or image.scale_slope is not None for image in images)
    gone = [channel for channel, stack in chosen.items() if stack.images[0].scale_slope is None]
    slopes = {(image.slope, image.scale_slope is None) for image in images}
    if not philips or not gone or len(slopes) < 2:
        return []
    return [
        f"case {case}: Philips scales each series in its own way, and the header of {', '.join(gone)} does not tell "
        "how any more (scale slope): quantities that compare channels, as fat fractions do, mean nothing"
    ]


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
