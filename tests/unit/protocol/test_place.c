/* Places: where a selector ends and a path begins. */
#include "protocol/place.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/base/id.h"

static void is(const char *text, const char *selector, const char *path)
{
    struct place p = {0};
    struct gw_error why = {0};
    if (place_parse(text, &p, &why)) {
        fail_msg("\"%s\": %s", text, why.text);
    }
    assert_string_equal(p.selector, selector);
    assert_string_equal(p.path, path);
    place_free(&p);
    place_free(&p);
}

static void refused(const char *text)
{
    struct place p = {0};
    struct gw_error why = {0};
    assert_int_equal(place_parse(text, &p, &why), GW_EARG);
    assert_null(p.selector);
    assert_non_null(strstr(why.text, "does not name a host and a path"));
    assert_true(strlen(why.hint) > 0);
    assert_int_equal(place_parse(text, &p, NULL), GW_EARG);
}

static void test_names(void **state)
{
    (void)state;
    char id[HOST_ID_TEXT], text[HOST_ID_TEXT + 8];
    is("beta:/srv/data", "beta", "/srv/data");
    is("beta:data", "beta", "data");
    is("beta:~/x", "beta", "~/x");
    is("beta:", "beta", "");
    is("any:/x", "any", "/x");
    is("all:/x", "all", "/x"); /* refused where one host is wanted */
    host_id_text(&(struct host_id){{1, 2, 3}}, id);
    snprintf(text, sizeof text, "%s:a", id);
    is(text, id, "a");
}

/* Colons of the path stay with it. */
static void test_colons_of_paths(void **state)
{
    (void)state;
    is("beta:a:b", "beta", "a:b");
    is("beta:a:/b", "beta", "a:/b");
    is("beta:/a:/b:~c", "beta", "/a:/b:~c");
    is("tag:gpu:/a:b", "tag:gpu", "/a:b");
    is("tag:gpu:a:/b", "tag:gpu", "a:/b");
    is("https://h:1:/a:/b", "https://h:1", "/a:/b");
}

static void test_terms(void **state)
{
    (void)state;
    is("tag:gpu:/x", "tag:gpu", "/x");
    is("tag:gpu:x", "tag:gpu", "x");
    is("!tag:gpu:x", "!tag:gpu", "x");
    is("tag:gpu:", "tag:gpu", "");
    is("tag:gpu,!tag:laptop:~/out", "tag:gpu,!tag:laptop", "~/out");
    is("tag:gpu,property:site=Delft:data", "tag:gpu,property:site=Delft", "data");
    is("tag:gpu:/a,b", "tag:gpu", "/a,b");
    is("property:rack=:x", "property:rack=", "x");
}

/* The value of a property may hold anything: the path that shows itself ends it. */
static void test_values(void **state)
{
    (void)state;
    is("property:k=a:b:/x", "property:k=a:b", "/x");
    is("property:k=a:b:x", "property:k=a", "b:x");
    is("property:k=a:./b:/x", "property:k=a", "./b:/x");
    is("property:k=a:b,tag:c:/x", "property:k=a:b,tag:c", "/x");
}

static void test_urls(void **state)
{
    (void)state;
    is("https://10.0.0.7:7420:/srv", "https://10.0.0.7:7420", "/srv");
    is("https://10.0.0.7:7420/:/srv", "https://10.0.0.7:7420/", "/srv");
    is("https://10.0.0.7:7420:srv", "https://10.0.0.7:7420", "srv");
    is("HTTPS://h:1:", "HTTPS://h:1", "");
    is("https://[::1]:7420:~/x", "https://[::1]:7420", "~/x");
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const faults[] = {
        "",       ":",           "/a/b",         "beta",          ":/x",          "a b:/x",
        "tag:/x", "tag:gpu",     "property:a:x", "!beta:/x",      "https://h:/x", "https://h:7420",
        "./a:b",  "be\x1bta:/x", "tag:a b:/x",   "http://h:1:/x",
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        refused(faults[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), cmocka_unit_test(test_colons_of_paths),
        cmocka_unit_test(test_terms), cmocka_unit_test(test_values),
        cmocka_unit_test(test_urls),  cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
