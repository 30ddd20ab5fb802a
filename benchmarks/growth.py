"""How time and memory of `infer.py` grow with slices, in-plane size, channels and cases: a table and a plot.

    python -m benchmarks.growth --model models/NAME [--plot PLOT.svg] [--axes slices in_plane channels cases]

Synthetic volumes of one patient: 36 slices of 256 x 256 voxels and as many channels as the model takes, with one of
these numbers changed at a time. More slices make the volume wider; more voxels in plane make the voxels smaller, as on
a scanner. A cohort is one small volume (13 x 128 x 128) under many names. A run of one case fills the compilation
cache first, so that nothing is compiled in the run that counts.

CPU seconds stand beside wall seconds because other programs may run on the machine. Growth is the exponent p in
cost = size^p between the two largest sizes, of what a run costs beyond the smallest one: at 1, cost keeps step with
the work.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm import tqdm

from benchmarks.infer import Measured, measured
from ivdjax.data.phantom import PhantomOptions, PhantomSet, write_phantoms
from ivdjax.model.model import read_model

FIELD_MM = (72.0, 320.0, 320.0)
SLICES, IN_PLANE = 36, 256
SMALL = (13, 128)
SIZES = {
    "slices": (13, 36, 60, 120),
    "in_plane": (128, 256, 512, 768),
    "channels": (1, 2, 3, 4),
    "cases": (1, 10, 50, 200),
}


@dataclass(frozen=True)
class Point:
    """One size along one axis, and what it took."""

    axis: str
    size: int
    run: Measured


def main() -> int:
    """Measures, prints the table and writes the plot; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--axes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--plot", metavar="FILE", help="its suffix says the format")
    options = parser.parse_args()
    channels = read_model(options.model).channels
    wanted = [
        (axis, size) for axis in options.axes for size in SIZES[axis] if axis != "channels" or size <= len(channels)
    ]
    with tempfile.TemporaryDirectory(prefix="ivdjax-growth-") as place:
        _run(Path(place), options.model, channels, *wanted[0])  # fills the compilation cache for all sizes
        points = [
            Point(axis, size, _run(Path(place), options.model, channels, axis, size))
            for axis, size in tqdm(wanted, desc="sizes", unit="size")
        ]
    print(f"```\npython -m benchmarks.growth {' '.join(sys.argv[1:])}\n```\n\n{table(points)}")
    if options.plot:
        draw(points, Path(options.plot))
    return 0


def _run(place: Path, model: str, channels: Sequence[str], axis: str, size: int) -> Measured:
    """One run on volumes of this size."""
    slices, in_plane = SMALL if axis == "cases" else (SLICES, IN_PLANE)
    side = size if axis == "in_plane" else in_plane
    shape = (size if axis == "slices" else slices, side, side)
    # Slices keep their thickness, so that more of them are a wider volume; in plane the field of view stays.
    spacing_mm = (FIELD_MM[0] / SLICES, FIELD_MM[1] / shape[1], FIELD_MM[2] / shape[2])
    given = channels[:size] if axis == "channels" else channels
    phantoms = PhantomSet(1, 900, options=PhantomOptions(channels=tuple(given), shape=shape, spacing_mm=spacing_mm))
    folder = place / f"{axis}_{size}"
    write_phantoms(folder / "made", phantoms)
    made = next(path for path in (folder / "made").iterdir() if path.is_dir())
    for extra in range(1, size if axis == "cases" else 1):
        copy = folder / "made" / f"C{extra:03}"
        copy.mkdir()
        for file in made.iterdir():
            shutil.copy(file, copy / file.name.replace(made.name, copy.name))
    inputs = [str(path) for path in sorted((folder / "made").iterdir()) if path.is_dir()]
    run = measured(place, model, inputs)
    shutil.rmtree(folder)
    return run


def table(points: Sequence[Point]) -> str:
    """The points in markdown, the growth of each axis beside its last row."""
    lines = ["| what grows | size | wall s | CPU s | peak MiB | growth of CPU s |", "|---|---|---|---|---|---|"]
    for point in points:
        same = [one for one in points if one.axis == point.axis]
        last = point is same[-1] and len(same) > 2
        # Of a cost that hardly grows, the exponent is noise.
        told = f"{growth(same):.2f}" if last and point.run.cpu_s > 1.2 * same[0].run.cpu_s else "none" if last else ""
        lines.append(
            f"| {point.axis.replace('_', ' ')} | {point.size} | {point.run.wall_s:.1f} | {point.run.cpu_s:.1f} "
            f"| {point.run.peak_mib:.0f} | {told} |"
        )
    return "\n".join(lines)


def growth(points: Sequence[Point]) -> float:
    """The exponent between the two largest sizes, of CPU seconds beyond those of the smallest; in plane by voxels."""
    first, before, last = points[0], points[-2], points[-1]
    more, most = (max(point.run.cpu_s - first.run.cpu_s, 1e-3) for point in (before, last))
    power = 2 if last.axis == "in_plane" else 1
    small, large = (point.size**power - first.size**power for point in (before, last))
    return log(most / more) / log(large / small)


def draw(points: Sequence[Point], path: Path) -> None:
    """CPU seconds and peak memory along each axis, one panel an axis."""
    import matplotlib.pyplot as plt

    axes = list(dict.fromkeys(point.axis for point in points))
    figure, panels = plt.subplots(1, len(axes), figsize=(3.2 * len(axes), 3.0), layout="constrained", squeeze=False)
    for axis, panel in zip(axes, panels[0], strict=True):
        of_axis = [point for point in points if point.axis == axis]
        sizes = [point.size for point in of_axis]
        panel.plot(sizes, [point.run.cpu_s for point in of_axis], "o-", color="#0072b2", label="CPU s")
        panel.set(xlabel=axis.replace("_", " "), ylabel="CPU s", ylim=(0, None))
        beside = panel.twinx()
        beside.plot(sizes, [point.run.peak_mib for point in of_axis], "s--", color="#d55e00", label="peak MiB")
        beside.set(ylabel="peak MiB", ylim=(0, None))
    handles = [*panel.get_lines(), *beside.get_lines()]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
