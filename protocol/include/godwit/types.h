/* The plain types that agents, clients and the host share: ids, time, strings, bytes, free values.
 */
#ifndef GODWIT_TYPES_H
#define GODWIT_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <godwit/err.h>

#define GW_FOREVER  (-1) /* a time-out that never comes */
#define GW_ID_BYTES 16
#define GW_ID_TEXT  27 /* 26 characters Crockford base32 and NUL */

/* 128-bit identity, time-ordered: 48 bits of milliseconds since 1970, then 80 random bits (the
 * layout of ULID). All-zero = no id. A struct, so that _Generic tells it from other arrays. */
typedef struct gw_id {
    uint8_t b[GW_ID_BYTES];
} gw_id;

/* Milliseconds since 1970-01-01 UTC. A struct, so that _Generic tells it from int64_t. */
typedef struct gw_time {
    int64_t ms;
} gw_time;

/* Owned bytes; all-zero = empty. */
typedef struct gw_bytes {
    uint8_t *data;
    size_t len; /* bytes */
} gw_bytes;

/* Owned list of owned NUL-terminated UTF-8 strings; all-zero = empty. */
typedef struct gw_strs {
    char **items;
    size_t len; /* strings */
    size_t cap;
} gw_strs;

typedef enum gw_kind {
    GW_NIL,
    GW_BOOL,
    GW_INT,   /* int64 */
    GW_UINT,  /* uint64 above INT64_MAX only; smaller ones normalise to GW_INT */
    GW_FLOAT, /* double */
    GW_STR,   /* UTF-8, NUL-terminated, length known */
    GW_BYTES,
    GW_ID,   /* msgpack ext type 1, 16 bytes; in JSON its 26-character text */
    GW_TIME, /* msgpack ext type 2, 8 bytes big-endian ms; in JSON RFC 3339 UTC text */
    GW_LIST,
    GW_MAP, /* keys are strings, order kept, no duplicates */
} gw_kind;

/* A tree that owns everything below it. All-zero = nil. */
typedef struct gw_value gw_value;
struct gw_member;
struct gw_value {
    gw_kind kind;
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double f;
        struct {
            char *p; /* NUL-terminated for GW_STR */
            size_t n;
        } s; /* GW_STR, GW_BYTES */
        gw_id id;
        gw_time time;
        struct {
            gw_value *items;
            size_t n, cap;
        } list;
        struct {
            struct gw_member *items;
            size_t n, cap;
        } map;
    };
};
struct gw_member {
    char *key;
    gw_value value;
};

/* --- ids (any thread) --- */
/* Text form; `ret` holds GW_ID_TEXT bytes. Returns ret. */
GW_API char *gw_id_text(const gw_id *id, char ret[GW_ID_TEXT]);
/* Parse exactly 26 characters (either case; I, L as 1, O as 0). GW_EARG otherwise, ret untouched.
 */
GW_API gw_err gw_id_parse(const char *text, gw_id *ret) GW_MUST_USE;
GW_API bool gw_id_is_nil(const gw_id *id);
GW_API bool gw_id_equal(const gw_id *a, const gw_id *b);

/* --- lists of strings: on GW_ENOMEM the list is unchanged --- */
GW_API gw_err gw_strs_add(gw_strs *list, const char *text) GW_MUST_USE;
GW_API gw_err gw_strs_addf(gw_strs *list, const char *fmt, ...) GW_PRINTF(2, 3) GW_MUST_USE;
GW_API void gw_strs_clear(gw_strs *list);
GW_API gw_err gw_bytes_set(gw_bytes *bytes, const void *data, size_t len) GW_MUST_USE;
GW_API void gw_bytes_clear(gw_bytes *bytes);

/* --- checked arithmetic: *a += b; GW_EOVERFLOW leaves *a as it was --- */
GW_API gw_err gw_add(int64_t *a, int64_t b) GW_MUST_USE;

/* --- values: constructors of leaves allocate only for strings and bytes --- */
GW_API gw_value gw_nil(void);
GW_API gw_value gw_bool(bool b);
GW_API gw_value gw_int(int64_t i);
GW_API gw_value gw_uint(uint64_t u);
GW_API gw_value gw_float(double f);
GW_API gw_value gw_id_value(const gw_id *id);
GW_API gw_value gw_time_value(gw_time t);
/* Copies. On out of memory the process ends with a message: used for short text only; sizes that a
 * peer controls go through gw_value_set_str/_bytes, which report GW_ENOMEM. */
GW_API gw_value gw_str(const char *text);
GW_API gw_value gw_strf(const char *fmt, ...) GW_PRINTF(1, 2);
GW_API gw_err gw_value_set_str(gw_value *v, const char *p, size_t n) GW_MUST_USE;
GW_API gw_err gw_value_set_bytes(gw_value *v, const void *p, size_t n) GW_MUST_USE;

/* Append to a list (a nil becomes a list). Takes ownership of `item` whatever happens. */
GW_API gw_err gw_list_add(gw_value *list, gw_value item) GW_MUST_USE;
/* Set or replace a key of a map (a nil becomes a map). Takes ownership of `item` whatever happens.
 */
GW_API gw_err gw_map_set(gw_value *map, const char *key, gw_value item) GW_MUST_USE;
/* Borrowed member or NULL (also when `map` is NULL or not a map). */
GW_API const gw_value *gw_map_get(const gw_value *map, const char *key);
/* Typed look-ups with a default for absent or of another kind. Strings are borrowed. */
GW_API const char *gw_map_str(const gw_value *map, const char *key, const char *fallback);
GW_API int64_t gw_map_int(const gw_value *map, const char *key, int64_t fallback);
GW_API bool gw_map_bool(const gw_value *map, const char *key, bool fallback);
/* Deep copy, compare (kind and content; int 1 equals uint 1), free (leaves nil). */
GW_API gw_err gw_value_copy(const gw_value *v, gw_value *ret) GW_MUST_USE;
GW_API bool gw_value_equal(const gw_value *a, const gw_value *b);
GW_API void gw_value_free(gw_value *v);

#endif
