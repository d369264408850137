#!/bin/bash
# Many seeds of the simulated mesh: sim.sh SEEDS PROGRAM..., shared among the cores, from FIRST (1) on.
# SEED=n in the environment: that one alone. Prints what was simulated, and for each failing seed the
# command that repeats it; the others go on.
set -u
self=$(realpath "$0")
each=250 # seeds of one process

# One piece: from seed $3, $4 of them; a failing one is noted and passed over.
if [ "${1:-}" = --piece ]; then
    program=$2 first=$3 end=$(($3 + $4)) log=$5/$3
    while [ "$first" -lt "$end" ]; do
        FIRST=$first SEEDS=$((end - first)) timeout -k 5 1200 "$program" >"$log" 2>&1 && break
        seed=$(sed -nE 's/^(FAILED|ABORTED) under seed ([0-9]+) .*/\2/p' "$log" | head -n 1)
        {
            sed -nE '/^(FAILED|ABORTED)/p' "$log"
            [ -n "$seed" ] || tail -n 20 "$log"
        } | tee -a "$5/failures"
        echo 1 >"$log.failed.$first"
        [ -n "$seed" ] || break
        first=$((seed + 1))
    done
    grep '^figure' "$log" >"$log.figures"
    exit 0
fi

seeds=$1
shift
for program in "$@"; do
    if [ -n "${SEED:-}" ]; then
        "$program" || exit 1
        continue
    fi
    logs=$(mktemp -d)
    start=$(date +%s%N) first=${FIRST:-1}
    for ((at = 0; at < seeds; at += each)); do
        left=$((seeds - at))
        printf '%s\0%s\0' $((first + at)) $((left < each ? left : each))
    done | xargs -0 -n 2 -P "$(nproc)" sh -c '"$0" --piece "$1" "$3" "$4" "$2"' "$self" "$program" "$logs"
    ms=$((($(date +%s%N) - start) / 1000000))
    failed=$(find "$logs" -name '*.failed.*' | wc -l)
    ended=$(find "$logs" -name '*.figures' -size +0 | wc -l) # a piece that prints none did not get to its end
    [ "$ended" -eq $(((seeds + each - 1) / each)) ] || failed=$((failed + 1))
    cat "$logs"/*.figures | awk -v program="${program##*/}" -v ms=$ms -v failed="$failed" -v seeds="$seeds" '
        { n = $NF; $NF = ""; sub(/^figure /, ""); sub(/: *$/, ""); if (!($0 in sum)) names[++count] = $0; sum[$0] += n }
        END {
            printf "%d seeds of %s: %s; %.1f s, %.0f seeds a second\n", seeds, program,
                   failed ? failed " FAILED" : "all right", ms / 1000, seeds * 1000 / (ms ? ms : 1)
            for (i = 1; i <= count; i++) printf "  %14d %s\n", sum[names[i]], names[i]
        }'
    rm -rf "$logs"
    [ "$failed" = 0 ] || exit 1
done
