/* Method signatures: grammar, faults with their place, checks of arguments and replies. */
#include "protocol/signature.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "protocol/json.h"
#include "protocol/limits.h"

static struct signature *parsed(const char *text)
{
    struct signature *sig = NULL;
    struct gw_error why = {0};
    if (signature_parse(text, &sig, &why)) {
        fail_msg("\"%s\": %s\n%s", text, why.text, why.hint);
    }
    return sig;
}

static void canonical(const char *text, const char *want)
{
    struct signature *sig = parsed(text), *again = parsed(want);
    assert_string_equal(signature_text(sig), want);
    assert_string_equal(signature_text(again), want);
    signature_free(sig);
    signature_free(again);
}

static void test_canonical_text(void **state)
{
    (void)state;
    canonical("increment(by: int = 1) -> (count: int)", "increment(by: int = 1) -> (count: int)");
    canonical(" increment ( by:int=1 )->( count :int ) ", "increment(by: int = 1) -> (count: int)");
    canonical("ping()", "ping()");
    canonical("ping()->()", "ping() -> ()");
    canonical("a.b-c(x: int [ 1 .. 10 ] ?)", "a.b-c(x: int[1..10]?)");
    canonical("f(a: [ string ], b: { [int] } ?, c: [any?]\n)",
              "f(a: [string], b: {[int]}?, c: [any?])");
    canonical("f(a: string[..64] = \"x, (y)\")", "f(a: string[..64] = \"x, (y)\")");
    canonical("f(wait: duration = 5s, size: uint = 64K)",
              "f(wait: duration = 5s, size: uint = 64K)");
    canonical("f(a: float[0.5..], b: bytes[..1M]?, c: time?, d: agent?, e: artifact?)",
              "f(a: float[0.5..], b: bytes[..1M]?, c: time?, d: agent?, e: artifact?)");
    struct signature *sig = parsed("increment(by: int = 1)");
    assert_string_equal(signature_name(sig), "increment");
    signature_free(sig);
    signature_free(NULL);
}

/* --- faults --- */

static void faulty(const char *text, const char *what, size_t column)
{
    struct signature *sig = NULL;
    struct gw_error why = {0};
    assert_int_equal(signature_parse(text, &sig, &why), GW_ESIGNATURE);
    assert_null(sig);
    const char *line = strchr(why.hint, '\n'), *caret = line ? strchr(line, '^') : NULL;
    if (!strstr(why.text, what) || !caret || (size_t)(caret - line - 1) != column) {
        fail_msg("\"%s\": %s\n%s\nwanted: %s at %zu", text, why.text, why.hint, what, column);
    }
    assert_int_equal(signature_parse(text, &sig, NULL), GW_ESIGNATURE);
}

static void test_faults_have_a_place(void **state)
{
    (void)state;
    faulty("", "the name of a method", 0);
    faulty("1f()", "the name of a method", 0);
    faulty("f", "expected \"(\"", 1);
    faulty("f(", "the name of a parameter", 2);
    faulty("f(a)", "expected \":\"", 3);
    faulty("f(a:)", "expected a type", 4);
    faulty("f(a: itn)", "\"itn\" is not a type", 5);
    faulty("f(a: int", "expected \",\" or \")\"", 8);
    faulty("f(a: int,)", "the name of a parameter", 9);
    faulty("f(a: int b: int)", "expected \",\" or \")\"", 9);
    faulty("f(a: int, a: int)", "stands twice", 10);
    faulty("f() x", "expected \"->\" or the end", 4);
    faulty("f() -> ", "expected \"(\"", 7);
    faulty("f() -> () x", "expected the end", 10);
    faulty("f() -> (a: int = 1)", "a reply has no defaults", 15);
    faulty("f(a: [int)", "expected \"]\"", 9);
    faulty("f(a: {int)", "expected \"}\"", 9);
    faulty("f(a: int = 1, b: int)", "needs a default", 14);
    faulty("f(a: int = 1, b: int?, c: int)", "needs a default", 23);
    faulty("f(a-b: int)", "expected \":\"", 3);
    faulty("f(\xc3\xbc: int)", "the name of a parameter", 2);
}

