"""Programs for the scripts of `cloud/`: run with all that they say kept, and stand-ins written for a test."""

from __future__ import annotations

import subprocess
from pathlib import Path


def run(*command: str | Path, **more) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; its output is kept as text."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, **more)


def executable(path: Path, text: str) -> Path:
    """Writes a bash script that can be run; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/bash\n" + text, encoding="utf-8")
    path.chmod(0o755)
    return path
