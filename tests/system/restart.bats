# Ends and starts: what was acknowledged is there again.
load helpers

setup() { system_setup; }
teardown() { system_teardown; }

fill() { # creates 20 counters at alpha, counting 0 to 19; ids in $ids
    ids=()
    for i in {0..19}; do
        id=$(field .agent -H alpha create counter)
        gw -H alpha send "$id" increment "by=$i" >/dev/null
        ids+=("$id")
    done
    gw -H alpha deactivate "${ids[3]}" >/dev/null
}
check() {
    for i in {0..19}; do
        equal "$(field .state.count -H alpha show "${ids[i]}")" "$i"
    done
    equal "$(field .status -H alpha show "${ids[3]}")" inactive
    equal "$(field '.agents | length' -H alpha agents)" 20
}

@test "an orderly stop by SIGTERM and a start bring all agents back" {
    start_host alpha
    fill
    term_host alpha
    restart_host alpha
    check
}

@test "godwit stop ends the host in order" {
    start_host alpha
    fill
    gw stop alpha
    wait_until 10 process_gone "${PID[alpha]}"
    [ ! -e "$GODWIT_HOME/hosts/alpha/api.sock" ]
    restart_host alpha
    check
}

@test "a host that was killed brings all agents back" {
    start_host alpha
    fill
    kill_host alpha
    restart_host alpha
    check
}

@test "no runner outlives its host" {
    start_host alpha
    gw create counter >/dev/null
    children=$(pgrep -P "${PID[alpha]}" || true)
    [ -n "$children" ]
    kill_host alpha
    for child in $children; do
        wait_until 5 process_gone "$child"
    done
}

@test "a runner that is killed is started again, the agent goes on from its last commit" {
    start_host alpha
    id=$(field .agent create counter)
    gw send "$id" increment by=7
    runner=$(field '.types[] | select(.name == "counter") | .runner.pid' types)
    kill -9 "$runner"
    wait_until 5 process_gone "$runner"
    counts() { [ "$(field .reply.count send "$id" increment 2>/dev/null)" = 8 ]; }
    wait_until 10 counts
}

@test "a host keeps its identity and its peers over a restart" {
    start_pair
    before=$(field .host_id -H beta status)
    kill_host beta
    wait_until 40 alive_count alpha 1
    restart_host beta # without --peer: alpha is remembered, or dials
    equal "$(field .host_id -H beta status)" "$before"
    wait_until 20 alive_count alpha 2
    wait_until 20 alive_count beta 2
}

@test "a host that was dialled dials back when the link is lost" {
    start_host alpha --log-level debug
    start_host beta --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    kill_host beta
    dials_back() { grep -q "link.dial url=${URL[beta]}" "$GODWIT_HOME/hosts/alpha/log"; }
    wait_until 10 dials_back
}

@test "an agent that was moved is found through its old host after both were killed" {
    start_pair
    id=$(field .agent -H alpha create counter)
    gw -H alpha send "$id" increment by=5
    gw -H alpha dispatch "$id" beta
    kill_host alpha
    kill_host beta
    restart_host alpha
    restart_host beta --peer "${URL[alpha]}"
    wait_until 20 alive_count alpha 2
    equal "$(field .reply.count -H alpha send "$id" increment)" 6
    wait_until 10 moves_empty alpha
}
