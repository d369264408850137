/* What both ends of the handoff share: the payload of a ticket, the nonce notes, the legal phases.
 *
 * Payload of one agent: [mode, row, parts, requests, streams, outbox, inbox, timers, topics,
 * watches];
 * row is what agent_row_pack writes, parts a map part name -> bytes, the lists hold [key suffix,
 * value] as in their tables; timers hold the time that is left (timers_pack). The last three
 * lists may be left out. */
#ifndef HOST_CORE_HANDOFF_H
#define HOST_CORE_HANDOFF_H

#include "host/core/internal.h"

typedef enum handoff_mode { HANDOFF_MOVE, HANDOFF_CLONE } handoff_mode;

#define HANDOFF_STAGE_MS    10000 /* wait for a receipt before STAGE is repeated */
#define HANDOFF_STAGE_TRIES 3
#define HANDOFF_COMMIT_MS   2000 /* wait for COMMITTED before COMMIT is repeated */
#define HANDOFF_QUERY_MS    2000 /* between QUERYs while staged */
#define HANDOFF_FREEZE_MS   5000 /* a handler that runs longer aborts the move */

/* One note about one agent. */
struct ticket_note handoff_note(const gw_id *ticket, const gw_id *agent, uint64_t epoch,
                                const uint8_t nonce[TICKET_NONCE_BYTES]);
/* Whether a note is about just this. H1: everything is matched on (ticket, agent, epoch). */
bool handoff_note_is(const struct ticket_note *note, const gw_id *ticket, const gw_id *agent,
                     uint64_t epoch);

/* Pack the payload. `rows` is seven packed lists in a row; empty: none of them holds anything. */
void handoff_pack(struct buf *out, handoff_mode mode, const struct agent_row *row,
                  struct span parts, struct span rows);
/* Rows of (agent, epoch) in the first four tables, as four packed lists; now_ms: wall clock. */
void handoff_pack_rows(const struct storage_row *rows, size_t n, int64_t now_ms, struct buf *out);
#define HANDOFF_TIMERS  4
#define HANDOFF_TOPICS  5
#define HANDOFF_WATCHES 6
#define HANDOFF_LISTS   7
struct handoff_payload {
    handoff_mode mode;
    struct agent_row row; /* agent_row_clear */
    struct span parts;    /* borrowed from the payload */
    struct span
        lists[HANDOFF_LISTS]; /* requests, streams, outbox, inbox, timers, topics, watches */
};
gw_err handoff_unpack(struct span payload, struct handoff_payload *ret) GW_MUST_USE;
/* Put all of it into a batch as rows of (agent, epoch), but for the agents row. now_ms: the wall
 * clock here. */
gw_err handoff_store(struct store_batch *batch, const struct handoff_payload *p, const gw_id *agent,
                     uint64_t epoch, int64_t now_ms) GW_MUST_USE;
bool handoff_has_mail(
    const struct handoff_payload *p); /* outbox, inbox, timers, topics or watches */
/* [[agent, epoch]] of one agent, and reading it back. */
void handoff_put_agents(struct buf *b, const gw_id *agent, uint64_t epoch);
gw_err handoff_read_agents(struct mp *m, gw_id *ret_agent, uint64_t *ret_epoch) GW_MUST_USE;

#endif
