/* Links over socket pairs: order, classes, fragments, limits, hostile bytes, ends. */
#include "tests/unit/host/net_rig.h"

#include "host/net/link_private.h"
#include "host/net/reassembly.h"

static void test_frames_arrive_in_order(void **state)
{
    (void)state;
    struct seen a = {0}, b = {0};
    link_pair(&a, &b, LINK_RUNNER);
    for (uint64_t i = 1; i <= 3000; i++) {
        send_call(a.link, i, i % 700);
    }
    assert_int_equal(b.frames, 0); /* nothing leaves inside the call */
    turn_until(b.frames == 3000);
    for (uint64_t i = 1; i <= 3000; i++) {
        assert_int_equal(b.streams[i - 1], i);
    }
    assert_int_equal(link_queued_bytes(a.link), 0);
    seen_end(&a);
    turn_until(!b.link);
    assert_string_equal(a.reason, "end of test");
    assert_string_equal(b.reason, "closed by the other side");
}

static void test_frames_of_one_turn_leave_in_one_write(void **state)
{
    (void)state;
    struct seen a = {0};
    int fd = raw_pair(&a, LINK_PEER);
    struct buf want = {0};
    for (uint64_t i = 1; i <= 20; i++) {
        add_call(&want, i, 50);
        send_call(a.link, i, 50);
    }
    turn();
    uint8_t got[8192];
    ssize_t n = recv(fd, got, sizeof got, 0);
    assert_int_equal(n, want.len);
    assert_memory_equal(got, want.data, want.len);
    buf_free(&want);
    close(fd);
    turn_until(!a.link);
}

static void test_control_overtakes_messages_overtake_bulk(void **state)
{
    (void)state;
    struct seen a = {0}, b = {0};
    link_pair(&a, &b, LINK_PEER);
    send_call(a.link, 1, 20 * 1024 * 1024);
    send_call(a.link, 2, 100);
    send_empty(a.link, FRAME_CANCEL, 3);
    turn_until(b.frames == 2);
    assert_int_equal(b.streams[0], 3);
    assert_int_equal(b.streams[1], 2);
    /* the bulk is under way: a new message still goes before the rest of it */
    send_call(a.link, 4, 100);
    turn_until(b.frames == 4);
    assert_int_equal(b.streams[2], 4);
    assert_int_equal(b.streams[3], 1);
    assert_true(b.checksum ==
                (call_sum(1, 20 * 1024 * 1024) ^ call_sum(2, 100) ^ call_sum(4, 100)));
    seen_end(&a);
    turn_until(!b.link);
}

static void test_fragments_of_several_frames_take_turns(void **state)
{
    (void)state;
    struct seen a = {0}, b = {0};
    link_pair(&a, &b, LINK_PEER);
    uint64_t want = 0;
    send_call(a.link, 1, 10 * 1024 * 1024);
    want ^= call_sum(1, 10 * 1024 * 1024);
    for (uint64_t i = 2; i <= 40; i++) { /* more than may be unfinished at a time */
        send_call(a.link, i, 66000 + i);
        want ^= call_sum(i, 66000 + i);
    }
    turn_until(b.frames == 40);
    assert_int_equal(b.streams[39], 1); /* the large one did not hold up the small ones */
    assert_true(b.checksum == want);
    seen_end(&a);
    turn_until(!b.link);
}

static void large(link_kind kind, size_t bytes)
{
    struct seen a = {0}, b = {0};
    link_pair(&a, &b, kind);
    send_call(a.link, 1, bytes);
    send_call(b.link, 2, bytes / 2);
    turn_until(b.frames == 1 && a.frames == 1);
    assert_true(b.checksum == call_sum(1, bytes));
    assert_true(a.checksum == call_sum(2, bytes / 2));
    send_call(a.link, 3, 10);
    turn_until(b.frames == 2);
    seen_end(&a);
    turn_until(!b.link);
}

static void test_large_frames(void **state)
{
    (void)state;
    large(LINK_RUNNER, 64 * 1024 * 1024);
    large(LINK_PEER, 64 * 1024 * 1024);
    large(LINK_CLIENT, 4 * 1024 * 1024);
}

