# The power goes, at any moment: the calls of a store and of a host are recorded, and every folder that a
# file system may leave then is built and opened (tests/tools/powerloss.c says what may be left).
# GODWIT_POWERLOSS=N looks N times as hard (make powerloss).
load helpers

setup() {
    plain_only "what goes through the symbols of the C library"
    system_setup
    # Nothing here waits for a disk: the states are files that are written and thrown away.
    fast=$(mktemp -d /dev/shm/gw-XXXXXX 2>/dev/null) || fast=$(mktemp -d)
    mkdir "$fast/dir" "$fast/scratch"
    : >"$fast/record"
    export GODWIT_TEST_RECORD=$fast/record GODWIT_TEST_RECORD_DIR=$fast/dir
    times=${GODWIT_POWERLOSS:-1}
}

teardown() {
    system_teardown
    rm -rf "$fast"
}

recorded() { LD_PRELOAD=$built/tests/tools/preload/record.so "$@"; }
check() { "$(tool powerloss)" check "$fast/record" "$fast/scratch" "$@"; }

@test "a store keeps what it acknowledged in every crash state" {
    recorded "$(tool powerloss)" work "$fast/dir"
    run check . "$times"
    echo "$output"
    [ "$status" -eq 0 ]
    [[ "$output" =~ \ ([0-9]+)\ different ]]
    [ "${BASH_REMATCH[1]}" -ge 1500 ]
}

@test "the check notices flushes that are missing" {
    recorded "$(tool powerloss)" work "$fast/dir"
    for kind in files folders; do
        run check . 1 1 "$kind"
        echo "$output"
        [ "$status" -eq 1 ]
        contains "$output" "power cut after call"
    done
}

# A host from its first start on: increments of a counter, an orderly stop, a kill.
record_a_host() {
    export GODWIT_HOME=$fast/dir GODWIT_HOST=alpha
    recorded start_host alpha
    agent=$(field .agent create counter)
    "$(tool powerloss)" ack "agent $agent"
    for i in $(seq 1 "$1"); do
        gw send "$agent" increment >/dev/null
        "$(tool powerloss)" ack "row $i"
        if [ "$i" -eq $(($1 / 2)) ]; then
            term_host alpha
            recorded restart_host alpha
        fi
    done
    kill_host alpha
}

# Boot a host on the state that this seed chooses, twice: what was acknowledged is there, once.
boot_on_state() {
    local told count again
    GODWIT_HOME=$fast/scratch
    told=$("$(tool powerloss)" build "$fast/record" "$GODWIT_HOME" "$1")
    start_host alpha || return 1
    [ -n "$told" ] || {
        kill_host alpha
        return
    }
    count=$(field .reply.count send "$agent" get) || return 1
    [[ "$told" == row\ * ]] || told="row 0"
    [ "$count" -ge "${told#row }" ] && [ "$count" -le $((${told#row } + 1)) ] || return 1
    kill_host alpha
    restart_host alpha || return 1
    again=$(field .reply.count send "$agent" get)
    kill_host alpha
    equal "$again" "$count"
}

@test "a host keeps what it acknowledged in every crash state" {
    record_a_host $((20 * times < 60 ? 20 * times : 60))
    run check hosts/alpha $((2 * times))
    echo "$output"
    [ "$status" -eq 0 ]
    for seed in $(seq 1 $((6 * times))); do
        boot_on_state "$seed" || {
            echo "state of seed $seed"
            return 1
        }
    done
}
