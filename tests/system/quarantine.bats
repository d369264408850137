#!/usr/bin/env bats
# An agent that crashes again and again on a real host.

load helpers

setup() { system_setup; }
teardown() { system_teardown; }

status_is() { [ "$(field .status show "$1")" = "$2" ]; }
crash_more() { # one more crash; whether it is quarantined now
    gw send "$1" crash >/dev/null 2>&1
    status_is "$1" quarantined
}

@test "an agent that crashes three times is quarantined, says so, survives kill -9, and is released" {
    start_host alpha --plugin "$(plugin crasher)"
    id=$(field .agent create brittle)
    other=$(field .agent create counter)
    wait_until 30 crash_more "$id"
    run gw send "$id" crash
    equal "$status" 6
    contains "$output" quarantined
    equal "$(field '.agents[0].agent' agents --status quarantined)" "$id"
    contains "$(field .fault show "$id")" "crashed 3 times"
    gw send "$other" increment
    kill_host alpha
    restart_host alpha --plugin "$(plugin crasher)"
    status_is "$id" quarantined
    gw activate "$id"
    status_is "$id" active
}
