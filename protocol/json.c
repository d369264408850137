/* The writer is our own: jansson's tree cannot hold integers above INT64_MAX, and prints 0.1 as
 * 0.10000000000000001. The reader is jansson's, after one pass over the text that it needs:
 * - depth and NUL are judged before anything is allocated;
 * - an integer above INT64_MAX, which jansson refuses, is overwritten by the string "\u0000" and
 * blanks of the same length (lines and columns stay right). No other string can hold a NUL by then.
 * Such numbers wait in a list: jansson keeps the order of members, so the tree meets them in the
 * order of the text. */
#include "protocol/json.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "protocol/base/log.h"
#include "protocol/limits.h"
#include "protocol/text.h"
#include "protocol/value.h"

/* --- writing --- */

static void write_char(unsigned char c, struct buf *out)
{
    switch (c) {
    case '"': buf_add(out, "\\\"", 2); break;
    case '\\': buf_add(out, "\\\\", 2); break;
    case '\n': buf_add(out, "\\n", 2); break;
    case '\r': buf_add(out, "\\r", 2); break;
    case '\t': buf_add(out, "\\t", 2); break;
    default: buf_addf(out, "\\u%04x", c); break;
    }
}

/* Runs that need no escape are copied whole; what is not UTF-8 becomes U+FFFD. */
static void write_text(const char *p, size_t n, struct buf *out)
{
    buf_add(out, "\"", 1);
    size_t from = 0, i = 0;
    while (i < n) {
        unsigned char c = (unsigned char)p[i];
        size_t step = utf8_step(p + i, n - i);
        bool plain = step > 0 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f;
        if (!plain) {
            buf_add(out, p + from, i - from);
            if (step > 0) {
                write_char(c, out);
            } else {
                buf_add(out, "\xef\xbf\xbd", 3);
            }
            from = i + 1;
        }
        i += step ? step : 1;
    }
    buf_add(out, p + from, n - from);
    buf_add(out, "\"", 1);
}

/* The shortest digits that read back as the same number; always with a point or an exponent, so
 * that it reads back as a float. */
static void write_float(double f, struct buf *out)
{
    if (!isfinite(f)) {
        buf_add(out, "null", 4);
        return;
    }
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, f);
        if (digits == 17 || strtod(text, NULL) == f) {
            break;
        }
    }
    bool whole = true;
    for (char *p = text; *p; p++) {
        if (!strchr("+-0123456789", *p)) {
            whole = false;
            *p = *p == 'e' ? 'e' : '.'; /* the point of whatever locale */
        }
    }
    buf_addf(out, whole ? "%s.0" : "%s", text);
}

static void write_break(unsigned indent, unsigned level, struct buf *out)
{
    if (indent > 0) {
        buf_addf(out, "\n%*s", (int)(indent * level), "");
    }
}

static void write_bytes(const gw_value *v, struct buf *out)
{
    buf_addf(out, "{\"base64\": \"");
    text_add_base64(v->s.p, v->s.n, out);
    buf_addf(out, "\"}");
}

static void write_value(const gw_value *v, unsigned indent, unsigned level, struct buf *out);

static void write_list(const gw_value *v, unsigned indent, unsigned level, struct buf *out)
{
    buf_add(out, "[", 1);
    for (size_t i = 0; i < v->list.n && buf_ok(out); i++) {
        buf_add(out, indent ? "," : ", ", i == 0 ? 0 : indent ? 1 : 2);
        write_break(indent, level + 1, out);
        write_value(&v->list.items[i], indent, level + 1, out);
    }
    if (v->list.n > 0) {
        write_break(indent, level, out);
    }
    buf_add(out, "]", 1);
}

static void write_map(const gw_value *v, unsigned indent, unsigned level, struct buf *out)
{
    buf_add(out, "{", 1);
    for (size_t i = 0; i < v->map.n && buf_ok(out); i++) {
        buf_add(out, indent ? "," : ", ", i == 0 ? 0 : indent ? 1 : 2);
        write_break(indent, level + 1, out);
        write_text(v->map.items[i].key, strlen(v->map.items[i].key), out);
        buf_add(out, ": ", 2);
        write_value(&v->map.items[i].value, indent, level + 1, out);
    }
    if (v->map.n > 0) {
        write_break(indent, level, out);
    }
    buf_add(out, "}", 1);
}

static void write_value(const gw_value *v, unsigned indent, unsigned level, struct buf *out)
{
    char id[GW_ID_TEXT], time[TEXT_TIME_SIZE];
    switch (v->kind) {
    case GW_NIL: buf_add(out, "null", 4); break;
    case GW_BOOL: buf_addf(out, "%s", v->b ? "true" : "false"); break;
    case GW_INT: buf_addf(out, "%lld", (long long)v->i); break;
    case GW_UINT: buf_addf(out, "%llu", (unsigned long long)v->u); break;
    case GW_FLOAT: write_float(v->f, out); break;
    case GW_STR: write_text(v->s.p, v->s.n, out); break;
    case GW_BYTES: write_bytes(v, out); break;
    case GW_ID: buf_addf(out, "\"%s\"", gw_id_text(&v->id, id)); break;
    case GW_TIME: buf_addf(out, "\"%s\"", text_from_time(v->time, time)); break;
    case GW_LIST: write_list(v, indent, level, out); break;
    case GW_MAP: write_map(v, indent, level, out); break;
    }
}

