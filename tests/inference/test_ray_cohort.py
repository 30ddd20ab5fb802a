"""What an actor on a cluster does with a case, as far as it needs no Ray; the rest is in tests/soak."""

from __future__ import annotations

import subprocess
import sys

import pytest

HUNGRY = """
import sys
import numpy as np
from ivdjax.inference.ray_cohort import _Worker
from ivdjax.inference.worker import Pipeline

step = lambda: (lambda mebibytes: np.ones(mebibytes * 2**20, np.uint8).size)
worker = _Worker(Pipeline(lambda: int, step, lambda: int), None, float(sys.argv[1]))
assert worker.ready(None) == ("", "")
for case, mebibytes in (("large", 512), ("small", 8)):
    result, _ = worker.work(case, mebibytes)
    print(case, result.status, result.reason)
"""


def hungry(gibibytes: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", HUNGRY, gibibytes], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux alone")
def test_a_case_that_takes_more_memory_than_it_may_fails_alone():
    large, small = hungry("0.25")
    assert large.startswith("large failed") and "memory" in large and small.strip() == "small done"
    assert [line.strip() for line in hungry("0")] == ["large done", "small done"], "0 is no limit"
