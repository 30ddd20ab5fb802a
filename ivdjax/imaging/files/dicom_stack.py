"""Stacks: the images of a DICOM series that may make one volume."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ivdjax.imaging.files.dicom import planes_of
from ivdjax.imaging.files.dicom_headers import Slice
from ivdjax.imaging.files.dixon import MAP, parts_of
from ivdjax.imaging.files.weighting import Weighting, weighting_of

_NO_MAGNITUDE = {"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY"}
_COMPUTED = {"PROJECTION IMAGE", "MIP", "MAX_IP", "MIN_IP", "MINIP", "MNIP", "SUBTRACTION"}

_STRAY_SHARE = 0.2
"""Images of a series that do not go with its others are strays as long as they are no more of it than this."""
_FEWEST = 3
"""Images that a series must have besides its strays."""


@dataclass(frozen=True)
class Stack:
    """Images that may make a volume: of one series, one Dixon part and one echo.

    Attributes:
        folder: that holds them.
        images: in no order.
        parts: what they show of a Dixon scan; see `parts_of`.
        strays: names of files of the same series that do not go with the others, each with what is odd about it.
        copies: how many files held an image that another one holds too.
    """

    folder: Path
    images: tuple[Slice, ...]
    parts: frozenset[str]
    strays: tuple[str, ...] = ()
    copies: int = 0

    @property
    def label(self) -> str:
        """What people find it by; it holds no words of the header."""
        first = self.images[0]
        number = "a series without number" if first.number is None else f"series {first.number}"
        echo = "" if first.echo_time_ms is None else f", echo time {first.echo_time_ms:g} ms"
        inversion_ms = first.acquisition.inversion_time_ms
        inversion = "" if not inversion_ms else f", inversion time {inversion_ms:g} ms"
        return f"{number} in {self.folder.resolve().name} ({len(self.images)} {self.plane}images{echo}{inversion})"

    @property
    def weighting(self) -> Weighting | None:
        """Which contrast it has by its header, if that tells."""
        return weighting_of(self.images[0])

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
        if not all(image.magnetic_resonance for image in self.images):
            return "no MR images"
        if any(0 in image.shape for image in self.images):
            return "no images"
        if not all(image.gray for image in self.images):
            return "colors"
        if not all(image.placed for image in self.images):
            return "no ImagePositionPatient, ImageOrientationPatient or PixelSpacing"
        if "LOCALIZER" in tokens or len(planes_of(self.images)) > 1:
            return "a localizer or other images in several planes"
        if len(self.images) < 2:
            return "a single image"
        if tokens & _NO_MAGNITUDE:
            return "no magnitude images"
        if tokens & _COMPUTED:
            return "a projection or subtraction"
        return "a fat fraction or another map" if MAP in self.parts else ""


def stacks_of(images: Iterable[Slice]) -> list[Stack]:
    """The stacks of images by series number and echo time.

    A series is one by its SeriesInstanceUID, whatever folders it lies in; where the header gives none, by its folder. A
    series is split by Dixon part, and where images lie at one place further by type, by echo time, by contrast and by
    file (of several frames).
    """
    result = []
    for series in _grouped(images, lambda image: (image.study, image.series or image.path.parent)):
        single, copies = _without_copies(series)
        for part in _grouped(single, parts_of):
            pieces = [part]
            for key in _TELLING:
                pieces = [
                    smaller for piece in pieces for smaller in (_grouped(piece, key) if _doubled(piece) else [piece])
                ]
            for piece in pieces:
                main, strays = _without_strays(piece)
                result.append(Stack(_folder(main), tuple(main), parts_of(main[0]), tuple(strays), copies))
    return sorted(result, key=lambda stack: (stack.images[0].number or 0, stack.images[0].echo_time_ms or 0))


_TELLING: tuple[Callable[[Slice], Hashable], ...] = (
    lambda image: image.image_type,
    lambda image: image.echo_time_ms,
    lambda image: image.acquisition.inversion_time_ms,
    lambda image: image.path if image.frame is not None else None,
)
"""What tells images of one series apart that lie at one place."""


def _folder(images: Sequence[Slice]) -> Path:
    """The folder that holds all the images, itself or in folders within it."""
    first = images[0].path.parent
    parents = (first, *first.parents)
    return next(folder for folder in parents if all(image.path.is_relative_to(folder) for image in images))


def _without_copies(images: Sequence[Slice]) -> tuple[list[Slice], int]:
    """Images of which each counts once, and how many were left out: copies have the same SOPInstanceUID, frame, kind
    and place. Some archives give every file the same UID; those are no copies."""
    seen: dict[Hashable, Slice] = {}
    kept = []
    for image in images:
        key = (image.instance, image.frame, image.image_type, image.acquisition, image.position_mm, image.orientation,
               image.shape)  # fmt: skip
        if not image.instance or key not in seen:
            kept.append(image)
            seen[key] = image
    return kept, len(images) - len(kept)


def _without_strays(images: Sequence[Slice]) -> tuple[list[Slice], list[str]]:
    """The images that go together, and what is odd about the few others, each with the name of its file."""
    # The first that says so tells; so the order of files matters only between equals.
    groups = sorted(_grouped(images, _company), key=len, reverse=True)
    main, others = groups[0], [image for group in groups[1:] for image in group]
    few = len(others) <= max(1, _STRAY_SHARE * len(images)) and len(main) >= _FEWEST
    if not others or not few or not main[0].placed:
        return list(images), []
    return main, [f"{image.path.name}: {_oddity(image, main[0])}" for image in others]


def _company(image: Slice) -> Hashable:
    """What is the same of images that make a volume."""
    return (image.placed, image.shape, image.gray, image.inverted, image.magnetic_resonance,
            tuple(round(x, 2) for x in image.orientation), tuple(round(x, 3) for x in image.spacing_mm))  # fmt: skip


def _oddity(image: Slice, usual: Slice) -> str:
    if not image.placed:
        return "no ImagePositionPatient, ImageOrientationPatient or PixelSpacing"
    if image.shape != usual.shape:
        return "another size"
    if image.gray != usual.gray:
        return "colors"
    return "another plane" if image.spacing_mm == usual.spacing_mm else "another pixel spacing or kind"


def _grouped(images: Iterable[Slice], key: Callable[[Slice], Hashable]) -> list[list[Slice]]:
    groups: dict[Hashable, list[Slice]] = defaultdict(list)
    for image in images:
        groups[key(image)].append(image)
    return list(groups.values())


def _doubled(images: Sequence[Slice]) -> bool:
    places = {(image.orientation, tuple(round(x, 2) for x in image.position_mm)) for image in images if image.placed}
    return len(places) < sum(image.placed for image in images)
