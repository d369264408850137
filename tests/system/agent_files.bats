# Folders and artifacts of agents.
load helpers

plugin() { echo "$built/tests/plugins/stow.so"; }

setup() { system_setup; }
teardown() { system_teardown; }

home_of() { echo "$GODWIT_HOME/hosts/$1"; }
work_of() { echo "$GODWIT_HOME/hosts/$1/work"; }
no_folder() { [ ! -e "$(work_of "$1")/agents/$2" ] && [ -z "$(ls -A "$(work_of "$1")/trash")" ]; }

@test "a work folder is there from its first use until the agent ends, over kills and restarts" {
    start_host alpha --plugin "$(plugin)"
    id=$(field .agent create stow)
    [ ! -e "$(work_of alpha)/agents/$id" ]
    path=$(field .reply.path send "$id" save name=notes kib=3)
    equal "$path" "$(work_of alpha)/agents/$id"
    equal "$(stat -c %s "$path/notes")" 3072
    kill_host alpha
    mkdir "$(work_of alpha)/agents/0000000000000000000000BYAA" # of an agent that nobody knows
    restart_host alpha --plugin "$(plugin)"
    wait_until 10 no_folder alpha 0000000000000000000000BYAA
    equal "$(field .reply.there send "$id" list name=notes)" true
    gw deactivate "$id" >/dev/null
    equal "$(field .reply.there send "$id" list name=notes)" true
    gw dispose "$id" >/dev/null
    wait_until 10 no_folder alpha "$id"
}

@test "storage belongs to the type: it stays when the agent goes, and the next one finds it" {
    start_host alpha --plugin "$(plugin)"
    first=$(field .agent create stow)
    path=$(field .reply.path send "$first" save name=common storage=true)
    equal "$path" "$(home_of alpha)/storage/stow"
    gw dispose "$first" >/dev/null
    kill_host alpha
    restart_host alpha --plugin "$(plugin)"
    equal "$(field .reply.there send "$(field .agent create stow)" list name=common storage=true)" true
}

@test "a folder over its quota is refused until less is in it, with an event" {
    start_host alpha --plugin "$(plugin)" --work-quota 256K --storage-quota 128K
    id=$(field .agent create stow)
    gw send "$id" save name=some kib=8
    gw send "$id" save name=much kib=512
    over() { [ "$(field '.kind' events --kind agent.quota --agent "$id" | head -n 1)" = agent.quota ]; }
    wait_until 15 over
    run gw send "$id" list name=some
    equal "$status" 1
    contains "$output" "its quota is 262144 bytes"
    contains "$output" too_big
    [ "$(field .reply.bytes send "$id" look)" -gt 524288 ]
    gw send "$id" drop name=much
    equal "$(field .reply.there send "$id" list name=some)" true
    gw send "$id" save name=much kib=512 storage=true
    [ "$(field .reply.bytes send "$id" look storage=true)" -ge 524288 ]
    run gw send "$id" list name=much storage=true
    equal "$status" 1
    equal "$(field .reply.there send "$id" list name=some)" true
}

@test "only handlers may ask for folders" {
    start_host alpha --plugin "$(plugin)"
    run curl -sS --unix-socket "$(home_of alpha)/api.sock" -X POST http://x/v1/folder
    contains "$output" not_found
}
