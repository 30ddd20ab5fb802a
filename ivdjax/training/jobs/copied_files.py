"""The files of a run on this machine and in a bucket: what differs is copied, in an order that may be cut anywhere.

Of a whole folder (see `ivdjax.training.jobs.bucket`) the seal is copied last and removed first, tables and curves are
copied before the checkpoints that they lead up to, and old checkpoints are removed after new ones are there.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ivdjax.imaging.folders import whole_file, whole_folder
from ivdjax.training.jobs.bucket import (
    CHUNK,
    WholeFolder,
    download,
    further_folders,
    local_files,
    make_folder,
    urgency,
    usable,
    whole_folder_of,
)  # fmt: skip

_STALE = (-1, -1)


class CopiedFiles:
    """Copies a run's files up and down, and knows which lie in the bucket as they lie here.

    Args:
        remote: an `etils.epath.Path`.
        local: the run's folder on this machine.
        known: size in bytes and time of the last change in ns of each file that was copied, as of `local_files`.
    """

    def __init__(self, remote: Any, local: Path, known: dict[str, tuple[int, int]]) -> None:
        self.remote, self.local, self.known = remote, local, known
        self.moved_s = time.monotonic()
        """When anything was copied or removed last."""

    def copy_up(self) -> None:
        """Copies up what has changed here, and removes there what has vanished here."""
        here = local_files(self.local)  # before any table is read: tables then cover each checkpoint that is listed
        changed = {path for path, signature in here.items() if self.known.get(path) != signature}
        gone = self.known.keys() - here.keys()
        folders = {folder for path in changed | gone if (folder := whole_folder_of(path))}
        for path in sorted(path for path in changed if not whole_folder_of(path)):
            self._upload(path, here)
        for folder in sorted(folders, key=urgency):
            if folder.seal in here:
                self._copy_whole(folder, changed, gone, here)
        for folder in sorted(folders):
            if folder.seal not in here:
                self._remove_whole(folder)
        for path in sorted(path for path in gone if not whole_folder_of(path)):
            self._remove(path)

    def _copy_whole(self, folder: WholeFolder, changed: set[str], gone: set[str], here: dict[str, Any]) -> None:
        if folder.seal in self.known:
            self._remove(folder.seal)
        for path in sorted(path for path in gone if whole_folder_of(path) == folder):
            self._remove(path)
        inside = sorted(path for path in changed if whole_folder_of(path) == folder and path != folder.seal)
        if all([self._upload(path, here) for path in inside]):
            self._upload(folder.seal, here)

    def _remove_whole(self, folder: WholeFolder) -> None:
        self._remove(folder.seal)
        (self.remote / folder.path).rmtree(missing_ok=True)
        for path in [path for path in self.known if whole_folder_of(path) == folder]:
            del self.known[path]

    def _upload(self, path: str, here: dict[str, Any]) -> bool:
        """Copies one file up; whether it was still there."""
        try:
            source = (self.local / path).open("rb")
        except FileNotFoundError:  # an old checkpoint that has given way to a new one
            return False
        target = self.remote / path
        with source:
            make_folder(target.parent)
            chunk = source.read(
                CHUNK
            )  # before the target is opened, whose closing shows what it has, even after errors
            self.known[path] = _STALE
            with target.open("wb") as stream:
                while chunk:
                    stream.write(chunk)
                    self.moved_s = time.monotonic()
                    chunk = source.read(CHUNK)
        self.moved_s = time.monotonic()
        self.known[path] = here[path]
        return True

    def _remove(self, path: str) -> None:
        (self.remote / path).unlink(missing_ok=True)
        self.moved_s = time.monotonic()
        self.known.pop(path, None)

    def copy_down(self, there: dict[str, int]) -> None:
        """Copies down each folder at the top that is further there, and notes what the bucket holds.

        Args:
            there: sizes in bytes of the remote run's files by their paths in it.
        """
        whole, here = usable(there), usable(local_files(self.local))
        further = further_folders(whole, here)
        files = {path for path in whole if "/" not in path and (further or path not in here)}
        for name in sorted(files):  # before the folders, whose progress says whether all was copied
            with whole_file(self.local / name) as part:
                download(self.remote / name, part)
        for top in sorted(further):
            with whole_folder(self.local / top) as folder:
                for path in sorted(path for path in whole if path.startswith(f"{top}/")):
                    download(self.remote / path, folder / path.partition("/")[2])
        now, former, self.known = local_files(self.local), self.known, {}
        for path, size in there.items():
            taken = path in whole and (path in files or path.split("/")[0] in further)
            if path in now and (taken or (former.get(path) == now[path] and now[path][0] == size)):
                self.known[path] = now[path]
            elif path in now or path in former or whole_folder_of(path):  # anything else is somebody's own, and stays
                self.known[path] = _STALE
