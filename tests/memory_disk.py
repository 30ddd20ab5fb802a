"""A small disk in memory, for tests that fill it up or take it away."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted(folder: Path, mebibytes: int, *options: str) -> Iterator[Path]:
    """A disk of its own in a folder, in memory.

    Raises:
        PermissionError: only root may mount.
    """
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", ",".join((f"size={mebibytes}m", *options)), "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(f"a disk in memory cannot be mounted here (only root may): {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
