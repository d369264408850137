/* The client library against a scripted host: answers, many in flight, time-outs, lost connections,
 * and bytes that break the protocol. */
#include <godwit/client.h>

#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include "tests/unit/clients/fake_host.h"

#include <cmocka.h>

static char *home;
static struct fake fake;
static struct gw_client *client;
static struct gw_error why;

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static gw_err open_named(const char *host, int64_t connect_ms, int64_t retry_ms)
{
    struct gw_client_options o = {.host = host, .connect_ms = connect_ms, .retry_ms = retry_ms};
    why = (struct gw_error){0};
    return gw_client_open(&o, &client, &why);
}

/* A fake with this script, and a client on it. */
static void begin(fake_script *script)
{
    fake = (struct fake){.script = script};
    fake_start(&fake, home, "alpha");
    assert_int_equal(open_named(NULL, 2000, 400), GW_OK);
}

static void end(void)
{
    gw_client_close(client);
    client = NULL;
    fake_stop(&fake);
}

static gw_value map1(const char *key, gw_value v)
{
    gw_value map = gw_nil();
    assert_int_equal(gw_map_set(&map, key, v), GW_OK);
    return map;
}

/* ---- scripts ---- */

/* {op, args} of each call comes back. */
static bool echo(struct fake *f, struct fake_call *c)
{
    (void)f;
    if (c->kind == FRAME_CALL) {
        gw_value answer = map1("op", gw_str(c->op)), copy = gw_nil();
        if (gw_value_copy(&c->args, &copy) != GW_OK || gw_map_set(&answer, "args", copy) != GW_OK) {
            abort();
        }
        fake_reply(c, answer);
    }
    return true;
}

static bool refuse(struct fake *f, struct fake_call *c)
{
    struct gw_error e = {.code = GW_EAGENT_NOT_FOUND, .text = "no agent \"x\"", .hint = "a\n  ^"};
    (void)f;
    if (c->kind == FRAME_CALL) {
        fake_reply_error(c, e.code, NULL, &e);
    }
    return true;
}

static bool silent(struct fake *f, struct fake_call *c)
{
    (void)f;
    (void)c;
    return true;
}

/* ---- one call ---- */

static void call_and_answer(void **state)
{
    (void)state;
    begin(echo);
    gw_value args = map1("limit", gw_int(5)), answer = gw_str("old");
    assert_int_equal(gw_client_call(client, "agents", &args, 2000, &answer, &why), GW_OK);
    assert_string_equal(gw_map_str(&answer, "op", ""), "agents");
    assert_true(gw_value_equal(gw_map_get(&answer, "args"), &args));
    assert_int_equal(gw_client_call(client, "status", NULL, 2000, &answer, &why), GW_OK);
    assert_int_equal(gw_map_get(&answer, "args")->kind, GW_NIL);
    assert_int_equal(gw_client_call(client, "status", NULL, 2000, NULL, &why), GW_OK);
    assert_int_equal(gw_client_in_flight(client), 0);
    assert_true(gw_client_is_local(client));
    assert_string_equal(gw_client_where(client), "host \"alpha\"");
    gw_value_free(&args);
    gw_value_free(&answer);
    end();
}

static void errors_come_with_their_words(void **state)
{
    (void)state;
    begin(refuse);
    gw_value answer = gw_int(7);
    assert_int_equal(gw_client_show(client, "x", 2000, &answer, &why), GW_EAGENT_NOT_FOUND);
    assert_int_equal(why.code, GW_EAGENT_NOT_FOUND);
    assert_string_equal(why.text, "no agent \"x\"");
    assert_string_equal(why.hint, "a\n  ^");
    assert_int_equal(answer.i, 7);
    assert_int_equal(gw_client_show(client, "x", 2000, NULL, NULL), GW_EAGENT_NOT_FOUND);
    end();
}

