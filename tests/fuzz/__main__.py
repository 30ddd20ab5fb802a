"""Hunts for inputs that end in anything but success or a documented error.

    make fuzz [SECONDS=300] [SEED=N] [INPUT=DIR]

Valid images, DICOM series, models, configurations, tables and results are made, damaged and read, thousands a minute;
now and then the whole `infer.py` works on a cohort of them. What goes wrong is stored with its reason; the exit code is
then 1. With --input, one stored finding is read again.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.cohort import Cohort
from tests.fuzz.corpus import build
from tests.fuzz.hunt import Reader, Tally, hunt
from tests.fuzz.mutation import Mutator
from tests.fuzz.sample import load

ROOT = Path(__file__).resolve().parents[2]
_BETWEEN_COHORTS_S = 40.0


def main() -> int:
    """Parses the options and hunts; 0 without a finding, 1 with one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long (300)")
    parser.add_argument("--seed", default="", help="the same inputs again; drawn anew where it is not given")
    parser.add_argument("--findings", type=Path, default=ROOT / "out" / "fuzz", help="where findings are stored")
    parser.add_argument("--input", type=Path, help="a stored finding, to be read again")
    parser.add_argument("--kinds", default="", help="of these alone, parted by commas")
    parser.add_argument("--no-cohorts", action="store_true", help="leave infer.py out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ivdjax-fuzz-") as name:
        home = Path(name).resolve()
        if options.input is not None:
            return _again(options.input, home)
        return _hunt(options, home, options.seed or str(secrets.randbelow(10**6)))


def _again(path: Path, home: Path) -> int:
    sample = load(path)
    if sample.kind == "cohort":
        reason = Cohort(home / "cohort", ROOT).run(sample)
        outcome = "finding" if reason else "read"
    else:
        reader = Reader(home / "reading")
        outcome, reason = reader.read(sample)
        reader.stop()
    print(f"{path}: {outcome}\n{reason}")
    return int(outcome == "finding")


def _hunt(options: argparse.Namespace, home: Path, seed: str) -> int:
    begin = time.monotonic()
    end = begin + options.seconds
    reader = Reader(home / "reading")
    (home / "made").mkdir()
    mutator = Mutator(build(home / "made", ROOT), str(reader.outside))
    cohort = Cohort(home / "cohort", ROOT)
    kinds = [kind for kind in options.kinds.split(",") if kind]
    tally, number, turn = Tally(), 0, 0
    print(f"fuzz: seed {seed}, {options.seconds:g} s", flush=True)
    try:
        while time.monotonic() < end:
            pause = end if options.no_cohorts else min(end, time.monotonic() + _BETWEEN_COHORTS_S)
            number = hunt(mutator, reader, seed, pause, options.findings, tally, number, kinds)
            if not options.no_cohorts and time.monotonic() < end:
                cohort.hunt(mutator, f"{seed} cohort {turn}", options.findings, tally)
                turn += 1
    finally:
        reader.stop()
    print(f"{tally.words()}; {turn} cohorts; {time.monotonic() - begin:.0f} s, seed {seed}")
    for place, folders in tally.findings.items():
        print(f"finding ({tally.alike[place]} alike): make fuzz INPUT={folders[0]}")
    return int(bool(tally.findings))


if __name__ == "__main__":
    sys.exit(main())
