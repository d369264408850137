#!/bin/bash
# The C of the guide and of README is what a reader copies: each ```c block compiles with all warnings as
# errors, and a block that is a whole plugin is loaded by a host, which checks its tables and signatures.
#   with GW_AGENT                            a whole plugin, compiled as it stands
#   first line: in a handler, as a comment   statements of a handler
#   any other                                functions of a plugin; what they do not use may be missing
# Without build/godwit (make check in a fresh tree) the plugins are only compiled.
set -u
cd "$(dirname "$0")/../.." || exit 1
dir=$(mktemp -d) || exit 1
export GODWIT_HOME=$dir/home
pid=
# shellcheck disable=SC2317 # called by the trap
tidy_up() {
    [ -n "$pid" ] && kill "$pid" 2>/dev/null
    rm -rf "$dir"
}
trap tidy_up EXIT
mkdir "$dir/plugins" "$dir/bin"
flags="-D_GNU_SOURCE -Iprotocol/include -Iagents/include -std=gnu11 -fPIC -shared -Wall -Wextra -Werror"
bad=0 count=0 names=

# The blocks of document $1 as files of $dir/blocks: <line of the first line of code>.c
blocks() {
    rm -rf "$dir/blocks" && mkdir "$dir/blocks"
    awk -v dir="$dir/blocks" '
        /^```c$/ { out = dir "/" NR + 1 ".c"; printf "" >out; next }
        /^```$/ && out { close(out); out = ""; next }
        out { print >out }
        END { if (out) { print FILENAME ": a block is not closed"; exit 1 } }' "$1" || bad=1
}

# The source to compile for block $2 of document $1, which begins at line $3; compiler messages name the document.
source_of() {
    local whole=$1 block=$2 line=$3
    if grep -q '^GW_AGENT(' "$block"; then
        printf '#line %d "%s"\n' "$line" "$whole"
        cat "$block"
        return
    fi
    printf '#include <stdlib.h>\n#include <string.h>\n#include <godwit/pattern.h>\n'
    printf '#pragma GCC diagnostic ignored "-Wunused-function"\n'
    if head -n 1 "$block" | grep -qx '/\* in a handler \*/'; then
        printf 'static gw_err handler(struct gw_call *call)\n{\n#line %d "%s"\n' "$line" "$whole"
        cat "$block"
        printf 'return GW_OK;\n}\n'
    else
        printf '#line %d "%s"\n' "$line" "$whole"
        cat "$block"
    fi
}

for document in README.md docs/agents.md; do
    blocks "$document"
    for block in "$dir"/blocks/*.c; do
        [ -e "$block" ] || { echo "$document: no block of C found; the look-up in $0 no longer fits" && bad=1 && continue; }
        line=$(basename "$block" .c)
        plugin=$dir/$(basename "$document" .md)-$line
        source_of "$document" "$block" "$line" >"$plugin.c"
        # shellcheck disable=SC2086 # a list of words
        if ! gcc $flags -o "$plugin.so" "$plugin.c" 2>"$plugin.log"; then
            grep -E 'error:' "$plugin.log" || cat "$plugin.log"
            bad=1
        elif grep -q '^GW_AGENT(' "$block"; then
            mv "$plugin.so" "$dir/plugins/"
            names+=" $(sed -nE 's/^GW_AGENT\(([a-z_]+),.*/\1/p' "$block" | tr '\n' ' ')"
        fi
        count=$((count + 1))
    done
done

if [ -x build/godwit ] && [ -n "$names" ]; then
    cp build/godwit "$dir/bin/" # without the folder `agents` beside it, whose types would come first
    ready=$("$dir/bin/godwit" host --name docs --listen 127.0.0.1:0 --plugin "$dir/plugins" --detach --json 2>&1)
    pid=$(sed -nE 's/.*"pid": ?([0-9]+).*/\1/p' <<<"$ready")
    if [ -z "$pid" ]; then
        echo "no host to load the plugins: $ready"
        exit 1
    fi
    types=$("$dir/bin/godwit" -H docs --json types 2>&1)
    for name in $names; do
        grep -q "\"name\": *\"$name\"" <<<"$types" && continue
        echo "type \"$name\" of the documents does not load: $("$dir/bin/godwit" -H docs types 2>&1 | grep -i problem)"
        bad=1
    done
    grep -q '"broken": *\[\]' <<<"$types" || { sed -E 's/.*"broken"/broken/' <<<"$types" && bad=1; }
    "$dir/bin/godwit" -q -H docs stop >/dev/null 2>&1 && pid=
fi
[ $bad -eq 0 ] && echo "$count blocks compile${names:+, types:$names}"
exit $bad
