/* The doors to the operation table: routes, typing, roles, errors and streams over HTTP; CALL
 * frames. The table and the node are the test's own. */
#include "tests/unit/host/net_rig.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "host/api.h"
#include "host/api_route.h"
#include "host/core/node.h"
#include "protocol/json.h"
#include "protocol/value.h"

/* --- the table --- */

static struct op_call *held;
static unsigned calls, gone;

static void op_echo(struct node *node, struct op_call *call)
{
    (void)node;
    gw_value result = gw_nil(), copy = gw_nil();
    calls++;
    assert_int_equal(gw_value_copy(&call->args, &copy), GW_OK);
    assert_int_equal(gw_map_set(&result, "args", copy), GW_OK);
    assert_int_equal(gw_map_set(&result, "op", gw_str(call->op->name)), GW_OK);
    assert_int_equal(gw_map_set(&result, "role", gw_str(role_name(call->role))), GW_OK);
    if (call->context.kind != GW_NIL) {
        assert_int_equal(gw_value_copy(&call->context, &copy), GW_OK);
        assert_int_equal(gw_map_set(&result, "context", copy), GW_OK);
    }
    op_ok(call, &result);
    assert_int_equal(result.kind, GW_NIL); /* taken */
}

static void op_text(struct node *node, struct op_call *call)
{
    (void)node;
    gw_value result = gw_nil();
    assert_int_equal(gw_map_set(&result, "text", gw_str("a 1\nb{c=\"d\"} 2\n")), GW_OK);
    op_ok(call, &result);
}

static void op_hold(struct node *node, struct op_call *call)
{
    (void)node;
    calls++;
    held = call;
}

static void op_refuse(struct node *node, struct op_call *call)
{
    (void)node;
    struct gw_error why = {0};
    gw_fail(&why, GW_EAGENT_NOT_FOUND, "there is no agent \"%s\"", "x");
    gw_hint(&why, "look at `agents --all`");
    op_fail(call, &why);
}

static void tail_gone(void *arg)
{
    struct op_call *call = arg;
    struct gw_error why = {0};
    gone++;
    held = NULL;
    (void)gw_fail(&why, GW_ECANCELLED, "the caller is gone");
    op_fail(call, &why);
}

static void op_tail(struct node *node, struct op_call *call)
{
    (void)node;
    calls++;
    if (gw_map_bool(&call->args, "fail", false)) {
        op_refuse(node, call);
        return;
    }
    gw_value v = gw_int(1);
    assert_true(call->item(call, &v));
    if (!gw_map_bool(&call->args, "follow", false)) {
        op_ok(call, NULL);
        return;
    }
    call->on_gone = tail_gone;
    call->gone_arg = call;
    held = call;
}

#define ECHO_SIGNATURE                                                                             \
    "echo(name: string, count: int[0..100] = 1, flag: bool = false, ratio: float?, wait: "         \
    "duration?, "                                                                                  \
    "id: agent?, data: any?, tags: [string]?)"

const struct op ops_table[] = {
    {"health", "GET /v1/health", ROLE_NONE, "health()", op_echo, "well?"},
    {"echo", "POST /v1/echo/{name}", ROLE_OPERATOR, ECHO_SIGNATURE, op_echo, "says it again"},
    {"thing", "GET /v1/things/{thing}", ROLE_VIEWER, "thing(thing: string, deep: bool = false)",
     op_echo, "one"},
    {"special", "GET /v1/things/special", ROLE_VIEWER, "special()", op_echo, "literal wins"},
    {"drop", "DELETE /v1/things/{thing}", ROLE_ADMIN, "drop(thing: string)", op_echo, "ends it"},
    {"part", "GET /v1/things/{thing}/parts/{part}", ROLE_VIEWER, "part(thing: string, part: int)",
     op_echo, "two parameters"},
    {"hold", "POST /v1/hold", ROLE_OPERATOR, "hold()", op_hold, "later"},
    {"refuse", "GET /v1/refuse", ROLE_VIEWER, "refuse()", op_refuse, "always"},
    {"tail", "GET /v1/tail", ROLE_VIEWER, "tail(follow: bool = false, fail: bool = false)", op_tail,
     "a stream", .streams = true},
    {"text", "GET /v1/text", ROLE_VIEWER, "text()", op_text, "lines",
     .text = "text/plain; version=0.0.4"},
    {"locate", NULL, ROLE_PEER, "locate(agent: string)", op_echo, "links of peers only"},
};
const size_t ops_count = sizeof ops_table / sizeof ops_table[0];
static struct signature *signatures[sizeof ops_table / sizeof ops_table[0]];

