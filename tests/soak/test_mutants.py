"""Small wrong edits made on purpose, a sample of them: the tests must notice nearly all.

`mutants.py` makes and tries them. What the tests let through is printed with the difference it makes to the source;
`docs/reliability.md` says of which kinds those are. It ends when its time is over, however far it came, and what was
found until then is what counts.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.soak.mutants import files, matters, near_tests_of

pytestmark = pytest.mark.soak

SECONDS = float(os.environ.get("IVDJAX_MUTANTS_SECONDS", 540))
FEWEST = 40
"""Edits of which a share can be told."""
LEAST_NOTICED = 0.85
"""Of the edits that change anything; measured: docs/reliability.md."""


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


def test_every_file_has_tests_of_its_own(root, monkeypatch):
    monkeypatch.chdir(root)
    assert len(files()) > 30
    for path in files():
        assert near_tests_of(path) and all(Path(name).is_file() for name in near_tests_of(path)), path


def test_nearly_all_wrong_edits_are_noticed(root):
    seed = int(os.environ.get("IVDJAX_SOAK_SEED", random.SystemRandom().randrange(10**6)))
    command = [sys.executable, "-m", "tests.soak.mutants", str(SECONDS), str(seed)]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    tried = [json.loads(line) for line in run.stdout.splitlines()]
    went_by = [edit for edit in tried if edit["outcome"] == "survived"]
    print(f"\nseed {seed}: {len(went_by)} of {len(tried)} edits went by")
    print(json.dumps(Counter(edit["file"] for edit in tried)))
    print("\n".join(edit["difference"] for edit in went_by))
    if len(tried) < FEWEST:
        pytest.skip(f"only {len(tried)} edits could be tried within {SECONDS:g} s")
    assert 1 - len(went_by) / len(tried) >= LEAST_NOTICED, f"seed {seed}: {len(went_by)} of {len(tried)} went by"
