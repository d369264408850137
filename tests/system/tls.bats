# The port from outside: TLS 1.3 only, nothing but health and join without a certificate.
load helpers

setup() { system_setup; start_host alpha; address=${URL[alpha]#https://}; }
teardown() { system_teardown; }

s_client() { timeout 10 openssl s_client -connect "$address" "$@" </dev/null 2>&1 || true; }

@test "TLS 1.3 is spoken, 1.2 and below are refused" {
    contains "$(s_client -tls1_3)" "TLSv1.3"
    for old in -tls1_2 -tls1_1; do
        out=$(s_client $old -cipher 'ALL:@SECLEVEL=0')
        contains "$out" "no peer certificate available"
    done
}

@test "the certificate is of the mesh's CA, P-256, and names the host_id" {
    s_client -showcerts -CAfile "$GODWIT_HOME/mesh/ca.crt" >"$work/out"
    contains "$(cat "$work/out")" "Verify return code: 0 (ok)"
    openssl x509 -noout -text <"$work/out" >"$work/text"
    contains "$(cat "$work/text")" "prime256v1"
    contains "$(cat "$work/text")" "URI:spiffe://"
    contains "$(cat "$work/text")" "/host/$(field .host_id status)"
}

@test "without a certificate only health, the index and join answer" {
    code() { curl -sk --max-time 10 -o "$work/body" -w '%{http_code}' "$@"; }
    equal "$(code "${URL[alpha]}/v1/health")" 200
    equal "$(jq -r .status "$work/body")" ok
    for path in status hosts agents types moves events mesh/tokens; do
        equal "$(code "${URL[alpha]}/v1/$path")" 401
        equal "$(api_error)" unauthenticated
    done
    equal "$(code -X POST "${URL[alpha]}/v1/stop")" 401
    equal "$(code -X POST -d '{"type":"counter"}' "${URL[alpha]}/v1/agents")" 401
    equal "$(code -H 'Authorization: Bearer made-up' "${URL[alpha]}/v1/agents")" 401
    [ "$(code -X POST -d '{}' "${URL[alpha]}/v1/join")" -ge 400 ]
    for role in client peer; do
        code=$(code -H 'Connection: Upgrade' -H 'Upgrade: godwit/1' -H "Godwit-Role: $role" "${URL[alpha]}/v1/link" || true)
        [[ $code =~ ^(401|403|000)$ ]]
    done
    lives alpha
}

@test "the operator's certificate opens the API" {
    equal "$(api_tls "${URL[alpha]}/v1/status" | jq -r .name)" alpha
    equal "$(api_tls -X POST -d '{"type":"counter"}' "${URL[alpha]}/v1/agents" | jq -r .type)" counter
    api_tls "${URL[alpha]}/v1" | jq -e '[.. | strings] | any(. == "dispatch")'
}

@test "a certificate of another CA is refused" {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=evil \
        -addext "subjectAltName=URI:spiffe://x/operator/evil" -keyout "$work/evil.key" -out "$work/evil.crt" 2>/dev/null
    code=$(curl -sk --max-time 10 -o /dev/null -w '%{http_code}' --cert "$work/evil.crt" --key "$work/evil.key" \
        "${URL[alpha]}/v1/status" || true)
    [[ $code =~ ^(000|401|403)$ ]]
    lives alpha
}

@test "plain HTTP on the TLS port is not answered" {
    out=$(curl -s --max-time 5 "http://$address/v1/health" || true)
    equal "$out" ""
    lives alpha
}
