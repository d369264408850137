# Files from host to host: what arrives is what was sent, whatever its name; what is there already does
# not go again; kills, full disks and Ctrl-C leave nothing half, and the next try goes on.
load helpers

setup() { system_setup; }
teardown() { system_teardown; }

# Hosts whose roots are folders of their own: $a, $b, $c.
start_files() {
    a=$work/a b=$work/b c=$work/c
    mkdir -p "$a" "$b" "$c"
    start_host alpha --root "$a" "$@"
    start_host beta --peer "${URL[alpha]}" --root "$b" "$@"
    wait_until 10 alive_count alpha 2
    wait_until 10 alive_count beta 2
    export GODWIT_HOST=alpha
}
random_file() { head -c "$2" /dev/urandom >"$1"; }
# same_tree A B: rsync would change nothing, contents and all.
same_tree() {
    local out
    out=$(rsync -rlptn --checksum --delete --itemize-changes "$1/" "$2/") || return 1
    [ -z "$out" ] && return 0
    echo "differs: $out"
    return 1
}
parts_left() { find "$@" -name '.*.godwit-*' | wc -l; }
# metric HOST NAME DIRECTION
metric() {
    "$GODWIT" -H "$1" metrics | sed -n "s/^$2{direction=\"$3\"} //p"
}
# An entry of every kind, with names that are a nuisance.
make_tree() {
    mkdir -p "$1/deep/er/still" "$1/empty folder" "$1/closed"
    echo one >"$1/with space"
    echo two >"$1/"$'new\nline'
    echo three >"$1/ünïcödé 日本"
    echo four >"$1/"$'esc\e[2J\a'
    echo five >"$1/"$'not utf-8 \xff\xfe'
    echo six >"$1/-dash"
    echo seven >"$1/*[star]?"
    : >"$1/empty"
    random_file "$1/deep/er/still/big" 3000000
    truncate -s 8M "$1/sparse"
    printf x | dd of="$1/sparse" bs=1 seek=5000000 conv=notrunc status=none
    ln -s deep/er "$1/link to a folder"
    ln -s /etc/passwd "$1/link out"
    ln -s nowhere "$1/dangling"
    chmod 4755 "$1/with space"
    chmod 0600 "$1/empty"
    chmod 0444 "$1/-dash"
    echo secret >"$1/closed/file"
    chmod 0500 "$1/closed"
    touch -d '2001-02-03T04:05:06.789012345Z' "$1/deep/er" "$1/with space"
    touch -h -d '2002-02-03T04:05:06Z' "$1/dangling"
}
open_up() { chmod -R u+w "$@"; } # so that the end of the test can remove them

@test "a file, a tree of everything, and both back again" {
    start_files
    random_file "$a/one" 2500000
    cd "$a"
    gw files push one beta:uno >"$work/out"
    cmp one "$b/uno"
    equal "$(jq -r .hash "$work/out")" "$(sha256sum <one | cut -d ' ' -f 1)"
    equal "$(jq -c '[.files, .bytes, .sent_bytes, .saved_bytes, .failed, .from, .to, .errors]' "$work/out")" \
        '[1,2500000,2500000,0,0,"alpha","beta",[]]'
    make_tree "$a/tree"
    gw files push -r tree beta:~/copy
    same_tree tree "$b/copy"
    [ "$(stat -c %b "$b/copy/sparse")" -le 64 ] # blocks: the holes are holes
    gw files pull -r beta:copy back
    same_tree tree "$a/back"
    equal "$(parts_left "$a" "$b")" 0
    # into a folder that is there, its content alone, many and patterns
    gw files push -r tree beta:copy
    same_tree tree "$b/copy/tree"
    mkdir "$b/flat"
    gw files push -r tree/ beta:flat
    same_tree tree "$b/flat"
    mkdir in
    gw files pull 'beta:flat/*a*' beta:uno in/
    [ -e in/-dash ] && [ -e in/uno ] && [ -L in/dangling ]
    open_up "$work"
}