void ops_init(void)
{
    for (size_t i = 0; i < ops_count; i++) {
        struct gw_error why = {0};
        if (signature_parse(ops_table[i].signature, &signatures[i], &why) != GW_OK) {
            fail_msg("%s: %s", ops_table[i].name, why.text);
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
        if (strcmp(ops_table[i].name, name) == 0) {
            return &ops_table[i];
        }
    }
    return NULL;
}

void node_call(struct node *node, struct op_call *call)
{
    call->op->run(node, call);
}

/* --- HTTP --- */

static char home_path[64];
static char socket_path[100];
static struct trust *trust;
static struct server *server;

static void on_request(void *arg, struct http_call *c)
{
    (void)arg;
    api_http(NULL, c);
}

static void on_link(void *arg, struct link *link, api_role role)
{
    (void)arg;
    (void)role;
    link_close(link, false, "not here");
}

static int setup(void **state)
{
    static const struct server_ops ops = {on_request, on_link};
    struct gw_error why = {0};
    rig_setup(state);
    ops_init();
    temp_home(home_path);
    snprintf(socket_path, sizeof socket_path, "%s/api.sock", home_path);
    struct server_config c = {
        .base = base, .listen = "127.0.0.1:0", .socket_path = socket_path, .ops = &ops};
    if (trust_open(home_path, "alpha", &trust, &why) != GW_OK) {
        return -1;
    }
    c.trust = trust;
    return server_open(&c, &server, &why) == GW_OK ? 0 : -1;
}

static int teardown(void **state)
{
    server_close(server);
    trust_close(trust);
    for (size_t i = 0; i < ops_count; i++) {
        signature_free(signatures[i]);
    }
    remove_tree(home_path);
    return rig_teardown(state);
}

static int local(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static char text[65536];
static size_t text_len;

static void read_all(int fd, const char *until)
{
    text_len = 0;
    text[0] = '\0';
    for (int64_t end = now_ms() + 5000; now_ms() < end && !(until && strstr(text, until));) {
        ssize_t n = recv(fd, text + text_len, sizeof text - text_len - 1, 0);
        if (n > 0) {
            text_len += (size_t)n;
            text[text_len] = '\0';
        } else if (n == 0 || errno != EAGAIN) {
            break;
        } else {
            turn();
        }
    }
}

/* The status; `text` holds the whole answer. */
static int ask(const char *request)
{
    int fd = local();
    raw_write(fd, request, strlen(request));
    shutdown(fd, SHUT_WR);
    read_all(fd, NULL);
    close(fd);
    return strncmp(text, "HTTP/1.1 ", 9) == 0 ? (int)strtol(text + 9, NULL, 10) : -1;
}

static int get(const char *target)
{
    char request[9000];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n\r\n", target);
    return ask(request);
}

static int post(const char *target, const char *headers, const char *body)
{
    char request[9000];
    snprintf(request, sizeof request, "POST %s HTTP/1.1\r\n%sContent-Length: %zu\r\n\r\n%s", target,
             headers, strlen(body), body);
    return ask(request);
}

#define JSON "Content-Type: application/json\r\n"

static void expect(const char *part)
{
    if (!strstr(text, part)) {
        fail_msg("no %s in: %s", part, text);
    }
}

static void test_routes(void **state)
{
    (void)state;
    assert_int_equal(get("/v1/health"), 200);
    expect("Content-Type: application/json\r\n");
    expect("\"op\": \"health\"");
    assert_int_equal(get("/v1/things/abc"), 200);
    expect("\"thing\": \"abc\"");
    assert_int_equal(get("/v1/things/special"), 200);
    expect("\"op\": \"special\"");
    assert_int_equal(get("/v1/things/a%2Fb%20%C3%A4"), 200);
    expect("\"thing\": \"a/b \xc3\xa4\"");
    assert_int_equal(get("/v1/things/x/parts/7?"), 200);
    expect("\"part\": 7");
    assert_int_equal(ask("DELETE /v1/things/x HTTP/1.1\r\n\r\n"), 200);
    assert_int_equal(ask("HEAD /v1/things/x HTTP/1.1\r\n\r\n"), 200);
    assert_null(strstr(text, "{"));
    static const char *const nowhere[] = {
        "/",           "/v1/",          "/v1/healthy",        "/v1/health/", "/v1/things",
        "/v1/things/", "/v1//things/x", "/v1/things/x/parts", "/v2/health",  "/v1/locate"};
    for (size_t i = 0; i < sizeof nowhere / sizeof nowhere[0]; i++) {
        if (strcmp(nowhere[i], "/v1/") == 0) {
            continue;
        }
        assert_int_equal(get(nowhere[i]), 404);
        expect("\"code\": \"not_found\"");
        expect("GET /v1 lists the operations");
    }
    static const char *const bad[] = {"/v1/things/%", "/v1/things/%4", "/v1/things/%zz",
                                      "/v1/things/%00", "/v1/things/%ff"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(get(bad[i]), 400);
    }
}

static void test_text(void **state)
{
    (void)state;
    assert_int_equal(get("/v1/text"), 200);
    expect("Content-Type: text/plain; version=0.0.4\r\n");
    expect("\r\n\r\na 1\nb{c=\"d\"} 2\n");
    assert_int_equal(ask("HEAD /v1/text HTTP/1.1\r\n\r\n"), 200);
    assert_null(strstr(text, "a 1"));
    assert_int_equal(ask("GET /v1/text HTTP/1.1\r\nAccept: application/msgpack\r\n\r\n"), 200);
    expect("Content-Type: application/msgpack\r\n");
}

static void test_other_methods(void **state)
{
    (void)state;
    assert_int_equal(ask("PUT /v1/things/x HTTP/1.1\r\n\r\n"), 405);
    expect("Allow: GET, HEAD, DELETE\r\n");
    expect("\"code\": \"http_method\"");
    assert_int_equal(ask("POST /v1/health HTTP/1.1\r\n\r\n"), 405);
    expect("Allow: GET, HEAD\r\n");
}

static void test_index(void **state)
{
    (void)state;
    assert_int_equal(get("/v1"), 200);
    gw_value doc = gw_nil();
    const char *body = strstr(text, "\r\n\r\n") + 4;
    assert_int_equal(json_parse(body, strlen(body), &doc, NULL), GW_OK);
    const gw_value *list = gw_map_get(&doc, "operations");
    assert_int_equal(list->list.n, ops_count);
    assert_string_equal(gw_map_str(&list->list.items[1], "method", ""), "POST");
    assert_string_equal(gw_map_str(&list->list.items[1], "path", ""), "/v1/echo/{name}");
    assert_string_equal(gw_map_str(&list->list.items[1], "role", ""), "operator");
    gw_value_free(&doc);
}

static void test_arguments_from_path_query_and_body(void **state)
{
    (void)state;
    assert_int_equal(post("/v1/echo/n?count=7&flag&wait=5s&tags=a,b", JSON, "{\"ratio\": 2}"), 200);
    expect("\"count\": 7");
    expect("\"flag\": true");
    expect("\"wait\": 5000");
    expect("\"tags\": [\"a\", \"b\"]");
    expect("\"ratio\": 2.0");
    assert_int_equal(post("/v1/echo/n?count=7", "", ""), 200);
    assert_int_equal(post("/v1/echo/n", JSON, "{}"), 200);
    expect("\"count\": 1"); /* default */
    /* texts of the body stay texts: "5" is no number, but free values and ids may be texts */
    assert_int_equal(post("/v1/echo/n", JSON, "{\"count\": \"5\"}"), 400);
    expect("\\\"count\\\" wants int");
    assert_int_equal(post("/v1/echo/n", JSON, "{\"data\": \"5\"}"), 200);
    expect("\"data\": \"5\"");
    assert_int_equal(post("/v1/echo/n?count=3", JSON, "{\"flag\": \"true\"}"), 400);
    assert_int_equal(post("/v1/echo/n", JSON, "{\"id\": \"01ARZ3NDEKTSV4RRFFQ69G5FAV\"}"), 200);
    assert_int_equal(post("/v1/echo/n?data=5", "", ""), 200);
    expect("\"data\": 5");
    unsigned before = calls;
    static const struct {
        const char *target, *body, *says;
    } bad[] = {
        {"/v1/echo/n?count=101", "", "count"},
        {"/v1/echo/n?count=x", "", "count"},
        {"/v1/echo/n?unknown=1", "", "unknown"},
        {"/v1/echo/n?name=m", "", "given twice"},
        {"/v1/echo/n?count=1&count=2", "", "given twice"},
        {"/v1/echo/n?count=1", "{\"count\": 2}", "given twice"},
        {"/v1/echo/n", "{\"count\": 2, \"count\": 3}", "body"},
        {"/v1/echo/n", "{\"count\": 1.5}", "count"},
        {"/v1/echo/n", "{", "body"},
        {"/v1/echo/n", "[1]", "not an object"},
        {"/v1/echo/n", "{} {}", "body"},
        {"/v1/echo/n?count=%", "", "percent"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(post(bad[i].target, JSON, bad[i].body), 400);
        expect("\"code\": \"arg\"");
        expect(bad[i].says);
    }
    assert_int_equal(post("/v1/echo/n", "", "{}"), 400); /* no type: a plain form of a browser */
    expect("Content-Type: application/json");
    assert_int_equal(post("/v1/echo/n", "Content-Type: text/plain\r\n", "{}"), 400);
    assert_int_equal(calls, before);
}

static void test_query_limit(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int over = 0; over <= 1; over++) {
        gw_value args = gw_nil();
        struct gw_error why = {0};
        buf_reset(&b);
        for (int i = 0; i < LIMIT_HTTP_PARAMS + over; i++) {
            buf_addf(&b, "p%d=1&", i);
        }
        buf_add(&b, "", 1);
        assert_true(buf_ok(&b));
        assert_int_equal(route_query((char *)b.data, &args, &why), over ? GW_ETOO_BIG : GW_OK);
        gw_value_free(&args);
    }
    buf_free(&b);
}

static void test_pages_of_other_origins(void **state)
{
    (void)state;
    assert_int_equal(post("/v1/echo/n", JSON "Host: a:1\r\nOrigin: https://a:1\r\n", "{}"), 200);
    assert_int_equal(post("/v1/echo/n", JSON "Host: a:1\r\nOrigin: https://evil\r\n", "{}"), 403);
    assert_int_equal(post("/v1/echo/n", JSON "Host: a:1\r\nOrigin: null\r\n", "{}"), 403);
    assert_int_equal(ask("GET /v1/health HTTP/1.1\r\nHost: a\r\nOrigin: https://b\r\n\r\n"), 200);
}

static void test_msgpack(void **state)
{
    (void)state;
    assert_int_equal(ask("GET /v1/things/x HTTP/1.1\r\nAccept: application/msgpack\r\n\r\n"), 200);
    expect("Content-Type: application/msgpack\r\n");
    uint8_t *body = (uint8_t *)strstr(text, "\r\n\r\n") + 4;
    gw_value v = gw_nil();
    struct span raw = {body, text_len - (size_t)(body - (uint8_t *)text)};
    assert_int_equal(value_unpack_span(raw, &v), GW_OK);
    assert_string_equal(gw_map_str(gw_map_get(&v, "args"), "thing", ""), "x");
    gw_value_free(&v);
    assert_int_equal(ask("GET /v1/nothing HTTP/1.1\r\nAccept: application/msgpack\r\n\r\n"), 404);
    expect("Content-Type: application/msgpack\r\n");
    assert_int_equal(post("/v1/echo/n", "Content-Type: application/msgpack\r\n",
                          "\x81\xa5"
                          "count\x05"),
                     200);
    expect("\"count\": 5");
    assert_int_equal(post("/v1/echo/n", "Content-Type: application/msgpack\r\n", "\x81\xa5"), 422);
}

static void test_errors_of_operations(void **state)
{
    (void)state;
    assert_int_equal(get("/v1/refuse"), 404);
    expect(
        "{\"error\": {\"code\": \"agent_not_found\", \"message\": \"there is no agent \\\"x\\\"\", "
        "\"hint\": \"look at `agents --all`\"}}");
}

static void test_late_answers(void **state)
{
    (void)state;
    int fd = local();
    static const char request[] = "POST /v1/hold HTTP/1.1\r\n\r\n";
    raw_write(fd, request, sizeof request - 1);
    held = NULL;
    turn_until(held);
    gw_value v = gw_str("done");
    op_ok(held, &v);
    read_all(fd, "done");
    expect("HTTP/1.1 200 ");
    raw_write(fd, request, sizeof request - 1);
    held = NULL;
    turn_until(held);
    close(fd);
    turns_ms(20);
    v = gw_str("nobody");
    op_ok(held, &v);
}

static void test_event_streams(void **state)
{
    (void)state;
    assert_int_equal(get("/v1/tail"), 200);
    expect("Content-Type: text/event-stream\r\n");
    expect("data: 1\n\n");
    assert_int_equal(get("/v1/tail?fail"), 404); /* before the first item an error is an error */
    unsigned before = calls;
    assert_int_equal(ask("HEAD /v1/tail HTTP/1.1\r\n\r\n"), 200);
    assert_int_equal(calls, before);
    int fd = local();
    static const char request[] = "GET /v1/tail?follow HTTP/1.1\r\n\r\n";
    raw_write(fd, request, sizeof request - 1);
    read_all(fd, "data: 1\n\n");
    gw_value two = gw_nil();
    assert_int_equal(gw_map_set(&two, "n", gw_str("a\nb")), GW_OK);
    assert_true(held->item(held, &two));
    gw_value_free(&two);
    read_all(fd, "\\nb");
    expect("data: {\"n\": \"a\\nb\"}\n\n");
    struct gw_error why = {0};
    (void)gw_fail(&why, GW_ESTOPPING, "the host is stopping");
    op_fail(held, &why);
    read_all(fd, "0\r\n\r\n");
    expect("event: error\ndata: {\"error\": {\"code\": \"stopping\"");
    held = NULL;
    gone = 0;
    raw_write(fd, request, sizeof request - 1);
    turn_until(held);
    close(fd);
    turn_until(gone == 1);
    assert_null(held);
}

static void test_roles_over_tls(void **state)
{
    (void)state;
    struct sockaddr_in addr = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)strtol(strrchr(server_url(server), ':') + 1, NULL, 10)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static const struct {
        const char *request, *want;
    } cases[] = {
        {"GET /v1/health HTTP/1.1\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "},
        {"GET /v1 HTTP/1.1\r\nConnection: close\r\n\r\n", "HTTP/1.1 200 "},
        {"GET /v1/things/x HTTP/1.1\r\nConnection: close\r\n\r\n", "HTTP/1.1 401 "},
        {"GET /v1/none HTTP/1.1\r\nConnection: close\r\n\r\n", "HTTP/1.1 404 "},
        {"POST /v1/echo/n HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", "HTTP/1.1 413 "},
    };
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        SSL *ssl = SSL_new(ctx);
        SSL_set_fd(ssl, fd);
        while (SSL_connect(ssl) != 1) {
            turn();
        }
        assert_true(SSL_write(ssl, cases[i].request, (int)strlen(cases[i].request)) > 0);
        int n = -1;
        text_len = 0;
        while (n != 0) {
            n = SSL_read(ssl, text + text_len, (int)(sizeof text - text_len - 1));
            if (n > 0) {
                text_len += (size_t)n;
            } else if (SSL_get_error(ssl, n) != SSL_ERROR_WANT_READ) {
                break;
            }
            turn();
        }
        text[text_len] = '\0';
        expect(cases[i].want);
        if (strstr(cases[i].want, "401")) {
            expect("WWW-Authenticate: Bearer\r\n");
            expect("\"code\": \"unauthenticated\"");
        }
        SSL_free(ssl);
        close(fd);
    }
    SSL_CTX_free(ctx);
}

