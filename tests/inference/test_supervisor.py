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
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

from ivdjax.inference import supervisor
from ivdjax.inference.supervisor import CaseTask, Result, run_cohort
from ivdjax.inference.worker import STEPS, Pipeline
from ivdjax.inference.worker_process import describe_exit
from ivdjax.volume import CaseError, UserError

# A task's payload says what each step does: {step: [(verb, value), ...], "give": the result}. Steps of several cases
# wait for each other by files in a folder of marks, which outlive a worker.


def build_step(step: str, marks: Path, start: tuple[tuple[str, Any], ...] = ()):
    """A step that acts as its case says. Building it acts as `start` says; each worker leaves a file with its id."""
    (marks / f"worker_{os.getpid()}").touch()
    for verb, value in start:
        act(verb, value, marks)

    def take(case: dict[str, Any]) -> Any:
        for verb, value in case.get(step, ()):
            act(verb, value, marks)
        if step != "write":
            return case
        return (lambda: None) if case.get("give") == "unsendable" else (case.get("give"), os.getpid())

    return take


def act(verb: str, value: Any, marks: Path) -> None:
    if verb == "mark":
        (marks / value).touch()
    elif verb == "await":
        end = time.monotonic() + 20.0
        while not (marks / value).exists():
            assert time.monotonic() < end, f"nobody left {value}"
            time.sleep(0.005)
    elif verb == "lack":
        time.sleep(0.1)
        assert not (marks / value).exists(), f"{value} is there"
    elif verb == "sleep":
        time.sleep(value)
    elif verb == "kill":
        os.kill(os.getpid(), value)
    elif verb == "exit":
        os._exit(value)
    elif verb == "print":
        print(value, flush=True)
    elif verb == "raise":
        raise value
    elif verb == "once":  # (mark, verb, value): the first time alone
        if not (marks / value[0]).exists():
            (marks / value[0]).touch()
            act(*value[1:], marks)
    elif verb == "full disk":
        sys.stderr = FullDisk()
    elif verb == "fail starts":  # (numbers, seconds): those starts fail, from 0; such a process stays a while after
        number = len(list(marks.glob("start_*")))
        (marks / f"start_{number}").touch()
        if number in value[0]:
            threading.Thread(target=time.sleep, args=(value[1],)).start()
            raise UserError(f"start {number} failed")
    elif verb == "hang later":
        (marks / f"start_{os.getpid()}").touch()
        if len(list(marks.glob("start_*"))) > 1:
            time.sleep(60)
    else:
        raise AssertionError(verb)


def pipeline_of(marks: Path, *start: tuple[str, Any], step: str = "compute") -> Pipeline:
    """The acting pipeline; building its `step` begins with `start`."""
    return Pipeline(**{name: functools.partial(build_step, name, marks, start * (name == step)) for name in STEPS})


def give(value: Any) -> dict[str, Any]:
    return {"give": value}


def workers(marks: Path) -> int:
    return len(list(marks.glob("worker_[0-9]*")))


