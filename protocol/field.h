/* What the runtime does with field tables (godwit/field.h).
 *
 * Shape on the wire: a struct is a map from field name to value, in table order; unknown keys are
 * kept (see `unknown`) and written back after the known ones, so that an older host does not lose
 * what a newer one added. That holds for the outermost struct: unknown keys of nested ones are
 * dropped, for the author may reorder and free list elements, and nothing else could carry them. A
 * renamed field is written under its former name (alias), for good: builds from before and after
 * read and write one field, in whatever order a state meets them. Both names are read; the former
 * one only while the present name is absent, in whatever order both come.
 * "" reads back as NULL. Text that is not UTF-8 packs with '?' for each bad byte (value.h). Any
 * thread. */
#ifndef PROTOCOL_FIELD_H
#define PROTOCOL_FIELD_H

#include <godwit/field.h>

#include "protocol/base/mp.h"

struct fields {
    const struct gw_field *items;
    size_t n;
};

/* Check a table that came out of a plugin: at most LIMIT_FIELDS rows, names valid and unique,
 * aliases too, members inside `struct_size`, aligned and apart from each other, kinds known, sizes
 * those of the kinds, nesting at most LIMIT_DEPTH and never of a table in itself. GW_EABI. The rest
 * of this header takes only tables that pass. */
gw_err fields_check(struct fields f, size_t struct_size, struct gw_error *why) GW_MUST_USE;
/* The name under which a field is written: its alias, if it has one. */
const char *field_stored_name(const struct gw_field *field);
/* Append the value of one field. */
void field_pack(const struct gw_field *field, const void *obj, struct buf *out);
/* Read one field's value into obj; what was there is freed first. On failure the member is zero
 * (valid, empty) and the cursor unmoved. `why` names the field and the type wanted. GW_EDECODE when
 * the bytes are of another type, out of range or damaged, GW_ETOO_BIG above LIMIT_DECODED_BYTES,
 * GW_ENOMEM. */
gw_err field_unpack(const struct gw_field *field, struct mp *m, void *obj,
                    struct gw_error *why) GW_MUST_USE;
/* Append the whole struct as a map; `unknown` is a span of packed key, value, key, value… (n
 * pairs). */
void fields_pack(struct fields f, const void *obj, struct span unknown, size_t unknown_pairs,
                 struct buf *out);
/* Read a map into obj (all tabled members are freed and zeroed first, others untouched). Unknown
 * pairs are appended to ret_unknown (NULL: dropped), counted in ret_pairs (NULL allowed). On
 * failure all tabled members of obj are zero, ret_unknown and the cursor as before. Errors as
 * field_unpack; a key that stands twice is GW_EDECODE. */
gw_err fields_unpack(struct fields f, struct mp *m, void *obj, struct buf *ret_unknown,
                     size_t *ret_pairs, struct gw_error *why) GW_MUST_USE;
/* Find by name or alias; NULL when there is none. */
const struct gw_field *fields_find(struct fields f, struct span name);
/* Free what tabled members own and zero them. */
void fields_clear(struct fields f, void *obj);
bool fields_equal(struct fields f, const void *a, const void *b);
/* Name of a field's type, in the words of signatures: "int", "[string]", "[struct]". Static. */
const char *field_type_name(const struct gw_field *field);
/* The struct as a free value (for JSON) and the table as a list of {name, type[, since, alias,
 * fields]}. */
gw_err fields_value(struct fields f, const void *obj, gw_value *ret) GW_MUST_USE;
gw_err fields_describe(struct fields f, gw_value *ret) GW_MUST_USE;
/* Set one field from a free value, or when `text` from a string as typed on a command line
 * ("5", "true", "2026-01-01T00:00:00Z"; lists and structs from JSON are values). GW_EARG names both
 * types. Texts of ids and times are taken without `text` too: JSON has no other form. A nested
 * struct is set as a whole: members not named become default. On failure obj is as it was. */
gw_err field_set(const struct gw_field *field, void *obj, const gw_value *v, bool text,
                 struct gw_error *why) GW_MUST_USE;

#endif