static gw_err may(const char *name, api_role role, struct gw_error *why)
{
    const struct op *op = op_find(name);
    return role_check(op->name, op->role, role, why);
}

static void test_roles(void **state)
{
    (void)state;
    struct gw_error why = {0};
    assert_int_equal(may("drop", ROLE_OPERATOR, &why), GW_EDENIED);
    assert_non_null(strstr(why.text, "needs role admin, you have operator"));
    assert_int_equal(may("drop", ROLE_ADMIN, &why), GW_OK);
    assert_int_equal(may("drop", ROLE_PEER, &why), GW_OK);
    assert_int_equal(may("locate", ROLE_ADMIN, &why), GW_EDENIED);
    assert_int_equal(may("health", ROLE_NONE, &why), GW_OK);
    assert_int_equal(may("thing", ROLE_NONE, &why), GW_EUNAUTHENTICATED);
}

/* --- links --- */

static struct {
    unsigned replies, items;
    uint64_t stream;
    uint32_t code;
    gw_value value;
    char text[400];
} got;

static void on_send(void *arg, struct buf *frame)
{
    struct span in = buf_span(frame);
    struct frame f;
    assert_ptr_equal(arg, &got);
    assert_int_equal(frame_take(&in, LIMIT_MESSAGE_BYTES, &f), GW_OK);
    assert_int_equal(in.n, 0);
    gw_value_free(&got.value);
    got.stream = f.stream;
    if (f.kind == FRAME_REPLY) {
        got.replies++;
        assert_int_equal(mp_read_u32(&f.rest, &got.code), GW_OK);
        assert_int_equal(value_unpack(&f.rest, &got.value), GW_OK);
        assert_int_equal(mp_read_text_or_nil(&f.rest, got.text, sizeof got.text), GW_OK);
    } else {
        assert_int_equal(f.kind, FRAME_ITEM);
        got.items++;
        assert_int_equal(value_unpack(&f.rest, &got.value), GW_OK);
    }
    buf_free(frame);
}

