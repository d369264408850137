# Built-in types: each host keeps a server-info of its own.
load helpers

setup() { system_setup; }
teardown() { system_teardown; }

@test "each host says what its machine is, from its first start on" {
    start_pair
    equal "$(field .host -H alpha send server-info summary)" alpha
    equal "$(field .reply.host -H beta send server-info summary)" beta
    gw -H alpha send server-info summary | jq -e '.reply | .cpus > 0 and .memory_bytes > .memory_available_bytes
        and .uptime_s > 0 and .host_uptime_s >= 0 and .load_1m >= 0 and .processes > 1'
    gw -H alpha send server-info memory | jq -e '.reply.host_bytes > 1048576'
    gw -H alpha send server-info disks | jq -e '.reply.disks | length > 0 and all(.bytes > 0 and .mount != "")'
    equal "$(field .reply.cpus -H alpha send server-info load)" "$(nproc --all)"
}

@test "it is the same agent after a kill and a restart, and is no agent of the people" {
    start_host alpha
    equal "$(field '.agents | length' agents)" 0
    equal "$(field .agents.active status)" 0
    id=$(field '.agents[0].agent' agents --builtin)
    equal ${#id} 26
    kill_host alpha
    restart_host alpha
    equal "$(field '.agents | map(.agent) | join(" ")' agents --type server-info)" "$id"
    equal "$(field .plugin show server-info)" null
    equal "$(field '.types[] | select(.name == "server-info") | .plugin' types)" built-in
}

@test "it cannot be sent away, copied, disposed or made again" {
    start_pair
    for command in "dispatch server-info beta" "clone server-info" "dispose server-info" "create server-info"; do
        # shellcheck disable=SC2086 # words
        run gw -H alpha $command
        equal "$status" 6
    done
    gw -H alpha drain >/dev/null
    equal "$(field .host -H alpha send server-info load)" alpha
}
