"""Cohorts on Ray: the same files as without it, whatever dies on the way. Skipped where Ray is not installed."""

from __future__ import annotations

import csv
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ivdjax.imaging.files import write_volume
from ivdjax.inference import ray_cohort
from ivdjax.inference.infer import infer
from ivdjax.inference.ray_cohort import RayOptions, run_on_ray
from ivdjax.inference.request import InferenceRequest
from ivdjax.inference.supervisor import CaseTask
from ivdjax.volume import CaseError, Grid
from tests.inference.test_infer import AFFINE, CANONICAL, SHAPE
from tests.inference.test_supervisor import give, pipeline_of
from tests.untrained_model import write_untrained

pytestmark = pytest.mark.soak

# Ray leaves sockets and files to the garbage collector when it shuts down.
quietly = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning",
                                     "ignore::FutureWarning", "ignore::DeprecationWarning")  # fmt: skip


@pytest.fixture(scope="module")
def ray():
    return pytest.importorskip("ray", reason="Ray is not installed (pip install 'ivdjax[ray]'): clusters are not tried")


@pytest.fixture
def cohort(tmp_path) -> Path:
    """Nine cases of noise, and three that cannot be read."""
    rng = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "data" / f"c{number:02d}"
        folder.mkdir(parents=True)
        path = folder / f"{folder.name}_t2.nii.gz"
        if number % 4 == 3:
            path.write_bytes(b"not an image")
        else:
            write_volume(path, rng.normal(100, 20, CANONICAL).astype(np.float32), Grid(SHAPE, AFFINE))
    return tmp_path / "data"


def files_of(output: Path) -> dict[str, bytes]:
    """Every file of an output folder, the seconds in its summary left out."""
    found = {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}
    found.pop("infer.log", None)
    found.pop("index.html")  # shows the seconds
    with (output / "summary.csv").open() as stream:
        found["summary.csv"] = repr([row | {"seconds": ""} for row in csv.DictReader(stream)]).encode()
    return found


@quietly
def test_two_nodes_one_of_which_dies_give_the_files_of_one_machine(ray, cohort, tmp_path, monkeypatch):
    from ray.cluster_utils import Cluster

    model = write_untrained(tmp_path / "untrained", ["t2"])
    alone = infer(InferenceRequest(model, tmp_path / "alone", (str(cohort),)))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    doomed = cluster.add_node(num_cpus=1)
    done = tmp_path / "ray"

    def kill_a_node() -> None:
        end = time.monotonic() + 600
        while len(list(done.glob("c*/*_discs.json"))) < 3 and time.monotonic() < end:
            time.sleep(0.05)
        cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill_a_node)
    killer.start()
    try:
        request = InferenceRequest(model, done, (str(cohort),), ray=RayOptions(cluster.address, cores=1))
        rows = infer(request)
        assert killer.is_alive() is False, "the node died too late to matter"
        assert [(row.case, row.status, row.reasons) for row in rows] == [
            (row.case, row.status, row.reasons) for row in alone
        ]
        assert files_of(done) == files_of(tmp_path / "alone")
        assert sum(row.failed for row in rows) == 3
    finally:
        killer.join()
        cluster.shutdown()


@quietly
def test_each_failure_stays_with_its_case(ray, tmp_path):
    tasks = [
        CaseTask("a", give(1)),
        CaseTask("bad", {"read": [("raise", CaseError("bad: no image"))]}),
        CaseTask("broken", {"compute": [("raise", KeyError("spacing"))]}),
        CaseTask("slow", {"compute": [("sleep", 60)]}),
        CaseTask("killed", {"read": [("kill", signal.SIGKILL)]}),
        CaseTask("b", give(2)),
    ]
    log = tmp_path / "log"
    options = RayOptions("local", workers=1, cores=1)
    by_case = {r.case: r for r in run_on_ray(tasks, pipeline_of(tmp_path), options, 5.0, log, tmp_path)}
    assert sorted(by_case) == sorted(task.case for task in tasks)
    assert {case: r.payload[0] for case, r in by_case.items() if not r.failed} == {"a": 1, "b": 2}
    assert by_case["bad"].reason == "bad: no image"
    assert by_case["broken"].reason == f"KeyError: 'spacing'; the traceback is in {log}"
    assert "longer than the 5 s of --timeout" in by_case["slow"].reason
    assert "2 times" in by_case["killed"].reason
    assert "case broken:" in log.read_text() and "Traceback" in log.read_text()
    assert not list(tmp_path.glob(ray_cohort._MARK.format("*")))
