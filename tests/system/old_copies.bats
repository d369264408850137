# Old copies of a state directory, copies that run beside the original, and other machines.
load helpers

setup() { system_setup; }
teardown() { system_teardown; }

standing() { [ "$(field .standing -H "$1" status 2>/dev/null)" = "$2" ]; }
seen_as() { [ "$(gw -H "$1" hosts 2>/dev/null | jq -r ".hosts[] | select(.name == \"$2\") | .state")" = "$3" ]; }
count() { field .reply.count -H "$1" send "$2" get; }
# The folder of a host as it is now, and back to that.
copy_away() { cp -a "$GODWIT_HOME/hosts/$1" "$work/$1.copy"; }
put_back() {
    rm -rf "$GODWIT_HOME/hosts/$1"
    cp -a "$work/$1.copy" "$GODWIT_HOME/hosts/$1"
}

@test "a restored backup is noticed, runs nothing, and goes on with --restored" {
    start_pair
    stay=$(field .agent -H alpha create counter)
    move=$(field .agent -H alpha create counter)
    gw -H alpha send "$stay" increment by=3 >/dev/null
    gw -H alpha send "$move" increment by=4 >/dev/null
    term_host alpha
    copy_away alpha
    restart_host alpha
    wait_until 10 alive_count beta 2
    gw -H alpha send "$stay" increment by=10 >/dev/null
    gw -H alpha dispatch "$move" beta >/dev/null
    gw -H beta send "$move" increment by=5 >/dev/null
    kill_host alpha
    put_back alpha

    restart_host alpha
    wait_until 15 standing alpha stale
    wait_until 5 seen_as beta alpha stale
    wait_until 5 seen_as alpha alpha stale
    run "$GODWIT" -H alpha send "$stay" get
    equal "$status" 6
    contains "$output" "godwit host --name alpha --restored"
    run "$GODWIT" -H beta send "$stay" get
    equal "$status" 6
    contains "$output" "older copy"
    run "$GODWIT" -H alpha create counter
    equal "$status" 6
    equal "$(gw -H alpha events --kind host.stale | wc -l)" 1
    equal "$(count beta "$move")" 9 # the living one goes on
    kill_host alpha
    restart_host alpha # a start alone does not make it better
    standing alpha stale
    term_host alpha

    restart_host alpha --restored
    wait_until 15 standing alpha ok
    wait_until 10 alive_count beta 2
    equal "$(count beta "$stay")" 3
    equal "$(count alpha "$move")" 9
    equal "$(field .epoch -H alpha show "$stay")" 2
    gw -H beta retract "$stay" >/dev/null
    gw -H beta dispatch "$stay" alpha >/dev/null
    equal "$(count beta "$stay")" 3
    term_host alpha
    restart_host alpha # the word of the operator stays
    wait_until 10 alive_count beta 2
    standing alpha ok
    equal "$(count beta "$stay")" 3
}

@test "hosts that are killed are never taken for old copies" {
    start_pair
    id=$(field .agent -H alpha create counter)
    for i in {1..6}; do
        gw -H beta send "$id" increment >/dev/null
        kill_host alpha
        [ $((i % 3)) != 0 ] || { kill_host beta && restart_host beta; }
        restart_host alpha
        wait_until 10 alive_count beta 2
        wait_until 10 alive_count alpha 2
    done
    equal "$(count beta "$id")" 6
    equal "$(gw -H alpha events --kind host.stale | wc -l)" 0
    equal "$(gw -H beta events --kind host.stale | wc -l)" 0
}

@test "a copy that is started beside its original ends, and says why" {
    start_pair
    id=$(field .agent -H alpha create counter)
    gw -H alpha send "$id" increment >/dev/null
    cp -a "$GODWIT_HOME" "$work/copy" # while it runs
    GODWIT_HOME=$work/copy run timeout 20 "$GODWIT" host --name alpha --listen 127.0.0.1:0
    equal "$status" 6
    contains "$output" "another process runs as host \"alpha\""
    contains "$output" "--name"
    equal "$(gw -H beta events --kind host.copied | wc -l)" 1
    wait_until 5 alive_count beta 2
    gw -H beta send "$id" increment >/dev/null
    equal "$(count beta "$id")" 2
    [ -z "$(gw -H alpha events --kind host.copied)" ]
}

@test "a process that does not answer gives way to the one that took its place" {
    start_pair
    cp -a "$GODWIT_HOME" "$work/copy"
    old=${PID[alpha]}
    kill -STOP "$old" # as a machine that is gone: its link looks alive
    home=$GODWIT_HOME
    export GODWIT_HOME=$work/copy
    start_host alpha
    boot=$(field .boot -H alpha status)
    wait_until 15 alive_count alpha 2
    export GODWIT_HOME=$home
    wait_until 5 seen_as beta alpha alive
    kill -CONT "$old" # and it comes back: it is the second one now
    wait_until 30 process_gone "$old"
    contains "$(cat "$home/hosts/alpha/log")" "another process runs as host \"alpha\""
    GODWIT_HOME=$work/copy equal "$(GODWIT_HOME=$work/copy field .boot -H alpha status)" "$boot"
    wait_until 5 seen_as beta alpha alive
}

@test "a start on another machine is refused, unless that is said" {
    export GODWIT_MACHINE_ID=one
    start_host alpha
    id=$(field .agent -H alpha create counter)
    term_host alpha
    export GODWIT_MACHINE_ID=two
    run timeout 20 "$GODWIT" host --name alpha --listen 127.0.0.1:0
    equal "$status" 6
    contains "$output" "--moved-machine"
    GODWIT_MACHINE_ID='' start_host alpha # unknown is no other
    term_host alpha
    start_host alpha --moved-machine
    equal "$(gw events --kind host.moved | wc -l)" 1
    equal "$(count alpha "$id")" 0
    term_host alpha
    start_host alpha
    term_host alpha
    GODWIT_MACHINE_ID=one run timeout 20 "$GODWIT" host --name alpha --detach
    equal "$status" 6
}

@test "the machine is known by /etc/machine-id" {
    [ -s /etc/machine-id ] || skip "this machine has no /etc/machine-id"
    unshare -m true 2>/dev/null || skip "needs the right to mount"
    echo 0123456789abcdef0123456789abcdef >"$work/machine-id"
    start_host alpha
    term_host alpha
    # shellcheck disable=SC2016
    run unshare -m sh -c 'mount --bind "$1" /etc/machine-id && exec timeout 20 "$2" host --name alpha --listen 127.0.0.1:0' \
        sh "$work/machine-id" "$GODWIT"
    equal "$status" 6
    contains "$output" "--moved-machine"
    start_host alpha
}
