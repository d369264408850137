/* HTTP requests as operations. */
#include "host/api.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "host/api_route.h"
#include "host/core/node.h"
#include "protocol/base/log.h"
#include "protocol/json.h"
#include "protocol/value.h"

struct http_op {
    struct op_call call; /* first: the handler gives it back */
    struct http_call *http;
    bool msgpack; /* the answer */
    bool head;    /* HEAD */
    bool running; /* inside node_call: answer only marks */
    bool answered;
    bool streams; /* the event stream has begun */
    bool gone;
};

/* --- answers --- */

static bool wants_msgpack(const struct http_call *http)
{
    const char *accept = http_header(http, "Accept");
    return accept && strcasestr(accept, "application/msgpack");
}

static gw_err encode(const gw_value *v, bool msgpack, struct buf *out)
{
    if (msgpack) {
        value_pack(v, out);
    } else {
        GW_TRY(json_write(v, 0, out));
        buf_add(out, "\n", 1);
    }
    return buf_ok(out) ? GW_OK : GW_ENOMEM;
}

static gw_err error_value(const struct gw_error *why, gw_value *ret)
{
    gw_value error = gw_nil();
    gw_err err = gw_map_set(&error, "code", gw_str(gw_err_name(why->code)));
    err = err ? err : gw_map_set(&error, "message", gw_str(why->text));
    err = err ? err : gw_map_set(&error, "hint", gw_str(why->hint));
    if (err != GW_OK) {
        gw_value_free(&error);
        return err;
    }
    return gw_map_set(ret, "error", error);
}

static void answer_value(struct http_call *http, bool msgpack, int status, const gw_value *v)
{
    struct buf body = {0};
    gw_err err = encode(v, msgpack, &body);
    if (err == GW_OK) {
        http_answer(http, status, msgpack ? "application/msgpack" : "application/json",
                    buf_span(&body));
    } else {
        struct gw_error why = {0};
        (void)gw_fail(&why, err, "the answer cannot be written");
        http_answer_error(http, &why);
    }
    buf_free(&body);
}

/* The text of a result {text}. */
static void answer_text(struct http_call *http, const char *content_type, const gw_value *result)
{
    const gw_value *text = gw_map_get(result, "text");
    bool is_text = text && text->kind == GW_STR && text->s.p;
    struct span body = {0};
    if (is_text) {
        body = (struct span){(const uint8_t *)text->s.p, text->s.n};
    }
    http_answer(http, 200, content_type, body);
}

static void answer_error(struct http_call *http, const struct gw_error *why)
{
    gw_value doc = gw_nil();
    if (!wants_msgpack(http) || error_value(why, &doc) != GW_OK) {
        http_answer_error(http, why);
    } else {
        if (why->code == GW_EUNAUTHENTICATED) {
            http_set_header(http, "WWW-Authenticate", "Bearer");
        }
        if (gw_err_http(why->code) == 429 || gw_err_http(why->code) == 503) {
            http_set_header(http, "Retry-After", "1");
        }
        answer_value(http, true, gw_err_http(why->code), &doc);
    }
    gw_value_free(&doc);
}

/* --- streams --- */

static void on_gone(void *arg)
{
    struct http_op *o = arg;
    o->gone = true;
    if (o->call.on_gone) {
        o->call.on_gone(o->call.gone_arg);
    }
}

static void begin_stream(struct http_op *o)
{
    if (!o->streams) {
        o->streams = true;
        http_stream_begin(o->http, "text/event-stream", on_gone, o);
    }
}

/* One event: [event: name] data: json */
static bool write_event(struct http_op *o, const char *name, const gw_value *v)
{
    struct buf out = {0};
    if (name) {
        buf_addf(&out, "event: %s\n", name);
    }
    buf_addf(&out, "data: ");
    gw_err err = json_write(v, 0, &out);
    buf_addf(&out, "\n\n");
    bool ok = err == GW_OK && buf_ok(&out) && http_stream_write(o->http, buf_span(&out));
    buf_free(&out);
    return ok;
}

static bool on_item(struct op_call *call, const gw_value *value)
{
    struct http_op *o = (struct http_op *)call;
    if (o->gone || o->answered) {
        return false;
    }
    begin_stream(o);
    o->gone = !write_event(o, NULL, value);
    return !o->gone;
}

