"""Wall time, CPU time and peak memory of `infer.py` by phase: a cold start, a warm one, and a cohort.

    python benchmarks/infer.py --model models/dixon [--cases N] [INPUT ...]

Without INPUT synthetic cases of 36 x 256 x 256 voxels with the model's channels are made. The first case is worked on
with an empty compilation cache, then with the cache that this filled; then all of them, or with one case none.

The command is run as a user runs it, in a process of its own; the phases are what its worker reports of each case.
They overlap, so that seconds of phases add up to more than those of the command: the first case is read while the
worker starts, and in a cohort one case is read and one written while another is computed. CPU seconds of a phase are
the worker's meanwhile, whatever it did; peak memory is the worker's up to the end of the phase.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PHASES = ("start", "read", "compute", "write")
RECORDED = "--recorded"
"""First argument of the process that runs the command and keeps what the worker reports."""


def main() -> int:
    """Measures and prints a table in markdown; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help="case folders")
    parser.add_argument("--model", required=True)
    parser.add_argument("--cases", type=int, default=20, help="synthetic cases, where there is no INPUT (default: 20)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ivdjax-benchmark-") as place:
        folder = Path(place)
        inputs = options.inputs or _phantoms(folder / "cases", options.model, options.cases)
        print(f"```\npython benchmarks/infer.py {' '.join(sys.argv[1:])}\n```\n")
        print("| run | phase | wall s | CPU s | peak MiB |\n|---|---|---|---|---|", flush=True)
        _measure(folder, "cold (empty compilation cache)", options.model, inputs[:1])
        _measure(folder, "warm (filled cache)", options.model, inputs[:1])
        if len(inputs) > 1:
            _measure(folder, f"warm, {len(inputs)} cases", options.model, inputs)
    return 0


def _phantoms(folder: Path, model: str, cases: int) -> list[str]:
    sys.path.insert(0, str(ROOT))
    from ivdjax.data.phantom import PhantomOptions, PhantomSet, write_phantoms
    from ivdjax.model.model import read_model

    options = PhantomOptions(channels=read_model(model).channels)
    write_phantoms(folder, PhantomSet(cases, 900, options=options))
    return [str(path) for path in sorted(folder.iterdir()) if path.is_dir()]


@dataclass(frozen=True)
class Measured:
    """What one run of the command took.

    Attributes:
        wall_s: from the command's start to its end.
        cpu_s: of the command and its worker, on all cores.
        costs: case by case, what the worker reports of each phase.
    """

    wall_s: float
    cpu_s: float
    costs: list[dict[str, dict[str, float]]]

    @property
    def peak_mib(self) -> float:
        """The worker's peak resident memory."""
        return max(cost["peak_mib"] for case in self.costs for cost in case.values())


def measured(folder: Path, model: str, inputs: list[str]) -> Measured:
    """Runs the command in a process of its own, with the compilation cache of earlier runs in the same folder.

    Raises:
        CalledProcessError: the command failed.
    """
    shutil.rmtree(folder / "out", ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    command = [sys.executable, str(Path(__file__).resolve()), RECORDED, str(folder / "costs.json")]
    command += ["--model", model, "--output", str(folder / "out"), *inputs]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall_s = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(wall_s, cpu_s, json.loads((folder / "costs.json").read_text()))


def _measure(folder: Path, name: str, model: str, inputs: list[str]) -> None:
    """Prints the rows of one run of the command, which must succeed."""
    run = measured(folder, model, inputs)
    print(f"| {name} | **whole command** | {run.wall_s:.1f} | {run.cpu_s:.1f} | {run.peak_mib:.0f} |")
    if len(inputs) > 1:
        start_s = run.costs[0]["start"]["wall_s"]
        print(f"| | a case, the worker's start left out | {(run.wall_s - start_s) / len(inputs):.2f} | | |")
    for phase, of_phase in _by_phase(run.costs):
        wall, cpu = mean(cost["wall_s"] for cost in of_phase), mean(cost["cpu_s"] for cost in of_phase)
        peak_mib = max(cost["peak_mib"] for cost in of_phase)
        mean_of = f", mean of {len(of_phase)}" if len(of_phase) > 1 else ""
        print(f"| | {phase}{mean_of} | {wall:.2f} | {cpu:.2f} | {peak_mib:.0f} |")
    sys.stdout.flush()


def _by_phase(costs: list[dict[str, dict[str, float]]]) -> Iterator[tuple[str, list[dict[str, float]]]]:
    for phase in PHASES:
        of_phase = [case[phase] for case in costs if phase in case]
        if of_phase:
            yield phase, of_phase


def _run_recorded(path: Path) -> None:
    """Runs infer.py in this process, and stores each case's costs by phase."""
    sys.path.insert(0, str(ROOT))
    from ivdjax.inference import infer, supervisor

    costs: list[dict[str, Any]] = []

    def recorded(*arguments: Any) -> Iterator[supervisor.Result]:
        for result in supervisor.run_cohort(*arguments):
            costs.append({phase: asdict(cost) for phase, cost in result.costs.items()})
            yield result

    infer.run_cohort = recorded  # type: ignore[attr-defined]
    try:
        runpy.run_path(str(ROOT / "infer.py"), run_name="__main__")
    finally:
        path.write_text(json.dumps(costs))


if __name__ == "__main__":
    if sys.argv[1:2] == [RECORDED]:
        recorded_to, sys.argv = Path(sys.argv[2]), ["infer.py", *sys.argv[3:]]
        _run_recorded(recorded_to)
    sys.exit(main())
