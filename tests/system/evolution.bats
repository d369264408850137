#!/usr/bin/env bats
# Two builds of one type in one mesh: fields added, removed, renamed; a meaning that changes.

load helpers

setup() {
    system_setup
    start_host alpha --plugin "$(plugin morph_v1)"
    start_host beta --plugin "$(plugin morph_v2)" --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    export GODWIT_HOST=alpha
}
teardown() { system_teardown; }

state() { field ".state.$1" show "$id"; }

@test "an agent goes from the older build to the newer one and back, awake and asleep: nothing is lost" {
    equal "$(field '.types[0].version' -H alpha types morph)" 1
    equal "$(field '.types[0].version' -H beta types morph)" 2
    id=$(field .agent create morph)
    gw send "$id" set text=one >/dev/null
    gw dispatch "$id" beta >/dev/null
    equal "$(state label)" one
    equal "$(state count)" 1
    gw send "$id" set text=two >/dev/null
    equal "$(state 'history | join(",")')" two
    gw dispatch "$id" alpha >/dev/null
    equal "$(state name)" two # what the newer build wrote under its own word
    equal "$(state count)" 2
    equal "$(state 'secret | join(",")')" one # what it did not know
    gw send "$id" set text=three >/dev/null
    gw deactivate "$id" >/dev/null
    gw dispatch "$id" beta >/dev/null # asleep
    gw send "$id" set text=four >/dev/null
    equal "$(state label)" four
    equal "$(state count)" 4
    equal "$(state 'history | join(",")')" two,four
    kill_host beta
    restart_host beta --plugin "$(plugin morph_v2)" --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    gw dispatch "$id" alpha >/dev/null
    gw send "$id" set text=five >/dev/null
    equal "$(state name)" five
    equal "$(state count)" 5
    equal "$(state 'secret | join(",")')" one,three,five
    equal "$(state 'history | join(",")')" two,four
}

@test "a state whose meaning has changed is upgraded once, and does not go where it would be misread" {
    id=$(field .agent create meter)
    gw send "$id" grow cm=5 >/dev/null
    gw dispatch "$id" beta >/dev/null
    gw send "$id" grow cm=1 >/dev/null
    equal "$(state length)" 60
    epoch=$(field .epoch show "$id")
    run "$GODWIT" dispatch "$id" alpha
    equal "$status" 6
    contains "$output" "has version 1 of type \"meter\""
    run gw dispatch "$id" alpha --dry-run
    equal "$status" 6
    equal "$(field .epoch show "$id")" "$epoch"
    equal "$(field .status show "$id")" active
    # Nor does an older plugin on the same host read it.
    term_host beta
    restart_host beta --plugin "$(plugin morph_v1)" --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    run "$GODWIT" send "$id" grow cm=1
    [ "$status" -ne 0 ]
    contains "$output" "can be read by versions from 2 on"
    term_host beta
    restart_host beta --plugin "$(plugin morph_v2)" --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    gw send "$id" grow cm=1 >/dev/null
    equal "$(state length)" 70
}
