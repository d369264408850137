# The demo that carries a file: by selector, moved and copied, over kill -9 of either host, and back when it
# cannot be delivered.
load helpers

setup() {
    system_setup
    # As a rule not on the file system of the hosts: a file is then copied back, not linked.
    data=$(mktemp -d -p /dev/shm gw-XXXXXX) || data=$(mktemp -d -p "$work")
    start_host alpha --root "$data"
    post=$(field .agent -H alpha create courier)
    office=$(field .agent -H alpha create office)
}
teardown() {
    rm -rf "$data"
    system_teardown
}

begin() { "$1" beta --root "$data" --peer "${URL[alpha]}" --tag archive; }
beta() {
    begin "$1"
    wait_until 10 alive_count alpha 2
    wait_until 10 alive_count beta 2
}
store=hosts/beta/storage/courier
hash_of() { sha256sum "$1" | cut -d ' ' -f 1; }
# carry FILE OPTION...: JSON of the reply.
carry() { gw --timeout 60s -H alpha send "$post" carry file="$data/$1" to=tag:archive report="$office" "${@:2}"; }
reported() { gw -H alpha send "$office" reports | jq -r '.reply.reports[-1]'; }
reports() { [ "$(gw -H alpha send "$office" reports | jq '.reply.reports | length')" = "$1" ]; }
gone() { [ ! -e "$1" ]; }
at_rest() { [ "$(field .state.underway -H alpha show "$post")" = false ]; }
at_alpha() { at_rest && [ "$(field .host -H alpha show "$post")" = alpha ]; }
beta_died() { process_gone "${PID[beta]}"; } # by its failpoint, as by kill -9
no_parts() { [ -z "$(find "$GODWIT_HOME/$store" -name '*part*')" ]; }

@test "a file goes to a host that the selector names: copied, then moved, with reports" {
    beta start_host
    head -c 20971520 /dev/urandom >"$data/a b"
    chmod 0640 "$data/a b"
    hash=$(hash_of "$data/a b")
    about=$(stat -c '%a %s %y' "$data/a b")
    there=$GODWIT_HOME/$store
    equal "$(carry 'a b' into=2026/ copy=true back=true | jq -r '.reply | "\(.file) \(.host) \(.path) \(.bytes)"')" \
        "alpha:$data/a b beta $there/2026/a b 20971520"
    wait_until 10 reports 1
    equal "$(reported)" "alpha:$data/a b: delivered at beta:$there/2026/a b"
    wait_until 10 at_alpha
    equal "$(hash_of "$data/a b")" "$hash"
    equal "$(hash_of "$there/2026/a b")" "$hash"
    equal "$(field .reply.path -H alpha send "$post" carry file="$data/a b" to=beta into=2026/c)" "$there/2026/c"
    wait_until 10 gone "$data/a b"
    equal "$(hash_of "$there/2026/c")" "$hash"
    equal "$(stat -c '%a %s %y' "$there/2026/c")" "$about"
    equal "$(field .host -H alpha show "$post")" beta
    gw -H alpha dispose "$post" # what it has delivered stays
    equal "$(hash_of "$there/2026/c")" "$hash"
    no_parts
}

@test "what cannot be delivered is back where it was, and the sender has the reason" {
    beta start_host
    there=$GODWIT_HOME/$store
    mkdir -p "$there"
    echo mine >"$data/f"
    about=$(stat -c '%s %y' "$data/f")
    echo another >"$there/f"
    run carry f
    equal "$status" 6
    contains "$output" 'another \"f\"'
    equal "$(cat "$data/f") $(cat "$there/f")" "mine another"
    equal "$(stat -c '%s %y' "$data/f")" "$about"
    wait_until 10 reports 1
    contains "$(reported)" "at alpha:$data/f"
    # The same file is there already; links and ways out are not followed.
    cp -p "$data/f" "$there/g"
    equal "$(carry f into=g copy=true back=true | jq -r .reply.path)" "$there/g"
    wait_until 10 at_alpha
    ln -s "$data" "$there/link"
    for into in link/x ../x a/../../x; do
        run carry f into="$into" back=true
        [ "$status" -ne 0 ]
        wait_until 10 at_alpha
    done
    equal "$(ls "$data")" f
    equal "$(cat "$data/f")" mine
    run carry nothing
    equal "$status" 3
    run carry ../../../etc/passwd
    [ "$status" -ne 0 ]
    run gw -H alpha send "$post" carry file=/etc/passwd to=beta
    equal "$status" 4
    equal "$(carry f overwrite=true back=true | jq -r .reply.path)" "$there/f"
    equal "$(cat "$there/f")" mine
    no_parts
    wait_until 10 at_alpha
    gone "$data/f"
    # A host that is away is tried again, until the courier is called back.
    kill_host beta
    echo two >"$data/f"
    (carry f retries=1000 >"$work/reply" 2>&1 3>&-) 3>&- &
    asked=$!
    waits() { [ "$(field .state.underway -H alpha show "$post")" = true ]; }
    wait_until 10 waits
    run carry f
    equal "$status" 6
    gw -H alpha send "$post" recall
    wait "$asked" || true
    contains "$(cat "$work/reply")" "called back"
    equal "$(cat "$data/f")" two
    # Somebody made another file where it was: it stays with the courier.
    GODWIT_FAIL=files.adopted.before:kill begin restart_host
    (carry f into=../x >"$work/reply" 2>&1 3>&-) 3>&- &
    asked=$!
    wait_until 20 beta_died
    echo three >"$data/f"
    begin restart_host
    wait "$asked" || true
    contains "$(cat "$work/reply")" "cannot be put back"
    equal "$(cat "$data/f")" three
    equal "$(cat "$(field '.files[0].path' -H alpha show "$post")")" two
}

@test "kill -9 of the destination before and after the courier is there: the file is delivered once" {
    GODWIT_FAIL=move.staged.before:kill beta start_host
    head -c 20971520 /dev/urandom >"$data/f"
    hash=$(hash_of "$data/f")
    (carry f >"$work/reply" 2>&1 3>&-) 3>&- &
    asked=$!
    wait_until 10 beta_died
    equal "$(hash_of "$data/f")" "$hash"
    GODWIT_FAIL=files.adopted.before:kill begin restart_host
    wait_until 20 beta_died
    beta restart_host
    wait "$asked"
    there=$GODWIT_HOME/$store/f
    equal "$(jq -r .reply.path "$work/reply")" "$there"
    equal "$(hash_of "$there")" "$hash"
    wait_until 10 gone "$data/f"
    wait_until 10 reports 1
    no_parts
}
