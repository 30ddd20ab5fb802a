"""The command: `python -m ivdjax.data.phantom --output DIR --cases N --seed S`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TypeVar

from tqdm import tqdm

from ivdjax.data.phantom.dataset import PhantomSet, write_phantoms
from ivdjax.data.phantom.options import CHANNELS, FIELDS, HARD_KINDS, PhantomOptions
from ivdjax.volume import UserError

Number = TypeVar("Number", int, float)

DESCRIPTION = "Makes synthetic lumbar spines, with numbered discs."


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the options and writes the dataset; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ivdjax.data.phantom", description=DESCRIPTION)
    add_options(parser)
    return make(parser.parse_args(arguments))


def make(given: argparse.Namespace) -> int:
    """Writes the dataset that the options ask for; the exit code (0, 1: disk, 2: options, 130, 143)."""
    started = time.monotonic()
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        channels = given.channels or ("t2" if given.field == "slab" else "fat,inn,opp,wat")
        options = PhantomOptions(
            channels=tuple(channels.split(",")), field=given.field, hard=given.hard or "",
            shape=_triple(given.shape, int, "--shape"), spacing_mm=_triple(given.spacing, float, "--spacing"),
            binary_labels=given.binary_labels,
        )  # fmt: skip
        phantoms = PhantomSet(given.cases, given.seed, given.visits, options)
        if lacking := -given.cases % given.visits:
            count = f"{given.cases} case{' is' if given.cases == 1 else 's are'}"
            print(f"note: {count} no multiple of {given.visits} visits: the last subject lacks {lacking}",
                  file=sys.stderr)  # fmt: skip
        path = write_phantoms(given.output, phantoms, given.overwrite, lambda r: tqdm(r, desc="phantoms", unit="case"))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {given.output} cannot be written: {error}; nothing was left behind", file=sys.stderr)
        return 1
    except MemoryError:
        print("error: memory ran out; make smaller phantoms (--shape); nothing was left behind", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was left behind", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)
    try:
        print(
            f"{given.cases} case{'' if given.cases == 1 else 's'} in {time.monotonic() - started:.1f} s: {path}",
            flush=True,
        )
    except OSError:  # whoever read our words has gone, or a disk that takes them is full; the cases are there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a set of phantoms."""
    parser.add_argument("--output", required=True, help="folder of the dataset; new or empty")
    parser.add_argument("--cases", type=int, required=True, help="how many cases to make, all visits included")
    parser.add_argument("--seed", type=int, required=True, help="the same seed gives the same dataset")
    parser.add_argument("--channels", help=f"of {','.join(CHANNELS)}; default fat,inn,opp,wat, or t2 for a slab")
    parser.add_argument("--binary-labels", action="store_true", help="one value for all seven discs")
    parser.add_argument("--hard", metavar="KIND", help=f"a misleading anatomy: {', '.join(HARD_KINDS)}")
    parser.add_argument("--visits", type=int, default=1, help="cases of each subject, as S01_1, S01_2; default 1")
    parser.add_argument("--field", default="full", help=f"field of view: {', '.join(FIELDS)}; default full")
    parser.add_argument("--shape", metavar="D,H,W", help="voxels: slices, rows, columns")
    parser.add_argument("--spacing", metavar="D,H,W", help="their size in mm")
    parser.add_argument("--overwrite", action="store_true", help="replace the phantoms that the folder holds")


def _triple(text: str | None, kind: Callable[[str], Number], option: str) -> tuple[Number, Number, Number] | None:
    if text is None:
        return None
    try:
        d, h, w = (kind(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{option} takes three numbers as D,H,W, not {text!r}") from None
    return d, h, w


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """Ends by the ordinary way, so that the unfinished folder is removed."""
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main())
