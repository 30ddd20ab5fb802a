#!/bin/bash
# Trains on several Slurm nodes with GPUs, one task a node with all of its GPUs. What stands behind the script's name
# goes to train.py:
#
#   sbatch cloud/slurm.sh --config configs/ivdm3seg.yaml --set data.root=/shared/ivdm3seg \
#       --set localization.training.batch_size=8 --output /shared/runs/ivdm3seg
#
# Once before the first job, on a login node, in the repository, which lies at the same path on every node:
#
#   python3.12 -m venv .venv && .venv/bin/pip install -r requirements.txt "jax[cuda13]"
#
# A job that is pre-empted or runs out of time saves a checkpoint, goes back into the queue and resumes; so does one
# that lost a process, unless it was restarted MAX_FAULTS times (10) before. What is wrong in the options or in the
# training itself ends it. See docs/cloud.md. Other numbers than these go before the script's name:
# sbatch --nodes=4 --time=2:00:00 cloud/slurm.sh ...
#SBATCH --job-name=ivdjax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --output=slurm-%j.out
# The same file after each restart.
#SBATCH --open-mode=append
#SBATCH --requeue
# SIGTERM goes to train.py on every node, not to this shell, three minutes before the time is up; Slurm sends the same
# signal when it pre-empts, where the partition grants a time of grace.
#SBATCH --signal=TERM@180
set -u

max_faults=${MAX_FAULTS:-10}
repository=${SLURM_SUBMIT_DIR:-}
python=${IVDJAX_PYTHON:-$repository/.venv/bin/python}

refuse() {
    echo "error: $1" >&2
    exit 2
}

# Puts this job back into the queue, with the same number; $1 says why.
requeue() {
    # One that was cancelled must stay so, and one that Slurm has put back itself is in the queue already.
    local state
    state=$(scontrol show job "$SLURM_JOB_ID" | grep -o 'JobState=[A-Z_]*' | head -n 1)
    if [ "$state" != JobState=RUNNING ]; then
        echo "slurm.sh: $1; ${state:-no state} for Slurm, so nothing to do here"
    elif scontrol requeue "$SLURM_JOB_ID"; then
        echo "slurm.sh: $1; back in the queue"
    else
        echo "slurm.sh: $1, and Slurm does not take the job back; to resume, submit the same command again" >&2
    fi
}

if [ -z "${SLURM_JOB_ID:-}" ] || [ -z "$repository" ]; then
    refuse "this script is a job's; start it with: sbatch cloud/slurm.sh --config FILE ..."
elif [ ! -f "$repository/train.py" ]; then
    refuse "no train.py in $repository; call sbatch in the repository's folder"
elif [ ! -x "$python" ]; then
    refuse "no Python at $python; make the environment first (top of cloud/slurm.sh), or name one: IVDJAX_PYTHON"
fi
cd "$repository" || refuse "no access to $repository"

# All nodes and all later jobs share what was compiled.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$repository/cache/jax}
# Where SIGTERM does reach this shell (scancel, the end of the time of grace), it outlives train.py to tell what came.
trap : TERM

# train.py takes the coordinator, the number of processes and its own number from Slurm's variables. When one process
# ends, the others know what to do: a site's default of killing them, or of waiting only so long, would tear the last
# checkpoint. The CPUs are repeated because srun does not take them from sbatch since Slurm 22.05.
srun --kill-on-bad-exit=0 --wait=0 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$python" -u train.py "$@"
code=$? # the highest of all tasks

restarts=${SLURM_RESTART_COUNT:-0}
case $code in
    0) echo "slurm.sh: done" ;;
    143) requeue "stopped by SIGTERM" ;;
    134 | 137 | 139)
        if [ "$restarts" -lt "$max_faults" ]; then
            requeue "a process was lost (exit code $code), restart $((restarts + 1))"
        else
            echo "slurm.sh: a process was lost (exit code $code) after $restarts restarts; given up" >&2
        fi
        ;;
    *) echo "slurm.sh: exit code $code is nothing that another try would mend; see the message above" >&2 ;;
esac
exit "$code"
