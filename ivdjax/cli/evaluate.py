"""`ivdjax evaluate`: scores predictions against references."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ivdjax.commands.command import Command
from ivdjax.commands.commands import given_folder, local_output

DESCRIPTION = """\
Scores predictions against references.

Writes EVAL/discs.csv, EVAL/tables.md (the paper's Tables 1 to 3), EVAL/summary.json and EVAL/<case>_comparison.png."""


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of an evaluation."""
    parser.add_argument("--predictions", required=True, metavar="OUT", help="output folder of infer")
    parser.add_argument("--references", required=True, metavar="DATA_ROOT", help="dataset folder with reference labels")
    parser.add_argument("--output", required=True, metavar="EVAL", help="folder for tables and pictures")
    parser.add_argument(
        "--cases", default="", metavar="A,B,...", help="score these cases only (default: every reference)"
    )
    subjects = parser.add_mutually_exclusive_group()
    subjects.add_argument("--subject-pattern", default="", metavar="REGEX",
                          help="its first group, searched in a case's name, is the subject")  # fmt: skip
    subjects.add_argument("--subject-table", default="", metavar="CSV", help="columns case and subject")


def run(options: Namespace) -> int:
    """Scores; the exit code."""
    from ivdjax.evaluation.evaluate import Evaluation, evaluate  # after the options are known to be right

    cases = tuple(dict.fromkeys(name.strip() for name in options.cases.split(",") if name.strip()))
    output = local_output(options.output)
    predictions = given_folder(options.predictions, "--predictions")
    references = given_folder(options.references, "--references")
    job = Evaluation(predictions, references, output, cases, options.subject_pattern, options.subject_table)
    return evaluate(job)


COMMAND = Command(DESCRIPTION, add_options, run)
