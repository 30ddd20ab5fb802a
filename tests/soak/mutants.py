"""Small wrong edits, one at a time, each tried by the tests of its own file in a copy of one warm process.

mutmut's library makes the edits; they are tried here and not by its command, which runs all tests three times before
the first edit. The process that forks has imported what is slow (JAX, SciPy, SimpleITK) and nothing of this project,
so that an edit costs its file's tests and little more; the edited source is given to Python in memory, and no file is
changed. Files come in an order drawn by chance, a few edits of each: on a busy machine fewer files are reached.

As a program: `python -m tests.soak.mutants SECONDS SEED [FILE ...]`; a line of JSON for each edit.
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

SAMPLE = 400
"""Edits in all, where time allows: of each file a share by its length."""
FEWEST = 4
"""Edits of a file, however short it is."""
WARM = ("jax.numpy", "flax.linen", "optax", "scipy.ndimage", "scipy.optimize", "scipy.spatial", "scipy.stats",
        "nibabel", "SimpleITK", "yaml", "hypothesis", "hypothesis.extra.numpy")  # fmt: skip
FILES = ("discs/*.py", "imaging/geometry.py", "data/preparation.py", "learning/losses.py", "reports/tables.py")
"""Within `ivdjax/`; the tests of `discs/x.py` are `tests/discs/test_x.py` and what stands beside it here."""
BESIDE = {
    "discs/alignment.py": ("discs/test_degeneration.py",),
    "discs/anatomy.py": ("discs/test_levels.py", "discs/test_spine_model.py", "discs/test_signs.py"),
    "discs/canal.py": ("discs/test_degeneration.py",),
    "discs/disc_axes.py": ("discs/test_section.py", "discs/test_landmarks.py", "discs/test_measures.py"),
    "discs/levels.py": ("discs/test_numbering.py",),
    "discs/evidence.py": ("discs/test_numbering.py",),
    "discs/spine_model.py": ("discs/test_levels.py", "discs/test_numbering.py"),
    "discs/standard_error.py": ("discs/test_wear.py",),
    "discs/tissue_signal.py": ("discs/test_degeneration.py",),
    "discs/vertebra.py": ("discs/test_degeneration.py",),
}
STARTED: set[int] = set()
"""Copies of this process that are at work."""
IDLE = re.compile(r",?\s*\b(dtype|strict)=[\w.]+|\.astype\((\w|\.)+\)|,\s*(?=\))")
"""What may be left out or changed without another result: kinds of numbers, checks of equal lengths."""


def matters(difference: str) -> bool:
    """Whether an edit can change a result: not one of words alone, nor of a number's type or a check of lengths."""
    old, new = (
        " ".join(line[1:].strip() for line in difference.splitlines() if re.match(rf"\{sign}(?!\{sign})", line))
        for sign in "-+"
    )
    words = "".join(new[b1:b2] + old[a1:a2]
                    for kind, a1, a2, b1, b2 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
                    if kind != "equal")  # fmt: skip
    return IDLE.sub("", old) != IDLE.sub("", new) and old.lower() != new.lower() and words != "XXXX"


@dataclass(frozen=True)
class Edit:
    """A wrong edit of one file: its whole source with it, and the difference."""

    path: Path
    source: str
    difference: str


def edits(path: Path, rng: random.Random) -> Iterator[Edit]:
    """All edits of a file that can matter, in an order drawn by chance."""
    from mutmut.mutation.file_mutation import create_mutations

    code = path.read_text("utf-8")
    module, mutations, *_ = create_mutations(str(path), code)
    for mutation in rng.sample(mutations, len(mutations)):
        if mutation.contained_by_top_level_function is None:
            continue
        source = module.deep_replace(mutation.original_node, mutation.mutated_node).code
        difference = "\n".join(difflib.unified_diff(code.splitlines(), source.splitlines(), str(path), str(path),
                                                    lineterm="", n=1))  # fmt: skip
        if matters(difference):
            yield Edit(path, source, difference)


class _Edited(SourceFileLoader, MetaPathFinder):
    """Gives Python one module with the edit, as if its file held it."""

    def __init__(self, edit: Edit) -> None:
        super().__init__(".".join(edit.path.with_suffix("").parts), str(edit.path.resolve()))
        self._source = edit.source

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, name: str) -> object:
        return compile(self._source, self.path, "exec")


@dataclass(eq=False)
class _QuickestFirst:
    """A pytest plugin: what the tests took is written down once, and later runs begin with the quickest."""

    seconds: dict[str, float] = field(default_factory=dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.seconds.get(item.nodeid, 0.0))


