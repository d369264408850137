#!/bin/bash
# gcc -fanalyzer over every source; what it finds is an error, but for its known false alarms.
set -u
cd "$(dirname "$0")/../.." || exit 1
packages=$(pkg-config --cflags libevent msgpack openssl libsodium sqlite3 jansson libcyaml smartcols libxxhash)
export packages
analyze() {
    # Off is what does not follow ownership and values through out parameters and other files (gcc 12). A few
    # large functions take the analyzer for ever: they are left to the sanitizers.
    # shellcheck disable=SC2086 # a list of words
    timeout 40 gcc -D_GNU_SOURCE -Iprotocol/include -Iagents/include -Iclients/include -I. -std=gnu11 $packages -O1 \
        -fanalyzer -Wno-analyzer-malloc-leak -Wno-analyzer-fd-leak -Wno-analyzer-null-dereference \
        -Wno-analyzer-possible-null-dereference -Wno-analyzer-possible-null-argument -Werror -c -o /dev/null "$1" 2>&1 |
        grep -E 'error:'
    case ${PIPESTATUS[0]} in
    0) ;;
    124) echo "not analyzed: $1" ;;
    *) return 1 ;;
    esac
}
export -f analyze
find protocol persistence agents host clients demos -name '*.c' -print0 |
    xargs -0 -P 2 -I{} bash -c 'analyze {}'
