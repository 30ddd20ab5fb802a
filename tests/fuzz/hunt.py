"""The hunt: draws inputs, has them read in a worker under a time limit, and keeps what went wrong."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.fuzz import worker
from tests.fuzz.mutation import Mutator
from tests.fuzz.sample import Sample, store
from tests.fuzz.series import WORDS
from tests.fuzz.targets import SECRET

INPUT_LIMIT_S = 10.0
WAITING_LIMIT_S = 60.0
"""What reading an input may take of a processor, and by the clock."""

_START_LIMIT_S = 120.0
_KEPT_ALIKE = 2
"""Findings of one place in the code that are stored; further ones are counted."""


@dataclass
class Tally:
    """What came of the inputs: how many by outcome and by kind, and the findings' folders by their place."""

    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    findings: dict[str, list[Path]] = field(default_factory=dict)
    alike: Counter[str] = field(default_factory=Counter)

    def words(self) -> str:
        """For a terminal."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.kinds.items()))
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        return f"{sum(self.kinds.values())} inputs ({kinds}): {outcomes or 'none'}"


class Reader:
    """A worker that is started again whenever it dies or hangs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.outside = folder / "outside"
        self.outside.mkdir(parents=True)
        (self.outside / "secret.raw").write_bytes(bytes([SECRET]) * 200_000)
        self._process: BaseProcess | None = None
        self._line: Connection | None = None
        self._count = 0

    def read(self, sample: Sample) -> tuple[str, str]:
        """(outcome, reason) of an input: "read", "refused", or "finding" with a reason."""
        self._count += 1
        home = self._folder / "inputs" / str(self._count % 50)
        shutil.rmtree(home, ignore_errors=True)
        try:
            store(sample, home)
        except (OSError, ValueError):  # a name that no file can have
            return "no input", ""
        if self._process is None:
            self._start()
        assert self._line is not None and self._process is not None
        try:
            self._line.send(str(home))
            if not self._answers():
                self.stop(hanging=True)
                return "finding", f"hangs: no end after {INPUT_LIMIT_S:g} s of its own, or {WAITING_LIMIT_S:g} s in all"
            answer: tuple[str, str] = self._line.recv()
        except (EOFError, OSError):
            self._process.join(5)
            code = self._process.exitcode
            self.stop()
            return "finding", f"the process died: exit code {code}"
        strays = [path.name for path in self._folder.iterdir() if path.name not in ("inputs", "outside", "log", "made")]
        strays += [path.name for path in self.outside.iterdir() if path.name != "secret.raw"]
        if strays:
            return "finding", f"files outside of the output: {strays}"
        shutil.rmtree(home, ignore_errors=True)
        return answer

    def _answers(self) -> bool:
        """Waits for the worker; false where it has had its time. What other programs take does not count."""
        assert self._line is not None and self._process is not None and self._process.pid is not None
        begin, spent_s = time.monotonic(), _cpu_s(self._process.pid)
        while not self._line.poll(0.25):
            waited = time.monotonic() - begin > WAITING_LIMIT_S
            if waited or _cpu_s(self._process.pid) - spent_s > INPUT_LIMIT_S:
                return self._line.poll()
        return True

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._line, far = context.Pipe()
        arguments = (far, self._folder / "log", self.outside, WORDS)
        self._process = context.Process(target=worker.serve, args=arguments, daemon=True)
        self._process.start()
        far.close()
        if not self._line.poll(_START_LIMIT_S):
            raise RuntimeError("the reading process does not start")
        self._line.recv()

    def stop(self, hanging: bool = False) -> None:
        """Ends the worker; one that hangs is killed."""
        process, line, self._process, self._line = self._process, self._line, None, None
        if line is not None:
            line.close()
        if process is not None:
            process.join(0.0 if hanging else 5.0)
            process.kill()
            process.join()


def _cpu_s(pid: int) -> float:
    """Processor seconds of a process; endless where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("inf")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def hunt(mutator: Mutator, reader: Reader, seed: str, until: float, findings: Path, tally: Tally, first: int = 0,
         kinds: Sequence[str] = ()) -> int:  # fmt: skip
    """Reads inputs number `first` and further until a moment of `time.monotonic`; gives the number that comes next."""
    number = first
    while time.monotonic() < until:
        sample = mutator.draw(random.Random(f"{seed} {number}"), kinds)
        outcome, reason = reader.read(sample)
        number += 1
        if outcome == "no input":
            continue
        tally.kinds[sample.kind] += 1
        tally.outcomes[outcome] += 1
        if reason:
            keep(sample, reason, f"seed {seed}, input {number - 1}", findings, tally)
    return number


def keep(sample: Sample, reason: str, origin: str, findings: Path, tally: Tally) -> None:
    """Stores a finding with its reason, unless enough of its like are stored already."""
    place = place_of(sample.kind, reason)
    tally.alike[place] += 1
    kept = tally.findings.setdefault(place, [])
    if len(kept) >= _KEPT_ALIKE:
        return
    folder = findings / f"{place}-{len(kept) + 1}"
    shutil.rmtree(folder, ignore_errors=True)
    store(sample, folder, f"{origin}\n\n{reason}\n")
    kept.append(folder)
    print(f"finding: {folder}\n  {reason.strip().splitlines()[-1][:300]}", flush=True)


def place_of(kind: str, reason: str) -> str:
    """A name for findings that are alike: the kind, the error and the last line of this project's code."""
    lines = re.findall(r'File "[^"]*?/(ivdjax/[^"]+)", line (\d+)', reason)
    words = re.sub(r"[^A-Za-z]+", "_", reason.strip().splitlines()[-1].partition(":")[0])[-40:]
    where = f"{Path(lines[-1][0]).stem}_{lines[-1][1]}" if lines else "x"
    return f"{kind}-{words}-{where}"
