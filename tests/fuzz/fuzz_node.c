/* A member that lies. Of three hosts the last one says whatever the input says, in any order and
 * at any moment: every frame kind of protocol/kinds.def, tickets and notes signed by its own key
 * among them, beside calls of a client that are no better. The others keep their invariants, leak
 * nothing, and go on to serve; so they do when they are started again on what is on their disks.
 *
 * Verbs besides those of play.h (which reach the last host only where they break something):
 *   ["peer", to, KIND, stream, [fields...]]     a frame; stream a number, or "r0": that of the last
 *                                               request that `to` sent here, "r1" the one before
 *   ["client", to, KIND, stream, [fields...]]   a frame of a client
 *   ["tape", i, to, at, xor]                    what was sent last but i, once more, a byte changed
 *   ["mute", n]                                 the next n frames of the last host are lost
 */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/door.h"

#define LIAR (PLAY_HOSTS - 1)
#define TAPE 16

struct lie {
    struct play p; /* first */
    struct door peers[LIAR], clients[LIAR];
    uint64_t streams[CAST_STREAMS]; /* rings */
    size_t stream_count;
    struct buf tape[TAPE];
    size_t taped;
    int64_t mute;
};

static struct lie *lie_of(struct play *p)
{
    return (struct lie *)p;
}

/* --- what it hears --- */
static void hear_stage(struct lie *l, size_t from, struct mp m)
{
    struct span body;
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    struct ticket t;
    if (mp_read_bin(&m, &body) == GW_OK &&
        mp_read_fixed(&m, signature, sizeof signature) == GW_OK &&
        ticket_read(body, signature, mesh_host_key(l->p.m, from)->public_key, &t, NULL) == GW_OK) {
        cast_hear_ticket(&l->p.cast, &t.id);
        ticket_free(&t);
    }
}

static void hear_receipt(struct lie *l, size_t from, struct mp m)
{
    struct span body;
    uint8_t signature[TICKET_SIGNATURE_BYTES];
    struct ticket_note note;
    if (mp_skip_n(&m, 3) == GW_OK && mp_read_bin(&m, &body) == GW_OK &&
        mp_read_fixed(&m, signature, sizeof signature) == GW_OK &&
        note_read(NOTE_RECEIPT, body, signature, mesh_host_key(l->p.m, from)->public_key, &note,
                  NULL) == GW_OK) {
        memcpy(l->p.cast.nonce, note.nonce, sizeof note.nonce);
    }
}

static void hear(struct lie *l, size_t from, const struct frame *f)
{
    struct mp m = f->rest;
    gw_id id;
    switch (f->kind) {
    case FRAME_OFFER:
    case FRAME_QUERY:
        if (mp_read_id(&m, &id) == GW_OK) {
            cast_hear_ticket(&l->p.cast, &id);
        }
        break;
    case FRAME_STAGE: hear_stage(l, from, f->rest); break;
    case FRAME_RECEIPT: hear_receipt(l, from, f->rest); return;
    case FRAME_COMMIT:
    case FRAME_CALL: break;
    default: return;
    }
    l->streams[l->stream_count++ % CAST_STREAMS] = f->stream;
}

static void keep(struct lie *l, const struct frame *f)
{
    struct buf *b = &l->tape[l->taped++ % TAPE];
    buf_reset(b);
    buf_add_u32(b, (uint32_t)f->raw.n);
    buf_add(b, f->raw.p, f->raw.n);
}

static mesh_fate on_frame(void *arg, size_t from, size_t to, const struct frame *f)
{
    struct lie *l = arg;
    if (to == LIAR) {
        hear(l, from, f);
    } else if (from == LIAR) {
        keep(l, f);
        if (l->mute > 0) {
            l->mute--;
            return FATE_LOSE;
        }
    }
    return play_on_frame(&l->p, from, to, f);
}

static void on_signed(void *arg, const gw_id *agent)
{
    struct lie *l = arg;
    mesh_excuse(l->p.m, agent); /* an agent of its own it may well double */
}

/* --- verbs --- */
static size_t target_at(const gw_value *step, size_t i)
{
    return (size_t)((uint64_t)cast_int(step, i) % LIAR);
}

