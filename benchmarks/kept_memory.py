"""What the forward pass of each stage keeps for the backward pass, by compute type and rematerialisation.

    python benchmarks/kept_memory.py --config configs/NAME.yaml [--set a.b=value ...]

Counted from shapes, not measured on a device: it holds for every device, and nothing is computed. What a compiled
program needs in all is more, and its compiler's affair.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jax
import jax.numpy as jnp

from ivdjax.commands.commands import CommandParser, run_command
from ivdjax.config import Config, read_config
from ivdjax.learning.precision import training_apply
from ivdjax.model.stages import stage_settings
from ivdjax.model.tasks import stage_network

COLUMNS = tuple((compute, remat) for compute in ("float32", "bfloat16") for remat in (False, True))


def kept_mib(config: Config, stage: str, compute: str, remat: bool) -> float:
    """MiB of all arrays that the backward pass of a stage's batch reads, parameters among them."""
    network, training = stage_network(config, stage), stage_settings(config, stage).training
    apply = training_apply(network.apply, replace(training, compute=compute, remat=remat))
    boxes = jax.ShapeDtypeStruct((training.batch_size, *training.crop, len(config.data.channels)), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), boxes)["params"]
    kept = jax.eval_shape(lambda p, x: jax.vjp(lambda q: apply({"params": q}, x), p)[1], params, boxes)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept)) / 2**20


def table(config: Config) -> str:
    """The figures of all stages in markdown."""
    heads = " | ".join(f"{compute}{', remat' * remat}" for compute, remat in COLUMNS)
    rows = [f"| stage (batch) | {heads} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for stage in config.stages:
        cells = " | ".join(f"{kept_mib(config, stage, *column):.0f} MiB" for column in COLUMNS)
        rows.append(f"| {stage} ({stage_settings(config, stage).training.batch_size}) | {cells} |")
    return "\n".join(rows)


def main() -> int:
    """Prints the table; the exit code."""
    parser = CommandParser(__doc__ or "")
    parser.add_argument("--config", required=True, metavar="FILE")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value")
    options = parser.parse_args()

    def run() -> int:
        print(table(read_config(options.config, options.set)))
        return 0

    return run_command(run)


if __name__ == "__main__":
    sys.exit(main())
