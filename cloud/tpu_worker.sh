#!/bin/bash
# What cloud/tpu_vm.sh does on a worker of the TPU VM, in ~/ivdjax; not for use by hand.
#
#   tpu_worker.sh install           makes .venv for what requirements.txt pins, with jax[tpu]
#   tpu_worker.sh start OPTIONS...  starts train.py in the background, once an earlier one has ended
#   tpu_worker.sh log               shows its log until it has ended
#   tpu_worker.sh code              prints its exit code; "unknown" where it left none (the machine was restarted)
#   tpu_worker.sh stop              sends it SIGTERM
set -euo pipefail
cd "$(dirname "$0")/.."

installer=uv==0.13.9 # the TPU VM's own Python is too old; uv brings a newer one
storage=gcsfs==2026.10.1 # for gs:// output; etils[epath] comes with Orbax
patience_s=${TPU_PATIENCE_S:-60}

is_running() {
    [ -s train.pid ] && kill -0 "$(cat train.pid)" 2>/dev/null
}

install() {
    python3 -m pip install --user --quiet "$installer"
    python3 -m uv venv --quiet --python 3.12 --allow-existing .venv
    python3 -m uv pip install --quiet --python .venv/bin/python -r requirements.txt 'jax[tpu]' "$storage"
}

start() {
    local second
    for ((second = 0; second < patience_s; second++)); do
        is_running || break
        sleep 1
    done
    if is_running; then
        echo "error: train.py is still running on $(hostname) (process $(cat train.pid)); stop it first" >&2
        exit 1
    fi
    rm -f train.pid train.exit
    # Its own session and no terminal: it outlives the connection.
    # shellcheck disable=SC2016  # the inner shell expands
    setsid nohup bash -c '"$@" & echo $! > train.pid; wait $!; echo $? > train.exit' train \
        .venv/bin/python -u train.py "$@" > train.log 2>&1 < /dev/null &
    while [ ! -s train.pid ]; do sleep 0.1; done
}

log() {
    tail -n +1 -f --pid="$(cat train.pid)" train.log
}

code() {
    local try
    for ((try = 0; try < 2 * patience_s; try++)); do # train.py may have ended a moment before its code is written
        [ ! -s train.exit ] || break
        sleep 0.5
    done
    if [ -s train.exit ]; then cat train.exit; else echo unknown; fi
}

stop() {
    ! is_running || kill -TERM "$(cat train.pid)"
}

"$@"