/* Sizes around each switch of the reading and writing paths. */
static void test_sizes_at_the_borders(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,     1,      4095,   16 * 1024 - 40, 16 * 1024, 64 * 1024 - 50,
                                   65517, 65523,  65524,  65525,          65535,     65536,
                                   65537, 131008, 131072, 256 * 1024 - 7, 262144,    262145};
    static const link_kind kinds[] = {LINK_PEER, LINK_CLIENT, LINK_RUNNER};
    for (size_t k = 0; k < 3; k++) {
        struct seen a = {0}, b = {0};
        link_pair(&a, &b, kinds[k]);
        uint64_t want = 0;
        size_t n = sizeof sizes / sizeof sizes[0];
        for (size_t i = 0; i < n; i++) {
            send_call(a.link, i + 1, sizes[i]);
            want ^= call_sum(i + 1, sizes[i]);
        }
        turn_until(b.frames == n);
        assert_true(b.checksum == want);
        seen_end(&a);
        turn_until(!b.link);
    }
}

static void test_bytes_that_trickle(void **state)
{
    (void)state;
    struct seen a = {0};
    int fd = raw_pair(&a, LINK_CLIENT);
    struct buf b = {0};
    add_call(&b, 1, 30);
    add_call(&b, 2, 40000);
    add_call(&b, 3, 0);
    for (size_t i = 0; i < b.len; i += i < 100 || i > 40050 ? 1 : 333) {
        size_t left = b.len - i, step = i < 100 || i > 40050 ? 1 : 333;
        raw_write(fd, b.data + i, left < step ? left : step);
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    turn_until(a.frames == 3);
    assert_true(a.checksum == (call_sum(1, 30) ^ call_sum(2, 40000) ^ call_sum(3, 0)));
    buf_free(&b);
    close(fd);
    turn_until(!a.link);
}

/* --- hostile bytes --- */

static void closes_with(link_kind kind, const void *bytes, size_t n, const char *reason)
{
    struct seen a = {0};
    int fd = raw_pair(&a, kind);
    raw_write(fd, bytes, n);
    turn_until(!a.link);
    assert_int_equal(a.closes, 1);
    assert_int_equal(a.frames, 0);
    if (!strstr(a.reason, reason)) {
        fail_msg("reason is \"%s\", not \"%s\"", a.reason, reason);
    }
    close(fd);
}

static void test_hostile_bytes_close_the_link(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *reason;
    } cases[] = {
        {"\0\0\0\0", 4, "not a frame"},
        {"\0\0\0\1\xc0", 5, "not a frame"},                 /* nil */
        {"\0\0\0\1\x90", 5, "not a frame"},                 /* empty array */
        {"\0\0\0\2\x91\7", 6, "not a frame"},               /* kind alone */
        {"\0\0\0\3\x92\xff\0", 7, "not a frame"},           /* negative kind */
        {"\0\0\0\3\x92\7\xff", 7, "not a frame"},           /* negative stream */
        {"\0\0\0\5\xdd\xff\xff\xff\xff", 9, "not a frame"}, /* 2^32-1 elements in five bytes */
        {"\xff\xff\xff\xff", 4, "a frame of 4294967295 bytes"},
        {"GET / HTTP/1.1\r\n\r\n", 18, "a frame of"},
        {"\x16\3\1\2\0\1\0\1", 8, "a frame of"}, /* a TLS client */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        closes_with(LINK_PEER, cases[i].bytes, cases[i].n, cases[i].reason);
        closes_with(LINK_CLIENT, cases[i].bytes, cases[i].n, cases[i].reason);
        closes_with(LINK_RUNNER, cases[i].bytes, cases[i].n, cases[i].reason);
    }
}

static void test_each_kind_has_its_frame_limit(void **state)
{
    (void)state;
    static const struct {
        link_kind kind;
        size_t max;
    } cases[] = {{LINK_PEER, LIMIT_FRAME_BYTES},
                 {LINK_CLIENT, LIMIT_ARGS_BYTES + 1024 * 1024},
                 {LINK_RUNNER, LIMIT_MESSAGE_BYTES}};
    for (size_t i = 0; i < 3; i++) {
        uint8_t head[4];
        store_u32(head, (uint32_t)cases[i].max + 1);
        closes_with(cases[i].kind, head, 4, "a frame of");
        struct seen a = {0};
        int fd = raw_pair(&a, cases[i].kind);
        struct buf b = {0};
        add_call(&b, 1, cases[i].max - 8);
        assert_int_equal(b.len, cases[i].max + 4);
        raw_write(fd, b.data, b.len);
        turn_until(a.frames == 1);
        buf_free(&b);
        close(fd);
        turn_until(!a.link);
    }
}

