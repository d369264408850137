#!/usr/bin/env bats
# Messages through the real binary: request keys, one-way messages, agents that wait for each other.

load helpers

setup() { system_setup; }
teardown() { system_teardown; }

count_is() { [ "$(field .reply.count send "$1" get)" = "$2" ]; }

@test "a repeated one-way message under one key is applied once, also after kill -9" {
    start_host alpha
    id=$(field .agent create counter)
    for _ in 1 2 3; do
        gw send "$id" increment --tell --op-key once
    done
    wait_until 5 count_is "$id" 1
    kill_host alpha
    restart_host alpha
    gw send "$id" increment --tell --op-key once
    gw send "$id" increment --tell --op-key twice
    wait_until 5 count_is "$id" 2
    equal "$(field .reply.count send "$id" increment --op-key once)" null # the record of the tell answers
    count_is "$id" 2
}

@test "an ask under one key is applied once through either host, also after a move" {
    start_pair
    id=$(field .agent -H alpha create counter)
    equal "$(field .reply.count -H alpha send "$id" increment --op-key k1)" 1
    gw -H alpha dispatch "$id" beta
    equal "$(field .reply.count -H alpha send "$id" increment --op-key k1)" 1
    equal "$(field .reply.count -H beta send "$id" increment --op-key k1)" 1
    equal "$(field .reply.count -H beta send "$id" increment --op-key k2)" 2
}

@test "agents that ask each other at the same moment do not hang: one is told of the deadlock" {
    start_host alpha --plugin "$(plugin worker)"
    a=$(field .agent create worker)
    b=$(field .agent create worker)
    gw --timeout 20s send "$a" swap whom="$b" ms=200 >"$work/a" 2>&1 3>&- &
    first=$!
    gw --timeout 20s send "$b" swap whom="$a" ms=200 >"$work/b" 2>&1 3>&- &
    second=$!
    failed=0
    wait $first || failed=$((failed + 1))
    wait $second || failed=$((failed + 1))
    cat "$work/a" "$work/b"
    equal $failed 1
    grep -q deadlock "$work/a" "$work/b"
}

@test "an agent asks many at once, and a circle through one of them is found" {
    start_host alpha --plugin "$(plugin worker)"
    for i in 1 2 3 4; do
        id[i]=$(field .agent create worker)
    done
    equal "$(field '.reply | "\(.done) \(.code)"' send "${id[1]}" all whom="${id[2]},${id[3]},${id[4]}" wait=20000 \
        method=add)" "3 ok"
    # 2 sleeps and then asks 1, which waits for it and for 3
    gw --timeout 20s send "${id[2]}" swap whom="${id[1]}" ms=3000 >"$work/swap" 2>&1 3>&- &
    swap=$!
    swaps() { [ "$(field .running.method show "${id[2]}")" = swap ]; }
    wait_until 10 swaps
    equal "$(field .reply.code --timeout 20s send "${id[1]}" all whom="${id[3]},${id[2]}" wait=-1 method=add)" ok
    failed=0
    wait $swap || failed=$?
    cat "$work/swap"
    [ $failed -ne 0 ]
    grep -q deadlock "$work/swap"
}

@test "dispose ends an agent whose runner crashes or that cannot be loaded" {
    start_host alpha --plugin "$(plugin crasher)"
    id=$(field .agent create crasher)
    run gw send "$id" crash
    [ "$status" -ne 0 ]
    gw dispose "$id"
    run gw show "$id"
    equal "$status" 3
}

@test "a deadline ends the waiting, also through an agent that asks another host, and what has not begun never runs" {
    start_pair --plugin "$(plugin worker)"
    b=$(field .agent -H beta create worker)
    a=$(field .agent -H beta create worker)
    gw -H beta send "$b" nap ms=1500 >"$work/nap" 3>&- &
    napping=$!
    wait_until 5 running beta "$b"
    # the asker's deadline is that of its own ask, on the same host and from another one
    run gw --timeout 300ms -H alpha send "$a" ask whom="$b"
    equal "$status" 124
    run gw --timeout 300ms -H beta send "$b" add
    equal "$status" 124
    [ -d "/proc/$napping" ] # nobody waited for the end of the nap
    wait $napping
    equal "$(field .reply.count -H alpha send "$b" add)" 2 # the nap, and this one
    run gw --timeout 0s -H beta send "$b" add
    equal "$status" 124
    contains "$output" "lies in the past"
    [[ "$(gw -H beta metrics)" == *"godwit_messages_expired_total 2"* ]]
}
running() { [ "$(field .mailbox.queued -H "$1" show "$2")" = 0 ] && [ "$(pgrep -c -f 'send .* nap' || true)" -gt 0 ]; }

@test "what waits runs by priority" {
    start_host alpha --plugin "$(plugin worker)"
    w=$(field .agent create worker)
    gw send "$w" nap ms=400 --tell
    for p in 0 5 9 5; do
        gw send "$w" note text="p$p" --tell --priority $p
    done
    wait_until 5 notes_are "$w" '["p9","p5","p5","p0"]'
    run gw send "$w" note text=x --priority 10
    equal "$status" 2
}
notes_are() { [ "$(field '.reply.notes | tostring' send "$1" notes)" = "$2" ]; }

@test "a trace goes from the caller into events and log lines, over HTTP and by the environment" {
    start_host alpha --plugin "$(plugin worker)"
    id=4bf92f3577b34da6a3ce929d0e0e4736
    parent=00-$id-00f067aa0ba902b7-01
    w=$(TRACEPARENT=$parent field .agent create worker)
    equal "$(field .trace events --agent "$w" --kind agent.create)" $id
    TRACEPARENT=$parent gw send "$w" say text=one
    curl -s --unix-socket "$GODWIT_HOME/hosts/alpha/api.sock" -H "traceparent: 00-aaf92f3577b34da6a3ce929d0e0e47aa-00f067aa0ba902b7-01" \
        -H 'Content-Type: application/json' -d '{"method": "say", "args": {"text": "two"}}' "http://localhost/v1/agents/$w/messages"
    # not well formed, and one that comes twice: a trace of its own
    curl -s --unix-socket "$GODWIT_HOME/hosts/alpha/api.sock" -H "traceparent: 00-$id-0000000000000000-01" \
        -H 'Content-Type: application/json' -d '{"method": "say", "args": {"text": "three"}}' "http://localhost/v1/agents/$w/messages"
    curl -s --unix-socket "$GODWIT_HOME/hosts/alpha/api.sock" -H "traceparent: $parent" -H "traceparent: $parent" \
        -H 'Content-Type: application/json' -d '{"method": "say", "args": {"text": "four"}}' "http://localhost/v1/agents/$w/messages"
    gw logs "$w" >"$work/lines"
    equal "$(jq -r 'select(.text == "one") | .trace' "$work/lines")" $id
    equal "$(jq -r 'select(.text == "two") | .trace' "$work/lines")" aaf92f3577b34da6a3ce929d0e0e47aa
    for text in three four; do
        own=$(jq -r "select(.text == \"$text\") | .trace" "$work/lines")
        equal ${#own} 32
        [ "$own" != $id ]
    done
    grep -q "trace=$id" "$GODWIT_HOME/hosts/alpha/log"
}