static void test_faults_of_ranges(void **state)
{
    (void)state;
    faulty("f(a: bool[1..2])", "takes no range", 9);
    faulty("f(a: time[1..2])", "takes no range", 9);
    faulty("f(a: int[1])", "expected \"..\"", 10);
    faulty("f(a: int[1..2)", "not a bound", 12);
    faulty("f(a: int[1..2 )", "expected \"]\"", 14);
    faulty("f(a: int[..])", "needs a bound", 8);
    faulty("f(a: int[2..1])", "empty", 8);
    faulty("f(a: float[2.5..1])", "empty", 10);
    faulty("f(a: string[5..4])", "empty", 11);
    faulty("f(a: int[x..2])", "not a bound", 9);
    faulty("f(a: int[1.5..2])", "not a bound", 9);
    faulty("f(a: string[-1..2])", "not a bound", 12);
    faulty("f(a: int[1..9223372036854775808])", "not a bound", 12);
}

static void test_faults_of_defaults(void **state)
{
    (void)state;
    faulty("f(a: int =)", "expected a default", 10);
    faulty("f(a: int = x)", "default", 11);
    faulty("f(a: int = 1.5)", "wants int", 11);
    faulty("f(a: int[1..5] = 6)", "wants int[1..5]", 17);
    faulty("f(a: int = null)", "wants int", 11);
    faulty("f(a: string = x)", "quotes", 14);
    faulty("f(a: string = \"x)", "JSON", 14);
    faulty("f(a: string = \"\\x\")", "JSON", 14);
    faulty("f(a: bool = 1)", "wants bool", 12);
    faulty("f(a: bool = \"true\")", "wants bool", 12);
    faulty("f(a: duration = 5x)", "default", 16);
    faulty("f(a: duration = -5)", "wants duration", 16);
    faulty("f(a: uint = -1)", "wants uint", 12);
    faulty("f(a: [int] = 1)", "wants [int]", 13);
    faulty("f(a: time = \"yesterday\")", "default", 12);
    faulty("f(a: agent = \"../../x\")", "default", 13);
    faulty("f(a: int = 18446744073709551616)", "default", 11);
}

static void test_limits(void **state)
{
    (void)state;
    struct buf b = {0};
    struct signature *sig = NULL;
    struct gw_error why = {0};
    for (size_t more = 0; more < 2; more++) { /* names */
        buf_reset(&b);
        for (size_t i = 0; i < LIMIT_NAME_BYTES + more; i++) {
            buf_addf(&b, "n");
        }
        buf_add(&b, "()", 3);
        assert_int_equal(signature_parse((char *)b.data, &sig, &why), more ? GW_ESIGNATURE : GW_OK);
        signature_free(more ? NULL : sig);
    }
    for (size_t more = 0; more < 2; more++) { /* nesting */
        buf_reset(&b);
        buf_addf(&b, "f(a: ");
        for (size_t i = 0; i < LIMIT_DEPTH + more; i++) {
            buf_addf(&b, "[");
        }
        buf_addf(&b, "int");
        for (size_t i = 0; i < LIMIT_DEPTH + more; i++) {
            buf_addf(&b, "]");
        }
        buf_add(&b, ")", 2);
        assert_int_equal(signature_parse((char *)b.data, &sig, &why), more ? GW_ESIGNATURE : GW_OK);
        signature_free(more ? NULL : sig);
    }
    for (size_t more = 0; more < 2; more++) { /* length */
        buf_reset(&b);
        buf_addf(&b, "f()");
        while (b.len < LIMIT_SIGNATURE_BYTES + more) {
            buf_addf(&b, " ");
        }
        buf_add(&b, "", 1);
        assert_int_equal(signature_parse((char *)b.data, &sig, &why), more ? GW_ESIGNATURE : GW_OK);
        signature_free(more ? NULL : sig);
    }
    assert_int_equal(signature_parse(NULL, &sig, &why), GW_ESIGNATURE);
    buf_free(&b);
}

/* --- arguments: a signature, JSON in, JSON out or what the error says --- */

static void check(const char *signature, const char *json, bool text, const char *want)
{
    struct signature *sig = parsed(signature);
    gw_value args = {0};
    struct gw_error why = {0};
    struct buf out = {0};
    assert_int_equal(json_parse(json, strlen(json), &args, &why), GW_OK);
    gw_err err = signature_check_args(sig, &args, text, &why);
    if (err) {
        assert_int_equal(err, GW_EARG);
        buf_addf(&out, "%s", why.text);
    } else {
        assert_int_equal(json_write(&args, 0, &out), GW_OK);
    }
    buf_add(&out, "", 1);
    assert_true(buf_ok(&out));
    assert_string_equal((char *)out.data, want);
    buf_free(&out);
    gw_value_free(&args);
    signature_free(sig);
}