static void end_stream(struct http_op *o, gw_err err, const struct gw_error *why)
{
    if (err != GW_OK && why && !o->gone) {
        gw_value doc = gw_nil();
        if (error_value(why, &doc) == GW_OK) {
            (void)write_event(o, "error", &doc);
        }
        gw_value_free(&doc);
    }
    http_stream_end(o->http);
}

/* --- life of a call --- */

static void op_free(struct http_op *o)
{
    gw_value_free(&o->call.args);
    gw_value_free(&o->call.context);
    free(o);
}

static void on_answer(struct op_call *call, gw_err err, gw_value *result,
                      const struct gw_error *why)
{
    struct http_op *o = (struct http_op *)call;
    struct gw_error general = {0};
    gw_assert(!o->answered);
    if (err != GW_OK && !why) {
        (void)gw_fail(&general, err, "%s", gw_err_text(err));
        why = &general;
    }
    o->answered = true;
    if (o->streams) {
        end_stream(o, err, why);
    } else if (err != GW_OK) {
        answer_error(o->http, why);
    } else if (o->call.op->streams) {
        begin_stream(o);
        http_stream_end(o->http);
    } else if (o->call.op->text && !o->msgpack && result) {
        answer_text(o->http, o->call.op->text, result);
    } else {
        gw_value nothing = gw_nil();
        answer_value(o->http, o->msgpack, 200, result ? result : &nothing);
    }
    if (result) {
        gw_value_free(result);
    }
    if (!o->running) {
        op_free(o);
    }
}

/* --- arguments --- */

static gw_err read_body(struct http_call *http, gw_value *ret, struct gw_error *why)
{
    struct span body = http_body(http);
    const char *type = http_header(http, "Content-Type");
    gw_err err;
    if (body.n == 0) {
        return GW_OK;
    }
    if (type && strncasecmp(type, "application/json", 16) == 0) {
        err = json_parse((const char *)body.p, body.n, ret, why);
        if (err != GW_OK) {
            gw_prefix(why, "the body");
            return err;
        }
    } else if (type && strncasecmp(type, "application/msgpack", 19) == 0) {
        if (value_unpack_span(body, ret) != GW_OK) {
            return gw_fail(why, GW_EDECODE, "the body is not one msgpack element");
        }
    } else {
        gw_fail(why, GW_EARG, "the body is neither application/json nor application/msgpack");
        gw_hint(why, "send the header Content-Type: application/json");
        return GW_EARG;
    }
    if (ret->kind != GW_MAP && ret->kind != GW_NIL) {
        gw_value_free(ret);
        return gw_fail(why, GW_EARG, "the body is not an object");
    }
    return GW_OK;
}

/* Move the members of the body to the arguments. */
static gw_err merge(gw_value *args, gw_value *body, struct gw_error *why)
{
    for (size_t i = 0; body->kind == GW_MAP && i < body->map.n; i++) {
        struct gw_member *m = &body->map.items[i];
        if (gw_map_get(args, m->key)) {
            return gw_fail(why, GW_EARG, "\"%.64s\" is given twice", m->key);
        }
        gw_value v = m->value;
        m->value = gw_nil();
        if (gw_map_set(args, m->key, v) != GW_OK) {
            return gw_fail(why, GW_ENOMEM, "out of memory");
        }
    }
    return GW_OK;
}

/* Path parameters are in `args` already. What came as text is typed first; then all is checked as
 * it is. */
static gw_err gather_args(struct http_call *http, const struct op *op, gw_value *args,
                          struct gw_error *why)
{
    const struct signature *sig = op_signature(op);
    gw_value body = gw_nil();
    GW_TRY(route_query(http_query(http), args, why));
    for (size_t i = 0; args->kind == GW_MAP && i < args->map.n; i++) {
        struct gw_member *m = &args->map.items[i];
        GW_TRY(signature_text_arg(sig, m->key, &m->value, why));
    }
    gw_err err = read_body(http, &body, why);
    if (err == GW_OK) {
        err = merge(args, &body, why);
    }
    gw_value_free(&body);
    GW_TRY(err);
    return signature_check_args(sig, args, false, why);
}

/* --- the index --- */

