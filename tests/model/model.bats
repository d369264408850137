#!/usr/bin/env bats
# The two models, checked whole by spin; and each rule that they rest on, left out once: then spin has to
# find the fault. By hand: cd $(mktemp -d) && spin -a FILE && cc -O2 -DSAFETY -o pan pan.c && ./pan -E

bats_require_minimum_version 1.5.0

models=$BATS_TEST_DIRNAME

setup() {
    cd "$BATS_TEST_TMPDIR" || return
    command -v spin >/dev/null || skip "spin is not installed"
}

# check OPTIMISE MODEL [-D...]: what the checker says
check() {
    local level=$1 model=$2
    shift 2
    spin -a "$@" "$models/$model.pml" >spin.log || { cat spin.log; return 1; }
    gcc "-O$level" -DSAFETY -DCOLLAPSE -DVECTORSZ=1024 -w -o pan pan.c
    ./pan -E -n -m200000 >pan.log
    cat pan.log
}

holds() {
    check 2 "$@"
    grep -q 'errors: 0$' pan.log
    ! grep -qE 'max search depth too small|error:|out of memory' pan.log
}

is_caught() {
    check 0 "$@"
    grep -q 'assertion violated' pan.log
    grep -q 'errors: 1$' pan.log
}

@test "handoff: three moves, a crash, a loss, a roll-back anywhere" {
    holds handoff -DMOVES=3 -DCRASHES=1 -DLOSSES=1 -DROLLBACKS=1
}

@test "handoff: two moves, three crashes, two losses" {
    holds handoff -DMOVES=2 -DCRASHES=3 -DLOSSES=2 -DROLLBACKS=1
}

@test "handoff: a destination that forgets what it staged costs no agent" {
    holds handoff -DMOVES=2 -DRESTORED
}

@test "handoff without H1 (match the ticket, not the agent) is caught" {
    is_caught handoff -DMOVES=2 -DBREAK_H1
}

@test "handoff without H2 (the fence before staging) is caught" {
    is_caught handoff -DMOVES=2 -DBREAK_H2
}

@test "handoff without H3 (no abort while the commit is written) is caught" {
    is_caught handoff -DMOVES=2 -DBREAK_H3
}

@test "handoff without H5 (unknown is not committed) is caught" {
    is_caught handoff -DMOVES=2 -DRESTORED -DBREAK_H5
}

@test "stream: three messages to an agent that moves twice, two crashes, two losses" {
    holds stream
}

@test "stream without H6 (a parked message is not acknowledged) is caught" {
    is_caught stream -DBREAK_H6
}

@test "stream that acknowledges before the row is on disk is caught" {
    is_caught stream -DBREAK_I5
}

@test "stream whose marks do not travel is caught" {
    is_caught stream -DBREAK_MARK
}
