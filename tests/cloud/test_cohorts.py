"""cloud/ray.yaml and cloud/slurm_array.sh: a cohort on a cluster, as far as it can be checked without one."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from ivdjax.cli.infer import COMMAND
from ivdjax.commands.commands import CommandParser
from tests.cloud.test_slurm import executable


@pytest.fixture
def job(root) -> dict:
    return yaml.safe_load((root / "cloud" / "ray.yaml").read_text("utf-8"))


def groups(job: dict) -> list[dict]:
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_pods_of_the_ray_job_fit_the_schema_of_kubernetes(job):
    assert job["apiVersion"] == "ray.io/v1" and job["kind"] == "RayJob"
    for group in groups(job):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, "1.31", strict=True)
        (container,) = pod["spec"]["containers"]
        claimed = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in pod["spec"]["volumes"]}
        assert claimed == {"data": "ivdjax"} and container["volumeMounts"][0]["name"] == "data"


def test_the_ray_job_runs_infer_with_options_that_it_knows(job, root):
    program, script, *words = shlex.split(job["spec"]["entrypoint"])
    assert (program, script) == ("python", "infer.py") and (root / "models" / "lumbar").is_dir()
    parser = CommandParser("")
    COMMAND.add_options(parser)
    options = parser.parse_args(words)
    assert options.ray == "auto"
    mounts = groups(job)[1]["template"]["spec"]["containers"][0]["volumeMounts"]
    assert options.output.startswith(mounts[0]["mountPath"]) and options.inputs[0].startswith(mounts[0]["mountPath"])
    worker = groups(job)[1]["template"]["spec"]["containers"][0]["resources"]
    assert int(worker["requests"]["cpu"]) == options.ray_cores and worker["limits"]["nvidia.com/gpu"] == "1"


def test_every_part_has_the_pinned_ray(job, root):
    pinned = re.search(r"^ray.*==(\S+)", (root / "requirements-ray.txt").read_text(), re.M).group(1)
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == pinned
    assert "requirements-ray.txt" in (root / "cloud" / "Dockerfile").read_text()


@pytest.fixture
def submit(tmp_path, root):
    """A function that runs a task of slurm_array.sh with a stand-in for srun; what it gives to infer.py."""
    log = tmp_path / "log"
    executable(tmp_path / "bin" / "srun", f'printf "%s\\n" "$@" > {log}\n')
    repository = tmp_path / "repository"
    executable(repository / ".venv" / "bin" / "python", "exit 0\n")
    (repository / "infer.py").touch()

    def task(number: int, count: int, *words: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        log.unlink(missing_ok=True)
        variables = {
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "SLURM_SUBMIT_DIR": str(repository),
            "SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_COUNT": str(count), "SLURM_ARRAY_TASK_MIN": "1",
        }  # fmt: skip
        found = subprocess.run(["bash", root / "cloud" / "slurm_array.sh", *words], env=variables, text=True,
                               capture_output=True, cwd=tmp_path, timeout=60)  # fmt: skip
        return found, log.read_text().splitlines() if log.exists() else []

    return task


def test_every_case_goes_to_one_task_of_the_array(submit, tmp_path):
    for name in ("a", "b c", "d", "e", "f"):
        (tmp_path / "cases" / name).mkdir(parents=True)
    (tmp_path / "cases" / "notes.txt").touch()
    given = []
    for number in (1, 2, 3):
        found, words = submit(number, 3, str(tmp_path / "cases"), "/out", "--model", "m")
        assert found.returncode == 0, found.stderr
        assert words[1:6] == ["infer.py", "--output", f"/out/part_{number}", "--model", "m"]
        given += [Path(word).name for word in words[6:]]
    assert sorted(given) == ["a", "b c", "d", "e", "f"]
    found, words = submit(9, 10, str(tmp_path / "cases"), "/out")
    assert found.returncode == 0 and words == [] and "nothing to do" in found.stdout


@pytest.mark.parametrize(
    ("words", "message"), [(("/nowhere", "/out"), "must be the folder"), ((".",), "must be the folder")]
)
def test_mistakes_end_with_2(submit, words, message):
    found, given = submit(1, 2, *words)
    assert found.returncode == 2 and message in found.stderr and given == []