static void put_json(struct buf *b, const char *json)
{
    gw_value v = gw_nil();
    assert_int_equal(json_parse(json, strlen(json), &v, NULL), GW_OK);
    value_pack(&v, b);
    gw_value_free(&v);
}

static void deliver(struct api_link *l, struct buf *b)
{
    struct frame f;
    assert_int_equal(frame_parse((struct span){b->data + 4, b->len - 4}, &f), GW_OK);
    api_link_frame(l, &f);
    buf_free(b);
}

/* A CALL; the code of its reply, or -1 when none came. */
static int call(struct api_link *l, uint64_t stream, const char *op, const char *args,
                const char *context)
{
    struct buf b = {0};
    unsigned before = got.replies;
    size_t at = frame_begin(&b, FRAME_CALL, stream, 3);
    mp_str(&b, op);
    put_json(&b, args);
    put_json(&b, context);
    frame_end(&b, at);
    deliver(l, &b);
    return got.replies > before ? (int)got.code : -1;
}

static void cancel(struct api_link *l, uint64_t stream)
{
    struct buf b = {0};
    frame_end(&b, frame_begin(&b, FRAME_CANCEL, stream, 0));
    deliver(l, &b);
}

static void test_calls_of_clients(void **state)
{
    (void)state;
    struct api_link *l = api_link_new(NULL, LINK_CLIENT, ROLE_ADMIN, on_send, &got);
    assert_int_equal(call(l, 1, "thing", "{\"thing\": \"x\"}", "null"), GW_OK);
    assert_int_equal(got.stream, 1);
    assert_string_equal(gw_map_str(gw_map_get(&got.value, "args"), "thing", ""), "x");
    assert_int_equal(call(l, 2, "health", "null", "null"), GW_OK);
    assert_int_equal(call(l, 3, "echo", "{\"name\": \"n\", \"count\": \"5\"}", "null"), GW_EARG);
    assert_int_equal(call(l, 4, "echo", "{\"name\": \"n\", \"count\": \"5\"}", "{\"text\": true}"),
                     GW_OK);
    assert_int_equal(gw_map_int(gw_map_get(&got.value, "args"), "count", 0), 5);
    assert_int_equal(call(l, 5, "echo", "{}", "null"), GW_EARG);
    assert_int_equal(call(l, 6, "health", "{}", "{\"agent\": \"x\"}"), GW_EDENIED);
    assert_int_equal(call(l, 7, "locate", "{\"agent\": \"x\"}", "null"), GW_EDENIED);
    assert_int_equal(call(l, 8, "no such", "{}", "null"), GW_ENOT_SUPPORTED);
    assert_int_equal(call(l, 9, "health", "[]", "null"), GW_EPROTO);
    assert_int_equal(call(l, 9, "health", "{}", "5"), GW_EPROTO);
    assert_int_equal(call(l, 10, "refuse", "{}", "null"), GW_EAGENT_NOT_FOUND);
    assert_string_equal(got.text, "there is no agent \"x\"");
    unsigned before = calls;
    assert_int_equal(call(l, 0, "health", "{}", "null"), -1); /* stream 0: no answer, but it runs */
    assert_int_equal(calls, before + 1);
    assert_int_equal(call(l, 0, "no such", "{}", "null"), -1);
    api_link_free(l);
    api_link_free(NULL);
}

