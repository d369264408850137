# Artifacts: put, resumed, got and checked, by the command line and by curl.
load helpers

setup() { system_setup; }
teardown() {
    if [ -n "${mounted:-}" ]; then
        for each in "${ALL_PIDS[@]}"; do
            is_ours "$each" && kill -9 "$each" && wait_until 5 process_gone "$each"
        done
        umount "$mounted"
    fi
    system_teardown
}

# http CURL-ARGUMENT... PATH: over the socket of alpha; the head goes to $work/head, the body to $work/body.
http() {
    local path=${*: -1}
    set -- "${@:1:$#-1}"
    curl -s --max-time 20 --path-as-is --unix-socket "$GODWIT_HOME/hosts/alpha/api.sock" -D "$work/head" \
        -o "$work/body" -w '%{http_code}\n' "$@" "http://localhost/v1/artifacts$path"
}
answer() { jq -r "$1" "$work/body"; }
header() { tr -d '\r' <"$work/head" | sed -nE "s/^$1: //Ip" | tail -n 1; }
sum() { sha256sum "$@" | cut -c1-64; }
# random FILE BYTES
random() { head -c "$2" /dev/urandom >"$work/$1"; }
is_stopped() { grep -q '^State:.T' "/proc/${PID[alpha]}/status"; }
is_dead() { process_gone "${PID[alpha]}"; }
artifact_count() { field '.artifacts | length' artifacts ls; }

@test "curl puts a content of any length and gets it back, whole and in parts" {
    start_host alpha
    random f 3000000
    hash=$(sum "$work/f")
    equal "$(http -X POST -T "$work/f" -H 'Content-Type: text/plain' '?name=a%20%C3%A4%22.txt&ttl=1h')" 201
    id=$(answer .artifact)
    equal "$(answer '.size,.hash,.name,.type' | tr '\n' ' ')" "3000000 $hash a ä\".txt text/plain "
    equal "$(http -X POST -T - '' <"$work/f")" 201 # in chunks
    equal "$(answer .hash)" "$hash"
    equal "$(http -X POST -H 'Expect:' --data-binary '' '?hash='"$(sum /dev/null)")" 201
    equal "$(answer .size)" 0
    equal "$(http "/$(answer .artifact)/content")" 200
    equal "$(http "/$id/content")" 200
    cmp "$work/body" "$work/f"
    equal "$(header etag)" "\"$hash\""
    contains "$(header content-disposition)" "attachment; filename=\"a ___.txt\"; filename*=UTF-8''a%20%C3%A4%22.txt"
    equal "$(http -I "/$hash/content")" 200 # by its hash: the newest
    equal "$(header content-length)" 3000000
    equal "$(http -r 1000000-1999999 "/$id/content")" 206
    equal "$(header content-range)" "bytes 1000000-1999999/3000000"
    cmp "$work/body" <(tail -c +1000001 "$work/f" | head -c 1000000)
    equal "$(http -r -7 "/$id/content")" 206
    cmp "$work/body" <(tail -c 7 "$work/f")
    equal "$(http -r 3000000- "/$id/content")" 416
    equal "$(header content-range)" "bytes */3000000"
    equal "$(http -H "If-None-Match: \"x\", W/\"$hash\"" "/$id/content")" 304
    equal "$(http -r 0-1 -H 'If-Range: "other"' "/$id/content")" 200
    api_tls -o "$work/tls" "${URL[alpha]}/v1/artifacts/$id/content"
    cmp "$work/tls" "$work/f"
    equal "$(api_tls -X POST -T - "${URL[alpha]}/v1/artifacts" <"$work/f" | jq -r .hash)" "$hash"
    equal "$(curl -s -o /dev/null -w '%{http_code}' --cacert "$GODWIT_HOME/mesh/ca.crt" "${URL[alpha]}/v1/artifacts/$id/content")" 401
    equal "$(field .artifacts.stored_bytes status)" "$(field .bytes artifacts verify)" # one content, stored once
    equal "$(field '[.kind] | @tsv' events --kind artifact | sort | uniq -c | xargs)" "4 artifact.put"
    contains "$(gw metrics | jq -r .text)" "godwit_artifacts 4"
}

