#!/usr/bin/env bats
# Copies of files under kill -9 at random moments, with sources that change, disks that fill, hosts that
# stand still, and of a real tree. KILLS=n and MIB=n change the length (`make files-torture`); SEED=n
# repeats the choices (not the timing).

load helpers

setup() { system_setup; }
teardown() {
    [ ! -d "$work" ] || chmod -R u+rwX "$work" 2>/dev/null || true
    system_teardown
}

KILLS=${KILLS:-3}
MIB=${MIB:-200}

# Two hosts whose roots are folders of their own: $a (and what else is named), $b.
start_files() {
    a=$work/a b=$work/b
    mkdir -p "$a" "$b"
    start_host alpha --root "$a" "$@"
    start_host beta --peer "${URL[alpha]}" --root "$b"
    linked
    export GODWIT_HOST=alpha
}
linked() { wait_until 15 alive_count alpha 2 && wait_until 15 alive_count beta 2; }
start_again() {
    case $1 in
    alpha) restart_host alpha --root "$a" --peer "${URL[beta]}" ;;
    beta) restart_host beta --root "$b" --peer "${URL[alpha]}" ;;
    esac
    linked
}
hash_of() { sha256sum <"$1" | cut -d ' ' -f 1; }
parts_left() { find "$@" -name '.*.godwit-*' | wc -l; }
# Bytes of the largest file that an interrupted copy left in $1.
largest_part() { find "$1" -name '.*.godwit-*' -printf '%b\n' | awk '$1 * 512 > n { n = $1 * 512 } END { print n + 0 }'; }
random() { echo $((RANDOM * 32768 + RANDOM)); }
# push_until_done SECONDS ARG...: what the last host held may be busy for a moment.
push_until_done() {
    local within=$1
    shift
    pushes() { gw files push "$@" >"$work/out" 2>"$work/err"; }
    wait_until "$within" pushes "$@" || { cat "$work/out" "$work/err"; return 1; }
}
# tree_differs A B: what rsync would still do, contents compared.
tree_differs() { rsync -n -a --checksum --delete --itemize-changes "$1/" "$2/"; }

@test "a large copy whose hosts are killed at random moments is taken up each time, and nothing is left over" {
    local seed=${SEED:-$$} n victim pusher moment size high=0 kills=0 seen
    RANDOM=$seed
    echo "seed $seed"
    start_files
    size=$((MIB * 1024 * 1024))
    head -c $size /dev/urandom >"$a/big"
    for ((n = 1; n <= KILLS * 4 && kills < KILLS; n++)); do
        victim=$([ $((RANDOM % 2)) = 0 ] && echo alpha || echo beta)
        seen=$(largest_part "$b")
        [ "$seen" -le $high ] || high=$seen
        moment=$(($(random) % (size - size / 10)))
        gw files push "$a/big" beta:big >"$work/out" 2>"$work/err" 3>&- &
        pusher=$!
        if "$(tool killat)" "${PID[$victim]}" $pusher "$b" $moment; then
            kills=$((kills + 1))
            wait $pusher && { echo "a push says it is done though $victim was killed"; return 1; }
            [ ! -e "$b/big" ] || cmp "$a/big" "$b/big"
            start_again $victim
        else
            # It was done before its moment, or the destination still read what the last try had left: that is no try.
            wait $pusher || { grep -q conflict "$work/out" "$work/err" && [ $SECONDS -lt 200 ] && n=$((n - 1)); } || true
        fi
        if [ -e "$b/big" ]; then
            cmp "$a/big" "$b/big"
            rm "$b/big"
            high=0
        fi
    done
    equal $kills "$KILLS"
    seen=$(largest_part "$b")
    [ "$seen" -le $high ] || high=$seen
    push_until_done 30 "$a/big" beta:big
    equal "$(hash_of "$b/big")" "$(hash_of "$a/big")"
    equal "$(jq -r .hash "$work/out")" "$(hash_of "$a/big")"
    equal "$(parts_left "$b")" 0
    # What any of the tries had brought, but for one unfinished chunk, did not have to come again.
    echo "at most $high bytes were there, $(jq -c . "$work/out")"
    [ "$(jq .saved_bytes "$work/out")" -ge $((high - 8 * 1024 * 1024)) ]
    equal "$(jq '.saved_bytes + .sent_bytes' "$work/out")" $size
}