static void test_arguments(void **state)
{
    (void)state;
    const char *inc = "inc(by: int = 1, note: string?)";
    check(inc, "null", false, "{\"by\": 1}");
    check(inc, "{}", false, "{\"by\": 1}");
    check(inc, "{\"by\": 5}", false, "{\"by\": 5}");
    check(inc, "{\"note\": null, \"by\": 5}", false, "{\"note\": null, \"by\": 5}");
    check(inc, "{\"by\": \"5\"}", false, "\"by\" wants int, got string \"5\"");
    check(inc, "{\"by\": null}", false, "\"by\" wants int, got nil");
    check(inc, "{\"by\": 5.0}", false, "\"by\" wants int, got float 5.0");
    check(inc, "{\"bye\": 5}", false, "\"bye\" is not an argument of \"inc\"");
    check(inc, "[1]", false, "the arguments of \"inc\" are a map, got list");
    check("f(a: int)", "null", false, "the argument \"a\" (int) of \"f\" is missing");
    check("f()", "null", false, "null");
    check("f()", "{\"x\": 1}", false, "\"x\" is not an argument of \"f\"");
    check("f(a: any)", "{\"a\": [null, {\"x\": 1}]}", false, "{\"a\": [null, {\"x\": 1}]}");
    check("f(a: any)", "{\"a\": null}", false, "{\"a\": null}");
    check("f(a: float)", "{\"a\": 5}", false, "{\"a\": 5.0}");
    check("f(a: [float])", "{\"a\": [5, 1.5]}", false, "{\"a\": [5.0, 1.5]}");
    check("f(a: uint)", "{\"a\": 18446744073709551615}", false, "{\"a\": 18446744073709551615}");
    check("f(a: int)", "{\"a\": 18446744073709551615}", false,
          "\"a\" wants int, got int 18446744073709551615");
    check("f(a: uint)", "{\"a\": -1}", false, "\"a\" wants uint, got int -1");
    check("f(a: bytes)", "{\"a\": {\"base64\": \"AAEC\"}}", false,
          "{\"a\": {\"base64\": \"AAEC\"}}");
    check("f(a: bytes)", "{\"a\": \"AAEC\"}", false, "\"a\" wants bytes, got string \"AAEC\"");
    check("f(a: duration = 5s)", "null", false, "{\"a\": 5000}");
    check("f(a: duration = 250)", "null", false, "{\"a\": 250}");
    check("f(a: duration)", "{\"a\": -1}", false, "\"a\" wants duration, got int -1");
    check("f(a: uint = 64K)", "null", false, "{\"a\": 65536}");
    check("f(a: string = \"gr\\u00fc\\u00df\", b: bool = true, c: int? = null)", "null", false,
          "{\"a\": \"gr\xc3\xbc\xc3\x9f\", \"b\": true, \"c\": null}");
    check("f(a: artifact)", "{\"a\": \"../x\"}", false,
          "\"a\" wants artifact, got string \"../x\"");
    check("f(a: artifact)", "{\"a\": \"0aF\"}", false, "{\"a\": \"0aF\"}");
    check("f(a: artifact)", "{\"a\": \"0aF@al-pha.1\"}", false, "{\"a\": \"0aF@al-pha.1\"}");
    check("f(a: artifact)", "{\"a\": \"0aF@\"}", false,
          "\"a\" wants artifact, got string \"0aF@\"");
    check("f(a: artifact)", "{\"a\": \"@alpha\"}", false,
          "\"a\" wants artifact, got string \"@alpha\"");
    check("f(a: artifact)", "{\"a\": \"0aF@a/b\"}", false,
          "\"a\" wants artifact, got string \"0aF@a/b\"");
    check("f(a: artifact)", "{\"a\": \"0aF@a@b\"}", false,
          "\"a\" wants artifact, got string \"0aF@a@b\"");
}

static void test_nested(void **state)
{
    (void)state;
    check("f(a: [[int]])", "{\"a\": [[1], [2, \"x\"]]}", false,
          "\"a[1][1]\" wants int, got string \"x\"");
    check("f(a: {[int?]})", "{\"a\": {\"k\": [1, null]}}", false, "{\"a\": {\"k\": [1, null]}}");
    check("f(a: {[int]})", "{\"a\": {\"k\": [1, null]}}", false, "\"a.k[1]\" wants int, got nil");
    check("f(a: [int])", "{\"a\": {\"k\": 1}}", false, "\"a\" wants [int], got map");
    check("f(a: {int})", "{\"a\": [1]}", false, "\"a\" wants {int}, got list");
    check("f(a: [int])", "{\"a\": []}", false, "{\"a\": []}");
}