static void keys_are_made_where_they_belong(void **state)
{
    (void)state;
    begin(echo);
    gw_value answer = gw_nil();
    assert_int_equal(gw_client_send(client, "a", "m", NULL, 2000, &answer, &why), GW_OK);
    const gw_value *args = gw_map_get(&answer, "args");
    char first[64];
    snprintf(first, sizeof first, "%s", gw_map_str(args, "key", ""));
    assert_int_equal(strlen(first), 32);
    assert_int_equal(strspn(first, "0123456789abcdef"), 32);
    assert_string_equal(gw_map_str(args, "agent", ""), "a");
    assert_int_equal(gw_map_int(args, "timeout", 0), 2000);

    assert_int_equal(gw_client_create(client, "counter", NULL, 2000, &answer, &why), GW_OK);
    args = gw_map_get(&answer, "args");
    assert_int_equal(strlen(gw_map_str(args, "key", "")), 32);
    assert_string_not_equal(gw_map_str(args, "key", ""), first);

    struct gw_send_options o = {.key = "mine", .tell = true};
    assert_int_equal(gw_client_send(client, "a", "m", &o, 2000, &answer, &why), GW_OK);
    args = gw_map_get(&answer, "args");
    assert_string_equal(gw_map_str(args, "key", ""), "mine");
    assert_true(gw_map_bool(args, "tell", false));

    assert_int_equal(gw_client_clone(client, "a", NULL, NULL, GW_FOREVER, &answer, &why), GW_OK);
    args = gw_map_get(&answer, "args");
    assert_non_null(gw_map_get(args, "key"));
    assert_null(gw_map_get(args, "timeout"));
    assert_null(gw_map_get(args, "to"));

    assert_int_equal(gw_client_call(client, "dispatch", NULL, 2000, &answer, &why), GW_OK);
    assert_non_null(gw_map_get(gw_map_get(&answer, "args"), "key"));
    assert_int_equal(gw_client_activate(client, "a", 2000, &answer, &why), GW_OK);
    assert_null(gw_map_get(gw_map_get(&answer, "args"), "key"));
    gw_value_free(&answer);
    end();
}

/* ---- many in flight ---- */

#define MANY 64
static uint64_t held[LIMIT_LINK_CALLS];

/* Answers come when MANY calls are there, the last first. */
static bool backwards(struct fake *f, struct fake_call *c)
{
    if (c->kind != FRAME_CALL) {
        return true;
    }
    held[f->calls - 1] = c->stream;
    if (f->calls == MANY) {
        for (int i = MANY; i-- > 0;) {
            c->stream = held[i];
            fake_reply(c, gw_int(i));
        }
    }
    return true;
}

static void many_in_flight(void **state)
{
    (void)state;
    begin(backwards);
    gw_ticket tickets[MANY];
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(gw_client_start(client, "show", NULL, &tickets[i], &why), GW_OK);
    }
    assert_int_equal(gw_client_in_flight(client), MANY);
    gw_value answer = gw_nil();
    gw_ticket ticket = tickets[10]; /* one of them first, the others in their order */
    assert_int_equal(gw_client_wait(client, &ticket, 2000, &answer, &why), GW_OK);
    assert_int_equal(ticket, tickets[10]);
    assert_int_equal(answer.i, 10);
    for (int i = MANY; i-- > 0;) {
        if (i == 10) {
            continue;
        }
        ticket = 0;
        assert_int_equal(gw_client_wait(client, &ticket, 2000, &answer, &why), GW_OK);
        assert_int_equal(ticket, tickets[i]);
        assert_int_equal(answer.i, i);
    }
    assert_int_equal(fake.reads, 1); /* one write for all */
    ticket = 0;
    assert_int_equal(gw_client_wait(client, &ticket, 2000, &answer, &why), GW_ENOT_FOUND);
    ticket = tickets[3];
    assert_int_equal(gw_client_wait(client, &ticket, 2000, &answer, &why), GW_ENOT_FOUND);
    assert_int_equal(ticket, 0);
    end();
}

