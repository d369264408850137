/* Itineraries as rows, as people and handlers write them, and as they see them (journey.c works
 * them off). */
#include "host/core/itinerary.h"

#include <stdlib.h>
#include <string.h>

static const char *const state_names[STOP_STATES] = {"ahead", "done", "skipped", "failed"};
static const char *const policy_names[STOP_POLICIES] = {"retry", "skip", "wait"};

/* ---- in memory ---- */

void itinerary_free(struct itinerary *it)
{
    for (size_t i = 0; it && i < it->count; i++) {
        free(it->stops[i].to);
        free(it->stops[i].text);
        buf_free(&it->stops[i].args);
        buf_free(&it->stops[i].reply);
    }
    if (it) {
        free(it->stops);
        free(it);
    }
}

char *itinerary_text(struct span s)
{
    char *text = xcalloc(1, s.n + 1);
    if (s.n > 0) {
        memcpy(text, s.p, s.n);
    }
    return text;
}

/* ---- packed: [at, over, home, text, inbox, tries, to, [stop...]] ---- */

static void pack_stop(const struct stop *s, struct buf *out)
{
    mp_array(out, 11);
    mp_str(out, s->to);
    mp_str(out, s->method);
    mp_span(out, buf_span(&s->args));
    mp_uint(out, s->policy);
    mp_uint(out, s->retries);
    mp_uint(out, s->state);
    mp_str(out, s->host);
    mp_uint(out, s->code);
    mp_str(out, s->text ? s->text : "");
    mp_span(out, buf_span(&s->reply));
    mp_int(out, s->at_ms);
}

void itinerary_pack(const struct itinerary *it, struct buf *out)
{
    mp_array(out, 8);
    mp_uint(out, it->at);
    mp_bool(out, it->over);
    mp_bool(out, it->home);
    mp_bool(out, it->text);
    mp_uint(out, it->inbox);
    mp_uint(out, it->tries);
    mp_bin(out, it->to.b, it->bound ? HOST_ID_BYTES : 0);
    mp_array(out, it->count);
    for (size_t i = 0; i < it->count; i++) {
        pack_stop(&it->stops[i], out);
    }
}

/* Nothing, or one whole value; of arguments a map. */
static gw_err check_value(struct span packed, size_t max, bool map)
{
    struct mp m = mp_over(packed);
    if (packed.n == 0) {
        return GW_OK;
    }
    if (packed.n > max || (map && mp_peek(&m) != MP_MAP)) {
        return GW_EPROTO;
    }
    GW_TRY(mp_skip(&m, NULL));
    return mp_done(&m) ? GW_OK : GW_EPROTO;
}

static gw_err read_stop(struct mp *m, struct stop *s)
{
    size_t n;
    struct span to, args, text, reply;
    uint32_t policy, state;
    GW_TRY(mp_read_array(m, &n));
    GW_TRY(n < 11 ? GW_EPROTO : mp_read_str(m, &to));
    GW_TRY(mp_read_text(m, s->method, sizeof s->method));
    GW_TRY(mp_read_bin(m, &args));
    GW_TRY(mp_read_u32(m, &policy));
    GW_TRY(mp_read_u32(m, &s->retries));
    GW_TRY(mp_read_u32(m, &state));
    GW_TRY(mp_read_text(m, s->host, sizeof s->host));
    GW_TRY(mp_read_u32(m, &s->code));
    GW_TRY(mp_read_str(m, &text));
    GW_TRY(mp_read_bin(m, &reply));
    GW_TRY(mp_read_int(m, &s->at_ms));
    GW_TRY(mp_skip_n(m, n - 11));
    if (to.n == 0 || to.n > LIMIT_STOP_TO_BYTES || memchr(to.p, 0, to.n) ||
        text.n > LIMIT_ERROR_TEXT_BYTES || memchr(text.p, 0, text.n) || policy >= STOP_POLICIES ||
        state >= STOP_STATES || (s->method[0] && !name_is_valid(s->method))) {
        return GW_EPROTO;
    }
    GW_TRY(check_value(args, LIMIT_STOP_BYTES, true));
    GW_TRY(check_value(reply, LIMIT_STOP_BYTES, false));
    s->policy = (stop_policy)policy;
    s->state = (stop_state)state;
    s->to = itinerary_text(to);
    s->text = itinerary_text(text);
    buf_add(&s->args, args.p, args.n);
    buf_add(&s->reply, reply.p, reply.n);
    return buf_ok(&s->args) && buf_ok(&s->reply) ? GW_OK : GW_ENOMEM;
}

