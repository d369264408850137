#!/bin/sh
# Debian packages that Godwit needs, by set, and how to see that each is there.
#   tools/deps.sh install SET...   install what the sets name (root), or print the one command
#   tools/deps.sh ensure  SET...   the same, but only when something is missing; silent when nothing is
#   tools/deps.sh missing SET...   print the missing packages; exit 1 when there are any
# Sets: build (make), demo, test, bench (what it is measured beside), check (format, clang-tidy, fuzz).
# Plain sh: it runs on a machine that has nothing else yet.
set -eu

# set  package  how to see it: cmd:NAME in PATH or sbin, pkg:NAME pkg-config module, inc:HEADER compiles
table='
build gcc               cmd:gcc
build libc6-dev         inc:stdio.h
build make              cmd:make
build pkg-config        cmd:pkg-config
build libevent-dev      pkg:libevent_openssl
build libmsgpack-dev    pkg:msgpack
build libssl-dev        pkg:openssl
build libsodium-dev     pkg:libsodium
build libsqlite3-dev    pkg:sqlite3
build libjansson-dev    pkg:jansson
build libcyaml-dev      pkg:libcyaml
build libyaml-dev       pkg:yaml-0.1
build libsmartcols-dev  pkg:smartcols
build uthash-dev        inc:uthash.h
build libxxhash-dev     pkg:libxxhash
build libzstd-dev       pkg:libzstd
demo  jq                cmd:jq
demo  procps            cmd:ps
test  jq                cmd:jq
test  procps            cmd:ps
test  libcmocka-dev     pkg:cmocka
test  bats              cmd:bats
test  curl              cmd:curl
test  openssl           cmd:openssl
test  iproute2          cmd:ss
test  rsync             cmd:rsync
test  spin              cmd:spin
bench rsync             cmd:rsync
bench nginx-light       cmd:nginx
bench curl              cmd:curl
bench openssl           cmd:openssl
check clang             cmd:clang
check clang-format      cmd:clang-format-14
check clang-tidy        cmd:clang-tidy
check libclang-rt-14-dev  lib:clang/14/lib/linux/libclang_rt.fuzzer-x86_64.a
'

here() {
    case $1 in
    cmd:*) PATH=$PATH:/usr/sbin command -v "${1#cmd:}" >/dev/null 2>&1 ;;
    pkg:*) pkg-config --exists "${1#pkg:}" 2>/dev/null ;;
    inc:*) echo "#include <${1#inc:}>" | gcc -E -x c - >/dev/null 2>&1 ;;
    lib:*) [ "$(uname -m)" != x86_64 ] || [ -e "/usr/lib/${1#lib:}" ] || [ -e "/usr/lib/llvm-14/lib/${1#lib:}" ] ;;
    esac
}

# Packages of the sets $1, missing ones only when $2 is "missing".
packages() {
    echo "$table" | while read -r set package see; do
        case " $1 " in *" $set "*) ;; *) continue ;; esac
        if [ "$2" = all ] || ! here "$see"; then
            echo "$package"
        fi
    done | sort -u | tr '\n' ' '
}

mode=${1:-install}
[ $# -gt 0 ] && shift
sets=${*:-build demo test check}

missing=$(packages "$sets" missing)
case $mode in
missing)
    [ -z "$missing" ] && exit 0
    echo "$missing"
    exit 1
    ;;
ensure) [ -z "$missing" ] && exit 0 ;;
install)
    if [ -z "$missing" ]; then
        echo "everything is here: $(packages "$sets" all)"
        exit 0
    fi
    ;;
*)
    echo "usage: tools/deps.sh install|ensure|missing [build] [demo] [test] [bench] [check]" >&2
    exit 2
    ;;
esac

command_line="apt-get update && apt-get install -y --no-install-recommends $missing"
if [ "$(id -u)" -ne 0 ]; then
    echo "missing packages: $missing" >&2
    echo "install them as root, then run make again:" >&2
    echo "    sudo sh -c '${command_line% }'" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "this is no Debian (there is no apt-get); install by other means what gives: $missing" >&2
    exit 1
fi
echo "installing: $missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086 # $missing is a list of words
if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "the packages could not be installed; see above" >&2
    exit 1
fi
left=$(packages "$sets" missing)
if [ -n "$left" ]; then
    echo "installed, but not found afterwards: $left" >&2
    exit 1
fi
