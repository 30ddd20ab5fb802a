"""Converts a label map of discs from one tool's numbers to another's: `ivdjax convert`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ivdjax.commands.command import Command
from ivdjax.commands.commands import DONE
from ivdjax.discs.schemes import SCHEMES, find_scheme, from_scheme, to_scheme
from ivdjax.imaging.files import (
    LABEL_SUFFIXES,
    WRITTEN_SUFFIXES,
    read_labels,
    read_named_levels,
    split_suffix,
    write_labels,
)
from ivdjax.imaging.files.seg_nrrd import SUFFIX as SEG_NRRD
from ivdjax.imaging.files.seg_nrrd import write_seg_nrrd
from ivdjax.inference.disc_segments import disc_segments
from ivdjax.volume import UserError

DESCRIPTION = """\
Converts a label map of discs from one tool's numbers to another's.

  --from ivdjax --to totalspineseg INPUT OUTPUT

INPUT and OUTPUT are NIfTI, MHA or NRRD files, recognised by their endings. INPUT may also be .mgz, or .hdr with .img
beside it; OUTPUT may be a .seg.nrrd, which 3D Slicer opens with names and colours. If INPUT is a .seg.nrrd, the
names of its segments say which disc is which, not its values. Schemes: ivdjax (1 = L5/S1 upward), totalspineseg,
spineps, spider; docs/formats.md has their numbers. Structures other than discs are dropped."""


@dataclass(frozen=True)
class Conversion:
    """What to convert: two files, the schemes of their numbers, and whether the second may be replaced."""

    source: Path
    target: Path
    before: str
    after: str
    overwrite: bool = False


def convert(request: Conversion) -> list[str]:
    """Writes the target, whole or not at all, on the source's own grid; what there is to say about it.

    Raises:
        UserError: an unknown scheme, no such source, a target that cannot be written or is there already.
        CaseError: the source cannot be read, or its values are not those of the scheme.
        OSError: the target cannot be written.
    """
    before, after = find_scheme(request.before), find_scheme(request.after)
    source, target = request.source, request.target
    _refuse(source, target, request.overwrite)
    remarks: list[str] = []
    case = split_suffix(source)[0]
    labels = read_named_levels(source, case, remarks.append)
    if labels is None:
        labels = from_scheme(read_labels(source, case, remarks.append), before, case, remarks.append)
    converted = to_scheme(labels, after, case)
    if target.name.lower().endswith(SEG_NRRD):
        write_seg_nrrd(target, converted, disc_segments(labels.levels, after))
    else:
        write_labels(target, converted)
    return [*remarks, f"{target}: {len(labels.levels)} discs in the numbers of {after.title}"]


def _refuse(source: Path, target: Path, overwrite: bool) -> None:
    """Raises the UserError of files that cannot be used, before anything is read."""
    if not source.is_file():
        raise UserError(f"there is no file {source}")
    for path, word, endings in ((source, "read", LABEL_SUFFIXES), (target, "written", WRITTEN_SUFFIXES)):
        if split_suffix(path)[1] not in endings:
            raise UserError(f"{path} cannot be {word}: its name must end in one of {', '.join(endings)}")
    if not target.parent.is_dir():
        raise UserError(f"there is no folder {target.parent} for {target.name}; make it first")
    if target.exists():
        if target.is_dir() or source.samefile(target):
            what = "a folder" if target.is_dir() else "INPUT itself"
            raise UserError(f"OUTPUT {target} is {what}; name another file")
        if not overwrite:
            raise UserError(f"{target} exists; use --overwrite to replace it, or name another file")


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of a conversion."""
    names = ", ".join(SCHEMES)
    parser.add_argument("--from", required=True, dest="before", metavar="SCHEME", help=f"INPUT's numbers: {names}")
    parser.add_argument("--to", required=True, dest="after", metavar="SCHEME", help="OUTPUT's numbers")
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT if it is there")
    parser.add_argument("input", metavar="INPUT", help="label map")
    parser.add_argument("output", metavar="OUTPUT", help="file to write")


def run(options: Namespace) -> int:
    """Converts; the exit code."""
    request = Conversion(Path(options.input), Path(options.output), options.before, options.after, options.overwrite)
    *remarks, result = convert(request)
    for remark in remarks:
        print(remark, file=sys.stderr)
    print(result)
    return DONE


COMMAND = Command(DESCRIPTION, add_options, run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the options and converts; the exit code."""
    return COMMAND.main(arguments, prog="python -m ivdjax.evaluation.convert")


if __name__ == "__main__":
    sys.exit(main())
