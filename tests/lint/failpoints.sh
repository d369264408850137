#!/bin/bash
# Every point at which the host writes a transaction has a row in persistence/points.def, is named in one
# place of the sources, has its line in docs/failpoints.md and its case in tests/failpoints/table.def. The
# compiler sees to the first: node_commit takes a row.
# shellcheck disable=SC2016 # the backticks are those of the documents
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0
fault() {
    echo "$1"
    bad=1
}

points=persistence/points.def
table=tests/failpoints/table.def
doc=docs/failpoints.md
rows=$(sed -nE 's/^(COMMIT_POINT|FAIL_PLACE)\(([A-Z_]+), "([a-z._]+)",.*/\1 \2 \3/p' "$points")
[ -n "$rows" ] || fault "$points: no rows found; the look-up in $0 no longer fits its form"

while read -r kind name text; do
    [ "$kind" = COMMIT_POINT ] && prefix=POINT_ || prefix=PLACE_
    uses=$(grep -rowE --include='*.c' "$prefix$name" host persistence | wc -l)
    [ "$uses" -eq 1 ] || fault "$points: $prefix$name stands in $uses places of the sources, not in one"
    grep -qE "^(ROW|ELSEWHERE)\(\"$text\"" "$table" || fault "$table: no row for \"$text\" of $points"
    grep -qE "^\| \`$text\` \|" "$doc" || fault "$doc: no line for \`$text\` of $points"
done <<<"$rows"
while read -r text; do
    grep -qF "\"$text\"" "$points" || fault "$doc: a line for \`$text\`, which $points does not have"
done < <(sed -nE 's/^\| `([a-z._]+)` \|.*/\1/p' "$doc")

# No transaction past the one door, and failpoints are passed below the core only.
while IFS= read -r hit; do
    fault "$hit: a transaction past node_commit"
done < <(grep -rnE --include='*.c' 'env->commit\(' host/core | grep -v '^host/core/node\.c:')
while IFS= read -r hit; do
    fault "$hit: the core does not know of failpoints, only of points"
done < <(grep -rnE --include='*.[ch]' 'failpoint_|PLACE_[A-Z]|persistence/failpoint' host/core)

# What takes longer than a test, or a clock that is set, names a test that is there.
while IFS=: read -r line text; do
    file=$(sed -E 's/.*, "([^"]+)"\).*/\1/' <<<"$text")
    [ -e "$file" ] || fault "$table:$line: there is no \"$file\""
done < <(grep -nE '^ELSEWHERE\(' "$table")
exit $bad