static void test_an_announced_frame_takes_no_memory(void **state)
{
    (void)state;
    struct seen a = {0};
    int fd = raw_pair(&a, LINK_RUNNER);
    uint8_t head[10] = {0};
    store_u32(head, LIMIT_MESSAGE_BYTES);
    raw_write(fd, head, sizeof head);
    turns_ms(30);
    assert_true(a.link->in.cap <= 256 * 1024);
    close(fd);
    turn_until(!a.link);
    assert_string_equal(a.reason, "closed by the other side");
}

static void test_a_truncated_frame_is_not_delivered(void **state)
{
    (void)state;
    for (size_t cut = 1; cut < 39; cut++) {
        struct seen a = {0};
        int fd = raw_pair(&a, LINK_PEER);
        struct buf b = {0};
        add_call(&b, 1, 10);
        size_t whole = b.len;
        add_call(&b, 2, 30);
        raw_write(fd, b.data, whole + cut);
        close(fd);
        turn_until(!a.link);
        assert_int_equal(a.frames, 1); /* what was whole still counts */
        assert_string_equal(a.reason, "closed by the other side");
        buf_free(&b);
    }
}

static void test_unknown_kinds(void **state)
{
    (void)state;
    struct seen a = {0};
    int fd = raw_pair(&a, LINK_PEER);
    raw_write(fd, "\0\0\0\4\x92\xcc\xc8\0\0\0\0\4\x92\xcc\xc8\7",
              16); /* kind 200 on streams 0 and 7 */
    uint8_t got[512];
    size_t n = 0;
    struct frame f;
    while (n < 4 || n < 4 + load_u32(got)) {
        ssize_t r = recv(fd, got + n, sizeof got - n, MSG_DONTWAIT);
        n += r > 0 ? (size_t)r : 0;
        turn();
    }
    struct span in = {got, n};
    uint32_t code;
    assert_int_equal(frame_take(&in, 512, &f), GW_OK);
    assert_int_equal(in.n, 0); /* one answer only */
    assert_int_equal(f.kind, FRAME_REPLY);
    assert_int_equal(f.stream, 7);
    assert_int_equal(mp_read_u32(&f.rest, &code), GW_OK);
    assert_int_equal(code, GW_ENOT_SUPPORTED);
    assert_int_equal(a.frames, 0);
    close(fd);
    turn_until(!a.link);
}

/* --- fragments --- */

static void add_fragment(struct buf *b, uint64_t stream, bool last, size_t bytes)
{
    uint8_t *zeros = calloc(1, bytes + 1);
    size_t at = frame_begin(b, FRAME_FRAGMENT, stream, 2);
    mp_bool(b, last);
    mp_bin(b, zeros, bytes);
    frame_end(b, at);
    free(zeros);
}

static gw_err add_to(struct reassembly *r, uint64_t stream, bool last, size_t bytes,
                     struct buf *ret_whole, struct gw_error *why)
{
    struct buf b = {0};
    struct frame f;
    add_fragment(&b, stream, last, bytes);
    assert_int_equal(frame_parse((struct span){b.data + 4, b.len - 4}, &f), GW_OK);
    gw_err err = reassembly_add(r, &f, ret_whole, why);
    buf_free(&b);
    return err;
}

static void test_reassembly_limits(void **state)
{
    (void)state;
    struct reassembly r = {0};
    struct buf whole = {0};
    struct gw_error why = {0};
    assert_int_equal(add_to(&r, 1, false, LIMIT_FRAGMENT_BYTES, &whole, &why), GW_EAGAIN);
    assert_int_equal(add_to(&r, 1, false, LIMIT_FRAGMENT_BYTES + 1, &whole, &why), GW_EPROTO);
    assert_int_equal(add_to(&r, 1, false, 0, &whole, &why), GW_EPROTO);
    assert_int_equal(add_to(&r, 0, false, 10, &whole, &why), GW_EPROTO);
    for (uint64_t i = 2; i <= LIMIT_LINK_FRAGMENTED; i++) {
        assert_int_equal(add_to(&r, i, false, 1, &whole, &why), GW_EAGAIN);
    }
    assert_int_equal(add_to(&r, 99, false, 1, &whole, &why), GW_EPROTO);
    assert_int_equal(add_to(&r, 99, true, 1, &whole, &why), GW_EPROTO);
    assert_int_equal(add_to(&r, 1, true, 0, &whole, &why), GW_OK); /* an empty last one completes */
    assert_int_equal(whole.len, LIMIT_FRAGMENT_BYTES);
    buf_free(&whole);
    assert_int_equal(add_to(&r, 99, true, 1, &whole, &why), GW_OK);
    buf_free(&whole);
    reassembly_free(&r);

    size_t n = LIMIT_MESSAGE_BYTES / LIMIT_FRAGMENT_BYTES;
    for (uint64_t stream = 1; stream <= 2; stream++) {
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(add_to(&r, stream, false, LIMIT_FRAGMENT_BYTES, &whole, &why),
                             GW_EAGAIN);
        }
        assert_int_equal(add_to(&r, stream, false, 1, &whole, &why), GW_ETOO_BIG);
    }
    assert_int_equal(r.bytes, LIMIT_LINK_REASSEMBLY_BYTES);
    assert_int_equal(add_to(&r, 3, false, 1, &whole, &why), GW_ETOO_BIG);
    assert_int_equal(add_to(&r, 2, true, 0, &whole, &why),
                     GW_OK); /* exactly the limit is allowed */
    assert_int_equal(whole.len, LIMIT_MESSAGE_BYTES);
    buf_free(&whole);
    reassembly_free(&r);
    assert_int_equal(r.bytes, 0);
}

