/* Field tables: one table drives pack, unpack, free, compare, JSON and description of a struct.
 *
 *     struct counter { int64_t count; gw_strs events; void *cache; };
 *     static const struct gw_field fields[] = {
 *         GW_FIELD(struct counter, count),
 *         GW_FIELD(struct counter, events),
 *     };
 *
 * Name, offset, size and kind come from the member itself (_Generic): a member of a type that
 * cannot travel does not compile. Members that are not in the table stay behind. A struct of all
 * zero bytes is the valid default state. */
#ifndef GODWIT_FIELD_H
#define GODWIT_FIELD_H

#include <godwit/types.h>

typedef enum gw_field_kind {
    GW_FIELD_BOOL,   /* bool */
    GW_FIELD_INT,    /* int64_t, long long */
    GW_FIELD_UINT,   /* uint64_t, unsigned long long */
    GW_FIELD_INT32,  /* int32_t (int) */
    GW_FIELD_UINT32, /* uint32_t (unsigned) */
    GW_FIELD_DOUBLE, /* double */
    GW_FIELD_STRING, /* char *, owned by the struct, NULL = "" */
    GW_FIELD_BYTES,  /* gw_bytes */
    GW_FIELD_STRS,   /* gw_strs */
    GW_FIELD_ID,     /* gw_id */
    GW_FIELD_TIME,   /* gw_time */
    GW_FIELD_VALUE,  /* gw_value */
    GW_FIELD_STRUCT, /* nested struct, GW_STRUCT */
    GW_FIELD_LIST,   /* GW_LIST: struct { T *items; size_t len; } (any extra members are ignored) */
} gw_field_kind;

struct gw_field {
    const char *name;
    gw_field_kind kind;
    uint32_t offset;   /* of the member in its struct, bytes */
    uint32_t size;     /* of the member, bytes */
    uint32_t since;    /* type version that brought it; 0 and 1 = always there */
    const char *alias; /* name under which it is stored, of an earlier version; or NULL */
    const struct gw_field *fields; /* GW_FIELD_STRUCT, GW_FIELD_LIST: table of the element */
    uint32_t field_count;
    uint32_t elem_size; /* GW_FIELD_LIST: sizeof the element, bytes */
};

#define GW_FIELD_KIND_(member)                                                                     \
    _Generic((member),                                                                             \
        bool: GW_FIELD_BOOL,                                                                       \
        int: GW_FIELD_INT32,                                                                       \
        unsigned: GW_FIELD_UINT32,                                                                 \
        long: GW_FIELD_INT,                                                                        \
        long long: GW_FIELD_INT,                                                                   \
        unsigned long: GW_FIELD_UINT,                                                              \
        unsigned long long: GW_FIELD_UINT,                                                         \
        double: GW_FIELD_DOUBLE,                                                                   \
        char *: GW_FIELD_STRING,                                                                   \
        gw_bytes: GW_FIELD_BYTES,                                                                  \
        gw_strs: GW_FIELD_STRS,                                                                    \
        gw_id: GW_FIELD_ID,                                                                        \
        gw_time: GW_FIELD_TIME,                                                                    \
        gw_value: GW_FIELD_VALUE)
#define GW_MEMBER_(T, m) .offset = offsetof(T, m), .size = sizeof(((T *)0)->m)

#define GW_FIELD(T, m)                                                                             \
    {                                                                                              \
        .name = #m, .kind = GW_FIELD_KIND_(((T *)0)->m), GW_MEMBER_(T, m)                          \
    }
/* A field that came with version v of the type; older states give it its default (zero). */
#define GW_FIELD_SINCE(T, m, v)                                                                    \
    {                                                                                              \
        .name = #m, .kind = GW_FIELD_KIND_(((T *)0)->m), .since = (v), GW_MEMBER_(T, m)            \
    }
/* A field that was called `old` in the first version that had it. It is still stored under that
 * name, so that hosts with older and newer builds of the type read and write the same field; a
 * field that is renamed again keeps its first `old`. */
#define GW_FIELD_RENAMED(T, m, old)                                                                \
    {                                                                                              \
        .name = #m, .kind = GW_FIELD_KIND_(((T *)0)->m), .alias = (old), GW_MEMBER_(T, m)          \
    }
/* A nested struct with a table of its own. */
#define GW_STRUCT(T, m, table)                                                                     \
    {                                                                                              \
        .name = #m, .kind = GW_FIELD_STRUCT, .fields = (table),                                    \
        .field_count = sizeof(table) / sizeof((table)[0]), GW_MEMBER_(T, m)                        \
    }
/* A list member: struct { E *items; size_t len; ... } with the element's table. */
#define GW_LIST(T, m, table)                                                                       \
    {                                                                                              \
        .name = #m, .kind = GW_FIELD_LIST, .fields = (table),                                      \
        .field_count = sizeof(table) / sizeof((table)[0]),                                         \
        .elem_size = sizeof(*((T *)0)->m.items), GW_MEMBER_(T, m)                                  \
    }

#endif
