# Dead letters through the real binary: a message that ends its runner is given up, kept, and can be looked at.
load helpers

setup() { system_setup; }
teardown() { system_teardown; }

letters() { [ "$(field '.letters | map(.letter) | join(" ")' dead list)" = "$1" ]; }

@test "a message that ends its runner three times is a dead letter: list, show, replay, drop" {
    start_host alpha --plugin "$(plugin crasher)"
    id=$(field .agent create crasher)
    equal "$(field .reply.count send "$id" bump)" 1
    gw send "$id" leave code=3 --tell
    wait_until 10 letters 1
    equal "$(field .method dead show 1)" leave
    equal "$(field .args.code dead show 1)" 3
    equal "$(field '.letters[0].agent' dead list)" "$id"
    served() { [ "$(field .reply.count send "$id" get 2>/dev/null)" = 1 ]; }
    wait_until 10 served
    gw dead replay 1 # ends it again
    wait_until 10 letters 2
    term_host alpha
    restart_host alpha --plugin "$(plugin crasher)"
    letters 2
    equal "$("$GODWIT" metrics | awk '$1 == "godwit_dead_letters" { print $2 }')" 1
    gw dead drop 2
    letters ""
    run gw dead replay 2
    equal "$status" 3
    run gw dead show nonsense
    equal "$status" 2
}
