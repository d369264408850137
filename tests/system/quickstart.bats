# What the quick start promises, with real processes.
load helpers

setup() { system_setup; }
teardown() { system_teardown; }

@test "a counter goes to beta and counts on, asked from either host by the same id" {
    start_host alpha --tag lab
    start_host beta --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    id=$(field .agent -H alpha create counter)
    equal ${#id} 26
    equal "$(field .reply.count -H alpha send "$id" increment by=5)" 5
    equal "$(field '.host + " " + (.epoch | tostring)' -H alpha dispatch "$id" beta)" "beta 2"
    equal "$(field .reply.count -H alpha send "$id" increment)" 6
    equal "$(field .reply.count -H beta send "$id" increment)" 7
    for host in alpha beta; do
        equal "$(field '[.host, .home, .epoch, .state.count] | map(tostring) | join(" ")' -H $host show "$id")" \
            "beta alpha 2 7"
    done
    equal "$(field '[.agents[] | select(.agent == "'"$id"'")] | length' -H beta agents --all)" 1
    equal "$(field '.agents | length' -H alpha agents)" 0
}

@test "the ready line has the keys of the contract, status and hosts too" {
    ready=$("$GODWIT" host --name alpha --listen 127.0.0.1:0 --tag lab --property room=2 --detach --json 3>&- 4>&-)
    ALL_PIDS+=("$(jq -r .pid <<<"$ready")")
    jq -e '.name == "alpha" and (.host_id | length) == 32 and (.url | startswith("https://127.0.0.1:")) and .pid > 1' <<<"$ready"
    gw -H alpha status | jq -e '.name == "alpha" and .agents.active == 0 and .agents.inactive == 0 and (.version | length) > 0'
    gw -H alpha hosts | jq -e '.hosts | length == 1 and .[0].self and .[0].tags == ["lab"]'
    gw -H alpha types | jq -e '[.types[].name] | index("counter") != null'
}

@test "with one host running no host has to be named" {
    start_host alpha
    id=$(field .agent create counter)
    equal "$(field .host show "$id")" alpha
    equal "$(field .host show "${id: -5}")" alpha
}

@test "aliases name agents" {
    start_host alpha
    id=$(field .agent create counter --alias tally)
    equal "$(field .agent show tally)" "$id"
    run gw create counter --alias tally
    equal "$status" 6
}

@test "an op-key is done once, for create and for send" {
    start_host alpha
    a=$(field .agent create counter --op-key job-1)
    b=$(field .agent create counter --op-key job-1)
    equal "$a" "$b"
    equal "$(field '.agents | length' agents)" 1
    equal "$(field .reply.count send "$a" increment by=3 --op-key add-1)" 3
    equal "$(field .reply.count send "$a" increment by=3 --op-key add-1)" 3
    equal "$(field .state.count show "$a")" 3
    equal "$(field .reply.count send "$a" increment by=3 --op-key add-2)" 6
}

@test "an op-key that was answered at alpha is answered at beta, too" {
    start_pair
    id=$(field .agent -H alpha create counter)
    equal "$(field .reply.count -H alpha send "$id" increment by=3 --op-key once)" 3
    gw -H alpha dispatch "$id" beta
    equal "$(field .reply.count -H beta send "$id" increment by=3 --op-key once)" 3
    equal "$(field .state.count -H beta show "$id")" 3
}

@test "a clone has a new id, knows its origin, and counts for itself" {
    start_pair
    id=$(field .agent -H alpha create counter)
    gw -H alpha send "$id" increment by=5
    gw -H alpha clone "$id" beta >"$work/clone"
    copy=$(jq -r .agent "$work/clone")
    [ "$copy" != "$id" ]
    equal "$(jq -r .of "$work/clone")" "$id"
    equal "$(field '[.host, .home, .epoch, .state.count] | map(tostring) | join(" ")' -H alpha show "$copy")" "beta beta 1 5"
    equal "$(field .reply.count -H alpha send "$copy" increment)" 6
    equal "$(field .state.count -H alpha show "$id")" 5
}

@test "deactivate and activate; a message wakes" {
    start_host alpha
    id=$(field .agent create counter)
    gw send "$id" increment by=4
    equal "$(field .status deactivate "$id")" inactive
    equal "$(field .status show "$id")" inactive
    equal "$(field .reply.count send "$id" increment)" 5
    equal "$(field .status show "$id")" active
    gw deactivate "$id"
    equal "$(field .status activate "$id")" active
    gw deactivate "$id" --no-wake-on-message
    run gw send "$id" increment
    equal "$status" 6
    contains "$output" inactive
}

@test "an inactive agent moves and arrives inactive" {
    start_pair
    id=$(field .agent -H alpha create counter)
    gw -H alpha send "$id" increment by=9
    gw -H alpha deactivate "$id"
    gw -H alpha dispatch "$id" beta
    equal "$(field '.host + " " + .status' -H alpha show "$id")" "beta inactive"
    equal "$(field .reply.count -H alpha send "$id" increment)" 10
}

@test "a disposed agent is gone for good" {
    start_host alpha
    id=$(field .agent create counter)
    equal "$(field .status dispose "$id")" disposed
    run gw send "$id" increment
    equal "$status" 3
    equal "$(field '.agents | length' agents)" 0
}

@test "selectors find hosts by name, url, id, tags, any" {
    start_pair --tag disk --property room=2
    beta_id=$(field '.hosts[] | select(.name == "beta") | .host_id' -H alpha hosts)
    for selector in beta "${URL[beta]}" "$beta_id" tag:disk 'tag:disk,!tag:lab' property:room=2; do
        id=$(field .agent -H alpha create counter)
        equal "$(field .host -H alpha dispatch "$id" "$selector")" beta
    done
    equal "$(field .host -H alpha create counter --at tag:disk)" beta
    run gw -H alpha dispatch "$id" tag:nowhere
    equal "$status" 3
}

@test "events tell what happened, logs what agents said" {
    start_pair
    id=$(field .agent -H alpha create counter)
    gw -H alpha dispatch "$id" beta
    gw -H alpha events --agent "$id" >"$work/events"
    jq -es 'map(.seq) as $s | ($s | length) > 1 and $s == ($s | sort)' "$work/events"
    jq -es '[.[].kind] | any(test("create"))' "$work/events"
    run gw -H beta logs "$id"
    equal "$status" 0
}
