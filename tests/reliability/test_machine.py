"""A cohort on a machine that fails: bad files and too little memory at once, a folder that is taken, locked or gone.

What needs kills, full disks and time is in tests/soak/test_inference_faults.py.
"""

from __future__ import annotations

import csv
import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ivdjax.imaging.folders import alone
from ivdjax.inference import infer as inference
from ivdjax.inference.cohort import UNDER_REVIEW
from ivdjax.inference.infer import infer
from ivdjax.inference.request import InferenceRequest
from ivdjax.inference.supervisor import CaseTask, Result
from ivdjax.inference.worker import Pipeline
from ivdjax.reports.tables import CaseSummary
from ivdjax.volume import CaseError, UserError
from tests.memory_disk import mounted
from tests.untrained_model import write_untrained

# The file's axes run to posterior, inferior and left.
AFFINE = np.array([[0, 0, -4.0, 0], [-2.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 0, 1]])
SHAPE = (40, 24, 6)

MEMORY_KB = 3_000_000
"""Address space of a command: a worker with the tiny model takes 2.0 GB of it."""


def nifti(array: np.ndarray, affine: np.ndarray = AFFINE) -> bytes:
    return bytes(nibabel.Nifti1Image(array, affine).to_bytes())


def sound(seed: int) -> bytes:
    return nifti(np.rint(np.random.default_rng(seed).normal(100, 20, SHAPE)).astype(np.int16))


def too_large() -> bytes:
    """100 million voxels: 3.5 GB while they are prepared."""
    plane = np.random.default_rng(1).integers(0, 255, (800, 800, 1), dtype=np.uint8)
    return nifti(np.tile(plane, (1, 1, 160)), AFFINE @ np.diag([0.25, 0.25, 0.25, 1]))


BAD: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "bad_cut": (".nii.gz", lambda: gzip.compress(sound(0))[:4000], "truncated"),
    "bad_empty": (".nii.gz", bytes, "is empty"),
    "bad_frames": (".nii", lambda: nifti(np.zeros((*SHAPE, 3), np.uint8)), "several frames"),
    "bad_large": (".nii", too_large, "memory ran out; use a smaller case or more memory"),
    "bad_nan": (".nii", lambda: nifti(np.full(SHAPE, np.nan, np.float32)), "no finite value"),
}
"""Cases that come to nothing: a file's ending, its content, and words of the reason."""


def put_case(data: Path, name: str, content: bytes, suffix: str = ".nii") -> None:
    (data / name).mkdir(parents=True)
    (data / name / f"{name}_t2{suffix}").write_bytes(content)