static void test_fragment_bombs_close_the_link(void **state)
{
    (void)state;
    struct buf b = {0};
    for (uint64_t i = 1; i <= LIMIT_LINK_FRAGMENTED + 1; i++) {
        add_fragment(&b, i, false, 1);
    }
    closes_with(LINK_PEER, b.data, b.len, "unfinished frames");
    buf_reset(&b);
    for (size_t i = 0; i <= LIMIT_MESSAGE_BYTES / LIMIT_FRAGMENT_BYTES; i++) {
        add_fragment(&b, 1, false, LIMIT_FRAGMENT_BYTES);
    }
    closes_with(LINK_PEER, b.data, b.len, "larger than");
    buf_reset(&b);
    add_fragment(&b, 1, true, 3); /* three zeros are no frame */
    closes_with(LINK_PEER, b.data, b.len, "make no frame");
    closes_with(LINK_CLIENT, b.data, b.len, "without fragments");
    buf_reset(&b);
    size_t at = frame_begin(&b, FRAME_FRAGMENT, 1, 2); /* a fragment in a fragment */
    struct buf inner = {0};
    add_fragment(&inner, 2, true, 3);
    mp_bool(&b, true);
    mp_bin(&b, inner.data + 4, inner.len - 4);
    frame_end(&b, at);
    closes_with(LINK_PEER, b.data, b.len, "make no frame");
    buf_reset(&b);
    at = frame_begin(&b, FRAME_FRAGMENT, 1, 1);
    mp_bool(&b, true);
    frame_end(&b, at);
    closes_with(LINK_PEER, b.data, b.len, "not [stream, last, bytes]");
    buf_free(&inner);
    buf_free(&b);
}

/* --- ends --- */

static void test_a_reader_that_is_too_slow_is_dropped(void **state)
{
    (void)state;
    struct seen a = {0};
    int fd = raw_pair(&a, LINK_RUNNER);
    size_t bytes = 60 * 1024 * 1024;
    for (uint64_t i = 1; i <= 4; i++) {
        send_call(a.link, i, bytes);
        turn();
    }
    assert_non_null(a.link);
    send_call(a.link, 5, bytes);
    assert_non_null(a.link); /* never from inside the call */
    turn_until(!a.link);
    assert_string_equal(a.reason, "slow");
    assert_int_equal(a.closes, 1);
    close(fd);
}

static void test_close_with_flush_delivers_everything(void **state)
{
    (void)state;
    struct seen a = {0}, b = {0};
    link_pair(&a, &b, LINK_PEER);
    for (uint64_t i = 1; i <= 100; i++) {
        send_call(a.link, i, 60000);
    }
    send_call(a.link, 101, 5 * 1024 * 1024);
    link_close(a.link, true, "done");
    send_call(a.link, 102, 10); /* too late: dropped */
    turn_until(!a.link && !b.link);
    assert_int_equal(b.frames, 101);
    assert_string_equal(a.reason, "done");
    assert_string_equal(b.reason, "closed by the other side");
}

static void test_close_with_flush_waits_one_second_at_most(void **state)
{
    (void)state;
    struct seen a = {0};
    int fd = raw_pair(&a, LINK_PEER);
    send_call(a.link, 1, 30 * 1024 * 1024);
    int64_t begin = now_ms();
    link_close(a.link, true, "done");
    turn_until(!a.link);
    assert_in_range(now_ms() - begin, 900, 3000);
    assert_string_equal(a.reason, "done");
    close(fd);
}

