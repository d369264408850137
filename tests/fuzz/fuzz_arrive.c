/* What a ticket carries, behind its seal and its signature: the input is the payload of one agent
 * (PROTOCOL.md 6.2) as a tree, [mode, row, parts, requests, streams, outbox, inbox, timers, topics,
 * watches], which a member of the mesh seals and signs as a source does. The destination refuses
 * it, or has an agent that it can show, send messages, put to sleep, wake, send on and end, and
 * that it still has when it is started again. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "protocol/json.h"
#include "protocol/value.h"
#include "tests/fuzz/play.h"

#define HOSTS 2
#define LIAR  1
#define MARK  "@x2" /* the agent that comes */

struct arrival {
    struct play p;
    gw_id agent, ticket;
    uint64_t epoch;
    bool staged, committed;
    struct buf plain;
    char type[LIMIT_NAME_BYTES + 1];
    char id[GW_ID_TEXT];
};

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static mesh_fate on_frame(void *arg, size_t from, size_t to, const struct frame *f)
{
    struct arrival *a = arg;
    struct mp m = f->rest;
    struct span body;
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    struct ticket_note note;
    uint32_t code = GW_EFAIL;
    (void)to;
    if (from != 0) {
        return FATE_PASS;
    }
    if (f->kind == FRAME_RECEIPT && mp_skip_n(&m, 1) == GW_OK && mp_read_u32(&m, &code) == GW_OK &&
        code == GW_OK && mp_skip_n(&m, 1) == GW_OK && mp_read_bin(&m, &body) == GW_OK &&
        mp_read_fixed(&m, signature, sizeof signature) == GW_OK &&
        note_read(NOTE_RECEIPT, body, signature, mesh_host_key(a->p.m, 0)->public_key, &note,
                  NULL) == GW_OK) {
        memcpy(a->p.cast.nonce, note.nonce, sizeof note.nonce);
        a->staged = note.n == 1;
    }
    if (f->kind == FRAME_COMMITTED && mp_skip_n(&m, 1) == GW_OK &&
        mp_read_u32(&m, &code) == GW_OK) {
        a->committed = code == GW_OK;
    }
    return FATE_PASS;
}

static void send_stage(struct arrival *a)
{
    struct ticket_agent one = {.agent = a->agent, .epoch = a->epoch, .version = 1};
    struct ticket t = {.id = a->ticket,
                       .from = mesh_host_id(a->p.m, LIAR),
                       .to = mesh_host_id(a->p.m, 0),
                       .agents = &one,
                       .agent_count = 1};
    struct span plain = buf_span(&a->plain);
    struct buf body = {0}, sealed = {0}, frame = {0};
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    memcpy(one.type, a->type, sizeof one.type);
    must(ticket_seal(&t, &plain, mesh_host_key(a->p.m, LIAR), mesh_host_key(a->p.m, 0)->public_key,
                     &body, signature, &sealed) == GW_OK);
    size_t at = frame_begin(&frame, FRAME_STAGE, 1000000001, 3);
    mp_span(&frame, buf_span(&body));
    mp_bin(&frame, signature, sizeof signature);
    mp_array(&frame, 1);
    mp_span(&frame, buf_span(&sealed));
    frame_end(&frame, at);
    mesh_inject(a->p.m, LIAR, 0, &frame);
    buf_free(&frame);
    buf_free(&body);
    buf_free(&sealed);
}

static void send_commit(struct arrival *a)
{
    struct ticket_note note = {.ticket = a->ticket, .n = 1};
    struct buf body = {0}, frame = {0};
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    memcpy(note.nonce, a->p.cast.nonce, sizeof note.nonce);
    note.agents[0].agent = a->agent;
    note.agents[0].epoch = a->epoch;
    must(note_sign(NOTE_COMMIT, &note, mesh_host_key(a->p.m, LIAR), &body, signature) == GW_OK);
    size_t at = frame_begin(&frame, FRAME_COMMIT, 1000000002, 2);
    mp_span(&frame, buf_span(&body));
    mp_bin(&frame, signature, sizeof signature);
    frame_end(&frame, at);
    mesh_inject(a->p.m, LIAR, 0, &frame);
    buf_free(&frame);
    buf_free(&body);
}

/* Row and mode decide under which type and epoch it has to come to be taken at all. */
static void read_payload(struct arrival *a, const gw_value *tree)
{
    const gw_value *row = gw_map_get(cast_item(tree, 1), "$pack");
    const char *type = cast_text(row, 1);
    a->agent = cast_id(&a->p.cast, MARK);
    a->ticket = cast_id(&a->p.cast, "@x1");
    a->epoch = cast_int(tree, 0) == 1 ? 1 : 2;
    if (!name_is_valid(type)) {
        type = "player";
    }
    (void)span_text((struct span){(const uint8_t *)type, strlen(type)}, a->type, sizeof a->type);
    (void)gw_id_text(&a->agent, a->id);
    cast_pack(&a->p.cast, tree, &a->plain);
}

static void try_op(struct arrival *a, const char *op, const char *more)
{
    (void)mesh_op(a->p.m, 0, NULL, op, "{'agent': '%s'%s}", a->id, more);
}

/* Everything that can be asked of an agent; any answer will do. */
static void use(struct arrival *a)
{
    struct mesh *m = a->p.m;
    try_op(a, "show", "");
    try_op(a, "send", ", 'method': 'add', 'key': 'k1', 'timeout': 5000");
    mesh_run(m, 1500);
    try_op(a, "deactivate", ", 'wake_on_message': false");
    try_op(a, "show", "");
    try_op(a, "activate", "");
    mesh_crash(m, 0);
    mesh_start_all(m);
    mesh_run(m, 1000);
    try_op(a, "show", "");
    try_op(a, "itinerary", "");
    try_op(a, "send", ", 'method': 'act', 'args': {'verb': 'want', 'n': 1}, 'timeout': 5000");
    try_op(a, "clone", "");
    try_op(a, "dispatch", ", 'to': 'h1'");
    mesh_run(m, 500);
    try_op(a, "retract", "");
    try_op(a, "dispose", "");
    mesh_run(m, 1000);
}

static void arrive(struct arrival *a)
{
    struct mesh *m = a->p.m;
    mesh_excuse(m, &a->agent);
    mesh_on_frame(m, on_frame, a);
    send_stage(a);
    mesh_run(m, 50);
    if (!a->staged && a->epoch == 2) {
        return;
    }
    if (a->epoch == 2) {
        send_commit(a);
    }
    mesh_run(m, 300);
    if (a->epoch == 2) {
        mesh_assert(m, a->committed && mesh_copies(m, &a->agent) >= 1);
    }
    use(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arrival a = {0};
    gw_value tree = gw_nil();
    if (json_parse((const char *)data, size, &tree, NULL) != GW_OK) {
        return 0;
    }
    play_open(&a.p, HOSTS);
    read_payload(&a, &tree);
    arrive(&a);
    play_expect_serves(&a.p, 0);
    play_close(&a.p);
    buf_free(&a.plain);
    gw_value_free(&tree);
    return 0;
}

const struct fuzz_grammar fuzz_grammar = {play_words, NULL};
