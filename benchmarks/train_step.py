"""Speed of a stage's training step, against the hardware's own limit and against PyTorch.

    python benchmarks/train_step.py --config configs/NAME.yaml [--set a.b=value ...] [--batch N ...]
        [--compute float32,bfloat16] [--steps N] [--torch] [--output results.json]

Times the augmentation, the forward pass, forward and backward pass, and the whole step of `train.py` (augmentation,
AdamW, clipping, running average) on one device and random volumes, and with --torch the same network in PyTorch, eager
and compiled by `torch.compile`, in the same run: in turns, their order turned round again and again. PyTorch gets ready
batches, so that its step lacks the augmentation; that is in its favour.

A share of the hardware's limit is the rate of the operations of convolutions and dense layers (a step counts as three
forward passes, less the gradient of the image) over the rate of a large matrix product in the same type, measured in
the same run by each framework, the faster one taken.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
# Two frameworks share one device: neither may take its whole memory at the start.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import jax.numpy as jnp

from benchmarks.flax_programs import WORKS, FlaxTraining, product_rate_call, with_training
from benchmarks.flop_count import forward_flops, step_flops
from benchmarks.stopwatch import Contestant, Timing, race
from ivdjax.commands.commands import CommandParser, run_command
from ivdjax.commands.memory import keep_freed_memory
from ivdjax.config import STAGES, Config, ConfigError, read_config
from ivdjax.imaging.folders import write_whole
from ivdjax.learning.optimizer import learning_rate_schedule
from ivdjax.model.stages import stage_settings
from ivdjax.model.tasks import stage_network
from ivdjax.volume import UserError

COMPUTES = ("float32", "bfloat16")
OURS, EAGER, COMPILED = "ivdjax", "PyTorch eager", "PyTorch compiled"
PRODUCT_SIZE = {"cpu": 2048}
"""Side of the matrices of the large product by JAX's name of the device's kind; 4096 elsewhere."""

INSTALL = "PyTorch is not installed, and not measured; to have it: pip install torch"


@dataclass(frozen=True)
class Row:
    """What was measured of one program.

    Attributes:
        framework: whose program it is.
        compute: float32 or bfloat16.
        batch: boxes of one call.
        work: one of `WORKS`.
        ms: of one call, the median of the rounds.
        low_ms, high_ms: quartiles of the rounds.
        slices_per_s: sagittal slices.
        gflops_per_s: operations of convolutions and dense layers; None for the augmentation, which has none.
        share: of the rate of a large matrix product.
        temporary_mib: memory beside arguments and results; None where nobody tells.
    """

    framework: str
    compute: str
    batch: int
    work: str
    ms: float
    low_ms: float
    high_ms: float
    slices_per_s: float
    gflops_per_s: float | None
    share: float | None
    temporary_mib: float | None


@dataclass
class Results:
    """All that a run found.

    Attributes:
        setting: device, versions and what else the figures depend on.
        products: rate of a large matrix product in GFLOP/s, by compute type and framework.
        rows: one a program.
        ratios: how many times longer each program of PyTorch takes than the one of ivdjax, as [compute, batch, work,
            framework, ratio]; the median over the rounds.
        remarks: what could not be measured, and why.
    """

    setting: dict[str, str] = field(default_factory=dict)
    products: dict[str, dict[str, float]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    ratios: list[tuple[str, int, str, str, float]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints tables in markdown; the exit code."""
    options = _parser().parse_args(arguments)

    def run() -> int:
        keep_freed_memory()
        print(report(measure(read_config(options.config, options.set), options)))
        return 0

    return run_command(run)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(__doc__ or "")
    parser.add_argument("--config", required=True, metavar="C")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="change of the configuration")
    parser.add_argument("--stage", choices=STAGES, default="disc", help="PyTorch has the disc stage alone")
    parser.add_argument("--batch", type=int, nargs="+", metavar="N", help="batch sizes (default: the configuration's)")
    parser.add_argument("--compute", default=",".join(COMPUTES), help="types, by commas (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=28, metavar="N", help="timed calls (default: %(default)s)")
    parser.add_argument("--cases", type=int, default=16, metavar="N", help="random volumes (default: %(default)s)")
    parser.add_argument("--precision", choices=("tf32", "ieee"), default="tf32", help="of float32 products on a GPU, "
                        "in both frameworks (default: %(default)s)")  # fmt: skip
    parser.add_argument("--torch", action="store_true", help="measure PyTorch too")
    parser.add_argument("--layout", choices=("channels_last", "contiguous"), default="channels_last",
                        help="of PyTorch's maps in memory (default: %(default)s)")  # fmt: skip
    parser.add_argument("--compile-mode", default="default", metavar="MODE", help="of torch.compile; such as "
                        "reduce-overhead or max-autotune (default: %(default)s)")  # fmt: skip
    parser.add_argument("--output", metavar="FILE", help="the same figures as JSON")
    return parser


def measure(config: Config, options: argparse.Namespace) -> Results:
    """Everything that the options ask for.

    Raises:
        UserError: an unknown compute type, a batch or a number of steps or cases below one, or a network that is not
            written in PyTorch.
        OSError: the output cannot be written.
    """
    computes = options.compute.split(",")
    batches = options.batch or [stage_settings(config, options.stage).training.batch_size]
    for name, numbers in (("batch", batches), ("steps", [options.steps]), ("cases", [options.cases])):
        if min(numbers) < 1:
            raise ConfigError(f"--{name} must be 1 or more, not {min(numbers)}")
    if unknown := [name for name in computes if name not in COMPUTES]:
        raise ConfigError(f"--compute {unknown[0]}: known are {' and '.join(COMPUTES)}, divided by commas")
    results = Results()
    torch = _torch_step(config, options, results)
    results.setting = setting(config, options, torch)
    for compute in computes:
        results.products[compute] = _product_rates(compute, options, torch, results)
        for batch in batches:
            print(f"{compute}, batch of {batch} ...", file=sys.stderr, flush=True)
            _measure_batch(with_training(config, options.stage, batch, compute), options, torch, results)
            if options.output:  # what is measured stays, should a later batch not fit
                write_whole(Path(options.output), json.dumps(dataclasses.asdict(results), indent=1) + "\n")
    return results


def _torch_step(config: Config, options: argparse.Namespace, results: Results) -> Any | None:
    """The module that trains in PyTorch; None, with a remark, where it cannot be compared.

    Raises:
        UserError: the network is not written in PyTorch.
    """
    if not options.torch:
        return None
    if options.stage != "disc":
        raise UserError(f"--torch: only the disc stage is written in PyTorch, not {options.stage}; leave out --torch")
    if len(config.disc.outputs) > 1:
        raise UserError("--torch: the network in PyTorch outlines discs alone; add --set disc.outputs=[disc]")
    try:
        import torch
    except ModuleNotFoundError:
        results.remarks.append(INSTALL)
        return None
    from benchmarks import torch_train_step

    if _torch_device() == "cuda" and not torch.cuda.is_available():
        results.remarks.append(f"PyTorch sees no GPU where JAX does, and is not measured (version {torch.__version__})")
        return None
    try:
        torch_train_step.TorchDiscNet(config.disc.network, len(config.data.channels))
    except ValueError as error:
        raise UserError(f"--torch: {error}") from None
    torch.set_num_threads(cores())
    return torch_train_step


def _torch_device() -> str:
    """PyTorch's name for the device that JAX uses."""
    return "cuda" if jax.default_backend() == "gpu" else "cpu"


def cores() -> int:
    """Processor cores that this process may use; both frameworks compute with so many threads."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def setting(config: Config, options: argparse.Namespace, torch: Any | None) -> dict[str, str]:
    """What the figures depend on; sets the precision of float32 products on a GPU alike in both frameworks."""
    gpu = jax.default_backend() == "gpu"
    if gpu:
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if options.precision == "tf32" else "highest")
    settings = stage_settings(config, options.stage)
    network = stage_network(config, options.stage)
    shape = (1, *settings.training.crop, len(config.data.channels))
    forward, step = (count(network, shape) / 1e9 for count in (forward_flops, step_flops))
    params = jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
    found = {
        "device": f"{jax.devices()[0].device_kind}, {_processor()}, {cores()} cores",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", "flax", "optax"))
        + f", Python {platform.python_version()}",
        "configuration": f"{config.name}, stage {options.stage}, crop {' x '.join(map(str, settings.training.crop))}, "
        f"{len(config.data.channels)} channels, micro_batches {settings.training.micro_batches}, "
        f"remat {settings.training.remat}",
        "network": f"{sum(leaf.size for leaf in jax.tree.leaves(params))} parameters; convolutions and dense layers "
        f"of one box: {forward:.3f} GFLOP forward, {step:.3f} a step",
        "residents": f"{options.cases} random volumes",
        "float32 in JAX": f"jax_default_matmul_precision {jax.config.jax_default_matmul_precision}"  # type: ignore[attr-defined]
        if gpu else "IEEE single precision (CPU)",
    }  # fmt: skip
    if torch is not None:
        precision = torch.set_precision(gpu and options.precision == "tf32")
        found["versions"] += f", torch {version('torch')}"
        found["float32 in PyTorch"] = precision if gpu else "IEEE single precision (CPU)"
        found["PyTorch"] = (
            f"{torch.torch.get_num_threads()} threads, {options.layout} memory, torch.compile mode "
            f"{options.compile_mode}; ready batches: no augmentation in its step"
        )
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _product_rates(compute: str, options: argparse.Namespace, torch: Any | None, results: Results) -> dict[str, float]:
    """GFLOP/s of a large product of square matrices in each framework."""
    size = PRODUCT_SIZE.get(jax.default_backend(), 4096)
    rivals = [Contestant("JAX", product_rate_call(size, compute), jax.block_until_ready)]
    if torch is not None:
        device = _torch_device()
        rivals.append(
            Contestant("PyTorch", torch.product_call(size, compute, device), lambda _: torch.wait_for(device))
        )
    timings, broken = race(rivals, max(options.steps, 14))
    results.remarks += [f"product of {size} x {size} {compute} in {name}: {why}" for name, why in broken.items()]
    return {name: 2 * size**3 / timing.median_ms / 1e6 for name, timing in timings.items()}


def _measure_batch(config: Config, options: argparse.Namespace, torch: Any | None, results: Results) -> None:
    """Every program with one batch size and compute type, one kind of work after the other."""
    stage = stage_settings(config, options.stage)
    compute, batch, device = stage.training.compute, stage.training.batch_size, _torch_device()
    ours = FlaxTraining(config, options.stage, options.cases)
    theirs = {}
    if torch is not None:
        rates = jax.vmap(learning_rate_schedule(stage.optimizer, stage.training.steps))(
            jnp.arange(stage.training.steps)
        )
        for name, mode in ((EAGER, None), (COMPILED, options.compile_mode)):
            theirs[name] = torch.TorchTraining(
                stage, ours.params, ours.batch, jax.device_get(rates), device, options.layout, mode
            ).works
    slices = batch * (stage.training.crop[0] if len(stage.training.crop) == 3 else 1)
    limit = max(results.products[compute].values(), default=0.0)
    forward = forward_flops(ours.network, ours.shape)
    flops = {"augmentation": 0, "forward": forward, "forward+backward": step_flops(ours.network, ours.shape)}
    flops["step"] = flops["forward+backward"]
    for work in WORKS:
        print(f"  {work} ...", file=sys.stderr, flush=True)
        program = ours.program(work)
        rivals = [Contestant(OURS, program.call, jax.block_until_ready)]
        temporary = {OURS: program.temporary_mib}
        for name, works in theirs.items():
            if work in works:
                rivals.append(Contestant(name, works[work], lambda _: torch.wait_for(device)))
        timings, broken = race(rivals, options.steps)
        results.remarks += [f"{name}, {compute}, batch {batch}, {work}: {why}" for name, why in broken.items()]
        for name, timing in timings.items():
            if name != OURS:
                temporary[name] = torch.temporary_mib(theirs[name][work], device)
                results.ratios.append((compute, batch, work, name, timings[OURS].ratio(timing)))
            results.rows.append(_row((name, compute, batch, work), timing, slices, flops[work], limit, temporary[name]))
        if program.flops is not None and work in ("forward", "step"):
            results.setting[f"XLA's count of {work}, batch {batch}, {compute}"] = (
                f"{program.flops / 1e9:.2f} GFLOP; layers {flops[work] / 1e9:.2f}"
            )


def _row(
    place: tuple[str, str, int, str], timing: Timing, slices: int, flops: int, limit: float, temporary: float | None
) -> Row:
    low, high = timing.quartiles_ms
    rate = flops / timing.median_ms / 1e6 if flops else None
    share = rate / limit if rate is not None and limit else None
    return Row(*place, timing.median_ms, low, high, slices * 1000 / timing.median_ms, rate, share, temporary)


def report(results: Results) -> str:
    """The results as markdown."""
    lines = [f"- {name}: {value}" for name, value in results.setting.items()]
    for compute, rates in results.products.items():
        told = ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in rates.items())
        lines.append(f"- large matrix product, {compute}: {told}")
    lines += [f"- not measured: {remark}" for remark in results.remarks]
    lines += [
        "",
        "| compute | batch | work | framework | ms (quartiles) | slices/s | GFLOP/s | of a product | temporary MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results.rows:
        rate = "-" if row.gflops_per_s is None else f"{row.gflops_per_s:.1f}"
        share = "-" if row.share is None else f"{row.share:.1%}"
        memory = "-" if row.temporary_mib is None else f"{row.temporary_mib:.0f}"
        lines.append(
            f"| {row.compute} | {row.batch} | {row.work} | {row.framework} | {row.ms:.2f} ({row.low_ms:.2f} to "
            f"{row.high_ms:.2f}) | {row.slices_per_s:.1f} | {rate} | {share} | {memory} |"
        )
    if results.ratios:
        lines += [
            "",
            f"Time of PyTorch over time of {OURS}, above 1 where {OURS} is faster (median over the rounds):",
            "",
        ]
        lines += ["| compute | batch | work | framework | ratio |", "|---|---|---|---|---|"]
        lines += [f"| {compute} | {batch} | {work} | {name} | {ratio:.2f} |"
                  for compute, batch, work, name, ratio in results.ratios]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
