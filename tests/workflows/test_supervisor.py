"""The cohort's supervisor: a case fails alone, however it fails, and no worker outlives its supervisor."""

from __future__ import annotations

import errno
import functools
import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ivdjax.volume import CaseError, UserError
from ivdjax.workflows import supervisor
from ivdjax.workflows.supervisor import Result, Task, describe_exit, run_cohort


def build_actor(marks: Path, start_s: float = 0.0):
    """A worker's function that acts as its payload says; each worker leaves a file with its process id."""
    time.sleep(start_s)
    (marks / f"worker_{os.getpid()}").touch()
    return act


def act(payload: tuple[str, Any]) -> Any:
    verb, value = payload
    if verb == "give":
        return value, os.getpid()
    if verb == "sleep":
        time.sleep(value)
        return None
    if verb == "kill":
        os.kill(os.getpid(), value)
    if verb == "exit":
        os._exit(value)
    if verb == "print":
        print(value, flush=True)
        return None
    if verb == "raise":
        raise value
    if verb == "lambda":
        return lambda: None
    raise AssertionError(verb)


def build_nothing(error: Exception | None):
    if error is None:
        os.kill(os.getpid(), signal.SIGKILL)
    raise error


class FullDisk(io.StringIO):
    """A stream of which nothing reaches the disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def build_actor_on_a_full_disk(marks: Path):
    sys.stderr = FullDisk()
    return build_actor(marks)


def build_after_failures(marks: Path, failing: tuple[int, ...], linger_s: float):
    """A build that fails in the workers of these numbers, from 0; such a process stays a while after its answer."""
    number = len(list(marks.glob("start_*")))
    (marks / f"start_{number}").touch()
    if number in failing:
        threading.Thread(target=time.sleep, args=(linger_s,)).start()
        raise UserError(f"start {number} failed")
    return act


def build_stuck_later(marks: Path):
    """A build that never ends, but in the first worker."""
    (marks / f"start_{os.getpid()}").touch()
    if len(list(marks.glob("start_*"))) > 1:
        time.sleep(60)
    return act


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A zombie has ended too; its state follows the name in /proc.
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not is_alive(pid)


def test_each_failure_stays_with_its_case(tmp_path):
    log = tmp_path / "worker.log"
    tasks = [
        Task("a", ("give", 1)),
        Task("bad", ("raise", CaseError("bad: no image"))),
        Task("broken", ("raise", KeyError("spacing"))),
        Task("memory", ("raise", MemoryError())),
        Task("unsendable", ("lambda", None)),
        Task("b", ("give", 2)),
        Task("slow", ("sleep", 60)),
        Task("killed", ("kill", signal.SIGKILL)),
        Task("gone", ("exit", 3)),
        Task("c", ("give", 3)),
    ]
    results = list(run_cohort(tasks, functools.partial(build_actor, tmp_path), timeout_s=1.0, log=log))
    by_case = {result.case: result for result in results}
    assert [r.case for r in results] == [t.case for t in tasks]
    assert [r.case for r in results if not r.failed] == ["a", "b", "c"]
    assert [by_case[case].payload[0] for case in "abc"] == [1, 2, 3]
    assert by_case["a"].payload[1] == by_case["b"].payload[1], "an exception must not cost a worker"
    assert len(list(tmp_path.glob("worker_[0-9]*"))) == 4, "one worker, and one after each of three deaths"
    assert by_case["bad"].reason == "bad: no image"
    assert by_case["broken"].reason == f"KeyError: 'spacing'; the traceback is in {log}"
    assert "memory ran out" in by_case["memory"].reason
    assert "local object" in by_case["unsendable"].reason
    assert "longer than the 1 s of --timeout" in by_case["slow"].reason
    assert 1.0 <= by_case["slow"].seconds < 5.0
    assert "SIGKILL" in by_case["killed"].reason and "memory" in by_case["killed"].reason
    assert "exit code 3" in by_case["gone"].reason
    text = log.read_text()
    assert "case broken:" in text and "Traceback" in text and "case bad:" not in text


def test_clock_starts_with_the_case_and_not_with_the_worker(tmp_path):
    build = functools.partial(build_actor, tmp_path, start_s=0.8)
    (result,) = run_cohort([Task("a", ("give", 1))], build, timeout_s=0.7)
    assert result.status == "done" and result.seconds < 0.7


def test_no_task_starts_no_worker(tmp_path):
    assert list(run_cohort([], functools.partial(build_actor, tmp_path))) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [(UserError("no model at m"), "^no model at m$"), (OSError("disk"), "^disk$"), (None, "while it was start")],
)
def test_failing_build_is_refused_at_once(tmp_path, error, words):
    log = tmp_path / "worker.log"
    with pytest.raises(UserError, match=words):
        list(run_cohort([Task("a", None), Task("b", None)], functools.partial(build_nothing, error), log=log))


DEATH = ("exit", 3)


def test_a_worker_that_failed_to_build_is_never_given_a_case(tmp_path):
    tasks = [Task("a", DEATH), Task("b", ("give", 1)), Task("c", ("give", 2)), Task("d", ("give", 3))]
    results = list(run_cohort(tasks, functools.partial(build_after_failures, tmp_path, (1,), 30.0)))
    assert [r.status for r in results] == ["failed", "failed", "done", "done"]
    assert results[1].reason == "start 1 failed"
    assert len(list(tmp_path.glob("start_*"))) == 3


def test_after_two_failed_starts_in_a_row_the_rest_fails_at_once(tmp_path):
    tasks = [Task(case, DEATH if case in "ac" else ("give", case)) for case in "abcdefg"]
    # Workers 0 (case a), 2 (case c) begin; 1 does not, alone; 3 and 4 do not, in a row.
    results = list(run_cohort(tasks, functools.partial(build_after_failures, tmp_path, (1, 3, 4), 0.0)))
    reasons = [r.reason for r in results]
    assert "exit code 3" in reasons[0] and "exit code 3" in reasons[2]
    assert reasons[1] == "start 1 failed" and reasons[3] == "start 3 failed"
    assert reasons[4:] == ["start 4 failed"] * 3
    assert len(list(tmp_path.glob("start_*"))) == 5


def test_stuck_starts_cost_their_limit_twice_and_not_once_a_case(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "START_LIMIT_S", 2.0)
    tasks = [Task("a", DEATH), *(Task(str(n), ("give", n)) for n in range(9))]
    begin = time.monotonic()
    results = list(run_cohort(tasks, functools.partial(build_stuck_later, tmp_path)))
    assert time.monotonic() - begin < 12.0
    assert all("not ready after 2 s" in result.reason for result in results[1:]) and len(results) == 10


def test_a_full_disk_is_said_in_plain_words_and_costs_no_worker(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/a.nii.gz")
    tasks = [Task("a", ("give", 1)), Task("b", ("raise", full)), Task("c", ("give", 2))]
    a, b, c = run_cohort(tasks, functools.partial(build_actor, tmp_path), log=tmp_path / "worker.log")
    assert b.reason == "the disk is full: out/a.nii.gz; free some space, then give the same command again"
    assert a.payload[1] == c.payload[1]


def test_a_log_that_takes_nothing_costs_no_worker(tmp_path):
    build = functools.partial(build_actor_on_a_full_disk, tmp_path)
    tasks = [Task("a", ("give", 1)), Task("b", ("raise", KeyError("spacing"))), Task("c", ("give", 2))]
    a, b, c = run_cohort(tasks, build, log=tmp_path / "worker.log")
    assert b.reason.startswith("KeyError: 'spacing'")
    assert a.payload[1] == c.payload[1]


def test_a_log_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^File exists: .*/file$"):
        list(run_cohort([Task("a", ("give", 1))], functools.partial(build_actor, tmp_path), log=tmp_path / "file/log"))


def test_what_a_worker_prints_goes_to_the_log(tmp_path, capfd):
    log = tmp_path / "logs" / "worker.log"
    tasks = [Task("a", ("print", "from the worker"))]
    (result,) = run_cohort(tasks, functools.partial(build_actor, tmp_path), log=log)
    assert result.status == "done"
    assert log.read_text() == "from the worker\n"
    assert "".join(capfd.readouterr()) == ""


def test_empty_log_is_removed_and_worker_ends_with_the_generator(tmp_path):
    log = tmp_path / "worker.log"
    tasks = [Task("a", ("give", 1)), Task("b", ("give", 2))]
    cohort = run_cohort(tasks, functools.partial(build_actor, tmp_path), log=log)
    pid = next(cohort).payload[1]
    assert is_alive(pid) and log.exists()
    cohort.close()
    assert not is_alive(pid) and not log.exists()


def masked(payload: Any) -> set[signal.Signals]:
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


def build_masked():
    return masked


def test_ctrl_c_never_reaches_a_worker_not_even_the_first(root):
    code = (
        "import signal\n"
        "from ivdjax.workflows.supervisor import Task, run_cohort\n"
        "from tests.workflows.test_supervisor import build_masked\n"
        "if __name__ == '__main__':\n"
        "    print([signal.SIGINT in r.payload for r in run_cohort([Task('a', None)], build_masked)])"
    )
    # A process of its own: in this one, a worker has been started before.
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[True]\n"


SCRIPT = """
import functools, pathlib, signal, sys, time
from ivdjax.workflows.commands import run_command
from ivdjax.workflows.supervisor import Task, run_cohort
from tests.workflows.test_supervisor import build_actor

def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job begins with Ctrl-C ignored
    for result in run_cohort([Task("a", ("give", 1)), Task("b", ("sleep", 60))],
                             functools.partial(build_actor, pathlib.Path(sys.argv[1]))):
        print(result.payload[1], flush=True)
    return 0

if __name__ == "__main__":
    sys.exit(run_command(main))
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_no_orphan_after_a_signal(tmp_path, root, number, code):
    script = tmp_path / "cohort.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(root)}, start_new_session=True,
    )  # fmt: skip
    worker = int(process.stdout.readline())
    time.sleep(0.2)  # the second case is under way
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does it: to supervisor and worker alike
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in errors
    assert wait_until_gone(worker)


def test_exit_codes_in_words():
    assert "SIGSEGV" in describe_exit(-signal.SIGSEGV)
    assert describe_exit(-99) == "killed by signal 99"
    assert describe_exit(2) == "exit code 2"
    assert not Result("a", "done").failed
