"""Trains a model from a configuration: python train.py --config configs/NAME.yaml"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ivdjax.commands.commands import CommandParser, run_command
from ivdjax.config import read_config
from ivdjax.training.jobs.job import end_process, job_of, joined


def main() -> int:
    """Parses the options and trains; the exit code."""
    parser = CommandParser(description=__doc__ or "")
    parser.add_argument("--config", required=True, metavar="FILE", help="configuration in YAML")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", dest="overrides",
                        help="override one value of the configuration; may be repeated")  # fmt: skip
    parser.add_argument("--output", metavar="DIR", help="the run's folder, here or gs://... (default: runs/NAME)")
    parser.add_argument("--fold", type=int, metavar="K", help="hold out fold K (0 to data.folds - 1)")
    parser.add_argument(
        "--stage",
        choices=("region", "disc", "localization", "all"),
        default="all",
        help="stage to train (default: all)",
    )
    parser.add_argument("--init", metavar="MODEL", help="begin with the parameters of this model's folder")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 of a job of several is reached; or "
                        "auto: JAX finds out (Slurm's srun needs no option)")  # fmt: skip
    parser.add_argument("--processes", type=int, metavar="N", help="how many processes train together")
    parser.add_argument("--process", type=int, metavar="I", help="the number of this one, from 0")
    options = parser.parse_args()

    def run() -> int:
        config = read_config(options.config, options.overrides)
        job = job_of(os.environ, options.coordinator, options.processes, options.process)
        # After the options are known to be right: importing JAX takes a second.
        from ivdjax.training.train import train

        stage = None if options.stage == "all" else options.stage
        output, init = options.output or f"runs/{config.name}", Path(options.init) if options.init else None
        with joined(job):
            train(config, output, options.fold, init, stage)
        return 0

    return end_process(run_command(run))


if __name__ == "__main__":
    sys.exit(main())