@test "what is there already does not go again; what differs stays, or is replaced where asked" {
    start_files
    random_file "$a/x" 20000000
    gw files push "$a/x" beta: >"$work/first"
    gw files push "$a/x" beta: >"$work/second"
    equal "$(jq -c '[.files, .bytes, .sent_bytes, .saved_bytes]' "$work/second")" '[1,20000000,0,20000000]'
    # touched: its content is compared, not sent
    touch "$a/x"
    run "$GODWIT" files push "$a/x" beta:
    equal "$status" 1
    contains "$output" "x: "
    gw files push --overwrite "$a/x" beta: >"$work/third"
    [ "$(jq .sent_bytes "$work/third")" -lt 200000 ]
    # one byte in the middle: only what is around it
    { head -c 10000000 "$a/x"; printf y; tail -c 10000000 "$a/x"; } >"$a/y" && mv "$a/y" "$a/x"
    gw files push --dry-run --overwrite "$a/x" beta: >"$work/dry"
    [ "$(jq .sent_bytes "$work/dry")" -gt 0 ]
    ! cmp -s "$a/x" "$b/x"
    gw files push --overwrite "$a/x" beta: >"$work/fourth"
    cmp "$a/x" "$b/x"
    [ "$(jq .sent_bytes "$work/fourth")" -lt 9000000 ]
    equal "$(jq .sent_bytes "$work/dry")" "$(jq .sent_bytes "$work/fourth")"
    # update: the older gives way, the newer stays
    echo old >"$b/u" && echo new >"$a/u"
    touch -d '2001-01-01' "$b/u"
    gw files push --update "$a/u" beta:
    equal "$(cat "$b/u")" new
    echo newest >"$b/u"
    touch -d '2030-01-01' "$b/u"
    gw files push --update "$a/u" beta:
    equal "$(cat "$b/u")" newest
    # verify: same size and time, another content
    echo abc >"$a/v" && gw files push "$a/v" beta:
    echo abd >"$b/v" && touch -r "$a/v" "$b/v"
    equal "$(field .sent_bytes files push "$a/v" beta:)" 0
    equal "$(cat "$b/v")" abd
    gw files push --verify --overwrite "$a/v" beta:
    equal "$(cat "$b/v")" abc
}

@test "a copy between two hosts that a third one was asked for carries no byte through it" {
    start_files
    start_host gamma --peer "${URL[alpha]}" --root "$c"
    wait_until 10 alive_count gamma 3
    random_file "$a/big" 30000000
    bytes_through() { awk '/^[rw]char/ { n += $2 } END { print n }' "/proc/${PID[gamma]}/io"; }
    before=$(bytes_through)
    gw -H gamma files copy alpha:big beta:big >"$work/out"
    after=$(bytes_through)
    equal "$(jq -c '[.from, .to, .bytes, .sent_bytes]' "$work/out")" '["alpha","beta",30000000,30000000]'
    cmp "$a/big" "$b/big"
    equal "$(metric alpha godwit_file_bytes_total sent)" 30000000
    equal "$(metric beta godwit_file_bytes_total received)" 30000000
    for direction in sent received; do
        equal "$(metric gamma godwit_file_bytes_total $direction)" 0
        equal "$(metric gamma godwit_file_transfers_total $direction)" 0
    done
    [ $((after - before)) -lt 1000000 ]
    equal "$(gw -H alpha events --kind files | jq -r '[.kind, .peer] | join(" ")')" "files.sent beta"
    equal "$(gw -H beta events --kind files | jq -r '[.kind, .peer] | join(" ")')" "files.received alpha"
    # a listing of a third host, over the API too
    equal "$(gw -H gamma files ls beta: | jq -c '[.host, .entries[0].name, .entries[0].size]')" '["beta","big",30000000]'
    equal "$(api gamma GET '/v1/files?on=beta' | sed 1d | jq -r '.entries[0].type')" file
    # a host to itself
    gw -H gamma files copy alpha:big alpha:twin
    cmp "$a/big" "$a/twin"
}

