"""cloud/slurm.sh with stand-ins for srun and scontrol."""

from __future__ import annotations

import re

import pytest

from tests.cloud.programs import executable, run


@pytest.fixture
def cluster(tmp_path, root):
    """A function that runs slurm.sh with stand-ins for srun and scontrol."""
    log = tmp_path / "log"
    executable(tmp_path / "bin" / "srun", f'echo "srun $*" >> {log}\neval "$DURING"\nexit "$SRUN_CODE"\n')
    executable(
        tmp_path / "bin" / "scontrol",
        f'echo "scontrol $*" >> {log}\n[ "$1" = show ] && echo "   JobState=$JOB_STATE Reason=None Dependency=(null)"\n'
        'exit "${SCONTROL_CODE:-0}"\n',
    )
    repository = tmp_path / "repository"
    executable(repository / ".venv" / "bin" / "python", "exit 0\n")
    (repository / "train.py").touch()

    def submit(*options: str, **environment: str):
        log.unlink(missing_ok=True)
        variables = {
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(repository),
            "SLURM_CPUS_PER_TASK": "16", "SRUN_CODE": "0", "JOB_STATE": "RUNNING", **environment,
        }  # fmt: skip
        found = run("bash", root / "cloud" / "slurm.sh", *options, env=variables, cwd=tmp_path)
        return found, log.read_text("utf-8").splitlines() if log.exists() else []

    submit.repository = repository  # type: ignore[attr-defined]
    return submit


@pytest.mark.parametrize(
    ("code", "state", "restarts", "requeued"),
    [
        (0, "RUNNING", 0, False),
        (1, "RUNNING", 0, False),
        (2, "RUNNING", 0, False),
        (130, "RUNNING", 0, False),
        (143, "RUNNING", 0, True),
        (143, "RUNNING", 99, True),
        (143, "COMPLETING", 0, False),  # cancelled, or put back by Slurm
        (143, "CANCELLED", 0, False),
        (143, "PENDING", 0, False),
        (137, "RUNNING", 9, True),
        (134, "RUNNING", 0, True),
        (134, "RUNNING", 10, False),
        (134, "CANCELLED", 0, False),
    ],
)
def test_slurm_requeues_what_another_try_would_mend(cluster, code, state, restarts, requeued):
    found, log = cluster(SRUN_CODE=str(code), JOB_STATE=state, SLURM_RESTART_COUNT=str(restarts))
    assert found.returncode == code
    assert ("scontrol requeue 7" in log) == requeued
    if code == 143 and not requeued:
        assert state in found.stdout


def test_slurm_says_so_when_the_job_cannot_be_requeued(cluster):
    found, _ = cluster(SRUN_CODE="143", SCONTROL_CODE="1")
    assert found.returncode == 143 and "submit the same command again" in found.stderr


def test_slurm_passes_the_options_on_as_they_are(cluster):
    _, log = cluster("--config", "a b.yaml", "--set", "data.credit=x")
    python = cluster.repository / ".venv" / "bin" / "python"
    assert log == [
        "srun --kill-on-bad-exit=0 --wait=0 --cpus-per-task=16 "
        f"{python} -u train.py --config a b.yaml --set data.credit=x"
    ]


def test_slurm_outlives_a_sigterm_to_the_shell(cluster):
    """The stand-in for srun sends SIGTERM to the script, as scancel does, and goes on for a moment."""
    found, log = cluster(SRUN_CODE="143", DURING="kill -TERM $PPID; sleep 0.3")
    assert found.returncode == 143
    assert "scontrol requeue 7" in log


def test_slurm_refuses_to_start_without_a_job_or_an_environment(cluster, tmp_path):
    for environment, words in (
        ({"SLURM_JOB_ID": ""}, "start it with: sbatch"),
        ({"SLURM_SUBMIT_DIR": str(tmp_path)}, "call sbatch in the repository"),
        ({"IVDJAX_PYTHON": "/nowhere/python"}, "no Python at /nowhere/python"),
    ):
        found, log = cluster(**environment)
        assert found.returncode == 2 and words in found.stderr and not log


def test_slurm_has_train_py_told_and_not_the_shell(root):
    directives = dict(
        re.findall(r"^#SBATCH --([\w-]+)=?(\S*)$", (root / "cloud" / "slurm.sh").read_text("utf-8"), re.MULTILINE)
    )
    assert directives["signal"] == "TERM@180", "with B: the signal would end at the shell"
    assert "requeue" in directives and directives["open-mode"] == "append"
