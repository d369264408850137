/* Join tokens: the printed text; making, listing and revoking. See token.h for the forms. */
#include "host/trust/token.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <sodium.h>

#include "host/trust/ca.h"
#include "host/trust/places.h"
#include "protocol/base/log.h"

#define CHECK_BYTES    8
#define URL_BYTES      255
#define TTL_DEFAULT_MS (3600LL * 1000)

static const char prefix[] = "godwit-token-1.";

void token_free(struct token *t)
{
    gw_strs_clear(&t->urls);
    gw_strs_clear(&t->tags);
    sodium_memzero(t, sizeof *t);
}

/* --- text --- */

static gw_err altered(struct gw_error *why)
{
    gw_err err = gw_fail(why, GW_EDENIED, "the token is altered");
    gw_hint(why, "copy it whole, from `%s` on, as `godwit mesh token` printed it", prefix);
    return err;
}

static void pack(const struct token *t, struct buf *out)
{
    mp_array(out, 8);
    mp_id(out, &t->mesh);
    token_pack_strs(&t->urls, false, out);
    mp_bin(out, t->pin, sizeof t->pin);
    mp_id(out, &t->id);
    mp_bin(out, t->secret, sizeof t->secret);
    mp_int(out, t->expires_ms);
    mp_uint(out, t->uses);
    token_pack_strs(&t->tags, t->any_tags, out);
}

static gw_err unpack(struct mp *m, struct token *ret)
{
    size_t n;
    bool none;
    GW_TRY(mp_read_array(m, &n));
    if (n < 8) {
        return GW_EPROTO;
    }
    GW_TRY(mp_read_id(m, &ret->mesh));
    GW_TRY(token_unpack_strs(m, LIMIT_URLS, URL_BYTES, &none, &ret->urls));
    GW_TRY(mp_read_fixed(m, ret->pin, sizeof ret->pin));
    GW_TRY(mp_read_id(m, &ret->id));
    GW_TRY(mp_read_fixed(m, ret->secret, sizeof ret->secret));
    GW_TRY(mp_read_int(m, &ret->expires_ms));
    GW_TRY(mp_read_u32(m, &ret->uses));
    GW_TRY(token_unpack_strs(m, LIMIT_TAGS, LIMIT_NAME_BYTES, &ret->any_tags, &ret->tags));
    GW_TRY(mp_skip_n(m, n - 8));
    return mp_done(m) && ret->urls.len > 0 ? GW_OK : GW_EPROTO;
}

