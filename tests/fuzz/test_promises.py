"""What SECURITY.md promises of inference, heard from within every Python process that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.dicom_series import sagittal_affine, write_series
from tests.untrained_model import write_untrained

_WATCH = """
import os, sys
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_NAMED = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect", "socket.getaddrinfo",
          "socket.sendto", "urllib.Request", "http.client.connect")
_CHANGED = ("os.mkdir", "os.rename", "os.remove", "os.symlink", "os.link")

def _hear(event, arguments):
    if event in _NAMED:
        word = event + " " + repr(arguments)[:200]
    elif event == "open" and isinstance(arguments[0], (str, bytes)) and arguments[2] & _WRITING:
        word = "write " + os.path.abspath(os.fsdecode(arguments[0]))
    elif event in _CHANGED and isinstance(arguments[0], (str, bytes, os.PathLike)):
        word = "write " + os.path.abspath(os.fsdecode(arguments[0]))
    else:
        return
    os.write(_LOG, (word + "\\n").encode())

_LOG = os.open(os.environ["IVDJAX_TEST_WATCH"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
sys.addaudithook(_hear)
"""


@pytest.mark.slow
def test_inference_opens_no_connection_starts_no_program_and_writes_into_its_output_alone(root, tmp_path):
    """Beside the output only caches are written: of compiled programs, and of the system's fonts."""
    model = write_untrained(tmp_path / "model", ["t2"])
    array = np.random.default_rng(0).integers(0, 900, (40, 48, 7)).astype(np.uint16)
    write_series(tmp_path / "data" / "S1" / "t2", array, sagittal_affine())
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(_WATCH)
    heard, output, cache = tmp_path / "heard.txt", tmp_path / "OUT", tmp_path / "cache"
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path / "watch"), "IVDJAX_TEST_WATCH": str(heard), "XDG_CACHE_HOME": str(cache),
        "MPLCONFIGDIR": str(cache), "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    command = [sys.executable, str(root / "infer.py"), "--model", str(model), "--output", str(output),
               str(tmp_path / "data")]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    words = heard.read_text().splitlines()
    allowed = (str(output), str(cache), os.environ["JAX_COMPILATION_CACHE_DIR"], os.devnull, "/proc/self/")
    written = [Path(word.removeprefix("write ")) for word in words if word.startswith("write ")]
    assert any(path.is_relative_to(output) for path in written)  # the watch hears the worker, too
    assert [path for path in written if not str(path).startswith(allowed)] == []
    # matplotlib asks the system for its fonts once, and keeps the answer.
    others = [word for word in words if not word.startswith(("write ", "subprocess.Popen ('fc-list'"))]
    assert others == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["OUT", "cache", "data", "heard.txt", "model", "watch"]
