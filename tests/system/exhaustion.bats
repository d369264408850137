#!/usr/bin/env bats
# A host that runs out of descriptors, memory, disk or places, and clients that want to bring it there: it
# lives, or ends clearly; what was acknowledged stays; when the lack is over, service goes on.
# LONG=1: 10,000 idle connections instead of 2,000.

load helpers

setup() { system_setup; }
teardown() {
    mountpoint -q "$work/disk" && {
        for each in "${ALL_PIDS[@]}"; do
            is_ours "$each" && kill -9 "$each" && wait_until 5 process_gone "$each"
        done
        umount "$work/disk"
    }
    system_teardown
}

# Not compared under a sanitizer ($SAN), which keeps what was freed.
rss_kb() { awk '/^VmRSS/ { print $2 }' "/proc/${PID[$1]}/status"; }
cpu_ms() { awk '{ print ($14 + $15) * 10 }' "/proc/${PID[$1]}/stat"; }
port() { echo "${URL[$1]##*:}"; }
# crowd NAME HOST MODE COUNT...: in the background; what it says is in $work/NAME, its id in CROWD[NAME].
declare -gA CROWD
crowd() {
    local name=$1 host=$2
    shift 2
    : >"$work/$name"
    "$(tool crowd)" 127.0.0.1 "$(port "$host")" "$@" >"$work/$name" 2>&1 3>&- &
    CROWD[$name]=$!
}
crowd_up() { grep -q '"up"' "$work/$1"; }
# The end of it: `said NAME FILTER`.
said() { tail -n 1 "$work/$1" | jq -r "$2"; }
serves_tls() { [ "$(api_tls -o /dev/null -w '%{http_code}' "${URL[$1]}/v1/status")" = 200 ]; }
numbers_right() { # AGENT COUNT
    [ "$(field '.reply | "\(.heard) \(.wrong)"' -H "${3:-alpha}" send "$1" look 2>/dev/null)" = "$2 0" ]
}

@test "84 descriptors: members are served past a crowd, links go on, the loop does not spin, surplus members are told" {
    ready=$(ulimit -n 84; "$GODWIT" host --name alpha --listen 127.0.0.1:0 --plugin "$(plugin ledger)" --head-timeout 4 \
        --detach --json 3>&- 4>&-)
    PID[alpha]=$(jq -r .pid <<<"$ready") URL[alpha]=$(jq -r .url <<<"$ready")
    ALL_PIDS+=("${PID[alpha]}")
    start_host beta --plugin "$(plugin ledger)" --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    id=$(field .agent -H beta create ledger)
    gw -H beta dispatch "$id" alpha >/dev/null
    "$(tool flood)" beta "$id" hear numbers 2000 1 within 30 >"$work/numbers" 3>&- &
    numbers=$!
    for each in 1 2 3; do crowd "crowd$each" alpha idle 60; done # of 24 places
    for each in 1 2 3; do wait_until 10 crowd_up "crowd$each"; done
    before=$(cpu_ms alpha) begun=$(date +%s%N)
    wait_until 10 serves_tls alpha # a stranger gives way to a member
    gw -H beta dispatch "$id" beta >/dev/null
    gw -H beta dispatch "$id" alpha >/dev/null
    other=$(field .agent -H alpha create counter)
    for each in 1 2 3; do wait "${CROWD[crowd$each]}"; done
    [ "$(ls "/proc/${PID[alpha]}/fd" | wc -l)" -lt 84 ]
    # Members that want more places than there are: told, not left waiting.
    followers=()
    for each in {1..12}; do
        "$GODWIT" -H alpha events --follow >/dev/null 2>>"$work/followers" 3>&- &
        followers+=($!)
    done
    refused() {
        ! "$GODWIT" -H alpha status >/dev/null 2>"$work/refused" &&
            grep -q "connections of clients are open already" "$work/refused"
    }
    wait_until 10 refused
    equal "$(field .state.count -H beta show "$other")" 0 # over the link of a host
    kill "${followers[@]}" 2>/dev/null || true # some were refused, and have ended
    wait "${followers[@]}" || true
    lives_again() { lives alpha; }
    wait_until 10 lives_again
    wait $numbers
    wait_until 5 numbers_right "$id" 2000
    used=$(($(cpu_ms alpha) - before)) took=$((($(date +%s%N) - begun) / 1000000))
    echo "processor $used ms in $took ms"
    [ $((used * 2)) -lt $took ]
}

