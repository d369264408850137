# Artifacts of agents: put, sent by reference, fetched from the hosts that have them, repaired.
load helpers

plugin() { echo "$built/tests/plugins/bearer.so"; }

setup() { system_setup; }
teardown() { system_teardown; }

work_of() { echo "$GODWIT_HOME/hosts/$1/work"; }
store_of() { echo "$GODWIT_HOME/hosts/$1/artifacts"; }
# post HOST PATH JSON: the data of the last event of an operation that streams.
post() {
    curl -sS --unix-socket "$GODWIT_HOME/hosts/$1/api.sock" -H 'Content-Type: application/json' \
        -d "$3" "http://x/v1/$2" | sed -n 's/^data: //p' | tail -n 1
}
fetch_at() { post "$1" artifacts/fetch "{\"artifact\": \"$2\"}"; }
chunks_from() { gw -H "$1" metrics | jq -r .text | sed -n "s/^godwit_fetch_chunks_total{from=\"$2\"} //p"; }
# Spoil some bytes of the first pack of a host.
spoil() { printf 'not what was here' | dd of="$(echo "$(store_of "$1")"/packs/*1.pack)" bs=1 seek="$2" conv=notrunc status=none; }

@test "a file becomes an artifact, and a file again, here and on another host" {
    start_host alpha --plugin "$(plugin)"
    start_host beta --plugin "$(plugin)" --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    a=$(field .agent -H alpha create bearer)
    b=$(field .agent -H beta create bearer)
    put=$(gw -H alpha send "$a" put name=noise kib=3000)
    ref=$(jq -r .reply.artifact <<<"$put")
    equal "$(jq -r .reply.size <<<"$put")" 3072000
    made=$(work_of alpha)/agents/$a/noise
    equal "${ref%@*}" "$(sha256sum "$made" | cut -d ' ' -f 1)"
    equal "${ref#*@}" "$(field .host_id -H alpha status)"
    for what in "$ref" "${ref%@*}"; do
        path=$(field .reply.path -H beta send "$b" fetch what="$what")
        equal "$path" "$(work_of beta)/agents/$b/artifacts/${ref%@*}"
        cmp "$path" "$made"
    done
    cmp "$(field .reply.path -H alpha send "$a" fetch what="$ref")" "$made"
    about=$(gw -H beta send "$b" info what="$ref")
    equal "$(jq -c '[.reply.name, .reply.type, .reply.size]' <<<"$about")" '["noise","application/x-noise",3072000]'
    run gw -H beta send "$b" fetch what="$(printf '%064d' 0)"
    equal "$status" 3
    contains "$output" "no host that can be reached has this artifact"
    gw -H alpha send "$a" drop what="$ref"
    gw -H beta send "$b" drop what="${ref%@*}"
    run gw -H beta send "$b" info what="$ref"
    equal "$status" 3
}

@test "only files of an agent's folders and of roots become artifacts" {
    mkdir "$work/shared"
    start_host alpha --plugin "$(plugin)" --root "$work/shared"
    a=$(field .agent create bearer)
    gw send "$a" put_text text=hello
    folder=$(work_of alpha)/agents/$a
    ln -s /etc/passwd "$folder/link"
    mkfifo "$folder/pipe"
    mkdir "$folder/sub" && echo inside >"$folder/sub/file"
    for path in /etc/passwd link "$folder/link" ../../../store.db "$folder/../x/../../../../host.pid"; do
        run gw send "$a" put_path path="$path"
        [ "$status" -ne 0 ]
        [[ "$output" == *denied* || "$output" == *not_found* ]]
    done
    for path in pipe sub; do
        run gw send "$a" put_path path="$path"
        contains "$output" "no regular file"
    done
    echo inside >"$work/shared/file"
    gw send "$a" put_path path="$work/shared/file"
    ref=$(field .reply.artifact send "$a" put_path path=sub/file)
    equal "${ref%@*}" "$(echo inside | sha256sum | cut -d ' ' -f 1)"
    run curl -sS --unix-socket "$GODWIT_HOME/hosts/alpha/api.sock" -X POST http://x/v1/artifacts.import
    contains "$output" not_found
}

@test "an artifact goes with a message, is fetched when it is read, and is gone when the message fails" {
    start_host alpha --plugin "$(plugin)"
    start_host beta --plugin "$(plugin)" --peer "${URL[alpha]}"
    wait_until 10 alive_count alpha 2
    a=$(field .agent -H alpha create bearer)
    b=$(field .agent -H beta create bearer)
    ref=$(field .reply.artifact -H alpha send "$a" hand to="$b")
    [ ! -e "$(work_of beta)/agents/$b/artifacts" ]
    equal "$(field .reply.bytes -H beta send "$b" count)" 40960
    gw -H beta send "$b" drop what="${ref%@*}"
    gw -H alpha send "$a" drop what="$ref"
    run gw -H alpha send "$a" hand to="$b" fail=true
    equal "$status" 6
    contains "$output" "it does not want it"
    run gw -H alpha send "$a" info what="$ref"
    equal "$status" 3
}

