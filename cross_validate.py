"""Cross-validates a configuration by subject: python cross_validate.py --config configs/NAME.yaml

Trains every fold, finds the discs of the cases that it held out, and scores all of them together:
OUTPUT/cross_validation/tables.md (the paper's Tables 1 to 3), discs.csv, summary.json and a picture of each case.
The same command again resumes. Folds can be trained one by one (--folds 3), on several machines with one shared OUTPUT;
at the end the command without --folds joins them.
"""

from __future__ import annotations

import sys

from ivdjax.commands.commands import CommandParser, local_output, run_command
from ivdjax.config import read_config


def main() -> int:
    """Parses the options and cross-validates; the exit code."""
    parser = CommandParser(description=__doc__ or "")
    parser.add_argument("--config", required=True, metavar="FILE", help="configuration in YAML")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", dest="overrides",
                        help="override one value of the configuration; may be repeated")  # fmt: skip
    parser.add_argument("--output", metavar="DIR", help="the run's folder (default: runs/NAME)")
    parser.add_argument("--folds", default="", metavar="K,L,...", help="these folds only (default: all)")
    options = parser.parse_args()

    def run() -> int:
        config = read_config(options.config, options.overrides)
        # After the options are known to be right: this import takes a second.
        from ivdjax.evaluation.cross_validation import cross_validate, parse_folds

        output = local_output(options.output or f"runs/{config.name}")
        return cross_validate(config, output, parse_folds(options.folds))

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