/* Each range at its bounds and one beside. */
static void test_ranges(void **state)
{
    (void)state;
    check("f(a: int[-1..10])", "{\"a\": -1}", false, "{\"a\": -1}");
    check("f(a: int[-1..10])", "{\"a\": 10}", false, "{\"a\": 10}");
    check("f(a: int[-1..10])", "{\"a\": -2}", false, "\"a\" wants int[-1..10], got int -2");
    check("f(a: int[-1..10])", "{\"a\": 11}", false, "\"a\" wants int[-1..10], got int 11");
    check("f(a: int[..10])", "{\"a\": -99}", false, "{\"a\": -99}");
    check("f(a: uint[5..])", "{\"a\": 4}", false, "\"a\" wants uint[5..], got int 4");
    check("f(a: uint[5..])", "{\"a\": 18446744073709551615}", false,
          "{\"a\": 18446744073709551615}");
    check("f(a: float[0.5..1])", "{\"a\": 1}", false, "{\"a\": 1.0}");
    check("f(a: float[0.5..1])", "{\"a\": 0.49}", false,
          "\"a\" wants float[0.5..1], got float 0.49");
    check("f(a: string[2..3])", "{\"a\": \"ab\"}", false, "{\"a\": \"ab\"}");
    check("f(a: string[2..3])", "{\"a\": \"a\"}", false,
          "\"a\" wants string[2..3], got string \"a\"");
    check("f(a: string[2..3])", "{\"a\": \"abcd\"}", false,
          "\"a\" wants string[2..3], got string \"abcd\"");
    check("f(a: bytes[..2])", "{\"a\": {\"base64\": \"AAE=\"}}", false,
          "{\"a\": {\"base64\": \"AAE=\"}}");
    check("f(a: bytes[..2])", "{\"a\": {\"base64\": \"AAEC\"}}", false,
          "\"a\" wants bytes[..2], got bytes");
}

static void test_ids_and_times(void **state)
{
    (void)state;
    struct signature *sig = parsed("f(a: agent, t: time)");
    gw_value args = {0};
    struct gw_error why;
    assert_int_equal(gw_map_set(&args, "a", gw_str("01arz3ndektsv4rrffq69g5fav")), GW_OK);
    assert_int_equal(gw_map_set(&args, "t", gw_str("1970-01-01T00:00:01Z")), GW_OK);
    assert_int_equal(signature_check_args(sig, &args, false, &why), GW_OK);
    assert_int_equal(gw_map_get(&args, "a")->kind, GW_ID);
    assert_int_equal(gw_map_get(&args, "t")->time.ms, 1000);
    gw_value_free(&args);
    check("f(a: agent)", "{\"a\": \"../../x\"}", false,
          "\"a\" wants agent, got string \"../../x\"");
    check("f(a: time)", "{\"a\": 5}", false, "\"a\" wants time, got int 5");
    signature_free(sig);
}

static void test_typed_text(void **state)
{
    (void)state;
    check("f(a: int)", "{\"a\": \"-5\"}", true, "{\"a\": -5}");
    check("f(a: int)", "{\"a\": \"64K\"}", true, "{\"a\": 65536}");
    check("f(a: int)", "{\"a\": \"five\"}", true, "\"a\" wants int, got string \"five\"");
    check("f(a: int[..4])", "{\"a\": \"5\"}", true, "\"a\" wants int[..4], got int 5");
    check("f(a: uint)", "{\"a\": \"-5\"}", true, "\"a\" wants uint, got int -5");
    check("f(a: float)", "{\"a\": \"1e3\"}", true, "{\"a\": 1000.0}");
    check("f(a: bool)", "{\"a\": \"yes\"}", true, "{\"a\": true}");
    check("f(a: bool)", "{\"a\": \"\"}", true, "\"a\" wants bool, got string \"\"");
    check("f(a: string)", "{\"a\": \"5\"}", true, "{\"a\": \"5\"}");
    check("f(a: string)", "{\"a\": 5}", true, "\"a\" wants string, got int 5");
    check("f(a: duration)", "{\"a\": \"1.5h\"}", true, "{\"a\": 5400000}");
    check("f(a: duration)", "{\"a\": \"5\"}", true, "{\"a\": 5000}");
    check("f(a: time)", "{\"a\": \"1970-01-01T00:00:01+00:00\"}", true,
          "{\"a\": \"1970-01-01T00:00:01.000Z\"}");
    check("f(a: bytes)", "{\"a\": \"AAEC\"}", true, "{\"a\": {\"base64\": \"AAEC\"}}");
    check("f(a: bytes)", "{\"a\": \"AAE\"}", true, "\"a\" wants bytes, got string \"AAE\"");
    check("f(a: [int])", "{\"a\": \"[1, 2]\"}", true, "{\"a\": [1, 2]}");
    check("f(a: [int])", "{\"a\": \"1,2\"}", true, "{\"a\": [1, 2]}");
    check("f(a: [string])", "{\"a\": \"alpha,beta\"}", true, "{\"a\": [\"alpha\", \"beta\"]}");
    check("f(a: [string])", "{\"a\": \"\"}", true, "{\"a\": []}");
    check("f(a: [int])", "{\"a\": \"1,x\"}", true, "\"a[1]\" wants int, got string \"x\"");
    check("f(a: [int])", "{\"a\": \"[1\"}", true, "\"a\" wants [int], got string \"[1\"");
    check("f(a: {int})", "{\"a\": \"{\\\"k\\\": 1}\"}", true, "{\"a\": {\"k\": 1}}");
    check("f(a: {int})", "{\"a\": \"5\"}", true, "\"a\" wants {int}, got int 5");
    check("f(a: any)", "{\"a\": \"[1]\"}", true, "{\"a\": [1]}");
    check("f(a: any)", "{\"a\": \"plain words\"}", true, "{\"a\": \"plain words\"}");
    check("f(a: int = 7)", "{}", true, "{\"a\": 7}");
}