static void waiting_for_several(void **state)
{
    (void)state;
    begin(backwards);
    gw_ticket tickets[MANY];
    gw_value answer = gw_nil();
    size_t index;
    for (int i = 0; i < MANY - 1; i++) {
        assert_int_equal(
            gw_client_ask_async(client, "a", "get", NULL, GW_FOREVER, &tickets[i], &why), GW_OK);
    }
    tickets[MANY - 1] = 0;
    assert_int_equal(gw_client_wait_any(client, tickets, MANY, 0, &index, &why), GW_ETIMEOUT);
    assert_int_equal(gw_client_wait_all(client, tickets, MANY, 20, &why), GW_ETIMEOUT);
    assert_int_equal(gw_client_ask_async(client, "a", "get", NULL, 5000, &tickets[MANY - 1], &why),
                     GW_OK);
    assert_int_equal(gw_client_wait_any(client, tickets, 3, 2000, &index, &why), GW_OK);
    assert_in_range(index, 0, 2);
    assert_int_equal(gw_client_wait_all(client, tickets, MANY, 2000, &why), GW_OK);
    assert_int_equal(gw_client_in_flight(client), MANY);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(gw_client_wait_any(client, tickets, MANY, 0, &index, &why), GW_OK);
        gw_ticket ticket = tickets[index];
        assert_int_equal(gw_client_wait(client, &ticket, 0, &answer, &why), GW_OK);
        assert_int_equal(answer.i, index);
    }
    assert_int_equal(gw_client_wait_any(client, tickets, MANY, GW_FOREVER, &index, &why),
                     GW_ENOT_FOUND);
    assert_int_equal(gw_client_wait_all(client, tickets, MANY, GW_FOREVER, &why), GW_OK);
    end();
}

static void number_of_calls_is_bounded(void **state)
{
    (void)state;
    begin(silent);
    gw_ticket first = 0, ticket;
    for (int i = 0; i < LIMIT_LINK_CALLS; i++) {
        assert_int_equal(gw_client_start(client, "show", NULL, &ticket, &why), GW_OK);
        first = first ? first : ticket;
    }
    assert_int_equal(gw_client_start(client, "show", NULL, &ticket, &why), GW_EBUSY);
    gw_client_cancel(client, first);
    gw_client_cancel(client, first); /* over already */
    assert_int_equal(gw_client_start(client, "show", NULL, &ticket, &why), GW_OK);
    assert_int_equal(gw_client_flush(client, 2000, &why), GW_OK);
    ticket = 0;
    assert_int_equal(gw_client_wait(client, &ticket, 0, NULL, &why), GW_ETIMEOUT);
    assert_int_equal(gw_client_in_flight(client), LIMIT_LINK_CALLS);
    end();
}

static void numbers_skip_calls_that_last(void **state)
{
    (void)state;
    begin(silent);
    gw_ticket stays, ticket;
    assert_int_equal(gw_client_start(client, "show", NULL, &stays, &why), GW_OK);
    for (int i = 0; i < 1000; i++) { /* around the table several times */
        assert_int_equal(gw_client_start(client, "show", NULL, &ticket, &why), GW_OK);
        assert_true(ticket > stays);
        gw_client_cancel(client, ticket);
    }
    assert_int_equal(gw_client_in_flight(client), 1);
    end();
}

/* ---- time ---- */

/* The first call is answered when the second comes. */
static bool late(struct fake *f, struct fake_call *c)
{
    if (c->kind == FRAME_CALL && f->calls == 1) {
        held[0] = c->stream;
    } else if (c->kind == FRAME_CALL) {
        uint64_t mine = c->stream;
        c->stream = held[0];
        fake_reply(c, gw_str("late"));
        c->stream = mine;
        fake_reply(c, gw_str("in time"));
    }
    return true;
}

static void timeout_cancels(void **state)
{
    (void)state;
    begin(late);
    gw_value answer = gw_nil();
    int64_t began = now_ms();
    struct gw_send_options o = {.key = "K1"};
    assert_int_equal(gw_client_send(client, "a", "m", &o, 100, &answer, &why), GW_ETIMEOUT);
    assert_in_range(now_ms() - began, 300, 1500); /* 100, and 250 for the host's own answer */
    assert_non_null(strstr(why.text, "\"send\""));
    assert_non_null(strstr(why.hint, "--op-key K1"));
    assert_int_equal(answer.kind, GW_NIL);
    assert_int_equal(gw_client_call(client, "show", NULL, 2000, &answer, &why), GW_OK);
    assert_string_equal(answer.s.p, "in time");
    assert_int_equal(fake.cancels, 1);
    gw_value_free(&answer);
    end();
}

static void *interrupt_soon(void *arg)
{
    (void)arg;
    usleep(50000);
    gw_client_interrupt(client);
    return NULL;
}