static uint64_t stream_at(const struct lie *l, const gw_value *step, size_t i)
{
    const char *name = cast_text(step, i);
    size_t back = name[0] == 'r' && name[1] ? (size_t)(name[1] - '0') : 0;
    if (name[0] == 'r' && back < l->stream_count && back < CAST_STREAMS) {
        return l->streams[(l->stream_count - 1 - back) % CAST_STREAMS];
    }
    return (uint64_t)cast_int(step, i);
}

static bool frame_at(struct lie *l, const gw_value *step, struct buf *bytes, struct frame *ret)
{
    if (!cast_frame(&l->p.cast, cast_item(step, 2), stream_at(l, step, 3), cast_item(step, 4),
                    bytes)) {
        return false;
    }
    struct span in = buf_span(bytes);
    return frame_take(&in, LIMIT_MESSAGE_BYTES, ret) == GW_OK;
}

static bool is_call(const struct frame *f)
{
    return f->kind == FRAME_CALL || f->kind == FRAME_CANCEL;
}

static void do_peer(struct play *p, const gw_value *step)
{
    struct lie *l = lie_of(p);
    struct buf bytes = {0};
    struct frame f;
    size_t to = target_at(step, 1);
    if (!frame_at(l, step, &bytes, &f)) {
        mesh_inject(p->m, LIAR, to, &bytes); /* the link ends */
    } else if (!is_call(&f)) {
        mesh_inject(p->m, LIAR, to, &bytes);
    } else if (mesh_alive(p->m, to)) {
        door_frame(&l->peers[to], p, to, LINK_PEER, &f);
    }
    buf_free(&bytes);
    mesh_run(p->m, 1);
}

static void do_client(struct play *p, const gw_value *step)
{
    struct lie *l = lie_of(p);
    struct buf bytes = {0};
    struct frame f;
    size_t to = target_at(step, 1);
    if (frame_at(l, step, &bytes, &f) && is_call(&f) && mesh_alive(p->m, to)) {
        door_frame(&l->clients[to], p, to, LINK_CLIENT, &f);
    }
    buf_free(&bytes);
    mesh_run(p->m, 1);
}

static void do_tape(struct play *p, const gw_value *step)
{
    struct lie *l = lie_of(p);
    const struct buf *kept = &l->tape[(uint64_t)cast_int(step, 1) % TAPE];
    struct buf again = {0};
    buf_add(&again, kept->data, kept->len);
    if (again.len > 4) {
        again.data[4 + (uint64_t)cast_int(step, 3) % (again.len - 4)] ^= (uint8_t)cast_int(step, 4);
        struct span in = buf_span(&again);
        struct frame f;
        if (frame_take(&in, LIMIT_MESSAGE_BYTES, &f) != GW_OK || !is_call(&f)) {
            mesh_inject(p->m, LIAR, target_at(step, 2), &again);
        }
    }
    buf_free(&again);
    mesh_run(p->m, 1);
}

static void do_mute(struct play *p, const gw_value *step)
{
    lie_of(p)->mute = cast_int(step, 1) & 15;
}

static void close_doors(struct lie *l, size_t host)
{
    if (host < LIAR) {
        door_close(&l->peers[host], &l->p);
        door_close(&l->clients[host], &l->p);
    }
}

static void do_cut(struct play *p, const gw_value *step)
{
    size_t to = target_at(step, 1);
    door_close(&lie_of(p)->peers[to], p);
    mesh_cut(p->m, LIAR, to);
}

static void do_crash(struct play *p, const gw_value *step)
{
    size_t host = cast_host(&p->cast, cast_item(step, 1));
    close_doors(lie_of(p), host);
    mesh_crash(p->m, host);
    mesh_start(p->m, host);
}

/* A crash would have to close the doors first. */
static void do_commit(struct play *p, const gw_value *step)
{
    size_t host = cast_host(&p->cast, cast_item(step, 1));
    p->commits[host].after = cast_int(step, 2) & 63;
    p->commits[host].fate = cast_int(step, 3) & 1 ? COMMIT_FAIL : COMMIT_SLOW;
}

static void do_nothing(struct play *p, const gw_value *step)
{
    (void)p, (void)step;
}

static const struct play_verb verbs[] = {
    {"peer", do_peer},  {"client", do_client}, {"tape", do_tape},     {"mute", do_mute},
    {"cut", do_cut},    {"part", do_nothing},  {"join", do_nothing},  {"crash", do_crash},
    {"stop", do_crash}, {"start", do_nothing}, {"commit", do_commit}, {"frame", do_nothing},
};

