/* Selectors: every form, what they match, faults with a caret. */
#include "protocol/selector.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/base/buf.h"

static struct selector parsed(const char *text)
{
    struct selector s;
    struct gw_error why = {0};
    if (selector_parse(text, &s, &why)) {
        fail_msg("\"%s\": %s", text, why.text);
    }
    return s;
}

static void refused(const char *text)
{
    struct selector s = {.term_count = 99};
    struct gw_error why = {0};
    assert_int_equal(selector_parse(text, &s, &why), GW_EARG);
    assert_int_equal(s.term_count, 99);
    assert_true(strlen(why.text) > 0);
    assert_int_equal(selector_parse(text, &s, NULL), GW_EARG);
}

static char linux_tag[] = "Linux", gpu_tag[] = "gpu", rack[] = "rack=7", site[] = "site=Delft",
            url_1[] = "https://10.0.0.7:7448", url_2[] = "https://alpha.example:7448/";
static char *tag_items[] = {linux_tag, gpu_tag};
static char *property_items[] = {rack, site};
static char *url_items[] = {url_1, url_2};
static const gw_strs tags = {tag_items, 2, 2}, properties = {property_items, 2, 2},
                     urls = {url_items, 2, 2};
static const struct host_id id = {{1, 2, 3}};
static const struct selector_host alpha = {"alpha", &id, &urls, &tags, &properties};

static bool matches(const char *text)
{
    struct selector s = parsed(text);
    return selector_matches(&s, &alpha);
}

static void test_kinds(void **state)
{
    (void)state;
    char text[HOST_ID_TEXT];
    assert_int_equal(parsed("alpha").kind, SELECT_NAME);
    assert_int_equal(parsed("any").kind, SELECT_ANY);
    assert_int_equal(parsed("all").kind, SELECT_ALL);
    assert_int_equal(parsed("https://h:1").kind, SELECT_URL);
    assert_int_equal(parsed(host_id_text(&id, text)).kind, SELECT_ID);
    assert_int_equal(parsed("tag:a").kind, SELECT_TERMS);
    assert_int_equal(parsed("property:a=b").kind, SELECT_TERMS);
    struct selector s = parsed("!tag:a, property:k=v w");
    assert_int_equal(s.term_count, 2);
    assert_true(s.terms[0].negated && !s.terms[0].property);
    assert_string_equal(s.terms[0].key, "a");
    assert_true(!s.terms[1].negated && s.terms[1].property);
    assert_string_equal(s.terms[1].key, "k");
    assert_string_equal(s.terms[1].value, "v w");
}

static void test_what_matches(void **state)
{
    (void)state;
    char text[HOST_ID_TEXT], other_text[HOST_ID_TEXT];
    struct host_id other = {{9}};
    assert_true(matches("alpha"));
    assert_false(matches("Alpha"));
    assert_false(matches("beta"));
    assert_true(matches("any"));
    assert_true(matches("all"));
    assert_true(matches("https://10.0.0.7:7448"));
    assert_true(matches("https://10.0.0.7:7448/"));
    assert_true(matches("https://ALPHA.example:7448"));
    assert_false(matches("https://10.0.0.7:744"));
    assert_true(matches(host_id_text(&id, text)));
    assert_false(matches(host_id_text(&other, other_text)));
    assert_true(matches("tag:linux"));
    assert_true(matches("tag:GPU"));
    assert_false(matches("tag:gp"));
    assert_true(matches("tag:gpu,tag:linux"));
    assert_false(matches("tag:gpu,tag:mac"));
    assert_true(matches("tag:gpu,!tag:mac"));
    assert_false(matches("tag:gpu,!tag:linux"));
    assert_true(matches("property:rack=7"));
    assert_false(matches("property:rack="));
    assert_false(matches("property:rack=70"));
    assert_false(matches("property:site=delft"));
    assert_true(matches("!property:rack=8,property:site=Delft"));
    assert_false(matches("!property:rack=7"));
    struct selector s = parsed("tag:gpu"), n = parsed("!tag:gpu"), name = parsed("alpha");
    struct selector by_id = parsed(text), by_url = parsed("https://h:1");
    struct selector_host nothing = {0};
    assert_false(selector_matches(&s, &nothing));
    assert_true(selector_matches(&n, &nothing));
    assert_false(selector_matches(&name, &nothing));
    assert_false(selector_matches(&by_id, &nothing));
    assert_false(selector_matches(&by_url, &nothing));
    assert_false(selector_matches(&(struct selector){.kind = SELECT_TERMS}, &alpha));
}

static void test_urls(void **state)
{
    (void)state;
    (void)parsed("https://[::1]:7448");
    (void)parsed("https://h:65535/");
    (void)parsed("HTTPS://h:1");
    refused("https://h");
    refused("https://h:0");
    refused("https://h:65536");
    refused("https://h:123456");
    refused("https://:1");
    refused("https://[]:1");
    refused("https://[::1]");
    refused("https://[::1:1");
    refused("https://h:1/x");
    refused("https://h:1x");
    refused("https://user@h:1");
    refused("http://h:1");
}

static void test_what_is_refused(void **state)
{
    (void)state;
    refused("");
    refused("../../x");
    refused("a b");
    refused("a\n");
    refused("tag:");
    refused("tag:a,");
    refused(",tag:a");
    refused("tag:a,,tag:b");
    refused("tag:a b");
    refused("tag:a,beta");
    refused("!alpha");
    refused("!");
    refused("!!tag:a");
    refused("property:a");
    refused("property:=v");
    refused("property:");
    refused("tag:a,property:k");
    refused("tags:a,tag:b");
    struct selector s;
    assert_int_equal(selector_parse(NULL, &s, NULL), GW_EARG);
}

static void test_limits(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < SELECTOR_TERMS; i++) {
        buf_addf(&b, "%stag:t%d", i ? "," : "", i);
    }
    buf_add(&b, "", 1);
    assert_int_equal(parsed((char *)b.data).term_count, SELECTOR_TERMS);
    b.len--;
    buf_addf(&b, ",tag:more");
    buf_add(&b, "", 1);
    refused((char *)b.data);
    static const struct {
        const char *head;
        size_t limit; /* characters after it */
    } rows[] = {{"", 64}, {"tag:", 64}, {"property:k=", 256}};
    for (size_t i = 0; i < 3; i++) {
        for (size_t more = 0; more < 2; more++) {
            buf_reset(&b);
            buf_addf(&b, "%s", rows[i].head);
            for (size_t k = 0; k < rows[i].limit + more; k++) {
                buf_add(&b, "x", 1);
            }
            buf_add(&b, "", 1);
            if (more) {
                refused((char *)b.data);
            } else {
                (void)parsed((char *)b.data);
            }
        }
    }
    buf_free(&b);
}

static void test_caret(void **state)
{
    (void)state;
    static const struct {
        const char *text, *hint;
    } rows[] = {
        {"tag:a,beta", "tag:a,beta\n      ^"},
        {"tag:a,tag:b c", "tag:a,tag:b c\n          ^"},
        {"property:rack", "property:rack\n             ^"},
        {"tag:a,", "tag:a,\n      ^"},
        {"!alpha", "!alpha\n ^"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct selector s;
        struct gw_error why = {0};
        assert_int_equal(selector_parse(rows[i].text, &s, &why), GW_EARG);
        assert_string_equal(why.hint, rows[i].hint);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kinds),  cmocka_unit_test(test_what_matches),
        cmocka_unit_test(test_urls),   cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_caret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
