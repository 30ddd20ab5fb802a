"""`ivdjax cross-validate`: trains and scores every fold of a configuration."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ivdjax.commands.command import Command
from ivdjax.commands.commands import local_output
from ivdjax.config import read_config

DESCRIPTION = """\
Cross-validates a configuration by subject.

Trains every fold, finds the discs of the cases that it held out, and scores all of them together:
OUTPUT/cross_validation/tables.md (the paper's Tables 1 to 3), discs.csv, summary.json and a picture of each case.
The same command again resumes. Folds can be trained one by one (--folds 3), on several machines with one shared OUTPUT;
at the end the command without --folds joins them."""


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of a cross-validation."""
    parser.add_argument("--config", required=True, metavar="FILE", help="configuration in YAML")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", dest="overrides",
                        help="override one value of the configuration; may be repeated")  # fmt: skip
    parser.add_argument("--output", metavar="DIR", help="the run's folder (default: runs/NAME)")
    parser.add_argument("--folds", default="", metavar="K,L,...", help="these folds only (default: all)")


def run(options: Namespace) -> int:
    """Cross-validates; the exit code."""
    config = read_config(options.config, options.overrides)
    # After the options are known to be right: this import takes a second.
    from ivdjax.evaluation.cross_validation import cross_validate, parse_folds

    output = local_output(options.output or f"runs/{config.name}")
    return cross_validate(config, output, parse_folds(options.folds))


COMMAND = Command(DESCRIPTION, add_options, run)
