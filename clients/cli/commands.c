/* The rows of the command line. A new command is a row here, its work in a cmd_*.c file, and its
 * line and section in docs/cli.md (`make check` looks). Help is broken at 80 columns. */
#include "clients/cli/commands.h"

#include "clients/cli/help.h"

#define KEY_HELP                                                                                   \
    "Each call carries a request key; repeated under the same key it is applied\n"                 \
    "once. A lost connection is made again under the key by itself; --op-key\n"                    \
    "gives your own."
#define DRY_HELP                                                                                   \
    "With --dry-run nothing changes; exit code 6 when it would not be done.\n"                     \
    "JSON then: agent, host, epoch, dry_run, possible, code, reason.\n\n"
#define FILES_HELP                                                                                 \
    "A path is absolute, or relative to the first root of its host, the home folder\n"             \
    "as a rule; it has to be below a root. As with cp, sources go into the last path\n"            \
    "when that ends in / or is a folder, else it is the new name; a source that ends\n"            \
    "in / means what is in it. What is there and the same is not sent; what is there\n"            \
    "and differs stays, unless --overwrite or --update. After an interruption the\n"               \
    "same command goes on where it was. Exit code 1 when some could not be copied.\n"              \
    "JSON: bytes, sent_bytes, saved_bytes, seconds, hash, files, failed, from, to,\n"              \
    "errors[{path, code, reason}].\n\n"
#define COMMAND(...)                                                                               \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