@test "descriptors that run out all the same: accepting rests and the loop does not spin, links go on, strangers make room" {
    start_pair --plugin "$(plugin ledger)"
    id=$(field .agent -H alpha create counter)
    gw -H beta send "$id" increment >/dev/null
    prlimit --pid "${PID[alpha]}" --nofile=$(($(ls "/proc/${PID[alpha]}/fd" | wc -l) + 6)):
    crowd many alpha idle 12
    lacks() { grep -q "server.accept.*Too many open files" "$GODWIT_HOME/hosts/alpha/log"; }
    wait_until 10 lacks
    before=$(cpu_ms alpha) begun=$(date +%s%N)
    for _ in {1..20}; do gw -H beta send "$id" increment >/dev/null; done
    wait_until 10 serves_tls alpha
    sleep 1 # in which a loop that spins would take a second of processor
    used=$(($(cpu_ms alpha) - before)) took=$((($(date +%s%N) - begun) / 1000000))
    echo "processor $used ms in $took ms"
    [ $((used * 2)) -lt $took ]
    [ "$(grep -c server.accept "$GODWIT_HOME/hosts/alpha/log")" -le $((took / 1000 + 2)) ]
    kill "${CROWD[many]}" 2>/dev/null || true # all of it may have ended
    served() { lives alpha; }
    wait_until 10 served
    equal "$(field .reply.count -H alpha send "$id" increment)" 22
}

@test "no more address space: refused, or a clear end; a restart finds everything" {
    [ -z "${SAN:-}" ] || skip "a sanitizer needs address space without end"
    ready=$(ulimit -v 98000; "$GODWIT" host --name alpha --listen 127.0.0.1:0 --plugin "$(plugin ledger)" \
        --plugin "$(plugin blob)" --detach --json 3>&- 4>&-)
    PID[alpha]=$(jq -r .pid <<<"$ready") URL[alpha]=$(jq -r .url <<<"$ready")
    ALL_PIDS+=("${PID[alpha]}")
    start_host beta --peer "${URL[alpha]}" --plugin "$(plugin ledger)" --plugin "$(plugin blob)"
    wait_until 10 alive_count alpha 2
    id=$(field .agent -H alpha create ledger)
    blobs=()
    for bytes in 2000000 40000000; do # the second is more than there is room for
        blobs+=("$(field .agent -H beta create blob)")
        gw -H beta send "${blobs[-1]}" fill bytes=$bytes >/dev/null
        gw -H beta --timeout 10s dispatch "${blobs[-1]}" alpha >>"$work/moves" 2>&1 || true
    done
    cat "$work/moves"
    "$(tool flood)" alpha "$id" hear numbers 300 1 within 60 >"$work/numbers" 2>&1 3>&- &
    numbers=$!
    floods=()
    for who in a b c d; do # 48 MB of messages that wait
        "$(tool flood)" alpha "$id" slowly $who 4000 4000 pad 3000 within 2 >>"$work/floods" 2>&1 3>&- &
        floods+=($!)
    done
    for each in "${floods[@]}"; do wait "$each" || true; done
    if process_gone "${PID[alpha]}"; then
        grep -q "out of memory" "$GODWIT_HOME/hosts/alpha/log"
    else
        kill_host alpha
    fi
    restart_host alpha --plugin "$(plugin ledger)" --plugin "$(plugin blob)"
    wait $numbers
    wait_until 20 alive_count alpha 2
    wait_until 20 moves_empty alpha
    equal "$(tail -n 1 "$work/numbers" | jq .acked)" 300
    gw -H alpha show "$id" >"$work/ledger"
    equal "$(jq -c '[.state.voices[] | select(.who == "numbers") | .last, .heard, .wrong]' "$work/ledger")" "[300,300,0]"
    for each in "${blobs[@]}"; do equal "$(field .reply.whole -H beta send "$each" verify)" true; done
    equal "$(field '[.agents[].agent] | length' -H alpha agents --all)" 3
}