gw_err json_write(const gw_value *v, unsigned indent, struct buf *out)
{
    write_value(v, indent, 0, out);
    return buf_ok(out) ? GW_OK : GW_ENOMEM;
}

char *json_brief(const gw_value *v, char ret[JSON_BRIEF_SIZE])
{
    struct buf out = {0};
    bool scalar = v->kind == GW_BOOL || v->kind == GW_INT || v->kind == GW_UINT ||
                  v->kind == GW_FLOAT || (v->kind == GW_STR && v->s.n <= 40);
    snprintf(ret, JSON_BRIEF_SIZE, "%s", value_kind_name(v->kind));
    if (scalar && json_write(v, 0, &out) == GW_OK) {
        snprintf(ret, JSON_BRIEF_SIZE, "%s %.*s", value_kind_name(v->kind), (int)out.len,
                 (char *)out.data);
    }
    text_clean(ret);
    buf_free(&out);
    return ret;
}

/* --- the pass before the parser --- */

struct scan {
    const char *text;
    size_t n;
    char *copy; /* owned: the text with large integers overwritten; NULL when there is none */
    uint64_t *numbers; /* owned: those integers, in order */
    size_t count, cap;
    struct gw_error *why;
};

static gw_err fault_at(const struct scan *s, size_t at, gw_err err, const char *what)
{
    unsigned line = 1, column = 1;
    for (size_t i = 0; i < at && i < s->n; i++) {
        column = s->text[i] == '\n' ? 1 : column + (((unsigned char)s->text[i] & 0xc0) != 0x80);
        line += s->text[i] == '\n';
    }
    return gw_fail(s->why, err, "the JSON is not valid at line %u, column %u: %s", line, column,
                   what);
}

/* The integer of n digits at `at` does not fit int64. */
static gw_err keep_number(struct scan *s, size_t at, size_t n)
{
    char digits[24];
    uint64_t number;
    snprintf(digits, sizeof digits, "%.*s", (int)n, s->text + at);
    if (n >= sizeof digits || text_uint(digits, &number)) {
        return fault_at(s, at, GW_EARG, "the integer does not fit 64 bits");
    }
    if (s->count == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 8;
        uint64_t *more = realloc(s->numbers, cap * sizeof *more);
        if (!more) {
            return GW_ENOMEM;
        }
        s->numbers = more;
        s->cap = cap;
    }
    if (!s->copy) {
        s->copy = malloc(s->n);
        if (!s->copy) {
            return GW_ENOMEM;
        }
        memcpy(s->copy, s->text, s->n);
    }
    s->numbers[s->count++] = number;
    memset(s->copy + at, ' ', n); /* at least 19 digits */
    memcpy(s->copy + at, "\"\\u0000\"", 8);
    return GW_OK;
}

/* A run of number characters from `at`; returns its length in *ret_n. */
static gw_err scan_number(struct scan *s, size_t at, size_t *ret_n)
{
    size_t n = 0;
    bool whole = true;
    while (at + n < s->n && s->text[at + n] && strchr("+-.0123456789eE", s->text[at + n])) {
        whole = whole && (n == 0 || (s->text[at + n] >= '0' && s->text[at + n] <= '9'));
        n++;
    }
    *ret_n = n;
    char first = s->text[at + (s->text[at] == '-' && n > 1)];
    char digits[24];
    int64_t number;
    if (!whole || n < 19 || first < '1' || first > '9') { /* 01 is jansson's to refuse */
        return GW_OK;
    }
    snprintf(digits, sizeof digits, "%.*s", (int)n, s->text + at);
    if (n < sizeof digits && text_int(digits, &number) == GW_OK) {
        return GW_OK;
    }
    return keep_number(s, at, n);
}

/* From the opening quote; *ret_n is the length up to and with the closing one. */
static gw_err scan_string(struct scan *s, size_t at, size_t *ret_n)
{
    size_t i = at + 1;
    while (i < s->n && s->text[i] != '"') {
        if (s->text[i] == '\\') {
            if (s->n - i >= 6 && memcmp(s->text + i, "\\u0000", 6) == 0) {
                return fault_at(s, i, GW_EARG, "text cannot hold a NUL");
            }
            i++;
        }
        i++;
    }
    *ret_n = (i < s->n ? i + 1 : s->n) - at;
    return GW_OK;
}