@test "an upload in parts goes on where it was, also after the host was killed" {
    start_host alpha
    random f 3000000
    equal "$(http -X POST '/uploads?name=parts')" 201
    upload=$(answer .upload)
    equal "$(http -X PATCH -T - -H 'Upload-Offset: 0' "/uploads/$upload" < <(head -c 1400000 "$work/f"))" 200
    equal "$(answer .offset)" 1400000
    equal "$(http "/$upload/content")" 404 # not whole yet
    equal "$(artifact_count)" 0
    kill_host alpha
    restart_host alpha
    equal "$(http -I "/uploads/$upload")" 200
    equal "$(header upload-offset) $(header upload-complete)" "1400000 ?0"
    equal "$(http -X PATCH -T "$work/f" -H 'Upload-Offset: 0' "/uploads/$upload")" 409
    equal "$(header upload-offset)" 1400000
    # A connection that ends in the middle: what came stays.
    run http --limit-rate 1M --max-time 0.3 -X PATCH -T "$work/f" -H 'Upload-Offset: 1400000' "/uploads/$upload"
    free() { [ "$(http -X PATCH --data-binary '' -H 'Upload-Offset: 0' "/uploads/$upload")" = 409 ] && [ -n "$(header upload-offset)" ]; }
    wait_until 5 free
    http -I "/uploads/$upload"
    offset=$(header upload-offset)
    [ "$offset" -gt 1400000 ]
    http -X DELETE "/uploads/$upload"
    equal "$(answer .removed)" true
    equal "$(http -I "/uploads/$upload")" 404
    # In three parts, with the hash that it has to have.
    http -X POST '/uploads?name=parts'
    upload=$(answer .upload)
    http -X PATCH -T - -H 'Upload-Offset: 0' "/uploads/$upload" < <(head -c 1000000 "$work/f")
    http -X PATCH -T - -H 'Upload-Offset: 1000000' "/uploads/$upload" < <(tail -c +1000001 "$work/f" | head -c 1)
    equal "$(http -X PATCH -T - -H 'Upload-Offset: 1000001' -H 'Upload-Complete: ?1' "/uploads/$upload?hash=$(sum "$work/f")" < <(tail -c +1000002 "$work/f"))" 201
    equal "$(answer .artifact)" "$upload"
    http -I "/uploads/$upload"
    equal "$(header upload-offset) $(header upload-complete)" "3000000 ?1"
    http "/$upload/content"
    cmp "$work/body" "$work/f"
}

@test "the command line puts and gets files, pipes and what it had begun" {
    start_host alpha
    random f 3000000
    cd "$work"
    id=$(gw artifacts put f --ttl 1h --type text/csv | jq -r .artifact)
    equal "$(field '.name,.type,.size,.hash' artifacts info "$id" | xargs)" "f text/csv 3000000 $(sum f)"
    mkdir folder
    gw artifacts get "$id" folder
    cmp folder/f f
    piped=$("$GODWIT" artifacts put - --name piped <f 2>"$work/err")
    contains "$(cat "$work/err")" "2.9 MiB"
    "$GODWIT" artifacts get "$piped" - | cmp - f
    run "$GODWIT" artifacts get "$id" f
    equal "$status" 6
    contains "$output" "overwrite"
    # What is there of an earlier try is used, if it is right.
    head -c 2000000 f >".out.$(sum f | cut -c1-16).godwit-part"
    equal "$(field '.sent_bytes,.hash' artifacts get "$(sum f)" out | xargs)" "1000000 $(sum f)"
    cmp out f
    head -c 2000000 /dev/zero >".out.$(sum f | cut -c1-16).godwit-part"
    gw artifacts get "$id" out --overwrite
    cmp out f
    equal "$(gw -H "${URL[alpha]}" artifacts put f | jq -r .hash)" "$(sum f)"
    gw -H "${URL[alpha]}" artifacts get "$id" tls
    cmp tls f
    : >empty
    gw artifacts get "$(field .artifact artifacts put empty)" empty2
    [ ! -s empty2 ]
    equal "$(field '[.artifacts[].name] | join(",")' artifacts ls)" "f,piped,f,empty"
    equal "$(field .next artifacts ls --limit 2)" "$piped"
    equal "$(field '[.artifacts[].name] | join(",")' artifacts ls --after "$piped")" "f,empty"
    equal "$(field '.removed[0]' artifacts rm "$id")" "$id"
    run "$GODWIT" artifacts get "$id" gone
    equal "$status" 3
    [ ! -e gone ]
    equal "$(find . -maxdepth 2 -name '*.godwit-part' | wc -l)" 0
    equal "$(ls "$GODWIT_HOME/uploads")" ""
}

