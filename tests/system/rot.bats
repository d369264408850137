# Rotten bytes under a real host: one bit turned, 24 bytes turned to rubbish, or the end cut off, in each
# file of a home that a killed host has left. Whatever is done: the host starts, says of what it cannot
# read that it cannot, and serves the rest as it was; or it refuses to start, names the file and says
# what to do. GODWIT_ROT=N looks at N places of each file (make rot: 64).
load helpers

setup_file() {
    system_setup
    export KEPT=$work COUNTERS=7 BLOBS=2 GODWIT_HOME=$work/home
    ids=()
    start_host alpha --plugin "$(plugin blob)"
    for i in $(seq 1 $COUNTERS); do
        ids+=("$(field .agent -H alpha create counter count="$i")")
    done
    for i in $(seq 1 $BLOBS); do
        ids+=("$(field .agent -H alpha create blob)")
        gw -H alpha send "${ids[-1]}" fill bytes=$((300000 + i)) >/dev/null
    done
    gw -H alpha deactivate "${ids[0]}" >/dev/null
    "$GODWIT" -H alpha mesh token >/dev/null 2>&1
    # A database, and then a log beside it that has more.
    term_host alpha
    restart_host alpha --plugin "$(plugin blob)"
    for i in 1 2 3; do
        gw -H alpha send "${ids[$i]}" increment >/dev/null
        gw -H alpha send "${ids[$i]}" increment by=-1 >/dev/null
    done
    kill_host alpha
    printf '%s\n' "${ids[@]}" >"$work/ids"
    mv "$work/home" "$work/killed"
    cp -a "$work/killed" "$work/home"
    restart_host alpha --plugin "$(plugin blob)"
    term_host alpha
    mv "$work/home" "$work/stopped"
}

teardown_file() {
    work=$KEPT
    BATS_TEST_COMPLETED=1 system_teardown
}

setup() {
    work=$KEPT
    places=${GODWIT_ROT:-2}
    mapfile -t ids <"$work/ids"
    outcomes=""
    export GODWIT_HOST=alpha
}

teardown() {
    for each in "${ALL_PIDS[@]}"; do
        is_ours "$each" && kill -9 "$each" 2>/dev/null
    done
    return 0
}

# wrong TEXT: what is the matter, with all that helps to see it again.
wrong() {
    echo "$what at place $place of $places in $file (byte $at): $1"
    tail -n 8 "$GODWIT_HOME/hosts/alpha/log" 2>/dev/null
    cat "$work/said"
    return 1
}

# Each agent gives its right answer, or says that it cannot. Sets `served`.
look_at_agents() {
    local i answer code
    served=0
    for i in "${!ids[@]}"; do
        if [ "$i" -lt "$COUNTERS" ]; then
            answer=$(gw send "${ids[$i]}" get 2>"$work/err") && {
                [ "$(jq .reply.count <<<"$answer")" = $((i + 1)) ] || { wrong "agent $i says $answer"; return 1; }
                served=$((served + 1))
                continue
            }
        else
            answer=$(gw send "${ids[$i]}" verify 2>"$work/err") && {
                [ "$(jq .reply.whole <<<"$answer")" = true ] || { wrong "agent $i says $answer"; return 1; }
                served=$((served + 1))
                continue
            }
        fi
        code=$(jq -r .error.code "$work/err")
        [[ "$code" == quarantined || "$code" == corrupt ]] || { wrong "agent $i: $(cat "$work/err")"; return 1; }
    done
}