static void interruption_ends_a_call(void **state)
{
    (void)state;
    begin(silent);
    pthread_t thread;
    pthread_create(&thread, NULL, interrupt_soon, NULL);
    int64_t began = now_ms();
    assert_int_equal(gw_client_call(client, "show", NULL, 5000, NULL, &why), GW_ECANCELLED);
    assert_true(now_ms() - began < 2000);
    pthread_join(thread, NULL);
    assert_int_equal(gw_client_call(client, "show", NULL, 50, NULL, &why), GW_ETIMEOUT);
    gw_client_interrupt(client); /* before a call: ends the next one, and only that */
    assert_int_equal(gw_client_call(client, "show", NULL, 5000, NULL, &why), GW_ECANCELLED);
    assert_int_equal(gw_client_call(client, "show", NULL, 50, NULL, &why), GW_ETIMEOUT);
    assert_int_equal(gw_client_in_flight(client), 0);
    end();
}

/* ---- lost connections ---- */

static bool drop_first(struct fake *f, struct fake_call *c)
{
    return f->calls == 1 ? false : echo(f, c);
}

static void lost_connection_repeats_under_the_same_key(void **state)
{
    (void)state;
    begin(drop_first);
    gw_value answer = gw_nil();
    assert_int_equal(gw_client_send(client, "a", "m", NULL, 3000, &answer, &why), GW_OK);
    assert_int_equal(fake.connections, 2);
    assert_int_equal(fake.calls, 2);
    end();
    assert_int_equal(strlen(fake.keys[0]), 32);
    assert_string_equal(fake.keys[0], fake.keys[1]);
    assert_string_equal(gw_map_str(gw_map_get(&answer, "args"), "key", ""), fake.keys[0]);
    gw_value_free(&answer);
}

static void what_cannot_be_repeated_fails(void **state)
{
    (void)state;
    begin(drop_first);
    assert_int_equal(gw_client_call(client, "token", NULL, 3000, NULL, &why), GW_EUNREACHABLE);
    assert_int_equal(fake.calls, 1);
    /* and the client is of use again */
    assert_int_equal(gw_client_call(client, "token", NULL, 3000, NULL, &why), GW_OK);
    end();
}

static bool drop_all(struct fake *f, struct fake_call *c)
{
    (void)f;
    return c->kind != FRAME_CALL;
}

static void second_loss_ends_it(void **state)
{
    (void)state;
    begin(drop_all);
    struct gw_send_options o = {.key = "K2"};
    assert_int_equal(gw_client_send(client, "a", "m", &o, 3000, NULL, &why), GW_EUNREACHABLE);
    assert_int_equal(fake.calls, 2);
    assert_non_null(strstr(why.hint, "--op-key K2"));
    assert_non_null(strstr(why.text, "host \"alpha\""));
    end();
    assert_string_equal(fake.keys[1], "K2");
}

static void many_calls_survive_a_loss(void **state)
{
    (void)state;
    begin(drop_first);
    gw_ticket ticket;
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(gw_client_start(client, "send", NULL, &ticket, &why), GW_OK);
    }
    for (int i = 0; i < MANY; i++) {
        ticket = 0;
        assert_int_equal(gw_client_wait(client, &ticket, 3000, NULL, &why), GW_OK);
        assert_int_not_equal(ticket, 0);
    }
    assert_int_equal(fake.calls, MANY + 1);
    end();
}

static void host_gone_for_good(void **state)
{
    (void)state;
    begin(silent);
    fake_stop(&fake);
    int64_t began = now_ms();
    assert_int_equal(gw_client_send(client, "a", "m", NULL, 5000, NULL, &why), GW_EUNREACHABLE);
    assert_in_range(now_ms() - began, 300, 2000); /* the 400 ms of begin() */
    gw_client_close(client);
    client = NULL;
}

static void *restart_soon(void *arg)
{
    (void)arg;
    usleep(150000);
    fake_listen(&fake);
    return NULL;
}

static void host_that_comes_back_answers(void **state)
{
    (void)state;
    begin(echo);
    fake_stop(&fake); /* as kill -9 */
    pthread_t thread;
    pthread_create(&thread, NULL, restart_soon, NULL);
    struct gw_send_options o = {.key = "K3"};
    assert_int_equal(gw_client_send(client, "a", "m", &o, 5000, NULL, &why), GW_OK);
    pthread_join(thread, NULL);
    end();
    assert_string_equal(fake.keys[0], "K3");
}

