"""A run folder that lives in a bucket: the run works in a local folder, and what it makes is copied up behind it.

What is in the bucket at any moment is enough to go on from, wherever a push was cut short
(`ivdjax.training.jobs.copied_files`).

Prepared cases and phantoms (`cache/`, `data/`) stay on the machine. They are no part of a resume, since any machine
makes the same ones again from the images; they are larger than all the rest; and whoever wants a model in a bucket need
not want patients' images there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ivdjax.imaging.folders import alone, write_whole
from ivdjax.training.jobs.bucket import HALF_WRITTEN, is_remote, make_folder, open_place, remote_files
from ivdjax.training.jobs.copied_files import CopiedFiles
from ivdjax.volume import UserError

MARK = "mirror.json"
"""A file of the bucket alone: which run this is, so that no machine goes on with its copy of another one."""

STALL_S = 300.0
"""A push that moves nothing for so long is given up at the end of a run."""

SETTLE_S = 60.0
"""How long a push waits for a checkpoint that is being written."""

_QUIET_S = 1.0
_RETRY_S = 5.0


@contextmanager
def mirrored(output: str, part: str = "", scratch: Path | None = None) -> Iterator[tuple[Path, Mirror]]:
    """A local folder that stands for the remote `output` while the block runs, and its mirror.

    On entering, the bucket's run is copied down where it is further than the local copy. On leaving, everything is
    copied up; after an exception too, which a failure of the mirror then does not replace.

    Args:
        output: such as `gs://bucket/run`.
        part: the folder in it that is mirrored alone, such as `fold_0`; "": the whole.
        scratch: holds the local copy; by default a folder in `${TMPDIR:-/tmp}` whose name follows from `output`, so
            that the same command on the same machine finds it again.

    Raises:
        UserError: an unknown scheme, a package is missing, the bucket cannot be reached or written, its run is another
            than the one in `scratch`, or another process is at work there.
        OSError: at the end, not everything could be copied up; the message names the local folder.
    """
    output = output.rstrip("/")
    place, home = open_place(f"{output}/{part}" if part else output), scratch or default_scratch(output)
    state = home / "mirror" / (part or "whole")
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if home.stat().st_uid != os.getuid():
            raise UserError(f"{home} belongs to another user; set TMPDIR to a folder of your own")
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the local folder {home} cannot be made ({error}); set TMPDIR to another disk") from error
    with alone(state) as undisturbed:
        if not undisturbed:
            raise UserError(f"another process on this machine is at work on {place}, in {home}; wait for it")
        mirror = Mirror(place, home / "run" / part, state / "pushed.json")
        mirror.pull()
        try:
            yield home / "run", mirror
        except BaseException:
            try:
                mirror.finish(attempts=1)  # a machine that is taken away gives seconds, not minutes
            except OSError as error:
                _print(f"warning: {error}")
            raise
        mirror.finish()


def default_scratch(output: str) -> Path:
    """The local folder that belongs to a remote one, the same at every start."""
    return Path(tempfile.gettempdir()) / f"ivdjax-{hashlib.sha256(output.encode()).hexdigest()[:12]}"


class Mirror:
    """Copies between a run's local folder and its remote one: `pull` once, `push` often, `finish` at the end.

    Args:
        remote: an `etils.epath.Path`.
        local: the run's folder on this machine; made if need be.
        record: a JSON file beside it, which keeps over restarts what was copied.
        say: takes one line for the user's eyes.
    """

    def __init__(self, remote: Any, local: Path, record: Path, say: Callable[[str], None] | None = None) -> None:
        self.remote, self.local = remote, local
        self._record, self._say = record, say or _print
        self._run, pushed = _read_record(record)
        self._files = CopiedFiles(remote, local, pushed)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._wanted = self._closing = self._warned = False
        self._error: Exception | None = None

    def pull(self) -> None:
        """Copies down what the remote run has more of, stage by stage, and makes sure that it can be written.

        A stage comes as a whole from where it is further (finished, or with the newer whole checkpoint); at a tie the
        local one is kept. Folders without their seal are passed over, and removed by the next push.

        Raises:
            UserError: the remote folder cannot be reached or written, or it holds another run than the local one.
            OSError: the local disk is full.
        """
        self.local.mkdir(parents=True, exist_ok=True)
        try:
            there = remote_files(self.remote)
            theirs = json.loads((self.remote / MARK).read_text())["run"] if there.pop(MARK, 0) else ""
            self._join(str(theirs))
            make_folder(self.remote)
            # Written even if it is there: a bucket that cannot be written is found now, and not after hours.
            (self.remote / MARK).write_text(json.dumps({"run": self._run}) + "\n")
            self._files.copy_down(there)
        except UserError:
            raise
        except Exception as error:  # each scheme's library has its own
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            raise UserError(f"{self.remote} cannot be read and written: {_reason(error)}; check the bucket's name, "
                            "this machine's rights to it, and the network") from error  # fmt: skip
        self._write_record()

    def push(self) -> None:
        """Begins to copy up what has changed, and to remove there what has vanished here; returns at once.

        At most one push is under way; one that is asked for meanwhile follows it. What goes wrong is said once, at the
        next call, and training goes on: a later push makes up for it.
        """
        self._report()
        with self._lock:
            self._wanted = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
                self._thread.start()

    def finish(self, attempts: int = 3) -> None:
        """Copies up all that is left, and waits for it.

        Raises:
            OSError: that failed; the message names the local folder.
        """
        self._closing = True
        for attempt in range(attempts):
            if attempt:
                time.sleep(_RETRY_S)
            self._files.moved_s = time.monotonic()
            self.push()  # after the one under way, if any
            if not self._wait():
                raise self._failure(f"nothing was copied for {STALL_S:.0f} s")
            if self._error is None:
                return
        assert self._error is not None
        raise self._failure(_reason(self._error)) from self._error

    def _failure(self, reason: str) -> OSError:
        return OSError(
            f"{self.remote} does not hold all of the run: {reason}. Everything is in {self.local}: give the same "
            "command again on this machine, or copy the folder"
        )

    def _wait(self) -> bool:
        """Waits for the push under way as long as it moves anything; whether it ended."""
        thread = self._thread
        while thread is not None and thread.is_alive():
            if time.monotonic() - self._files.moved_s > STALL_S:
                return False
            thread.join(0.2)
        return True

    def _report(self) -> None:
        if self._error is not None and not self._warned:
            self._say(f"warning: {self.remote} is behind: {_reason(self._error)}. The run goes on in {self.local}, and "
                      "each push tries again")  # fmt: skip
        elif self._error is None and self._warned:
            self._say(f"{self.remote} has caught up")
        self._warned = self._error is not None

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._thread = None
                    return
                self._wanted = False
            try:
                self._settle()
                self._files.copy_up()
                self._write_record()
                self._error = None
            except Exception as error:  # each scheme's library has its own
                self._error = error

    def _settle(self) -> None:
        """Waits until no checkpoint is being written: else the bucket would stay an interval behind."""
        begin_s = quiet_s = time.monotonic()
        while not self._closing and (now_s := time.monotonic()) - begin_s < SETTLE_S and now_s - quiet_s < _QUIET_S:
            time.sleep(0.1)
            if any(self.local.glob(f"*/checkpoints/{HALF_WRITTEN}")):
                quiet_s = time.monotonic()

    def _join(self, theirs: str) -> None:
        """Makes sure that both folders hold one run, or that one of them holds none yet."""
        if self._run and theirs != self._run:
            what = "holds another run than" if theirs else "no longer holds the run of"
            home = self._record.parent.parent.parent
            raise UserError(f"{self.remote} {what} the copy on this machine, {self.local}; remove {home}, or move it "
                            "away, to go by the bucket alone, or choose another --output")  # fmt: skip
        self._run = theirs or uuid.uuid4().hex

    def _write_record(self) -> None:
        write_whole(self._record, json.dumps({"run": self._run, "pushed": self._files.known}) + "\n")


def _read_record(path: Path) -> tuple[str, dict[str, tuple[int, int]]]:
    """The run's mark and what was copied; nothing for a record that is missing or damaged: then all is copied again."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return str(record["run"]), {name: (int(size), int(time)) for name, (size, time) in record["pushed"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", {}


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:300] or type(error).__name__
    return f"not found: {text}" if isinstance(error, FileNotFoundError) else text


def _print(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


__all__ = ["MARK", "Mirror", "default_scratch", "is_remote", "mirrored"]