static gw_err read_all(struct mp *m, struct itinerary *it)
{
    size_t n, count;
    uint64_t at;
    struct span to;
    GW_TRY(mp_read_array(m, &n));
    GW_TRY(n < 8 ? GW_EPROTO : mp_read_uint(m, &at));
    GW_TRY(mp_read_bool(m, &it->over));
    GW_TRY(mp_read_bool(m, &it->home));
    GW_TRY(mp_read_bool(m, &it->text));
    GW_TRY(mp_read_uint(m, &it->inbox));
    GW_TRY(mp_read_u32(m, &it->tries));
    GW_TRY(mp_read_bin(m, &to));
    GW_TRY(mp_read_array(m, &count));
    if (count < 1 || count > LIMIT_STOPS + 1 || at > count ||
        (it->inbox && (it->over || at == count)) || (to.n != 0 && to.n != HOST_ID_BYTES)) {
        return GW_EPROTO;
    }
    it->bound = to.n > 0;
    memcpy(it->to.b, it->bound ? to.p : it->to.b, it->bound ? to.n : 0);
    it->at = (size_t)at;
    it->stops = xcalloc(count, sizeof *it->stops);
    for (it->count = 0; it->count < count; it->count++) {
        gw_err err = read_stop(m, &it->stops[it->count]);
        if (err != GW_OK) {
            it->count++; /* what it has got is freed with the rest */
            return err;
        }
    }
    GW_TRY(mp_skip_n(m, n - 8));
    return mp_done(m) ? GW_OK : GW_EPROTO;
}

gw_err itinerary_unpack(struct span packed, struct itinerary **ret)
{
    struct itinerary *it = xcalloc(1, sizeof *it);
    struct mp m = mp_over(packed);
    gw_err err = read_all(&m, it);
    if (err != GW_OK) {
        itinerary_free(it);
        return err;
    }
    *ret = it;
    return GW_OK;
}

/* ---- from people and handlers ---- */

static bool one_of(const char *name, const char *const *names, size_t n, uint32_t *ret)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(name, names[i]) == 0) {
            *ret = (uint32_t)i;
            return true;
        }
    }
    return false;
}

static gw_err stop_of(const gw_value *v, struct stop *s, struct gw_error *why)
{
    const char *to = v->kind == GW_STR ? v->s.p : gw_map_str(v, "to", "");
    const char *method = gw_map_str(v, "method", "");
    const gw_value *args = gw_map_get(v, "args");
    int64_t retries = gw_map_int(v, "retries", STOP_RETRIES);
    uint32_t policy = STOP_RETRY;
    if ((v->kind != GW_STR && v->kind != GW_MAP) || !to[0] || strlen(to) > LIMIT_STOP_TO_BYTES) {
        return gw_fail(why, GW_EARG, "a stop names no host");
    }
    if ((method[0] && !name_is_valid(method)) || retries < 0 || retries > UINT16_MAX ||
        !one_of(gw_map_str(v, "policy", "retry"), policy_names, STOP_POLICIES, &policy) ||
        (args && args->kind != GW_NIL && args->kind != GW_MAP)) {
        return gw_fail(why, GW_EARG,
                       "the stop at \"%.100s\" is not well formed: method, args (a map), policy "
                       "(skip, wait or retry), retries",
                       to);
    }
    if (args && args->kind == GW_MAP) {
        value_pack(args, &s->args);
    }
    if (!buf_ok(&s->args) || s->args.len > LIMIT_STOP_BYTES) {
        return gw_fail(why, GW_ETOO_BIG, "the arguments of the stop at \"%.100s\" exceed %d bytes",
                       to, LIMIT_STOP_BYTES);
    }
    s->policy = (stop_policy)policy;
    s->retries = (uint32_t)retries;
    memcpy(s->method, method, strlen(method) + 1);
    s->to = itinerary_text((struct span){(const uint8_t *)to, strlen(to)});
    return GW_OK;
}

