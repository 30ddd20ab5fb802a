"""`ivdjax merge`: the results of several runs in one folder."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ivdjax.commands.command import Command

DESCRIPTION = """\
Combines the results of several runs in one folder.

PART is an output folder of `ivdjax infer`, such as those of a Slurm array's tasks. OUT gets every case, one summary,
one table of discs and one page, as if one run had written them. The parts stay as they are; on the same
disk their files take no additional space. Cases that OUT already has are left as they are."""


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of a merge."""
    parser.add_argument("parts", nargs="+", metavar="PART", help="output folders, such as OUT/part_*")
    parser.add_argument("--output", required=True, metavar="OUT", help="folder for all results")


def run(options: Namespace) -> int:
    """Merges; the exit code."""
    from ivdjax.commands.commands import local_output
    from ivdjax.inference.merging import merge_outputs
    from ivdjax.reports.tables import SUMMARY

    output = local_output(options.output)
    merged = merge_outputs(output, [Path(part) for part in options.parts])
    failed = sum(row.failed for row in merged.rows)
    kept = f", {len(merged.kept)} of them there already" if merged.kept else ""
    count = f"{len(merged.rows)} case{'' if len(merged.rows) == 1 else 's'}"
    print(f"{count}{kept}, {failed} failed; summary: {output / SUMMARY}")
    return int(failed > 0)


COMMAND = Command(DESCRIPTION, add_options, run)
