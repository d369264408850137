#!/bin/bash
# Calls that were wrong too often: unbounded, not reentrant, or answers that hide an error.
set -u
cd "$(dirname "$0")/../.." || exit 1
bad=0
forbid() {
    local what=$1 why=$2
    shift 2
    while IFS= read -r hit; do
        echo "$hit"
        echo "    $why"
        bad=1
    done < <(grep -rnE --include='*.[ch]' "$@" -- "$what" protocol persistence agents host clients demos \
        | grep -vE '^[^:]+:[0-9]+: *(/\*|\*)')
}
forbid '(^|[^a-zA-Z0-9_>.])(strcpy|strcat|sprintf|vsprintf|gets|stpcpy) *\(' 'no bound: snprintf, buf_add'
forbid '(^|[^a-zA-Z0-9_>.])(strtok|asctime|ctime|gmtime|localtime|strerror_r|tmpnam|mktemp) *\(' 'not reentrant, or unsafe'
forbid '(^|[^a-zA-Z0-9_>.])(system|popen) *\(' 'a shell: posix_spawn with an argv'
forbid '(^|[^a-zA-Z0-9_>.])(atoi|atol|atoll|atof|scanf|sscanf|fscanf) *\(' 'hides errors: text_int, text_uint'
forbid '(^|[^a-zA-Z0-9_>.])(rand|random|srand|drand48) *\(' 'not random: gw_env or randombytes_buf'
forbid '(^|[^a-zA-Z0-9_>.])alloca *\(' 'a peer could choose the size'
forbid '(^|[^a-zA-Z0-9_>.])assert *\(' 'goes away with NDEBUG: gw_assert'
# fork from a grown host is slow: only what runs before any thread or library does it, and a command
# whose children have to end with it (PR_SET_PDEATHSIG).
while IFS= read -r hit; do
    echo "$hit"
    echo "    fork copies a grown host: posix_spawn"
    bad=1
done < <(grep -rnE --include='*.c' '(^|[^a-zA-Z0-9_>.])v?fork *\(' protocol persistence agents host clients \
    | grep -vE '^(host/(detach|spawner)|clients/cli/selftest_mesh)\.c:')
# Macros that return stand in one place only.
while IFS= read -r hit; do
    echo "$hit"
    echo "    GW_TRY is the only macro that returns"
    bad=1
done < <(grep -rnE --include='*.[ch]' '^#define.*\breturn\b' protocol persistence agents host clients | grep -v GW_TRY)
exit $bad
