#!/usr/bin/env bats
# The proof that a user can run: short here, its verdict and its traces.

load helpers

setup() { system_setup; }
teardown() { system_teardown; }

@test "selftest: forty steps with kills, a verdict, nothing left behind" {
    local out
    out=$(TMPDIR=$work gw selftest --steps 40 --seed 7)
    equal "$(jq -r .passed <<<"$out")" true
    equal "$(jq -r .seed <<<"$out")" 7
    [ "$(jq -r .messages <<<"$out")" = 40 ]
    [ "$(jq -r .kills <<<"$out")" -ge 3 ]
    [ -z "$(ls "$work")" ]
}

@test "selftest: Ctrl-C ends it with a verdict over what was done, and no process stays" {
    TMPDIR=$work "$GODWIT" selftest >"$work.out" 2>&1 3>&- &
    local self=$!
    ALL_PIDS+=("$self")
    wait_until 20 three_hosts "$self"
    local hosts
    hosts=$(pgrep -P "$self")
    kill -INT "$self"
    wait "$self" || equal $? 130
    grep -q '^passed' "$work.out" || { cat "$work.out"; rm -f "$work.out"; return 1; }
    rm -f "$work.out"
    for each in $hosts; do
        process_gone "$each"
    done
    [ -z "$(ls "$work")" ]
}

three_hosts() { [ "$(pgrep -P "$1" | wc -l)" = 3 ]; }

@test "selftest: what cannot start is said, and its log kept" {
    run "$GODWIT" selftest --minutes 0
    equal "$status" 2
    contains "$output" "--minutes"
}
