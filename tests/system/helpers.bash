# For every system test: a home of its own, hosts by name, conditions instead of sleeps. Processes are
# ended by the ids that were noted when they were started.
# shellcheck shell=bash disable=SC2034 # the tests use the variables

# With SAN=address,undefined (or thread) it is that build which runs, and every report of a sanitizer, by
# whatever process and however that ended, fails the test: system_teardown.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SAN=${SAN:-}
built=$root/build/plain
if [ -n "$SAN" ]; then
    built=$root/build/san-${SAN//,/-}
    GODWIT=$built/godwit
fi
GODWIT=${GODWIT:-$root/build/godwit}
declare -gA PID URL
ALL_PIDS=()

# Call first in setup().
system_setup() {
    unset GODWIT_HOST GODWIT_JOIN_TOKEN
    # Short: a unix socket's path has to fit into other tools, too.
    work=$(mktemp -d "${TMPDIR:-/tmp}/gw-XXXXXX")
    export GODWIT_HOME=$work/home
    PID=() URL=() ALL_PIDS=()
    [ -z "$SAN" ] || collect_reports
}

# Each process writes what its sanitizers find to a file of its own in $reports.
collect_reports() {
    local options
    reports=$(mktemp -d "${TMPDIR:-/tmp}/gw-reports-XXXXXX")
    options=log_path=$reports/report:print_stacktrace=1
    export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:$options UBSAN_OPTIONS=$options
    export TSAN_OPTIONS=second_deadlock_stack=1:$options
}

# Leaks are looked for when a process ends by itself, so the hosts that still run are asked to.
end_for_reports() {
    local each
    for each in "${ALL_PIDS[@]}"; do
        is_ours "$each" && kill -CONT "$each" 2>/dev/null && kill -TERM "$each" 2>/dev/null
    done
    for each in "${ALL_PIDS[@]}"; do
        wait_until 20 process_gone "$each" || echo "host $each does not end"
    done
}

# 1 and their text when there are any.
show_reports() {
    local each found=0
    for each in "$reports"/*; do # a thread that ends while leaks are looked for is none
        grep -qsv '^==[0-9]*==Unable to get registers' "$each" || continue
        echo "--- a sanitizer's report:"
        head -c 20000 "$each"
        found=1
    done
    rm -rf "$reports"
    return $found
}

# Call last in teardown().
system_teardown() {
    local each code=0
    [ -z "$SAN" ] || end_for_reports
    for each in "${ALL_PIDS[@]}"; do
        is_ours "$each" && kill -9 "$each" 2>/dev/null
    done
    for each in "${ALL_PIDS[@]}"; do
        wait_until 5 process_gone "$each" || true
    done
    if [ -z "${BATS_TEST_COMPLETED:-}" ]; then # failed: say what the hosts said
        for each in "$work"/*/hosts/*/log; do
            [ -s "$each" ] && echo "--- $each" && tail -n 25 "$each"
        done
    fi
    rm -rf "$work"
    [ -z "$SAN" ] || show_reports || code=1
    return $code
}

is_ours() { [[ "$(readlink "/proc/$1/exe" 2>/dev/null)" == "$GODWIT"* ]]; }
# Its first thread may be a zombie while others still end and hold its files.
process_gone() {
    [ ! -e "/proc/$1" ] || { grep -q '^State:.Z' "/proc/$1/status" && [ "$(ls "/proc/$1/task" | wc -l)" -le 1 ]; } 2>/dev/null ||
        [ ! -e "/proc/$1" ]
}

# wait_until SECONDS COMMAND...: until the command succeeds; 1 when it never does.
wait_until() {
    local until=$(($(date +%s%N) + $1 * 1000000000))
    shift
    until "$@"; do
        [ "$(date +%s%N)" -lt "$until" ] || return 1
        sleep 0.03
    done
}

# start_host NAME [OPTION...]: sets PID[NAME] and URL[NAME]. Not inside `run`: that is a subshell.
start_host() {
    local name=$1 ready
    shift
    [[ " $* " == *" --listen "* ]] || set -- --listen 127.0.0.1:0 "$@"
    # bats waits for everything that holds its descriptor 3.
    ready=$("$GODWIT" host --name "$name" --detach --json "$@" 3>&- 4>&-) || return 1
    PID[$name]=$(jq -r .pid <<<"$ready")
    URL[$name]=$(jq -r .url <<<"$ready")
    ALL_PIDS+=("${PID[$name]}")
}

# Start it again where it was, after it ended.
restart_host() {
    local name=$1
    shift
    start_host "$name" --listen "${URL[$name]#https://}" "$@"
}

kill_host() {
    kill -9 "${PID[$1]}"
    wait_until 5 process_gone "${PID[$1]}"
}

# Orderly stop by signal.
term_host() {
    kill -TERM "${PID[$1]}"
    wait_until 10 process_gone "${PID[$1]}"
}

# gw ARG...: JSON of a command.
gw() { "$GODWIT" --json "$@"; }

# field FILTER ARG...: one field of the JSON of a command.
field() {
    local filter=$1
    shift
    gw "$@" | jq -r "$filter"
}

# equal GOT WANTED
equal() {
    [ "$1" = "$2" ] && return 0
    echo "got \"$1\", wanted \"$2\""
    return 1
}

# contains TEXT PART
contains() {
    [[ "$1" == *"$2"* ]] && return 0
    echo "\"$2\" is not in: $1"
    return 1
}

alive_count() { [ "$(gw -H "$1" hosts 2>/dev/null | jq '[.hosts[] | select(.state == "alive")] | length')" = "$2" ]; }
moves_empty() { [ "$(gw -H "$1" moves --all 2>/dev/null | jq '.moves | length')" = 0 ]; }

# Two linked hosts.
start_pair() {
    start_host alpha --tag lab
    start_host beta --peer "${URL[alpha]}" "$@"
    wait_until 10 alive_count alpha 2
    wait_until 10 alive_count beta 2
}

# The API over the unix socket of a host: api NAME METHOD PATH [BODY]; prints status and body on two lines.
api() {
    local name=$1 method=$2 path=$3
    if [ $# -gt 3 ]; then
        set -- -H 'Content-Type: application/json' --data-binary "$4"
    else
        set --
    fi
    curl -s --max-time 20 --path-as-is --unix-socket "$GODWIT_HOME/hosts/$name/api.sock" -X "$method" \
        -o "$work/body" -w '%{http_code}\n' "$@" "http://localhost$path"
    cat "$work/body"
    echo
}
# The error code in the body of the last api call.
api_error() { jq -r .error.code "$work/body"; }
# The API over TLS with the operator's certificate: api_tls CURL-ARGUMENT...
api_tls() {
    curl -s --max-time 20 --cacert "$GODWIT_HOME/mesh/ca.crt" --cert "$GODWIT_HOME/mesh/operator.crt" \
        --key "$GODWIT_HOME/mesh/operator.key" -H 'Content-Type: application/json' "$@"
}
lives() { [ "$(api "$1" GET /v1/health | head -n 1)" = 200 ]; }
# A plugin, a program that only tests use.
plugin() { echo "$built/tests/plugins/$1.so"; }
tool() { echo "$built/tests/tools/$1"; }
# Call first in a test that measures what sanitizers change: time, memory.
plain_only() { [ -z "$SAN" ] || skip "measures ${1:-time}; not under sanitizers"; }
