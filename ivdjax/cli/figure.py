"""`ivdjax figure`: a picture of a result for a paper."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ivdjax.commands.command import Command
from ivdjax.volume import UserError

DESCRIPTION = """\
Draws a picture of a result for a paper or a talk.

CASE is a result folder of `ivdjax infer`, OUT/<case>, or the folder of a BIDS subject or session, OUT/sub-01. With
--where it is an output folder, OUT, whose summary chooses the cases. The images must still be where they were."""

FORMATS = ("png", "svg", "pdf")


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of a picture."""
    parser.add_argument("cases", nargs="+", metavar="CASE", help="result folders, such as OUT/P01")
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="draw the cases of OUT "
                        "with this value in its summary, such as verdict=review; may be repeated")  # fmt: skip
    parser.add_argument(
        "--output", default=".", metavar="DIR", help="folder for the pictures (default: the current one)"
    )
    parser.add_argument("--format", choices=FORMATS, default="png", help="file format (default: png)")
    parser.add_argument(
        "--dpi", type=float, default=300, metavar="N", help="pixels per inch, 50 to 1200 (default: 300)"
    )
    parser.add_argument(
        "--background", choices=("white", "black"), default="white", help="background of the page (default: white)"
    )
    parser.add_argument("--panels", default="plain,sagittal,coronal", metavar="A,B,...",
                        help="planes from left to right (default: plain,sagittal,coronal)")  # fmt: skip
    parser.add_argument("--no-badge", action="store_true", help="leave out name, verdict and reasons")


def run(options: Namespace) -> int:
    """Draws; the exit code."""
    if not 50 <= options.dpi <= 1200:
        raise UserError(f"--dpi must be 50 to 1200, not {options.dpi:g}")
    from ivdjax.commands.commands import local_output, make_output
    from ivdjax.inference.figure import FigureRequest, draw_figure, results_of

    panels = tuple(name.strip() for name in options.panels.split(",") if name.strip())
    output = local_output(options.output)
    results = results_of([Path(case) for case in options.cases], options.where)
    make_output(output)
    for result in results:
        request = FigureRequest(
            result, output, options.format, options.dpi, options.background, panels, not options.no_badge
        )
        print(draw_figure(request))
    return 0


COMMAND = Command(DESCRIPTION, add_options, run)
