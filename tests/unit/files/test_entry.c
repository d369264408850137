#include "host/files/entry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/limits.h"

#define TEXT(s) ((char[]){s})

static void assert_round(const struct file_entry *e)
{
    struct buf packed = {0};
    struct file_entry back = {0};
    entry_pack(e, &packed);
    mp_nil(&packed); /* what comes next */
    struct mp m = mp_over(buf_span(&packed));
    assert_int_equal(entry_parse(&m, &back, NULL), GW_OK);
    assert_int_equal(mp_peek(&m), MP_NIL);
    assert_string_equal(back.path, e->path);
    assert_int_equal(back.type, e->type);
    assert_int_equal(back.mode, e->mode);
    assert_true(back.mtime_ns == e->mtime_ns && back.size == e->size);
    assert_int_equal(back.sparse, e->sparse);
    assert_true(back.uid == e->uid && back.gid == e->gid);
    assert_true(!back.target == !e->target);
    if (e->target) {
        assert_string_equal(back.target, e->target);
    }
    /* cut anywhere it is no entry */
    for (size_t n = 0; n + 1 < packed.len; n++) {
        struct file_entry none = {0};
        uint8_t *part = malloc(n ? n : 1);
        assert_non_null(part);
        memcpy(part, packed.data, n);
        m = mp_over((struct span){part, n});
        assert_int_equal(entry_parse(&m, &none, NULL), GW_EPROTO);
        assert_ptr_equal(m.p, part);
        assert_null(none.path);
        free(part);
    }
    entry_clear(&back);
    buf_free(&packed);
}

static void entries_come_back_as_they_were(void **state)
{
    (void)state;
    const struct file_entry all[] = {
        {.path = TEXT("a"), .type = ENTRY_FILE, .mode = 07777, .size = INT64_MAX, .sparse = true},
        {.path = TEXT("a/b\xff\n/ c"),
         .type = ENTRY_FILE,
         .mtime_ns = -1,
         .uid = 7,
         .gid = UINT32_MAX},
        {.path = TEXT("."), .type = ENTRY_FOLDER, .mode = 0755, .mtime_ns = INT64_MIN},
        {.path = TEXT("..."), .type = ENTRY_FOLDER, .mtime_ns = INT64_MAX},
        {.path = TEXT("l"), .type = ENTRY_LINK, .size = 7, .target = TEXT("../../x")},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        assert_round(&all[i]);
    }
    struct file_entry copy;
    assert_int_equal(entry_copy(&all[4], &copy), GW_OK);
    assert_string_equal(copy.target, "../../x");
    assert_true(entry_is_unchanged(&all[4], &copy));
    copy.ctime_ns++;
    assert_false(entry_is_unchanged(&all[4], &copy));
    entry_clear(&copy);
}

static gw_err parse(const struct file_entry *e, bool *ret_skipped)
{
    struct buf packed = {0};
    struct file_entry back = {0};
    struct gw_error why = {0};
    entry_pack(e, &packed);
    struct mp m = mp_over(buf_span(&packed));
    gw_err err = entry_parse(&m, &back, &why);
    assert_true(!err || why.text[0]);
    *ret_skipped = mp_done(&m);
    entry_clear(&back);
    buf_free(&packed);
    return err;
}