@test "a disk of 1 MiB: refused when it is full, also at a start, nothing lost, work goes on with room" {
    [ "$(id -u)" -eq 0 ] || skip "needs root to mount a small disk"
    mkdir "$work/disk"
    mount -t tmpfs -o size=1m tmpfs "$work/disk" 2>/dev/null || skip "no mounts here"
    export GODWIT_HOME=$work/disk/home
    start_host alpha --plugin "$(plugin ledger)"
    id=$(field .agent create ledger)
    "$(tool flood)" alpha "$id" hear numbers 2000 1 within 60 >"$work/numbers" 2>"$work/flood" 3>&- &
    numbers=$!
    wait_until 20 grep -q disk_full "$work/flood"
    lives alpha
    run "$GODWIT" create counter
    [ "$status" -ne 0 ]
    contains "$output" "the disk is full"
    heard=$(field .reply.heard send "$id" look)
    [ "$heard" -gt 10 ]
    kill_host alpha
    if ! start_host alpha --listen "${URL[alpha]#https://}" --plugin "$(plugin ledger)" 2>"$work/start"; then
        cat "$work/start"
        grep -q "disk" "$work/start"
    fi
    mount -o remount,size=16m "$work/disk"
    lives alpha || restart_host alpha --plugin "$(plugin ledger)"
    wait $numbers
    wait_until 5 numbers_right "$id" 2000
}

@test "thousands of idle connections: little memory each; over the limit the oldest stranger gives way, members are served" {
    count=2000
    [ -z "${LONG:-}" ] || count=10000
    start_host alpha --max-clients $count --idle-timeout 600
    id=$(field .agent create counter)
    before=$(rss_kb alpha) base=$(ls "/proc/${PID[alpha]}/fd" | wc -l)
    crowd many alpha kept $count
    wait_until 120 crowd_up many
    open=$(($(ls "/proc/${PID[alpha]}/fd" | wc -l) - base))
    each=$((($(rss_kb alpha) - before) * 1024 / open))
    echo "$open connections, $each bytes each"
    [ $open -ge $((count - 1)) ]
    [ -n "${SAN:-}" ] || [ $each -lt 24000 ]
    sleep 2.2 # strangers of 2 s and more give way: now all of them
    crowd more alpha idle $((count / 4))
    wait_until 20 crowd_up more
    open=$(($(ls "/proc/${PID[alpha]}/fd" | wc -l) - base))
    [ $open -le $((count + 16)) ]
    serves_tls alpha
    equal "$(field .reply.count send "$id" increment)" 1
    kill "${CROWD[many]}" "${CROWD[more]}"
    wait "${CROWD[many]}"
    wait "${CROWD[more]}" || true
    cat "$work/many" "$work/more"
    equal "$(said more .failed)" 0
    [ "$(said many .closed)" -ge $((count / 4)) ]
    grep -q server.full "$GODWIT_HOME/hosts/alpha/log"
    few() { [ "$(ls "/proc/${PID[alpha]}/fd" | wc -l)" -le $((base + 4)) ]; }
    wait_until 10 few
    serves_tls alpha
}

