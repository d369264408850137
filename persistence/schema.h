/* The layout of store.db: one table (k, v) per store_table, and `blobs`, which names the files of
 * large values. Each change is a step; a new table or column is a new row at the end of the steps
 * table in schema.c and nothing else. */
#ifndef PERSISTENCE_SCHEMA_H
#define PERSISTENCE_SCHEMA_H

#include "persistence/db.h"
#include "persistence/store.h"

#define SCHEMA_APPLICATION_ID 0x67647774 /* "gdwt", in the header of the file */

extern const char *const schema_tables[TABLE_COUNT]; /* names, by store_table */

/* Number of steps that this build knows = the newest user_version. */
int schema_version(void);
/* Before anything is written: is the file empty or a store of ours, and not newer than this build?
 *   ret_version  steps that it has had; 0 = empty
 * Errors:  GW_ECORRUPT another program's database; GW_ENEWER */
gw_err schema_check(struct db *db, int *ret_version, struct gw_error *why) GW_MUST_USE;
/* Run the steps after `version` in one transaction, then see that all tables are there. */
gw_err schema_upgrade(struct db *db, int version, struct gw_error *why) GW_MUST_USE;

#endif
