#include "persistence/schema.h"

#include <stdio.h>

#include "persistence/seal.h"
#include "protocol/base/log.h"

/* Without rowid the key is the tree itself: one page less to touch per row, and neighbours in key
 * order share a page. v is NULL when the value is a file that `blobs` names. */
#define KV(name) "CREATE TABLE " name "(k BLOB NOT NULL PRIMARY KEY, v BLOB) WITHOUT ROWID;"

static const struct schema_step steps[] = {
    {"first layout", KV("meta") KV("agents") KV("states") KV("inbox") KV("outbox") KV("streams")
                         KV("timers") KV("files") KV("locations") KV("requests") KV("events")
                             KV("members") KV("tokens") KV("dead")
     /* t: number of the table; f: file below blobs/; n: bytes; h: XXH3 of the content */
     "CREATE TABLE blobs(t INTEGER NOT NULL, k BLOB NOT NULL, f TEXT NOT NULL, n INTEGER NOT NULL,"
     " h INTEGER NOT NULL, PRIMARY KEY(t, k)) WITHOUT ROWID;"},
    {"topics", KV("topics")},
    {"monitors", KV("watches")},
    {"page checksums", ""}, /* seal_pages has been there */
};

const char *const schema_tables[TABLE_COUNT + 1] = {
    [TABLE_META] = "meta",         [TABLE_AGENTS] = "agents", [TABLE_STATES] = "states",
    [TABLE_INBOX] = "inbox",       [TABLE_OUTBOX] = "outbox", [TABLE_STREAMS] = "streams",
    [TABLE_TIMERS] = "timers",     [TABLE_FILES] = "files",   [TABLE_LOCATIONS] = "locations",
    [TABLE_REQUESTS] = "requests", [TABLE_EVENTS] = "events", [TABLE_MEMBERS] = "members",
    [TABLE_DEAD] = "dead",         [TABLE_TOPICS] = "topics", [TABLE_WATCHES] = "watches",
    [TABLE_COUNT] = "blobs",
};

const struct schema schema_store = {
    .what = "a Godwit store",
    .application = SCHEMA_STORE_ID,
    .steps = steps,
    .step_count = sizeof steps / sizeof steps[0],
    .sealed_since = SEAL_VERSION,
    .tables = schema_tables,
    .table_count = TABLE_COUNT + 1,
    .key = "k",
};

static gw_err foreign(const struct db *db, const struct schema *schema, int64_t application,
                      struct gw_error *why)
{
    gw_fail(why, GW_ECORRUPT,
            "\"%s\" is a database of another program (application id 0x%08x), not %s", db->path,
            (unsigned)application, schema->what);
    gw_hint(why, "move that file away, or choose another folder for this host");
    return GW_ECORRUPT;
}

gw_err schema_check(struct db *db, const struct schema *schema, int *ret_version,
                    struct gw_error *why)
{
    int64_t application, version, objects, pages;
    GW_TRY(db_number(db, "PRAGMA application_id", &application, why));
    GW_TRY(db_number(db, "PRAGMA user_version", &version, why));
    GW_TRY(db_number(db, "SELECT count(*) FROM sqlite_schema", &objects, why));
    GW_TRY(db_number(db, "PRAGMA page_count", &pages, why));
    if (application == 0 && version == 0 && objects == 0) {
        if (pages == 0) {
            seal_reserve(db->handle);
        }
        if (seal_reserved(db->handle) == SEAL_BYTES) { /* else seal_pages sees to it */
            seal_begin(db->handle);
        }
        *ret_version = 0;
        return GW_OK;
    }
    if (application != (int64_t)schema->application) {
        return foreign(db, schema, application, why);
    }
    if (version > schema->step_count) {
        gw_fail(why, GW_ENEWER, "\"%s\" has store version %lld, this program knows up to %d",
                db->path, (long long)version, schema->step_count);
        gw_hint(why, "start it with the newer program that wrote it, or restore an older backup");
        return GW_ENEWER;
    }
    if (version < 1) {
        return db_damaged(db, "its version number is not valid", why);
    }
    bool sealed = seal_reserved(db->handle) == SEAL_BYTES;
    if (version >= schema->sealed_since && !sealed) {
        return db_damaged(db, "its pages have no room for checksums", why);
    }
    if (sealed) {
        seal_begin(db->handle);
    }
    *ret_version = (int)version;
    return GW_OK;
}

static gw_err run_steps(struct db *db, const struct schema *schema, int version,
                        struct gw_error *why)
{
    for (int i = version; i < schema->step_count; i++) {
        const struct schema_step *step = &schema->steps[i];
        log_debug("store.schema", "file=\"%s\" step=%d \"%s\"", db->path, i + 1, step->what);
        GW_TRY(db_run(db, step->sql, why));
    }
    char sql[96];
    snprintf(sql, sizeof sql, "PRAGMA application_id=%d; PRAGMA user_version=%d;",
             (int)schema->application, schema->step_count);
    return db_run(db, sql, why);
}

static gw_err verify(struct db *db, const struct schema *schema, struct gw_error *why)
{
    for (size_t i = 0; i < schema->table_count; i++) {
        const char *name = schema->tables[i];
        char sql[64], what[64];
        snprintf(sql, sizeof sql, "SELECT %s FROM %s LIMIT 0", schema->key, name);
        snprintf(what, sizeof what, "its table \"%s\" is missing or has another form", name);
        sqlite3_stmt *stmt = NULL;
        int rc = sqlite3_prepare_v2(db->handle, sql, -1, &stmt, NULL);
        sqlite3_finalize(stmt);
        if (rc == SQLITE_ERROR) {
            return db_damaged(db, what, why);
        }
        if (rc != SQLITE_OK) {
            return db_open_error(db, rc, why);
        }
    }
    return GW_OK;
}

/* Write a store that an earlier build made anew, with room for a checksum in each page: also one
 * that it had only begun. Its pages go through the log, whole or not at all. */
static gw_err seal_pages(struct db *db, struct gw_error *why)
{
    if (seal_reserved(db->handle) == SEAL_BYTES) {
        return GW_OK; /* a new one, or cut off after it */
    }
    log_info("store.schema", "file=\"%s\" gets checksums: all of it is written once", db->path);
    seal_reserve(db->handle);
    GW_TRY(db_run(db, "PRAGMA temp_store=FILE; VACUUM; PRAGMA temp_store=MEMORY", why));
    seal_begin(db->handle);
    db_checkpoint(db);
    return GW_OK;
}

gw_err schema_upgrade(struct db *db, const struct schema *schema, int version, struct gw_error *why)
{
    if (version < schema->sealed_since) {
        GW_TRY(seal_pages(db, why));
    }
    if (version < schema->step_count) {
        GW_TRY(db_run(db, "BEGIN IMMEDIATE", why));
        gw_err err = run_steps(db, schema, version, why);
        if (!err) {
            err = db_run(db, "COMMIT", why);
        }
        if (err) {
            if (!sqlite3_get_autocommit(db->handle)) {
                sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL); /* or the close does it */
            }
            return err;
        }
    }
    return verify(db, schema, why);
}
