# Travel on the command line: retract, dry runs, required tags, drain, with their exit codes.
load helpers

setup() { system_setup; }
teardown() { system_teardown; }

@test "retract brings an agent to the host that is asked, or to another" {
    start_pair
    id=$(field .agent -H alpha create counter)
    gw -H alpha send "$id" increment by=5
    gw -H alpha dispatch "$id" beta
    equal "$(field '.host + " " + (.epoch | tostring)' -H alpha retract "$id")" "alpha 3"
    equal "$(field .host -H alpha retract "$id" beta)" beta
    equal "$(field .reply.count -H alpha send "$id" increment)" 6
    api alpha POST "/v1/agents/$id/retract" '{}'
    equal "$(jq -r .host "$work/body")" alpha
    gw -H alpha events | jq -es '[.[].kind] | any(. == "agent.dispatch")'
    gw -H beta events | jq -es '[.[].kind] | any(. == "agent.retract")'
    run gw -H alpha retract 01J9Z6N3E2M8V5T4R7Q1P0KXYZ
    equal "$status" 3
}

@test "a dry run says whether and why not by exit code 6, and changes nothing" {
    start_pair --tag disk
    id=$(field .agent -H alpha create counter)
    run gw -H alpha dispatch "$id" beta --dry-run
    equal "$status" 0
    equal "$(jq -r '[.host, .possible, .code] | map(tostring) | join(" ")' <<<"$output")" "beta true null"
    run gw -H alpha clone "$id" --dry-run
    equal "$status" 0
    run gw -H beta retract "$id" --dry-run --require disk
    equal "$status" 0
    run gw -H alpha retract "$id" --dry-run
    equal "$status" 6
    contains "$output" already
    run gw -H alpha dispatch "$id" nowhere --dry-run
    equal "$status" 6
    equal "$(jq -r .code <<<"$output")" host_not_found
    kill_host beta
    wait_until 10 alive_count alpha 1
    run "$GODWIT" -H alpha dispatch "$id" beta --dry-run
    equal "$status" 6
    contains "$output" "not reachable"
    equal "$(field '[.host, .epoch] | map(tostring) | join(" ")' -H alpha show "$id")" "alpha 1"
    equal "$(field '.agents | length' -H alpha agents)" 1
}

@test "a dry run notices a handler that keeps running" {
    start_host alpha --plugin "$(plugin worker)"
    start_host beta --plugin "$(plugin worker)" --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    wait_until 10 alive_count beta 2
    id=$(field .agent -H alpha create worker)
    gw -H alpha --timeout 20s send "$id" nap ms=8000 3>&- &
    napper=$!
    sleep 0.3
    run gw -H alpha dispatch "$id" beta --dry-run
    equal "$status" 6
    equal "$(jq -r .code <<<"$output")" busy
    wait $napper
    run gw -H alpha dispatch "$id" beta --dry-run
    equal "$status" 0
}

@test "a required tag that is missing is named, and nothing moves" {
    start_pair --tag disk --tag gpu
    id=$(field .agent -H alpha create counter)
    for what in dispatch clone retract; do
        run gw -H alpha $what "$id" beta --require disk --require ssd
        equal "$status" 6
        contains "$output" ssd
    done
    equal "$(field .epoch -H alpha show "$id")" 1
    equal "$(field '.agents | length' -H beta agents)" 0
    equal "$(field .host -H alpha dispatch "$id" any --require disk --require GPU)" beta
}

@test "drain empties a host; who cannot go is named by exit code 6" {
    start_host alpha --tag lab --plugin "$(plugin worker)"
    start_host beta --tag disk --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    wait_until 10 alive_count beta 2
    for ((i = 0; i < 30; i++)); do
        gw -H alpha create counter "count=$i" --alias "c$i"
    done
    gw -H alpha deactivate c3
    stays=$(field .agent -H alpha create worker)
    run gw drain alpha --to tag:nowhere
    equal "$status" 3
    run gw drain alpha --to tag:disk
    equal "$status" 6
    equal "$(jq -r '[.moved, .total, (.stayed | length), .stayed[0].agent, .stayed[0].code] | map(tostring) | join(" ")' \
        <<<"$output")" "30 31 1 $stays refused"
    equal "$(field '[.agents[].agent] | join(" ")' -H alpha agents)" "$stays"
    equal "$(field '.agents | length' -H beta agents)" 30
    equal "$(field .status -H beta show c3)" inactive
    equal "$(field .reply.count -H alpha send c7 increment)" 8
    run "$GODWIT" drain alpha
    equal "$status" 6
    contains "$output" "moved 0 of 1 agents, 1 stayed"
    contains "$output" "$stays"
    gw -H alpha dispose "$stays"
    run gw -H alpha drain
    equal "$status" 0
    equal "$(jq -r .total <<<"$output")" 0
    api beta POST /v1/drain '{"to": "alpha"}'
    contains "$(cat "$work/body")" '"done": true'
    equal "$(field '.agents | length' -H alpha agents)" 30
}

# Ask agents in turn until the file "drained" is there; each call that fails, and how many were made, go to
# files.
load_agents() {
    local n=0 id
    while [ ! -e "$work/drained" ]; do
        id=${ids[$(((n * 7 + $1 * 131) % ${#ids[@]}))]}
        "$GODWIT" -H "$2" -q send "$id" increment >/dev/null 2>>"$work/errors-$1" || echo "$id" >>"$work/failed-$1"
        n=$((n + 1))
    done
    echo "$n" >"$work/calls-$1"
}

@test "drain empties a host of 1,000 agents under load, and no call fails" {
    start_host alpha
    start_host beta --tag lab --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    wait_until 10 alive_count beta 2
    seq 1000 | xargs -P 4 -n 50 sh -c 'for i; do "$0" -H alpha -q create counter; done' "$GODWIT" >"$work/ids"
    mapfile -t ids < <(grep -oE '[0-9A-Z]{26}' "$work/ids")
    equal "${#ids[@]}" 1000
    loaders=()
    for i in 1 2 3; do
        load_agents "$i" "$([ $((i % 2)) = 1 ] && echo alpha || echo beta)" 3>&- &
        loaders+=($!)
    done
    for round in 1 2; do # there, back
        run gw drain alpha --to tag:lab
        equal "$status" 0
        equal "$(jq -r '[.moved, .total] | map(tostring) | join(" ")' <<<"$output")" "1000 1000"
        equal "$(field '.agents | length' -H alpha agents)" 0
        [ "$round" = 2 ] || gw drain beta --to alpha
    done
    touch "$work/drained"
    wait "${loaders[@]}"
    [ ! -s "$work/failed-1" ] && [ ! -s "$work/failed-2" ] && [ ! -s "$work/failed-3" ]
    made=$(awk '{n += $1} END {print n}' "$work"/calls-*)
    counted=$(gw -H beta agents --limit 1000 | jq -r '.agents[].agent' |
        xargs -P 4 -I{} "$GODWIT" --json -H beta send {} get | jq -s 'map(.reply.count) | add')
    equal "$counted" "$made"
    wait_until 10 moves_empty alpha
    equal "$(field .agents.active -H beta status)" 1000
}
