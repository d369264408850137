# Files that travel with agents, on real disks and wires.
load helpers

setup() {
    system_setup
    data=$work/data
    mkdir "$data"
}
teardown() { system_teardown; }

start_two() {
    start_host alpha --plugin "$(plugin porter)" --root "$data" "$@"
    start_host beta --plugin "$(plugin porter)" --root "$data" --peer "${URL[alpha]}" "$@"
    wait_until 10 alive_count alpha 2
    wait_until 10 alive_count beta 2
}
restart_both() {
    restart_host alpha --plugin "$(plugin porter)" --root "$data"
    restart_host beta --plugin "$(plugin porter)" --root "$data"
    wait_until 10 alive_count alpha 2
    wait_until 10 alive_count beta 2
}
work_of() { echo "$GODWIT_HOME/hosts/$1/work"; }
folder_of() { echo "$(work_of "$1")/agents/$2"; }
nothing_waits() { [ -z "$(ls -A "$(work_of "$1")/incoming")" ]; }
seen() { gw -H "$1" send "$2" seen | jq -r '.reply.seen | join("; ")'; }
# random_file PATH MIB
random_file() { head -c $(($2 * 1048576)) /dev/urandom >"$1"; }
hash_of() { sha256sum "$1" | cut -d ' ' -f 1; }

@test "a large file moves with its agent: there before on_arrive, gone at the source, the same in every way" {
    start_two
    random_file "$data/big" 256
    chmod 0741 "$data/big"
    touch -d '2020-01-02 03:04:05.678901234' "$data/big"
    hash=$(hash_of "$data/big")
    about=$(stat -c '%a %s %y' "$data/big")
    id=$(field .agent -H alpha create porter)
    gw -H alpha send "$id" carry path="$data/big" name=big
    equal "$(field '.files[0].mode' -H beta show "$id")" move
    equal "$(field .host -H alpha dispatch "$id" beta)" beta
    there=$(folder_of beta "$id")/big
    equal "$(seen beta "$id")" "arrive big=268435456"
    equal "$(hash_of "$there")" "$hash"
    equal "$(stat -c '%a %s %y' "$there")" "$about"
    gone() { [ ! -e "$data/big" ]; }
    wait_until 10 gone
    equal "$(field .reply.path -H alpha send "$id" where name=big)" "$there"
    equal "$(field '.files[0].hash' -H alpha show "$id")" "$hash"
    equal "$(field '.files[0].origin' -H alpha show "$id")" "alpha:$data/big"
    nothing_waits beta
    # A start right after it, in good order and not, keeps it.
    term_host beta
    kill_host alpha
    restart_both
    equal "$(hash_of "$there")" "$hash"
    kill_host beta
    kill_host alpha
    restart_both
    equal "$(hash_of "$there")" "$hash"
    gw -H alpha retract "$id"
    equal "$(hash_of "$(folder_of alpha "$id")/big")" "$hash"
    gone() { [ ! -e "$(folder_of beta "$id")" ]; }
    wait_until 10 gone
}

@test "copies stay, clones have their own, what the agent made goes along" {
    start_two
    echo one >"$data/one"
    id=$(field .agent -H alpha create porter)
    gw -H alpha send "$id" carry path="$data/one" name='a b' copy=true
    gw -H alpha send "$id" make name=made
    clone=$(field .agent -H alpha clone "$id" beta)
    here=$(field .agent -H alpha clone "$id" alpha)
    equal "$(seen alpha "$clone")" "clone a b=4; made=10" || equal "$(seen alpha "$clone")" "clone a b=4 made=10"
    equal "$(seen alpha "$here")" "clone a b=4 made=10"
    equal "$(cat "$(folder_of beta "$clone")/a b")" one
    gw -H alpha dispatch "$id" beta
    equal "$(seen alpha "$id")" "arrive a b=4 made=10"
    equal "$(cat "$data/one")" one
    equal "$(cat "$(folder_of beta "$id")/made")" "made here"
    gw -H alpha dispose "$clone"
    gone() { [ ! -e "$(folder_of beta "$clone")" ]; }
    wait_until 10 gone
}

@test "what cannot travel is told: outside of the roots, links, folders, what is gone" {
    start_two
    id=$(field .agent -H alpha create porter)
    run gw -H alpha send "$id" carry path=/etc/passwd name=p
    equal "$status" 4
    ln -s /etc/passwd "$data/link"
    gw -H alpha send "$id" carry path="$data/link" name=p
    run gw -H alpha dispatch "$id" beta
    [ "$status" -ne 0 ]
    contains "$output" 'registered file'
    gw -H alpha send "$id" drop name=p
    gw -H alpha send "$id" carry path="$data/nothing" name=n
    run gw -H alpha dispatch "$id" beta
    equal "$status" 3
    contains "$output" "is gone"
    equal "$(field .status -H alpha show "$id")" active
    echo now >"$data/nothing"
    gw -H alpha dispatch "$id" beta
    equal "$(cat "$(folder_of beta "$id")/n")" now
}

@test "files of the host itself travel with nobody, whatever its roots are" {
    start_two --root "$GODWIT_HOME"
    id=$(field .agent -H alpha create porter)
    own=$(find "$GODWIT_HOME/hosts/alpha" -maxdepth 1 -type f | head -n 1)
    [ -n "$own" ]
    gw -H alpha send "$id" carry path="$own" name=own
    run gw -H alpha dispatch "$id" beta
    [ "$status" -ne 0 ]
    [ -e "$own" ]
    equal "$(find "$GODWIT_HOME/hosts/beta/work" -name own)" ""
}

# One copy, at one host, whole; nothing else of it anywhere.
in_one_place() {
    local id=$1 hash=$2 host files
    host=$(field .host -H alpha show "$id") || return 1
    [ "$(field .status -H alpha show "$id")" = active ] || return 1
    files=$(find "$data" "$GODWIT_HOME"/hosts/*/work -type f)
    [ "$(wc -l <<<"$files")" = 1 ] && [ "$(hash_of "$files")" = "$hash" ] &&
        [ "$(field '.files[0].path' -H alpha show "$id")" = "$files" ] &&
        [[ "$files" == "$data/"* || "$files" == "$(folder_of "$host" "$id")/"* ]]
}

@test "killed at any moment: the file is where its agent is, and nowhere else" {
    start_two
    id=$(field .agent -H alpha create porter)
    random_file "$data/file" 32
    hash=$(hash_of "$data/file")
    gw -H alpha send "$id" carry path="$data/file" name=file
    for round in 1 2 3 4 5 6; do
        at=$(field .host -H alpha show "$id")
        to=$([ "$at" = alpha ] && echo beta || echo alpha)
        gw -H alpha dispatch "$id" "$to" >/dev/null 2>&1 &
        asked=$!
        sleep "0.$((RANDOM % 30 + 10))"
        victim=$([ $((round % 2)) = 0 ] && echo alpha || echo beta)
        kill_host "$victim"
        wait "$asked" || true
        restart_host "$victim" --plugin "$(plugin porter)" --root "$data"
        wait_until 10 alive_count alpha 2
        wait_until 10 alive_count beta 2
        wait_until 20 moves_empty alpha
        wait_until 70 in_one_place "$id" "$hash"
    done
}
