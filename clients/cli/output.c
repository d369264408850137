#include "clients/cli/output.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/table.h"
#include "protocol/json.h"
#include "protocol/text.h"

#define INDENT 2

/* ---- texts ---- */

void output_add_clean(const char *text, struct buf *out)
{
    size_t at = out->len, n = strlen(text);
    if (!buf_reserve(out, n + 1)) {
        return;
    }
    memcpy(out->data + at, text, n + 1);
    text_clean((char *)out->data + at);
    out->len = at + strlen((char *)out->data + at);
}

static void add_json(const gw_value *v, struct buf *out)
{
    GW_AUTO(buf_free) struct buf json = {0};
    if (json_write(v, 0, &json) != GW_OK) {
        out->failed = true;
        return;
    }
    buf_add(&json, "", 1);
    if (buf_ok(&json)) {
        output_add_clean((char *)json.data, out);
    }
}

static bool is_scalar(const gw_value *v)
{
    return v->kind != GW_LIST && v->kind != GW_MAP;
}

void output_add_text(const gw_value *v, struct buf *out)
{
    char id[GW_ID_TEXT], when[TEXT_TIME_SIZE];
    switch (v->kind) {
    case GW_NIL: return;
    case GW_BOOL: buf_addf(out, "%s", v->b ? "true" : "false"); return;
    case GW_INT: buf_addf(out, "%lld", (long long)v->i); return;
    case GW_UINT: buf_addf(out, "%llu", (unsigned long long)v->u); return;
    case GW_FLOAT: add_json(v, out); return;
    case GW_STR: output_add_clean(v->s.p ? v->s.p : "", out); return;
    case GW_BYTES: text_add_base64(v->s.p, v->s.n, out); return;
    case GW_ID: buf_addf(out, "%s", gw_id_text(&v->id, id)); return;
    case GW_TIME: buf_addf(out, "%s", text_from_time(v->time, when)); return;
    case GW_LIST:
        for (size_t i = 0; i < v->list.n; i++) {
            buf_addf(out, "%s", i ? "," : "");
            output_add_text(&v->list.items[i], out);
        }
        return;
    case GW_MAP: add_json(v, out); return;
    }
}

char *output_text(const gw_value *v)
{
    struct buf out = {0};
    if (v) {
        output_add_text(v, &out);
    }
    buf_add(&out, "", 1);
    if (!buf_ok(&out)) {
        fputs("godwit: out of memory\n", stderr);
        exit(1); /* rather than a line without what it is for */
    }
    return (char *)out.data;
}

/* ---- blocks for people ---- */

static void add_spaces(unsigned n, struct buf *out)
{
    buf_addf(out, "%*s", (int)n, "");
}

/* Text of several lines, each cleaned by itself; tabs become blanks. */
static void add_lines(const char *text, unsigned indent, struct buf *out)
{
    while (*text) {
        size_t n = strcspn(text, "\n");
        char *line = strndup(text, n);
        if (!line) {
            out->failed = true;
            return;
        }
        for (char *p = line; (p = strchr(p, '\t')); p++) {
            *p = ' ';
        }
        add_spaces(indent, out);
        output_add_clean(line, out);
        buf_addf(out, "\n");
        free(line);
        text += n + (text[n] == '\n');
    }
}

static bool has_lines(const gw_value *v)
{
    return v->kind == GW_STR && v->s.p && strchr(v->s.p, '\n');
}

static void add_list(const gw_value *v, unsigned indent, struct buf *out)
{
    if (table_fits(v)) {
        table_add_maps(v, indent, out);
        return;
    }
    for (size_t i = 0; i < v->list.n; i++) {
        const gw_value *item = &v->list.items[i];
        add_spaces(indent, out);
        buf_addf(out, "- ");
        if (is_scalar(item) && !has_lines(item)) {
            output_add_text(item, out);
            buf_addf(out, "\n");
        } else {
            size_t at = out->len;
            output_add_block(item, indent + INDENT, false, out);
            if (out->len >= at + indent + INDENT &&
                !out->failed) { /* the first line follows the dash */
                memmove(out->data + at, out->data + at + indent + INDENT,
                        out->len - at - indent - INDENT);
                out->len -= indent + INDENT;
            }
        }
    }
}

static void add_member(const struct gw_member *m, unsigned indent, unsigned width, struct buf *out)
{
    const gw_value *v = &m->value;
    bool empty = (v->kind == GW_LIST && v->list.n == 0) || (v->kind == GW_MAP && v->map.n == 0);
    size_t start = out->len;
    add_spaces(indent, out);
    output_add_clean(m->key, out);
    buf_addf(out, ":");
    if ((is_scalar(v) && !has_lines(v)) || empty) {
        size_t used = out->len - start - indent;
        add_spaces(used <= width ? width + 1 - (unsigned)used : 1, out);
        if (v->kind == GW_NIL || empty) {
            buf_addf(out, "-");
        } else {
            output_add_text(v, out);
        }
        buf_addf(out, "\n");
        return;
    }
    buf_addf(out, "\n");
    output_add_block(v, indent + INDENT, false, out);
}

