/* Tables, drawn by libsmartcols: the same on a terminal and in a pipe, colours aside. */
#ifndef CLIENTS_CLI_TABLE_H
#define CLIENTS_CLI_TABLE_H

#include "clients/cli/cli.h"
#include "protocol/base/buf.h"

/* One column: what stands in its head, and the key of the rows' maps. */
struct table_column {
    const char *title;
    const char *key;
    bool right; /* numbers */
};

/* Print a list of maps. Nil and absent values are "-". An empty list prints nothing. */
gw_err table_print(const struct cli *cli, const gw_value *rows, const struct table_column *columns,
                   size_t n, struct gw_error *why) GW_MUST_USE;

/* Whether a list reads best as a table: maps of scalars with the same keys, at most TABLE_COLUMNS.
 */
#define TABLE_COLUMNS 10
bool table_fits(const gw_value *list);
/* Append such a list, its keys as heads. */
void table_add_maps(const gw_value *list, unsigned indent, struct buf *out);

#endif
