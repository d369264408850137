#!/bin/bash
# The text of the tree speaks of Godwit, as its reader finds it: nothing left undone without a place in
# README's status, no path of somebody's machine, no document that is not here.
set -u
cd "$(dirname "$0")/../.." || exit 1
words='\bTODO\b|\bFIXME\b|\bXXX\b|\bHACK\b|/wor[k]/|\bissue #?[0-9]|\bthe brief\b|\bthe lead\b'
words+='|\bdesign (section )?[0-9]|shared/(design|style|reference)|\bnot implemented yet\b|\bAI[- ]generated\b'
files=$(git ls-files -co --exclude-standard 2>/dev/null) ||
    files=$(find . -path ./build -prune -o -path ./.git -prune -o -type f -printf '%P\n')
hits=$(grep -vE '^tests/(lint/words.sh|fuzz/corpus/)' <<<"$files" | tr '\n' '\0' |
    xargs -0 grep -nIE "$words" 2>/dev/null)
[ -z "$hits" ] && exit 0
echo "$hits"
exit 1