static void test_malformed_calls(void **state)
{
    (void)state;
    struct api_link *l = api_link_new(NULL, LINK_CLIENT, ROLE_ADMIN, on_send, &got);
    static const struct {
        const char *bytes;
        size_t n;
    } cases[] = {
        {"\x92\x03\x01", 3},                                /* no fields */
        {"\x93\x03\x01\xa6health", 10},                     /* no arguments */
        {"\x94\x03\x01\x05\x80", 5},                        /* op is a number */
        {"\x94\x03\x01\xa6health", 10},                     /* the arguments are cut off */
        {"\x94\x03\x01\xa6health\xdf\xff\xff\xff\xff", 15}, /* 2^32-1 members */
        {"\x94\x03\x01\xa6health\x81\x01\x01", 13},         /* a key that is no text */
        {"\x95\x03\x01\xa6health\x80\xc1", 12},             /* a damaged context */
        {"\x94\x03\x01\xa7health\0\x80", 12},               /* NUL in the name */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct frame f;
        unsigned before = got.replies;
        struct span raw = {(const uint8_t *)cases[i].bytes, cases[i].n};
        assert_int_equal(frame_parse(raw, &f), GW_OK);
        api_link_frame(l, &f);
        assert_int_equal(got.replies, before + 1);
        assert_int_equal(got.code, GW_EPROTO);
        assert_int_equal(got.stream, 1);
    }
    /* nesting */
    struct buf b = {0};
    size_t at = frame_begin(&b, FRAME_CALL, 1, 2);
    mp_str(&b, "health");
    for (int i = 0; i < 100000; i++) {
        mp_array(&b, 1);
    }
    mp_nil(&b);
    frame_end(&b, at);
    deliver(l, &b);
    assert_int_equal(got.code, GW_EPROTO);
    api_link_free(l);
}