gw_err itinerary_of_args(const struct agent *a, const gw_value *args, struct itinerary **ret,
                         struct gw_error *why)
{
    const gw_value *stops = gw_map_get(args, "stops");
    char home[HOST_ID_TEXT];
    gw_err err = GW_OK;
    if (!stops || stops->kind != GW_LIST || stops->list.n == 0 || stops->list.n > LIMIT_STOPS) {
        return gw_fail(why, GW_EARG, "an itinerary has 1 to %d stops", LIMIT_STOPS);
    }
    struct itinerary *it = xcalloc(1, sizeof *it);
    it->stops = xcalloc(stops->list.n + 1, sizeof *it->stops);
    it->text = gw_map_bool(args, "text", false);
    it->home = gw_map_bool(args, "home", true);
    for (size_t i = 0; err == GW_OK && i < stops->list.n; i++) {
        err = stop_of(&stops->list.items[i], &it->stops[it->count++], why);
    }
    if (err == GW_OK && it->home) {
        struct stop *s = &it->stops[it->count++];
        host_id_text(a->home, home);
        s->to = itinerary_text((struct span){(const uint8_t *)home, strlen(home)});
        s->policy = STOP_WAIT;
    }
    if (err != GW_OK) {
        itinerary_free(it);
        return err;
    }
    *ret = it;
    return GW_OK;
}

/* ---- to people and handlers ---- */

static gw_err put_text(gw_value *map, const char *key, const char *text)
{
    return text && text[0] ? gw_map_set(map, key, gw_str(text)) : GW_OK;
}

static gw_err describe_stop(const struct itinerary *it, size_t i, gw_value *ret)
{
    const struct stop *s = &it->stops[i];
    gw_value reply = gw_nil();
    bool home = it->home && i + 1 == it->count;
    GW_TRY(gw_map_set(ret, "to", gw_str(home ? "home" : s->to)));
    GW_TRY(put_text(ret, "method", s->method));
    GW_TRY(gw_map_set(ret, "policy", gw_str(policy_names[s->policy])));
    GW_TRY(gw_map_set(ret, "state", gw_str(state_names[s->state])));
    if (s->state == STOP_AHEAD) {
        return GW_OK;
    }
    GW_TRY(put_text(ret, "host", s->host));
    GW_TRY(gw_map_set(ret, "at", gw_time_value((gw_time){s->at_ms})));
    GW_TRY(s->code ? put_text(ret, "code", gw_err_name(gw_err_from_wire(s->code))) : GW_OK);
    GW_TRY(put_text(ret, "text", s->text));
    if (s->reply.len > 0) {
        GW_TRY(value_unpack_span(buf_span(&s->reply), &reply));
        GW_TRY(gw_map_set(ret, "reply", reply));
    }
    return GW_OK;
}

gw_err itinerary_describe_stops(const struct itinerary *it, gw_value *ret)
{
    gw_value list = {.kind = GW_LIST};
    gw_err err = GW_OK;
    for (size_t i = 0; err == GW_OK && i < it->count; i++) {
        gw_value one = {0};
        err = describe_stop(it, i, &one);
        if (err == GW_OK) {
            err = gw_list_add(&list, one);
        } else {
            gw_value_free(&one);
        }
    }
    if (err != GW_OK) {
        gw_value_free(&list);
        return err;
    }
    *ret = list;
    return GW_OK;
}

gw_err itinerary_describe(const struct agent *a, gw_value *ret)
{
    const struct itinerary *it = a->itinerary;
    gw_value v = {0}, stops = {0};
    if (!it) {
        *ret = v;
        return GW_OK;
    }
    gw_err err = itinerary_describe_stops(it, &stops);
    if (err == GW_OK) {
        err = gw_map_set(&v, "stops", stops);
    }
    if (err == GW_OK) {
        err = gw_map_set(&v, "at", gw_int((int64_t)it->at));
    }
    if (err == GW_OK) {
        const char *state = it->over                      ? "over"
                            : a->status == AGENT_INACTIVE ? "asleep"
                            : it->inbox                   ? "working"
                            : it->busy                    ? "moving"
                            : it->tries                   ? "waiting"
                                                          : "going";
        err = gw_map_set(&v, "state", gw_str(state));
    }
    if (err != GW_OK) {
        gw_value_free(&v);
        return err;
    }
    *ret = v;
    return GW_OK;
}
