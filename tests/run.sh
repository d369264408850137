#!/bin/bash
# Run test programs, one line each, and end with the one line "N passed, N failed[, N skipped]".
#   tests/run.sh KIND:PROGRAM...
#     unit mesh thread  cmocka programs: its own counts
#     sim               the same, 500 seeds of it, which have to reach all of host/core/reach.def
#     alloc few         unit tests with failing allocations (tests/alloc/rerun.c), all or a few; counts tests
#     system model      a bats file: its own counts; with SAN=... in the environment system tests drive that
#                       build (tests/system/helpers.bash)
#     san               a system test that drives the build with address and undefined sanitizers
#     table             a script that prints TAP: its own counts; of its cases every fifth
#     fuzz              a replay of tests/fuzz/corpus/<name>: one test
#     lint              a script: one test
# Each program has a time-out and a temporary directory of its own. What a failed one printed follows its
# line; all output stays in build/test-logs/. A program that dies counts as one failure.
set -u
cd "$(dirname "$0")/.." || exit 1

logs=build/test-logs
limit_s() { case $1 in system | san) echo 300 ;; alloc | lint) echo 900 ;; *) echo 180 ;; esac; }

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=0:allocator_may_return_null=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}
# The leak checker reads /proc; without it (a bare chroot) the rest still holds.
[ -e /proc/self/maps ] || export ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0

# Sum of the first numbers of the lines that match $1 in file $2.
sum() { sed -nE "s/$1/\1/p" "$2" | awk '{ n += $1 } END { print n + 0 }'; }
count() { grep -cE "$1" "$2" || true; }

# What a reader wants of a failed program's output: the faults, and how it ended.
tell_failure() {
    case $1 in
    system | san | model | table) grep -A 25 '^not ok' "$2" | grep -v '^ok ' | head -n 120 ;;
    unit | mesh | sim | thread | alloc | few)
        grep -E '^\[  (ERROR|FAILED)|^\[   LINE|^FAILED |ERROR: |SUMMARY: |: runtime error: |WARNING: Thread' "$2" | head -n 30
        grep -A 12 -E 'ERROR: |WARNING: Thread' "$2" | head -n 25
        grep -qE 'FAILED|ERROR: ' "$2" || tail -n 25 "$2"
        ;;
    *) tail -n 60 "$2" ;;
    esac
}

# One program: prints its line, leaves "passed failed skipped" in its .count file.
run_one() {
    local kind=${1%%:*} program=${1#*:} name log start code passed=0 failed=0 skipped=0 what tmp
    name=$(echo "$program" | sed -E 's|^build/[^/]*/||; s|^tests/(unit/)?||; s|/test_|/|; s|\.(bats\|sh)$||')
    log=$logs/$kind-${name//\//-}.log
    tmp=$(mktemp -d)
    start=$(date +%s%N)
    case $kind in
    system | model) set -- bats --tap "$program" ;;
    few) set -- env ALLOC=short "$program" ;;
    san) set -- env SAN=address,undefined bats --tap "$program" ;;
    table) set -- "$program" --lanes 6 --every 5 ;;
    fuzz) set -- "$program" "tests/fuzz/corpus/${name#fuzz/replay_}" ;;
    sim) set -- env SEEDS=500 REACH=all "$program" ;;
    *) set -- "$program" ;;
    esac
    TMPDIR=$tmp timeout -k 5 "$(limit_s "$kind")" "$@" >"$log" 2>&1 </dev/null
    code=$?
    rm -rf "$tmp"
    case $kind in
    unit | mesh | sim | thread | alloc | few)
        passed=$(sum '^\[  PASSED  \] ([0-9]+) test\(s\).*' "$log")
        failed=$(sum '^ *([0-9]+) FAILED TEST\(S\).*' "$log")
        skipped=$(sum '^\[  SKIPPED \] ([0-9]+) test\(s\).*' "$log")
        ;;
    system | san | model | table)
        skipped=$(count '^ok [0-9]+ .*# skip' "$log")
        passed=$(($(count '^ok [0-9]+ ' "$log") - skipped))
        failed=$(count '^not ok [0-9]+ ' "$log")
        ;;
    *) [ $code -eq 0 ] && passed=1 ;;
    esac
    if [ $code -ne 0 ] && [ "$failed" -eq 0 ]; then
        failed=1
    elif [ $code -eq 0 ] && [ $((passed + failed + skipped)) -eq 0 ]; then
        echo "no test ran" >>"$log"
        failed=1
    fi
    echo "$passed $failed $skipped" >"$log.count"
    what=ok
    [ "$failed" -gt 0 ] && what=FAIL
    [ $code -eq 124 ] && what="FAIL (time-out)"
    [ $code -gt 128 ] && what="FAIL (signal $((code - 128)))"
    printf '%-6s %-40s %4d passed %3d failed %2d skipped %6.1f s  %s\n' "$kind" "$name" "$passed" \
        "$failed" "$skipped" "$((($(date +%s%N) - start) / 1000000))e-3" "$what"
    if [ "$failed" -gt 0 ]; then
        tell_failure "$kind" "$log" | cut -c1-300 | sed 's/^/    | /'
        echo "    | all of it: $log"
    fi
}

if [ "${1:-}" = --one ]; then
    run_one "$2"
    exit 0
fi

rm -rf $logs
mkdir -p $logs
# Two at a time, but those alone that take all cores, or measure processor time and memory.
beside=() alone=()
for each in "$@"; do
    case $each in
    table:* | system:*/exhaustion.bats | system:*/flood.bats) alone+=("$each") ;;
    *) beside+=("$each") ;;
    esac
done
if [ ${#beside[@]} -gt 0 ]; then
    printf '%s\0' "${beside[@]}" | xargs -0 -P 2 -n 1 "$0" --one
fi
for each in "${alone[@]:+${alone[@]}}"; do
    run_one "$each"
done

cat $logs/*.count 2>/dev/null | awk -v wanted=$# '
    { passed += $1; failed += $2; skipped += $3; programs++ }
    END {
        failed += wanted - programs
        printf "%d passed, %d failed%s\n", passed, failed, skipped ? ", " skipped " skipped" : ""
        exit failed > 0 || passed == 0
    }'
