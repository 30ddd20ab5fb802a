#!/bin/bash
# Trains on a Cloud TPU VM, one host or a pod slice. Runs on your own machine, in the repository, and needs gcloud and
# git there. `cloud/tpu_vm.sh --help` says how; docs/cloud.md says what happens on pre-emption.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: cloud/tpu_vm.sh [--dry-run] COMMAND [train.py's options]

  create     asks for the TPU as a queued resource and waits until it is there
  install    copies ivdjax/, configs/, models/ and train.py to every worker, and installs jax[tpu] and the rest
  train      starts train.py with these options on every worker, in the background
  attach     shows the log of worker 0 and ends with its exit code
  stop       SIGTERM to train.py on every worker: it saves a checkpoint; train goes on from there
  run        all of it: create, install, train and attach, again after every pre-emption, and delete once it is done;
             --output must be gs://..., since a TPU VM that is pre-empted takes its disk with it
  status     state of the queued resource and of the TPU
  delete     gives the TPU back; nothing on its disk stays

  --dry-run  prints the commands in place of running them, as if each of them succeeded

environment:
  TPU_ZONE     zone; needed
  TPU_NAME     name of the TPU and of its queued resource (ivdjax)
  TPU_TYPE     accelerator type (v6e-8, one host; v6e-16, a pod slice of four hosts)
  TPU_RUNTIME  software version (v2-alpha-tpuv6e; v5p: v2-alpha-tpuv5, v5e: v2-alpha-tpuv5-lite,
               v4: tpu-ubuntu2204-base)
  TPU_SPOT     1: may be pre-empted, costs less; 0: not (1)
  TPU_PROJECT  the project (gcloud's own setting)
  TPU_ACCOUNT  service account of the TPU VM, which must be able to write the bucket (the project's default)
  TPU_DATA     gs:// folder with the cases, copied to data/ on worker 0 by install
  TPU_CACHE    folder of compiled programs, gs:// to keep them over pre-emptions (compiled/ on each worker)

  TPU_ZONE=europe-west4-a TPU_DATA=gs://bucket/ivdm3seg cloud/tpu_vm.sh run --config configs/ivdm3seg.yaml \
      --set data.root=data --set localization.training.batch_size=8 --output gs://bucket/runs/ivdm3seg
USAGE
}

name=${TPU_NAME:-ivdjax}
type=${TPU_TYPE:-v6e-8}
runtime=${TPU_RUNTIME:-v2-alpha-tpuv6e}
max_faults=5                      # restarts of run on a TPU that is still there
poll_s=${TPU_POLL_S:-30}          # between two looks at the queue
settle_s=${TPU_SETTLE_S:-120}     # from train.py's end until a pre-emption is known for sure
dry_run=
worker="bash ivdjax/cloud/tpu_worker.sh"
pretended= # what a dry run takes the queued resource's state to be

say() { echo "tpu_vm.sh: $*" >&2; }

refuse() {
    echo "error: $1" >&2
    exit 2
}

# Arguments as a shell would have to be given them, on one line.
quoted() {
    local argument line=
    for argument in "$@"; do
        case $argument in
            '' | *[!A-Za-z0-9_./:=,@%+-]*) argument="'${argument//\'/\'\\\'\'}'" ;;
        esac
        line+="${line:+ }$argument"
    done
    printf '%s' "$line"
}

# Runs a command, or prints it in a dry run.
run_or_print() {
    if [ -n "$dry_run" ]; then
        quoted "$@"
        echo
    else
        "$@"
    fi
}

tpus() {
    run_or_print gcloud compute tpus "$@" "${where[@]}"
}

# A command on the workers that $1 names (all, or a number).
on_workers() {
    tpus tpu-vm ssh "$name" --worker="$1" --command="$2"
}

# ACTIVE, WAITING_FOR_RESOURCES, SUSPENDED ...; nothing where there is no such queued resource.
queue_state() {
    if [ -n "$dry_run" ]; then
        echo "$pretended"
    else
        gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format='value(state.state)' 2>/dev/null ||
            true
    fi
}

# READY, PREEMPTED ...; nothing where there is no such TPU.
tpu_state() {
    if [ -n "$dry_run" ]; then
        echo READY
    else
        gcloud compute tpus tpu-vm describe "$name" "${where[@]}" --format='value(state)' 2>/dev/null || true
    fi
}

