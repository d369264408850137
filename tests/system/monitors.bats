#!/usr/bin/env bats
# Monitors on real hosts: an agent that ends, a host that is killed and comes back.

load helpers

setup() {
    system_setup
    keeper=$(plugin keeper)
}
teardown() { system_teardown; }

state_of() { field ".state.$2" -H alpha show "$1"; }
diary_has() { [ "$(field '.state.diary // [] | length' -H alpha show "$1")" = "$2" ]; }
gone() { ! gw -H "$1" show "$2" >/dev/null 2>&1; }
kept_by_other() { # KEEPER WORKER: another worker than that is watched now
    local now
    now=$(state_of "$1" worker)
    [ "$now" != "$2" ] && [ "$(field '.monitors | length' -H alpha show "$1")" = 1 ]
}

start_three() {
    start_host alpha --plugin "$keeper"
    start_host beta --peer "${URL[alpha]}" --plugin "$keeper" --tag work
    start_host gamma --peer "${URL[alpha]}" --plugin "$keeper" --tag work
    for each in alpha beta gamma; do
        wait_until 10 alive_count "$each" 3
    done
}

@test "a keeper hears of the end of its worker, also across kill -9 of its own host" {
    start_three
    id=$(field .agent -H alpha create keeper)
    gw -H alpha send "$id" hire
    worker=$(state_of "$id" worker)
    equal "$(field '.watchers[0].agent' -H alpha show "$worker")" "$id"
    equal "$(field '.monitors[0].agent' -H alpha show "$id")" "$worker"
    kill_host alpha
    gw -H beta dispose "$worker"
    restart_host alpha --plugin "$keeper"
    wait_until 15 diary_has "$id" 1
    contains "$(state_of "$id" 'diary[0]')" disposed
    wait_until 10 kept_by_other "$id" "$worker"
}

@test "a worker whose host is killed is replaced elsewhere; the old one retires when its host is back" {
    start_three
    id=$(field .agent -H alpha create keeper)
    gw -H alpha send "$id" hire
    worker=$(state_of "$id" worker)
    where=$(field .host -H alpha show "$worker")
    kill_host "$where"
    wait_until 20 diary_has "$id" 1
    equal "$(state_of "$id" 'diary[0]')" "host_lost on $where"
    wait_until 10 kept_by_other "$id" "$worker"
    new=$(state_of "$id" worker)
    [ "$(field .host -H alpha show "$new")" != "$where" ]
    restart_host "$where" --plugin "$keeper" --tag work
    wait_until 20 gone "$where" "$worker"
    diary_has "$id" 1 # its late end is no second down
}