static gw_err scan(struct scan *s)
{
    unsigned depth = 0;
    const char *nul = s->n > 0 ? memchr(s->text, 0, s->n) : NULL;
    if (nul) { /* jansson would take one after the end */
        return fault_at(s, (size_t)(nul - s->text), GW_EARG, "text cannot hold a NUL");
    }
    for (size_t i = 0, n = 1; i < s->n; i += n, n = 1) {
        char c = s->text[i];
        if (c == '"') {
            GW_TRY(scan_string(s, i, &n));
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            GW_TRY(scan_number(s, i, &n));
        } else if (c == '[' || c == '{') {
            if (depth++ == LIMIT_DEPTH) {
                return fault_at(s, i, GW_EARG, "nested too deep");
            }
        } else if (c == ']' || c == '}') {
            depth -= depth > 0;
        }
    }
    return GW_OK;
}

/* --- the tree --- */

struct numbers {
    const uint64_t *next;
    struct gw_error *why;
};

static gw_err convert(const json_t *json, struct numbers *numbers, gw_value *ret);

static gw_err convert_list(const json_t *json, struct numbers *numbers, gw_value *ret)
{
    ret->kind = GW_LIST;
    for (size_t i = 0; i < json_array_size(json); i++) {
        gw_value item = {0};
        gw_err err = convert(json_array_get(json, i), numbers, &item);
        if (err) {
            gw_value_free(&item);
            return err;
        }
        GW_TRY(gw_list_add(ret, item));
    }
    return GW_OK;
}

/* {"base64": "..."} alone stands for bytes. */
static gw_err convert_bytes(const json_t *json, gw_value *ret, struct gw_error *why)
{
    gw_bytes bytes = {0};
    gw_err err = text_base64(json_string_value(json), json_string_length(json), &bytes);
    if (err) {
        return gw_fail(why, err,
                       err == GW_EARG ? "a \"base64\" text is not base64" : "out of memory");
    }
    err = gw_value_set_bytes(ret, bytes.data, bytes.len);
    gw_bytes_clear(&bytes);
    return err;
}

static gw_err convert_map(json_t *json, struct numbers *numbers, gw_value *ret)
{
    const char *key;
    json_t *member;
    ret->kind = GW_MAP;
    json_object_foreach(json, key, member)
    {
        if (json_object_size(json) == 1 && strcmp(key, "base64") == 0 && json_is_string(member) &&
            !(json_string_length(member) == 1 && !*json_string_value(member))) {
            *ret = gw_nil();
            return convert_bytes(member, ret, numbers->why);
        }
        gw_value item = {0};
        gw_err err = convert(member, numbers, &item);
        if (err) {
            gw_value_free(&item);
            return err;
        }
        GW_TRY(value_map_append(ret, strdup(key), item)); /* jansson has refused duplicates */
    }
    return GW_OK;
}

static gw_err convert(const json_t *json, struct numbers *numbers, gw_value *ret)
{
    switch (json_typeof(json)) {
    case JSON_NULL: return GW_OK;
    case JSON_TRUE:
    case JSON_FALSE: *ret = gw_bool(json_is_true(json)); return GW_OK;
    case JSON_INTEGER: *ret = gw_int(json_integer_value(json)); return GW_OK;
    case JSON_REAL: *ret = gw_float(json_real_value(json)); return GW_OK;
    case JSON_STRING:
        if (json_string_length(json) == 1 && !*json_string_value(json)) {
            *ret = gw_uint(*numbers->next++);
            return GW_OK;
        }
        return gw_value_set_str(ret, json_string_value(json), json_string_length(json));
    case JSON_ARRAY: return convert_list(json, numbers, ret);
    case JSON_OBJECT: return convert_map((json_t *)json, numbers, ret);
    }
    return GW_EARG;
}

/* Jansson 2.14 writes to wild addresses once its lexer has been without memory: the process ends
 * before that. */
static void *json_allocate(size_t n)
{
    void *p = malloc(n);
    if (!p) {
        log_die("memory", "out of memory for %zu bytes of JSON; stopping", n);
    }
    return p;
}

static void set_allocator(void)
{
    json_set_alloc_funcs(json_allocate, free);
}

static gw_err parse(const struct scan *s, gw_value *ret)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    json_error_t at;
    pthread_once(&once, set_allocator);
    json_t *json = json_loadb(s->copy ? s->copy : s->text, s->n,
                              JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &at);
    if (!json) {
        if (json_error_code(&at) == json_error_out_of_memory || !at.text[0]) { /* it says nothing */
            return gw_fail(s->why, GW_ENOMEM, "out of memory");
        }
        text_clean(at.text); /* it quotes the input */
        return gw_fail(s->why, GW_EARG, "the JSON is not valid at line %d, column %d: %s", at.line,
                       at.column, at.text);
    }
    struct numbers numbers = {s->numbers, s->why};
    gw_value v = {0};
    gw_err err = convert(json, &numbers, &v);
    json_decref(json);
    if (err) {
        gw_value_free(&v);
        return err;
    }
    *ret = v;
    return GW_OK;
}

gw_err json_parse(const char *text, size_t n, gw_value *ret, struct gw_error *why)
{
    struct scan s = {.text = text, .n = n, .why = why};
    gw_err err = scan(&s);
    if (!err) {
        err = parse(&s, ret);
    }
    free(s.copy);
    free(s.numbers);
    return err;
}