void output_add_block(const gw_value *v, unsigned indent, bool align, struct buf *out)
{
    if (v->kind == GW_NIL) {
        return;
    }
    if (v->kind == GW_LIST) {
        add_list(v, indent, out);
        return;
    }
    if (v->kind != GW_MAP) {
        if (has_lines(v)) {
            add_lines(v->s.p, indent, out);
        } else {
            add_spaces(indent, out);
            output_add_text(v, out);
            buf_addf(out, "\n");
        }
        return;
    }
    unsigned width = 0;
    for (size_t i = 0; align && i < v->map.n; i++) {
        size_t n = strlen(v->map.items[i].key) + 1;
        width = n > width && n <= 24 ? (unsigned)n : width;
    }
    for (size_t i = 0; i < v->map.n; i++) {
        add_member(&v->map.items[i], indent, width, out);
    }
}

/* ---- standard output ---- */

static gw_err print(const struct buf *out, struct gw_error *why)
{
    if (!buf_ok(out)) {
        return gw_fail(why, GW_ENOMEM, "out of memory for the result");
    }
    if (out->len > 0) {
        fwrite(out->data, 1, out->len, stdout); /* failures show at the final flush */
    }
    return GW_OK;
}

gw_err output_json(const gw_value *v, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf out = {0};
    gw_err err = json_write(v, 0, &out);
    if (err != GW_OK) {
        return gw_fail(why, err, "the result cannot be written as JSON");
    }
    buf_addf(&out, "\n");
    return print(&out, why);
}

static gw_err output_block(const gw_value *v, bool align, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf out = {0};
    output_add_block(v, 0, align, &out);
    return print(&out, why);
}

gw_err output_card(const gw_value *v, struct gw_error *why)
{
    return output_block(v, true, why);
}

gw_err output_reply(const gw_value *v, struct gw_error *why)
{
    return output_block(v, false, why);
}

gw_err output_result(const struct cli *cli, const gw_value *v, struct gw_error *why)
{
    return cli->json ? output_json(v, why) : output_card(v, why);
}

/* ---- standard error ---- */

void output_note(const struct cli *cli, const char *fmt, ...)
{
    char text[1024];
    if (cli->quiet) {
        return;
    }
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    text_clean(text);
    fflush(stdout);
    fprintf(stderr, "%s\n", text);
}

static void error_json(gw_err err, const struct gw_error *why)
{
    GW_AUTO(gw_value_free) gw_value root = gw_nil();
    GW_AUTO(buf_free) struct buf out = {0};
    gw_value error = gw_nil();
    if (gw_map_set(&error, "code", gw_str(gw_err_name(err))) != GW_OK ||
        gw_map_set(&error, "message", gw_str(why->text)) != GW_OK ||
        gw_map_set(&error, "hint", gw_str(why->hint)) != GW_OK) {
        gw_value_free(&error);
    }
    if (gw_map_set(&root, "error", error) == GW_OK && json_write(&root, 0, &out) == GW_OK) {
        fprintf(stderr, "%.*s\n", (int)out.len, (const char *)out.data);
    }
}

/* A hint of two lines shows a text with a caret below: it keeps its columns. */
static void print_hint(const char *hint)
{
    GW_AUTO(buf_free) struct buf out = {0};
    bool lines = strchr(hint, '\n') != NULL;
    if (!hint[0]) {
        return;
    }
    if (!lines) {
        buf_addf(&out, "hint: ");
    }
    add_lines(hint, lines ? 4 : 0, &out);
    if (buf_ok(&out)) {
        fwrite(out.data, 1, out.len, stderr);
    }
}

void output_error(const struct cli *cli, gw_err err, const struct gw_error *why)
{
    struct gw_error clean = *why;
    if (!clean.text[0]) {
        (void)gw_fail(&clean, err, "%s", gw_err_text(err));
    }
    fflush(stdout);
    if (cli->json) {
        error_json(err, &clean);
        return;
    }
    text_clean(clean.text);
    fprintf(stderr, "godwit: %s\n", clean.text);
    print_hint(clean.hint);
}

void output_interrupted(const struct cli *cli, const struct gw_error *why)
{
    if (why->hint[0]) {
        output_error(cli, GW_ECANCELLED, why);
    }
}
