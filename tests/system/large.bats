#!/usr/bin/env bats
# The largest state there may be: it is kept, sleeps, wakes and moves; one byte more is refused.

load helpers

setup() { system_setup; }
teardown() { system_teardown; }

whole() {
    equal "$(field .reply.bytes -H alpha send "$id" size)" "$1"
    equal "$(field .reply.whole -H alpha send "$id" verify)" true
}

@test "64 MiB of state are kept, sleep, wake, move and survive kill -9; one byte more is refused and changes nothing" {
    start_host alpha --plugin "$(plugin blob)"
    start_host beta --plugin "$(plugin blob)" --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    limit=$((64 * 1024 * 1024))
    id=$(field .agent -H alpha create blob)
    gw -H alpha send "$id" fill bytes=1000 >/dev/null
    run "$GODWIT" -H alpha send "$id" fill bytes=$limit
    [ "$status" -ne 0 ]
    contains "$output" "the limit is $limit bytes"
    contains "$output" artifact
    # What a state needs beside the bytes, from its own words.
    over=$(sed -nE 's/.*the packed state has ([0-9]+) bytes.*/\1/p' <<<"$output")
    most=$((limit - (over - limit)))
    whole 1000
    gw -H alpha send "$id" fill bytes=$most >/dev/null
    whole $most
    run "$GODWIT" -H alpha send "$id" fill bytes=$((most + 1))
    [ "$status" -ne 0 ]
    whole $most

    equal "$(field .host -H alpha dispatch "$id" beta)" beta
    whole $most
    gw -H alpha deactivate "$id" >/dev/null
    equal "$(field .status -H alpha show "$id")" inactive
    whole $most # woken
    kill_host beta
    restart_host beta --plugin "$(plugin blob)" --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    whole $most
    gw -H alpha deactivate "$id" >/dev/null
    equal "$(field .host -H alpha dispatch "$id" alpha)" alpha
    whole $most
}
