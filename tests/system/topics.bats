#!/usr/bin/env bats
# Topics through the real binary.

load helpers

setup() { system_setup; }
teardown() { system_teardown; }

heard_is() { [ "$(field '.reply.heard | join(",")' -H "$1" send "$2" heard)" = "$3" ]; }

@test "what is published reaches subscribers on both hosts once, also after moves and kill -9" {
    plugin=$(plugin radio)
    start_host alpha --plugin "$plugin"
    start_host beta --peer "${URL[alpha]}" --plugin "$plugin"
    wait_until 10 alive_count alpha 2
    wait_until 10 alive_count beta 2
    a=$(field .agent -H alpha create radio)
    b=$(field .agent -H alpha create radio --at beta)
    gw -H alpha send "$a" listen topic=news
    gw -H alpha send "$b" listen topic=news # the answer passes by beta's word of it
    equal "$(field '.topics[0].subscribers' -H alpha topics)" 2
    equal "$(field '.topics | map("\(.topic) \(.scope)") | join(",")' -H alpha show "$b")" "news mesh"
    equal "$(field .subscribers -H alpha publish news text=one --op-key k)" 2
    equal "$(field .subscribers -H alpha publish news text=one --op-key k)" null
    gw -H alpha send "$a" say topic=news text=two
    wait_until 5 heard_is alpha "$a" "news one,news two"
    wait_until 5 heard_is alpha "$b" "news one,news two"
    gw -H alpha dispatch "$b" alpha
    gw -H alpha dispatch "$a" beta
    kill_host beta
    gw -H alpha publish news text=three
    restart_host beta --plugin "$plugin"
    wait_until 15 heard_is beta "$a" "news one,news two,news three"
    wait_until 5 heard_is alpha "$b" "news one,news two,news three"
    gw -H alpha send "$b" leave topic=news
    equal "$(field '[.topics[0].agents[].agent] | join(",")' -H alpha topics news)" "$a"
    run gw -H alpha publish "no topic" text=x
    equal "$status" 2
}