/* A wrong path is the fault of one entry; a wrong form that of the connection. */
static void hostile_entries(void **state)
{
    (void)state;
    static char name[300], deep[LIMIT_FILE_PATH_BYTES + 2], target[LIMIT_FILE_TARGET_BYTES + 2];
    memset(name, 'n', 256);
    memset(target, 't', LIMIT_FILE_TARGET_BYTES + 1);
    for (size_t i = 0; i < LIMIT_FILE_PATH_BYTES + 1; i++) {
        deep[i] = i % 2 ? '/' : 'd';
    }
    const struct {
        struct file_entry e;
        gw_err err;
        bool skipped;
    } cases[] = {
        {{.path = TEXT(".."), .type = ENTRY_FILE}, GW_EDENIED, true},
        {{.path = TEXT("a/../b"), .type = ENTRY_FILE}, GW_EDENIED, true},
        {{.path = TEXT("/a"), .type = ENTRY_FILE}, GW_EDENIED, true},
        {{.path = TEXT(""), .type = ENTRY_FILE}, GW_EARG, true},
        {{.path = TEXT("a/"), .type = ENTRY_FILE}, GW_EARG, true},
        {{.path = TEXT("a//b"), .type = ENTRY_FILE}, GW_EARG, true},
        {{.path = TEXT("./a"), .type = ENTRY_FILE}, GW_EARG, true},
        {{.path = TEXT("."), .type = ENTRY_FILE}, GW_EARG, true},
        {{.path = name, .type = ENTRY_FILE}, GW_ETOO_BIG, true},
        {{.path = deep, .type = ENTRY_FILE}, GW_ETOO_BIG, true},
        {{.path = TEXT("l"), .type = ENTRY_LINK, .size = sizeof target - 1, .target = target},
         GW_ETOO_BIG,
         true},
        {{.path = TEXT("a"), .type = 0}, GW_EPROTO, false},
        {{.path = TEXT("a"), .type = 4}, GW_EPROTO, false},
        {{.path = TEXT("a"), .type = ENTRY_FILE, .mode = 010000}, GW_EPROTO, false},
        {{.path = TEXT("a"), .type = ENTRY_FILE, .size = 1ull << 63}, GW_EPROTO, false},
        {{.path = TEXT("a"), .type = ENTRY_FILE, .target = TEXT("x")}, GW_EPROTO, false},
        {{.path = TEXT("a"), .type = ENTRY_FOLDER, .size = 1}, GW_EPROTO, false},
        {{.path = TEXT("a"), .type = ENTRY_LINK}, GW_EPROTO, false},
        {{.path = TEXT("a"), .type = ENTRY_LINK, .target = TEXT("")}, GW_EPROTO, false},
        {{.path = TEXT("a"), .type = ENTRY_LINK, .target = TEXT("x"), .size = 2}, GW_EPROTO, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool skipped;
        gw_err err = parse(&cases[i].e, &skipped);
        if (err != cases[i].err || skipped != cases[i].skipped) {
            fail_msg("case %zu: %s", i, gw_err_name(err));
        }
    }
    name[255] = '\0';
    deep[LIMIT_FILE_PATH_BYTES - 1] = '\0';
    target[LIMIT_FILE_TARGET_BYTES] = '\0';
    bool skipped;
    assert_int_equal(parse(&(struct file_entry){.path = name, .type = ENTRY_FILE}, &skipped),
                     GW_OK);
    assert_int_equal(parse(&(struct file_entry){.path = deep, .type = ENTRY_FILE}, &skipped),
                     GW_OK);
    struct file_entry link = {.path = name, .type = ENTRY_LINK, .target = target};
    link.size = LIMIT_FILE_TARGET_BYTES;
    assert_int_equal(parse(&link, &skipped), GW_OK);
}

static void zero_bytes_and_more_members(void **state)
{
    (void)state;
    struct buf b = {0};
    struct file_entry e = {0};
    for (int zero = 0; zero < 2; zero++) {
        buf_reset(&b);
        mp_array(&b, 10);
        mp_uint(&b, ENTRY_FILE);
        mp_bin(&b, "a\0b", zero ? 3 : 1);
        mp_uint(&b, 0600);
        mp_int(&b, 0);
        mp_uint(&b, 0);
        mp_nil(&b);
        mp_uint(&b, 0xfe); /* flags of the future */
        mp_uint(&b, 0);
        mp_uint(&b, 0);
        mp_str(&b, "of the future");
        struct mp m = mp_over(buf_span(&b));
        assert_int_equal(entry_parse(&m, &e, NULL), zero ? GW_EARG : GW_OK);
        assert_true(mp_done(&m));
        entry_clear(&e);
    }
    buf_free(&b);
}

static void times(void **state)
{
    (void)state;
    const int64_t all[] = {0,           1,           -1,        999999999, 1000000000,
                           -1000000000, -1000000001, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct timespec t = entry_time(all[i]);
        assert_true(t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
        assert_true(entry_ns(t) == all[i]);
    }
    assert_true(entry_ns((struct timespec){.tv_sec = INT64_MAX / 2}) == INT64_MAX);
    assert_true(entry_ns((struct timespec){.tv_sec = INT64_MIN / 2}) == INT64_MIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_come_back_as_they_were),
        cmocka_unit_test(hostile_entries),
        cmocka_unit_test(zero_bytes_and_more_members),
        cmocka_unit_test(times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
