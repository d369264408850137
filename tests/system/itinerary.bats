# An agent that works off a list of stops, with hosts that are away or killed meanwhile.
load helpers

setup() {
    system_setup
    plugins=$built/tests/plugins
}
teardown() { system_teardown; }

is_over() { [ "$(field .itinerary.state -H alpha itinerary "$1" 2>/dev/null)" = over ]; }

start_three() {
    start_host alpha --plugin "$plugins/watch.so"
    start_host beta --plugin "$plugins/watch.so" --peer "${URL[alpha]}"
    start_host gamma --plugin "$plugins/watch.so" --peer "${URL[alpha]}"
    for host in alpha beta gamma; do
        wait_until 10 alive_count "$host" 3
    done
}

@test "round three hosts and home, with replies" {
    start_three
    id=$(field .agent -H alpha create watch)
    gw -H alpha itinerary "$id" increment@beta increment@gamma increment@beta
    wait_until 10 is_over "$id"
    equal "$(field '[.itinerary.stops[] | .host] | join(" ")' -H beta show "$id")" "beta gamma beta alpha"
    equal "$(field '[.itinerary.stops[] | .reply.count] | join(" ")' -H alpha itinerary "$id")" "1 2 3 "
    equal "$(field .host -H gamma show "$id")" alpha
}

@test "a host that is killed is waited for, and each stop is once" {
    start_three
    id=$(field .agent -H alpha create watch)
    kill_host gamma
    gw -H alpha itinerary "$id" arm@beta increment@gamma increment@beta --arg on=false --wait
    at_beta() { [ "$(field .itinerary.at -H alpha itinerary "$id")" = 1 ]; }
    wait_until 20 at_beta
    kill_host beta # where it waits
    restart_host beta --plugin "$plugins/watch.so" --peer "${URL[alpha]}"
    restart_host gamma --plugin "$plugins/watch.so" --peer "${URL[alpha]}"
    wait_until 40 is_over "$id"
    equal "$(field '[.itinerary.stops[] | .state] | join(" ")' -H alpha itinerary "$id")" "done failed failed done"
    gw -H alpha itinerary "$id" increment@beta increment@nowhere increment@gamma --skip --stay
    wait_until 40 is_over "$id"
    equal "$(field '[.itinerary.stops[] | .state] | join(" ")' -H alpha itinerary "$id")" "done skipped done"
    equal "$(field .state.count -H alpha show "$id")" 2
    run gw -H alpha itinerary "$id" @beta
    equal "$status" 2
}
