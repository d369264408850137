#include "clients/cli/table.h"

#include <stdlib.h>
#include <string.h>

#include <libsmartcols.h>

#include "clients/cli/output.h"

static bool set_cell(struct libscols_line *line, size_t column, const gw_value *v)
{
    char *text = output_text(v);
    if (!text[0]) {
        free(text);
        text = strdup("-");
    }
    if (!text) {
        return false;
    }
    if (scols_line_refer_data(line, column, text) != 0) { /* takes the text */
        free(text);
        return false;
    }
    return true;
}

static bool fill(struct libscols_table *t, const gw_value *rows, const struct table_column *columns,
                 size_t n)
{
    for (size_t i = 0; i < n; i++) {
        /* No column gives way to the width of the terminal: an id that is cut is of no use. */
        if (!scols_table_new_column(t, columns[i].title, 0,
                                    columns[i].right ? SCOLS_FL_RIGHT : 0)) {
            return false;
        }
    }
    for (size_t r = 0; r < rows->list.n; r++) {
        struct libscols_line *line = scols_table_new_line(t, NULL);
        for (size_t i = 0; i < n; i++) {
            if (!line || !set_cell(line, i, gw_map_get(&rows->list.items[r], columns[i].key))) {
                return false;
            }
        }
    }
    return true;
}

/* The table as text; the caller frees it. NULL when out of memory. */
static char *draw(const gw_value *rows, const struct table_column *columns, size_t n, bool color)
{
    struct libscols_table *t = scols_new_table();
    char *text = NULL;
    if (t && fill(t, rows, columns, n)) {
        scols_table_enable_colors(t, color);
        scols_table_enable_noencoding(t, 1); /* cells are clean already */
        scols_table_set_termforce(t, SCOLS_TERMFORCE_NEVER);
        if (scols_print_table_to_string(t, &text) != 0) {
            text = NULL;
        }
    }
    scols_unref_table(t);
    return text;
}

/* libsmartcols fills the last column with blanks in some cases: no line ends with one. */
static void add_trimmed(const char *text, unsigned indent, struct buf *out)
{
    while (*text) {
        size_t n = strcspn(text, "\n"), end = n;
        while (end > 0 && text[end - 1] == ' ') {
            end--;
        }
        buf_addf(out, "%*s", (int)indent, "");
        buf_add(out, text, end);
        buf_addf(out, "\n");
        text += n + (text[n] == '\n');
    }
}

gw_err table_print(const struct cli *cli, const gw_value *rows, const struct table_column *columns,
                   size_t n, struct gw_error *why)
{
    if (!rows || rows->kind != GW_LIST || rows->list.n == 0) {
        return GW_OK;
    }
    GW_AUTO(free_charp) char *text = draw(rows, columns, n, false);
    GW_AUTO(buf_free) struct buf out = {0};
    if (text) {
        add_trimmed(text, 0, &out);
    }
    if (!text || !buf_ok(&out)) {
        return gw_fail(why, GW_ENOMEM, "out of memory for the table");
    }
    size_t head = strcspn(text, "\n"), at = 0;
    while (at < out.len && out.data[at] != '\n') {
        at++;
    }
    if (cli->color && head > 0 && at < out.len) { /* the head stands out */
        printf("\x1b[1m%.*s\x1b[0m", (int)at, (const char *)out.data);
        fwrite(out.data + at, 1, out.len - at, stdout);
    } else {
        fwrite(out.data, 1, out.len, stdout);
    }
    return GW_OK;
}

/* ---- lists of maps inside a value ---- */

static bool is_row(const gw_value *v, const gw_value *like)
{
    if (v->kind != GW_MAP || v->map.n == 0 || v->map.n > TABLE_COLUMNS || v->map.n != like->map.n) {
        return false;
    }
    for (size_t i = 0; i < v->map.n; i++) {
        const gw_value *cell = &v->map.items[i].value;
        if (cell->kind == GW_LIST || cell->kind == GW_MAP ||
            (cell->kind == GW_STR && cell->s.n > 120) || !gw_map_get(like, v->map.items[i].key)) {
            return false;
        }
    }
    return true;
}

bool table_fits(const gw_value *list)
{
    if (list->kind != GW_LIST || list->list.n == 0 || list->list.items[0].kind != GW_MAP) {
        return false;
    }
    for (size_t i = 0; i < list->list.n; i++) {
        if (!is_row(&list->list.items[i], &list->list.items[0])) {
            return false;
        }
    }
    return true;
}

void table_add_maps(const gw_value *list, unsigned indent, struct buf *out)
{
    struct table_column columns[TABLE_COLUMNS];
    GW_AUTO(buf_free) struct buf keys = {0}; /* titles one after the other, NUL between */
    size_t starts[TABLE_COLUMNS];
    const gw_value *first = &list->list.items[0];
    for (size_t i = 0; i < first->map.n; i++) {
        starts[i] = keys.len;
        output_add_clean(first->map.items[i].key, &keys);
        buf_add(&keys, "", 1);
    }
    if (!buf_ok(&keys)) {
        out->failed = true;
        return;
    }
    for (size_t i = 0; i < first->map.n; i++) {
        gw_kind kind = first->map.items[i].value.kind;
        columns[i] = (struct table_column){
            .title = (const char *)keys.data + starts[i],
            .key = first->map.items[i].key,
            .right = kind == GW_INT || kind == GW_UINT || kind == GW_FLOAT,
        };
    }
    GW_AUTO(free_charp) char *text = draw(list, columns, first->map.n, false);
    if (text) {
        add_trimmed(text, indent, out);
    } else {
        out->failed = true;
    }
}