create() {
    local state options=()
    [ "${TPU_SPOT:-1}" = 0 ] || options+=(--spot)
    [ -z "${TPU_ACCOUNT:-}" ] || options+=(--service-account="$TPU_ACCOUNT")
    while true; do
        state=$(queue_state)
        case $state in
            ACTIVE) return ;;
            '')
                say "asking for $type in $TPU_ZONE"
                tpus queued-resources create "$name" --node-id="$name" --accelerator-type="$type" \
                    --runtime-version="$runtime" ${options[@]+"${options[@]}"} || return
                pretended=ACTIVE
                ;;
            SUSPENDED) delete || return ;; # it will not come back; the next turn asks anew
            FAILED)
                say "the request failed; see gcloud compute tpus queued-resources describe $name, then delete it"
                return 1
                ;;
            *)
                say "the queued resource is $state"
                sleep "$poll_s"
                ;;
        esac
    done
}

delete() {
    tpus queued-resources delete "$name" --force --quiet || return
    pretended=
}

install() {
    local archive copied=0
    # As they are here, with changes and new files; never a run, data or an environment.
    archive=$(mktemp -t ivdjax.XXXXXX)
    git ls-files -z --cached --others --exclude-standard -- train.py requirements.txt ivdjax configs models cloud |
        tar --create --gzip --file="$archive" --null --files-from=- &&
        tpus tpu-vm scp "$archive" "$name:ivdjax.tar.gz" --worker=all || copied=$?
    rm -f "$archive"
    [ "$copied" = 0 ] || return "$copied"
    on_workers all "mkdir -p ivdjax && tar -xzf ivdjax.tar.gz -C ivdjax && $worker install" || return
    [ -z "${TPU_DATA:-}" ] || on_workers 0 "gcloud storage rsync --recursive $(quoted "$TPU_DATA") ivdjax/data"
}

train() {
    [ $# -gt 0 ] || refuse "train needs train.py's options, --config at least"
    # JAX finds the coordinator and the number of workers itself, on one host too.
    on_workers all "export JAX_COMPILATION_CACHE_DIR=$cache; $worker start --coordinator auto $(quoted "$@")"
}

# What train.py on worker 0 ended with; 255 where that is not known.
exit_code() {
    local code
    code=$(on_workers 0 "$worker code") || code=unknown
    if [ -n "$dry_run" ]; then
        printf '%s\n' "$code"
        return 0
    fi
    case $code in
        '' | *[!0-9]*) return 255 ;;
        *) return "$code" ;;
    esac
}

attach() {
    on_workers 0 "$worker log" || true
    exit_code
}

stop() {
    on_workers all "$worker stop"
}

# Trains until there is nothing more to do, over pre-emptions; the exit code is that of train.py.
run() {
    local code faults=0
    case " $* " in
        *" --output gs://"* | *" --output=gs://"*) ;;
        *) refuse "run needs --output gs://BUCKET/FOLDER: a TPU VM that is pre-empted takes its disk with it" ;;
    esac
    while true; do
        create || return
        code=255
        if install && train "$@"; then
            code=0
            attach || code=$?
        fi
        if [ "$code" = 0 ]; then
            delete || return
            say "done"
            return 0
        fi
        # The news of a pre-emption may come after train.py's end.
        [ "$code" = 2 ] || sleep "$settle_s"
        if [ "$code" != 2 ] && [ "$(tpu_state)" != READY ]; then
            say "the TPU was taken away (exit code $code); asking for another one"
            delete || return
        elif [ "$code" = 1 ] || [ "$code" = 2 ] || [ "$code" = 143 ] || [ "$faults" -ge "$max_faults" ]; then
            say "ended with exit code $code; the TPU still costs: cloud/tpu_vm.sh delete"
            return "$code"
        else
            faults=$((faults + 1))
            say "ended with exit code $code; trying again ($faults of $max_faults)"
        fi
    done
}

status() {
    tpus queued-resources describe "$name" --format='value(state.state)'
    tpus tpu-vm describe "$name" --format='value(state)'
}

if [ "${1:-}" = --dry-run ]; then
    dry_run=1
    shift
fi
command=${1:-}
[ $# -eq 0 ] || shift
case $command in
    --help | -h)
        usage
        exit 0
        ;;
    create | install | train | attach | stop | run | status | delete) ;;
    *)
        usage >&2
        exit 2
        ;;
esac
[ -n "${TPU_ZONE:-}" ] || refuse "set TPU_ZONE to the zone that has your TPU quota, such as europe-west4-a"
[ -f train.py ] || refuse "no train.py here; call this script in the repository's folder"
where=(--zone="$TPU_ZONE")
cache=$(quoted "${TPU_CACHE:-compiled}")
[ -z "${TPU_PROJECT:-}" ] || where+=(--project="$TPU_PROJECT")
"$command" "$@"
