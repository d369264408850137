/* The engine of a runner, given frames by a host that lies: RUN, UNLOAD and anything else, of
 * agents that it has or has not, with states, arguments and contexts of any kind. Each RUN is
 * answered by one DONE that the host can read.
 *
 * Input: a list of [KIND, stream, [fields...]], names as in cast.h; the agents are "@x0" and so on.
 * A field that is {"$last": n} is the n-th field of the last answer: the parts that the engine
 * packed itself, say. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "agents/sdk/engine.h"
#include "protocol/json.h"
#include "protocol/value.h"
#include "tests/fuzz/cast.h"
#include "tests/fuzz/play.h"
#include "tests/fuzz/player.h"

#define FRAMES_MOST 64

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static int64_t now_ms(void *ctx)
{
    (void)ctx;
    return 1760000000000LL;
}

/* DONE: [code, text, hint, reply, parts, actions, flags] */
static void check_done(struct buf *out, uint64_t stream)
{
    struct span in = buf_span(out), reply;
    struct frame f;
    uint32_t code, flags;
    char text[LIMIT_ERROR_TEXT_BYTES], hint[LIMIT_ERROR_TEXT_BYTES];
    gw_value parts = gw_nil(), actions = gw_nil();
    must(buf_ok(out) && frame_take(&in, LIMIT_MESSAGE_BYTES, &f) == GW_OK && in.n == 0);
    must(f.kind == FRAME_DONE && f.stream == stream && f.fields == 7);
    must(mp_read_u32(&f.rest, &code) == GW_OK);
    must(mp_read_text_or_nil(&f.rest, text, sizeof text) == GW_OK);
    must(mp_read_text_or_nil(&f.rest, hint, sizeof hint) == GW_OK);
    must(mp_read_bin(&f.rest, &reply) == GW_OK && value_unpack(&f.rest, &parts) == GW_OK);
    must(value_unpack(&f.rest, &actions) == GW_OK && mp_read_u32(&f.rest, &flags) == GW_OK);
    must(code == GW_OK || text[0] != '\0');
    must(parts.kind == GW_MAP || parts.kind == GW_NIL);
    must(actions.kind == GW_LIST);
    gw_value_free(&parts);
    gw_value_free(&actions);
    must(value_unpack_span(reply, &parts) == GW_OK);
    gw_value_free(&parts);
}

static bool last_field(const struct buf *last, int64_t n, struct span *ret)
{
    struct span in = buf_span(last);
    struct frame f;
    return n >= 0 && n < 7 && frame_take(&in, LIMIT_MESSAGE_BYTES, &f) == GW_OK &&
           mp_skip_n(&f.rest, (size_t)n) == GW_OK && mp_skip(&f.rest, ret) == GW_OK;
}

static void build(struct cast *c, const gw_value *step, const struct buf *last, struct buf *out)
{
    const gw_value *fields = cast_item(step, 2);
    struct buf members = {0};
    size_t n = 0;
    for (size_t i = 0; cast_item(fields, i); i++) {
        const gw_value *v = cast_item(fields, i), *back = gw_map_get(v, "$last");
        struct span raw;
        if (back && back->kind == GW_INT && last_field(last, back->i, &raw)) {
            buf_add(&members, raw.p, raw.n);
        } else {
            cast_pack(c, v, &members);
        }
        n++;
    }
    frame_kind kind = strcmp(cast_text(step, 0), "UNLOAD") == 0 ? FRAME_UNLOAD : FRAME_RUN;
    size_t at = frame_begin(out, kind, (uint64_t)cast_int(step, 1), n);
    buf_add(out, members.data, members.len);
    frame_end(out, at);
    buf_free(&members);
}

static void run_step(struct engine *e, struct cast *c, const gw_value *step, struct buf *last)
{
    struct buf in = {0}, out = {0};
    struct frame f;
    build(c, step, last, &in);
    struct span raw = buf_span(&in);
    if (frame_take(&raw, LIMIT_MESSAGE_BYTES, &f) == GW_OK) {
        engine_run(e, &f, &out);
        gw_id id;
        bool runs = f.kind == FRAME_RUN || engine_target(&f, &id) != GW_OK;
        must(runs == (out.len > 0));
        if (runs) {
            check_done(&out, f.stream);
        }
        if (out.len > 0) {
            buf_free(last);
            *last = buf_take(&out);
        }
    }
    buf_free(&out);
    buf_free(&in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct engine_io io = {.now_ms = now_ms};
    struct cast cast = {.hosts = 0};
    gw_value program = gw_nil();
    struct gw_error why;
    struct buf last = {0};
    if (json_parse((const char *)data, size, &program, NULL) != GW_OK) {
        return 0;
    }
    struct engine *e = engine_new(&io, NULL);
    for (size_t i = 0; i < player_type_count; i++) {
        must(engine_add_type(e, player_types[i], &why) == GW_OK);
    }
    for (size_t i = 0; cast_item(&program, i) && i < FRAMES_MOST; i++) {
        run_step(e, &cast, cast_item(&program, i), &last);
    }
    must(engine_agents(e) <= FRAMES_MOST);
    engine_free(e);
    buf_free(&last);
    gw_value_free(&program);
    return 0;
}

#define RUN(hook, method, args, flags, parts)                                                      \
    "[\"RUN\", 1, [\"@x0\", \"player\", 1, " hook ", \"" method "\", {\"$pack\": " args            \
    "}, " flags ", {\"base64\": \"AAAAAAAAAAAAAAAAAAAAAA==\"}, " parts ", null]]"

static const char *const pieces[] = {
    RUN("1", "", "{\"count\": 4}", "0", "null"),
    RUN("1", "", "null", "0", "null"),
    RUN("2", "", "null", "4", "null"),
    RUN("3", "", "null", "0", "{\"$last\": 4}"),
    RUN("12", "", "null", "2", "{\"\": {\"$pack\": {\"\": 1, \"count\": 2, \"other\": 7}}}"),
    RUN("12", "", "null", "2", "{\"$last\": 4}"),
    RUN("0", "add", "{\"by\": 2}", "0", "null"),
    RUN("0", "add", "{\"by\": \"2\"}", "1", "{\"$last\": 4}"),
    RUN("0", "add", "{\"pad\": 5000}", "0", "{\"$last\": 4}"),
    RUN("0", "get", "{}", "0", "null"),
    RUN("0", "want", "null", "0", "null"),
    RUN("0", "act", "{\"verb\": \"timer\", \"text\": \"t\", \"n\": 9}", "0", "null"),
    RUN("0", "act", "{\"verb\": \"tell\", \"agent\": \"@x1\", \"number\": 9}", "0", "null"),
    RUN("0", "act", "{\"verb\": \"itinerary\", \"text\": \"h1\", \"n\": 3}", "0", "null"),
    RUN("0", "act", "{\"verb\": \"publish\", \"text\": \"news\"}", "0", "null"),
    RUN("0", "act", "{\"verb\": \"pay\", \"n\": 3}", "0", "null"),
    RUN("0", "act", "{\"verb\": \"nap\", \"n\": 3}", "0", "null"),
    RUN("0", "got", "{\"reply\": {\"x\": 1}, \"more\": 2}", "8", "null"),
    RUN("9", "t", "{\"number\": 1}", "0", "null"),
    RUN("10", "", "null", "0", "null"),
    RUN("11", "", "{\"ref\": \"@x3\", \"reason\": \"disposed\"}", "0", "null"),
    "[\"UNLOAD\", 0, [\"@x0\"]]",
    NULL};

const struct fuzz_grammar fuzz_grammar = {play_words, pieces};
