/* What the SQLite engine (store_sqlite.c) and its opening (sqlite_open.c) share. */
#ifndef PERSISTENCE_STORE_SQLITE_H
#define PERSISTENCE_STORE_SQLITE_H

#include "persistence/blob.h"
#include "persistence/db.h"
#include "persistence/engine.h"

/* Statements that each table has. */
typedef enum stmt_kind {
    STMT_PUT,
    STMT_DEL,
    STMT_DEL_RANGE,
    STMT_GET,
    STMT_SCAN,
    STMT_SCAN_BACK,
    STMT_COUNT
} stmt_kind;

typedef enum fixed_kind {
    FIXED_BEGIN,
    FIXED_COMMIT,
    FIXED_ROLLBACK,
    FIXED_SAVEPOINT,
    FIXED_RELEASE,
    FIXED_BACK,
    FIXED_BLOB_PUT,
    FIXED_BLOB_GET,
    FIXED_BLOB_RANGE,
    FIXED_BLOB_DEL_RANGE,
    FIXED_COUNT
} fixed_kind;

struct names { /* file names in a row, each with NUL */
    char (*items)[BLOB_NAME_BYTES + 1];
    size_t count, cap;
};

struct sqlite_store {
    struct store base;
    struct db db;
    struct blob_dir blobs;
    int lock_fd;
    sqlite3_stmt *stmts[TABLE_COUNT][STMT_COUNT]; /* prepared on first use */
    sqlite3_stmt *fixed[FIXED_COUNT];
    bool has_blobs[TABLE_COUNT]; /* false: no row of this table is a file, spare the look-ups */
    bool savepoints;
    bool full;   /* the last commit met a full disk, and the log has said so */
    gw_err lost; /* of the open group */
    struct names made, dropped;
};

extern const struct store_engine store_sqlite_engine;

/* The name of a file in column 0 of the current row; false when it is none. */
bool store_sqlite_name(sqlite3_stmt *stmt, char ret[BLOB_NAME_BYTES + 1]);
/* Prepare the fixed statements, so that undoing never needs memory for that. */
gw_err store_sqlite_prepare(struct sqlite_store *s) GW_MUST_USE;
/* Close what is open and free. `untouched`: leave the files as they are (db_close). */
void store_sqlite_free(struct sqlite_store *s, bool untouched);

#endif
