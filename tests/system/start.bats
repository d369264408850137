# A host that cannot start says why in one sentence and leaves nothing behind.
load helpers

setup() { system_setup; }
teardown() { system_teardown; }

# Start in a way that has to fail: its exit code in $status, its words in $output.
refused() { run timeout 20 "$GODWIT" host --listen 127.0.0.1:0 "$@"; [ "$status" -ne 0 ] && [ "$status" -ne 124 ]; }

@test "a port that is in use is named" {
    start_host alpha
    port=${URL[alpha]##*:}
    refused --name beta --listen "127.0.0.1:$port"
    equal "$status" 6
    contains "$output" "$port"
    lives alpha
}

@test "without a port the next free one is taken" {
    start_host alpha --listen 127.0.0.1
    start_host beta --listen 127.0.0.1 --peer "${URL[alpha]}"
    [ "${URL[alpha]}" != "${URL[beta]}" ]
}

@test "a state directory that is in use is refused, detached or not, and its host goes on" {
    start_host alpha
    refused --name alpha
    equal "$status" 6
    contains "$output" "in use"
    refused --name alpha --detach
    equal "$status" 6
    contains "$output" "in use"
    lives alpha
}

@test "a home that cannot be written is refused" {
    [ "$(id -u)" -eq 0 ] || skip "needs root to give up its rights"
    mkdir -p "$GODWIT_HOME"
    chmod 755 "$work" "$GODWIT_HOME"
    [ -z "${TMPDIR:-}" ] || chmod o+x "$TMPDIR"
    setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$GODWIT" || skip "the program is out of reach of nobody"
    run setpriv --reuid=65534 --regid=65534 --clear-groups timeout 20 "$GODWIT" host --name alpha --listen 127.0.0.1:0
    equal "$status" 4
    contains "$output" "$GODWIT_HOME"
}

@test "a home that is a file is refused" {
    echo x >"$GODWIT_HOME"
    refused --name alpha
    contains "$output" "$GODWIT_HOME"
    equal "$(cat "$GODWIT_HOME")" x
}

@test "a damaged store is refused and left as it is" {
    start_host alpha
    gw create counter >/dev/null
    term_host alpha
    head -c 4096 /dev/urandom >"$GODWIT_HOME/hosts/alpha/store.db"
    before=$(sha256sum <"$GODWIT_HOME/hosts/alpha/store.db")
    refused --name alpha
    contains "$output" store.db
    equal "$(sha256sum <"$GODWIT_HOME/hosts/alpha/store.db")" "$before"
}

@test "a damaged identity key is refused and left as it is" {
    start_host alpha
    term_host alpha
    key=$GODWIT_HOME/hosts/alpha/identity.key
    head -c 7 "$key" >"$work/cut" && cat "$work/cut" >"$key"
    refused --name alpha
    contains "$output" identity.key
    equal "$(stat -c %s "$key")" 7
}

@test "keys are for their owner alone" {
    start_host alpha
    equal "$(stat -c %a "$GODWIT_HOME")" 700
    for file in mesh/ca.key mesh/operator.key hosts/alpha/identity.key hosts/alpha/tls.key hosts/alpha/api.sock; do
        equal "$(stat -c %a "$GODWIT_HOME/$file")" 600
    done
}

@test "wrong options are usage errors that name the option" {
    for options in "" "--name ../../x" "--name any" "--name a --bogus" "--name a --peer http://x" \
        "--name a --tag a,b" "--name a --property x" "--name a --max-clients 0" "--name a --listen nowhere"; do
        # shellcheck disable=SC2086 # words on purpose
        run "$GODWIT" host $options
        equal "$status" 2
        contains "$output" "godwit: "
    done
    [ ! -e "$GODWIT_HOME" ]
}

@test "an unknown failpoint is a usage error that lists those that there are" {
    GODWIT_FAIL=nobody:kill refused --name alpha
    equal "$status" 2
    contains "$output" '"nobody:kill" is no failpoint'
    contains "$output" 'move.departed.before'
    contains "$output" 'frame.query_answer.received'
    GODWIT_FAIL=move.departed.after:enospc refused --name alpha
    equal "$status" 2
    contains "$output" 'is no action of that failpoint'
}

@test "a wrong config file is a usage error that names file and key" {
    printf 'name: alpha\nlistn: 127.0.0.1\n' >"$work/c.yaml"
    run "$GODWIT" host --config "$work/c.yaml"
    equal "$status" 2
    contains "$output" c.yaml
    contains "$output" listn
}

@test "a config file starts a host, options override it" {
    printf 'name: alpha\nlisten: "127.0.0.1:0"\ntags: [disk, lab]\n' >"$work/c.yaml"
    ready=$("$GODWIT" host --config "$work/c.yaml" --name gamma --detach --json 3>&- 4>&-)
    ALL_PIDS+=("$(jq -r .pid <<<"$ready")")
    equal "$(jq -r .name <<<"$ready")" gamma
    equal "$(field '.hosts[0].tags | sort | join(",")' -H gamma hosts)" disk,lab
}

@test "a plugin that is not there is refused by name" {
    refused --name alpha --plugin "$work/missing.so"
    contains "$output" missing.so
}

@test "a file that is no plugin is reported and does not stop the host" {
    printf 'not a library' >"$work/bad.so"
    start_host alpha --plugin "$work/bad.so"
    lives alpha
    id=$(field .agent create counter)
    equal "$(field .reply.count send "$id" increment)" 1
    contains "$(cat "$GODWIT_HOME/hosts/alpha/log")" bad.so
}

@test "help is there without a home" {
    run "$GODWIT" host --help
    equal "$status" 0
    contains "$output" --max-mailbox
    run "$GODWIT" --help
    equal "$status" 0
    contains "$output" dispatch
    run "$GODWIT" --version
    equal "$status" 0
    [ ! -e "$GODWIT_HOME" ]
}
