#!/bin/bash
# Every source is as clang-format 14 leaves it (`make format`).
set -u
cd "$(dirname "$0")/../.." || exit 1
find protocol persistence agents host clients demos tests -name '*.[ch]' -print0 |
    xargs -0 clang-format-14 --dry-run -Werror 2>&1 | grep -E 'error:' | cut -d: -f1 | uniq -c |
    awk '{ print $2 ": " $1 " places differ; make format"; bad = 1 } END { exit bad }'