@test "nothing outside of the roots is read, written or listed" {
    start_files
    echo x >"$a/x"
    ln -s /etc "$b/etc"
    ln -s /etc "$a/etc"
    for place in beta:/etc/ beta:../up beta:/tmp/x beta:etc/x "beta:$a/x" beta:~/../x; do
        run "$GODWIT" files push "$a/x" "$place"
        [ "$status" -ne 0 ] || { echo "$place"; false; }
    done
    run "$GODWIT" files pull beta:/etc/passwd "$a/p"
    equal "$status" 4
    contains "$output" "$b"
    run "$GODWIT" files push /etc/passwd beta:
    equal "$status" 4
    run "$GODWIT" files pull beta:etc/passwd "$a/p"
    equal "$status" 4
    run "$GODWIT" files ls beta:/etc
    equal "$status" 4
    run "$GODWIT" files ls beta:etc
    equal "$status" 4
    [ ! -e "$a/p" ] && [ ! -e /etc/x ]
    equal "$(find "$b" -mindepth 1 | wc -l)" 1
    # devices and fifos are refused one by one, the rest goes
    mkdir "$a/odd" && mkfifo "$a/odd/fifo" && echo y >"$a/odd/y"
    run "$GODWIT" files push -r "$a/odd" beta:
    equal "$status" 1
    contains "$output" "odd/fifo"
    equal "$(cat "$b/odd/y")" y
    [ ! -e "$b/odd/fifo" ]
    run "$GODWIT" files push "$a/odd" beta:
    [ "$status" -ne 0 ]
    contains "$output" "-r"
}

@test "the folder of Godwit itself is out of reach, whatever the roots are" {
    b=$work/b
    mkdir -p "$b"
    start_host alpha --root /
    start_host beta --peer "${URL[alpha]}" --root "$work"
    wait_until 10 alive_count alpha 2
    wait_until 10 alive_count beta 2
    export GODWIT_HOST=alpha
    home=$GODWIT_HOME
    own=home/hosts/beta/work
    key=$(cd "$home" && find . -name '*.key' | sort | head -1)
    [ -n "$key" ]
    sum=$(cd "$home" && find . -name '*.key' -print0 | sort -z | xargs -0 sha256sum)
    ln -s home "$work/in"
    echo mine >"$work/mine"
    for place in home "home/$key" in/ "in/$key" home/mesh home/hosts/beta "$own/parts"; do
        run "$GODWIT" files pull -r "beta:$place" "$work/stolen"
        equal "$status" 4
        run "$GODWIT" files push -r "$work/$place/" beta:b/
        equal "$status" 4
        run "$GODWIT" files push --overwrite "$work/mine" "beta:$place"
        equal "$status" 4
        run "$GODWIT" files ls "beta:$place"
        equal "$status" 4
        contains "$output" "belongs to Godwit"
    done
    run "$GODWIT" files pull 'beta:home/*/*.key' "$work/stolen/"
    [ "$status" -ne 0 ]
    [ ! -e "$work/stolen" ]
    # from above: told, and the rest goes
    run "$GODWIT" files pull -r --exclude b/ --exclude '*.log' beta: "$b/"
    equal "$status" 1
    contains "$output" "home"
    contains "$output" "belongs to Godwit"
    [ -e "$b/mine" ] && [ ! -e "$b/home" ]
    # its own work folder is free
    gw files push "$work/mine" "beta:$own/"
    equal "$(cat "$work/$own/mine")" mine
    equal "$(cd "$home" && find . -name '*.key' -print0 | sort -z | xargs -0 sha256sum)" "$sum"
}

