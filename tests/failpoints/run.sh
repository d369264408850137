#!/bin/bash
# The table of failpoints on the hosts of this build, or of that with SAN=...: tests/failpoints/run.sh
# [OPTION...], see main.c.
set -u
cd "$(dirname "$0")/../.." || exit 1
built=$PWD/build/plain godwit=$PWD/build/godwit
if [ -n "${SAN:-}" ]; then
    built=$PWD/build/san-${SAN//,/-} godwit=$PWD/build/san-${SAN//,/-}/godwit
fi
exec "$built/tests/failpoints/driver" --godwit "$godwit" --plugin "$built/tests/plugins/subject.so" \
    --newer "$built/tests/plugins/subject_v2.so" "$@"
