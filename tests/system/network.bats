#!/usr/bin/env bats
# Five hosts, each in a network namespace of its own, on a network that is made bad by a seed (network.sh).
# SEED=n repeats the table of faults, SECONDS_BAD=n makes it longer; `make network MINUTES=n` runs many seeds.

load helpers

setup() { system_setup; }
teardown() { system_teardown; }

@test "five hosts on a bad network, killed and cut off: each agent once, each message once in order, no move open" {
    run "$root/tests/system/network.sh" "${SEED:-$((RANDOM + 1))}" "${SECONDS_BAD:-9}" 3>&-
    [ "$status" != 77 ] || skip "$output"
    echo "$output"
    equal "$status" 0
}
