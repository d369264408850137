#!/usr/bin/env bats
# Senders that send more than is done: they are slowed, the host's memory stays bounded, and everybody
# else is served as before.

load helpers

setup() { system_setup; }
teardown() { system_teardown; }

rss_kb() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }
# watch FILE PID...: while those live, note the largest memory of host alpha, and how long `status` takes.
watch() {
    local file=$1 most=0 now began took slowest=0
    shift
    while for each in "$@"; do process_gone "$each" || break; done && ! process_gone "$each"; do
        now=$(rss_kb "${PID[alpha]}")
        most=$((now > most ? now : most))
        began=$(date +%s%N)
        gw -H alpha status >/dev/null || return 1
        took=$((($(date +%s%N) - began) / 1000000))
        slowest=$((took > slowest ? took : slowest))
        sleep 0.02
    done
    echo "$most $slowest" >"$file"
}

@test "a mailbox flooded at many times the drain rate: senders are slowed, none is refused, memory is bounded, control goes on" {
    start_host alpha --plugin "$(plugin ledger)" --max-mailbox 200
    start_host beta --plugin "$(plugin ledger)" --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    id=$(field .agent -H alpha create ledger)
    other=$(field .agent -H alpha create counter)
    gw -H beta send "$id" look >/dev/null # beta knows where it is: else it asks first, which keeps no order
    before=$(rss_kb "${PID[alpha]}")
    pids=()
    for who in a b; do
        "$(tool flood)" alpha "$id" slowly $who 500 250 pad 20000 >"$work/$who" 3>&- &
        pids+=($!)
    done
    "$(tool flood)" beta "$id" slowly c 500 250 pad 20000 >"$work/c" 3>&- & # over another host
    pids+=($!)
    "$(tool flood)" alpha "$id" slowly d 500 250 tell pad 20000 >"$work/d" 3>&- &
    pids+=($!)
    watch "$work/watched" "${pids[@]}" 3>&- &
    watcher=$!
    for host in beta alpha beta alpha; do gw -H alpha dispatch "$other" $host >/dev/null; done
    equal "$(field .reply.count -H alpha send "$other" increment)" 1
    for each in "${pids[@]}"; do wait "$each"; done
    wait $watcher
    cat "$work"/[abcd]
    for who in a b c d; do
        equal "$(jq '.acked' "$work/$who")" 500
        equal "$(jq '.busy' "$work/$who")" 0
    done
    [ "$(jq '.slowest_ms' "$work/a")" -ge 100 ] # slowed
    all() { [ "$(field .reply.heard -H alpha send "$id" look)" = 2000 ]; }
    wait_until 20 all
    equal "$(field .reply.wrong -H alpha send "$id" look)" 0 # in the order of each sender
    read -r most slowest <"$work/watched"
    echo "memory $before kB, at most $most kB; status in at most $slowest ms"
    [ -n "$SAN" ] || [ "$most" -lt $((before + 100000)) ] # a sanitizer keeps what was freed
    [ "$slowest" -lt 3000 ]
}

@test "a client with more on the way than a host takes in is slowed by its socket" {
    start_host alpha --plugin "$(plugin ledger)"
    id=$(field .agent -H alpha create ledger)
    before=$(rss_kb "${PID[alpha]}")
    "$(tool flood)" alpha "$id" slowly a 800 800 pad 200000 >"$work/a" 3>&- & # 160 MB
    watch "$work/watched" $! 3>&- &
    wait
    equal "$(jq '.acked' "$work/a")" 800
    read -r most slowest <"$work/watched"
    echo "memory $before kB, at most $most kB; status in at most $slowest ms"
    [ -n "$SAN" ] || [ "$most" -lt $((before + 110000)) ]
}

@test "a full mailbox: http says 429 and when to come again, send waits its turn, or until its time is over" {
    start_host alpha --plugin "$(plugin ledger)" --max-mailbox 1
    export GODWIT_HOST=alpha
    id=$(field .agent create ledger)
    gw send "$id" slowly who=a n=1 ms=2500 >/dev/null 3>&- &
    first=$!
    runs() { [ "$(field .running.method show "$id")" = slowly ]; }
    wait_until 5 runs
    gw send "$id" slowly who=a n=2 ms=1 >/dev/null 3>&- &
    second=$!
    queued() { [ "$(field .mailbox.queued show "$id")" = 1 ]; }
    wait_until 5 queued
    code=$(curl -s -D "$work/head" -o "$work/body" -w '%{http_code}' --unix-socket "$GODWIT_HOME/hosts/alpha/api.sock" \
        -H 'Content-Type: application/json' -d '{"method": "slowly", "args": {"who": "a", "n": 9}}' "http://localhost/v1/agents/$id/messages")
    equal "$code" 429
    grep -qi '^Retry-After: 1' "$work/head"
    equal "$(api_error)" busy
    run "$GODWIT" --timeout 300ms send "$id" slowly who=a n=9
    equal "$status" 6
    contains "$output" "has stayed full"
    equal "$(field .reply.heard send "$id" slowly who=a n=3 ms=1)" 3 # waits its turn
    wait $first
    wait $second
    equal "$(field .reply.wrong send "$id" look)" 0
}