/* --- the end --- */
static void expect_move(struct play *p)
{
    char id[GW_ID_TEXT], host[HOST_ID_TEXT];
    struct host_id to = mesh_host_id(p->m, 1);
    gw_id agent = mesh_create(p->m, 0, "player");
    mesh_must(p->m, 0, NULL, "dispatch", "{'agent': '%s', 'to': '%s'}", gw_id_text(&agent, id),
              host_id_text(&to, host));
    mesh_assert(p->m, mesh_add(p->m, 0, &agent, "there") == GW_OK);
    mesh_assert(p->m, mesh_where(p->m, &agent, NULL) == 1);
}

static void expect_unharmed(struct lie *l)
{
    struct play *p = &l->p;
    memset(p->commits, 0, sizeof p->commits);
    mesh_run(p->m, 10000); /* a disk that sleeps wakes up */
    for (size_t i = 0; i < LIAR; i++) {
        close_doors(l, i);
        play_expect_serves(p, i);
    }
    expect_move(p);
    mesh_crash(p->m, LIAR);
    for (size_t i = 0; i < LIAR; i++) {
        mesh_crash(p->m, i);
        play_expect_serves(p, i);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct lie *l = calloc(1, sizeof *l);
    if (!l) {
        abort();
    }
    play_open(&l->p, PLAY_HOSTS);
    l->p.cast.on_signed = on_signed;
    l->p.cast.arg = l;
    mesh_on_frame(l->p.m, on_frame, l);
    play_run(&l->p, data, size, verbs, sizeof verbs / sizeof verbs[0]);
    expect_unharmed(l);
    play_close(&l->p);
    for (size_t i = 0; i < TAPE; i++) {
        buf_free(&l->tape[i]);
    }
    free(l);
    return 0;
}

static const char *const pieces[] = {
    "[\"run\", 1]",
    "[\"run\", 50]",
    "[\"run\", 3000]",
    "[\"mute\", 1]",
    "[\"mute\", 3]",
    "[\"tape\", 0, 0, 9, 0]",
    "[\"tape\", 3, 0, 30, 1]",
    "[\"cut\", 0]",
    "[\"crash\", 0]",
    "[\"add\", 0, \"@0\", 1]",
    "[\"relay\", 0, \"@0\", \"@2\", 1]",
    "[\"relay\", 0, \"@2\", \"@0\", 1]",
    "[\"do\", 0, \"dispatch\", {\"agent\": \"@0\", \"to\": \"h2\"}]",
    "[\"do\", 0, \"dispatch\", {\"agent\": \"@2\", \"to\": \"h0\"}]",
    "[\"do\", 0, \"clone\", {\"agent\": \"@2\", \"to\": \"h0\"}]",
    "[\"do\", 0, \"retract\", {\"agent\": \"@2\"}]",
    "[\"do\", 0, \"send\", {\"agent\": \"@2\", \"method\": \"add\", \"timeout\": 3000}]",
    "[\"do\", 2, \"create\", {\"type\": \"player\", \"at\": \"h0\"}]",
    "[\"act\", 0, \"@0\", {\"verb\": \"monitor\", \"agent\": \"@2\"}]",
    "[\"act\", 0, \"@0\", {\"verb\": \"publish\", \"text\": \"news\", \"number\": 2}]",
    "[\"act\", 2, \"@2\", {\"verb\": \"subscribe\", \"text\": \"news\", \"n\": 1}]",
    "[\"peer\", 0, \"HELLO\", 0, [\"host\", 1, {\"name\": \"h2\", \"url\": \"https://h2.test:1\", "
    "\"types\": [[\"player\", 2]], \"members\": [], \"boot\": 9}]]",
    "[\"peer\", 0, \"MEMBERS\", 0, [[{\"host_id\": {\"$id\": \"%9\"}, \"name\": \"x\", \"url\": "
    "\"https://x:1\", \"key\": {\"base64\": \"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\"}}]]]",
    "[\"peer\", 0, \"REPLY\", \"r0\", [0, {\"reply\": {\"count\": 1}, \"epoch\": 2}, null, null]]",
    "[\"peer\", 0, \"REPLY\", \"r0\", [20, {\"host_id\": {\"$id\": \"%2\"}, \"epoch\": 9}, "
    "\"no\"]]",
    "[\"peer\", 0, \"ITEM\", \"r0\", [{\"agents\": []}]]",
    "[\"peer\", 0, \"CANCEL\", 5, []]",
    "[\"peer\", 0, \"OFFER\", 9, [\"@x1\", [[\"@x2\", 2, \"player\", 1, 10]]]]",
    "[\"peer\", 0, \"OFFER_ANSWER\", \"r0\", [\"@t0\", 0, null, \"!\", []]]",
    "[\"peer\", 0, \"OFFER_ANSWER\", \"r0\", [\"@t0\", 0, null, \"!\", [[\"@0\", 3, \"no\"]]]]",
    "[\"peer\", 0, \"STAGE\", 9, [{\"$ticket\": [\"@x1\", [[\"@x2\", 2, \"player\", 1, [0, "
    "{\"$pack\": "
    "[0, \"player\", \"%2\", null, \"@x0\", 1, 0, false, \"@x0\", \"%2\", \"!\", 0, {\"base64\": "
    "\"\"}]}, {\"\": {\"$pack\": {\"\": 1, \"count\": 3}}}, [], [], [], [], [], [], []]]], 0]}]]",
    "[\"peer\", 0, \"RECEIPT\", \"r0\", [\"@t0\", 0, null, {\"$note\": [1, \"@t0\", [[\"@0\", 2]], "
    "\"!\"]}, []]]",
    "[\"peer\", 0, \"COMMIT\", 9, [{\"$note\": [2, \"@x1\", [[\"@x2\", 2]], \"!\"]}]]",
    "[\"peer\", 0, \"COMMITTED\", \"r0\", [\"@t0\", 0, null, []]]",
    "[\"peer\", 0, \"COMMITTED\", \"r0\", [\"@t0\", 9, null, [[\"@0\", 2]]]]",
    "[\"peer\", 0, \"QUERY\", 9, [\"@t0\", [[\"@0\", 2]]]]",
    "[\"peer\", 0, \"QUERY_ANSWER\", \"r0\", [\"@x1\", 0, {\"$note\": [2, \"@x1\", [[\"@x2\", 2]], "
    "\"!\"]}]]",
    "[\"peer\", 0, \"ABORT\", 0, [\"@x1\", [[\"@x2\", 2]]]]",
    "[\"peer\", 0, \"ABORTED\", \"r0\", [\"@x1\", 0]]",
    "[\"peer\", 0, \"LOCATE\", 0, [[[\"@2\", 4, \"%2\", false], [\"@0\", 9, \"%2\", true]]]]",
    "[\"peer\", 0, \"TOPICS\", 0, [[[\"@2\", 1, \"news\", true], [\"@x4\", 1, \"news\", false]]]]",
    "[\"peer\", 0, \"CALL\", 31, [\"locate\", {\"agent\": {\"$id\": \"@0\"}}, null]]",
    "[\"peer\", 0, \"CALL\", 32, [\"whereabouts\", {\"agents\": [\"@0\", \"@2\"]}, null]]",
    "[\"peer\", 0, \"CALL\", 33, [\"accept\", {\"agent\": {\"$id\": \"@0\"}, \"sender\": {\"$id\": "
    "\"@2\"}, \"seq\": 1, \"method\": \"add\", \"args\": {\"$pack\": {\"number\": 1}}, \"key\": "
    "\"!\"}, {\"hop\": true}]]",
    "[\"peer\", 0, \"CALL\", 34, [\"send\", {\"agent\": {\"$id\": \"@0\"}, \"method\": \"add\", "
    "\"key\": \"k\"}, {\"hop\": true, \"chain\": [\"@2\"], \"agent\": \"@2\", \"deadline\": 500}]]",
    "[\"peer\", 0, \"CALL\", 35, [\"create\", {\"type\": \"player\", \"state\": {\"count\": 3}}, "
    "{\"hop\": true, \"id\": \"@x5\"}]]",
    "[\"client\", 0, \"CALL\", 41, [\"send\", {\"agent\": {\"$id\": \"@0\"}, \"method\": \"add\", "
    "\"args\": {\"by\": \"2\"}}, {\"text\": true}]]",
    "[\"client\", 0, \"CALL\", 42, [\"events\", {\"follow\": true}, null]]",
    "[\"client\", 0, \"CANCEL\", 42, []]",
    NULL};

const struct fuzz_grammar fuzz_grammar = {play_words, pieces};