static gw_err add_row(gw_value *list, const struct op *op)
{
    char method[8];
    gw_value row = gw_nil();
    gw_err err = gw_map_set(&row, "name", gw_str(op->name));
    if (op->http) {
        const char *path = route_of(op, method);
        err = err ? err : gw_map_set(&row, "method", gw_str(method));
        err = err ? err : gw_map_set(&row, "path", gw_str(path));
    }
    err = err ? err : gw_map_set(&row, "role", gw_str(role_name(op->role)));
    err = err ? err : gw_map_set(&row, "signature", gw_str(op->signature));
    err = err ? err : gw_map_set(&row, "streams", gw_bool(op->streams));
    err = err ? err : gw_map_set(&row, "help", gw_str(op->help));
    if (err != GW_OK) {
        gw_value_free(&row);
        return err;
    }
    return gw_list_add(list, row);
}

static gw_err make_index(gw_value *ret)
{
    gw_value list = gw_nil();
    gw_err err = GW_OK;
    for (size_t i = 0; err == GW_OK && i < ops_count; i++) {
        err = add_row(&list, &ops_table[i]);
    }
    if (err != GW_OK) {
        gw_value_free(&list);
        return err;
    }
    return gw_map_set(ret, "operations", list);
}

static void answer_index(struct http_call *http)
{
    gw_value doc = gw_nil();
    struct gw_error why = {0};
    gw_err err = make_index(&doc);
    if (err == GW_OK) {
        answer_value(http, wants_msgpack(http), 200, &doc);
    } else {
        (void)gw_fail(&why, err, "out of memory");
        http_answer_error(http, &why);
    }
    gw_value_free(&doc);
}

/* The headers of W3C Trace Context; what is no valid trace is ignored (carry.c). One that comes
 * twice is none (section 3.2.4 of the recommendation leaves which is meant open). */
static gw_err take_trace(struct http_call *http, gw_value *context)
{
    static const char *const names[] = {"traceparent", "tracestate"};
    for (size_t i = 0; i < 2; i++) {
        const char *text = http_header_once(http, names[i]);
        gw_value v = gw_nil();
        if (text) {
            GW_TRY(gw_value_set_str(&v, text, strlen(text)));
            GW_TRY(gw_map_set(context, names[i], v));
        }
    }
    return GW_OK;
}

/* --- the door --- */

static void run(struct node *node, struct http_call *http, const struct op *op, gw_value *args)
{
    struct http_op *o = xcalloc(1, sizeof *o);
    o->http = http;
    o->msgpack = wants_msgpack(http);
    o->call = (struct op_call){
        .op = op,
        .args = *args,
        .role = http_role(http),
        .http = true,
        .http_call = http,
        .answer = on_answer,
        .item = on_item,
    };
    *args = gw_nil();
    if (take_trace(http, &o->call.context) != GW_OK) {
        log_warn("memory", "a request goes on without its trace");
    }
    if (op->streams && strcmp(http_method(http), "HEAD") == 0) {
        on_answer(&o->call, GW_OK, NULL, NULL);
        return;
    }
    o->running = true;
    node_call(node, &o->call);
    o->running = false;
    if (o->answered) {
        op_free(o);
    } else if (op->streams) {
        begin_stream(o); /* the client sees now that it is connected */
    }
}

static gw_err prepare(struct http_call *http, const struct op **ret_op, gw_value *args,
                      struct gw_error *why)
{
    char allow[ROUTE_ALLOW_BYTES];
    gw_err err = route_find(http_method(http), http_path(http), ret_op, args, allow, why);
    if (err == GW_EHTTP_METHOD) {
        http_set_header(http, "Allow", allow);
    }
    GW_TRY(err);
    GW_TRY(role_check((*ret_op)->name, (*ret_op)->role, http_role(http), why));
    GW_TRY(origin_check(http_method(http), http_header(http, "Origin"), http_header(http, "Host"),
                        why));
    return gather_args(http, *ret_op, args, why);
}

void api_http(struct node *node, struct http_call *http)
{
    const char *path = http_path(http), *method = http_method(http);
    bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    if (reads && (strcmp(path, "/v1") == 0 || strcmp(path, "/v1/") == 0)) {
        answer_index(http);
        return;
    }
    struct gw_error why = {0};
    const struct op *op = NULL;
    gw_value args = {.kind = GW_MAP};
    if (prepare(http, &op, &args, &why) == GW_OK) {
        run(node, http, op, &args);
    } else {
        answer_error(http, &why);
    }
    gw_value_free(&args);
}
