/* An agent type for the tests of the core, and CALL frames as a peer might send them. */
#ifndef TESTS_MESH_ACTOR_H
#define TESTS_MESH_ACTOR_H

#include "tests/mesh/tally.h"
#include "tests/mesh/virtual.h"

/* actor: {int64 count; strs log; strs route; bool moody}; hooks add a line to log ("create",
 * "leave", "arrive", "clone", "sleep", "wake"). add(by: int = 1, number: int = -1) -> (count: int)
 * numbers are logged as "#n" get() -> (count: int), history() -> (log: [string])  GW_READ relay(to:
 * agent, number: int)         tells `to` to add flood(to: agent, n: int)              tells `to` to
 * add, n times tour(stops: [string])                 goes to the first; on_arrive goes on both(to:
 * string, clone: string)       dispatch and clone in one handler, in this order nap(), end()
 * deactivate, dispose finish(heir: agent)                   tells the heir add(number = 99) and
 * disposes, in one handler mood(moody: bool)                     on_activate and on_dispose fail
 * while it is set crash()                               ends its runner big(bytes: int) -> (data:
 * bytes)      changes the state, too shout(text: string)                   gw_log
 *   on_dispatch_failed(to, code, text)    logs "failed CODE" */
extern const struct gw_type actor_type;
extern const struct gw_type *const actor_types[]; /* actor, tally */
extern const size_t actor_type_count;

/* A mesh whose hosts offer these types, started and linked. */
struct mesh *actor_mesh(uint64_t seed, size_t hosts);
/* The same, nothing started. */
struct mesh *actor_mesh_new(uint64_t seed, size_t hosts);
/* send METHOD ARGS (JSON with '), must be answered within a minute; the code. */
gw_err actor_send(struct mesh *m, size_t via, const gw_id *agent, const char *method,
                  const char *args);
void actor_must(struct mesh *m, size_t via, const gw_id *agent, const char *method,
                const char *args);
gw_err actor_relay(struct mesh *m, size_t via, const gw_id *from, const gw_id *to, int number,
                   const char *key);
/* history as one text, static storage. */
const char *actor_history(struct mesh *m, size_t via, const gw_id *agent);
size_t actor_lines(struct mesh *m, size_t via, const gw_id *agent,
                   const char *line); /* how often it stands there */
/* Member `count` of its state as it is on the disk of a host. */
int64_t actor_stored_count(struct mesh *m, size_t host, const gw_id *agent);
/* How many events of this kind a host has. */
size_t actor_events(struct mesh *m, size_t host, const char *kind);
size_t actor_rows(struct mesh *m, size_t host, store_table table); /* in its store */
gw_id actor_id_of(struct mesh *m, const gw_value *answer);         /* its "agent" */

/* --- CALL frames of a peer --- */
struct wire {
    struct mesh *m;
    size_t from, to;
    uint64_t next;
    struct { /* what was answered, by stream */
        uint64_t stream;
        gw_err code;
    } answers[64];
    size_t count;
};
/* Listens to the REPLY frames from `to` to `from` (takes mesh_on_frame). */
void wire_open(struct wire *w, struct mesh *m, size_t from, size_t to);
/* Send CALL op args context now; args and context are taken. Returns its stream. */
uint64_t wire_call(struct wire *w, const char *op, gw_value args, gw_value context);
/* One `accept` of an add(number). */
uint64_t wire_accept(struct wire *w, const gw_id *to, const gw_id *sender, int64_t seq,
                     int64_t since, int number);
bool wire_answered(const struct wire *w, uint64_t stream, gw_err *ret);
gw_err wire_wait(struct wire *w, uint64_t stream); /* for a minute; must be answered */

#endif
