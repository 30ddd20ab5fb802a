"""Images that are dropped on the page: kept in a folder of their own, worked on one at a time in a process of its own.

The process holds the compiled model between two images, and dies alone: with a bad image, for lack of memory, or when
its run is cancelled. Nothing leaves this machine, and all of it goes when the server ends.
"""

from __future__ import annotations

import contextlib
import lzma
import multiprocessing
import shutil
import tempfile
import threading
import time
import zipfile
import zlib
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from ivdjax.commands.memory import keep_freed_memory
from ivdjax.inference.worker import end_with_parent
from ivdjax.inference.worker_process import describe_exit
from ivdjax.model.model import read_model
from ivdjax.model.shipped import default_model, model_folder
from ivdjax.volume import CaseError, UserError

LARGEST = 2 * 2**30
"""Bytes of one drop, packed or unpacked."""

MOST_FILES = 5000
"""Files of one drop: a DICOM study has hundreds."""

CASE = "dropped"

STEPS = ("starting the model", "reading the image", "running the networks", "measuring and writing")

_DEEPEST = 8


@dataclass(frozen=True)
class Progress:
    """How a run stands.

    Attributes:
        state: "waiting" (files may be added), "running", "done", "failed" or "cancelled".
        step: which of `STEPS` runs, from 0.
        reason: why it failed.
        seconds: that it has taken.
    """

    state: str = "waiting"
    step: int = 0
    reason: str = ""
    seconds: float = 0.0


class DropBox:
    """Takes the files of one image, works on it, and keeps its report until the next image comes."""

    def __init__(self, model: str | None = None) -> None:
        """Finds the model.

        Raises:
            UserError: there is no such model, or a damaged one.
        """
        self._model = default_model() if model is None else model_folder(model)
        self.model_name = read_model(self._model).name
        self._folder = Path(tempfile.mkdtemp(prefix="ivdjax-drop-"))
        self._lock = threading.RLock()
        self._progress = Progress()
        self._begun = 0.0
        self._number = 0  # of the present run: what is heard of an earlier one no longer counts
        self._size = self._count = 0
        self._process: multiprocessing.process.BaseProcess | None = None
        self._line: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends the process and removes every file."""
        self._end_process()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def progress(self) -> Progress:
        """How the present run stands."""
        with self._lock:
            if self._progress.state == "running":
                return replace(self._progress, seconds=time.monotonic() - self._begun)
            return self._progress

    @property
    def report(self) -> Path | None:
        """The report's file, once the run is done."""
        path = self._folder / "out" / CASE / "report.html"
        return path if self.progress.state == "done" and path.is_file() else None

    def begin(self) -> None:
        """Makes room for a new image; the last one goes.

        Raises:
            CaseError: a run is under way.
        """
        with self._lock:
            self._refuse_running()
            for name in ("in", "out"):
                shutil.rmtree(self._folder / name, ignore_errors=True)
            (self._folder / "in" / CASE).mkdir(parents=True)
            self._size = self._count = 0
            self._progress = Progress()

    def place(self, name: str) -> Path:
        """Where a file of the image is to be written, its folders made.

        Args:
            name: as the browser gives it, perhaps with folders.

        Raises:
            CaseError: a run is under way, there are too many files, or the name leads elsewhere.
        """
        with self._lock:
            self._refuse_running()
            if not (self._folder / "in" / CASE).is_dir():
                self.begin()
            self._count += 1
            if self._count > MOST_FILES:
                raise CaseError(f"more than {MOST_FILES} files; drop the folder of one image")
            path = self._folder / "in" / CASE / _safe(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            return path

    def count_bytes(self, size: int) -> None:
        """Counts what has arrived.

        Raises:
            CaseError: it is more than one drop may have.
        """
        with self._lock:
            self._size += size
            if self._size > LARGEST:
                raise CaseError(f"more than {LARGEST // 2**30} GiB; drop one image at a time")

    def run(self) -> None:
        """Begins to work on the image.

        Raises:
            CaseError: a run is under way, there is no file, or a zip archive cannot be used.
        """
        with self._lock:
            self._refuse_running()
            home = self._folder / "in" / CASE
            if not home.is_dir() or not any(path.is_file() for path in home.rglob("*")):
                raise CaseError("there is no image yet: drop a file or a folder first")
            for archive in [path for path in home.rglob("*") if path.suffix.lower() == ".zip" and path.is_file()]:
                unpack(archive, home)
                archive.unlink()
            self._begun = time.monotonic()
            self._progress = Progress("running", 0 if self._process is None else 1)
            self._number += 1
            number = self._number
        threading.Thread(target=self._follow, args=(home, number), name="drop", daemon=True).start()

    def cancel(self) -> None:
        """Ends the run under way at once; nothing where there is none."""
        with self._lock:
            if self._progress.state != "running":
                return
            self._progress = Progress("cancelled", seconds=time.monotonic() - self._begun)
            self._number += 1
            self._end_process()

    def _follow(self, home: Path, number: int) -> None:
        """Hears what the process says of a run until it is over."""
        try:
            with self._lock:
                if number != self._number:
                    return
                line = self._started()
                line.send((str(home), str(self._folder / "out")))
            while True:
                kind, value = line.recv()
                if kind == "step":
                    self._tell(Progress("running", value), number)
                    continue
                self._tell(Progress("done" if kind == "done" else "failed", len(STEPS), value), number)
                if kind == "refused":
                    self._end_run(number)
                return
        except (EOFError, OSError):
            self._tell(Progress("failed", 0, f"the run ended: {self._end_run(number)}"), number)

    def _tell(self, progress: Progress, number: int) -> None:
        """Notes how a run stands, unless another has taken its place."""
        with self._lock:
            if number == self._number:
                self._progress = replace(progress, seconds=time.monotonic() - self._begun)

    def _end_run(self, number: int) -> str:
        """Ends the process of a run, unless another run has it; why it ended."""
        with self._lock:
            if number != self._number or self._process is None:
                return "it was cancelled"
            self._process.join(5)
            why = describe_exit(self._process.exitcode)
            self._end_process()
            return why

    def _started(self) -> Connection:
        """The line to the process, started where there is none."""
        if self._process is None or not self._process.is_alive() or self._line is None:
            self._end_process()
            context = multiprocessing.get_context("spawn")
            self._line, far_end = context.Pipe()
            self._process = context.Process(target=_work, args=(self._model, far_end), name="drop", daemon=True)
            self._process.start()
            far_end.close()
        return self._line

    def _end_process(self) -> None:
        process, line, self._process, self._line = self._process, self._line, None, None
        if process is not None:
            process.kill()
            process.join()
        if line is not None:
            line.close()

    def _refuse_running(self) -> None:
        if self._progress.state == "running":
            raise CaseError("one image is being worked on; wait for it, or cancel it")


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a zip archive beside its other files; nothing of it leaves the folder.

    Raises:
        CaseError: it is damaged, encrypted, holds too much, or a name in it leads elsewhere.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            entries = [entry for entry in packed.infolist() if not entry.is_dir()]
            if len(entries) > MOST_FILES or sum(entry.file_size for entry in entries) > LARGEST:
                raise CaseError(f"{archive.name} holds more than {MOST_FILES} files or {LARGEST // 2**30} GiB")
            for entry in entries:
                path = folder / _safe(entry.filename)
                path.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(entry) as source, path.open("wb") as target:
                    left = entry.file_size
                    while part := source.read(2**20):
                        left -= len(part)
                        if left < 0:
                            raise CaseError(f"{archive.name} is damaged: a file in it is longer than it says")
                        target.write(part)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError) as error:
        raise CaseError(f"{archive.name} cannot be unpacked ({error}); pack it again as plain zip") from error


