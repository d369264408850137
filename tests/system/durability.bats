# Types that ask for less than a commit at each message: what is left after an end of each kind.
load helpers

setup() { system_setup; }
teardown() { system_teardown; }

plugin=$(plugin modes)
restart() { restart_host alpha --plugin "$plugin"; }
count() { field .reply.count -H alpha send "$1" get; }

@test "transitions: saved by sleep and by an orderly stop, not by messages" {
    start_host alpha --plugin "$plugin"
    id=$(field .agent -H alpha create saver)
    for i in 1 2 3; do gw -H alpha send "$id" add >/dev/null; done
    equal "$(field .state.count -H alpha show "$id")" 3
    kill_host alpha
    restart
    equal "$(count "$id")" 0
    gw -H alpha send "$id" add by=5 >/dev/null
    gw -H alpha deactivate "$id" >/dev/null
    kill_host alpha
    restart
    equal "$(count "$id")" 5
    gw -H alpha send "$id" add by=2 >/dev/null
    term_host alpha
    restart
    equal "$(count "$id")" 7
}

@test "volatile: kept while the host lives, also asleep and on the way; gone with it" {
    start_host alpha --plugin "$plugin"
    start_host beta --peer "${URL[alpha]}" --plugin "$plugin"
    id=$(field .agent -H alpha create vapor)
    gw -H alpha send "$id" add by=4 >/dev/null
    gw -H alpha deactivate "$id" >/dev/null
    equal "$(count "$id")" 4
    wait_until 10 gw -H alpha dispatch "$id" beta
    equal "$(count "$id")" 4
    gw -H alpha send "$id" add >/dev/null
    kill_host beta
    restart_host beta --peer "${URL[alpha]}" --plugin "$plugin"
    wait_until 10 count "$id"
    equal "$(count "$id")" 4 # as it arrived
}

@test "gw_save in a short handler writes the state with what came before it" {
    start_host alpha --plugin "$plugin"
    id=$(field .agent -H alpha create saver)
    gw -H alpha send "$id" add by=3 >/dev/null
    gw -H alpha send "$id" mark >/dev/null
    kill_host alpha
    restart
    equal "$(count "$id")" 4
}

steps() { field .state.step -H alpha show "$1"; }
beyond() { [ "$(steps "$1")" -gt "$2" ]; }
arrived() { [ "$(field .host -H alpha show "$1")" = beta ]; }

@test "gw_save in run: messages come in between, kills and a move lose and double no step" {
    start_host alpha --plugin "$plugin"
    start_host beta --peer "${URL[alpha]}" --plugin "$plugin"
    id=$(field .agent -H alpha create digger steps=150)
    wait_until 10 beyond "$id" 2
    first=$(field .reply.step -H alpha send "$id" add) # answered long before its 3 s are over
    [ "$first" -lt 150 ]
    run gw -H alpha send "$id" fail
    [ "$status" -ne 0 ]
    kill_host alpha
    restart_host alpha --peer "${URL[beta]}" --plugin "$plugin"
    wait_until 10 beyond "$id" "$first"
    wait_until 10 gw -H alpha dispatch "$id" beta
    wait_until 10 arrived "$id"
    gw -H alpha send "$id" add >/dev/null
    wait_until 20 beyond "$id" 149
    equal "$(field .state.count -H alpha show "$id")" 2
    equal "$(field '.state.log | join(" ")' -H alpha show "$id")" "$(seq -s ' ' 0 149)"
}

@test "a stop and a sleep do not wait for a long run" {
    start_host alpha --plugin "$plugin"
    id=$(field .agent -H alpha create digger steps=1000)
    wait_until 10 beyond "$id" 1
    gw -H alpha deactivate "$id" >/dev/null
    equal "$(field .status -H alpha show "$id")" inactive
    at=$(steps "$id")
    gw -H alpha activate "$id" >/dev/null
    wait_until 10 beyond "$id" "$at"
    began=$SECONDS
    term_host alpha
    [ $((SECONDS - began)) -lt 5 ]
}
