"""`ivdjax train`: trains a model from a configuration."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ivdjax.commands.command import Command
from ivdjax.commands.memory import keep_freed_memory
from ivdjax.config import Config, config_differences, read_config, shaped_like
from ivdjax.model.shipped import model_folder
from ivdjax.training.jobs.job import end_process, job_of, joined

DESCRIPTION = """\
Trains a model from a configuration.

The same command again resumes an interrupted run. At the end the model is in runs/NAME/model. docs/configuration.md
lists every key of a configuration."""


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of training."""
    run = parser.add_argument_group("run")
    run.add_argument("--config", required=True, metavar="FILE", help="configuration in YAML")
    run.add_argument("--set", action="append", default=[], metavar="a.b=value", dest="overrides",
                     help="override one value of the configuration; may be repeated")  # fmt: skip
    run.add_argument("--output", metavar="DIR", help="folder of the run, local or gs://... (default: runs/NAME)")
    run.add_argument("--fold", type=int, metavar="K", help="hold out fold K (0 to data.folds - 1)")
    run.add_argument(
        "--stage",
        choices=("region", "disc", "localization", "all"),
        default="all",
        help="stage to train (default: all)",
    )
    run.add_argument(
        "--init", metavar="MODEL", help="start from the parameters of this model, given by its name or folder"
    )
    job = parser.add_argument_group("several processes")
    job.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0 in a job of several processes, "
                     "or auto to let JAX find it (not needed with Slurm's srun)")  # fmt: skip
    job.add_argument("--processes", type=int, metavar="N", help="number of processes that train together")
    job.add_argument("--process", type=int, metavar="I", help="number of this process, from 0")


def run(options: Namespace) -> int:
    """Trains; the exit code."""
    init = model_folder(options.init) if options.init else None
    config = read_config(options.config, options.overrides)
    if init is not None:
        config = _like_model(config, options, init)
    keep_freed_memory()
    job = job_of(os.environ, options.coordinator, options.processes, options.process)
    # After the options are known to be right: importing JAX takes a second.
    from ivdjax.training.train import train

    stage = None if options.stage == "all" else options.stage
    with joined(job):
        train(config, options.output or f"runs/{config.name}", options.fold, init, stage)
    return 0


def _like_model(config: Config, options: Namespace, init: Path) -> Config:
    """The configuration with the shape of the model that training begins with, wherever it says nothing else."""
    from ivdjax.model.model import read_model

    shaped = read_config(options.config, options.overrides, shaped_like(read_model(init).config))
    if taken := config_differences(config, shaped):
        print(f"--init {options.init}: taken from the model, where the configuration says nothing else:")
        print("\n".join(f"  {difference}" for difference in taken))
    return shaped


COMMAND = Command(DESCRIPTION, add_options, run, end=end_process)
