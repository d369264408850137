/* Records of join tokens: one small file each. See token.h. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "host/trust/keyfile.h"
#include "host/trust/token.h"

#define RECORD_VERSION 1

void token_record_free(struct token_record *r)
{
    gw_strs_clear(&r->tags);
    free(r->hosts);
    sodium_memzero(r, sizeof *r);
}

bool token_record_admitted(const struct token_record *r, const struct host_id *id)
{
    for (size_t i = 0; i < r->host_count; i++) {
        if (host_id_equal(&r->hosts[i], id)) {
            return true;
        }
    }
    return false;
}

bool token_record_allows(const struct token_record *r, const char *tag)
{
    for (size_t i = 0; !r->any_tags && i < r->tags.len; i++) {
        if (strcasecmp(r->tags.items[i], tag) == 0) {
            return true;
        }
    }
    return r->any_tags;
}

static gw_err tokens_dir(const char *mesh_dir, char ret[KEYFILE_PATH_BYTES], struct gw_error *why)
{
    return keyfile_path(ret, mesh_dir, "tokens", why);
}

static gw_err record_path(const char *mesh_dir, const gw_id *id, char ret[KEYFILE_PATH_BYTES],
                          struct gw_error *why)
{
    char dir[KEYFILE_PATH_BYTES], text[GW_ID_TEXT];
    GW_TRY(tokens_dir(mesh_dir, dir, why));
    return keyfile_path(ret, dir, gw_id_text(id, text), why);
}

/* --- lists --- */

void token_pack_strs(const gw_strs *list, bool any, struct buf *out)
{
    if (any) {
        mp_nil(out);
        return;
    }
    mp_array(out, list->len);
    for (size_t i = 0; i < list->len; i++) {
        mp_str(out, list->items[i]);
    }
}

gw_err token_unpack_strs(struct mp *m, size_t max, size_t max_bytes, bool *ret_any, gw_strs *ret)
{
    *ret_any = mp_peek(m) == MP_NIL;
    if (*ret_any) {
        return mp_read_nil(m);
    }
    size_t n;
    char text[LIMIT_PROPERTY_BYTES + 1];
    GW_TRY(mp_read_array(m, &n));
    if (n > max) {
        return GW_EPROTO;
    }
    for (size_t i = 0; i < n; i++) {
        GW_TRY(mp_read_text(m, text, max_bytes < sizeof text ? max_bytes + 1 : sizeof text));
        GW_TRY(gw_strs_add(ret, text));
    }
    return GW_OK;
}

/* --- one record --- */

static void pack(const struct token_record *r, struct buf *out)
{
    mp_array(out, 8);
    mp_uint(out, RECORD_VERSION);
    mp_bin(out, r->key, sizeof r->key);
    mp_bin(out, r->hash, sizeof r->hash);
    mp_int(out, r->created_ms);
    mp_int(out, r->expires_ms);
    mp_uint(out, r->uses);
    token_pack_strs(&r->tags, r->any_tags, out);
    mp_array(out, r->host_count);
    for (size_t i = 0; i < r->host_count; i++) {
        mp_bin(out, r->hosts[i].b, HOST_ID_BYTES);
    }
}

static gw_err unpack_hosts(struct mp *m, struct token_record *ret)
{
    size_t n;
    GW_TRY(mp_read_array(m, &n));
    if (n > LIMIT_TOKEN_USES) {
        return GW_EPROTO;
    }
    ret->hosts = calloc(n + 1, sizeof *ret->hosts); /* room for the one that comes */
    if (!ret->hosts) {
        return GW_ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        GW_TRY(mp_read_fixed(m, ret->hosts[i].b, HOST_ID_BYTES));
    }
    ret->host_count = n;
    return GW_OK;
}

static gw_err unpack(struct mp *m, struct token_record *ret)
{
    size_t n;
    uint64_t version;
    GW_TRY(mp_read_array(m, &n));
    GW_TRY(mp_read_uint(m, &version));
    if (n != 8 || version != RECORD_VERSION) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_fixed(m, ret->key, sizeof ret->key));
    GW_TRY(mp_read_fixed(m, ret->hash, sizeof ret->hash));
    GW_TRY(mp_read_int(m, &ret->created_ms));
    GW_TRY(mp_read_int(m, &ret->expires_ms));
    GW_TRY(mp_read_u32(m, &ret->uses));
    GW_TRY(token_unpack_strs(m, LIMIT_TAGS, LIMIT_NAME_BYTES, &ret->any_tags, &ret->tags));
    GW_TRY(unpack_hosts(m, ret));
    return mp_done(m) && ret->uses <= LIMIT_TOKEN_USES ? GW_OK : GW_EPROTO;
}

gw_err token_record_read(const char *mesh_dir, const gw_id *id, struct token_record *ret,
                         struct gw_error *why)
{
    char path[KEYFILE_PATH_BYTES];
    GW_AUTO(keyfile_wipe) struct buf content = {0};
    GW_AUTO(token_record_free) struct token_record r = {0};
    GW_TRY(record_path(mesh_dir, id, path, why));
    GW_TRY(keyfile_read(path, KEYFILE_SECRET, &content, why));
    struct mp m = mp_over(buf_span(&content));
    if (unpack(&m, &r) != GW_OK) {
        gw_err err = gw_fail(why, GW_ECORRUPT, "the token record \"%s\" is damaged", path);
        gw_hint(why, "revoke it and make a new token");
        return err;
    }
    *ret = r;
    r.hosts = NULL;
    r.tags = (gw_strs){0};
    return GW_OK;
}

gw_err token_record_write(const char *mesh_dir, const gw_id *id, const struct token_record *r,
                          struct gw_error *why)
{
    char dir[KEYFILE_PATH_BYTES], path[KEYFILE_PATH_BYTES];
    GW_AUTO(keyfile_wipe) struct buf content = {0};
    GW_TRY(tokens_dir(mesh_dir, dir, why));
    GW_TRY(keyfile_mkdir(dir, why));
    GW_TRY(record_path(mesh_dir, id, path, why));
    pack(r, &content);
    if (!buf_ok(&content)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    return keyfile_write(path, KEYFILE_SECRET, buf_span(&content), why);
}

gw_err token_record_remove(const char *mesh_dir, const gw_id *id, struct gw_error *why)
{
    char path[KEYFILE_PATH_BYTES];
    GW_TRY(record_path(mesh_dir, id, path, why));
    return keyfile_remove(path, why);
}

/* --- all records --- */

static int compare_ids(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(gw_id));
}

static void close_dir(DIR **dir)
{
    if (*dir) {
        closedir(*dir);
    }
}

gw_err token_record_ids(const char *mesh_dir, gw_id **ret_ids, size_t *ret_count,
                        struct gw_error *why)
{
    char path[KEYFILE_PATH_BYTES];
    GW_TRY(tokens_dir(mesh_dir, path, why));
    gw_id *ids = calloc(LIMIT_TOKENS, sizeof *ids);
    if (!ids) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    GW_AUTO(close_dir) DIR *dir = opendir(path);
    if (!dir && errno != ENOENT) {
        int error = errno;
        free(ids);
        return gw_fail(why, GW_EIO, "cannot list \"%s\": %s", path, strerror(error));
    }
    size_t n = 0;
    for (struct dirent *e; dir && n < LIMIT_TOKENS && (e = readdir(dir));) {
        n += gw_id_parse(e->d_name, &ids[n]) == GW_OK;
    }
    qsort(ids, n, sizeof *ids, compare_ids);
    *ret_ids = ids;
    *ret_count = n;
    return GW_OK;
}
