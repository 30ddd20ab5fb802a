"""The processes of a job, as options and environments tell of them."""

from __future__ import annotations

import pytest

from ivdjax.training.jobs.job import Job, job_of, joined
from ivdjax.volume import UserError

SLURM = {
    "SLURM_JOB_ID": "4097", "SLURM_STEP_NODELIST": "gpu[003-004,9]", "SLURM_STEP_NUM_TASKS": "3", "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x3)", "SLURM_NODEID": "1",
}  # fmt: skip


def test_a_process_by_itself_belongs_to_no_job():
    assert job_of({}) is None
    assert job_of({"SLURM_JOB_ID": "5", "SLURM_STEP_NUM_TASKS": "1"}) is None  # a batch script, or a single task
    assert job_of({"TPU_WORKER_HOSTNAMES": "host-0"}) is None
    assert job_of({}, "here:1", 1, 0) is None
    with joined(None):
        pass


def test_options_come_before_the_environment():
    told = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
    assert job_of(told) == Job("a:1", 4, 3)
    assert job_of(told | SLURM) == Job("a:1", 4, 3)
    assert job_of(told, "b:2", 2, 1) == Job("b:2", 2, 1)
    assert job_of(told, "auto") == Job()
    assert job_of({"TPU_WORKER_HOSTNAMES": "host-0,host-1", "TPU_WORKER_ID": "0"}) == Job()


def test_one_task_a_host_under_slurm_has_all_devices_that_it_sees():
    assert job_of(SLURM) == Job("gpu003:61441", 3, 1)


@pytest.mark.parametrize(
    ("more", "own"),
    [({}, (2,)), ({"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, (2,)), ({"CUDA_VISIBLE_DEVICES": "2"}, None)],
)
def test_of_several_tasks_on_a_host_each_has_its_own_device(more, own):
    four = {"SLURM_STEP_NUM_TASKS": "5", "SLURM_STEP_TASKS_PER_NODE": "4,1", "SLURM_PROCID": "2", "SLURM_LOCALID": "2"}
    job = job_of(SLURM | four | {"SLURM_NODEID": "0"} | more)
    assert job == Job("gpu003:61441", 5, 2, own)
    last = {"SLURM_PROCID": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "1"}
    assert job_of(SLURM | four | last | more).local_devices is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"), ("n1,n2", "n1"), ("n[1-3]", "n1"), ("n[007,9]", "n007"), ("n[1-2]-ib,m3", "n1-ib"),
        ("a-b-1,c", "a-b-1"),
    ],
)  # fmt: skip
def test_the_first_host_of_slurm_s_list_leads(nodes, first):
    assert job_of(SLURM | {"SLURM_STEP_NODELIST": nodes}).address == f"{first}:61441"


@pytest.mark.parametrize(
    ("environment", "options", "message"),
    [
        ({}, ("a:1", 2, None), "--coordinator, --processes, --process belong together; --process is missing"),
        ({"JAX_NUM_PROCESSES": "2"}, (), "JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID is missing"),
        ({}, ("a", 2, 0), "--coordinator must be host:port of process 0, or auto, not 'a'"),
        ({}, ("a:1", 2, 2), "--process must be 0 to --processes - 1, not 2 of 2"),
        ({}, ("auto", 2, None), "leave out --processes and --process"),
        ({**SLURM, "SLURM_STEP_NODELIST": ""}, (), "its variables cannot be read .*no host in ''.*--coordinator"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, (), "its variables cannot be read .*SLURM_STEP_NODELIST"),
    ],
)
def test_what_does_not_fit_together_is_refused(environment, options, message):
    with pytest.raises(UserError, match=message):
        job_of(environment, *options)
