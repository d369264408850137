# Types that ask for less than a commit at each message: what is left after an end of each kind.
load helpers

setup() { system_setup; }
teardown() { system_teardown; }

plugin=$root/build/plain/tests/plugins/modes.so
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
