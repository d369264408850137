#!/bin/bash
# Each header compiles alone: whoever includes it needs no other before it.
set -u
cd "$(dirname "$0")/../.." || exit 1
flags="-D_GNU_SOURCE -Iprotocol/include -Iagents/include -Iclients/include -I. -std=gnu11 -Wall -Wextra
    -Wno-missing-field-initializers -Wno-unused-function -fsyntax-only"
packages=$(pkg-config --cflags libevent openssl libsodium libxxhash 2>/dev/null)
export flags packages
compile() {
    # shellcheck disable=SC2086 # both are lists of words
    out=$(printf '#include "%s"\n' "$1" | gcc $flags $packages -Werror -x c - 2>&1) && exit 0
    echo "$1: does not compile alone"
    printf '%s\n' "$out" | head -n 5
    exit 1
}
export -f compile
find protocol persistence agents host clients tests -name '*.h' -print0 |
    xargs -0 -P 2 -I{} bash -c 'compile {}'