static void waiting_for_the_end(void **state)
{
    (void)state;
    begin(silent);
    assert_int_equal(gw_client_wait_closed(client, 50, &why), GW_ETIMEOUT);
    fake_stop(&fake);
    assert_int_equal(gw_client_wait_closed(client, 2000, &why), GW_OK);
    gw_client_close(client);
    client = NULL;
}

/* ---- streams ---- */

static bool three_items(struct fake *f, struct fake_call *c)
{
    (void)f;
    for (int i = 0; c->kind == FRAME_CALL && i < 3; i++) {
        fake_item(c, map1("seq", gw_int(i)));
    }
    if (c->kind == FRAME_CALL && !gw_map_bool(&c->args, "follow", false)) {
        fake_reply(c, gw_nil());
    }
    return true;
}

struct seen {
    int64_t last;
    int count, stop_after;
};

static bool on_item(void *arg, const gw_value *item)
{
    struct seen *seen = arg;
    seen->last = gw_map_int(item, "seq", -1);
    return ++seen->count != seen->stop_after;
}

static void streams(void **state)
{
    (void)state;
    begin(three_items);
    struct seen seen = {0};
    assert_int_equal(gw_client_stream(client, "events", NULL, 2000, on_item, &seen, &why), GW_OK);
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.last, 2);
    seen = (struct seen){.stop_after = 2};
    assert_int_equal(gw_client_stream(client, "events", NULL, 2000, on_item, &seen, &why), GW_OK);
    assert_int_equal(seen.count, 2);
    gw_value follow = map1("follow", gw_bool(true));
    seen = (struct seen){0};
    assert_int_equal(gw_client_stream(client, "events", &follow, 100, on_item, &seen, &why),
                     GW_ETIMEOUT);
    assert_int_equal(seen.count, 3);
    pthread_t thread;
    pthread_create(&thread, NULL, interrupt_soon, NULL);
    assert_int_equal(gw_client_stream(client, "events", &follow, GW_FOREVER, on_item, &seen, &why),
                     GW_ECANCELLED);
    pthread_join(thread, NULL);
    gw_value_free(&follow);
    end();
}

/* A stream is not repeated: its reader would see items twice. */
static void lost_stream_fails(void **state)
{
    (void)state;
    begin(drop_all);
    struct seen seen = {0};
    assert_int_equal(gw_client_stream(client, "events", NULL, 3000, on_item, &seen, &why),
                     GW_EUNREACHABLE);
    assert_int_equal(fake.calls, 1);
    end();
}

/* ---- hostile bytes ---- */

static struct span evil;

/* Send `evil` in answer to the first call; later calls are served. */
static bool send_evil(struct fake *f, struct fake_call *c)
{
    if (c->kind == FRAME_CALL && f->calls == 1) {
        fake_write(c->fd, evil.p, evil.n);
        return true;
    }
    return echo(f, c);
}

static void expect_protocol_error(const void *bytes, size_t n)
{
    evil = (struct span){bytes, n};
    begin(send_evil);
    assert_int_equal(gw_client_call(client, "show", NULL, 2000, NULL, &why), GW_EPROTO);
    assert_non_null(strstr(why.text, "protocol"));
    assert_int_equal(gw_client_call(client, "show", NULL, 2000, NULL, &why), GW_OK);
    assert_int_equal(fake.connections, 2);
    end();
}