def summary(output: Path) -> list[dict[str, str]]:
    with (output / "summary.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def hidden(folder: Path) -> list[str]:
    """What lies anywhere in a folder under a temporary name."""
    return sorted(path.name for path in folder.rglob(".*"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_untrained(tmp_path_factory.mktemp("models") / "untrained", ["t2"])


@pytest.fixture
def request_of_three(model: Path, tmp_path: Path) -> InferenceRequest:
    """The request to infer the cases a, b and c."""
    for seed, name in enumerate("abc"):
        put_case(tmp_path / "data", name, sound(seed))
    return InferenceRequest(model, tmp_path / "out", (str(tmp_path / "data"),))


def store(output: Path, case: str) -> None:
    """Leaves what counts as a result in a summary."""
    (output / case).mkdir(parents=True, exist_ok=True)
    (output / case / f"{case}_discs.json").write_text("{}")


def replace_cohort(monkeypatch: pytest.MonkeyPatch, work: Callable[[CaseTask, Pipeline], Result]) -> None:
    """Has cases worked on in this process, by `work`, whose errors end the run as a signal or a fault would."""

    def run_cohort(
        tasks: Sequence[CaseTask], pipeline: Pipeline, timeout_s: float | None, log: Path | None
    ) -> Iterator[Result]:
        for task in tasks:
            yield work(task, pipeline)

    monkeypatch.setattr(inference, "run_cohort", run_cohort)


@pytest.mark.slow
def test_twelve_cases_of_which_five_are_bad_give_seven_results_and_five_reasons(root, model, tmp_path):
    good = [f"good_{number}" for number in range(7)]
    for seed, name in enumerate(good):
        put_case(tmp_path / "data", name, sound(seed))
    for name, (suffix, content, _) in BAD.items():
        put_case(tmp_path / "data", name, content(), suffix)
    limited = ["sh", "-c", f'ulimit -v {MEMORY_KB} && exec "$@"', "sh"]
    command = [sys.executable, "infer.py", "--model", model, "--output", tmp_path / "out", tmp_path / "data"]
    run = subprocess.run([*limited, *command], cwd=root, capture_output=True, text=True, timeout=300)
    assert run.returncode == 1 and "Traceback" not in run.stderr, run.stderr
    assert "7 done, 5 failed" in run.stdout
    rows = {row["case"]: row for row in summary(tmp_path / "out")}
    assert sorted(rows) == sorted([*good, *BAD])
    page = (tmp_path / "out" / "index.html").read_text("utf-8")
    for name in good:
        assert rows[name]["status"] == "done" and rows[name]["discs"].isdecimal() and name in page
        assert len(list((tmp_path / "out" / name).iterdir())) == 10
    for name, (*_, words) in BAD.items():
        assert rows[name]["status"] == "failed" and words in rows[name]["reasons"], rows[name]
        assert f"{name}: FAILED: " in run.stdout and name in page and words in page
        assert not (tmp_path / "out" / name).exists()
    assert hidden(tmp_path / "out") == []


def test_a_second_run_into_the_same_output_is_refused(request_of_three):
    output = request_of_three.output
    output.mkdir()
    with alone(output), pytest.raises(UserError, match="another .*infer(.py)? is at work in .*out; wait for it"):
        infer(request_of_three)
    assert list(output.iterdir()) == []
    (output / UNDER_REVIEW).touch()
    with alone(output), pytest.raises(UserError, match=r"out is under review \(.*review\); end the review first"):
        infer(request_of_three)


def test_an_output_that_cannot_be_written_is_refused_before_any_work(request_of_three, tmp_path, monkeypatch):
    replace_cohort(monkeypatch, lambda task, pipeline: pytest.fail("a case was worked on"))
    try:
        with mounted(tmp_path / "disk", 1) as disk:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            for output in (disk, disk / "out"):
                with pytest.raises(UserError, match="cannot be made or written to: no permission"):
                    infer(replace(request_of_three, output=output))
            assert list(disk.iterdir()) == []
    except PermissionError:  # without the rights to mount one is without the right to pass by a folder's mode, too
        (tmp_path / "locked").mkdir(mode=0o555)
        with pytest.raises(UserError, match="cannot be made or written to: no permission"):
            infer(replace(request_of_three, output=tmp_path / "locked"))


def test_where_no_worker_becomes_ready_nothing_is_written(request_of_three, monkeypatch):
    def refuse(task: CaseTask, pipeline: Pipeline) -> Result:
        raise UserError("no device")

    replace_cohort(monkeypatch, refuse)
    with pytest.raises(UserError, match="no device"):
        infer(request_of_three)
    assert not request_of_three.output.exists()


def test_an_output_that_vanishes_in_mid_run_is_not_made_again_and_fails_what_is_left(
    request_of_three, monkeypatch, capsys
):
    output = request_of_three.output

    def work(task: CaseTask, pipeline: Pipeline) -> Result:
        if task.case == "a":
            store(output, "a")
            shutil.rmtree(output)
            return Result("a", "done", CaseSummary("a", "done", "ok", (), 7))
        try:
            pipeline.read()(task.payload)
        except CaseError as error:
            return Result(task.case, "failed", reason=str(error))
        return pytest.fail("the case was read")

    replace_cohort(monkeypatch, work)
    with pytest.raises(CaseError, match="out has vanished in mid-run .*; put it back and give the same command again"):
        infer(request_of_three)
    assert capsys.readouterr().out.count("FAILED: the output folder") == 2 and not output.exists()


def test_a_result_that_vanishes_in_mid_run_is_told_as_failed(request_of_three, monkeypatch):
    output = request_of_three.output

    def work(task: CaseTask, pipeline: Pipeline) -> Result:
        store(output, task.case)
        if task.case == "b":
            shutil.rmtree(output / "a")
        return Result(task.case, "done", CaseSummary(task.case, "done", "ok", (), 7))

    replace_cohort(monkeypatch, work)
    assert [row.status for row in infer(request_of_three)] == ["failed", "done", "done"]
    assert "case a: its result has vanished in mid-run" in summary(output)[0]["reasons"]


def test_a_run_that_is_stopped_tells_what_it_has_done_and_leaves_nothing_hidden(request_of_three, monkeypatch):
    output = request_of_three.output

    def work(task: CaseTask, pipeline: Pipeline) -> Result:
        if task.case == "b":
            (output / ".b.abcd1234.part").mkdir()  # as a killed worker leaves it
            raise KeyboardInterrupt
        store(output, task.case)
        return Result(task.case, "done", CaseSummary(task.case, "done", "ok", (), 7))

    replace_cohort(monkeypatch, work)
    with pytest.raises(KeyboardInterrupt):
        infer(request_of_three)
    assert [(row["case"], row["status"]) for row in summary(output)] == [("a", "done")]
    assert hidden(output) == []
    # Where the summary cannot be written either, why the run ended is what counts.
    (output / "summary.csv").unlink()

    def spoil(task: CaseTask, pipeline: Pipeline) -> Result:
        (output / "summary.csv").mkdir()
        raise KeyboardInterrupt

    replace_cohort(monkeypatch, spoil)
    with pytest.raises(KeyboardInterrupt):
        infer(replace(request_of_three, overwrite=True))
    with pytest.raises(UserError, match="summary.csv is in the way"):  # now it is seen before any work
        infer(request_of_three)


@pytest.mark.parametrize("name", ["index.html", "infer.log"])
def test_what_is_in_the_way_of_the_outputs_own_files_is_refused_before_any_work(request_of_three, monkeypatch, name):
    replace_cohort(monkeypatch, lambda task, pipeline: pytest.fail("a case was worked on"))
    (request_of_three.output).mkdir(exist_ok=True)
    os.mkfifo(request_of_three.output / name)
    with pytest.raises(UserError, match=f"{name} is in the way"):
        infer(request_of_three)


def test_a_case_of_the_name_of_one_of_the_outputs_own_files_is_refused(request_of_three, monkeypatch):
    replace_cohort(monkeypatch, lambda task, pipeline: pytest.fail("a case was worked on"))
    one = str(Path(request_of_three.inputs[0]) / "a")
    with pytest.raises(UserError, match="case Summary.csv has the name of a file that is written to --output"):
        infer(replace(request_of_three, inputs=(one,), case="Summary.csv"))


def test_what_killed_runs_left_is_removed_by_the_next_one(request_of_three, monkeypatch):
    output = request_of_three.output
    for name in (".a.abcd1234.part", ".gone.x_y_z_12.part", ".c.abcd1234.old", "kept.abcd1234.part", ".thesis"):
        (output / name).mkdir(parents=True)
    (output / ".c.abcd1234.old" / "c_discs.json").write_text("{}")  # set aside by a run that was killed just then
    for name in (".summary.csv.123.part", ".index.html.9.part", ".notes.txt.5.part"):
        (output / name).write_text("half")
    replace_cohort(monkeypatch, lambda task, pipeline: Result(task.case, "failed", reason="not tried"))
    infer(replace(request_of_three, overwrite=True))
    assert hidden(output) == [".notes.txt.5.part", ".thesis"] and (output / "kept.abcd1234.part").is_dir()
    assert (output / "c" / "c_discs.json").is_file() and not (output / "a").exists()


def test_rows_of_other_runs_stay_and_a_spoilt_summary_costs_them_alone(request_of_three, monkeypatch, capsys):
    output, data = request_of_three.output, Path(request_of_three.inputs[0])

    def work(task: CaseTask, pipeline: Pipeline) -> Result:
        if task.case == "a":
            return Result("a", "failed", reason="a: no image; mend it")
        store(output, task.case)
        return Result(task.case, "done", CaseSummary(task.case, "done", "ok", (), 7))

    def statuses() -> list[tuple[str, str]]:
        infer(replace(request_of_three, inputs=(str(data / "c"),), overwrite=True))
        page = (output / "index.html").read_text("utf-8")
        assert all(row["case"] in page for row in summary(output))
        return [(row["case"], row["status"]) for row in summary(output)]

    replace_cohort(monkeypatch, work)
    infer(replace(request_of_three, inputs=(str(data / "a"), str(data / "b"))))
    assert statuses() == [("a", "failed"), ("b", "done"), ("c", "done")]
    table = output / "summary.csv"
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())  # a spreadsheet's mark
    assert statuses() == [("a", "failed"), ("b", "done"), ("c", "done")]
    shutil.rmtree(output / "b")
    assert statuses() == [("a", "failed"), ("c", "done")]
    assert "warning" not in capsys.readouterr().err
    for content in (b"\xff\xfe\0\x01", b"case;status\na;failed\n", b"case,status\na,\0failed\n", b""):
        table.write_bytes(content)
        assert ("c", "done") in statuses()
    assert capsys.readouterr().err.count("summary.csv is not a summary any more") >= 3
