"""Scores predictions against references: python evaluate.py --predictions OUT --references DATA_ROOT --output EVAL

Writes EVAL/discs.csv, EVAL/tables.md (the paper's Tables 1 to 3), EVAL/summary.json and EVAL/<case>_comparison.png.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ivdjax.commands.commands import CommandParser, local_output, run_command


def main() -> int:
    """Parses the options and scores; the exit code."""
    parser = CommandParser(description=__doc__ or "")
    parser.add_argument("--predictions", required=True, metavar="OUT", help="folder that infer.py has written")
    parser.add_argument("--references", required=True, metavar="DATA_ROOT", help="dataset folder with reference labels")
    parser.add_argument("--output", required=True, metavar="EVAL", help="folder for tables and pictures")
    parser.add_argument(
        "--cases", default="", metavar="A,B,...", help="score these cases only (default: every reference)"
    )
    subjects = parser.add_mutually_exclusive_group()
    subjects.add_argument("--subject-pattern", default="", metavar="REGEX",
                          help="its first group, searched in a case's name, is the subject")  # fmt: skip
    subjects.add_argument("--subject-table", default="", metavar="CSV", help="columns case and subject")
    options = parser.parse_args()

    def run() -> int:
        from ivdjax.evaluation.evaluate import Evaluation, evaluate  # after the options are known to be right

        cases = tuple(dict.fromkeys(name.strip() for name in options.cases.split(",") if name.strip()))
        output = local_output(options.output)
        return evaluate(Evaluation(Path(options.predictions), Path(options.references), output, cases,
                                   options.subject_pattern, options.subject_table))  # fmt: skip

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