@test "a file of more than 4 GiB, and messages that are answered while another one goes" {
    start_files
    # sparse: bytes at its beginning, on both sides of 4 GiB, and at its end
    truncate -s 5G "$a/huge"
    for at in 0 4294967290 5368709110; do
        printf 0123456789 | dd of="$a/huge" bs=1 seek=$at conv=notrunc status=none
    done
    gw files push "$a/huge" beta: >"$work/out"
    equal "$(jq -c '[.bytes, .failed]' "$work/out")" '[5368709120,0]'
    [ "$(jq .sent_bytes "$work/out")" -lt 1000000 ]
    equal "$(stat -c %s "$b/huge")" 5368709120
    [ "$(stat -c %b "$b/huge")" -le 1000 ] # blocks: the holes are holes
    for at in 0 4294967290 5368709110; do
        equal "$(dd if="$b/huge" bs=1 skip=$at count=10 status=none)" 0123456789
    done
    rm "$a/huge" "$b/huge"
    # messages to both hosts
    near=$(field .agent -H alpha create counter)
    far=$(field .agent -H beta create counter)
    head -c 300000000 /dev/zero | openssl enc -aes-128-ctr -nosalt -K 01 -iv 02 >"$a/big" 2>/dev/null
    "$GODWIT" --json files push "$a/big" beta: >"$work/big" 2>"$work/err" 3>&- &
    copy=$!
    sends=0
    while kill -0 "$copy" 2>/dev/null || [ "$sends" -lt 3 ]; do
        sends=$((sends + 1))
        equal "$(field .reply.count -H alpha send "$near" increment)" "$sends"
        equal "$(field .reply.count -H alpha send "$far" increment)" "$sends"
    done
    wait "$copy"
    equal "$(jq -c '[.bytes, .failed]' "$work/big")" '[300000000,0]'
    cmp "$a/big" "$b/big"
}

@test "names from elsewhere do nothing to a terminal" {
    start_files
    mkdir "$a/d"
    echo x >"$a/d/"$'a\e[2J\nb'
    run "$GODWIT" files push -rn "$a/d" beta:
    [ "$status" -eq 0 ]
    [[ "$output" != *$'\e'* ]]
    "$GODWIT" files push -r "$a/d" beta:
    run "$GODWIT" files ls beta:d
    [[ "$output" != *$'\e'* ]]
    contains "$output" 'a?[2J?b'
    # on a terminal, too
    rm -r "$b/d"
    script -qec "'$GODWIT' files push -r '$a/d' beta:" /dev/null >"$work/tty" </dev/null
    ! grep -q $'\e\\[2J' "$work/tty"
    contains "$(cat "$work/tty")" "1 file, 2 B in "
}

@test "move removes what has arrived, and nothing else" {
    start_files
    mkdir -p "$a/m/sub"
    echo 1 >"$a/m/one" && echo 2 >"$a/m/sub/two" && ln -s one "$a/m/link"
    mkdir -p "$b/m/sub" && echo other >"$b/m/sub/two"
    run "$GODWIT" files push -r --move "$a/m" beta:
    equal "$status" 1
    equal "$(cat "$b/m/one")" 1
    equal "$(cat "$b/m/sub/two")" other
    equal "$(cat "$a/m/sub/two")" 2
    [ ! -e "$a/m/one" ] && [ ! -e "$a/m/link" ]
    gw files push -r --move --overwrite "$a/m" beta:
    equal "$(cat "$b/m/sub/two")" 2
    [ ! -e "$a/m" ]
}

@test "excludes, and a dry run that changes nothing" {
    start_files
    mkdir -p "$a/p/build" "$a/p/src"
    for each in a.c a.o src/b.c src/b.o build/x; do echo "$each" >"$a/p/$each"; done
    "$GODWIT" files push -rn --exclude '*.o' --exclude build/ "$a/p" beta: >"$work/plan"
    equal "$(sort "$work/plan")" "$(printf 'send p/a.c\nsend p/src/b.c')"
    [ ! -e "$b/p" ]
    gw files push -r --exclude '*.o' --exclude build/ "$a/p" beta:
    equal "$(cd "$b/p" && find . -type f | sort | tr '\n' ' ')" "./a.c ./src/b.c "
}