@test "several hosts that have an artifact, or a part of it, are its sources at once" {
    start_host alpha --plugin "$(plugin)"
    start_host beta --plugin "$(plugin)" --peer "${URL[alpha]}"
    start_host gamma --plugin "$(plugin)" --peer "${URL[alpha]}" --peer "${URL[beta]}"
    wait_until 10 alive_count gamma 3
    a=$(field .agent -H alpha create bearer)
    b=$(field .agent -H beta create bearer)
    g=$(field .agent -H gamma create bearer)
    whole=$(field .reply.artifact -H alpha send "$a" put name=whole kib=24000)
    hash=${whole%@*}
    gw -H beta send "$b" put name=part kib=12000 # the first half of it: the same chunks but the last
    spoil alpha 1000                             # what alpha cannot give any more is beta's to give
    got=$(fetch_at gamma "$hash")
    equal "$(jq -c '[.done, .hash, .size, .fetched]' <<<"$got")" "[true,\"$hash\",24576000,24576000]"
    equal "$(jq -c '[.sources[].host] | sort' <<<"$got")" '["alpha","beta"]'
    equal "$(jq '[.sources[].bytes] | add' <<<"$got")" 24576000
    equal "$(chunks_from gamma alpha)" "$(jq '.sources[] | select(.host == "alpha").chunks' <<<"$got")"
    equal "$(chunks_from gamma beta)" "$(jq '.sources[] | select(.host == "beta").chunks' <<<"$got")"
    cmp "$(field .reply.path -H gamma send "$g" fetch what="$hash")" "$(work_of alpha)/agents/$a/whole"
    equal "$(jq -c '[.fetched, .sources]' <<<"$(fetch_at gamma "$hash")")" '[0,[]]'
    # and what is damaged at alpha comes back from gamma
    again=$(post alpha artifacts/repair '{"from": "gamma"}')
    equal "$(jq -c '[.damaged, .repaired, .sources[0].host]' <<<"$again")" '[1,1,"gamma"]'
    equal "$(jq .damaged <<<"$(post alpha artifacts/repair '{"from": "gamma"}')")" 0
}

@test "a fetch that was killed goes on where it was; sources that are gone are done without" {
    start_host alpha --plugin "$(plugin)"
    start_host beta --plugin "$(plugin)" --peer "${URL[alpha]}"
    start_host gamma --plugin "$(plugin)" --peer "${URL[alpha]}" --peer "${URL[beta]}"
    wait_until 10 alive_count gamma 3
    a=$(field .agent -H alpha create bearer)
    ref=$(field .reply.artifact -H alpha send "$a" put name=much kib=80000)
    hash=${ref%@*}
    equal "$(jq -r .hash <<<"$(fetch_at beta "$hash")")" "$hash"
    kill -STOP "${PID[alpha]}" # it is asked, and says nothing
    (fetch_at gamma "$hash" >"$work/first") &
    much() { [ "$(du -s --block-size=1M "$(store_of gamma)" | cut -f 1)" -ge 24 ]; }
    wait_until 30 much
    kill_host gamma
    kill -CONT "${PID[alpha]}"
    wait
    restart_host gamma --plugin "$(plugin)"
    wait_until 20 alive_count gamma 3
    got=$(fetch_at gamma "$hash")
    equal "$(jq -r '[.done, .hash] | @csv' <<<"$got")" "true,\"$hash\""
    [ "$(jq .fetched <<<"$got")" -lt 68000000 ]
    kill_host alpha
    kill_host beta
    equal "$(jq -r .hash <<<"$(fetch_at gamma "$hash")")" "$hash"
}

@test "a host that stops calls off what it fetches" {
    start_host alpha --plugin "$(plugin)"
    start_host gamma --plugin "$(plugin)" --peer "${URL[alpha]}"
    wait_until 10 alive_count gamma 2
    a=$(field .agent -H alpha create bearer)
    g=$(field .agent -H gamma create bearer)
    ref=$(field .reply.artifact -H alpha send "$a" put name=much kib=60000)
    # while a source says nothing
    gw -H gamma send "$g" fetch what="$ref" >"$work/out" 2>&1 &
    some() { [ "$(du -s --block-size=1M "$(store_of gamma)" | cut -f 1)" -ge 4 ]; }
    wait_until 20 some
    kill -STOP "${PID[alpha]}"
    term_host gamma
    wait $! || true
    # while hosts are asked
    restart_host gamma --plugin "$(plugin)"
    curl -sS --unix-socket "$GODWIT_HOME/hosts/gamma/api.sock" -H 'Content-Type: application/json' \
        -d "{\"artifact\": \"$ref\"}" http://x/v1/artifacts/fetch >"$work/out" &
    kill -CONT "${PID[alpha]}"
    wait_until 10 alive_count gamma 2
    term_host gamma
    wait
}