# Start on the damaged home. Sets `outcome`: refused, whole, or the number of agents that are served.
try_host() {
    local start rc=0
    start=$(date +%s)
    timeout 30 "$GODWIT" host --name alpha --listen 127.0.0.1:0 --plugin "$(plugin blob)" --detach --json \
        >"$work/ready" 2>"$work/said" 3>&- 4>&- || rc=$?
    if [ $rc -ne 0 ]; then
        outcome=refused
        [ $rc -lt 124 ] || { wrong "it ended with $rc"; return 1; }
        [ $(($(date +%s) - start)) -lt 20 ] || { wrong "it took long"; return 1; }
        grep -q 'restore\|backup\|remove\|move ' "$work/said" || { wrong "no word of what to do"; return 1; }
        grep -q "$(basename "$file")\|blobs\|log says which file" "$work/said" || { wrong "the file is not named"; return 1; }
        return 0
    fi
    PID[alpha]=$(jq -r .pid "$work/ready")
    ALL_PIDS+=("${PID[alpha]}")
    look_at_agents || return 1
    outcome=$served
    if [ "$served" -lt ${#ids[@]} ]; then
        [ "$(field '.agents | length' agents --status quarantined)" -eq $((${#ids[@]} - served)) ] ||
            { wrong "$served are served, and quarantined are: $(gw agents --status quarantined)"; return 1; }
        [ "$(gw events --kind agent.quarantined | wc -l)" -ge 1 ] || { wrong "no event"; return 1; }
    else
        outcome=whole
    fi
    kill_host alpha
}

# harm FILE HOME: all kinds at all places of one file of a copy of that home.
harm() {
    for what in ${3:-flip rubbish cut}; do
        for place in $(seq 0 $((places - 1))); do
            rm -rf "$work/home"
            cp -a "$work/$2" "$work/home"
            export GODWIT_HOME=$work/home
            file=$(cd "$work/home" && echo $1) # a pattern
            file=$work/home/${file%% *}
            at=$("$(tool rot)" "$what" "$file" "$place" "$places")
            try_host || return 1
            outcomes+=" $what:$outcome"
        done
    done
    echo "$1 $outcomes"
}

@test "a rotten database costs agents at most, or the start" {
    harm hosts/alpha/store.db stopped
    [[ "$outcomes" != *flip:refused* ]]
    [[ ! "$outcomes" =~ flip:[0-9] ]] # one bit is put right
    [[ "$outcomes" == *rubbish:* ]]
}

@test "a rotten log costs the start" {
    harm hosts/alpha/store.db-wal killed
    [[ "$outcomes" == *refused* ]]
}

@test "a rotten large value costs its agent" {
    harm "hosts/alpha/blobs/*" stopped
    [ "$(tr ' ' '\n' <<<"$outcomes" | grep -c ":$((${#ids[@]} - 1))$")" -eq $((3 * places)) ]
}

@test "rotten marks, locks and logs cost nothing" {
    places=$(((places + 1) / 2))
    for each in hosts/alpha/store.db-mark hosts/alpha/log hosts/alpha/store.lock mesh/lock; do
        outcomes=""
        harm "$each" killed
        [[ ! "$outcomes" =~ refused|:[0-9] ]]
    done
}

@test "rotten keys and certificates cost the start, or nothing" {
    places=$(((places + 1) / 2))
    for each in hosts/alpha/identity.key hosts/alpha/tls.key hosts/alpha/tls.crt mesh/ca.crt mesh/ca.key mesh/operator.key \
        mesh/operator.crt mesh/mesh.json "mesh/tokens/*"; do
        outcomes=""
        harm "$each" stopped
        [[ ! "$outcomes" =~ :[0-9] ]]
    done
}

@test "a damaged agent does not leave, its neighbours do; mended, it goes on" {
    rm -rf "$work/home"
    cp -a "$work/stopped" "$work/home"
    export GODWIT_HOME=$work/home
    plugin=$(plugin blob)
    first=${ids[$COUNTERS]}
    # The smaller one of the two files is that of the first.
    file=$(ls -rS "$work"/home/hosts/alpha/blobs/* | head -n 1)
    cp "$file" "$work/whole"
    "$(tool rot)" flip "$file" 1 2
    start_host alpha --plugin "$plugin"
    start_host beta --plugin "$plugin" --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    run "$GODWIT" --json -H alpha drain --to beta
    echo "$output"
    wait_until 10 moves_empty alpha
    equal "$(field '[.agents[].agent] | join(" ")' -H alpha agents --status quarantined)" "$first"
    contains "$(field .fault -H alpha show "$first")" "is damaged"
    equal "$(gw -H alpha events --kind agent.quarantined | jq -r .agent)" "$first"
    equal "$(field '.agents | length' -H beta agents)" $((${#ids[@]} - 1))
    run "$GODWIT" -H alpha dispatch "$first" beta
    [ "$status" -eq 6 ]
    run "$GODWIT" -H alpha clone "$first" beta
    [ "$status" -ne 0 ]
    # Activated as it is, it is quarantined again; with its file back it goes on.
    gw -H alpha activate "$first" >/dev/null
    run "$GODWIT" -H alpha send "$first" verify
    [ "$status" -ne 0 ]
    equal "$(field '.agents | length' -H alpha agents --status quarantined)" 1
    cp "$work/whole" "$file"
    gw -H alpha activate "$first" >/dev/null
    equal "$(field .reply.whole -H alpha send "$first" verify)" true
    gw -H alpha dispatch "$first" beta >/dev/null
    equal "$(field .reply.whole -H beta send "$first" verify)" true
    for host in alpha beta; do kill_host "$host"; done
}
