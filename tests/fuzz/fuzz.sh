#!/bin/bash
# Fuzz each target for SECS seconds, from its corpus: tests/fuzz/fuzz.sh SECS PROGRAM...
# New inputs stay in build/fuzz/corpus; a crash file is copied beside the seeds, where `make test` replays it.
set -u
cd "$(dirname "$0")/../.." || exit 1
secs=$1
shift
bad=0
for program in "$@"; do
    name=$(basename "$program")
    name=${name#fuzz_}
    grown=build/fuzz/corpus/$name
    crashes=build/fuzz/crashes/$name
    mkdir -p "$grown" "$crashes" "tests/fuzz/corpus/$name"
    printf '%-12s ' "$name"
    if "$program" -max_total_time="$secs" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$crashes/" "$grown" "tests/fuzz/corpus/$name" >"$crashes/log" 2>&1; then
        awk '/stat::number_of_executed_units/ { runs = $2 } /stat::new_units_added/ { new = $2 }
             END { printf "%d runs, %d new inputs, no crash\n", runs, new }' "$crashes/log"
    else
        bad=1
        echo "CRASH; its input goes to tests/fuzz/corpus/$name"
        tail -n 40 "$crashes/log"
        for file in "$crashes"/*-*; do
            [ -e "$file" ] && cp "$file" "tests/fuzz/corpus/$name/"
        done
    fi
done
exit $bad
