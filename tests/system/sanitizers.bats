# That a build with sanitizers reports: what host, runner and command line lose is found.
load helpers

setup() {
    [[ $SAN == *address* ]] || skip "needs SAN=address,undefined"
    system_setup
}
teardown() { [ -z "${work:-}" ] || system_teardown; }

# reported TEXT: some report has it; then they are gone, so that this test passes.
reported() {
    cat "$reports"/* | grep -q LeakSanitizer || return 1
    cat "$reports"/* | grep -q "$1" || return 1
    rm -f "$reports"/*
}
preloaded() { LEAK_AT_START=1 LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(plugin leaker)" "$@"; }

@test "what a runner loses is reported when its host stops" {
    start_host alpha --plugin "$(plugin leaker)"
    id=$(field .agent create leaker)
    gw send "$id" leak >/dev/null
    term_host alpha
    reported "77 byte(s) in 1 object(s)"
}

@test "what a command loses is reported, and fails it" {
    run preloaded "$GODWIT" --version
    [ "$status" -ne 0 ]
    reported "77 byte(s) in 1 object(s)"
}

@test "what a host loses is reported when it stops" {
    ready=$(preloaded "$GODWIT" host --name alpha --listen 127.0.0.1:0 --detach --json 3>&- 4>&- || true)
    PID[alpha]=$(jq -r .pid <<<"$ready")
    ALL_PIDS+=("${PID[alpha]}")
    rm -f "$reports"/* # of the process that started it
    term_host alpha
    reported "77 byte(s) in 1 object(s)"
}
