"""cloud/tpu_vm.sh and cloud/tpu_worker.sh: the dry run, and with a gcloud that carries the remote commands out here."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.cloud.programs import executable, run


def tpu(root: Path, *options: str, folder: Path | None = None, **environment: str):
    variables = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "TPU_ZONE": "zone-a", **environment}
    return run("bash", root / "cloud" / "tpu_vm.sh", *options, env=variables, cwd=folder or root)


TRAIN = ("--config", "configs/tiny.yaml", "--set", "data.credit=it's mine", "--output", "gs://bucket/run")


def test_tpu_dry_run_prints_every_command(root):
    found = tpu(root, "--dry-run", "run", *TRAIN, TPU_DATA="gs://bucket/data", TPU_PROJECT="p", TPU_TYPE="v6e-16")
    assert found.returncode == 0, found.stderr
    lines = [shlex.split(line) for line in found.stdout.splitlines()]
    assert all(
        line[:3] == ["gcloud", "compute", "tpus"] and line[-2:] == ["--zone=zone-a", "--project=p"] for line in lines
    )
    assert [" ".join(line[3:5]) for line in lines] == [
        "queued-resources create", "tpu-vm scp", "tpu-vm ssh", "tpu-vm ssh", "tpu-vm ssh", "tpu-vm ssh", "tpu-vm ssh",
        "queued-resources delete",
    ]  # fmt: skip
    assert {"--accelerator-type=v6e-16", "--node-id=ivdjax", "--spot"} <= set(lines[0])
    start = next(part for part in lines[4] if part.startswith("--command="))
    assert shlex.split(start.partition(" start ")[2]) == ["--coordinator", "auto", *TRAIN]
    assert "--worker=all" in lines[4] and "--worker=0" in lines[5]


def test_tpu_refuses_what_cannot_work(root, tmp_path):
    for options, environment, folder, words in (
        (["run", "--config", "c.yaml", "--output", "runs/x"], {}, root, "run needs --output gs://"),
        (["--dry-run", "train"], {}, root, "train needs train.py's options"),
        (["create"], {"TPU_ZONE": ""}, root, "set TPU_ZONE"),
        (["create"], {}, tmp_path, "call this script in the repository"),
        (["begin"], {}, root, "usage:"),
    ):
        found = tpu(root, *options, folder=folder, **environment)
        assert found.returncode == 2 and words in found.stderr, options
    assert tpu(root, "--help").returncode == 0


GCLOUD = """
state=$FAKE/state queue=$FAKE/queue
shift 2  # compute tpus
echo "$*" | cut -c1-60 >> "$FAKE/log"
case "$1 $2" in
    "queued-resources create") [ -e "$FAKE/no_quota" ] && exit 1; echo ACTIVE > "$queue"; echo READY > "$state" ;;
    "queued-resources delete") rm -f "$queue" "$state"; rm -rf "$FAKE/home"; mkdir "$FAKE/home" ;;
    "queued-resources describe") [ -e "$queue" ] && cat "$queue" ;;
    "tpu-vm describe") [ -e "$state" ] && cat "$state" ;;
    "tpu-vm scp") cp "$3" "$FAKE/home/${4#*:}" ;;
    "tpu-vm ssh")
        for part in "$@"; do case $part in --command=*) command=${part#--command=} ;; esac; done
        cd "$FAKE/home" && HOME=$FAKE/home bash -c "$command" ;;
esac
"""

# Ends as the next line of the plan says; "taken" is a pre-emption: SIGTERM, and then the TPU is gone.
PYTHON = """
if [ "$1 $2 $3" = "-m uv venv" ]; then mkdir -p .venv/bin; cp "$0" .venv/bin/python; exit; fi
[ "$1" = -m ] && exit
printf '%s\\n' "$@" > "$FAKE/options"
next=$(head -n 1 "$FAKE/plan"); sed -i 1d "$FAKE/plan"
echo "training, then $next"
case $next in
    wait) trap 'exit 143' TERM; for _ in $(seq 6000); do sleep 0.1; done ;;
    taken) echo PREEMPTED > "$FAKE/state"; exit 143 ;;
    *) exit "$next" ;;
