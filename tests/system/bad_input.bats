# Bad input through every door gets a clear error, changes nothing, and the host lives.
load helpers

setup() {
    system_setup
    start_host alpha
    id=$(field .agent create counter)
    gw send "$id" increment by=5 >/dev/null
}
teardown() { system_teardown; }

unharmed() {
    lives alpha
    equal "$(field .state.count show "$id")" 5
    equal "$(field '.agents | length' agents)" 1
}

# cli STATUS PART ARG...: the command ends with this code, and its error holds the part.
cli() {
    local wanted=$1 part=$2
    shift 2
    run "$GODWIT" "$@"
    equal "$status" "$wanted"
    contains "$output" "$part"
}

@test "the command line: unknown words, wrong arguments" {
    cli 2 "frobnicate" frobnicate
    cli 2 "--bogus" agents --bogus
    cli 3 "nosuch" create nosuch
    cli 3 "nosuch" send "$id" nosuch
    cli 2 "byy" send "$id" increment byy=5
    cli 2 "by" send "$id" increment by=five
    cli 2 "by" send "$id" increment 'by:="x"'
    cli 2 "" send "$id" increment 'by:={"a":'
    cli 2 "nofield" create counter nofield=5
    cli 2 "count" create counter count=many
    cli 3 "nohost" dispatch "$id" nohost
    cli 2 "tag:" dispatch "$id" "tag:"
    unharmed
}

@test "the command line: ids that are none" {
    for bad in ../../x '' '%2e%2e' "${id}X" "$(printf 'a\nb')" "$(head -c 4000 /dev/zero | tr '\0' a)"; do
        run "$GODWIT" show "$bad"
        [ "$status" -eq 2 ] || [ "$status" -eq 3 ]
    done
    cli 3 "" show 01ARZ3NDEKTSV4RRFFQ69G5FAV
    unharmed
}

@test "no host, or a host that is not there" {
    GODWIT_HOME=$work/other run "$GODWIT" agents
    [ "$status" -eq 3 ] || [ "$status" -eq 5 ]
    cli 5 "" -H https://127.0.0.1:1 agents
    unharmed
}

@test "an overflow leaves the state as it was" {
    cli 1 "" send "$id" increment by=9223372036854775807
    cli 2 "" send "$id" increment by=9223372036854775808
    unharmed
}

@test "http: paths, methods, bodies" {
    equal "$(api alpha GET /nosuch | head -n 1)" 404
    equal "$(api alpha GET /v1/agents/../../etc/passwd | head -n 1)" 404
    api alpha GET '/v1/agents/..%2f..%2fx' | head -n 1 | grep -E '^(400|404)$'
    equal "$(api alpha PUT /v1/agents '{}' | head -n 1)" 405
    equal "$(api_error)" http_method
    curl -s --unix-socket "$GODWIT_HOME/hosts/alpha/api.sock" -d '{"type":"counter"}' -o "$work/body" http://x/v1/agents
    contains "$(cat "$work/body")" Content-Type
    for body in '' '{' '[]' '5' '{"type": "counter"' '{"type": 5}' '{}' '{"type":"counter","nosuch":1}' \
        '{"type":"counter","type":"counter"}' "$(printf '{"type":"\xff\xfe"}')"; do
        api alpha POST /v1/agents "$body" | head -n 1 | grep -E '^4[0-9][0-9]$'
        [ -n "$(api_error)" ]
    done
    unharmed
}

@test "http: a nesting bomb and a body that is too large" {
    printf '{"type":"counter","state":%s' "$(head -c 100000 /dev/zero | tr '\0' '[')" >"$work/bomb"
    api alpha POST /v1/agents "@$work/bomb" | head -n 1 | grep -E '^4'
    head -c $((9 * 1024 * 1024)) /dev/zero >"$work/big"
    api alpha POST /v1/agents "@$work/big" | head -n 1 | grep -E '^(413|000)$'
    unharmed
}

@test "http: a head that is too large, a head that never ends" {
    code=$(curl -s -o /dev/null -w '%{http_code}' --max-time 20 -H "x: $(head -c 20000 /dev/zero | tr '\0' a)" \
        --unix-socket "$GODWIT_HOME/hosts/alpha/api.sock" http://localhost/v1/health || true)
    [[ $code =~ ^(000|4[0-9][0-9])$ ]]
    # One byte a second for ever: closed within 15 s of the accept.
    start=$SECONDS
    { for _ in {1..40}; do printf 'x' && sleep 1; done; } |
        timeout 40 openssl s_client -quiet -connect "${URL[alpha]#https://}" >/dev/null 2>&1 &
    client=$!
    wait_until 20 process_gone $client || { kill $client; false; }
    [ $((SECONDS - start)) -le 16 ]
    unharmed
}

@test "garbage on the TLS port, and on the link" {
    address=${URL[alpha]#https://}
    head -c 100000 /dev/urandom >"/dev/tcp/${address%:*}/${address##*:}" || true
    printf 'GET /v1/health HTTP/1.1\r\n\r\n' >"/dev/tcp/${address%:*}/${address##*:}" || true
    # After the upgrade: an array that announces 2^32 elements, a frame of length 0, one that is too long,
    # bytes that are no array, an unknown kind, nesting without end.
    bomb=$(printf '\\x91%.0s' {1..200})
    for frame in '\x00\x00\x00\x05\xdd\xff\xff\xff\xff' '\x00\x00\x00\x00' '\xff\xff\xff\xff' '\x00\x00\x00\x02\xc1\xc1' \
        '\x00\x00\x00\x04\x92\xcd\x7f\x00' '\x00\x00\x00\xcb\x93\x03\x01'"$bomb"; do
        {
            printf 'GET /v1/link HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: godwit/1\r\nGodwit-Role: client\r\n\r\n'
            sleep 0.2
            # shellcheck disable=SC2059 # the escapes are the frame
            printf "$frame"
            sleep 0.2
        } | timeout 5 openssl s_client -quiet -connect "$address" -CAfile "$GODWIT_HOME/mesh/ca.crt" \
            -cert "$GODWIT_HOME/mesh/operator.crt" -key "$GODWIT_HOME/mesh/operator.key" >"$work/out" 2>/dev/null || true
        contains "$(tr -d '\0' <"$work/out")" "101 Switching Protocols"
    done
    unharmed
}

@test "many idle connections do not keep others out" {
    address=${URL[alpha]#https://}
    for n in {10..60}; do
        eval "exec $n<>/dev/tcp/${address%:*}/${address##*:}"
    done
    unharmed
    for n in {10..60}; do
        eval "exec $n>&-"
    done
}

@test "an alias or key of a wrong form is refused" {
    for bad in '../x' 'a b' "$(head -c 100 /dev/zero | tr '\0' a)"; do
        run gw create counter --alias "$bad"
        equal "$status" 2
    done
    run gw send "$id" increment --op-key "$(head -c 200 /dev/zero | tr '\0' k)"
    [ "$status" -ne 0 ]
    unharmed
}
