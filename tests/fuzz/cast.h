/* The names that a tree uses for what it cannot know, and the bytes that it stands for.
 *
 * In a tree (JSON), where bytes go out as msgpack:
 *   "@3" "@t0" "@x7"  an id: agent 3 of the cast, the ticket heard last but 0, one of nobody
 *   "%1"              the 20 bytes of host 1; "%9": of nobody
 *   "!"               the 16 bytes of the nonce heard last
 *   "~c1ff"           these bytes, whatever they are
 *   {"$pack": v}      v packed, as bytes
 *   {"$id": "@3"}     the text of an id; {"$id": "%1"} of a host
 *   {"$note": [kind, ticket, [[agent, epoch]...], nonce, signer]}   body, signature: two members
 *   {"$ticket": [id, [[agent, epoch, type, version, payload]...], to, signer, from]}
 *                     body, signature, payloads: three members; each payload is packed and sealed
 * Everything else stands for itself. What has the wrong shape for its name stands for itself, too.
 */
#ifndef TESTS_FUZZ_CAST_H
#define TESTS_FUZZ_CAST_H

#include "protocol/ticket.h"
#include "tests/mesh/virtual.h"

#define CAST_AGENTS  12
#define CAST_TICKETS 8
#define CAST_STREAMS 8

struct cast {
    struct mesh *m;
    size_t hosts;
    gw_id agents[CAST_AGENTS]; /* nil: not there */
    size_t agent_count;
    gw_id tickets[CAST_TICKETS]; /* a ring; the last one heard is at heard - 1 */
    size_t heard;
    uint8_t nonce[TICKET_NONCE_BYTES];
    /* An agent that somebody dishonest has signed for, and in whose name; NULL: nobody cares. */
    void (*on_signed)(void *arg, const gw_id *agent);
    void *arg;
};

void cast_add_agent(struct cast *c, const gw_id *agent);
void cast_hear_ticket(struct cast *c, const gw_id *ticket);
/* Pack the items of a list as the members of an array; how many they are by then. */
size_t cast_pack_members(struct cast *c, const gw_value *list, struct buf *out);
void cast_pack(struct cast *c, const gw_value *v, struct buf *out);
/* A frame with its length. kind: its name, or a number. False: there is no such kind. */
bool cast_frame(struct cast *c, const gw_value *kind, uint64_t stream, const gw_value *fields,
                struct buf *out);
/* Strings that are names become the texts of what they name: arguments of operations. */
void cast_name_texts(struct cast *c, gw_value *v);
gw_id cast_id(const struct cast *c, const char *name);     /* of "@..." */
size_t cast_host(const struct cast *c, const gw_value *v); /* a number, modulo */

/* List member i as a number, a text, a list; 0, "" and NULL when it is none. */
int64_t cast_int(const gw_value *list, size_t i);
const char *cast_text(const gw_value *list, size_t i);
const gw_value *cast_item(const gw_value *list, size_t i); /* NULL: absent */

#endif