/* --- replies --- */

static gw_err reply(const char *signature, const char *json, const char *want)
{
    struct signature *sig = parsed(signature);
    gw_value v = {0}, before = {0};
    struct gw_error why = {0};
    assert_int_equal(json_parse(json, strlen(json), &v, &why), GW_OK);
    assert_int_equal(gw_value_copy(&v, &before), GW_OK);
    gw_err err = signature_check_reply(sig, &v, &why);
    assert_true(gw_value_equal(&v, &before));
    assert_string_equal(why.text, want);
    gw_value_free(&v);
    gw_value_free(&before);
    signature_free(sig);
    return err;
}

static void test_replies(void **state)
{
    (void)state;
    assert_int_equal(reply("f()", "{\"anything\": 1}", ""), GW_OK);
    assert_int_equal(reply("f()", "5", ""), GW_OK);
    assert_int_equal(reply("f() -> ()", "null", ""), GW_OK);
    assert_int_equal(reply("f() -> (n: int)", "{\"n\": 5}", ""), GW_OK);
    assert_int_equal(reply("f() -> (n: float)", "{\"n\": 5}", ""), GW_OK);
    assert_int_equal(reply("f() -> (n: int?)", "null", ""), GW_OK);
    assert_int_equal(
        reply("f() -> (n: int)", "null", "the reply value \"n\" (int) of \"f\" is missing"),
        GW_EARG);
    assert_int_equal(
        reply("f() -> (n: int)", "{\"n\": \"5\"}", "\"n\" wants int, got string \"5\""), GW_EARG);
    assert_int_equal(reply("f() -> ()", "{\"n\": 5}", "\"n\" is not in the reply of \"f\""),
                     GW_EARG);
    assert_int_equal(reply("f() -> (n: int)", "5", "the reply of \"f\" is a map, got int"),
                     GW_EARG);
}

static void test_description(void **state)
{
    (void)state;
    struct signature *sig = parsed("f(a: int[1..]= 5, b: [string]?) -> (c: float)");
    gw_value v = {0};
    struct buf out = {0};
    assert_int_equal(signature_describe(sig, &v), GW_OK);
    assert_int_equal(json_write(&v, 0, &out), GW_OK);
    buf_add(&out, "", 1);
    assert_string_equal(
        (char *)out.data,
        "{\"name\": \"f\", \"args\": [{\"name\": \"a\", \"type\": \"int[1..]\", \"default\": 5}, "
        "{\"name\": \"b\", \"type\": \"[string]?\", \"optional\": true}], \"reply\": "
        "[{\"name\": \"c\", \"type\": \"float\"}], "
        "\"text\": \"f(a: int[1..] = 5, b: [string]?) -> (c: float)\"}");
    buf_free(&out);
    gw_value_free(&v);
    signature_free(sig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical_text),   cmocka_unit_test(test_faults_have_a_place),
        cmocka_unit_test(test_faults_of_ranges), cmocka_unit_test(test_faults_of_defaults),
        cmocka_unit_test(test_limits),           cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_nested),           cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_ids_and_times),    cmocka_unit_test(test_typed_text),
        cmocka_unit_test(test_replies),          cmocka_unit_test(test_description),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
