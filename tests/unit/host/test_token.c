/* Join tokens: their text, the options, the records that signers keep. */
#include "tests/unit/host/trust_rig.h"

static void expect_refusal(const char *home, const char *name, const char *token, gw_err code,
                           const char *text)
{
    char url[256] = "untouched";
    struct gw_error why = {0};
    gw_err err = join_request(at(home), name, token, NULL, url, &why);
    if (err != code || !strstr(why.text, text)) {
        fail_msg("wanted \"%s\", got %s: \"%s\"", text, gw_err_name(err), why.text);
    }
    assert_int_equal(why.code, code);
    assert_string_equal(url, "untouched");
}

static void test_every_altered_character_is_noticed(void **state)
{
    (void)state;
    struct trust *t = open_in("a", "alpha");
    char *token = token_for(t, "https://127.0.0.1:1", NULL);
    size_t n = strlen(token);
    struct token k = {0};
    for (size_t i = 0; i < n; i++) {
        char was = token[i];
        for (const char *c = "A_9z "; *c; c++) {
            token[i] = *c == was ? 'B' : *c;
            if (token_parse(token, &k, NULL) == GW_OK) {
                fail_msg("character %zu", i);
            }
        }
        token[i] = was;
    }
    for (size_t cut = 0; cut < n; cut++) {
        char was = token[cut];
        token[cut] = '\0';
        assert_int_equal(token_parse(token, &k, NULL), GW_EDENIED);
        token[cut] = was;
    }
    token[n - 1] ^= 1;
    expect_refusal("b", "beta", token, GW_EDENIED, "the token is altered");
    expect_refusal("b", "beta", "", GW_EDENIED, "not a join token");
    expect_refusal("b", "beta", "godwit-token-2.AAAA", GW_EDENIED, "not a join token");
    char *longer = calloc(1, LIMIT_TOKEN_BYTES + 64);
    assert_non_null(longer);
    memset(longer, 'A', LIMIT_TOKEN_BYTES + 1);
    memcpy(longer, "godwit-token-1.", 15);
    expect_refusal("b", "beta", longer, GW_EDENIED, "altered");
    free(longer);
    assert_false(keyfile_exists(at("b")));
    free(token);
    trust_close(t);
}

static void test_token_options(void **state)
{
    (void)state;
    struct trust *a = open_in("a", "alpha");
    gw_strs one = {0}, none = {0}, many = {0}, plain = {0}, space = {0};
    assert_int_equal(gw_strs_add(&one, "https://h:1"), GW_OK);
    assert_int_equal(gw_strs_add(&plain, "http://h:1"), GW_OK);
    assert_int_equal(gw_strs_add(&space, "a b"), GW_OK);
    for (int i = 0; i <= LIMIT_URLS; i++) {
        assert_int_equal(gw_strs_add(&many, "https://h:1"), GW_OK);
    }
    const struct {
        struct token_options o;
        gw_err err;
    } rows[] = {
        {{.urls = &one}, GW_OK},
        {{.urls = NULL}, GW_EARG},
        {{.urls = &none}, GW_EARG},
        {{.urls = &many}, GW_EARG},
        {{.urls = &plain}, GW_EARG},
        {{.urls = &one, .uses = LIMIT_TOKEN_USES}, GW_OK},
        {{.urls = &one, .uses = LIMIT_TOKEN_USES + 1}, GW_EARG},
        {{.urls = &one, .ttl_ms = -1}, GW_EARG},
        {{.urls = &one, .ttl_ms = LIMIT_TOKEN_TTL_MS}, GW_OK},
        {{.urls = &one, .ttl_ms = LIMIT_TOKEN_TTL_MS + 1}, GW_EARG},
        {{.urls = &one, .tags = &space}, GW_EARG},
        {{.urls = &one, .tags = &none}, GW_OK},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *text = NULL;
        assert_int_equal(token_make(a, &rows[i].o, ca_now_ms(), &text, NULL), rows[i].err);
        assert_true((text != NULL) == (rows[i].err == GW_OK));
        free(text);
    }
    gw_strs_clear(&one);
    gw_strs_clear(&many);
    gw_strs_clear(&plain);
    gw_strs_clear(&space);
    trust_close(a);
}

static void test_record_has_no_secret(void **state)
{
    (void)state;
    struct trust *a = open_in("a", "alpha");
    char *token = token_for(a, "https://h:1", NULL), id[GW_ID_TEXT], path[300];
    struct token k = {0};
    assert_int_equal(token_parse(token, &k, NULL), GW_OK);
    snprintf(path, sizeof path, "%s/%s", at("a/mesh/tokens"), gw_id_text(&k.id, id));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    struct buf raw = {0};
    assert_int_equal(keyfile_read(path, KEYFILE_SECRET, &raw, NULL), GW_OK);
    assert_null(memmem(raw.data, raw.len, k.secret, sizeof k.secret));
    /* A record that was cut is an error, not a token without limits. */
    for (size_t n = 0; n < raw.len; n++) {
        struct token_record r = {0};
        assert_int_equal(keyfile_write(path, KEYFILE_SECRET, (struct span){raw.data, n}, NULL),
                         GW_OK);
        assert_int_equal(token_record_read(a->mesh_dir, &k.id, &r, NULL), GW_ECORRUPT);
        n += 7;
    }
    buf_free(&raw);
    token_free(&k);
    free(token);
    trust_close(a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_altered_character_is_noticed),
        TEST(test_token_options),
        TEST(test_record_has_no_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