@test "a tree under kill -9: whole files stay, none is half, the last try makes it equal" {
    local seed=${SEED:-$$} n victim pusher code
    RANDOM=$seed
    echo "seed $seed"
    start_files
    mkdir -p "$a/tree"
    for n in {1..300}; do
        mkdir -p "$a/tree/$((n % 7))"
        head -c $((RANDOM % 60000)) /dev/urandom >"$a/tree/$((n % 7))/$n"
    done
    for n in {1..6}; do head -c 9000000 /dev/urandom >"$a/tree/$n/big"; done
    for ((n = 1; n <= KILLS; n++)); do
        victim=$([ $((RANDOM % 2)) = 0 ] && echo alpha || echo beta)
        gw files push -r --limit 40M "$a/tree" beta:copy >"$work/out" 2>"$work/err" 3>&- &
        pusher=$!
        sleep "0.$((RANDOM % 800 + 100))" # somewhere within the copy
        kill_host $victim
        code=0
        wait $pusher || code=$?
        start_again $victim
        # A copy that was done goes into the folder the next time: this one begins again.
        [ $code != 0 ] || { equal "$(tree_differs "$a/tree" "$b/copy")" "" && rm -rf "$b/copy"; }
        # What has its name is whole.
        (cd "$b" && find copy -type f ! -name '.*.godwit-*' -print0 2>/dev/null) |
            while IFS= read -r -d '' each; do cmp "$b/$each" "$a/tree/${each#copy/}" || exit 1; done
    done
    push_until_done 30 -r "$a/tree" beta:copy
    equal "$(tree_differs "$a/tree" "$b/copy")" ""
    equal "$(parts_left "$b")" 0
}

@test "a real tree, and one of odd modes, times and links, pushed and pulled back is the same" {
    [ -d /usr/share/doc ] || skip "there is no /usr/share/doc"
    local n
    start_files --root /usr/share/doc
    mkdir -p "$a/odd/deep/er"
    for n in 0000 0200 0400 0444 0555 0600 0711 0755 0777 1777 2755 4755 6711; do
        echo "$n" >"$a/odd/file $n" && chmod $n "$a/odd/file $n"
        mkdir "$a/odd/folder $n" && echo in >"$a/odd/folder $n/in" && chmod $n "$a/odd/folder $n"
    done
    ln -s ../../outside "$a/odd/deep/up" && ln -s /etc/passwd "$a/odd/absolute" && ln -s "file 0600" "$a/odd/to a file"
    ln -s deep "$a/odd/to a folder" && ln -s "$(printf 'x%.0s' {1..255})" "$a/odd/long target"
    touch "$a/odd/$(printf 'n%.0s' {1..255})" "$a/odd/"$' \t\n\x01\xff'
    touch -d 1969-07-20T20:17:40.123456789Z "$a/odd/before 1970"
    touch -d 2200-01-01T00:00:00.000000001Z "$a/odd/far away" && touch -h -d 1999-12-31T23:59:59Z "$a/odd/absolute"
    truncate -s "$([ -n "${LONG:-}" ] && echo 5G || echo 200M)" "$a/odd/all hole" && printf end >>"$a/odd/all hole"
    touch -d 2010-10-10T10:10:10.5Z "$a/odd/deep/er" "$a/odd/deep"
    for tree in /usr/share/doc "$a/odd"; do
        gw files push -r "$tree" beta:there >"$work/out"
        equal "$(jq '.failed' "$work/out")" 0
        gw files pull -r beta:there "$a/back" >"$work/out"
        equal "$(tree_differs "$tree" "$b/there")" ""
        equal "$(tree_differs "$tree" "$a/back")" ""
        # Again: nothing goes.
        gw files push -r "$tree/" beta:there >"$work/out"
        equal "$(jq -c '[.sent_bytes, .failed]' "$work/out")" "[0,0]"
        chmod -R u+rwX "$b/there" "$a/back" && rm -rf "$b/there" "$a/back"
    done
    equal "$(parts_left "$a" "$b")" 0
}

# What is at $1 is one of the files that follow, or nothing is there.
one_of() {
    local got=$1 each
    shift
    [ -e "$got" ] || return 0
    for each in "$@"; do cmp -s "$got" "$each" && return 0; done
    echo "$got is none of: $*"
    return 1
}

