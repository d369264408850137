#!/bin/bash
# clang-tidy with the few checks of .clang-tidy, every finding an error.
set -u
cd "$(dirname "$0")/../.." || exit 1
packages=$(pkg-config --cflags libevent msgpack openssl libsodium sqlite3 jansson libcyaml smartcols libxxhash)
export packages
tidy() {
    # shellcheck disable=SC2086 # a list of words
    clang-tidy --quiet "$1" -- -D_GNU_SOURCE -Iprotocol/include -Iagents/include -Iclients/include -I. \
        -std=gnu11 $packages 2>/dev/null
}
export -f tidy
find protocol persistence agents host clients demos -name '*.c' -print0 |
    xargs -0 -P 2 -I{} bash -c 'tidy {}'
