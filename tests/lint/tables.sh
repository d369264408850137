#!/bin/bash
# Each row of a table in the code has its line in the docs, and each line its row.
# shellcheck disable=SC2016 # the backticks are those of the documents
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0

# compare WHAT DOCUMENT CODE ROWS LINES: names in the code and in the document, one per line.
compare() {
    local what=$1 document=$2 code=$3 rows=$4 lines=$5 name
    if [ -z "$rows" ]; then
        echo "$code: no $what found; the look-up in $0 no longer fits its form"
        bad=1
        return
    fi
    while read -r name; do
        echo "$document: no line for $what \`$name\` of $code"
        bad=1
    done < <(comm -23 <(sort -u <<<"$rows") <(sort -u <<<"$lines"))
    while read -r name; do
        [ -z "$name" ] && continue
        echo "$document: a line for $what \`$name\`, which $code does not have"
        bad=1
    done < <(comm -13 <(sort -u <<<"$rows") <(sort -u <<<"$lines"))
}

# Names in the first column of the tables of a document, as in: | `name` | ... |
first_column() { sed -nE 's/^\| *`([^`]+)` *\|.*/\1/p' "$1"; }

rows=$(sed -nE 's/^GW_ERR\(([A-Z_]+),.*/\L\1/p' protocol/base/err.def)
compare error docs/errors.md protocol/base/err.def "$rows" "$(first_column docs/errors.md)"
# Numbers, status and exit code in the document are those of the table.
while read -r name wire http exit_code; do
    grep -qE "^\| \`$name\` \| $wire \| $http \| $exit_code \|" docs/errors.md && continue
    echo "docs/errors.md: the line of \`$name\` does not begin with | \`$name\` | $wire | $http | $exit_code |"
    bad=1
done < <(sed -nE 's/^GW_ERR\(([A-Z_]+), ([0-9]+), ([0-9]+), ([0-9]+),.*/\L\1 \2 \3 \4/p' protocol/base/err.def)

# PROTOCOL.md lists each kind with its number, | HELLO | 2 | control |, and says elsewhere what it means.
rows=$(sed -nE 's/^FRAME_KIND\(([A-Z_]+), ([0-9]+), ([A-Z]+),.*/\1 \2 \L\3/p' protocol/kinds.def)
lines=$(sed -nE 's/^\| ([A-Z_]+) \| ([0-9]+) \| ([a-z]+) \|$/\1 \2 \3/p' protocol/PROTOCOL.md)
compare 'frame kind' protocol/PROTOCOL.md protocol/kinds.def "$rows" "$lines"
while read -r name _; do
    grep -vE '^\|' protocol/PROTOCOL.md | grep -qw "$name" && continue
    echo "protocol/PROTOCOL.md: says nowhere what the kind $name means"
    bad=1
done <<<"$rows"

rows=$(sed -nE 's/^    \{"([a-z_.]+)", ("[A-Z]+ \/|NULL).*/\1/p' host/core/ops.c)
compare operation docs/operations.md host/core/ops.c "$rows" "$(first_column docs/operations.md)"

# Kinds of events: their table, its document, and every place where one is written.
rows=$(sed -nE 's/^EVENT_KIND\("([a-z.]+)".*/\1/p' host/core/events.def)
compare 'event kind' docs/events.md host/core/events.def "$rows" "$(first_column docs/events.md)"
written=$(grep -hE '\.kind = |^ +: .*"(message|hook)\.' host/core/*.c | grep -oE '"[a-z]+\.[a-z]+"' | tr -d '"')
compare 'event kind' 'host/core/*.c' host/core/events.def "$rows" "$written"

# Branches that tests have to reach: their table, and the places that count them.
rows=$(sed -nE 's/^REACH_POINT\(([A-Z_]+), .*/\1/p' host/core/reach.def)
used=$(grep -ohE '\bREACH(_IF)?\([^;]*\);' host/core/*.c | sed -nE 's/.*[( ]([A-Z_]+)\);$/\1/p')
compare 'branch' 'host/core/*.c' host/core/reach.def "$rows" "$used"

# Metrics with their kind: | `godwit_links_up` | gauge | ... |
rows=$(sed -nE 's/^    \{"(godwit_[a-z_]+)", (COUNTER|GAUGE|HISTOGRAM),.*/\1 \L\2/p' host/core/metrics.c)
lines=$(sed -nE 's/^\| `([a-z_]+)` \| ([a-z]+) \|.*/\1 \2/p' docs/metrics.md)
compare metric docs/metrics.md host/core/metrics.c "$rows" "$lines"

rows=$(sed -nE 's/^SETTING\([A-Z]+, ([a-z_]+),.*/\1/p' host/settings.def)
compare setting docs/settings.md host/settings.def "$rows" "$(first_column docs/settings.md)"

rows=$(sed -nE 's/^ *TABLE_([A-Z]+),.*/\L\1/p' persistence/store.h)
compare 'store table' docs/store.md persistence/store.h "$rows" \
    "$(first_column docs/store.md)"

# Schema steps by their text: | 1 | `first layout` | ... |
rows=$(sed -nE '/^static const struct schema_step steps/,/^\};/s/^    \{"([^"]+)".*/\1/p' persistence/schema.c)
lines=$(sed -nE 's/^\| [0-9]+ \| `([^`]+)` \|.*/\1/p' docs/store.md)
compare 'schema step' docs/store.md persistence/schema.c "$rows" "$lines"

# Commands, by name as typed: rows of the command line's table, and those that host/main.c adds.
rows=$(sed -nE '/^const struct cli_command commands/,/^\};/s/^    COMMAND\("([a-z -]+)", .*/\1/p' clients/cli/commands.c
    tr '\n' ' ' <host/main.c | sed 's/},/},\n/g' | grep -v 'hidden = true' |
        sed -nE 's/.*\{ *\.name = "([a-z -]+)".*/\1/p')
compare command docs/cli.md 'clients/cli/commands.c' "$rows" "$(first_column docs/cli.md)"

# Each maximum says why it is there.
while IFS=: read -r line text; do
    echo "protocol/limits.h:$line: no reason beside $(sed -E 's/^#define ([A-Z_]+).*/\1/' <<<"$text")"
    bad=1
done < <(grep -nE '^#define LIMIT_' protocol/limits.h | grep -v '/\*')
exit $bad
