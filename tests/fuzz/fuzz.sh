#!/bin/bash
# Fuzz each target for SECS seconds, from its corpus: tests/fuzz/fuzz.sh SECS PROGRAM...
#   JOBS=n   so many at a time (default: the cores)     TARGET=name   this one alone
# New inputs stay in build/fuzz/corpus; a crash file is copied beside the seeds, where `make test` replays it.
# A line for each target when it ends, and a table at the end: runs, a second, inputs that were new, edges of
# the program that all inputs reach, crashes. tests/fuzz/NAME.dict is a dictionary, when it is there.
set -u
cd "$(dirname "$0")/../.." || exit 1

# Leaks are looked for by libFuzzer itself. Short stacks of allocations: half of the time goes there.
export ASAN_OPTIONS=${ASAN_OPTIONS:-malloc_context_size=6:quarantine_size_mb=16:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
folder=build/fuzz/crashes

run_one() {
    local secs=$1 program=$2 name grown crashes log options=() found=0
    name=$(basename "$program")
    name=${name#fuzz_}
    grown=build/fuzz/corpus/$name crashes=$folder/$name log=$folder/$name.log
    rm -rf "$crashes"
    mkdir -p "$grown" "$crashes" "tests/fuzz/corpus/$name"
    [ -e "tests/fuzz/$name.dict" ] && options+=("-dict=tests/fuzz/$name.dict")
    # Runs of whole hosts reach so much that weighing it would take half of the time.
    case $name in arrive | calls | node | plugin | server) options+=(-entropic=0) ;; esac
    "$program" -max_total_time="$secs" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$crashes/" "${options[@]:+${options[@]}}" \
        "$grown" "tests/fuzz/corpus/$name" >"$log" 2>&1 </dev/null
    local code=$?
    for file in "$crashes"/*; do
        if [ -e "$file" ]; then
            cp "$file" "tests/fuzz/corpus/$name/"
            found=$((found + 1))
        fi
    done
    [ $code -ne 0 ] && [ $found -eq 0 ] && found=1
    awk -v name="$name" -v found=$found -v secs="$secs" '
        /^#[0-9]/ { for (i = 1; i < NF; i++) if ($i == "cov:") edges = $(i + 1); sub("#", "", $1); runs = $1 }
        /stat::number_of_executed_units/ { runs = $2 }
        /stat::new_units_added/ { new = $2 }
        END { printf "%-10s %10d %9d %8d %8d %8d\n", name, runs, runs / (secs > 0 ? secs : 1), new, edges, found }
    ' "$log" >"$folder/$name.row"
    echo "$(cat "$folder/$name.row")$([ $found -gt 0 ] && echo "   see $log, tests/fuzz/corpus/$name")"
    if [ $found -gt 0 ]; then
        grep -aE 'FAILED|ERROR: |SUMMARY: |: runtime error: ' "$log" | head -n 6 | cut -c1-200 | sed 's/^/    | /'
    fi
}

if [ "${1:-}" = --one ]; then
    run_one "$2" "$3"
    exit 0
fi

secs=$1
shift
chosen=()
for program in "$@"; do
    if [ -z "${TARGET:-}" ] || [ "$(basename "$program")" = "fuzz_$TARGET" ]; then
        chosen+=("$program")
    fi
done
if [ ${#chosen[@]} -eq 0 ]; then
    echo "no target is called \"${TARGET:-}\"; there are: $(basename -a "$@" | sed 's/^fuzz_//' | tr '\n' ' ')" >&2
    exit 2
fi
mkdir -p $folder
rm -f $folder/*.row
head=$(printf '%-10s %10s %9s %8s %8s %8s' target runs a-second new edges crashes)
echo "$head"
printf '%s\0' "${chosen[@]}" | xargs -0 -P "${JOBS:-$(nproc)}" -n 1 "$0" --one "$secs"
if [ ${#chosen[@]} -gt 1 ]; then
    echo
    echo "$head"
    sort $folder/*.row
fi
cat $folder/*.row | awk -v wanted=${#chosen[@]} '
    { crashes += $6; runs += $2 }
    END {
        printf "%d targets, %d runs, %d crashes\n", NR, runs, crashes
        exit crashes > 0 || NR != wanted
    }'