@test "one byte a second, in the handshake, the head, the body, and none at all: time-outs end them all, others are served at once" {
    start_host alpha --head-timeout 2 --body-timeout 3 --idle-timeout 3
    for mode in shake head body kept; do crowd $mode alpha $mode 150; done
    for mode in shake head body kept; do wait_until 20 crowd_up $mode; done
    slowest=0
    for _ in {1..20}; do
        began=$(date +%s%N)
        serves_tls alpha
        took=$((($(date +%s%N) - began) / 1000000))
        slowest=$((took > slowest ? took : slowest))
    done
    for mode in shake head body kept; do wait "${CROWD[$mode]}"; done
    cat "$work"/{shake,head,body,kept}
    echo "a member waited for at most $slowest ms"
    [ $slowest -lt 2000 ]
    for mode in shake head body kept; do equal "$(said $mode .open)" 0; done
    for mode in head body; do equal "$(said $mode '"\(.status) \(.answers)"')" "408 150"; done
}

@test "bodies of a gigabyte: 413 by what is declared, chunks 411, little is read, memory stays" {
    start_host alpha
    before=$(rss_kb alpha)
    crowd flood alpha flood 8 1073741824
    crowd chunks alpha chunks 8
    truncate -s 1G "$work/big"
    equal "$(api_tls -X POST -T "$work/big" -o "$work/body" -w '%{http_code}' "${URL[alpha]}/v1/agents")" 413
    equal "$(api_error)" too_big
    equal "$(curl -s --max-time 20 --unix-socket "$GODWIT_HOME/hosts/alpha/api.sock" -X POST -T "$work/big" -o /dev/null \
        -w '%{http_code}' http://localhost/v1/agents)" 413
    equal "$(head -c 100000000 /dev/zero | curl -s --max-time 20 --unix-socket "$GODWIT_HOME/hosts/alpha/api.sock" -X POST -T - \
        -o /dev/null -w '%{http_code}' http://localhost/v1/agents)" 411
    wait "${CROWD[flood]}"
    wait "${CROWD[chunks]}"
    after=$(rss_kb alpha)
    cat "$work/flood" "$work/chunks"
    echo "memory $before kB, then $after kB"
    equal "$(said flood '"\(.status) \(.answers) \(.open)"')" "413 8 0"
    equal "$(said chunks '"\(.status) \(.answers) \(.open)"')" "411 8 0"
    [ "$(said flood .sent_bytes)" -lt 1073741824 ] # of all eight together
    [ -n "${SAN:-}" ] || [ $((after - before)) -lt 16000 ]
    serves_tls alpha
}

@test "100,000 agents that nobody has: each is answered, nothing is remembered, a silent peer delays only the answer" {
    start_host alpha
    start_host beta --peer "${URL[alpha]}"
    start_host gamma --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 3
    "$(tool unknown)" alpha 2000 1000 >/dev/null # buffers are there
    before=$(rss_kb alpha) before_peer=$(rss_kb beta) cpu=$(cpu_ms alpha) cpu_peer=$(cpu_ms beta)
    "$(tool unknown)" alpha 100000 1000
    cpu=$(($(cpu_ms alpha) - cpu)) cpu_peer=$(($(cpu_ms beta) - cpu_peer))
    echo "memory $before kB, then $(rss_kb alpha) kB; of a peer $before_peer kB, then $(rss_kb beta) kB; processor $cpu ms, of a peer $cpu_peer ms"
    [ -n "${SAN:-}" ] || [ $(($(rss_kb alpha) - before)) -lt 4000 ]
    [ -n "${SAN:-}" ] || [ $(($(rss_kb beta) - before_peer)) -lt 4000 ]
    [ $cpu_peer -lt $((cpu + 100)) ]
    id=$(field .agent -H beta create counter)
    kill -STOP "${PID[gamma]}"
    "$(tool unknown)" alpha 4000 4000 >"$work/unknown" 2>&1 3>&- &
    asking=$!
    equal "$(field .reply.count -H alpha send "$id" increment)" 1 # others are served meanwhile
    wait $asking || { cat "$work/unknown"; false; }
    kill -CONT "${PID[gamma]}"
    [ -n "${SAN:-}" ] || [ $(($(rss_kb alpha) - before)) -lt 12000 ]
    gw -H gamma send "$id" increment >/dev/null
}