static void malformed_frames(void **state)
{
    (void)state;
    static const uint8_t zero[] = {0, 0, 0, 0};
    static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 0x94};
    static const uint8_t not_array[] = {0, 0, 0, 1, 0xc0};
    static const uint8_t no_stream[] = {0, 0, 0, 2, 0x91, 0x04};
    static const uint8_t announced[] = {0, 0, 0, 5, 0xdd, 0xff, 0xff, 0xff, 0xff};
    /* REPLY on stream 1, code 0, then: a list that announces 2^32 elements; a reserved byte;
     * nothing */
    static const uint8_t big_list[] = {0, 0, 0, 9, 0x96, 4, 1, 0, 0xdd, 0xff, 0xff, 0xff, 0xff};
    static const uint8_t reserved[] = {0, 0, 0, 5, 0x96, 4, 1, 0, 0xc1};
    static const uint8_t short_reply[] = {0, 0, 0, 4, 0x92, 4, 1, 0xc0};
    static const uint8_t bad_code[] = {0, 0, 0, 5, 0x96, 4, 1, 0xa0, 0xc0};
    static const uint8_t bad_text[] = {0, 0, 0, 7, 0x96, 4, 1, 1, 0xc0, 0x05, 0xc0};
    static const uint8_t bad_key[] = {0, 0, 0, 7, 0x96, 4, 1, 0, 0x81, 0xc0, 0xc0};
    expect_protocol_error(zero, sizeof zero);
    expect_protocol_error(huge, sizeof huge);
    expect_protocol_error(not_array, sizeof not_array);
    expect_protocol_error(no_stream, sizeof no_stream);
    expect_protocol_error(announced, sizeof announced);
    expect_protocol_error(big_list, sizeof big_list);
    expect_protocol_error(reserved, sizeof reserved);
    expect_protocol_error(short_reply, sizeof short_reply);
    expect_protocol_error(bad_code, sizeof bad_code);
    expect_protocol_error(bad_text, sizeof bad_text);
    expect_protocol_error(bad_key, sizeof bad_key);
}

static void nesting_bomb(void **state)
{
    (void)state;
    struct buf b = {0};
    size_t at = frame_begin(&b, FRAME_REPLY, 1, 4);
    mp_uint(&b, 0);
    for (int i = 0; i < 100000; i++) {
        mp_array(&b, 1);
    }
    mp_nil(&b);
    frame_end(&b, at);
    expect_protocol_error(b.data, b.len);
    buf_free(&b);
}

/* A REPLY whose frame has exactly n bytes after the length. */
static void make_reply_of(struct buf *b, size_t n)
{
    buf_reset(b);
    size_t at = frame_begin(b, FRAME_REPLY, 1, 4);
    mp_uint(b, 0);
    size_t fill = n - (b->len - at - 4) - 5 - 2;
    buf_add(b, "\xc6", 1);
    buf_add_u32(b, (uint32_t)fill);
    assert_true(buf_reserve(b, fill));
    memset(b->data + b->len, 7, fill);
    b->len += fill;
    mp_nil(b);
    mp_nil(b);
    frame_end(b, at);
    assert_int_equal(b->len, n + 4);
}

static void frames_at_the_limit(void **state)
{
    (void)state;
    struct buf b = {0};
    make_reply_of(&b, LIMIT_CLIENT_FRAME_BYTES);
    evil = buf_span(&b);
    begin(send_evil);
    gw_value answer = gw_nil();
    assert_int_equal(gw_client_call(client, "show", NULL, 5000, &answer, &why), GW_OK);
    assert_int_equal(answer.kind, GW_BYTES);
    gw_value_free(&answer);
    end();
    make_reply_of(&b, LIMIT_CLIENT_FRAME_BYTES + 1);
    expect_protocol_error(b.data, b.len);
    buf_free(&b);
}

static void arguments_at_the_limit(void **state)
{
    (void)state;
    begin(echo);
    char *text = malloc(LIMIT_CLIENT_FRAME_BYTES + 1);
    memset(text, 'x', LIMIT_CLIENT_FRAME_BYTES);
    text[LIMIT_CLIENT_FRAME_BYTES] = '\0';
    gw_value args = map1("name", gw_str(text));
    assert_int_equal(gw_client_call(client, "types", &args, 2000, NULL, &why), GW_ETOO_BIG);
    assert_int_equal(fake.calls, 0);
    gw_value_free(&args);
    text[LIMIT_CLIENT_FRAME_BYTES - 100] = '\0'; /* and its answer, which is longer, is refused */
    args = map1("name", gw_str(text));
    assert_int_equal(gw_client_call(client, "types", &args, 5000, NULL, &why), GW_OK);
    gw_value_free(&args);
    free(text);
    assert_int_equal(gw_client_call(client, "types", NULL, 2000, NULL, &why), GW_OK);
    end();
}