esac
"""


@pytest.fixture
def google(tmp_path, root):
    """A function that runs tpu_vm.sh with a gcloud that acts here, not in a cloud; `plan`: how train.py ends."""
    executable(tmp_path / "bin" / "gcloud", GCLOUD)
    executable(tmp_path / "bin" / "python3", PYTHON)
    (tmp_path / "home").mkdir()

    def call(*options: str, plan: str = "0", patience_s: int = 600):
        (tmp_path / "plan").write_text("\n".join(plan.split()) + "\n", encoding="utf-8")
        (tmp_path / "log").unlink(missing_ok=True)
        path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
        more = {
            "PATH": path,
            "FAKE": str(tmp_path),
            "TPU_POLL_S": "0",
            "TPU_SETTLE_S": "0",
            "TPU_PATIENCE_S": str(patience_s),
        }
        found = tpu(root, *options, **more)
        log = (tmp_path / "log").read_text("utf-8").splitlines()
        return found, [
            line.split()[1] for line in log if line.startswith("queued-resources ") and "describe" not in line
        ]

    call.folder = tmp_path  # type: ignore[attr-defined]
    return call


@pytest.mark.parametrize(
    ("plan", "code", "requests"),
    [
        ("0", 0, ["create", "delete"]),
        ("taken taken 0", 0, ["create", "delete"] * 3),
        ("134 0", 0, ["create", "delete"]),
        ("134 137 134 137 134 134", 134, ["create"]),
        ("1", 1, ["create"]),
        ("2", 2, ["create"]),
        ("143", 143, ["create"]),  # stopped by hand: the TPU is still there
    ],
)
def test_tpu_run_goes_on_over_pre_emptions(google, plan, code, requests):
    found, log = google("run", *TRAIN, plan=plan)
    assert found.returncode == code, found.stderr
    assert log == requests
    assert (google.folder / "options").read_text("utf-8").splitlines() == [
        "-u", "train.py", "--coordinator", "auto", *TRAIN,
    ]  # fmt: skip
    assert not (google.folder / "plan").read_text("utf-8").strip(), "every start that was planned took place"
    assert ("the TPU still costs" in found.stderr) == (code != 0)


def test_tpu_run_ends_where_google_refuses(google):
    (google.folder / "no_quota").touch()
    found, log = google("run", *TRAIN)
    assert found.returncode == 1 and log == ["create"]


def test_tpu_step_by_step(google, root):
    for command in ("create", "install"):
        found, _ = google(command)
        assert found.returncode == 0, found.stderr
    assert (google.folder / "home" / "ivdjax" / "configs" / "tiny.yaml").exists()
    assert not (google.folder / "home" / "ivdjax" / "tests").exists()
    found, _ = google("train", *TRAIN, plan="143")
    assert found.returncode == 0, found.stderr
    found, _ = google("attach")
    assert found.returncode == 143 and "training, then 143" in found.stdout
    assert google("stop")[0].returncode == 0, "nothing runs, nothing to stop"
    found, _ = google("status")
    assert found.stdout.split() == ["ACTIVE", "READY"]
    assert google("delete")[1] == ["delete"]


def test_tpu_train_does_not_start_beside_a_running_one(google):
    assert [google(command)[0].returncode for command in ("create", "install")] == [0, 0]
    assert google("train", *TRAIN, plan="wait")[0].returncode == 0
    found, _ = google("train", *TRAIN, patience_s=2)
    assert found.returncode == 1 and "still running" in found.stderr
    assert google("stop")[0].returncode == 0
    assert google("attach")[0].returncode == 143


def test_tpu_attach_does_not_wait_for_ever_after_a_restart_of_the_machine(google):
    assert [google(command)[0].returncode for command in ("create", "install")] == [0, 0]
    assert google("train", *TRAIN)[0].returncode == google("attach")[0].returncode == 0
    (google.folder / "home" / "ivdjax" / "train.exit").unlink()
    assert google("attach", patience_s=2)[0].returncode == 255
