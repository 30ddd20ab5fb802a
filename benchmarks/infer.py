"""Wall time and peak memory of `infer.py` on one case, with an empty and with a filled compilation cache.

    python benchmarks/infer.py --model models/phantom_dixon [--repeats N] [INPUT ...]

Without INPUT a synthetic case of 36 x 256 x 256 voxels with the model's channels is made. Peak memory is the largest
resident set of any one process (the worker's, in practice).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Measures and prints a table in markdown; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("inputs", nargs="*", metavar="INPUT")
    parser.add_argument("--model", required=True)
    parser.add_argument("--repeats", type=int, default=2, help="runs with a filled cache (default: 2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ivdjax-benchmark-") as place:
        folder = Path(place)
        inputs = options.inputs or [str(_phantom(folder / "cases", options.model))]
        print("| run | wall s | CPU s | peak MiB |\n|---|---|---|---|", flush=True)
        names = ["cold (empty compilation cache)", *["filled cache"] * options.repeats]
        for name in names:
            wall_s, cpu_s, peak_mib = _measure(folder, options.model, inputs)
            print(f"| {name} | {wall_s:.1f} | {cpu_s:.1f} | {peak_mib:.0f} |", flush=True)
    return 0


def _phantom(folder: Path, model: str) -> Path:
    sys.path.insert(0, str(ROOT))
    from ivdjax.data.phantom import PhantomOptions, PhantomSet, write_phantoms
    from ivdjax.workflows.model import read_model

    return write_phantoms(folder, PhantomSet(1, 900, options=PhantomOptions(channels=read_model(model).channels)))


def _measure(folder: Path, model: str, inputs: list[str]) -> tuple[float, float, float]:
    """Wall and CPU seconds and peak MiB of one run, which must succeed."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    command = [sys.executable, "infer.py", "--model", model, "--output", str(folder / "out"), *inputs]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    wall_s = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall_s, cpu_s, after.ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