class FullDisk(io.StringIO):
    """A stream of which nothing reaches the disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


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
        CaseTask("a", give(1)),
        CaseTask("bad", {"read": [("raise", CaseError("bad: no image"))]}),
        CaseTask("broken", {"compute": [("raise", KeyError("spacing"))]}),
        CaseTask("memory", {"write": [("raise", MemoryError())]}),
        CaseTask("left", {"read": [("raise", SystemExit(3))]}),
        CaseTask("unsendable", give("unsendable")),
        CaseTask("b", give(2)),
        CaseTask("slow", {"compute": [("sleep", 60)]}),
        CaseTask("killed", {"read": [("kill", signal.SIGKILL)]}),
        CaseTask("gone", {"write": [("exit", 3)]}),
        CaseTask("c", give(3)),
    ]
    results = list(run_cohort(tasks, pipeline_of(tmp_path), timeout_s=1.0, log=log))
    by_case = {result.case: result for result in results}
    assert sorted(by_case) == sorted(task.case for task in tasks) and len(results) == len(tasks)
    assert {case: r.payload[0] for case, r in by_case.items() if not r.failed} == {"a": 1, "b": 2, "c": 3}
    assert by_case["bad"].reason == "bad: no image"
    assert by_case["broken"].reason == f"KeyError: 'spacing'; the traceback is in {log}"
    assert "memory ran out" in by_case["memory"].reason
    assert "local object" in by_case["unsendable"].reason
    assert by_case["left"].reason.startswith("SystemExit: 3")
    assert "longer than the 1 s of --timeout" in by_case["slow"].reason
    assert 1.0 <= by_case["slow"].seconds < 5.0
    assert "SIGKILL" in by_case["killed"].reason and "memory" in by_case["killed"].reason
    assert "exit code 3" in by_case["gone"].reason
    text = log.read_text()
    assert "case broken:" in text and "Traceback" in text and "case bad:" not in text


def test_three_cases_overlap_and_no_more(tmp_path):
    tasks = [
        CaseTask("a", {"write": [("await", "b computes"), ("await", "c is read"), ("lack", "d is read")], "give": "a"}),
        CaseTask("b", {"compute": [("mark", "b computes"), ("await", "c is read")], "give": "b"}),
        CaseTask("c", {"read": [("await", "b computes"), ("mark", "c is read")], "give": "c"}),
        CaseTask("d", {"read": [("mark", "d is read")], "give": "d"}),
    ]
    results = list(run_cohort(tasks, pipeline_of(tmp_path)))
    assert [(r.case, r.status, r.reason) for r in results] == [(case, "done", "") for case in "abcd"]
    assert [r.payload[0] for r in results] == list("abcd") and workers(tmp_path) == 1


def test_the_first_case_is_read_while_the_worker_starts(tmp_path):
    tasks = [CaseTask("a", {"read": [("mark", "a is read")], "give": 1})]
    (result,) = run_cohort(tasks, pipeline_of(tmp_path, ("await", "a is read")))
    assert result.status == "done"


def test_an_early_failure_does_not_wait_for_the_cases_before(tmp_path):
    tasks = [
        CaseTask("a", {"compute": [("await", "b is known")]}),
        CaseTask("b", {"read": [("raise", CaseError("no image"))]}),
    ]
    cohort = run_cohort(tasks, pipeline_of(tmp_path))
    assert next(cohort).case == "b"
    (tmp_path / "b is known").touch()
    assert [(r.case, r.status) for r in cohort] == [("a", "done")]


def test_seconds_are_those_of_the_steps_and_not_of_waiting(tmp_path):
    tasks = [CaseTask("a", {"compute": [("sleep", 0.8)]}), CaseTask("b", {"read": [("sleep", 0.1)]})]
    a, b = run_cohort(tasks, pipeline_of(tmp_path, ("sleep", 0.7)), timeout_s=2.0)
    assert 0.8 <= a.seconds < 2.0 and 0.1 <= b.seconds < 0.6
    assert list(a.costs) == ["start", *STEPS] and list(b.costs) == list(STEPS)
    assert a.costs["start"].wall_s >= 0.7 and a.costs["compute"].wall_s >= 0.8
    assert b.seconds == sum(cost.wall_s for cost in b.costs.values())
    assert all(cost.peak_mib > 1.0 and cost.cpu_s >= 0.0 for cost in a.costs.values())


def test_clock_starts_with_the_case_and_not_with_the_worker(tmp_path):
    (result,) = run_cohort([CaseTask("a", give(1))], pipeline_of(tmp_path, ("sleep", 0.8)), timeout_s=0.7)
    assert result.status == "done" and result.seconds < 0.7


def test_a_case_does_not_age_while_its_result_waits_to_be_taken(tmp_path):
    cohort = run_cohort([CaseTask(case, give(case)) for case in "abcde"], pipeline_of(tmp_path), timeout_s=0.7)
    results = []
    for result in cohort:
        results.append(result)
        time.sleep(0.9 if result.case == "a" else 0.0)
    assert [(r.case, r.reason) for r in results] == [(case, "") for case in "abcde"]


NEIGHBOURS = {"read": {"a": "compute"}, "compute": {"a": "write", "c": "read"}, "write": {"c": "compute", "d": "read"}}
"""Which step of which other case runs while a step of case b does."""


def beside(step: str, end: list[tuple[str, Any]]) -> list[CaseTask]:
    """Cases a to e; a step of b acts as `end` says once its neighbours run theirs, which last until then."""
    cases = {case: give(case) for case in "abcde"}
    for case, other in NEIGHBOURS[step].items():
        cases[case][other] = [("mark", f"{case} runs"), ("await", "b ends")]
    cases["b"][step] = [*(("await", f"{case} runs") for case in NEIGHBOURS[step]), ("mark", "b ends"), *end]
    return [CaseTask(case, payload) for case, payload in cases.items()]


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_killed_in_any_step_costs_the_guilty_case_alone(tmp_path, step):
    results = list(run_cohort(beside(step, [("kill", signal.SIGKILL)]), pipeline_of(tmp_path)))
    assert sorted((r.case, r.status) for r in results) == [
        ("a", "done"), ("b", "failed"), ("c", "done"), ("d", "done"), ("e", "done")
    ]  # fmt: skip
    assert workers(tmp_path) == 3, "one until the death, one until the guilty case is alone, one for the rest"


def test_a_case_that_hangs_alone_is_stopped_and_the_idle_ones_go_on(tmp_path):
    tasks = [
        CaseTask("a", give(1)),
        CaseTask("b", {"compute": [("sleep", 60)]}),
        *(CaseTask(case, give(2)) for case in "cd"),
    ]
    results = list(run_cohort(tasks, pipeline_of(tmp_path), timeout_s=0.8))
    assert [(r.case, r.status) for r in results] == [("a", "done"), ("b", "failed"), ("c", "done"), ("d", "done")]
    assert "longer than the 0.8 s" in results[1].reason and workers(tmp_path) == 2


def test_a_case_that_is_late_beside_others_gets_its_time_alone_and_overlap_ends(tmp_path):
    tasks = [
        CaseTask("a", {"compute": [("once", ("a ran", "sleep", 60))]}),
        CaseTask("b", {"read": [("once", ("b ran", "sleep", 60))]}),
        CaseTask("c", {"write": [("lack", "d is read")]}),
        CaseTask("d", {"read": [("mark", "d is read")]}),
    ]
    results = list(run_cohort(tasks, pipeline_of(tmp_path), timeout_s=1.0))
    assert [(r.case, r.status, r.reason) for r in results] == [(case, "done", "") for case in "abcd"]
    assert workers(tmp_path) == 2


@pytest.mark.parametrize("step", STEPS)
def test_memory_that_runs_out_beside_others_is_tried_again_alone(tmp_path, step):
    for number, end in enumerate((("once", ("b ran", "raise", MemoryError())), ("raise", MemoryError()))):
        marks = tmp_path / str(number)
        marks.mkdir()
        results = list(run_cohort(beside(step, [end]), pipeline_of(marks)))
        assert sorted(r.case for r in results if not r.failed) == (list("acde") if number else list("abcde"))
        assert workers(marks) == 1, "the worker lives on"
    (failed,) = (r for r in results if r.failed)
    assert failed.case == "b" and "memory ran out" in failed.reason


def test_a_case_that_kills_the_worker_while_it_starts_is_found(tmp_path):
    tasks = [CaseTask("a", {"read": [("await", "started"), ("kill", signal.SIGKILL)]}), CaseTask("b", give(1))]
    a, b = run_cohort(tasks, pipeline_of(tmp_path, ("once", ("started", "sleep", 60))))
    assert a.failed and "SIGKILL" in a.reason and b.status == "done"


def test_no_task_starts_no_worker(tmp_path):
    assert list(run_cohort([], pipeline_of(tmp_path))) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("step", "verb", "value", "words"),
    [("read", "raise", UserError("no model at m"), "^no model at m$"),
     ("compute", "raise", OSError("disk"), "^disk$"),
     ("write", "kill", signal.SIGKILL, "ended while it was starting.*SIGKILL")],
)  # fmt: skip
def test_failing_start_is_refused_at_once(tmp_path, step, verb, value, words):
    with pytest.raises(UserError, match=words):
        tasks = [CaseTask("a", give(1)), CaseTask("b", give(2))]
        list(run_cohort(tasks, pipeline_of(tmp_path, (verb, value), step=step), log=tmp_path / "worker.log"))


DEATH = {"compute": [("await", "beside"), ("exit", 3)]}
BESIDE = {"read": [("mark", "beside")]}
"""A case that ends its worker once `BESIDE`, a part of another one, has been read beside it."""


def test_a_worker_that_failed_to_build_is_never_given_a_case(tmp_path):
    tasks = [CaseTask("a", DEATH), CaseTask("b", BESIDE | give(1)), CaseTask("c", give(2)), CaseTask("d", give(3))]
    # Worker 0 dies of a, beside which others are read; start 1 fails, and costs the next case, a. The rest is innocent.
    results = list(run_cohort(tasks, pipeline_of(tmp_path, ("fail starts", ((1,), 30.0)))))
    assert sorted((r.case, r.status) for r in results) == [
        ("a", "failed"), ("b", "done"), ("c", "done"), ("d", "done")
    ]  # fmt: skip
    assert results[0].reason == "start 1 failed"
    assert len(list(tmp_path.glob("start_*"))) == 3


def test_after_two_failed_starts_in_a_row_the_rest_fails_at_once(tmp_path):
    tasks = [CaseTask("a", DEATH), *(CaseTask(case, BESIDE | give(case)) for case in "bcdefg")]
    results = list(run_cohort(tasks, pipeline_of(tmp_path, ("fail starts", ((1, 2, 3), 0.0)))))
    assert [r.case for r in results] == list("abcdefg")
    assert [r.reason for r in results] == ["start 1 failed", *["start 2 failed"] * 6]
    assert len(list(tmp_path.glob("start_*"))) == 3


def test_stuck_starts_cost_their_limit_twice_and_not_once_a_case(tmp_path, monkeypatch):
    death = {"compute": [("await", "a is done"), ("await", "beside"), ("exit", 3)]}
    tasks = [CaseTask("a", give(1)), CaseTask("b", death), *(CaseTask(str(n), BESIDE | give(n)) for n in range(9))]
    cohort = run_cohort(tasks, pipeline_of(tmp_path, ("hang later", None)))
    assert next(cohort).status == "done"
    (tmp_path / "a is done").touch()
    monkeypatch.setattr(supervisor, "START_LIMIT_S", 1.0)
    begin = time.monotonic()
    results = list(cohort)
    assert 2.0 <= time.monotonic() - begin < 8.0
    assert all("not ready after 1 s" in result.reason for result in results) and len(results) == 10


def test_a_full_disk_is_said_in_plain_words_and_costs_no_worker(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/a.nii.gz")
    tasks = [CaseTask("a", give(1)), CaseTask("b", {"write": [("raise", full)]}), CaseTask("c", give(2))]
    a, b, c = run_cohort(tasks, pipeline_of(tmp_path), log=tmp_path / "worker.log")
    assert b.reason == "the disk is full: out/a.nii.gz; free some space, then give the same command again"
    assert a.payload[1] == c.payload[1]


def test_a_log_that_takes_nothing_costs_no_worker(tmp_path):
    tasks = [CaseTask("a", give(1)), CaseTask("b", {"write": [("raise", KeyError("spacing"))]}), CaseTask("c", give(2))]
    a, b, c = run_cohort(tasks, pipeline_of(tmp_path, ("full disk", None)), log=tmp_path / "worker.log")
    assert b.reason.startswith("KeyError: 'spacing'")
    assert a.payload[1] == c.payload[1]


def test_a_log_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^File exists: .*/file$"):
        list(run_cohort([CaseTask("a", give(1))], pipeline_of(tmp_path), log=tmp_path / "file/log"))


def test_what_a_worker_prints_goes_to_the_log(tmp_path, capfd):
    log = tmp_path / "logs" / "worker.log"
    tasks = [CaseTask("a", {"compute": [("print", "from the worker")]})]
    (result,) = run_cohort(tasks, pipeline_of(tmp_path), log=log)
    assert result.status == "done"
    assert log.read_text() == "from the worker\n"
    assert "".join(capfd.readouterr()) == ""


def test_empty_log_is_removed_and_worker_ends_with_the_generator(tmp_path):
    log = tmp_path / "worker.log"
    tasks = [CaseTask("a", give(1)), *(CaseTask(case, {"compute": [("sleep", 60)]}) for case in "bcd")]
    cohort = run_cohort(tasks, pipeline_of(tmp_path), log=log)
    pid = next(cohort).payload[1]
    assert is_alive(pid) and log.exists()
    cohort.close()
    assert not is_alive(pid) and not log.exists()


def masked(payload: Any) -> set[signal.Signals]:
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


def build_masked():
    return masked


MASKED = Pipeline(build_masked, build_masked, build_masked)


def test_ctrl_c_never_reaches_a_worker_not_even_the_first(root):
    code = (
        "import signal\n"
        "from ivdjax.inference.supervisor import CaseTask, run_cohort\n"
        "from tests.inference.test_supervisor import MASKED\n"
        "if __name__ == '__main__':\n"
        "    print([signal.SIGINT in r.payload for r in run_cohort([CaseTask('a', None)], MASKED)])"
    )
    # A process of its own: in this one, a worker has been started before.
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[True]\n"


SCRIPT = """
import pathlib, signal, sys
from ivdjax.commands.commands import run_command
from ivdjax.inference.supervisor import CaseTask, run_cohort
from tests.inference.test_supervisor import give, pipeline_of