static void test_close_at_once(void **state)
{
    (void)state;
    struct seen a = {.answer_on_close = true}, b = {0};
    link_pair(&a, &b, LINK_PEER);
    send_call(a.link, 1, 100);
    link_close(a.link, true, "first");
    link_close(a.link, false, "second");
    link_close(a.link, true, "third");
    assert_int_equal(a.closes, 0);
    turn_until(!a.link && !b.link);
    assert_int_equal(a.closes, 1);
    assert_string_equal(a.reason, "first");
}

static void test_close_inside_a_frame(void **state)
{
    (void)state;
    struct seen a = {0}, b = {.close_on_frame = true};
    link_pair(&a, &b, LINK_CLIENT);
    for (uint64_t i = 1; i <= 10; i++) {
        send_call(a.link, i, 20000);
    }
    turn_until(!b.link && !a.link);
    assert_int_equal(b.frames, 1); /* none after the close */
    assert_string_equal(b.reason, "enough");
}

static void release(void *arg)
{
    ++*(int *)arg;
}

static void test_release_follows_the_close(void **state)
{
    (void)state;
    struct seen a = {0}, b = {0};
    int released = 0;
    link_pair(&a, &b, LINK_CLIENT);
    link_set_release(a.link, release, &released);
    seen_end(&b);
    turn_until(!a.link);
    assert_int_equal(released, 1);
}

static void test_ping_is_answered(void **state)
{
    (void)state;
    struct seen a = {0};
    int fd = raw_pair(&a, LINK_RUNNER);
    raw_write(fd, "\0\0\0\3\x92\7\x2a", 7);
    uint8_t got[64];
    ssize_t n = -1;
    while (n < 0) {
        turn();
        n = recv(fd, got, sizeof got, MSG_DONTWAIT);
    }
    assert_int_equal(n, 7);
    assert_memory_equal(got, "\0\0\0\3\x92\x8\x2a", 7);
    assert_int_equal(a.frames, 0);
    close(fd);
    turn_until(!a.link);
}

static void test_silent_peers(void **state)
{
    (void)state;
    struct seen a = {0};
    int fd = raw_pair(&a, LINK_PEER);
    link_set_silence(a.link, 60, 160);
    int64_t begin = now_ms();
    turn_until(!a.link);
    assert_in_range(now_ms() - begin, 150, 1000);
    assert_string_equal(a.reason, "silent");
    uint8_t got[64];
    assert_int_equal(recv(fd, got, sizeof got, 0), 7);
    assert_memory_equal(got, "\0\0\0\3\x92\7\0", 7); /* it was pinged first */
    close(fd);

    struct seen b = {0}, c = {0}; /* two that answer stay */
    link_pair(&b, &c, LINK_PEER);
    link_set_silence(b.link, 40, 80);
    turns_ms(400);
    assert_non_null(b.link);
    seen_end(&b);
    turn_until(!c.link);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_arrive_in_order),
        cmocka_unit_test(test_frames_of_one_turn_leave_in_one_write),
        cmocka_unit_test(test_control_overtakes_messages_overtake_bulk),
        cmocka_unit_test(test_fragments_of_several_frames_take_turns),
        cmocka_unit_test(test_large_frames),
        cmocka_unit_test(test_sizes_at_the_borders),
        cmocka_unit_test(test_bytes_that_trickle),
        cmocka_unit_test(test_hostile_bytes_close_the_link),
        cmocka_unit_test(test_each_kind_has_its_frame_limit),
        cmocka_unit_test(test_an_announced_frame_takes_no_memory),
        cmocka_unit_test(test_a_truncated_frame_is_not_delivered),
        cmocka_unit_test(test_unknown_kinds),
        cmocka_unit_test(test_reassembly_limits),
        cmocka_unit_test(test_fragment_bombs_close_the_link),
        cmocka_unit_test(test_a_reader_that_is_too_slow_is_dropped),
        cmocka_unit_test(test_close_with_flush_delivers_everything),
        cmocka_unit_test(test_close_with_flush_waits_one_second_at_most),
        cmocka_unit_test(test_close_at_once),
        cmocka_unit_test(test_close_inside_a_frame),
        cmocka_unit_test(test_release_follows_the_close),
        cmocka_unit_test(test_ping_is_answered),
        cmocka_unit_test(test_silent_peers),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
