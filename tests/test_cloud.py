"""The files in cloud/ and what docs/cloud.md says of them, as far as it can be checked without a cloud."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import subprocess
import sys
import sysconfig
from fnmatch import fnmatch
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement

from ivdjax.config import read_config

SCRIPTS = ("slurm.sh", "slurm_array.sh", "tpu_vm.sh", "tpu_worker.sh")
PROGRAMS = Path(sysconfig.get_path("scripts"))
STAGES = ("region", "disc", "localization")


def run(*command: str | Path, **more) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60, **more)


def page_blocks(root: Path) -> list[tuple[str, str]]:
    """The code blocks of the page: (language, text)."""
    return re.findall(
        r"^```(\w*)\n(.*?)^```", (root / "docs" / "cloud.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


def commands(root: Path) -> list[str]:
    """Every command line of the page and of the comments at the top of the files in cloud/."""
    text = "\n".join(block for language, block in page_blocks(root) if not language)
    for file in ("slurm.sh", "Dockerfile", "tpu_vm.sh"):
        text += "\n" + re.sub(r"^# ?", "", (root / "cloud" / file).read_text("utf-8"), flags=re.MULTILINE)
    return [line.strip() for line in text.replace("\\\n", " ").splitlines()]


def training_options(root: Path) -> list[list[str]]:
    """What each example gives to train.py."""
    found = []
    for line in commands(root):
        if match := re.match(
            r"(?:sbatch .*slurm\.sh|.*tpu_vm\.sh (?:--dry-run )?(?:run|train)|docker run .* train\.py) (--.*)", line
        ):
            found.append(shlex.split(match[1].partition("   ")[0] if "sbatch" not in line else match[1]))
    job = documents(root)["Job"]
    found.append(container(job)["args"])
    return found


def documents(root: Path) -> dict[str, dict]:
    """The Kubernetes objects, by kind."""
    return {one["kind"]: one for one in yaml.safe_load_all((root / "cloud" / "kubernetes.yaml").read_text("utf-8"))}


def container(job: dict) -> dict:
    return job["spec"]["template"]["spec"]["containers"][0]


# ---- scripts


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(root, script):
    found = run(PROGRAMS / "shellcheck", "--enable=check-unassigned-uppercase", root / "cloud" / script)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_reads_the_scripts(root, script):
    path = root / "cloud" / script
    assert run("bash", "-n", path).returncode == 0
    assert path.stat().st_mode & 0o111, "must be executable"


# ---- Kubernetes


@pytest.mark.parametrize("version", ["1.31", kubernetes_validate.latest_version()])
def test_manifests_fit_the_schema(root, version):
    for one in documents(root).values():
        kubernetes_validate.validate(one, version, strict=True)
    for language, block in page_blocks(root):
        if language == "yaml":
            kubernetes_validate.validate(yaml.safe_load(block), version, strict=True)


def test_the_schema_would_find_a_slip(root):
    job = documents(root)["Job"]
    job["spec"]["backofLimit"] = job["spec"].pop("backoffLimit")
    with pytest.raises(kubernetes_validate.ValidationError, match="backofLimit"):
        kubernetes_validate.validate(job, "1.31", strict=True)


def test_names_ports_and_numbers_of_the_manifests_fit_together(root):
    found = documents(root)
    claim, service, job = found["PersistentVolumeClaim"], found["Service"], found["Job"]
    spec, pod, train = job["spec"], job["spec"]["template"]["spec"], container(job)
    environment = {one["name"]: one for one in train["env"]}
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(environment["JAX_NUM_PROCESSES"]["value"]) > 1
    index = environment["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert index == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    port = service["spec"]["ports"][0]["port"]
    address = f"{job['metadata']['name']}-0.{service['metadata']['name']}:{port}"
    assert environment["JAX_COORDINATOR_ADDRESS"]["value"] == address
    assert train["ports"][0]["containerPort"] == port
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert {one["name"] for one in train["volumeMounts"]} == set(volumes)
    assert volumes["storage"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"], "pods on several hosts mount it"
    mounts = {one["mountPath"]: one["name"] for one in train["volumeMounts"]}
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    assert environment["JAX_COMPILATION_CACHE_DIR"]["value"] in mounts
    assert pod["terminationGracePeriodSeconds"] >= 60
    assert train["command"] == ["python", "train.py"], "a shell in between would keep SIGTERM to itself"


def failure_action(job: dict, code: int, disrupted: bool = False) -> str:
    """What the Job controller does with a failed pod: the first rule that fits, else it is counted."""
    for rule in job["spec"]["podFailurePolicy"]["rules"]:
        if codes := rule.get("onExitCodes"):
            assert codes["containerName"] == container(job)["name"] and codes["operator"] == "In"
            if code in codes["values"]:
                return rule["action"]
        elif disrupted and any(one["type"] == "DisruptionTarget" for one in rule["onPodConditions"]):
            return rule["action"]
    return "Count"


def test_kubernetes_retries_what_another_try_would_mend(root):
    job = documents(root)["Job"]
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never", "as podFailurePolicy asks"
    assert job["spec"]["podReplacementPolicy"] == "Failed"
    assert failure_action(job, 2) == "FailJob"
    assert failure_action(job, 143) == failure_action(job, 137, disrupted=True) == "Ignore"
    assert failure_action(job, 137) == failure_action(job, 134) == failure_action(job, 1) == "Count"
    assert job["spec"]["backoffLimit"] >= 10 * job["spec"]["completions"]
    assert job["spec"]["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}


# ---- container


def test_hadolint_finds_nothing(root):
    found = run(PROGRAMS / "hadolint", root / "cloud" / "Dockerfile")
    assert found.returncode == 0, found.stdout


def test_the_image_gets_what_it_copies_and_no_data(root):
    recipe = (root / "cloud" / "Dockerfile").read_text("utf-8")
    lines = [line for line in (root / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {name for names in re.findall(r"^COPY (.+) \S+$", recipe, re.MULTILINE) for name in names.split()}
    assert copied == allowed
    assert all((root / name).exists() for name in copied)
    assert all(any(fnmatch(f"x{end}", line.rpartition("/")[2]) for line in lines[1:]) for end in (".nii.gz", ".mha"))
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", recipe, re.MULTILINE), "a number, so that runAsNonRoot can be checked"
    assert 'ENTRYPOINT ["python"]' in recipe
    pod = documents(root)["Job"]["spec"]["template"]["spec"]
    assert f"USER {pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" in recipe


# ---- packages and options


def test_packages_are_those_of_the_requirements(root):
    lines = (root / "requirements.txt").read_text("utf-8").splitlines()
    pins = {}
    for line in lines:
        if text := line.partition("#")[0].strip():
            requirement = Requirement(text)
            pins[requirement.name] = str(requirement.specifier)
    extras = set(importlib.metadata.metadata("jax").get_all("Provides-Extra") or [])
    seen: dict[str, set[str]] = {}
    for path in (root / "docs" / "cloud.md", *(root / "cloud").iterdir()):
        text = path.read_text("utf-8")
        for extra in re.findall(r"jax\[(\w+)\]", text):
            assert extra in extras, f"{path.name}: jax has no extra {extra}"
        for name, version in re.findall(r"\b([A-Za-z][\w-]*)==(\d[\w.]*\w)", text):
            seen.setdefault(name, set()).add(version)
    for name, versions in seen.items():
        assert len(versions) == 1, f"{name} in several versions: {versions}"
        if name in pins:
            assert pins[name] == f"=={versions.pop()}"
    assert {"gcsfs", "uv"} == set(seen) - set(pins), "a package that requirements.txt does not know"
    choices = re.search(r"in (cpu \| cuda13 \| tpu)\)", (root / "cloud" / "Dockerfile").read_text("utf-8"))
    assert choices and set(choices[1].split(" | ")) <= extras


def test_options_of_train_py_exist(root):
    known = set(re.findall(r"--[a-z]+", run(sys.executable, root / "train.py", "--help").stdout))
    examples = training_options(root)
    assert len(examples) >= 10
    given = {part.partition("=")[0] for options in examples for part in options if part.startswith("--")}
    text = (root / "docs" / "cloud.md").read_text("utf-8")
    given |= {"--coordinator", "--processes", "--process"} & set(re.findall(r"--[a-z]+", text))
    assert {"--config", "--set", "--output", "--coordinator"} <= given
    assert given <= known, f"train.py has no {', '.join(sorted(given - known))}"


def test_configurations_of_the_examples_are_read_and_their_batches_divided(root):
    job = documents(root)["Job"]
    gpus = job["spec"]["completions"] * container(job)["resources"]["limits"]["nvidia.com/gpu"]
    slurm = (root / "cloud" / "slurm.sh").read_text("utf-8")
    default = [int(re.search(rf"^#SBATCH --{key}=(\d+)", slurm, re.MULTILINE)[1]) for key in ("nodes", "gpus-per-node")]
    assert gpus == default[0] * default[1] == 8, "the examples are meant for 8 devices"
    whole = 0
    for options in training_options(root):
        pairs = [one for part in options for one in (part.split("=", 1) if re.match(r"--\w+=", part) else [part])]
        values = list(zip(pairs[::2], pairs[1::2], strict=True))
        sets = [value for key, value in values if key == "--set"]
        (file,) = [value for key, value in values if key == "--config"]
        config = read_config(root / file, sets)
        if any("localization.training.batch_size=8" in one for one in sets):
            whole += 1
            for stage in STAGES:
                assert getattr(config, stage).training.batch_size % gpus == 0, f"{stage}: {options}"
    assert whole >= 5
