"""Memory that is freed stays with the process, whichever thread allocates next."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
from ivdjax.commands.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def fresh_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(200 << 20)  # filled with zeros, then freed
    pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

pages = []
for _ in range(2):
    thread = threading.Thread(target=fresh_pages)
    thread.start()
    thread.join()
print(*pages)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of glibc")
@pytest.mark.parametrize("how", ["kept", "given back"])
def test_a_second_large_block_needs_fresh_pages_only_where_the_first_was_given_back(how):
    printed = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True).stdout
    first, second = map(int, printed.split())
    assert first > 10 * second if how == "kept" else second > first / 2
