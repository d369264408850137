# Plugins that are wrong, or crash: a clear error, and the host and all other agents go on.
load helpers

setup() {
    system_setup
    plugins=$built/tests/plugins
}
teardown() { system_teardown; }

# The host starts with the plugin, says what is wrong with it, and serves the others.
reported() { # PLUGIN PART...
    start_host alpha --plugin "$plugins/$1.so"
    local log=$GODWIT_HOME/hosts/alpha/log part
    said() { grep -q "$1" "$log"; }
    for part in "$1.so" "${@:2}"; do
        wait_until 10 said "$part" || { echo "\"$part\" is not in the log"; return 1; }
    done
    id=$(field .agent create counter)
    equal "$(field .reply.count send "$id" increment)" 1
}

@test "a plugin of another ABI: both numbers are named" {
    reported wrong_abi 43 2
}
@test "a plugin with types of another size" {
    reported wrong_size
}
@test "a library that is no plugin" {
    reported no_symbol
}
@test "a plugin that needs a symbol nobody has" {
    reported undefined gw_not_in_any_version
}
@test "a signature that does not parse" {
    reported bad_signature
}
@test "a plugin that crashes in load" {
    reported crash_load
}

@test "a handler that crashes: the caller hears it, the state is as before, others live" {
    start_host alpha --plugin "$plugins/crasher.so"
    id=$(field .agent create crasher)
    other=$(field .agent create counter)
    gw send "$other" increment by=5
    equal "$(field .reply.count send "$id" bump)" 1
    run gw send "$id" crash
    equal "$status" 1
    contains "$output" crashed
    lives alpha
    back() { [ "$(field .reply.count send "$id" get 2>/dev/null)" = 1 ]; }
    wait_until 10 back
    equal "$(field .reply.count send "$id" bump)" 2
    equal "$(field .reply.count send "$other" increment)" 6
}

@test "a plugin that is rebuilt in place does not hurt its agents" {
    cp "$plugins/crasher.so" "$work/own.so"
    start_host alpha --plugin "$work/own.so"
    id=$(field .agent create crasher)
    equal "$(field .reply.count send "$id" bump)" 1
    head -c 5000 /dev/urandom >"$work/own.so"
    equal "$(field .reply.count send "$id" bump)" 2
    lives alpha
}

@test "a type that the destination does not have is refused before the agent freezes" {
    start_host alpha --plugin "$plugins/crasher.so"
    start_host beta --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    id=$(field .agent -H alpha create crasher)
    gw -H alpha send "$id" bump
    run gw -H alpha dispatch "$id" beta
    [ "$status" -ne 0 ]
    contains "$output" crasher
    equal "$(field '[.host, .epoch] | map(tostring) | join(" ")' -H alpha show "$id")" "alpha 1"
    equal "$(field .reply.count -H alpha send "$id" bump)" 2
    equal "$(field '.moves | length' -H alpha moves)" 0
}