def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job begins with Ctrl-C ignored
    tasks = [CaseTask("a", give(1)), CaseTask("b", {"compute": [("mark", "b runs"), ("sleep", 60)]})]
    for result in run_cohort(tasks, pipeline_of(pathlib.Path(sys.argv[1]))):
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
    act("await", "b runs", tmp_path)
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


LARGE = bytes(20_000_000)
"""More than any pipe holds, as the weights of a model are."""


def build_with(weights: bytes):
    return str.upper


@pytest.mark.parametrize("program", ["/bin/false", "/bin/true"])
def test_a_worker_that_dies_before_it_listens_is_noticed(program, monkeypatch):
    """Killed for memory in its first second, say: what it should have been given fills no pipe that nobody reads."""
    resource_tracker.ensure_running()
    monkeypatch.setattr("multiprocessing.spawn._python_exe", program.encode())
    build = functools.partial(build_with, LARGE)
    with pytest.raises(UserError, match="the worker process ended while it was starting"):
        list(run_cohort([CaseTask("a", "a")], Pipeline(build, build, build), None, None))


def test_a_large_pipeline_reaches_its_worker():
    build = functools.partial(build_with, LARGE)
    (result,) = run_cohort([CaseTask("a", "a")], Pipeline(build, build, build), None, None)
    assert result.payload == "A"
