# A full disk: refused with a clear error, nothing lost, and work goes on when there is room again.
load helpers

setup() {
    system_setup
    [ "$(id -u)" -eq 0 ] || skip "needs root to mount a small disk"
    mkdir "$work/disk"
    mount -t tmpfs -o size=6m tmpfs "$work/disk" 2>/dev/null || skip "no mounts here"
    export GODWIT_HOME=$work/disk/home
}
teardown() {
    for each in "${ALL_PIDS[@]}"; do
        is_ours "$each" && kill -9 "$each" && wait_until 5 process_gone "$each"
    done
    mountpoint -q "$work/disk" && umount "$work/disk"
    system_teardown
}

@test "a full disk refuses work, keeps what was acknowledged, and goes on with room" {
    start_host alpha --plugin "$(plugin crasher)"
    id=$(field .agent create counter)
    gw send "$id" increment by=5
    dd if=/dev/zero of="$work/disk/ballast" bs=4k 2>/dev/null || true # as much as there is room for
    full() { ! gw create counter >/dev/null 2>"$work/err"; }
    for _ in {1..300}; do
        full && break
    done
    full
    contains "$(cat "$work/err")" "full"
    # The host says no, or it ended in order to decide from its log; never a wrong answer.
    if process_gone "${PID[alpha]}"; then
        rm "$work/disk/ballast"
        restart_host alpha
    else
        rm "$work/disk/ballast"
    fi
    works() { gw send "$id" increment >/dev/null 2>&1; }
    wait_until 10 works
    count=$(field .state.count show "$id")
    [ "$count" -ge 6 ]
    term_host alpha
    restart_host alpha
    equal "$(field .state.count show "$id")" "$count"
}
