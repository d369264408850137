#!/bin/bash
# Five hosts on a bad network: network.sh SEED SECONDS. Exit 77 with a note where namespaces are not
# permitted. It enters network, mount and process namespaces of its own (as root, else in a user
# namespace), so that nothing of it is left, however it ends.
#
# Each host has a network namespace with one veth to a bridge here; all links between hosts go through
# tests/tools/badnet.c, which makes the network bad for SECONDS by the seed. Meanwhile agents move,
# numbered messages are said to them through changing hosts, and they tell each other; files are copied
# between them; hosts are killed and their interfaces taken down. When all is healed, each agent is there
# once, each acknowledged message was applied once and in order, no move is open, and each file is whole
# where it was sent, without anything left over. Prints one line of JSON, and the seed when it fails.
set -u
seed=$1 seconds=$2
if [ -z "${NETWORK_INSIDE:-}" ]; then
    flags=(--net --mount --pid --fork --mount-proc --kill-child)
    [ "$(id -u)" = 0 ] || flags+=(--map-root-user)
    # shellcheck disable=SC2016 # for the inner shell
    try='mount -t tmpfs tmpfs /run && mkdir /run/netns && ip netns add try && ip link add try type bridge &&
        ip link add one type veth peer name two netns try'
    if ! why=$(unshare "${flags[@]}" sh -c "$try" 2>&1); then
        echo "network namespaces are not permitted here: $(tail -n 1 <<<"$why")"
        exit 77
    fi
    work=$(mktemp -d "${TMPDIR:-/tmp}/gw-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'kill $inside; wait $inside; exit 130' INT TERM
    NETWORK_INSIDE=$work unshare "${flags[@]}" "$0" "$seed" "$seconds" &
    inside=$!
    wait $inside
    exit
fi
work=$NETWORK_INSIDE
. "$(dirname "$0")/helpers.bash"
RANDOM=$seed
HOSTS=5 AGENTS=3 PORT=7420
healing=45 # seconds after the faults within which all has to be well: dials have pauses up to 15 s

fail() {
    echo "failed with SEED=$seed SECONDS=$seconds: $1"
    tail -n 15 "$work"/*.said 2>/dev/null
    cat "$work/badnet"
    for each in "$work"/*/hosts/*/log; do echo "--- $each" && tail -n 25 "$each"; done
    exit 1
}

# ---- the network ----

make_network() {
    mount -t tmpfs tmpfs /run && mkdir -p /run/netns || fail "no namespaces"
    ip link set lo up
    ip link add bridge type bridge
    ip addr add 10.1.0.254/24 dev bridge
    ip link set bridge up
    for ((n = 1; n <= HOSTS; n++)); do
        ip addr add "10.0.0.$n/32" dev lo # where others dial it: the proxy
        ip netns add "host$n"
        ip link add "veth$n" type veth peer name eth0 netns "host$n"
        ip link set "veth$n" master bridge up
        ip -n "host$n" link set lo up
        ip -n "host$n" addr add "10.0.0.$n/32" dev eth0 # first: it is what the host tells others
        ip -n "host$n" addr add "10.1.0.$n/24" dev eth0
        interface_up "$n"
    done
}
interface_up() {
    ip -n "host$1" link set eth0 up
    ip -n "host$1" route add 10.0.0.0/24 via 10.1.0.254
}
interface_down() { ip -n "host$1" link set eth0 down; }

# ---- hosts: 1 to 4 share a home, as programs of one user would; 5 joins by token ----

home_of() { [ "$1" = 5 ] && echo "$work/other" || echo "$work/home"; }
at() { # HOST COMMAND...
    local n=$1
    shift
    GODWIT_HOME=$(home_of "$n") "$GODWIT" --json -H "host$n" --timeout 4s "$@"
}
run_host() { # HOST [OPTION...]
    local n=$1
    shift
    GODWIT_HOME=$(home_of "$n") ip netns exec "host$n" "$GODWIT" host --name "host$n" --listen "0.0.0.0:$PORT" \
        --plugin "$(plugin ledger)" --link-silence 4 --root "$work/files/host$n" --detach --json "$@" >"$work/ready$n" || return 1
    PID[$n]=$(jq -r .pid "$work/ready$n")
}
sees_all() { [ "$(at "$1" hosts 2>/dev/null | jq '[.hosts[] | select(.state == "alive")] | length')" = $HOSTS ]; }
all_linked() {
    local n
    for ((n = 1; n <= HOSTS; n++)); do sees_all $n || return 1; done
}
start_hosts() {
    run_host 1 || fail "host1 does not start"
    for ((n = 2; n < HOSTS; n++)); do run_host $n --peer https://10.0.0.1:$PORT || fail "host$n does not start"; done
    at 1 mesh token | jq -r .token >"$work/token"
    run_host $HOSTS --peer https://10.0.0.1:$PORT --join "$work/token" || fail "host$HOSTS does not join"
    wait_until 20 all_linked || fail "the hosts do not link"
}

# ---- what goes on while the network is bad ----

over() { grep -q ^healed "$work/badnet"; }
any_entry() { echo $((RANDOM % 4 + 1)); }

# Numbers for one agent through changing hosts, each until it is acknowledged.
speak() { # AGENT WHO
    local from=1
    until over; do
        GODWIT_HOME=$work/home "$(tool flood)" host1,host2,host3,host4 "$1" hear "$2" 10 1 from $from wait 3000 change 3 \
            within 60 >"$work/$2.flood" 2>>"$work/$2.said" || return 1
        from=$((from + 10))
        echo $((from - 1)) >"$work/$2.acked"
    done
}
# One agent tells the other numbers: through its outbox, while both move.
tell() { # AGENT TO
    local from=1 until=0
    until over; do
        until=$((SECONDS + 60))
        until at "$(any_entry)" send "$1" say to="$2" who=told from=$from count=5 method=hear --op-key "told-$from" \
            >/dev/null 2>>"$work/told.said"; do
            [ $SECONDS -lt $until ] || return 1
        done
        from=$((from + 5))
        echo $((from - 1)) >"$work/told.acked"
    done
}
move_about() {
    until over; do
        at "$(any_entry)" dispatch "${ids[RANDOM % AGENTS]}" "host$((RANDOM % HOSTS + 1))" \
            >/dev/null 2>>"$work/moves.said" || true
    done
}
# Files from host to host, each until it is there: an interrupted copy is taken up by the next try.
copy_file() { # FROM TO NAME [TIMEOUT]
    at "$1" --timeout "${4:-4s}" files copy "host$1:$3" "host$2:$3" >"$work/copied" 2>>"$work/files.said"
}
carry() {
    local n=0 from to
    until over; do
        n=$((n + 1))
        from=$((RANDOM % HOSTS + 1))
        to=$((from % HOSTS + 1))
        head -c $((RANDOM * 100)) /dev/urandom >"$work/files/host$from/file$n"
        echo "$from $to file$n" >>"$work/files.sent"
        until over || copy_file $from $to "file$n"; do
            sleep 0.1 # between two tries
        done
    done
}
# Each host in turn loses its network; every other one is killed meanwhile.
harm() {
    local n kills=0 turn=$((RANDOM % HOSTS))
    until over; do
        n=$(((turn++ * 2) % HOSTS + 1))
        sleep "$((RANDOM % 2)).$((RANDOM % 10))"
        over && break
        interface_down $n
        if ((turn % 2)); then
            kill -9 "${PID[$n]}"
            wait_until 5 process_gone "${PID[$n]}" || return 1
            kills=$((kills + 1))
        fi
        sleep "$((RANDOM % 2)).$((RANDOM % 10))"
        interface_up $n
        if ((turn % 2)); then
            run_host $n || return 1
        fi
    done
    echo $kills >"$work/kills"
}

# ---- what has to be so at the end ----

agents_right() {
    local n
    for ((n = 1; n <= HOSTS; n++)); do at $n agents 2>/dev/null || return 1; done >"$work/agents"
    [ "$(jq -s -r '[.[].agents[] | select(.type == "ledger" and .status == "active") | .agent] | sort | join(" ")' \
        "$work/agents")" = "$(printf '%s\n' "${ids[@]}" | sort | paste -sd' ')" ] &&
        [ "$(jq -s '[.[].agents[] | select(.type == "ledger")] | length' "$work/agents")" = $AGENTS ]
}
no_move_open() {
    local n
    for ((n = 1; n <= HOSTS; n++)); do
        [ "$(at $n moves --all 2>/dev/null | jq '.moves | length')" = 0 ] || return 1
    done
}
wanted() { # AGENT's place
    local sum=$(cat "$work/voice$1.acked")
    [ "$1" = 1 ] && sum=$((sum + $(cat "$work/told.acked")))
    echo "$sum"
}
heard_right() { # AGENT's place
    [ "$(at "$(any_entry)" send "${ids[$1]}" look 2>/dev/null | jq -r '"\(.reply.heard) \(.reply.wrong)"')" = "$(wanted "$1") 0" ]
}

files_right() {
    local from to name
    while read -r from to name; do
        copy_file "$from" "$to" "$name" 20s || return 1
        cmp "$work/files/host$from/$name" "$work/files/host$to/$name" || return 1
    done <"$work/files.sent"
}
no_part_left() { [ -z "$(find "$work/files" -name '.*.godwit-*')" ]; }

begun=$SECONDS
for ((n = 1; n <= HOSTS; n++)); do mkdir -p "$work/files/host$n"; done
make_network
: >"$work/badnet"
"$(tool badnet)" "$seed" "$seconds" $HOSTS $PORT >"$work/badnet" 2>&1 &
badnet=$!
wait_until 5 grep -q ^ready "$work/badnet" || fail "the proxy does not start"
start_hosts
ids=()
for ((i = 0; i < AGENTS; i++)); do
    ids+=("$(at "$(any_entry)" create ledger | jq -r .agent)")
done

kill -USR1 $badnet
started=$SECONDS
pids=()
for ((i = 0; i < AGENTS; i++)); do
    speak "${ids[$i]}" "voice$i" &
    pids+=($!)
done
tell "${ids[0]}" "${ids[1]}" &
pids+=($!)
carry &
pids+=($!)
for _ in 1 2; do
    move_about &
    pids+=($!)
done
harm || fail "a host does not start again"
for each in "${pids[@]}"; do
    wait "$each" || fail "a message was never acknowledged"
done

wait_until $healing all_linked || fail "the hosts do not find each other again"
wait_until $healing no_move_open || fail "a move stays open"
wait_until 10 agents_right || { cat "$work/agents"; fail "not each agent once"; }
for ((i = 0; i < AGENTS; i++)); do
    wait_until 15 heard_right $i || { at 1 send "${ids[$i]}" look; echo "wanted $(wanted $i)"; fail "agent $i has not heard all once in order"; }
done
wait_until $healing files_right || fail "a file is not where it was sent"
no_part_left || { find "$work/files" -name '.*.godwit-*'; fail "a part is left over"; }
moved=$(jq -s '[.[].agents[] | select(.type == "ledger") | .epoch - 1] | add' "$work/agents")
kills=$(cat "$work/kills")
((moved > 1 && kills > 0)) || fail "nothing happened: $moved moves, $kills kills"
sed -n 's/^healed //p' "$work/badnet" | jq -c --argjson seed "$seed" --argjson moved "$moved" \
    --argjson kills "$kills" --argjson messages "$(jq -s add "$work"/*.acked)" \
    --argjson files "$(wc -l <"$work/files.sent")" \
    --argjson healed_s $((SECONDS - started - seconds)) --argjson seconds $((SECONDS - begun)) \
    '{seed: $seed, moved: $moved, messages: $messages, files: $files, kills: $kills, healed_s: $healed_s, seconds: $seconds} + .'
