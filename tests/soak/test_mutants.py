"""Small wrong edits made on purpose, a sample of them: the tests must notice nearly all.

mutmut makes the edits (a sign turned, a bound moved, an argument left out), one at a time, in a copy of the
repository; its settings stand in `pyproject.toml`. What the tests let through is printed with the difference it makes
to the source. `docs/reliability.md` says of which kinds those are. It ends when its time is over, however far it came:
every program that it starts is killed then, and what was found until then is what counts.
"""

from __future__ import annotations

import difflib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak

SAMPLE = 400
SECONDS = float(os.environ.get("IVDJAX_MUTANTS_SECONDS", 540))
"""For making the edits, for learning which test calls what, and for trying a sample; `_TOLD_S` more to hear of it."""
_TOLD_S = 20.0
LEAST_NOTICED = 0.88
"""Of the edits that change anything; measured: docs/reliability.md."""

COPIED = ("ivdjax", "tests", "configs", "benchmarks", "docs", "models", "cloud", "pyproject.toml", "README.md",
          "train.py", "infer.py", "evaluate.py", "cross_validate.py")  # fmt: skip
IDLE = re.compile(r",?\s*\b(dtype|strict)=[\w.]+|\.astype\((\w|\.)+\)|,\s*(?=\))")
"""What may be left out or changed without another result: kinds of numbers, checks of equal lengths."""

SHOW = (
    "import sys; from mutmut.mutation.diff_apply import find_mutant, get_diff_for_mutant\n"
    "for name in sys.argv[1:]: print('# ' + name); print(get_diff_for_mutant(name, path=find_mutant(name).path))"
)


class Mutmut:
    """mutmut in a copy of the repository, as long as there is time; what it has found until then stays in its files."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._end_s = folder, time.monotonic() + SECONDS

    def __call__(self, *arguments: str, least_s: float = 0.0) -> str:
        """What it says; "" where its time was over before it came to an end."""
        command = [sys.executable, *(arguments if arguments[0] == "-c" else ("-m", "mutmut", *arguments))]
        with subprocess.Popen(command, cwd=self._folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              start_new_session=True) as process:  # fmt: skip
            try:
                said, _ = process.communicate(timeout=max(self._end_s - time.monotonic(), least_s))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return ""
        assert process.returncode == 0, said[-3000:]
        return said

    def statuses(self) -> dict[str, str]:
        """What became of each edit."""
        said = self("results", "--all", "true", least_s=_TOLD_S)
        lines = [line.strip().rsplit(": ", 1) for line in said.splitlines()]
        return {line[0]: line[1] for line in lines if len(line) == 2}


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


@pytest.mark.parametrize(
    ("old", "new", "answer"),
    [
        ("a = b + 1", "a = b - 1", True),
        ("return f(a, order=1)", "return f(a, )", True),
        ("a = np.zeros(n, dtype=int)", "a = np.zeros(n, dtype=None)", False),
        ("a = np.zeros(n, dtype=int)", "a = np.zeros(n, )", False),
        ("zip(a, b, strict=True)", "zip(a, b, strict=False)", False),
        ('word = "left"', 'word = "LEFT"', False),
        ('word = "left"', 'word = "XXleftXX"', False),
    ],
)
def test_an_edit_of_words_or_types_is_told_from_one_that_matters(old, new, answer):
    assert matters(f"--- a\n+++ b\n@@ -1 +1 @@\n-    {old}\n+    {new}\n") is answer


def test_nearly_all_wrong_edits_are_noticed(root, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ["JAX_COMPILATION_CACHE_DIR"])
    for name in COPIED:
        source = root / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    mutmut = Mutmut(tmp_path)
    mutmut("run", "ivdjax.learning.losses.*__mutmut_1")  # makes all edits, and learns which test calls which function
    seed = int(os.environ.get("IVDJAX_SOAK_SEED", random.SystemRandom().randrange(10**6)))
    edits = sorted(mutmut.statuses())
    if len(edits) < SAMPLE:
        pytest.skip(f"only {len(edits)} edits could be made within {SECONDS:g} s")
    sample = random.Random(seed).sample(edits, SAMPLE)
    mutmut("run", *sample)
    found = {name: status for name, status in mutmut.statuses().items() if name in set(sample)}
    kept = [name for name, status in found.items() if status in ("survived", "no tests")]
    shown = mutmut("-c", SHOW, *kept, least_s=_TOLD_S) if kept else ""
    differences = dict(part.split("\n", 1) for part in re.split(r"(?m)^# ", shown) if part)
    survivors = {name: text for name, text in differences.items() if matters(text)}
    tried = sum(status != "not checked" for status in found.values()) - len(kept) + len(survivors)
    print(f"\nseed {seed}: {dict(Counter(found.values()))}; {len(survivors)} of {tried} edits that matter went by")
    print("\n".join(f"{name}\n{text}" for name, text in survivors.items()))
    if tried < SAMPLE // 4:
        pytest.skip(f"only {tried} edits could be tried within {SECONDS:g} s")
    assert 1 - len(survivors) / tried >= LEAST_NOTICED, f"seed {seed}: {sorted(survivors)}"