const struct cli_command commands[] = {
    /* -- hosts -- */
    COMMAND("stop", "[HOST]", "stop a host in good order and wait until it is gone", NULL, stop_run,
            "Agents stay on disk and are back when the host starts again. --timeout\n"
            "bounds the waiting (60s).\n"
            "JSON: name, host_id, pid, stopped."),
    COMMAND("status", "", "identity, uptime and counts of a host", NULL, status_run,
            "JSON: name, host_id, url, version, agents{active, inactive}, links, …"),
    COMMAND("metrics", "", "counts and latencies of a host as Prometheus text", NULL, metrics_run,
            "What each line means stands in docs/metrics.md; Prometheus reads the same from\n"
            "GET /v1/metrics.\n"
            "JSON: text."),
    COMMAND("hosts", "", "the members of the mesh", NULL, hosts_run,
            "JSON: hosts[{name, host_id, url, state, tags, properties, self}]."),
    COMMAND("types", "[NAME]", "agent types with versions, fields and methods", NULL, types_run,
            "Without NAME a table; with NAME the fields of its state and the signatures\n"
            "of its methods.\n"
            "JSON: types[{name, version, fields, methods, …}]."),
    /* -- agents -- */
    COMMAND("create", "TYPE [KEY=VALUE]...", "make an agent with an initial state", create_options,
            create_run,
            "Fields are given as key=value, typed by the fields of the type, or as\n"
            "key:=JSON. Prints the id of the new agent.\n"
            "JSON: agent, type, host, epoch.\n\n" KEY_HELP "\n\n"
            "example: godwit create counter count=5 --alias visits"),
    COMMAND("agents", "", "list agents, here or on all hosts", agents_options, agents_run,
            "JSON: agents[{agent, type, host, status, epoch, alias}], next (null on the\n"
            "last page)."),
    COMMAND("show", "AGENT", "one agent: place, status, state, mailbox", NULL, show_run,
            "JSON: agent, type, host, home, epoch, status, state, mailbox{queued}, files,\n"
            "timers, …"),
    COMMAND("send", "AGENT METHOD [KEY=VALUE]...", "send a message and print the reply",
            send_options, send_run,
            "Arguments are given as key=value, typed by the signature of the method, or\n"
            "as key:=JSON. The agent is found wherever it lives.\n"
            "JSON: reply, host, epoch.\n\n" KEY_HELP "\n\n"
            "example: godwit send visits increment by=5"),
    COMMAND("publish", "TOPIC [KEY=VALUE]...", "tell all subscribers of a topic", publish_options,
            publish_run,
            "Each subscriber gets it once, as a message; done when that is safe on the host\n"
            "that is asked.\n"
            "JSON: topic, subscribers."),
    COMMAND("topics", "[TOPIC]", "topics and their subscribers, as a host knows them", NULL,
            topics_run,
            "JSON: topics[{topic, subscribers, here}]; of one also agents[{agent, scope,\n"
            "here}]."),
    COMMAND("dispatch", "AGENT SELECTOR", "move an agent to another host", dispatch_options,
            dispatch_run,
            "SELECTOR: a name, URL or id of a host, any, or terms like\n"
            "tag:gpu,!tag:laptop. Done when the agent is active there.\n"
            "JSON: agent, host, epoch, ticket.\n\n" DRY_HELP KEY_HELP),
    COMMAND("retract", "AGENT [SELECTOR]", "bring an agent back, to the host that is asked",
            dispatch_options, retract_run,
            "Like dispatch from wherever it is; its hook on_retract runs in place of\n"
            "on_arrive, if it has one. With SELECTOR to that host instead.\n"
            "JSON: agent, host, epoch, ticket.\n\n" DRY_HELP KEY_HELP),
    COMMAND("clone", "AGENT [SELECTOR]", "copy an agent under a new id, here or there",
            clone_options, clone_run,
            "Prints the id of the copy.\n"
            "JSON: agent (the new one), of, type, host, epoch.\n\n" DRY_HELP KEY_HELP),
    COMMAND("itinerary", "AGENT [[METHOD@]SELECTOR]...", "send an agent round hosts",
            itinerary_options, itinerary_run,
            "At each stop the method runs once, with the arguments of --arg; its reply is\n"
            "kept. Then the agent goes home. It goes on by itself, also when this command\n"
            "or a host has ended. Without stops: how far it is, and the replies so far.\n"
            "New stops take the place of those that are left.\n"
            "JSON: agent, host, epoch, itinerary{state, at, stops[{to, method, policy, state,\n"
            "host, at, reply, code, text}]}.\n\n"
            "example: godwit itinerary tour look@beta look@tag:lab --wait"),
    COMMAND("drain", "[HOST]", "move all agents of a host away", drain_options, drain_run,
            "Sleeping agents move without waking. Agents that cannot go stay and are named\n"
            "with the reason: exit code 6. Ctrl-C ends it after the moves that have begun;\n"
            "again goes on with the rest. The host is not closed: what is created there or\n"
            "arrives afterwards stays.\n"
            "JSON: moved, total, stayed[{agent, type, code, reason}]."),
    COMMAND("deactivate", "AGENT", "put an agent to sleep on disk", deactivate_options,
            deactivate_run,
            "It wakes on the next message, or by activate.\n"
            "JSON: agent, status, host, epoch."),
    COMMAND("activate", "AGENT", "wake a sleeping agent", NULL, activate_run,
            "JSON: agent, status, host, epoch."),
    COMMAND("dispose", "AGENT", "end an agent for ever", NULL, dispose_run,
            "JSON: agent, status, host, epoch."),
    COMMAND("kill", "AGENT", "end a handler that does not end by itself", NULL, kill_run,
            "Ends the runner with it: the agent goes on from its last commit, and so does\n"
            "what other agents of that plugin were doing. The caller of the handler is told\n"
            "\"crashed\"; a one-way message becomes a dead letter, a hook counts as run.\n"
            "`show` and `events` say which handler runs long.\n"
            "JSON: agent, host, method, ms."),
    /* -- files -- */
    COMMAND("files push", "SOURCE... SELECTOR:PATH", "copy files from here to another host",
            files_copy_options, files_push_run,
            "From the host that is asked, on this machine as a rule.\n" FILES_HELP
            "example: godwit files push -r results/ beta:~/results"),
    COMMAND("files pull", "SELECTOR:SOURCE... PATH", "copy files from another host to here",
            files_copy_options, files_pull_run,
            "The host expands patterns, so quote them.\n" FILES_HELP
            "example: godwit files pull 'beta:/var/log/*.log' logs/"),
    COMMAND("files copy", "SELECTOR:SOURCE... SELECTOR:PATH", "copy files between two hosts",
            files_copy_options, files_copy_run,
            "Straight from the one to the other, whichever host is asked. All sources are\n"
            "of one host.\n" FILES_HELP "example: godwit files copy alpha:/data/a.iso tag:gpu:~/"),
    COMMAND("files ls", "SELECTOR:PATH", "what is in a folder of a host", files_ls_options,
            files_ls_run,
            "The last part of PATH may be a pattern. JSON: host, path, entries[{name, type\n"
            "(file, folder, link, other), size, mode, mtime, target}]."),
    /* -- artifacts -- */
    COMMAND("artifacts put", "FILE", "keep the content of a file on a host", artifacts_put_options,
            artifacts_put_run,
            "FILE - is standard input. Prints the id of the artifact. What is there already,\n"
            "in whatever artifact, takes no further room. When the host is lost the command\n"
            "goes on once it is back (--timeout); after Ctrl-C the same command goes on where\n"
            "it was.\n"
            "JSON: artifact, name, type, size, hash, owner, created, expires, sent_bytes,\n"
            "seconds.\n\n"
            "example: godwit artifacts put model.bin --ttl 7d"),
    COMMAND("artifacts get", "ARTIFACT [FILE]", "write the content of an artifact to a file",
            artifacts_get_options, artifacts_get_run,
            "ARTIFACT is an id, or the SHA-256 of the content; behind @ may stand the host\n"
            "that has it. What is not on the host that is asked, it gets first, from\n"
            "whichever hosts have it. FILE - is standard output, a folder means the name of\n"
            "the artifact in it, and so does no FILE. The file is there when it is whole and\n"
            "its hash is right; what an interrupted command has got, the same command uses.\n"
            "JSON: artifact, name, size, hash, file, sent_bytes, seconds."),
    COMMAND("artifacts ls", "", "list artifacts, oldest first", artifacts_ls_options,
            artifacts_ls_run,
            "JSON: artifacts[{artifact, name, type, size, hash, owner, created, expires}],\n"
            "next (null on the last page)."),
    COMMAND("artifacts info", "ARTIFACT", "one artifact: name, size, hash, end", NULL,
            artifacts_info_run, "JSON: artifact, name, type, size, hash, owner, created, expires."),
    COMMAND("artifacts rm", "ARTIFACT...", "remove artifacts, by their ids", NULL, artifacts_rm_run,
            "The room of what no other artifact has comes back within some minutes.\n"
            "JSON: removed[ids]."),
    COMMAND("artifacts verify", "[ARTIFACT]", "read what is stored and say what is damaged",
            artifacts_verify_options, artifacts_verify_run,
            "All chunks of the host, or those of one artifact (by its id with --repair-from).\n"
            "Exit code 1 when some are damaged and stay so. The same content put again mends\n"
            "them, too.\n"
            "JSON: chunks, bytes, damaged, damages[{chunk, bytes, what, artifacts}]; with\n"
            "--repair-from repaired, and no damages."),
    /* -- moves, events, logs -- */
    COMMAND("moves", "", "moves in flight or in doubt", moves_options, moves_run,
            "JSON: moves[{ticket, agent, epoch, from, to, phase, in_doubt, since}]."),
    COMMAND("moves resolve", "TICKET", "end a move whose other side is gone for ever",
            resolve_options, resolve_run,
            "Only for a side that will never come back: else two live copies could meet.\n"
            "At the source it takes the agent back; with --source-destroyed, at the\n"
            "destination, it activates it there.\n"
            "JSON: ticket, agent, epoch, status."),
    COMMAND("dead list", "", "messages that were given up, oldest first", dead_list_options,
            dead_list_run,
            "A one-way message that ends its runner three times becomes a dead letter of\n"
            "the host where it died.\n"
            "JSON: letters[{letter, time, agent, type, method, bytes, error}], next."),
    COMMAND("dead show", "LETTER", "one of them, with its arguments", NULL, dead_show_run,
            "JSON: letter, time, agent, type, method, bytes, error, sender, epoch, args."),
    COMMAND("dead replay", "LETTER", "send it to its agent again", NULL, dead_replay_run,
            "The agent is found wherever it lives now. Applied once, however often this is\n"
            "asked; when it ends its runner again it becomes a new letter.\n"
            "JSON: letter, agent, replayed."),
    COMMAND("dead drop", "LETTER", "forget it", NULL, dead_drop_run,
            "JSON: letter, agent, dropped."),
    COMMAND("events", "", "what happened, oldest first", events_options, events_run,
            "With --follow it goes on until Ctrl-C (exit code 130).\n"
            "JSON: one object a line: seq, time_ms, kind, and agent, type, ticket, peer,\n"
            "text where they apply."),
    COMMAND("logs", "[AGENT]", "lines that agents logged", logs_options, logs_run,
            "With --follow it goes on until Ctrl-C (exit code 130).\n"
            "JSON: one object a line: time_ms, agent, type, level, text."),
    /* -- trust -- */
    COMMAND("mesh token", "", "make a token with which a host joins the mesh", mesh_token_options,
            mesh_token_run,
            "Prints the token alone. On the other machine: godwit host --name NAME\n"
            "--join FILE, or --join - to read it from standard input.\n"
            "JSON: token, id, expires, uses."),
    COMMAND("mesh tokens", "", "list join tokens", NULL, mesh_tokens_run,
            "JSON: tokens[{token, uses, used, created, expires, tags, hosts}]."),
    COMMAND("mesh revoke", "TOKEN", "make a join token worthless", NULL, mesh_revoke_run,
            "TOKEN is the id that \"mesh tokens\" lists.\n"
            "JSON: id, revoked."),
    COMMAND("mesh status", "", "the mesh as it stands on this machine's disk", NULL,
            mesh_status_run,
            "No host needs to run.\n"
            "JSON: home, mesh_id, signer, ca_expires, operator_expires, hosts[{name,\n"
            "running, expires}]."),
    /* -- */
    COMMAND("selftest", "", "prove on this machine that nothing is lost", selftest_options,
            selftest_run,
            "Starts three hosts in a temporary home and lets agents travel, sleep and count\n"
            "while the hosts are killed and stopped at random moments. In the end each agent\n"
            "has to be there once, with exactly what was acknowledged; else exit code 1, and\n"
            "the hosts' files are kept.\n"
            "JSON: passed, seed, seconds, agents, moves, messages, kills, pauses, sleeps,\n"
            "faults."),
    COMMAND("help", "[COMMAND] [COMMAND]", "help on a command", help_options, help_run, NULL),
};
const size_t commands_count = sizeof commands / sizeof commands[0];