def files() -> list[Path]:
    """The files in which edits are made; the working folder is the repository."""
    return sorted(path for name in FILES for path in Path("ivdjax").glob(name) if path.name != "__init__.py")


def near_tests_of(path: Path) -> list[str]:
    """The test files that mirror a file of `ivdjax/`, or stand for it."""
    inside = path.relative_to("ivdjax")
    mirror = Path("tests") / inside.parent / f"test_{inside.name}"
    beside = [f"tests/{name}" for name in BESIDE.get(inside.as_posix(), ())]
    return [str(mirror)] * mirror.exists() + beside


def start(work: Callable[[], int], output: Path, cpu_s: float) -> int:
    """Does some work in a copy of this process, which ends after so much time of the CPU; its id."""
    pid = os.fork()
    if pid:
        STARTED.add(pid)
        return pid
    code = 70
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (round(cpu_s) + 1,) * 2)
        with output.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended() -> tuple[int, int, resource.struct_rusage]:
    """Waits for one of the copies: its id, its status (0: all well) and what it used."""
    pid, status, used = os.wait3(0)
    STARTED.discard(pid)
    return pid, status, used


def run_tests(tests: Sequence[str], folder: Path, order: _QuickestFirst, edit: Edit | None = None) -> int:
    """pytest's exit code: 0 where all tests pass."""
    if edit is not None:
        sys.meta_path.insert(0, _Edited(edit))
    options = ["-x", "-m", "not soak", "-p", "no:cacheprovider", "--basetemp", str(folder),
               "-W", "ignore::pytest.PytestAssertRewriteWarning"]  # fmt: skip
    code = int(pytest.main([*options, *tests], plugins=[order]))
    if edit is None:
        Path(f"{folder}.json").write_text(json.dumps(order.seconds), "utf-8")
    return code


def try_file(path: Path, number: int, rng: random.Random, folder: Path, workers: int) -> Iterator[dict[str, str]]:
    """What becomes of some edits of a file: noticed, or survived.

    Raises:
        RuntimeError: its tests fail without any edit.
    """
    tests, base = near_tests_of(path), folder / path.stem
    log = base.with_suffix(".log")
    start(lambda: run_tests(tests, base, _QuickestFirst()), log, 600)
    _, status, used = ended()
    if status:
        raise RuntimeError(f"{path}: its tests fail without any edit: {log.read_text('utf-8')[-3000:]}")
    order = _QuickestFirst(json.loads(Path(f"{base}.json").read_text("utf-8")))
    cpu_s = 3 * (used.ru_utime + used.ru_stime) + 5
    running: dict[int, Edit] = {}

    def judged() -> dict[str, str]:
        pid, status, _ = ended()
        edit = running.pop(pid)
        return {"file": str(path), "outcome": "noticed" if status else "survived", "difference": edit.difference}

    for index, edit in zip(range(number), edits(path, rng), strict=False):
        if len(running) == workers:
            yield judged()
        where = folder / f"{path.stem}_{index}"
        pid = start(
            lambda edit=edit, where=where: run_tests(tests, where, order, edit), where.with_suffix(".log"), cpu_s
        )
        running[pid] = edit
    while running:
        yield judged()


def main(seconds: float, seed: int, chosen: Sequence[str] = ()) -> None:
    """Tries edits until the time is over, and prints what became of each."""
    warnings.simplefilter("ignore")  # JAX warns of every fork; nothing of it has run here yet
    importlib.import_module("tests.conftest")  # the environment of all tests
    for name in WARM:
        importlib.import_module(name)
    rng, workers = random.Random(seed), min(os.cpu_count() or 1, 2)
    paths = [Path(name) for name in chosen] or files()
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in paths}
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ending_after(seconds):
        for path in rng.sample(paths, len(paths)):
            number = max(FEWEST, round(SAMPLE * lengths[path] / sum(lengths.values())))
            for found in try_file(path, number, rng, Path(folder), workers):
                print(json.dumps(found | {"after_s": round(time.monotonic() - began_s)}), flush=True)


class _TimeIsOver(Exception):
    pass


@contextmanager
def ending_after(seconds: float) -> Iterator[None]:
    """Ends what is under way, and the processes that it has started, when the time is over; that is no error."""

    def end(*_: object) -> None:
        raise _TimeIsOver

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except _TimeIsOver:
        for pid in STARTED:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