static gw_err decode(const char *text, size_t n, struct buf *ret)
{
    size_t len = 0;
    if (!buf_reserve(ret, n + 1)) {
        return GW_ENOMEM;
    }
    if (sodium_base642bin(ret->data, ret->cap, text, n, NULL, &len, NULL,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
        len <= CHECK_BYTES) {
        return GW_EPROTO;
    }
    ret->len = len;
    return GW_OK;
}

gw_err token_parse(const char *text, struct token *ret, struct gw_error *why)
{
    static const char space[] = " \t\r\n";
    text += strspn(text, space);
    size_t n = strcspn(text, space);
    if (text[n + strspn(text + n, space)] || n > LIMIT_TOKEN_BYTES) {
        return altered(why);
    }
    if (strncmp(text, prefix, sizeof prefix - 1) != 0) {
        gw_err err = gw_fail(why, GW_EDENIED, "this is not a join token");
        gw_hint(why, "a token begins with %s", prefix);
        return err;
    }
    GW_AUTO(keyfile_wipe) struct buf raw = {0};
    GW_AUTO(token_free) struct token t = {0};
    if (decode(text + sizeof prefix - 1, n - (sizeof prefix - 1), &raw) != GW_OK) {
        return altered(why);
    }
    struct span body = {raw.data, raw.len - CHECK_BYTES};
    struct mp m = mp_over(body);
    crypto_hash_sha256(t.hash, body.p, body.n);
    if (memcmp(t.hash, body.p + body.n, CHECK_BYTES) != 0 || unpack(&m, &t) != GW_OK) {
        return altered(why);
    }
    *ret = t;
    t = (struct token){0};
    return GW_OK;
}

gw_err token_write(struct token *t, char **ret_text, struct gw_error *why)
{
    GW_AUTO(keyfile_wipe) struct buf body = {0};
    pack(t, &body);
    if (!buf_ok(&body)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    crypto_hash_sha256(t->hash, body.data, body.len);
    buf_add(&body, t->hash, CHECK_BYTES);
    size_t head = sizeof prefix - 1;
    size_t size =
        head + sodium_base64_encoded_len(body.len, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    if (size - 1 > LIMIT_TOKEN_BYTES) {
        return gw_fail(why, GW_ETOO_BIG, "the token would have %zu characters, the limit is %d",
                       size - 1, LIMIT_TOKEN_BYTES);
    }
    char *text = buf_ok(&body) ? malloc(size) : NULL;
    if (!text) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    memcpy(text, prefix, head);
    sodium_bin2base64(text + head, size - head, body.data, body.len,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    *ret_text = text;
    return GW_OK;
}

/* --- making --- */

static gw_err copy_strs(gw_strs *to, const gw_strs *from)
{
    for (size_t i = 0; from && i < from->len; i++) {
        GW_TRY(gw_strs_add(to, from->items[i]));
    }
    return GW_OK;
}

static gw_err check_options(const struct token_options *o, struct gw_error *why)
{
    if (o->ttl_ms < 0 || o->ttl_ms > LIMIT_TOKEN_TTL_MS) {
        return gw_fail(why, GW_EARG, "the life of a token is at most %lld days",
                       (long long)(LIMIT_TOKEN_TTL_MS / 86400000));
    }
    if (o->uses > LIMIT_TOKEN_USES) {
        return gw_fail(why, GW_EARG, "a token serves at most %d uses", LIMIT_TOKEN_USES);
    }
    if (!o->urls || o->urls->len == 0 || o->urls->len > LIMIT_URLS) {
        return gw_fail(why, GW_EARG, "a token names 1 to %d endpoints", LIMIT_URLS);
    }
    for (size_t i = 0; i < o->urls->len; i++) {
        const char *url = o->urls->items[i];
        if (strncmp(url, "https://", 8) != 0 || strlen(url) > URL_BYTES) {
            return gw_fail(why, GW_EARG, "\"%.100s\" is not an https URL", url);
        }
    }
    if (o->tags && o->tags->len > LIMIT_TAGS) {
        return gw_fail(why, GW_EARG, "a token allows at most %d tags", LIMIT_TAGS);
    }
    for (size_t i = 0; o->tags && i < o->tags->len; i++) {
        if (!name_is_valid(o->tags->items[i])) {
            return gw_fail(why, GW_EARG, "\"%.100s\" is not a valid tag", o->tags->items[i]);
        }
    }
    return GW_OK;
}

static gw_err not_a_signer(const struct trust *t, struct gw_error *why)
{
    char url[CA_URL_BYTES];
    ca_signer_url(t->mesh_dir, url);
    gw_err err = gw_fail(why, GW_EREFUSED,
                         "host \"%s\" cannot admit others: the key of the mesh CA is not in \"%s\"",
                         t->name, t->mesh_dir);
    gw_hint(why, "run `godwit mesh token` on the machine %s%s",
            url[0] ? "of " : "that made the mesh", url);
    return err;
}

static gw_err fill(struct token *k, const struct trust *t, const struct token_options *o,
                   int64_t now_ms)
{
    uint8_t random[10];
    randombytes_buf(random, sizeof random);
    randombytes_buf(k->secret, sizeof k->secret);
    k->id = id_make(now_ms, random);
    k->expires_ms = now_ms + (o->ttl_ms ? o->ttl_ms : TTL_DEFAULT_MS);
    k->uses = o->uses ? o->uses : 1;
    k->any_tags = o->tags == NULL;
    GW_TRY(gw_id_parse(t->mesh_id, &k->mesh));
    GW_TRY(certs_fingerprint(t->ca->cert, k->pin));
    GW_TRY(copy_strs(&k->urls, o->urls));
    return copy_strs(&k->tags, o->tags);
}

static gw_err remember(struct trust *t, struct token *k, int64_t now_ms, struct gw_error *why)
{
    struct token_record r = {.created_ms = now_ms,
                             .expires_ms = k->expires_ms,
                             .uses = k->uses,
                             .any_tags = k->any_tags,
                             .tags = k->tags}; /* borrowed */
    proof_key(k->secret, r.key);
    memcpy(r.hash, k->hash, sizeof r.hash);
    gw_err err = token_record_write(t->mesh_dir, &k->id, &r, why);
    sodium_memzero(&r, sizeof r);
    return err;
}

/* Remove expired records; ret_count (NULL allowed) gets how many are left. The lock is held. */
static gw_err sweep(struct trust *t, int64_t now_ms, size_t *ret_count, struct gw_error *why)
{
    gw_id *ids = NULL;
    size_t n = 0, left = 0;
    GW_TRY(token_record_ids(t->mesh_dir, &ids, &n, why));
    for (size_t i = 0; i < n; i++) {
        GW_AUTO(token_record_free) struct token_record r = {0};
        bool gone = token_record_read(t->mesh_dir, &ids[i], &r, NULL) == GW_OK &&
                    now_ms >= r.expires_ms &&
                    token_record_remove(t->mesh_dir, &ids[i], NULL) == GW_OK;
        left += !gone;
    }
    free(ids);
    if (ret_count) {
        *ret_count = left;
    }
    return GW_OK;
}

gw_err token_make(struct trust *t, const struct token_options *o, int64_t now_ms, char **ret_text,
                  struct gw_error *why)
{
    if (!t->signer) {
        return not_a_signer(t, why);
    }
    GW_TRY(check_options(o, why));
    GW_AUTO(token_free) struct token k = {0};
    if (fill(&k, t, o, now_ms) != GW_OK) {
        return gw_fail(why, GW_ENOMEM, "cannot make a token");
    }
    GW_AUTO(keyfile_unlock) int lock = -1;
    GW_TRY(places_lock(t->mesh_dir, &lock, why));
    size_t count = 0;
    GW_TRY(sweep(t, now_ms, &count, why));
    if (count >= LIMIT_TOKENS) {
        gw_err err = gw_fail(why, GW_EREFUSED, "there are %d tokens, the limit", LIMIT_TOKENS);
        gw_hint(why, "revoke some: `godwit mesh tokens`, `godwit mesh revoke ID`");
        return err;
    }
    char *text = NULL;
    GW_TRY(token_write(&k, &text, why));
    gw_err err = remember(t, &k, now_ms, why);
    if (err) {
        sodium_memzero(text, strlen(text));
        free(text);
        return err;
    }
    *ret_text = text;
    return GW_OK;
}

/* --- listing, revoking --- */

static gw_err list_strs(gw_value *ret, const gw_strs *list)
{
    *ret = (gw_value){.kind = GW_LIST};
    for (size_t i = 0; i < list->len; i++) {
        GW_TRY(gw_list_add(ret, gw_str(list->items[i])));
    }
    return GW_OK;
}

static gw_err describe(const gw_id *id, const struct token_record *r, gw_value *ret)
{
    gw_value tags = gw_nil(), hosts = {.kind = GW_LIST};
    gw_err err = r->any_tags ? GW_OK : list_strs(&tags, &r->tags);
    for (size_t i = 0; !err && i < r->host_count; i++) {
        char text[HOST_ID_TEXT];
        err = gw_list_add(&hosts, gw_str(host_id_text(&r->hosts[i], text)));
    }
    err = err ? err : gw_map_set(ret, "token", gw_id_value(id));
    err = err ? err : gw_map_set(ret, "uses", gw_int(r->uses));
    err = err ? err : gw_map_set(ret, "used", gw_int((int64_t)r->host_count));
    err = err ? err : gw_map_set(ret, "created", gw_time_value((gw_time){r->created_ms}));
    err = err ? err : gw_map_set(ret, "expires", gw_time_value((gw_time){r->expires_ms}));
    if (err) {
        gw_value_free(&tags);
        gw_value_free(&hosts);
        return err;
    }
    err = gw_map_set(ret, "tags", tags); /* takes it whatever happens */
    gw_err err2 = gw_map_set(ret, "hosts", hosts);
    return err ? err : err2;
}

static gw_err list_all(struct trust *t, const gw_id *ids, size_t n, gw_value *list)
{
    for (size_t i = 0; i < n; i++) {
        GW_AUTO(token_record_free) struct token_record r = {0};
        struct gw_error why = {0};
        gw_err err = token_record_read(t->mesh_dir, &ids[i], &r, &why);
        if (err) {
            log_warn("trust.token_unreadable", "text=\"%s\"", why.text);
            continue;
        }
        gw_value row = {.kind = GW_MAP};
        err = describe(&ids[i], &r, &row);
        if (err) {
            gw_value_free(&row);
            return err;
        }
        GW_TRY(gw_list_add(list, row));
    }
    return GW_OK;
}

gw_err token_list(struct trust *t, gw_value *ret)
{
    gw_id *ids = NULL;
    size_t n = 0;
    GW_AUTO(keyfile_unlock) int lock = -1;
    GW_TRY(places_lock(t->mesh_dir, &lock, NULL));
    GW_TRY(sweep(t, ca_now_ms(), NULL, NULL));
    GW_TRY(token_record_ids(t->mesh_dir, &ids, &n, NULL));
    gw_value list = {.kind = GW_LIST};
    gw_err err = list_all(t, ids, n, &list);
    free(ids);
    if (err) {
        gw_value_free(&list);
        return err;
    }
    *ret = list;
    return GW_OK;
}

gw_err token_revoke(struct trust *t, const char *id, struct gw_error *why)
{
    gw_id parsed;
    if (gw_id_parse(id, &parsed) != GW_OK) {
        return gw_fail(why, GW_EARG, "\"%.60s\" is not the id of a token", id);
    }
    GW_AUTO(keyfile_unlock) int lock = -1;
    GW_TRY(places_lock(t->mesh_dir, &lock, why));
    gw_err err = token_record_remove(t->mesh_dir, &parsed, why);
    return err == GW_ENOT_FOUND ? gw_fail(why, err, "there is no token \"%s\" here", id) : err;
}
