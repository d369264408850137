#!/bin/bash
# Many seeds of the simulated mesh: sim.sh SEEDS PROGRAM..., shared among the cores. SEED=n in the
# environment: that one alone. A failing seed prints the command that repeats it.
set -u
seeds=$1
shift
jobs=$(nproc)
each=$(((seeds + jobs - 1) / jobs))
start=$SECONDS
for program in "$@"; do
    if [ -n "${SEED:-}" ]; then
        "$program" || exit 1
        continue
    fi
    pids=()
    logs=$(mktemp -d)
    for ((i = 0; i < jobs && i * each < seeds; i++)); do
        left=$((seeds - i * each))
        FIRST=$((i * each + 1)) SEEDS=$((left < each ? left : each)) "$program" >"$logs/$i" 2>&1 &
        pids+=($!)
    done
    failed=0
    for i in "${!pids[@]}"; do
        wait "${pids[$i]}" || { failed=1 && tail -n 60 "$logs/$i"; }
    done
    rm -rf "$logs"
    [ $failed = 0 ] || exit 1
    echo "$seeds seeds of ${program##*/}: all right"
done
echo "$((SECONDS - start)) s"
