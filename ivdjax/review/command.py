"""`ivdjax review`: results are looked at in a browser, and corrected."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ivdjax.commands.command import Command
from ivdjax.commands.commands import DONE
from ivdjax.volume import UserError

DESCRIPTION = """\
Opens the results of a run in the browser for review and correction, those that need attention first.

Every decision is kept in OUT/<case>/<case>_corrections.json; label maps, tables, pictures and the summary are updated.
Without OUT, you can drop an image on the page, which finds its discs and shows the report.
For research; not a medical device."""


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of a review."""
    parser.add_argument("output", nargs="?", metavar="OUT", help="the --output of an earlier ivdjax infer")
    parser.add_argument("--where", action="append", default=[], metavar="COLUMN=VALUE", help="only cases with this "
                        "value in OUT/summary.csv, such as verdict=review; may be repeated")  # fmt: skip
    parser.add_argument("--images", metavar="DIR", help="where the images are now, if they have moved")
    parser.add_argument("--model", metavar="MODEL", help="model for dropped images, given by its name or folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1); beyond this machine the "
                        "page needs the token that is printed")  # fmt: skip
    parser.add_argument("--port", type=int, default=0, help="port to listen at (any free one)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, and open nothing")


def run(options: Namespace) -> int:
    """Serves until Ctrl-C; the exit code."""
    if not 0 <= options.port <= 65535:
        raise UserError(f"--port must be 0 (any free one) to 65535, not {options.port}")
    try:
        from ivdjax.review.serving import Serving, serve_drop, serve_review
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "anyio"):
            raise
        raise UserError("the review needs two small packages: pip install 'ivdjax[review]'") from error
    serving = Serving(options.host, options.port, not options.no_browser)
    if options.output is None:
        if options.where or options.images:
            raise UserError("--where and --images go with OUT, the folder that is reviewed")
        serve_drop(serving, options.model)
    else:
        if options.model is not None:
            raise UserError("--model is for images that are dropped, without OUT")
        images = None if options.images is None else Path(options.images)
        serve_review(serving, Path(options.output), images, options.where)
    return DONE


COMMAND = Command(DESCRIPTION, add_options, run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the options and serves; the exit code."""
    return COMMAND.main(arguments, prog="python -m ivdjax.review")


if __name__ == "__main__":
    sys.exit(main())
