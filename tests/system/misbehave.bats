#!/usr/bin/env bats
# Handlers that never return, that take memory without end: they are reported, end alone or by a
# word of the operator, and nobody else notices more than time.

load helpers

setup() { system_setup; }
teardown() { system_teardown; }

stuck() { [ "$(field .stuck status)" = "$1" ]; }
runner_pid() { field '.types[0].runner.pid' types "$1"; }
count() { field .reply.count send "$1" "${2:-get}"; }
event_is_there() { gw events | grep -q "\"kind\": *\"$1\""; }

@test "a handler that never returns is reported and does not hold up others, a move of it gives up, kill ends it" {
    start_host alpha --plugin "$(plugin crasher)" --stuck-after 1
    start_host beta --plugin "$(plugin crasher)" --peer "${URL[alpha]}"
    export GODWIT_HOST=alpha
    wait_until 10 alive_count alpha 2
    id=$(field .agent create crasher)
    other=$(field .agent create crasher)
    another=$(field .agent create counter)
    equal "$(count "$id" bump)" 1
    equal "$(field .running show "$id")" null
    "$GODWIT" --timeout 60s send "$id" hang >"$work/hang" 2>&1 3>&- &
    hanging=$!
    "$GODWIT" --timeout 60s send "$other" hang ms=6000 >"$work/longer" 2>&1 3>&- &
    longer=$!
    wait_until 5 stuck 2
    event_is_there handler.stuck
    equal "$(field .running.method show "$id")" hang
    equal "$(field .running.stuck show "$id")" true
    # Others, of the same runner and of another one.
    third=$(field .agent create crasher)
    equal "$(count "$third" bump)" 1
    gw send "$another" increment >/dev/null
    gw dispatch "$third" beta >/dev/null
    # It cannot leave.
    run "$GODWIT" dispatch "$id" beta
    equal "$status" 6
    contains "$output" "did not become quiet"
    contains "$output" "hang runs since"
    contains "$output" "godwit kill"
    pid=$(runner_pid crasher)
    equal "$(field .method kill "$id")" hang
    wait $hanging && false
    grep -q "killed by an operator" "$work/hang"
    wait_until 5 event_is_there handler.killed
    [ "$(runner_pid crasher)" != "$pid" ]
    equal "$(count "$id")" 1
    equal "$(count "$id" bump)" 2
    # What merely ran beside it has been begun again, and ends well.
    wait $longer || { cat "$work/longer"; false; }
    wait_until 5 stuck 0
    run "$GODWIT" kill "$id"
    equal "$status" 6
    gw dispatch "$id" beta >/dev/null
    equal "$(count "$id" bump)" 3
}

@test "a one-way message that never ends becomes a dead letter by kill, and the next one runs" {
    start_host alpha --plugin "$(plugin crasher)"
    id=$(field .agent create crasher)
    gw send "$id" hang --tell >/dev/null
    gw send "$id" bump --tell >/dev/null
    runs() { [ "$(field .running.method show "$id")" = "$1" ]; }
    wait_until 5 runs hang
    gw kill "$id" >/dev/null
    one() { [ "$(count "$id")" = 1 ]; }
    wait_until 5 one
    equal "$(field '.letters[0].method' dead list)" hang
}

@test "a handler that takes memory without end ends its own runner; host and other runners go on" {
    plain_only memory
    start_host alpha --plugin "$(plugin crasher)" --runner-memory 256M
    id=$(field .agent create crasher)
    neighbour=$(field .agent create crasher)
    other=$(field .agent create counter)
    count "$id" bump
    count "$neighbour" bump
    pid=$(runner_pid counter)
    run "$GODWIT" send "$id" swell
    [ "$status" -ne 0 ]
    contains "$output" "the runner of type \"crasher\" ended"
    equal "$(count "$id")" 1
    equal "$(count "$neighbour")" 1
    equal "$(runner_pid counter)" "$pid"
    gw send "$other" increment >/dev/null
    # A message that must be done is tried three times, then given up.
    gw send "$id" swell --tell >/dev/null
    letter() { [ "$(field '.letters | length' dead list)" = 1 ]; }
    wait_until 30 letter
    back() { [ "$(count "$1" 2>/dev/null)" = 1 ]; }
    wait_until 10 back "$id"
    wait_until 10 back "$neighbour"
    kill -0 "${PID[alpha]}"
}