/* PING, a kind from the future, a REPLY for nobody, then the answer. */
static bool chatter(struct fake *f, struct fake_call *c)
{
    static atomic_int pongs, refusals;
    if (c->kind == FRAME_CALL) {
        struct buf b = {0};
        pongs = refusals = 0;
        frame_end(&b, frame_begin(&b, FRAME_PING, 77, 0));
        frame_end(&b, frame_begin(&b, 9999, 78, 0));
        frame_end(&b, frame_begin(&b, 9999, 0, 0));
        frame_reply(&b, 4242, GW_OK, (struct span){0}, NULL);
        fake_write(c->fd, b.data, b.len);
        buf_free(&b);
        held[0] = c->stream;
    }
    pongs += c->kind == FRAME_PONG && c->stream == 77;
    refusals += c->kind == FRAME_REPLY && c->stream == 78;
    if (pongs == 1 && refusals == 1) {
        pongs = 0;
        c->stream = held[0];
        fake_reply(c, gw_str("both"));
    }
    (void)f;
    return true;
}

static void strange_frames_are_answered_or_ignored(void **state)
{
    (void)state;
    begin(chatter);
    gw_value answer = gw_nil();
    assert_int_equal(gw_client_call(client, "show", NULL, 2000, &answer, &why), GW_OK);
    assert_string_equal(answer.s.p, "both");
    gw_value_free(&answer);
    end();
}

/* ---- opening ---- */

static gw_err open_with_answer(const char *answer)
{
    fake = (struct fake){.upgrade_answer = answer};
    fake_start(&fake, home, "alpha");
    gw_err err = open_named("alpha", 300, 0);
    fake_stop(&fake);
    return err;
}

static void refused_upgrades(void **state)
{
    (void)state;
    assert_int_equal(open_with_answer("HTTP/1.1 401 Unauthorized\r\nContent-Length: 84\r\n\r\n"
                                      "{\"error\":{\"code\":\"unauthenticated\",\"message\":"
                                      "\"no token\",\"hint\":\"give --token-file\"}}"),
                     GW_EUNAUTHENTICATED);
    assert_string_equal(why.text, "no token");
    assert_string_equal(why.hint, "give --token-file");
    assert_int_equal(open_with_answer("HTTP/1.1 403 No\r\n\r\n<html>"), GW_EDENIED);
    assert_int_equal(open_with_answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), GW_EPROTO);
    assert_int_equal(open_with_answer("SSH-2.0-OpenSSH\r\n\r\n"), GW_EPROTO);
    assert_int_equal(open_with_answer("HTTP/1.1 1x1 Odd\r\n\r\n"), GW_EPROTO);
    assert_int_equal(open_with_answer("HTTP/1.1 101 Sw"), GW_EUNREACHABLE); /* cut off */
    char *big = malloc(3 * LIMIT_HTTP_HEADER_BYTES);
    memset(big, 'x', 3 * LIMIT_HTTP_HEADER_BYTES - 1);
    big[3 * LIMIT_HTTP_HEADER_BYTES - 1] = '\0';
    assert_int_equal(open_with_answer(big), GW_EPROTO);
    free(big);
}

/* A socket that accepts and never answers. */
static void mute_host(void **state)
{
    (void)state;
    fake = (struct fake){0};
    fake_start(&fake, home, "alpha");
    fake_stop(&fake);
    fake_listen(&fake);
    if (write(fake.stop_pipe[1], "x", 1) != 1) {
        abort();
    }
    pthread_join(fake.thread, NULL); /* nobody accepts, the socket listens */
    int64_t began = now_ms();
    assert_int_equal(open_named("alpha", 200, 0), GW_ETIMEOUT);
    assert_in_range(now_ms() - began, 150, 2000);
    close(fake.listen_fd);
}

static void frames_right_behind_the_head(void **state)
{
    (void)state;
    struct buf b = {0};
    frame_end(&b, frame_begin(&b, FRAME_PING, 5, 0));
    fake = (struct fake){.script = echo, .greeting = buf_span(&b)};
    fake_start(&fake, home, "alpha");
    assert_int_equal(open_named("alpha", 2000, 0), GW_OK);
    assert_int_equal(gw_client_call(client, "show", NULL, 2000, NULL, &why), GW_OK);
    end();
    buf_free(&b);
}

/* ---- which host ---- */

static bool members(struct fake *f, struct fake_call *c)
{
    (void)f;
    if (c->kind == FRAME_CALL) {
        gw_value row = map1("name", gw_str("far")), list = gw_nil();
        if (gw_map_set(&row, "url", gw_str("https://127.0.0.1:1")) != GW_OK ||
            gw_list_add(&list, row) != GW_OK) {
            abort();
        }
        fake_reply(c, map1("hosts", list));
    }
    return true;
}

