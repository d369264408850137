# Metrics over HTTP, as a scraper reads them, and on the command line.
load helpers

setup() { system_setup; }
teardown() { system_teardown; }

# metric HOST SERIES: its value.
metric() { "$GODWIT" -H "$1" metrics | awk -v s="$2" '$1 == s { print $2 }'; }

@test "messages, commits and moves are counted; the host's own process too" {
    start_pair
    id=$(field .agent -H alpha create counter)
    for _ in 1 2 3; do gw -H alpha send "$id" increment; done
    run gw -H alpha send "$id" increment by=x
    [ "$status" -ne 0 ]
    equal "$(metric alpha 'godwit_messages_total{outcome="ok"}')" 3
    equal "$(metric alpha 'godwit_agents{status="active",type="counter"}')" 1
    [ "$(metric alpha godwit_store_groups_total)" -ge 4 ]
    [ "$(metric alpha godwit_store_commits_total)" -ge "$(metric alpha godwit_store_groups_total)" ]
    [ "$(metric alpha godwit_resident_bytes)" -gt 1000000 ]
    [ "$(metric alpha godwit_resident_bytes)" -lt 1000000000 ]
    equal "$(metric alpha godwit_client_links)" 1 # that of the command itself
    equal "$(metric alpha godwit_links_up)" 1
    gw -H alpha dispatch "$id" beta
    equal "$(metric alpha 'godwit_moves_total{end="out"}')" 1
    equal "$(metric beta 'godwit_moves_total{end="in"}')" 1
    equal "$(metric alpha 'godwit_move_seconds_bucket{le="+Inf"}')" 1
    # Latencies are those of a clock: above nothing, below the time that the test took.
    awk -v s="$(metric alpha godwit_message_seconds_sum)" -v m="$SECONDS" 'BEGIN { exit !(s > 0 && s < m + 1) }'
    contains "$(gw -H alpha metrics | jq -r .text)" 'godwit_info{host="alpha"'
}

@test "GET /v1/metrics is Prometheus text, and for viewers only" {
    start_host alpha
    curl -s --unix-socket "$GODWIT_HOME/hosts/alpha/api.sock" -D "$work/head" -o "$work/body" http://localhost/v1/metrics
    tr -d '\r' <"$work/head" | grep -qi '^content-type: text/plain; version=0.0.4$'
    grep -q '^# TYPE godwit_handler_seconds histogram$' "$work/body"
    equal "$(grep -c '^# HELP ' "$work/body")" "$(grep -c '^# TYPE ' "$work/body")"
    equal "$(api_tls "${URL[alpha]}/v1/metrics" | head -n 1)" "$(head -n 1 "$work/body")"
    equal "$(curl -s -o /dev/null -w '%{http_code}' --cacert "$GODWIT_HOME/mesh/ca.crt" "${URL[alpha]}/v1/metrics")" 401
}
