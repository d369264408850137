#!/usr/bin/env bats
# Replies by another handler than the one that was asked, over sleep, moves and kill -9.

load helpers

setup() { system_setup; }
teardown() { system_teardown; }

owed() { [ "$(field '.owed | length' -H "$1" show "$2")" = "$3" ]; }
# enter HOST AGENT NAME: in the background, what it says goes to $work/NAME, its code to $work/NAME.code.
enter() {
    (
        code=0
        gw --timeout 60s -H "$1" send "$2" enter --op-key "$3" >"$work/$3" 2>&1 3>&- || code=$?
        echo $code >"$work/$3.code"
    ) 3>&- &
}
ended() { [ -e "$work/$1.code" ]; }
number() { jq -r .reply.number "$work/$1"; }

@test "callers at both hosts wait while the agent sleeps and moves, and are answered once" {
    start_host alpha --plugin "$(plugin gate)"
    start_host beta --peer "${URL[alpha]}" --plugin "$(plugin gate)"
    wait_until 10 alive_count alpha 2
    wait_until 10 alive_count beta 2
    gate=$(field .agent -H alpha create gate)
    visitor=$(field .agent -H beta create gate)
    enter alpha "$gate" one
    wait_until 10 owed alpha "$gate" 1
    enter beta "$gate" two
    wait_until 10 owed alpha "$gate" 2
    (gw --timeout 60s -H beta send "$visitor" visit gate="$gate" >"$work/visit" 2>&1 3>&- && touch "$work/visit.code") 3>&- &
    wait_until 10 owed alpha "$gate" 3
    gw -H alpha deactivate "$gate"
    gw -H alpha dispatch "$gate" beta
    enter beta "$gate" one # the same request: waits with the first
    owed alpha "$gate" 3
    ! ended one
    equal "$(field .reply.entered -H beta send "$gate" open)" 3
    for who in one two visit; do
        wait_until 10 ended $who
    done
    equal "$(number one) $(number two) $(number visit)" "1 2 3"
    equal "$(field .reply.came -H alpha send "$gate" came)" 3
    owed alpha "$gate" 0
}

@test "a caller that is refused later has the code and the sentence" {
    start_host alpha --plugin "$(plugin gate)"
    gate=$(field .agent create gate)
    enter alpha "$gate" one
    wait_until 10 owed alpha "$gate" 1
    gw send "$gate" close
    wait_until 10 ended one
    equal "$(cat "$work/one.code")" 6
    grep -q "closed for today" "$work/one"
}

@test "kill -9 of the agent's host: callers elsewhere wait on, its own ask again under their key" {
    start_host alpha --plugin "$(plugin gate)"
    start_host beta --peer "${URL[alpha]}" --plugin "$(plugin gate)"
    wait_until 10 alive_count alpha 2
    wait_until 10 alive_count beta 2
    gate=$(field .agent -H alpha create gate)
    enter alpha "$gate" here
    wait_until 10 owed alpha "$gate" 1
    enter beta "$gate" there
    wait_until 10 owed alpha "$gate" 2
    kill_host alpha
    restart_host alpha --plugin "$(plugin gate)"
    wait_until 10 alive_count alpha 2
    owed alpha "$gate" 2
    gw -H alpha dispatch "$gate" beta
    equal "$(field .reply.entered -H beta send "$gate" open)" 2
    wait_until 20 ended there
    equal "$(number there)" 2
    equal "$(field .reply.number -H beta send "$gate" enter --op-key here)" 1
    equal "$(field .reply.came -H beta send "$gate" came)" 2
}
