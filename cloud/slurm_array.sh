#!/bin/bash
# Finds the discs of a cohort with a Slurm array: every task works on its share of the case folders, on one GPU or, without
# --gpus-per-task, on its cores. CASES is a folder of case folders, OUT takes one output folder for each task:
#
#   sbatch cloud/slurm_array.sh /shared/cases /shared/results --model lumbar --timeout 600
#
# What stands behind the two folders goes to infer.py. Once before the first job, on a login node, in the repository,
# which lies at the same path on every node:
#
#   python3.12 -m venv .venv && .venv/bin/pip install -r requirements.txt "jax[cuda13]"
#
# One folder of all results, once the tasks are done: ivdjax merge --output /shared/all /shared/results/part_*
#
# The same command again, with the same number of tasks, goes on where it was: cases that are whole are skipped. Other
# numbers than these go before the script's name: sbatch --array=0-99 cloud/slurm_array.sh ... See docs/cloud.md.
#SBATCH --job-name=ivdjax-cohort
#SBATCH --array=0-9
#SBATCH --cpus-per-task=4
#SBATCH --gpus-per-task=1
#SBATCH --mem=16G
#SBATCH --time=12:00:00
#SBATCH --output=slurm-%A_%a.out
#SBATCH --open-mode=append
#SBATCH --requeue
set -u

repository=${SLURM_SUBMIT_DIR:-}
python=${IVDJAX_PYTHON:-$repository/.venv/bin/python}

refuse() {
    echo "error: $1" >&2
    exit 2
}

if [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || [ -z "${SLURM_ARRAY_TASK_COUNT:-}" ] || [ -z "$repository" ]; then
    refuse "this script is an array job's; start it with: sbatch cloud/slurm_array.sh CASES OUT --model NAME"
elif [ ! -f "$repository/infer.py" ]; then
    refuse "no infer.py in $repository; call sbatch in the repository's folder"
elif [ ! -x "$python" ]; then
    refuse "no Python at $python; make the environment first (top of cloud/slurm_array.sh), or name one: IVDJAX_PYTHON"
elif [ $# -lt 2 ] || [ ! -d "$1" ]; then
    refuse "the first two words must be the folder of case folders and the one for results, not: $*"
fi

cases=$1 output=$2
shift 2
share=()
number=0
for folder in "$cases"/*/; do
    [ -d "$folder" ] || continue
    # A case goes to the same task every time, so that whole ones are found again.
    if [ $((number % SLURM_ARRAY_TASK_COUNT)) -eq $((SLURM_ARRAY_TASK_ID - ${SLURM_ARRAY_TASK_MIN:-0})) ]; then
        share+=("${folder%/}")
    fi
    number=$((number + 1))
done
if [ "$number" -eq 0 ]; then
    refuse "there is no case folder in $cases"
elif [ "${#share[@]}" -eq 0 ]; then
    echo "slurm_array.sh: $number cases are fewer than the tasks; nothing to do here"
    exit 0
fi
cd "$repository" || exit 2
exec srun "$python" infer.py --output "$output/part_$SLURM_ARRAY_TASK_ID" "$@" "${share[@]}"
