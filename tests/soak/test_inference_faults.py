"""Faults that a cohort meets: kills, signals, a full disk, a case that hangs, an output that is taken or vanishes.

Everything is done to real processes of infer.py with a tiny untrained model, at moments that a seed chooses; the same
command again has to end as an undisturbed run, byte for byte. The seed and every moment are printed (pytest -s);
IVDJAX_SOAK_SEED gives other moments. What it proves is told in docs/reliability.md.
"""

from __future__ import annotations

import csv
import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ivdjax.inference import case_pipeline as pipeline_of_cases
from ivdjax.inference import infer as inference
from ivdjax.inference.infer import infer
from ivdjax.inference.request import InferenceRequest
from ivdjax.inference.worker import Pipeline
from ivdjax.model.model import Model
from tests.conftest import ROOT
from tests.inference.test_supervisor import wait_until_gone
from tests.memory_disk import mounted
from tests.reliability.test_machine import hidden, put_case, sound, summary
from tests.untrained_model import write_untrained
from tests.watched_process import LIMIT_S, WatchedProcess

pytestmark = pytest.mark.soak

CASES = [f"case_{number:02}" for number in range(40)]
FEW = CASES[:6]

Files = dict[str, bytes]


class Inference(WatchedProcess):
    """One process of infer.py in a process group of its own, which ends as a whole.

    Args:
        model: its folder.
        data: the folder of the cases.
        output: the output folder.
        said: where its stdout and stderr go; by default beside the output.
    """

    def __init__(self, model: Path, data: Path, output: Path, said: Path | None = None) -> None:
        self.output = output
        words = [sys.executable, str(ROOT / "infer.py"), "--model", str(model), "--output", str(output), str(data)]
        super().__init__(words, said or output.parent / f"{output.name}.said", own_group=True)

    def worker(self) -> int | None:
        """The worker's process id, if there is one."""
        pid = self.process.pid
        try:
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                    return int(child)
        except OSError:
            pass
        return None

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT_S)

    def kill_victim(self, victim: str) -> str:
        """SIGKILL to the "group", the "parent" alone, or its "worker"; whom it met."""
        worker = self.worker()
        if victim == "worker":
            if worker is not None:
                os.kill(worker, signal.SIGKILL)
                wait_until_gone(worker)
            return "worker" if worker is not None else "nobody"
        if victim == "group":
            self.kill()
        else:
            super().kill()
        assert worker is None or wait_until_gone(worker), "the worker outlived its supervisor"
        return victim


class Watch:
    """Looks at an output folder all the while: every name that is not hidden must be whole from its first sight.

    Args:
        output: the folder.
        expected: the files of each case's folder in an undisturbed run.
    """

    def __init__(self, output: Path, expected: dict[str, Files]) -> None:
        self._output, self._expected = output, expected
        self._seen: dict[str, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.faults: list[str] = []
        self.looks = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.002):
            try:
                for entry in os.scandir(self._output):
                    if not entry.name.startswith(".") and self._seen.get(entry.name) != entry.inode():
                        self._judge(entry)
                        self._seen[entry.name] = entry.inode()
                self.looks += 1
            except FileNotFoundError:
                continue  # the folder is not there yet

    def _judge(self, entry: os.DirEntry[str]) -> None:
        name = entry.name
        if name == "infer.log":
            return
        if name == "summary.csv":
            text = Path(entry.path).read_text("utf-8")
            if not text.endswith("\n") or any(row["case"] not in CASES for row in csv.DictReader(text.splitlines())):
                self.faults.append(f"{name} in part: {text[-80:]!r}")
        elif name == "index.html":
            if not Path(entry.path).read_text("utf-8").rstrip().endswith("</html>"):
                self.faults.append(f"{name} in part")
        elif name in self._seen:
            self.faults.append(f"{name} was whole and was made again")
        elif files_of(Path(entry.path)) != self._expected.get(name):
            self.faults.append(f"{name} is not as in an undisturbed run")


def files_of(folder: Path) -> Files:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def results(output: Path) -> dict[str, Files]:
    """The case folders of an output; none where it is not there."""
    if not output.is_dir():
        return {}
    return {path.name: files_of(path) for path in sorted(output.iterdir()) if path.is_dir()}


def parts(output: Path) -> set[str]:
    """Temporary folders of cases."""
    return {path.name for path in output.glob(".case_*.part")}


