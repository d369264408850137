# A host with a home of its own joins by token; every other way in is refused with a reason.
load helpers

setup() { system_setup; start_host alpha; }
teardown() { system_teardown; }

token() { field .token -H alpha mesh token "$@"; }
# Host beta with its own home, with a token on standard input.
join() { # TOKEN [OPTION...]
    local text=$1 ready
    shift
    ready=$(GODWIT_HOME=$work/second "$GODWIT" host --name beta --listen 127.0.0.1:0 --join - --detach --json "$@" \
        <<<"$text" 3>&- 4>&-) || return
    PID[beta]=$(jq -r .pid <<<"$ready")
    URL[beta]=$(jq -r .url <<<"$ready")
    ALL_PIDS+=("${PID[beta]}")
}
refused() { # PART: join "$text" fails, its words hold the part, and nothing of a mesh is left
    run join "$text"
    [ "$status" -ne 0 ]
    contains "$output" "$1"
    [ ! -e "$work/second/mesh/ca.crt" ]
    alive_count alpha 1
}

@test "beta joins from another home; an agent goes there and back" {
    join "$(token)" --tag far
    wait_until 10 alive_count alpha 2
    [ ! -e "$work/second/mesh/ca.key" ]
    id=$(field .agent -H alpha create counter)
    gw -H alpha send "$id" increment by=5
    equal "$(field .host -H alpha dispatch "$id" beta)" beta
    equal "$(GODWIT_HOME=$work/second field .reply.count -H beta send "$id" increment)" 6
    equal "$(GODWIT_HOME=$work/second field .host -H beta dispatch "$id" alpha)" alpha
    equal "$(field '[.host, .epoch, .state.count] | map(tostring) | join(" ")' -H alpha show "$id")" "alpha 3 6"
}

@test "a joined host starts again without a token" {
    join "$(token)"
    wait_until 10 alive_count alpha 2
    term_host beta
    ready=$(GODWIT_HOME=$work/second "$GODWIT" host --name beta --listen "${URL[beta]#https://}" --peer "${URL[alpha]}" \
        --detach --json 3>&- 4>&-)
    ALL_PIDS+=("$(jq -r .pid <<<"$ready")")
    wait_until 20 alive_count alpha 2
}

@test "a token may come from a file or the environment" {
    token --uses 2 >"$work/token"
    ready=$(GODWIT_HOME=$work/third "$GODWIT" host --name gamma --listen 127.0.0.1:0 --join "$work/token" --detach --json 3>&- 4>&-)
    ALL_PIDS+=("$(jq -r .pid <<<"$ready")")
    wait_until 10 alive_count alpha 2
    ready=$(GODWIT_HOME=$work/fourth GODWIT_JOIN_TOKEN=$(cat "$work/token") "$GODWIT" host --name delta \
        --listen 127.0.0.1:0 --detach --json 3>&- 4>&-)
    ALL_PIDS+=("$(jq -r .pid <<<"$ready")")
    wait_until 10 alive_count alpha 3
}

@test "a second use of a token for one host is refused" {
    text=$(token)
    join "$text"
    wait_until 10 alive_count alpha 2
    run env GODWIT_HOME="$work/third" timeout 20 "$GODWIT" host --name gamma --listen 127.0.0.1:0 --join - <<<"$text"
    equal "$status" 4
    contains "$output" "used"
}

@test "an expired token is refused" {
    text=$(token --ttl 1s)
    sleep 1.2
    refused expired
}

@test "a revoked token is refused" {
    text=$(token)
    gw -H alpha mesh revoke "$(field '.tokens[0].token' -H alpha mesh tokens)"
    refused token
}

@test "an altered token is refused" {
    good=$(token)
    middle=$((${#good} / 2))
    flipped=${good:middle:1}
    [ "$flipped" = A ] && flipped=B || flipped=A
    text=${good:0:middle}$flipped${good:middle+1}
    refused token
    text=${good%????}
    refused token
    text='godwit-token-1.'
    refused token
    text='not a token'
    refused token
}

@test "without a token a host with another home is not let in" {
    ready=$(GODWIT_HOME=$work/second "$GODWIT" host --name beta --listen 127.0.0.1:0 --peer "${URL[alpha]}" --detach --json 3>&- 4>&-)
    ALL_PIDS+=("$(jq -r .pid <<<"$ready")")
    sleep 1.5 # long enough for several dials
    alive_count alpha 1
    equal "$(GODWIT_HOME=$work/second field '[.hosts[] | select(.state == "alive")] | length' -H beta hosts)" 1
    contains "$(cat "$work/second/hosts/beta/log")" "${URL[alpha]}"
    lives alpha
}

@test "a token never stands among the arguments" {
    run "$GODWIT" host --name beta --join godwit-token-1.abcdef --listen 127.0.0.1:0
    [ "$status" -ne 0 ]
}

@test "tokens can be listed, the secret is not shown again" {
    text=$(token --uses 3)
    gw -H alpha mesh tokens >"$work/list"
    jq -e '.tokens | length == 1 and .[0].uses == 3 and .[0].used == 0' "$work/list"
    equal "$(cat "$work/list" "$GODWIT_HOME"/mesh/tokens/* | grep -cF "${text: -20}")" 0
}