@test "a put goes on by itself after kill -9 of the host, and by the same command after Ctrl-C" {
    export GODWIT_FAIL=pack.flush:3:kill # 32 MiB are safe, and more has come
    start_host alpha
    random big 60000000
    cd "$work"
    "$GODWIT" --json artifacts put big >put 2>err 3>&- &
    putting=$!
    wait_until 20 is_dead
    export GODWIT_FAIL=pack.flush:1:stop # at 48 MiB
    restart_host alpha
    wait_until 20 is_stopped
    kill -INT "$putting"
    code=0
    wait "$putting" || code=$?
    equal "$code" 130
    contains "$(cat err)" "the same command again goes on"
    equal "$(find "$GODWIT_HOME/uploads" -type f | wc -l)" 1
    upload=$(cat "$GODWIT_HOME"/uploads/*)
    kill -CONT "${PID[alpha]}"
    "$GODWIT" --json artifacts put big >put
    equal "$(jq -r '.artifact,.hash' put | xargs)" "$upload $(sum big)"
    [ "$(jq .sent_bytes put)" -le 12000000 ]
    gw artifacts get "$upload" copy
    cmp copy big
    equal "$(artifact_count)" 1
}

@test "damaged bytes are an error that is told, and the same content put again mends them" {
    start_host alpha
    random f 3000000
    id=$(field .artifact artifacts put "$work/f")
    pack=$(find "$GODWIT_HOME/hosts/alpha/artifacts/packs" -type f)
    printf '\xff\x00\xff\x00' | dd of="$pack" bs=1 seek=2900000 conv=notrunc 2>/dev/null
    run "$GODWIT" artifacts get "$id" "$work/out" --timeout 3s
    equal "$status" 1
    contains "$output" damaged
    [ ! -e "$work/out" ]
    run "$GODWIT" --json artifacts verify
    equal "$status" 1
    equal "$(jq -r '.damaged,.damages[0].artifacts[0]' <<<"$output" | xargs)" "1 $id"
    equal "$(field .kind events --kind artifact.damaged | head -n 1)" artifact.damaged
    gw artifacts put "$work/f"
    gw artifacts get "$id" "$work/out"
    cmp "$work/out" "$work/f"
    gw artifacts verify
    # The rows that say what is where: nothing of them can be used, everything else can.
    term_host alpha
    printf 'garbage' | dd of="$GODWIT_HOME/hosts/alpha/artifacts/artifacts.db" conv=notrunc 2>/dev/null
    restart_host alpha
    equal "$(field .artifacts.broken status)" true
    run "$GODWIT" artifacts ls
    equal "$status" 1
    contains "$output" "without artifacts"
    equal "$(http -T "$work/f" -X POST '')" 500
    gw agents
}

@test "what another host has is got first, and damage is mended from there" {
    start_pair
    random f 3000000
    id=$(field .artifact -H alpha artifacts put "$work/f")
    equal "$(field .hash -H beta artifacts get "$(sum "$work/f")" "$work/by-hash")" "$(sum "$work/f")"
    cmp "$work/by-hash" "$work/f"
    random g 2000000
    second=$(field .artifact -H alpha artifacts put "$work/g" --name second)
    gw -H beta artifacts get "$second@alpha" "$work/by-id"
    cmp "$work/by-id" "$work/g"
    run "$GODWIT" -H beta artifacts get "$(printf x | sha256sum | cut -c1-64)" "$work/none"
    equal "$status" 3
    pack=$(find "$GODWIT_HOME/hosts/beta/artifacts/packs" -type f)
    printf '\xff\x00\xff\x00' | dd of="$pack" bs=1 seek=1000 conv=notrunc 2>/dev/null
    run "$GODWIT" -H beta artifacts verify
    equal "$status" 1
    equal "$(field '.damaged,.repaired' -H beta artifacts verify --repair-from alpha | xargs)" "1 1"
    "$GODWIT" -H beta artifacts verify
}

@test "what ends, is too large or has no room is refused, with nothing left behind" {
    start_host alpha --artifact-max 2M --artifact-quota 4M
    random small 1500000
    random other 1000000
    random large 2200000
    id=$(field .artifact artifacts put "$work/small" --ttl 600ms)
    run "$GODWIT" artifacts put "$work/large" --timeout 3s
    equal "$status" 1
    contains "$output" "at most 2097152 bytes"
    equal "$(http -X POST -T - '' <"$work/large")" 413
    equal "$(http -X POST -T "$work/large" '')" 413
    gone() { [ "$(http "/$id/content")" = 404 ]; }
    wait_until 5 gone
    run "$GODWIT" artifacts get "$id" "$work/out"
    equal "$status" 3
    equal "$(artifact_count)" 0
    # What has expired still has its room until the clock has been calm for a while.
    gw artifacts put "$work/other"
    random some 1400000
    gw artifacts put "$work/some"
    random more 1900000
    run "$GODWIT" artifacts put "$work/more" --timeout 3s
    equal "$status" 6
    contains "$output" quota
    equal "$(http -X POST -T "$work/more" '')" 507
    equal "$(answer .error.code)" quota
    equal "$(artifact_count)" 2
}

@test "a full disk refuses, and the upload goes on when there is room" {
    [ "$(id -u)" -eq 0 ] || skip "needs root to mount a small disk"
    mkdir "$work/disk"
    mount -t tmpfs -o size=60m tmpfs "$work/disk" 2>/dev/null || skip "no mounts here"
    mounted=$work/disk
    export GODWIT_HOME=$work/disk/home
    start_host alpha
    random f 30000000
    head -c $(($(df --output=avail -B1 "$work/disk" | tail -n 1) - 24000000)) /dev/zero >"$work/disk/ballast"
    run "$GODWIT" artifacts put "$work/f"
    equal "$status" 1
    contains "$output" "no room"
    equal "$(artifact_count)" 0
    rm "$work/disk/ballast"
    "$GODWIT" --json artifacts put "$work/f" >"$work/put"
    [ "$(jq .sent_bytes "$work/put")" -lt 20000000 ]
    equal "$(jq -r .hash "$work/put")" "$(sum "$work/f")"
    gw artifacts verify
}

# raw TEXT: the status of what the host answers to it.
raw() {
    printf "$1" | timeout 5 curl -s --unix-socket "$GODWIT_HOME/hosts/alpha/api.sock" --max-time 5 telnet://x 2>/dev/null |
        head -n 1 | cut -d' ' -f2
}

@test "requests that are wrong are refused" {
    start_host alpha
    printf abc >"$work/f"
    equal "$(http -X POST -T "$work/f" '?hash=00')" 400
    equal "$(http -X POST -T "$work/f" "?hash=$(sum /dev/null)")" 500
    equal "$(answer .error.code)" corrupt
    equal "$(http -X POST -T "$work/f" '?what=x')" 400
    equal "$(http -X POST -T "$work/f" '?ttl=never')" 400
    equal "$(http -X POST -T "$work/f" '?owner=me')" 400
    equal "$(http -X POST -T "$work/f" '?name=a%0Ab')" 400
    equal "$(http -X POST -T "$work/f" '?name=%ff')" 400
    equal "$(http -X POST -T "$work/f" "?name=$(printf 'x%.0s' {1..256})")" 400
    equal "$(http -X POST -T "$work/f" -H 'Origin: https://evil.example' '')" 403
    equal "$(http -X POST -T "$work/f" /uploads)" 400
    equal "$(http -X PATCH -T "$work/f" -H 'Upload-Offset: 0' /uploads/nonsense)" 400
    equal "$(http -X PATCH -T "$work/f" -H 'Upload-Offset: 0' /uploads/01M81J6K90NA08Y9P8D5EHHR53)" 404
    http -X POST /uploads
    upload=$(answer .upload)
    equal "$(http -X PATCH -T "$work/f" "/uploads/$upload")" 400
    equal "$(http -X PATCH -T "$work/f" -H 'Upload-Offset: -1' "/uploads/$upload")" 400
    equal "$(http -X PATCH -T "$work/f" -H 'Upload-Offset: 0' -H 'Upload-Complete: yes' "/uploads/$upload")" 400
    equal "$(http -X PATCH -T "$work/f" -H 'Upload-Offset: 0' -H 'Upload-Complete: ?1' "/uploads/$upload?hash=$(sum /dev/null)")" 500
    equal "$(http -I "/uploads/$upload")" 404 # it would never become right
    equal "$(http /nonsense/content)" 400
    equal "$(http -I /nonsense/content)" 400
    equal "$(http "/$(sum "$work/f")/content")" 404
    post='POST /v1/artifacts HTTP/1.1\r\nHost: x\r\n'
    equal "$(raw "${post}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")" 400
    equal "$(raw "${post}Transfer-Encoding: gzip\r\n\r\n")" 501
    equal "$(raw "${post}Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n")" 400
    equal "$(raw "${post}Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n")" 400
    equal "$(raw "${post}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc")" 400
    equal "$(raw 'POST /v1/agents HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n')" 411
    equal "$(artifact_count)" 0
    equal "$(raw "${post}Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n")" 201
    equal "$(field '.artifacts[0].hash' artifacts ls)" "$(sum "$work/f")"
    run "$GODWIT" artifacts put "$work"
    equal "$status" 2
    run "$GODWIT" artifacts put "$work/none"
    equal "$status" 3
    run "$GODWIT" artifacts rm "$(sum "$work/f")"
    equal "$status" 2
    lives alpha
}
