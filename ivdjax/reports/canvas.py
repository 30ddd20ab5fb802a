"""What the pictures share: a dark figure, gray planes in millimetres, and a file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.folders import write_whole
from ivdjax.volume import Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
INK = "#f2f2f2"
FAINT = "#9a9a9a"
GROUND = "#101010"

_PACKED = 3
"""Of zlib, 0 to 9: gray noise hardly packs, and beyond this it takes several times as long for nothing."""

GAMMA = 0.8
"""Dark tones are lifted: discs are dark on T2, and fluid outshines them."""
_SHOWN_FIRST = ("t2", "wat", "inn")
"""Channels in which discs are easiest to read, in this order; any other set shows its first channel."""


@dataclass(frozen=True)
class Look:
    """Colours of what lies round the planes, and how fine a picture is.

    Attributes:
        ground: of the page.
        ink: of text on it.
        faint: of captions on it.
        dpi: pixels per inch.
    """

    ground: str = GROUND
    ink: str = INK
    faint: str = FAINT
    dpi: float = DPI


DARK = Look()
WHITE = Look("#ffffff", "#111111", "#555555")


def load_matplotlib() -> None:
    """Imports matplotlib, whatever the caller's environment says of the window that it should draw into.

    A notebook hands its own `MPLBACKEND` to the programs that it starts, where it may name a module that is not there;
    in the notebook's own process it still counts.
    """
    if "matplotlib" in sys.modules:
        return
    named = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib

        if named is not None:
            with contextlib.suppress(ValueError, ImportError):
                matplotlib.rcParams["backend"] = named
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """Within it pictures are drawn by matplotlib's own defaults, whatever a `matplotlibrc` or the caller has set; what
    they have set counts again afterwards. It also decorates functions that draw."""
    load_matplotlib()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def new_figure(width_in: float, height_in: float, look: Look = DARK) -> Figure:
    """An empty figure, dark unless told otherwise, that draws without any window."""
    load_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=look.dpi, facecolor=look.ground)
    FigureCanvasAgg(figure)
    return figure


@own_style()
def figure_png(figure: Figure) -> bytes:
    """A figure of `new_figure` as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    png = io.BytesIO()
    # Without the transparency that no picture uses, and packed less hard: a third of the time, the same size.
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(png, format="PNG", compress_level=_PACKED)
    return png.getvalue()


@own_style()
def figure_bytes(figure: Figure, kind: str) -> bytes:
    """A figure of `new_figure` as "png", "svg" or "pdf"; the same figure gives the same bytes."""
    if kind == "png":
        return figure_png(figure)
    from matplotlib import rc_context

    out = io.BytesIO()
    with rc_context({"svg.hashsalt": "ivdjax", "pdf.fonttype": 42}):
        dates = {"Date": None} if kind == "svg" else {"CreationDate": None}
        figure.savefig(out, format=kind, facecolor=figure.get_facecolor(), metadata=dates)
    return out.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure of `new_figure` as PNG; whole or not at all."""
    write_whole(path, figure_png(figure))


def shown_channel(volume: Volume) -> tuple[str, NDArray]:
    """Name and array (D, H, W) of the channel that a picture shows."""
    by_name = dict(zip(volume.channels, volume.array, strict=True))
    name = next((name for name in _SHOWN_FIRST if name in by_name), volume.channels[0])
    return name, by_name[name]


def add_plane(
    figure: Figure, place: tuple[float, float, float, float], plane: NDArray, size_mm: tuple[float, float]
) -> Axes:
    """A gray plane (rows, columns) at `place` (left, bottom, width, height as shares of the figure).

    Its coordinates are millimetres from its upper left corner; `size_mm` is its height and width. Brightness spans the
    0.5th to the 99.5th percentile of what is shown, dark tones lifted (discs are dark on T2, and fluid outshines
    them); a plane without contrast or without a number is black.
    """
    from matplotlib.colors import PowerNorm

    axes = figure.add_axes(place)
    finite = plane[np.isfinite(plane)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    axes.imshow(np.nan_to_num(plane, nan=float(low)), cmap="gray",
                norm=PowerNorm(GAMMA, float(low), float(max(high, low + 1e-6)), clip=True),
                extent=(0.0, size_mm[1], size_mm[0], 0.0), interpolation="bilinear", aspect="equal")  # fmt: skip
    axes.set_axis_off()
    return axes


def write_text(axes: Axes, x: float, y: float, text: str, **style: object) -> None:
    """Text in a plane's coordinates with a dark rim, so that it reads on any gray."""
    from matplotlib.patheffects import withStroke

    settings: dict[str, object] = {"color": INK, "fontsize": 10, "ha": "center", "va": "center"} | style
    axes.text(x, y, printable(text), parse_math=False, path_effects=[withStroke(linewidth=2.5, foreground="black")],
              **settings)  # type: ignore[arg-type]  # fmt: skip


def printable(text: str) -> str:
    """Text that the built-in font can draw: line breaks become spaces, letters beyond Cyrillic question marks."""
    return "".join(" " if not letter.isprintable() else letter if ord(letter) < 0x530 else "?" for letter in text)
