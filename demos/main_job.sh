#!/bin/bash
# The main job, end to end, on this machine: three hosts form a mesh, an agent surveys their disks, a
# counter moves and is cloned, a host is killed in the middle of moves and nothing is lost or doubled.
# Everything stands in a temporary folder that is removed at the end. Exit code 1 on any mismatch.
set -u
cd "$(dirname "$0")/.." || exit 1

godwit=${GODWIT:-$PWD/build/godwit}
place=${DEMO_PATH:-/usr} # what the survey measures
count=${DEMO_AGENTS:-80} # agents on the way when the host is killed
work=$(mktemp -d "${TMPDIR:-/tmp}/godwit-demo-XXXXXX")
export GODWIT_HOME=$work/home
unset GODWIT_HOST GODWIT_JOIN_TOKEN
declare -A pid url

# --- telling ---

bold='' dim='' green='' red='' plain=''
if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi
began=$(date +%s%N)
seconds() { printf '%d.%d' $((($(date +%s%N) - began) / 1000000000)) $((($(date +%s%N) - began) / 100000000 % 10)); }
title() { printf '\n%s%d. %s%s  %s[%s s]%s\n' "$bold" $((++steps)) "$1" "$plain" "$dim" "$(seconds)" "$plain"; }
tell() { printf '   %s\n' "$1"; }
good() { printf '   %s✓%s %s\n' "$green" "$plain" "$1"; }
steps=0

fail() {
    printf '\n   %s✗ %s%s\n' "$red" "$1" "$plain" >&2
    for name in alpha beta gamma; do
        log=$GODWIT_HOME/hosts/$name/log
        [ -s "$log" ] && printf '   the end of the log of %s:\n' "$name" >&2 && tail -n 12 "$log" >&2
    done
    exit 1
}

# Show a command as one would type it, run it, show what it printed.
show() {
    printf '   %s$ godwit %s%s\n' "$dim" "$*" "$plain"
    "$godwit" "$@" 2>&1 | sed 's/^/     /'
    [ "${PIPESTATUS[0]}" -eq 0 ] || fail "godwit $* ended with an error"
}

# Run a command for its JSON; $1 is what to take of it (jq).
ask() {
    local what=$1 out
    shift
    out=$("$godwit" --json "$@" 2>"$work/err") || fail "godwit $*: $(cat "$work/err")"
    jq -r "$what" <<<"$out"
}

same() { # WHAT WANTED GOT
    [ "$2" = "$3" ] || fail "$1: expected $2, got $3"
}

# --- processes: only those that were started here, by their id ---

# The program may have been built anew while its hosts run.
ours() { [ -n "${1:-}" ] && [[ "$(readlink "/proc/$1/exe")" == "$godwit"?(" (deleted)") ]]; }

start() { # NAME OPTION...
    local name=$1 ready
    shift
    ready=$("$godwit" host --name "$name" --detach --json "$@") || fail "host $name did not start"
    pid[$name]=$(jq -r .pid <<<"$ready")
    url[$name]=$(jq -r .url <<<"$ready")
    tell "$name serves at ${url[$name]}, process ${pid[$name]}"
}

gone() { # PID: wait up to 5 s for its end (some inits are slow to bury the dead)
    for _ in {1..250}; do
        [ -e "/proc/$1" ] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null || return 0
        sleep 0.02
    done
    return 1
}

finish() {
    local code=$?
    trap - EXIT INT TERM
    for each in "${pid[@]}"; do
        if ours "$each"; then kill -9 "$each" && gone "$each"; fi
    done
    wait
    rm -rf "$work"
    exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

# Wait until a condition holds: SECONDS WHAT COMMAND...
until_true() {
    local limit=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $limit ] || fail "waited in vain: $what"
        sleep 0.05
    done
}
alive_is() { [ "$("$godwit" --json -H "$1" hosts | jq '[.hosts[] | select(.state == "alive")] | length')" = "$2" ]; }
no_moves() { [ "$("$godwit" --json -H alpha moves --all 2>/dev/null | jq '.moves | length')" = 0 ]; }

printf '%sGodwit: agents that move between hosts, exactly once%s\n' "$bold" "$plain"
tell "everything of this demo stands in $work"

