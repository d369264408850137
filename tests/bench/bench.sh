#!/bin/sh
# Run the bench with what the build has made. CASE=name runs one case only.
set -eu
PATH=$PATH:/usr/sbin # nginx
exec build/bench build/godwit build/plain/tests/plugins ${CASE:+"$CASE"}
