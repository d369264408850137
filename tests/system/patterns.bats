#!/usr/bin/env bats
# The patterns of <godwit/pattern.h>, by the demos that use them.

load helpers

setup() { system_setup; }
teardown() { system_teardown; }

state_is() { [ "$(field .reply.state -H alpha send "$1" status)" = "$2" ]; }
info() { field ".reply.$1" -H alpha send "$pool" info; }
workers_are() { [ "$(info workers)" = "$1" ]; }
# The result of job $1, in the background; its code to $work/job.$1.code.
count() {
    (
        code=0
        gw --timeout 60s -H alpha send "$pool" count from=0 to="$2" --op-key "job-$1-$2" >"$work/job.$1" 2>&1 3>&- || code=$?
        echo $code >"$work/job.$1.code"
    ) 3>&- &
}
all_ended() {
    local i
    for i in $(seq "$1"); do
        [ -s "$work/job.$i.code" ] || return 1
    done
}

@test "task: progress, wait, cancel; it goes on after kill -9 and on another host" {
    start_pair
    id=$(field .agent -H alpha create sum)
    equal "$(field .reply.state -H alpha send "$id" wait)" "" # never started: at once
    gw -H alpha send "$id" start to=1000000
    run gw -H alpha send "$id" start to=1
    equal "$status" 6
    contains "$output" "runs already"
    (gw --timeout 60s -H beta send "$id" wait >"$work/wait" 2>&1 3>&- || true; touch "$work/waited") 3>&- &
    waits() { [ "$(field '.owed | length' -H alpha show "$id")" = 1 ]; }
    wait_until 10 waits
    kill_host alpha
    restart_host alpha --tag lab
    wait_until 10 alive_count beta 2
    gw -H alpha dispatch "$id" beta
    wait_until 30 state_is "$id" "done"
    equal "$(field '.reply | "\(.result) \(.progress)"' -H alpha send "$id" wait)" "500000500000 1"
    wait_until 10 test -e "$work/waited"
    cat "$work/wait"
    equal "$(jq -r .reply.result "$work/wait")" 500000500000
    gw -H alpha send "$id" start to=100000000
    moves_on() { [ "$(field '.reply.progress > 0' -H alpha send "$id" status)" = true ]; }
    wait_until 10 moves_on
    gw -H alpha send "$id" cancel
    state_is "$id" cancelled
    equal "$(field .reply.state -H beta send "$id" wait)" cancelled
}

@test "fan-out: all hosts answer at once; who is late is named, the others are there" {
    start_pair
    id=$(field .agent -H alpha create poll)
    equal "$(gw -H alpha send "$id" uptime | jq -c '[.reply.hosts[] | select(.reply.seconds > 0) | .host] | sort')" \
        '["alpha","beta"]'
    equal "$(gw -H alpha send "$id" uptime tag=lab | jq -c '[.reply.hosts[].host]')" '["alpha"]'
    equal "$(gw -H alpha send "$id" nap host=beta time=3s timeout=700ms |
        jq -c '[.reply.hosts[] | .host, .error] | sort')" '[null,"alpha","beta","timeout"]'
    none_left() { [ "$(gw -H alpha agents --all --type probe | jq '.agents | length')" = 0 ]; }
    wait_until 10 none_left
}

@test "pool: back-pressure, and no job is lost with a worker's host" {
    start_host alpha
    start_host beta --peer "${URL[alpha]}" --tag work
    start_host gamma --peer "${URL[alpha]}" --tag work
    wait_until 10 alive_count alpha 3
    pool=$(field .agent -H alpha create primes workers=2 where=tag:work lease_ms=6000)
    wait_until 10 workers_are 2
    equal "$(field .reply.result -H alpha send "$pool" count from=0 to=100)" 25
    run gw -H alpha send "$pool" count from=10 to=5
    contains "$output" "ends before it begins"
    # far more at once than may wait: some are told so, each of the others is counted
    for i in $(seq 12); do count "$i" 1000000; done
    wait_until 60 all_ended 12
    busy=0
    for i in $(seq 12); do
        if [ "$(cat "$work/job.$i.code")" = 0 ]; then
            equal "$(jq -r .reply.result "$work/job.$i")" 78498
        else
            grep -q '"busy"\|jobs wait' "$work/job.$i"
            busy=$((busy + 1))
        fi
    done
    [ $busy -ge 1 ] && [ $busy -le 10 ]
    # the host of a worker dies in the middle of a job
    rm -f "$work"/job.*
    victim=$(gw -H alpha agents --all --type prime_worker | jq -r '.agents[0].host')
    for i in 1 2 3 4; do count "$i" 4000000; done
    at_work() { [ "$(info jobs)" -ge 3 ]; }
    wait_until 20 at_work
    kill_host "$victim"
    wait_until 90 all_ended 4
    for i in 1 2 3 4; do
        cat "$work/job.$i"
        equal "$(jq -r .reply.result "$work/job.$i")" 283146
    done
    wait_until 20 workers_are 2
}
