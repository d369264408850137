/* The rows of the operation table. Results are maps; the keys that each row answers stand in
 * docs/operations.md (`make check` looks that every row has its line there). */
#include "host/core/op.h"

#include <stdlib.h>
#include <string.h>

#include "host/core/op_handlers.h"
#include "protocol/base/log.h"

const struct op ops_table[] = {
    /* -- the host -- */
    {"health", "GET /v1/health", ROLE_NONE, "health()", op_health, "whether the host serves"},
    {"status", "GET /v1/status", ROLE_VIEWER, "status()", op_status,
     "identity, uptime, counts, limits"},
    {"metrics", "GET /v1/metrics", ROLE_VIEWER, "metrics()", op_metrics,
     "counts and latencies as Prometheus text", .text = "text/plain; version=0.0.4"},
    {"stop", "POST /v1/stop", ROLE_ADMIN, "stop()", op_stop, "stop the host in good order"},
    {"hosts", "GET /v1/hosts", ROLE_VIEWER, "hosts()", op_hosts, "members of the mesh"},
    {"types", "GET /v1/types", ROLE_VIEWER, "types(name: string?)", op_types,
     "agent types with fields and methods"},
    /* -- agents -- */
    {"create", "POST /v1/agents", ROLE_OPERATOR,
     "create(type: string, state: {any}?, at: string?, alias: string?, parent: agent?, "
     "outlive: bool = false, key: string?, text: bool = false)",
     op_create, "make an agent with an initial state"},
    {"agents", "GET /v1/agents", ROLE_VIEWER,
     "agents(all: bool = false, type: string?, status: string?, limit: int[1..1000] = 100, "
     "after: string?, builtin: bool = false)",
     op_agents, "list agents, here or on all hosts"},
    {"show", "GET /v1/agents/{agent}", ROLE_VIEWER, "show(agent: string)", op_show,
     "one agent: place, status, state, mailbox"},
    {"send", "POST /v1/agents/{agent}/messages", ROLE_OPERATOR,
     "send(agent: string, method: string, args: any?, tell: bool = false, no_wake: bool = false, "
     "priority: int[0..9] = 5, key: string?, timeout: duration?, text: bool = false)",
     op_send, "send a message and answer its reply"},
    {"dispatch", "POST /v1/agents/{agent}/dispatch", ROLE_OPERATOR,
     "dispatch(agent: string, to: string, inactive: bool = false, require: [string]?, "
     "dry_run: bool = false, key: string?, timeout: duration?)",
     op_dispatch, "move an agent to another host"},
    {"retract", "POST /v1/agents/{agent}/retract", ROLE_OPERATOR,
     "retract(agent: string, to: string?, inactive: bool = false, require: [string]?, "
     "dry_run: bool = false, key: string?, timeout: duration?)",
     op_retract, "bring an agent back, to the host that is asked"},
    {"clone", "POST /v1/agents/{agent}/clone", ROLE_OPERATOR,
     "clone(agent: string, to: string?, inactive: bool = false, require: [string]?, "
     "dry_run: bool = false, key: string?, timeout: duration?)",
     op_clone, "copy an agent under a new id, here or there"},
    {"itinerary", "POST /v1/agents/{agent}/itinerary", ROLE_OPERATOR,
     "itinerary(agent: string, stops: [any]?, home: bool = true, cancel: bool = false, "
     "text: bool = false)",
     op_itinerary, "send an agent round hosts, a method at each; look at it, cancel it"},
    {"deactivate", "POST /v1/agents/{agent}/deactivate", ROLE_OPERATOR,
     "deactivate(agent: string, wake_on_message: bool?, wake_after: duration?, wake_at: time?, "
     "at_start: bool?)",
     op_deactivate, "put an agent to sleep on disk"},
    {"activate", "POST /v1/agents/{agent}/activate", ROLE_OPERATOR, "activate(agent: string)",
     op_activate, "wake a sleeping agent"},
    {"dispose", "DELETE /v1/agents/{agent}", ROLE_OPERATOR, "dispose(agent: string)", op_dispose,
     "end an agent for ever"},
    {"publish", "POST /v1/topics/{topic}", ROLE_OPERATOR,
     "publish(topic: string, method: string = \"on_topic\", args: any?, priority: int[0..9] = 5, "
     "key: string?, text: bool = false)",
     op_publish, "tell all subscribers of a topic"},
    {"topics", "GET /v1/topics", ROLE_VIEWER, "topics(topic: string?)", op_topics,
     "topics with their subscribers, as this host knows them"},
    {"kill", "POST /v1/agents/{agent}/kill", ROLE_OPERATOR, "kill(agent: string)", op_kill,
     "end a handler that does not end by itself, and its runner"},
    {"folder", NULL, ROLE_OPERATOR, "folder(storage: bool = false, look: bool = false)", op_folder,
     "a folder for the agent that asks"},
    /* -- moves, events, logs -- */
    {"drain", "POST /v1/drain", ROLE_OPERATOR, "drain(to: string = \"any\")", op_drain,
     "move all agents of the host away", .streams = true},
    {"moves", "GET /v1/moves", ROLE_VIEWER, "moves(all: bool = false)", op_moves,
     "moves in flight or in doubt"},
    {"resolve", "POST /v1/moves/{ticket}/resolve", ROLE_ADMIN,
     "resolve(ticket: string, source_destroyed: bool = false)", op_resolve,
     "end a move whose other side is gone for ever"},
    {"dead", "GET /v1/dead", ROLE_VIEWER,
     "dead(letter: int?, after: int[0..9007199254740991] = 0, limit: int[1..1000] = 100)", op_dead,
     "messages that were given up, oldest first; one of them with its arguments"},
    {"dead.replay", "POST /v1/dead/{letter}/replay", ROLE_OPERATOR, "dead.replay(letter: int)",
     op_dead_replay, "send a dead letter to its agent again"},
    {"dead.drop", "DELETE /v1/dead/{letter}", ROLE_OPERATOR, "dead.drop(letter: int)", op_dead_drop,
     "forget a dead letter"},
    {"events", "GET /v1/events", ROLE_VIEWER,
     "events(since: int = 0, agent: string?, kind: string?, follow: bool = false, "
     "limit: int[1..100000] = 1000)",
     op_events, "what happened, oldest first", .streams = true},
    {"logs", "GET /v1/logs", ROLE_VIEWER,
     "logs(agent: string?, follow: bool = false, limit: int[1..100000] = 1000)", op_logs,
     "lines that agents logged", .streams = true},
    /* -- files -- */
    {"files.copy", "POST /v1/files/copy", ROLE_OPERATOR,
     "files.copy(sources: [string], dst: string, from: string?, to: string?, "
     "recursive: bool = false, move: bool = false, overwrite: bool = false, update: bool = false, "
     "verify: bool = false, dry_run: bool = false, exclude: [string]?, limit: int?, "
     "compress: string = \"auto\")",
     op_files_copy, "copy files from one host to another", .streams = true},
    {"files.ls", "GET /v1/files", ROLE_OPERATOR,
     "files.ls(path: string = \"\", on: string?, limit: int[1..1000] = 1000, after: string?)",
     op_files_ls, "what is in a folder of a host"},
    /* -- artifacts; their contents come and go by requests of their own: docs/artifacts.md -- */
    {"artifacts.list", "GET /v1/artifacts", ROLE_VIEWER,
     "artifacts.list(owner: agent?, limit: int[1..1000] = 100, after: string?)", op_artifacts_list,
     "artifacts of the host, oldest first"},
    {"artifacts.info", "GET /v1/artifacts/{artifact}", ROLE_VIEWER,
     "artifacts.info(artifact: string)", op_artifacts_info, "one artifact, by its id or its hash"},
    {"artifacts.rm", "DELETE /v1/artifacts/{artifact}", ROLE_OPERATOR,
     "artifacts.rm(artifact: string)", op_artifacts_rm, "remove an artifact"},
    {"artifacts.stats", "GET /v1/artifacts/stats", ROLE_VIEWER, "artifacts.stats()",
     op_artifacts_stats, "how many artifacts there are, and what they take"},
    {"artifacts.verify", "POST /v1/artifacts/verify", ROLE_OPERATOR,
     "artifacts.verify(artifact: string?)", op_artifacts_verify,
     "read all chunks, or those of one artifact, and say which are damaged", .streams = true},
    /* -- between hosts -- */
    {"locate", NULL, ROLE_PEER, "locate(agent: string)", op_locate, "where an agent lives"},
    {"accept", NULL, ROLE_PEER,
     "accept(agent: string, sender: string, seq: int, method: string, args: bytes, key: bytes, "
     "since: int = 0, priority: int[0..9] = 5, no_wake: bool = false, text: bool = false, "
     "topic: string?)",
     op_accept, "take a one-way message of another agent"},
    {"whereabouts", NULL, ROLE_PEER, "whereabouts(agents: [agent])", op_whereabouts,
     "where many agents live, as far as it is known for certain"},
    /* -- artifacts -- */
    {"artifacts.have", NULL, ROLE_PEER, "artifacts.have(artifact: artifact?, chunks: bytes?)",
     op_artifacts_have, "whether an artifact is here, or how many of some chunks"},
    {"artifacts.find", "GET /v1/artifacts/find/{artifact}", ROLE_VIEWER,
     "artifacts.find(artifact: artifact)", op_artifacts_find,
     "what an artifact is, and which hosts have it"},
    {"artifacts.fetch", "POST /v1/artifacts/fetch", ROLE_OPERATOR,
     "artifacts.fetch(artifact: artifact, path: bool = false)", op_artifacts_fetch,
     "get an artifact from the hosts that have it", .streams = true},
    {"artifacts.repair", "POST /v1/artifacts/repair", ROLE_OPERATOR,
     "artifacts.repair(from: string, artifact: artifact?)", op_artifacts_repair,
     "look for damaged chunks, and get them from another host", .streams = true},
    {"artifacts.import", NULL, ROLE_OPERATOR,
     "artifacts.import(path: string, name: string?, type: string?, ttl: duration?)",
     op_artifacts_import, "make a file of the agent that asks an artifact"},
    {"artifacts.release", NULL, ROLE_OPERATOR,
     "artifacts.release(artifact: artifact, owner: agent?)", op_artifacts_release,
     "remove an artifact of the agent that asks"},
    /* -- trust -- */
    {"token", "POST /v1/mesh/tokens", ROLE_ADMIN,
     "token(ttl: duration?, uses: int[1..1000] = 1, tags: [string]?)", op_token,
     "make a join token"},
    {"tokens", "GET /v1/mesh/tokens", ROLE_ADMIN, "tokens()", op_tokens, "list join tokens"},
    {"revoke", "DELETE /v1/mesh/tokens/{token}", ROLE_ADMIN, "revoke(token: string)", op_revoke,
     "make a join token worthless"},
    {"join", "POST /v1/join", ROLE_NONE,
     "join(token: string, host_name: string, csr: string, key: string, signature: string, "
     "proof: string, tags: [string]?)",
     op_join, "admit a host that proves a token"},
    {"renew", NULL, ROLE_PEER, "renew(csr: string)", op_renew,
     "a new certificate for the host at the other end of the link"},
};
const size_t ops_count = sizeof ops_table / sizeof ops_table[0];

static struct signature *signatures[sizeof ops_table / sizeof ops_table[0]];

void ops_init(void)
{
    for (size_t i = 0; i < ops_count; i++) {
        struct gw_error why;
        if (!signatures[i] &&
            signature_parse(ops_table[i].signature, &signatures[i], &why) != GW_OK) {
            log_die("bug.op", "operation \"%s\": %s", ops_table[i].name, why.text);
        }
    }
}

const struct signature *op_signature(const struct op *op)
{
    return signatures[op - ops_table];
}

const struct op *op_find(const char *name)
{
    for (size_t i = 0; i < ops_count; i++) {
        if (text_same(ops_table[i].name, name)) {
            return &ops_table[i];
        }
    }
    return NULL;
}