static void test_contexts_of_peers_and_runners(void **state)
{
    (void)state;
    struct api_link *l = api_link_new(NULL, LINK_PEER, ROLE_PEER, on_send, &got);
    assert_int_equal(call(l, 1, "locate", "{\"agent\": \"x\"}", "{\"hop\": true}"), GW_OK);
    assert_true(gw_map_bool(gw_map_get(&got.value, "context"), "hop", false));
    api_link_free(l);
    l = api_link_new(NULL, LINK_RUNNER, ROLE_OPERATOR, on_send, &got);
    assert_int_equal(call(l, 1, "thing", "{\"thing\": \"x\"}", "{\"agent\": \"y\", \"chain\": []}"),
                     GW_OK);
    assert_string_equal(gw_map_str(&got.value, "role", ""), "operator");
    assert_int_equal(call(l, 2, "drop", "{\"thing\": \"x\"}", "null"), GW_EDENIED);
    api_link_free(l);
}

static void test_streams_and_cancel(void **state)
{
    (void)state;
    struct api_link *l = api_link_new(NULL, LINK_CLIENT, ROLE_ADMIN, on_send, &got);
    got.items = gone = 0;
    held = NULL;
    assert_int_equal(call(l, 1, "tail", "{}", "null"), GW_OK);
    assert_int_equal(got.items, 1);
    assert_int_equal(call(l, 2, "tail", "{\"follow\": true}", "null"), -1);
    gw_value v = gw_int(2);
    assert_true(held->item(held, &v));
    assert_int_equal(got.items, 3);
    assert_int_equal(call(l, 2, "health", "{}", "null"), GW_EPROTO); /* the stream is in use */
    unsigned before = got.replies;
    cancel(l, 99);
    cancel(l, 2);
    assert_int_equal(gone, 1);
    assert_int_equal(got.replies, before + 1);
    assert_int_equal(got.code, GW_ECANCELLED);
    cancel(l, 2);
    assert_int_equal(gone, 1);
    assert_int_equal(call(l, 2, "health", "{}", "null"), GW_OK); /* and is free again */
    /* a call that takes no notice of CANCEL is answered all the same */
    assert_int_equal(call(l, 3, "hold", "{}", "null"), -1);
    cancel(l, 3);
    op_ok(held, &v);
    assert_int_equal(got.stream, 3);
    assert_int_equal(got.code, GW_OK);
    /* the link goes away under open calls */
    assert_int_equal(call(l, 4, "tail", "{\"follow\": true}", "null"), -1);
    struct op_call *hold;
    assert_int_equal(call(l, 5, "hold", "{}", "null"), -1);
    hold = held;
    assert_int_equal(call(l, 0, "tail", "{\"follow\": true}", "null"), -1);
    before = got.replies;
    api_link_free(l);
    assert_int_equal(gone, 3);
    op_ok(hold, &v);
    assert_int_equal(got.replies, before);
    gw_value_free(&got.value);
}