def _safe(name: str) -> PurePosixPath:
    """A path that stays below the folder it is put into."""
    path = PurePosixPath(name.replace("\\", "/"))
    bad = path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name or len(path.parts) > _DEEPEST
    if bad or any(len(part.encode(errors="replace")) > 200 for part in path.parts):
        raise CaseError(f"the file name {name[:80]!r} cannot be used")
    return path


def _work(model_folder: Path, line: Connection) -> None:
    """The process: works on the images whose folders come over the line, until it is closed."""
    end_with_parent()
    keep_freed_memory()
    with contextlib.suppress(EOFError, OSError):
        home, output = line.recv()
        try:
            from ivdjax.inference.case_pipeline import case_pipeline
            from ivdjax.inference.request import InferenceRequest

            model = read_model(model_folder)
            request = InferenceRequest(model_folder, Path(output), (home,))
            pipeline = case_pipeline(request, model)
            steps = [pipeline.read(), pipeline.compute(), pipeline.write()]
        except Exception as error:
            line.send(("refused", _words(error)))
            return
        while True:
            try:
                Path(output).mkdir(parents=True, exist_ok=True)
                value: object = _image(Path(home), model.channels)
                for place, step in enumerate(steps, start=1):
                    line.send(("step", place))
                    value = step(value)
                line.send(("done", ""))
            except Exception as error:
                line.send(("failed", _words(error).replace(f"{home}/", "")))  # files by the names that they came with
            home, output = line.recv()


def _image(home: Path, channels: tuple[str, ...]) -> object:
    """The one image of a folder, whatever its files are called.

    Raises:
        CaseError, UserError: there is none, or several.
    """
    from ivdjax.inference.inputs import find_inputs

    files = [path for path in home.rglob("*") if path.is_file()]
    single = len(files) == 1 and len(channels) == 1
    folders = [path for path in home.iterdir() if path.is_dir()]
    target = files[0] if single else folders[0] if len(folders) == 1 and len(list(home.iterdir())) == 1 else home
    given = [str(target)]
    cases = find_inputs(given, channels, CASE if single else None)
    if len(cases) != 1:
        raise UserError(f"{len(cases)} images were dropped; drop one at a time")
    if cases[0].files is None:
        raise CaseError(cases[0].problem)
    return replace(cases[0].files, name=CASE, subject=CASE)


def _words(error: Exception) -> str:
    if isinstance(error, (CaseError, UserError)):
        return str(error)
    return f"{type(error).__name__}: {error}"