title 'Three hosts form a mesh over mutual TLS'
start alpha --listen 127.0.0.1:0 --tag disk --tag lab
start beta --listen 127.0.0.1:0 --tag disk --peer "${url[alpha]}"
start gamma --listen 127.0.0.1:0 --tag lab --peer "${url[alpha]}"
for name in alpha beta gamma; do
    until_true 10 "three live hosts, as $name sees them" alive_is "$name" 3
done
show -H alpha hosts
good 'one --peer was enough: beta and gamma know each other through alpha'

title 'A survey travels to each host, measures its disks there, and brings the result home'
survey=$(ask .agent -H alpha create survey) || exit 1
show -H alpha send "$survey" start 'hosts:=["alpha","beta","gamma"]' "path=$place" top=3
survey_done() { [ "$("$godwit" --json -H alpha show "$survey" | jq -r '.host + " " + (.state.done | tostring)')" = 'alpha true' ]; }
until_true 25 'the survey to come home' survey_done
ask .reply -H alpha send "$survey" report >"$work/report"
tell ''
printf '   %-7s %-26s %10s %10s   %-30s %10s\n' HOST 'FILE SYSTEM' SIZE USED "LARGEST BELOW $place" SIZE
jq -r 'def mib: . / 1048576 | floor | tostring + " M";
    .hosts[] | . as $h | range([(.filesystems | length), (.directories | length), 1] | max) | . as $i |
    [(if $i == 0 then $h.host else " " end), $h.filesystems[$i].mount // " ", ($h.filesystems[$i].total // null | if . then mib else " " end),
     ($h.filesystems[$i].used // null | if . then mib else " " end), $h.directories[$i].path // " ",
     ($h.directories[$i].bytes // null | if . then mib else " " end)] | join("\t")' "$work/report" |
    while IFS=$'\t' read -r host mount total used path size; do
        printf '   %-7s %-26.26s %10s %10s   %-30.30s %10s\n' "$host" "$mount" "$total" "$used" "$path" "$size"
    done
tell ''
same 'hosts in the survey' 'alpha beta gamma' "$(jq -r '[.hosts[].host] | join(" ")' "$work/report")"
same 'errors of the survey' 0 "$(jq '.errors | length' "$work/report")"
jq -e '[.hosts[] | (.filesystems | length) > 0 and (.directories | length) > 0 and .entries > 0] | all' "$work/report" >/dev/null ||
    fail 'a host has no file system or no folder in the survey'
same 'epoch of the survey (each move adds one)' 4 "$(ask .epoch -H alpha show "$survey")"
good "agent ${survey: -6} made three moves and is back with $(jq '[.hosts[].entries] | add' "$work/report") entries looked at"

title 'A counter moves to beta; messages find it wherever it is'
counter=$(ask .agent -H alpha create counter --alias tally) || exit 1
same 'count at alpha' 5 "$(ask .reply.count -H alpha send "$counter" increment by=5)"
show -H alpha dispatch "$counter" beta
show -H alpha send "$counter" increment by=2
same 'count, asked through gamma' 8 "$(ask .reply.count -H gamma send "$counter" increment)"
same 'host and epoch' 'beta 2' "$(ask '.host + " " + (.epoch | tostring)' -H alpha show "$counter")"
good 'alpha was asked, beta answered: nobody had to be told'

title 'A clone starts with a copy of the state and goes its own way'
clone=$(ask .agent -H alpha clone "$counter" gamma) || exit 1
same 'count of the clone' 18 "$(ask .reply.count -H alpha send "$clone" increment by=10)"
same 'count of the first' 9 "$(ask .reply.count -H alpha send "$counter" increment)"
show -H alpha agents --all
good 'two agents, two ids, two counts'

title "kill -9 of beta while $count agents move to it"
movers=()
for ((i = 0; i < count; i++)); do
    agent=$(ask .agent -H alpha create counter) || exit 1
    same "count of mover $i" $((100 + i)) "$(ask .reply.count -H alpha send "$agent" increment "by=$((100 + i))")"
    movers+=("$agent")
done
tell "$count counters at alpha, counting 100 to $((99 + count))"

move() { # FROM TO AGENT...: one after the other; each says whether its move was answered
    local from=$1 to=$2 agent
    for agent in "${@:3}"; do
        if "$godwit" --json --timeout 20s -H "$from" dispatch "$agent" "$to" >/dev/null 2>&1; then
            echo "$agent" >>"$work/arrived"
        else
            echo "$agent" >>"$work/unsure"
        fi
    done
}
arrived() { [ "$(wc -l <"$work/arrived")" -ge "$1" ]; }

# Move the movers that are at FROM to TO, four at a time; kill beta on the way, start it again, and look
# that each is there once, counts what it counted, and is where an answer said.
storm() { # FROM TO
    local from=$1 to=$2 agents agent host i waiting=()
    mapfile -t agents < <(ask ".agents[] | select(.host == \"$from\" and .type == \"counter\") | .agent" \
        -H alpha agents --all --limit 1000 | grep -Fx -f <(printf '%s\n' "${movers[@]}"))
    : >"$work/arrived"
    : >"$work/unsure"
    for i in 0 1 2 3; do
        move "$from" "$to" "${agents[@]:i * ${#agents[@]} / 4:(i + 1) * ${#agents[@]} / 4 - i * ${#agents[@]} / 4}" &
        waiting+=($!)
    done
    until_true 20 'a quarter of the moves' arrived $((${#agents[@]} / 4))
    kill -9 "${pid[beta]}"
    tell "beta is killed: of ${#agents[@]} moves from $from to $to $(wc -l <"$work/arrived") had been answered"
    gone "${pid[beta]}" || fail 'beta is still there'
    start beta --listen "${url[beta]#https://}" --tag disk --peer "${url[alpha]}"
    wait "${waiting[@]}"
    until_true 10 'three live hosts again' alive_is alpha 3
    until_true 20 'no move in doubt' no_moves
    good 'the hosts have settled every move by themselves: none is open, none in doubt'

    ask '.agents[] | .agent + " " + .host' -H alpha agents --all --limit 1000 >"$work/all" || exit 1
    local -A at=([alpha]=0 [beta]=0 [gamma]=0)
    for ((i = 0; i < count; i++)); do
        agent=${movers[i]}
        same "copies of $agent" 1 "$(grep -c "^$agent " "$work/all")"
        same "count of $agent" $((100 + i)) "$(ask .state.count -H gamma show "$agent")"
        host=$(sed -n "s/^$agent //p" "$work/all")
        at[$host]=$((at[$host] + 1))
    done
    while read -r agent; do
        grep -q "^$agent $to$" "$work/all" || fail "the move of $agent was answered, but it is not at $to"
    done <"$work/arrived"
    good "all $count are there exactly once with the right count: ${at[alpha]} at alpha, ${at[beta]} at beta, ${at[gamma]} at gamma"
}
storm alpha beta

title 'kill -9 of beta while they move away from it'
storm beta gamma

title 'Clean stop, and back again'
for name in gamma beta alpha; do
    "$godwit" stop "$name" >/dev/null || fail "godwit stop $name"
    gone "${pid[$name]}" || fail "$name did not end"
done
tell 'three hosts have stopped'
start alpha --listen "${url[alpha]#https://}" --tag disk --tag lab
start beta --listen "${url[beta]#https://}" --tag disk --peer "${url[alpha]}"
start gamma --listen "${url[gamma]#https://}" --tag lab --peer "${url[alpha]}"
until_true 10 'three live hosts' alive_is alpha 3
same 'agents after the restart' "$(wc -l <"$work/all")" "$(ask '.agents | length' -H alpha agents --all --limit 1000)"
same 'count of the first counter' 10 "$(ask .reply.count -H gamma send "$counter" increment)"
good "all $(wc -l <"$work/all") agents are back, and the counter counts on"
for name in gamma beta alpha; do
    "$godwit" stop "$name" >/dev/null || fail "godwit stop $name"
    gone "${pid[$name]}" || fail "$name did not end"
done

printf '\n%sdone in %s s: nothing lost, nothing doubled%s\n' "$bold" "$(seconds)" "$plain"
