#!/bin/bash
# Run test programs of the cover variant and print, per source file, the lines that they reached.
#   tools/cover.sh build/cover PROGRAM...
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1
shift
find "$build" -name '*.gcda' -delete
for program in "$@"; do
    timeout 300 "$program" >/dev/null 2>&1 || echo "failed: $program" >&2
done
find "$build" -name '*.gcda' ! -path '*/tests/*' -print0 |
    xargs -0 gcov --no-output --relative-only 2>/dev/null |
    awk -F"'" '/^File / { file = $2 }
        /^Lines executed:/ && file ~ /\.c$/ {
            split($0, part, /[:% ]+/); percent = part[3]; lines = part[5]
            if (!(file in most) || percent > most[file]) { most[file] = percent; size[file] = lines }
            file = ""
        }
        END {
            for (f in most) { printf "%6.1f %%  %5d  %s\n", most[f], size[f], f; reached += most[f] * size[f]; all += size[f] }
            if (all) printf "%6.1f %%  %5d  together\n", reached / all, all
        }' | sort -k4
