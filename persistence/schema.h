/* The layout of a database, as the steps that make it: each change is a step, a new table or column
 * a new row at the end of the list and nothing else.
 *
 * schema_store is that of store.db: one table (k, v) per store_table, and `blobs`, which names the
 * files of large values. */
#ifndef PERSISTENCE_SCHEMA_H
#define PERSISTENCE_SCHEMA_H

#include "persistence/db.h"
#include "persistence/store.h"

/* In the header of the file. */
#define SCHEMA_STORE_ID  0x67647774 /* "gdwt" */
#define SCHEMA_CHUNKS_ID 0x67646368 /* "gdch" */

struct schema_step {
    const char *what; /* for the log */
    const char *sql;
};

struct schema {
    const char *what; /* "a Godwit store" */
    uint32_t application;
    const struct schema_step
        *steps; /* step n makes user_version n; never changed after a release */
    int step_count;
    int sealed_since;          /* from this version on all pages have checksums */
    const char *const *tables; /* what has to be there, each with a column `key` */
    size_t table_count;
    const char *key;
};

extern const struct schema schema_store;
extern const char *const schema_tables[TABLE_COUNT + 1]; /* names, by store_table; then "blobs" */

/* Before anything is written: is the file empty or one of ours, and not newer than this build?
 *   ret_version  steps that it has had; 0 = empty
 * Errors:  GW_ECORRUPT another program's database; GW_ENEWER */
gw_err schema_check(struct db *db, const struct schema *schema, int *ret_version,
                    struct gw_error *why) GW_MUST_USE;
/* Run the steps after `version` in one transaction, then see that all tables are there. */
gw_err schema_upgrade(struct db *db, const struct schema *schema, int version,
                      struct gw_error *why) GW_MUST_USE;

#endif
