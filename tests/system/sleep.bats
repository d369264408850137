# Sleep: who decides, what wakes, what waits meanwhile.
load helpers

setup() {
    system_setup
    plugins=$built/tests/plugins
}
teardown() { system_teardown; }

status_is() { [ "$(field .status show "$1")" = "$2" ]; }

@test "an agent wakes at its time, also when the host was killed meanwhile" {
    start_host alpha --plugin "$plugins/watch.so"
    id=$(field .agent create watch)
    gw deactivate "$id" --wake-after 1s --no-wake-on-message
    equal "$(field .sleep.wake_on_message show "$id")" false
    wait_until 5 status_is "$id" active
    equal "$(field .state.wakes show "$id")" 1
    at=$(date -u -d '+2 seconds' +%Y-%m-%dT%H:%M:%SZ)
    gw deactivate "$id" --wake-at "$at"
    contains "$(field .sleep.wake_at show "$id")" "${at%Z}"
    kill_host alpha
    restart_host alpha --plugin "$plugins/watch.so"
    wait_until 8 status_is "$id" active
    equal "$(field .state.wakes show "$id")" 2
}

@test "messages wait for one that they do not wake; its host's start wakes it" {
    start_host alpha --plugin "$plugins/watch.so"
    id=$(field .agent create watch)
    gw deactivate "$id" --wake-at-start --no-wake-on-message
    gw send "$id" increment --tell
    gw send "$id" increment --tell
    run gw send "$id" increment
    equal "$status" 6
    contains "$output" inactive
    status_is "$id" inactive
    kill_host alpha
    restart_host alpha --plugin "$plugins/watch.so"
    wait_until 5 status_is "$id" active
    equal "$(field .reply.count send "$id" increment)" 3
}

@test "an agent may refuse to sleep" {
    start_host alpha --plugin "$plugins/watch.so"
    id=$(field .agent create watch)
    gw send "$id" arm on=true
    run gw deactivate "$id"
    equal "$status" 6
    contains "$output" "the watch is armed"
    status_is "$id" active
    run gw deactivate "$id" --wake-after 1s --wake-at 2030-01-01T00:00:00Z
    equal "$status" 2
}

@test "an idle agent falls asleep, moves asleep, and wakes on a message" {
    start_host alpha --plugin "$plugins/watch.so"
    start_host beta --plugin "$plugins/watch.so" --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    wait_until 10 alive_count beta 2
    export GODWIT_HOST=alpha
    id=$(field .agent create lazy)
    wait_until 5 status_is "$id" inactive
    gw deactivate "$id" --wake-after 1h
    gw dispatch "$id" beta
    equal "$(field .host show "$id")" beta
    contains "$(field .sleep.wake_at show "$id")" T
    equal "$(field .reply.count send "$id" increment)" 1
    equal "$(field .state.wakes show "$id")" 1
}