@test "a source that grows, shrinks, is changed, replaced or removed meanwhile: one of its states arrives, or none" {
    local how code
    start_files
    for how in grow shrink change replace remove; do
        head -c 12000000 /dev/urandom >"$a/$how"
        head -c 12000000 /dev/urandom >"$work/other"
        cp "$a/$how" "$work/before"
        begun() { [ "$(largest_part "$b")" -gt 3000000 ]; }
        gw files push --limit 20M "$a/$how" beta:"$how" >"$work/out" 2>"$work/err" 3>&- &
        pusher=$!
        wait_until 10 begun
        case $how in
        grow) echo more >>"$a/$how" ;;
        shrink) truncate -s 7000000 "$a/$how" ;;
        change) printf changed | dd of="$a/$how" bs=1 seek=1000000 conv=notrunc status=none ;;
        replace) mv "$work/other" "$a/$how" ;;
        remove) rm "$a/$how" ;;
        esac
        code=0
        wait $pusher || code=$?
        if [ -e "$a/$how" ]; then
            one_of "$b/$how" "$work/before" "$a/$how"
            [ $code != 0 ] || [ -e "$b/$how" ]
            push_until_done 20 --overwrite "$a/$how" beta:"$how"
            cmp "$a/$how" "$b/$how"
        else
            one_of "$b/$how" "$work/before"
            [ $code = 0 ] || [ ! -e "$b/$how" ]
        fi
    done
    # What was removed has nobody to go on with it: its part waits for the sweep.
    [ "$(parts_left "$b")" -le 1 ]
}

@test "a tree that fills the disk again and again: no half file, and each time with more room it goes on" {
    [ "$(id -u)" -eq 0 ] || skip "needs root to mount a small disk"
    local small=$work/small room n before=0 whole
    mkdir "$small"
    mount -t tmpfs -o size=8m tmpfs "$small" 2>/dev/null || skip "no mounts here"
    a=$work/a
    mkdir -p "$a/tree"
    start_host alpha --root "$a"
    start_host beta --peer "${URL[alpha]}" --root "$small"
    linked
    for n in {1..20}; do head -c $((n * 100000)) /dev/urandom >"$a/tree/$n"; done
    ok=1
    for room in 8 16 32; do
        mount -o "remount,size=${room}m" "$small"
        gw -H alpha files push -r "$a/tree/" beta:tree >"$work/out" 2>"$work/err" && code=0 || code=$?
        whole=$(find "$small/tree" -type f ! -name '.*.godwit-*' | wc -l)
        for each in "$small"/tree/[0-9]*; do
            [ ! -e "$each" ] || cmp "$each" "$a/tree/${each##*/}" || ok=0
        done
        echo "with $room MiB: exit code $code, $whole files"
        [ "$whole" -ge $before ] || ok=0
        { [ $room = 32 ] || [ $code != 0 ]; } || ok=0
        before=$whole
    done
    differs=$(tree_differs "$a/tree" "$small/tree")
    left=$(parts_left "$small")
    kill_host beta
    umount "$small"
    equal "$ok $code $left $differs" "1 0 0 "
}

@test "a destination that stands still for a while: the copy waits and goes on" {
    start_files
    head -c 12000000 /dev/urandom >"$a/big"
    begun() { [ "$(largest_part "$b")" -gt 3000000 ]; }
    gw files push --limit 20M "$a/big" beta:big >"$work/out" 2>"$work/err" 3>&- &
    pusher=$!
    wait_until 10 begun
    kill -STOP "${PID[beta]}"
    sleep 2 # that long nobody answers
    kill -CONT "${PID[beta]}"
    wait $pusher || { cat "$work/err"; false; }
    cmp "$a/big" "$b/big"
    equal "$(parts_left "$b")" 0
}

@test "a destination that stands still for good: told within a minute, and taken up when it is back" {
    [ -n "${LONG:-}" ] || skip "takes a minute: LONG=1"
    start_files
    head -c 90000000 /dev/urandom >"$a/big"
    begun() { [ "$(largest_part "$b")" -gt 3000000 ]; }
    gw files push --limit 20M "$a/big" beta:big >"$work/out" 2>"$work/err" 3>&- &
    pusher=$!
    wait_until 10 begun
    kill -STOP "${PID[beta]}"
    began=$SECONDS
    wait $pusher && code=0 || code=$?
    echo "exit code $code after $((SECONDS - began)) s: $(cat "$work/err")"
    kill -CONT "${PID[beta]}"
    [ $code != 0 ]
    [ $((SECONDS - began)) -le 70 ]
    push_until_done 60 "$a/big" beta:big
    cmp "$a/big" "$b/big"
    [ "$(jq .saved_bytes "$work/out")" -ge 3000000 ]
    equal "$(parts_left "$b")" 0
}