static void which_host(void **state)
{
    (void)state;
    char *old_home = home, *empty = fake_home();
    char keep[64];
    snprintf(keep, sizeof keep, "%s", empty);
    (void)old_home;
    assert_int_equal(open_named(NULL, 500, 0), GW_EUNREACHABLE);
    assert_non_null(strstr(why.hint, "godwit host --name"));
    assert_int_equal(open_named("beta", 500, 0), GW_EUNREACHABLE);
    assert_non_null(strstr(why.hint, "--name beta"));
    assert_int_equal(open_named("../../etc", 500, 0), GW_EARG);
    assert_int_equal(open_named("http://127.0.0.1:1", 500, 0), GW_EARG);
    assert_int_equal(open_named("https://", 500, 0), GW_EARG);
    assert_int_equal(open_named("https://127.0.0.1:1", 500, 0), GW_ENOT_FOUND); /* no mesh here */
    assert_non_null(strstr(why.text, "ca.crt"));

    struct fake a = {.script = members}, b = {.script = echo};
    fake_start(&a, keep, "alpha");
    assert_int_equal(open_named(NULL, 500, 0), GW_OK);
    assert_string_equal(gw_client_where(client), "host \"alpha\"");
    gw_client_close(client);
    assert_int_equal(open_named("nobody", 500, 0), GW_EHOST_NOT_FOUND);
    assert_non_null(strstr(why.hint, "alpha"));
    /* a member elsewhere: its URL is dialled, for which there are no mesh files here */
    assert_int_equal(open_named("far", 500, 0), GW_ENOT_FOUND);

    fake_start(&b, keep, "beta");
    assert_int_equal(open_named(NULL, 500, 0), GW_EAMBIGUOUS);
    assert_non_null(strstr(why.text, "alpha, beta"));
    assert_int_equal(gw_err_exit(GW_EAMBIGUOUS), 2);
    setenv("GODWIT_HOST", "beta", 1);
    assert_int_equal(open_named(NULL, 500, 0), GW_OK);
    assert_string_equal(gw_client_where(client), "host \"beta\"");
    gw_client_close(client);
    assert_int_equal(open_named("alpha", 500, 0), GW_OK); /* the option wins */
    gw_client_close(client);
    fake_stop(&a);
    fake_stop(&b);
    unsetenv("GODWIT_HOST");
    client = NULL;
    fake_home_remove(keep);
}

static void long_paths(void **state)
{
    (void)state;
    char *base = fake_home();
    char path[512];
    snprintf(path, sizeof path, "%s/%0200d", base, 7);
    assert_int_equal(mkdir(path, 0700), 0);
    setenv("GODWIT_HOME", path, 1);
    fake = (struct fake){.script = echo};
    fake_start(&fake, path, "alpha");
    assert_int_equal(open_named(NULL, 500, 0), GW_OK);
    assert_int_equal(gw_client_call(client, "show", NULL, 2000, NULL, &why), GW_OK);
    end();
    fake_home_remove(base);
}

static int setup(void **state)
{
    (void)state;
    home = strdup(fake_home());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_home_remove(home);
    free(home);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(call_and_answer),
        TEST(errors_come_with_their_words),
        TEST(keys_are_made_where_they_belong),
        TEST(many_in_flight),
        TEST(waiting_for_several),
        TEST(number_of_calls_is_bounded),
        TEST(numbers_skip_calls_that_last),
        TEST(timeout_cancels),
        TEST(interruption_ends_a_call),
        TEST(lost_connection_repeats_under_the_same_key),
        TEST(what_cannot_be_repeated_fails),
        TEST(second_loss_ends_it),
        TEST(many_calls_survive_a_loss),
        TEST(host_gone_for_good),
        TEST(host_that_comes_back_answers),
        TEST(waiting_for_the_end),
        TEST(streams),
        TEST(lost_stream_fails),
        TEST(malformed_frames),
        TEST(nesting_bomb),
        TEST(frames_at_the_limit),
        TEST(arguments_at_the_limit),
        TEST(strange_frames_are_answered_or_ignored),
        TEST(refused_upgrades),
        TEST(mute_host),
        TEST(frames_right_behind_the_head),
        TEST(which_host),
        TEST(long_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