def finish(model: Path, data: Path, output: Path) -> str:
    """Runs the command to its good end; what was said."""
    with Inference(model, data, output) as run:
        assert run.wait() == 0, run.said
        return run.said


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_untrained(tmp_path_factory.mktemp("models") / "untrained", ["t2"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort") / "data"
    for seed, name in enumerate(CASES):
        put_case(folder, name, sound(seed))
    return folder


@pytest.fixture(scope="module")
def undisturbed(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Files]:
    """The case folders of an undisturbed run."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    finish(model, data, output)
    return results(output)


@pytest.fixture(scope="module")
def few(data: Path) -> Path:
    """The first cases alone."""
    folder = data.parent / "few"
    for name in FEW:
        shutil.copytree(data / name, folder / name)
    return folder


def assert_as_undisturbed(output: Path, undisturbed: dict[str, Files], cases: list[str] = FEW) -> None:
    """Every case is whole and the same, every row there, and nothing left over."""
    assert results(output) == {name: undisturbed[name] for name in cases}
    assert [(row["case"], row["status"] in ("done", "skipped")) for row in summary(output)] == [
        (c, True) for c in cases
    ]
    assert hidden(output) == []


def moment_of(run: Inference, kind: str, chance: random.Random) -> Callable[[], bool]:
    """Whether a process is where it is to be killed: after some time, writing a case, or with further cases done."""
    output, begin_s, later_s = run.output, run.seconds, chance.uniform(0.2, 6)
    count = chance.randint(1, 2)
    old, done, fresh = parts(output), set(output.glob("case_*")), set[str]()

    def writing() -> bool:
        fresh.update(parts(output) - old)
        return len(fresh) >= count

    return {
        "start": lambda: run.seconds > begin_s + later_s,
        "writing": writing,
        "done": lambda: len(set(output.glob("case_*")) - done) >= count,
    }[kind]


def test_twenty_kills_at_random_moments_change_nothing(model, data, undisturbed, tmp_path, chance):
    output = tmp_path / "out"
    victims = ["group"] * 8 + ["parent"] * 6 + ["worker"] * 6
    moments = ["start"] * 5 + ["writing"] * 12 + ["done"] * 3
    chance.shuffle(victims)
    chance.shuffle(moments)
    met: Counter[str] = Counter()
    torn, run = 0, None
    with Watch(output, undisturbed) as watch:
        for number, (victim, kind) in enumerate(zip(victims, moments, strict=True), 1):
            for _ in range(3):  # a worker that is killed while it starts ends the run before the next moment
                if run is None or not run.running:
                    run = Inference(model, data, output)
                reached = moment_of(run, kind, chance)
                if run.until(lambda: reached() and (victim != "worker" or run.worker())):  # noqa: B023
                    time.sleep(chance.uniform(0, 0.03))
                    break
            whom = run.kill_victim(victim) if run.running else "nobody"
            met[whom] += 1
            left = hidden(output) if output.is_dir() else []
            torn += bool(left)
            print(f"kill {number:2} ({victim} at {kind}): {whom}, {run.seconds:4.1f} s after the start; left {left}")
        if run.running:
            run.wait()
        finish(model, data, output)
    print(f"{dict(met)}, {torn} left something torn; {watch.looks} looks at the folder")
    assert watch.faults == [] and watch.looks > 100
    assert met["nobody"] == 0 and torn >= 4, "kills came too late to tear anything"
    assert_as_undisturbed(output, undisturbed, CASES)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_each_phase_ends_with_its_code_and_leaves_nothing(model, few, undisturbed, tmp_path, number, code):
    output = tmp_path / "out"
    moments: dict[str, Callable[[Inference], bool]] = {
        "the output was made": lambda run: output.is_dir(),
        "the worker starts": lambda run: run.worker() is not None,
        "a case is written": lambda run: bool(parts(output)),
        "some are done": lambda run: len(list(output.glob("case_*"))) >= 4,
    }
    with Watch(output, undisturbed) as watch:
        for name, moment in moments.items():
            with Inference(model, few, output) as run:
                assert run.until(functools.partial(moment, run)), run.said
                if name == "the worker starts":
                    time.sleep(1)
                worker = run.worker()
                run.process.send_signal(number)
                met = run.wait()
                print(f"{signal.Signals(number).name} when {name}: exit code {met}: {run.said.splitlines()[-1:]}")
                assert met == code and "stopped by" in run.said and "Traceback" not in run.said, run.said
                assert worker is None or wait_until_gone(worker)
            if output.exists():  # else it was stopped before anything came into it
                told = {row["case"] for row in summary(output)} if (output / "summary.csv").exists() else set()
                there = {path.name for path in output.glob("case_*")}
                # A case may be whole and its worker killed before it could say so.
                assert hidden(output) == [] and told <= there and len(there - told) <= 1
        finish(model, few, output)
    assert watch.faults == []
    assert_as_undisturbed(output, undisturbed)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk in memory."""
    try:
        with mounted(tmp_path / "disk", 40) as folder:
            yield folder
    except PermissionError as error:
        pytest.skip(str(error))


def fill(disk: Path, leave_bytes: int) -> Path:
    """A file that grows until so many bytes are left; the file."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as stream:
        try:
            while shutil.disk_usage(disk).free > leave_bytes:
                stream.write(b"\0" * 4096)
        except OSError:
            pass
    return filler


def test_a_full_disk_fails_cases_in_plain_words_and_the_rerun_goes_on(model, few, undisturbed, disk, tmp_path):
    output = disk / "out"
    size = sum(len(content) for content in undisturbed[CASES[0]].values())
    # Room for nothing at all, for some files of one case, and for one case and the summary.
    for room in (0, size // 2, int(1.5 * size)):
        shutil.rmtree(output, ignore_errors=True)
        (disk / "filler").unlink(missing_ok=True)
        fill(disk, room)
        with Watch(output, undisturbed) as watch, Inference(model, few, output, tmp_path / "said") as run:
            code = run.wait()
        lines = run.said.splitlines()
        whole = results(output)
        print(f"room for {room} bytes: exit code {code}, {len(whole)} whole; {lines[-1]}")
        assert code == 1 and watch.faults == [] and hidden(output) == [] and "Traceback" not in run.said
        assert len(whole) == (room > size) and all(files == undisturbed[name] for name, files in whole.items())
        failed = [line for line in lines if ": FAILED: " in line]
        assert len(failed) == len(FEW) - len(whole) and all("the disk is full" in line for line in failed), run.said
        if not room:
            assert lines[-1].startswith("error: the disk is full"), run.said
    (disk / "filler").unlink()
    assert f"{next(iter(whole))}: " in finish(model, few, output)
    assert [row["status"] for row in summary(output)].count("skipped") == 1
    assert_as_undisturbed(output, undisturbed)


def test_of_two_commands_into_one_output_the_second_is_refused(model, few, undisturbed, tmp_path):
    output = tmp_path / "out"
    with Inference(model, few, output) as first:
        assert first.until(lambda: parts(output)), first.said
        second = subprocess.run(
            [sys.executable, str(ROOT / "infer.py"), "--model", str(model), "--output", str(output), str(few)],
            cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S,
        )  # fmt: skip
        assert first.running and second.returncode == 2, second.stderr
        assert f"another python infer.py is at work in {output}" in second.stderr and "Traceback" not in second.stderr
        assert first.wait() == 0, first.said
    assert_as_undisturbed(output, undisturbed)


def test_an_output_that_is_deleted_in_mid_run_ends_it_with_1(model, few, undisturbed, tmp_path):
    output = tmp_path / "out"
    with Inference(model, few, output) as run:
        assert run.until(lambda: len(list(output.glob("case_*"))) >= 2), run.said
        output.rename(tmp_path / "moved")
        assert run.wait() == 1 and "has vanished in mid-run" in run.said.splitlines()[-1], run.said
    assert "Traceback" not in run.said and not output.exists()
    (tmp_path / "moved").rename(output)
    finish(model, few, output)
    assert_as_undisturbed(output, undisturbed)


def build_troubled_read(request: InferenceRequest, model: Model) -> Callable[[Any], Any]:
    """As reading is, but a case called hang never ends, and one called kill takes its worker along."""
    read = pipeline_of_cases._build_read(request, model)

    def troubled(files: Any) -> Any:
        if files.name == "hang":
            time.sleep(LIMIT_S)
        if files.name == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        return read(files)

    return troubled


def test_a_case_that_hangs_and_one_that_kills_its_worker_fail_alone(model, undisturbed, data, tmp_path, monkeypatch):
    def troubled_pipeline(request: InferenceRequest, model: Model) -> Pipeline:
        steps = case_pipeline(request, model)
        return Pipeline(functools.partial(build_troubled_read, request, model), steps.compute, steps.write)

    case_pipeline = pipeline_of_cases.case_pipeline
    monkeypatch.setattr(inference, "case_pipeline", troubled_pipeline)
    names = [CASES[0], "hang", CASES[1], CASES[2], "kill", CASES[3]]
    for name in names:
        put_case(tmp_path / "data", name, (data / CASES[0] / f"{CASES[0]}_t2.nii").read_bytes())
        if name in CASES:
            shutil.copy(data / name / f"{name}_t2.nii", tmp_path / "data" / name)
    inputs = tuple(str(tmp_path / "data" / name) for name in names)
    rows = {row.case: row for row in infer(InferenceRequest(model, tmp_path / "out", inputs, timeout_s=10))}
    assert [row.status for row in rows.values()] == ["done", "failed", "done", "done", "failed", "done"]
    assert rows["hang"].reasons[0].startswith("took longer than the 10 s of --timeout and was stopped")
    assert rows["kill"].reasons[0].startswith("the worker process ended while it worked on this case: killed (SIGKILL)")
    assert results(tmp_path / "out") == {name: undisturbed[name] for name in CASES[:4]}
    assert hidden(tmp_path / "out") == []
