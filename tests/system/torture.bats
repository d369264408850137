#!/usr/bin/env bats
# Two real hosts, agents that move between them, kill -9 of either at random moments.
# MOVES=n and KILL_EVERY=n change the length; SEED=n repeats the choices (not the timing).

load helpers

setup() { system_setup; }
teardown() { system_teardown; }

MOVES=${MOVES:-200}
KILL_EVERY=${KILL_EVERY:-4}
AGENTS=6

# Increment one agent under a key of its own, through a random host, until it is acknowledged.
increment() {
    local agent=$1 key=$2 tries=0
    until gw -H "$(pick alpha beta)" --timeout 5s send "$agent" increment by=1 --op-key "$key" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || { echo "increment $key of $agent is never acknowledged"; return 1; }
        sleep 0.1 # between two tries
    done
}
pick() {
    local list=("$@")
    echo "${list[$((RANDOM % $#))]}"
}
where() { gw -H "$(pick alpha beta)" --timeout 5s show "$1" 2>/dev/null | jq -r .host; }

@test "200 moves with kill -9 of source or destination at random moments: each agent once, every count right" {
    RANDOM=${SEED:-$$}
    echo "seed ${SEED:-$$}"
    start_pair
    local ids=() wanted=() i n agent here there victim mover sender kills=0 moved=0
    for ((i = 0; i < AGENTS; i++)); do
        ids+=("$(field .agent -H alpha create counter)")
        wanted+=(0)
    done
    for ((n = 1; n <= MOVES; n++)); do
        i=$((RANDOM % AGENTS))
        agent=${ids[$i]}
        here=$(where "$agent")
        [ -n "$here" ] || here=alpha
        there=$([ "$here" = alpha ] && echo beta || echo alpha)
        gw -H "$here" --timeout 5s dispatch "$agent" "$there" >"$work/move" 2>&1 3>&- &
        mover=$!
        increment "$agent" "key-$n" 3>&- &
        sender=$!
        wanted[$i]=$((wanted[$i] + 1))
        if ((n % KILL_EVERY == 0)); then
            victim=$(pick alpha beta)
            sleep "0.0$((RANDOM % 30 + 10))" # somewhere within the move
            kill_host "$victim"
            if [ "$victim" = alpha ]; then
                restart_host alpha --tag lab --peer "${URL[beta]}"
            else
                restart_host beta --peer "${URL[alpha]}"
            fi
            kills=$((kills + 1))
        fi
        wait $mover && moved=$((moved + 1))
        wait $sender
    done
    echo "moved $moved of $MOVES at once, $kills kills"
    wait_until 20 alive_count alpha 2
    wait_until 20 alive_count beta 2
    wait_until 20 moves_empty alpha
    gw -H alpha agents --all >"$work/agents"
    equal "$(jq '.agents | length' "$work/agents")" $AGENTS
    equal "$(jq '[.agents[] | select(.status == "active")] | length' "$work/agents")" $AGENTS
    for ((i = 0; i < AGENTS; i++)); do
        equal "$(field .reply.count -H alpha send "${ids[$i]}" get)" "${wanted[$i]}"
        equal "$(field .reply.count -H beta send "${ids[$i]}" get)" "${wanted[$i]}"
    done
    [ $moved -gt $((MOVES / 4)) ] # it did move
}
