#!/usr/bin/env bats
# Messages through the real binary: request keys, one-way messages, agents that wait for each other.

load helpers

setup() { system_setup; }
teardown() { system_teardown; }

count_is() { [ "$(field .reply.count send "$1" get)" = "$2" ]; }

@test "a repeated one-way message under one key is applied once, also after kill -9" {
    start_host alpha
    id=$(field .agent create counter)
    for _ in 1 2 3; do
        gw send "$id" increment --tell --op-key once
    done
    wait_until 5 count_is "$id" 1
    kill_host alpha
    restart_host alpha
    gw send "$id" increment --tell --op-key once
    gw send "$id" increment --tell --op-key twice
    wait_until 5 count_is "$id" 2
    equal "$(field .reply.count send "$id" increment --op-key once)" null # the record of the tell answers
    count_is "$id" 2
}

@test "an ask under one key is applied once through either host, also after a move" {
    start_pair
    id=$(field .agent -H alpha create counter)
    equal "$(field .reply.count -H alpha send "$id" increment --op-key k1)" 1
    gw -H alpha dispatch "$id" beta
    equal "$(field .reply.count -H alpha send "$id" increment --op-key k1)" 1
    equal "$(field .reply.count -H beta send "$id" increment --op-key k1)" 1
    equal "$(field .reply.count -H beta send "$id" increment --op-key k2)" 2
}

@test "agents that ask each other at the same moment do not hang: one is told of the deadlock" {
    start_host alpha --plugin "$(plugin worker)"
    a=$(field .agent create worker)
    b=$(field .agent create worker)
    gw --timeout 20s send "$a" swap whom="$b" ms=200 >"$work/a" 2>&1 3>&- &
    first=$!
    gw --timeout 20s send "$b" swap whom="$a" ms=200 >"$work/b" 2>&1 3>&- &
    second=$!
    failed=0
    wait $first || failed=$((failed + 1))
    wait $second || failed=$((failed + 1))
    cat "$work/a" "$work/b"
    equal $failed 1
    grep -q deadlock "$work/a" "$work/b"
}

@test "an agent asks many at once, and a circle through one of them is found" {
    start_host alpha --plugin "$(plugin worker)"
    for i in 1 2 3 4; do
        id[i]=$(field .agent create worker)
    done
    equal "$(field '.reply | "\(.done) \(.code)"' send "${id[1]}" all whom="${id[2]},${id[3]},${id[4]}" wait=20000 \
        method=add)" "3 ok"
    # 2 sleeps and then asks 1, which waits for it and for 3
    gw --timeout 20s send "${id[2]}" swap whom="${id[1]}" ms=300 >"$work/swap" 2>&1 3>&- &
    swap=$!
    equal "$(field .reply.code --timeout 20s send "${id[1]}" all whom="${id[3]},${id[2]}" wait=-1 method=add)" ok
    failed=0
    wait $swap || failed=$?
    cat "$work/swap"
    [ $failed -ne 0 ]
    grep -q deadlock "$work/swap"
}

@test "dispose ends an agent whose runner crashes or that cannot be loaded" {
    start_host alpha --plugin "$(plugin crasher)"
    id=$(field .agent create crasher)
    run gw send "$id" crash
    [ "$status" -ne 0 ]
    gw dispose "$id"
    run gw show "$id"
    equal "$status" 3
}