static void test_open_calls_are_limited(void **state)
{
    (void)state;
    static struct op_call *all[LIMIT_LINK_CALLS];
    struct api_link *l = api_link_new(NULL, LINK_CLIENT, ROLE_ADMIN, on_send, &got);
    for (unsigned i = 0; i < LIMIT_LINK_CALLS; i++) {
        assert_int_equal(call(l, i + 1, "hold", "{}", "null"), -1);
        all[i] = held;
    }
    assert_int_equal(call(l, 9999, "health", "{}", "null"), GW_EBUSY);
    gw_value v = gw_nil();
    op_ok(all[7], &v);
    assert_int_equal(call(l, 9999, "health", "{}", "null"), GW_OK);
    for (unsigned i = 0; i < LIMIT_LINK_CALLS; i++) {
        if (i != 7) {
            op_ok(all[i], &v);
        }
    }
    api_link_free(l);
    gw_value_free(&got.value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_other_methods),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_arguments_from_path_query_and_body),
        cmocka_unit_test(test_query_limit),
        cmocka_unit_test(test_pages_of_other_origins),
        cmocka_unit_test(test_msgpack),
        cmocka_unit_test(test_errors_of_operations),
        cmocka_unit_test(test_late_answers),
        cmocka_unit_test(test_event_streams),
        cmocka_unit_test(test_roles_over_tls),
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_calls_of_clients),
        cmocka_unit_test(test_malformed_calls),
        cmocka_unit_test(test_contexts_of_peers_and_runners),
        cmocka_unit_test(test_streams_and_cancel),
        cmocka_unit_test(test_open_calls_are_limited),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