@test "killed, and taken up again: either host, the command, Ctrl-C; nothing is left over" {
    start_files
    mkdir "$a/t"
    random_file "$a/t/big" 24000000
    for i in {1..30}; do echo "$i" >"$a/t/small $i"; done
    begun() { [ "$(find "$b" -name '.*.godwit-*' -size +4M | wc -l)" -gt 0 ]; }
    for who in alpha beta command ctrl-c; do
        rm -rf "$b/copy"
        "$GODWIT" files push -r --limit 12M "$a/t" beta:copy >"$work/out" 2>"$work/err" 3>&- &
        pusher=$!
        wait_until 10 begun
        case $who in
        alpha | beta) kill_host $who ;;
        command) kill -9 $pusher ;;
        ctrl-c) kill -INT $pusher ;;
        esac
        code=0
        wait $pusher || code=$?
        [ $code -ne 0 ]
        [ $who != ctrl-c ] || { equal $code 130 && contains "$(cat "$work/err")" "same command again"; }
        [ ! -e "$b/copy/big" ]
        case $who in
        alpha) restart_host alpha --root "$a" && wait_until 10 alive_count alpha 2 ;;
        beta) restart_host beta --root "$b" && wait_until 10 alive_count alpha 2 ;;
        esac
        again() { gw files push -r "$a/t" beta:copy >"$work/again" 2>"$work/err"; }
        wait_until 20 again # who holds the part may need a moment to see that nobody sends any more
        same_tree "$a/t" "$b/copy"
        [ "$(jq .saved_bytes "$work/again")" -ge 3000000 ]
        equal "$(parts_left "$b")" 0
    done
    equal "$(find "$GODWIT_HOME/hosts/alpha" -path '*/copies/*' -type f | wc -l)" 0
}

@test "two copies to one name: one of them is told, and the file is one of both" {
    start_files
    random_file "$a/1" 8000000
    random_file "$a/2" 8000000
    begun() { [ "$(parts_left "$b")" -gt 0 ]; }
    "$GODWIT" files push --limit 4M "$a/1" beta:x 3>&- &
    first=$!
    wait_until 10 begun
    run "$GODWIT" files push "$a/2" beta:x
    equal "$status" 1
    contains "$output" 'another transfer writes to "x"'
    wait $first
    cmp "$a/1" "$b/x"
    equal "$(parts_left "$b")" 0
}

@test "a full disk: nothing half is visible, and with room again it goes on" {
    [ "$(id -u)" -eq 0 ] || skip "needs root to mount a small disk"
    mkdir "$work/small"
    mount -t tmpfs -o size=24m tmpfs "$work/small" 2>/dev/null || skip "no mounts here"
    start_files
    start_host gamma --peer "${URL[alpha]}" --root "$work/small"
    wait_until 10 alive_count alpha 3
    random_file "$a/x" 9000000
    head -c 18000000 /dev/zero >"$work/small/ballast"
    run "$GODWIT" files push "$a/x" gamma:
    code=$status
    here=$(find "$work/small" -name x)
    rm "$work/small/ballast"
    "$GODWIT" --json files push "$a/x" gamma: >"$work/out" || true
    cmp "$a/x" "$work/small/x" && same=1
    left=$(parts_left "$work/small")
    kill_host gamma
    umount "$work/small"
    [ "$code" -ne 0 ]
    contains "$output" "No space left"
    equal "$here" ""
    equal "${same:-}" 1
    equal "$left" 0
    [ "$(jq .saved_bytes "$work/out")" -ge 3000000 ]
}

@test "hosts that are not there are named, and codes say what was wrong" {
    start_files
    echo x >"$a/x"
    run "$GODWIT" files push "$a/x" nobody:
    equal "$status" 3
    contains "$output" "nobody"
    run "$GODWIT" files pull beta:none "$a/y"
    equal "$status" 3
    contains "$output" "none"
    kill_host beta
    down() { alive_count alpha 1; }
    wait_until 10 down
    run "$GODWIT" files push "$a/x" beta:
    equal "$status" 5
    contains "$output" "beta"
    run "$GODWIT" files copy beta:x alpha:z
    equal "$status" 5
    contains "$output" "beta"
}
