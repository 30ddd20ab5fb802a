"""Trains a model from a configuration: python train.py --config configs/NAME.yaml"""

from __future__ import annotations

import sys
from pathlib import Path

from ivdjax.config import read_config
from ivdjax.workflows.commands import CommandParser, run_command


def main() -> int:
    """Parses the options and trains; the exit code."""
    parser = CommandParser(description=__doc__ or "")
    parser.add_argument("--config", required=True, metavar="FILE", help="configuration in YAML")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", dest="overrides",
                        help="override one value of the configuration; may be repeated")  # fmt: skip
    parser.add_argument("--output", metavar="DIR", help="the run's folder (default: runs/NAME)")
    parser.add_argument("--fold", type=int, metavar="K", help="hold out fold K (0 to data.folds - 1)")
    parser.add_argument(
        "--stage",
        choices=("region", "disc", "localization", "all"),
        default="all",
        help="stage to train (default: all)",
    )
    parser.add_argument("--init", metavar="MODEL", help="begin with the parameters of this model's folder")
    options = parser.parse_args()

    def run() -> int:
        config = read_config(options.config, options.overrides)
        output = Path(options.output or Path("runs") / config.name)
        from ivdjax.workflows.train import (
            train,
        )  # after the options are known to be right: importing JAX takes a second

        stage = None if options.stage == "all" else options.stage
        train(config, output, options.fold, Path(options.init) if options.init else None, stage)
        return 0

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
