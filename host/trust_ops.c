/* Operations on trust: join tokens, admission of joining hosts, renewal of certificates. */
#include <stdlib.h>
#include <string.h>

#include "host/core/internal.h"
#include "host/host.h"
#include "host/trust/token.h"
#include "protocol/text.h"

static struct host *host_of(struct node *n)
{
    return node_env(n)->ctx;
}

static void answer(struct op_call *call, gw_err err, gw_value *result, const struct gw_error *why)
{
    if (err == GW_OK) {
        op_ok(call, result);
    } else {
        gw_value_free(result);
        op_fail(call, why);
    }
}

static bool is_loopback(const char *url)
{
    return strncmp(url, "https://127.", 12) == 0 || strncmp(url, "https://[::1]", 13) == 0;
}

static gw_err read_tags(const gw_value *list, gw_strs *ret)
{
    for (size_t i = 0; list && list->kind == GW_LIST && i < list->list.n; i++) {
        GW_TRY(gw_strs_add(ret, list->list.items[i].s.p));
    }
    return GW_OK;
}

static gw_err describe_token(struct host *h, const struct token_options *o, const char *text,
                             int64_t now_ms, gw_value *ret)
{
    char id[GW_ID_TEXT];
    struct token token = {0};
    GW_TRY(token_parse(text, &token, NULL));
    gw_id_text(&token.id, id);
    token_free(&token);
    GW_TRY(gw_map_set(ret, "token", gw_str(text)));
    GW_TRY(gw_map_set(ret, "id", gw_str(id)));
    GW_TRY(gw_map_set(ret, "expires", gw_time_value((gw_time){now_ms + o->ttl_ms})));
    GW_TRY(gw_map_set(ret, "uses", gw_int(o->uses)));
    if (!is_loopback(server_url(h->server))) {
        return GW_OK;
    }
    return gw_map_set(
        ret, "warning",
        gw_strf("host \"%s\" listens on %s only: the token serves this machine; for others "
                "start it with --listen ADDR:PORT of a reachable address",
                h->trust->name, server_url(h->server)));
}

void op_token(struct node *n, struct op_call *call)
{
    struct host *h = host_of(n);
    struct gw_error why;
    gw_value result = gw_nil();
    gw_strs tags = {0}, urls = {0};
    char *text = NULL;
    int64_t now_ms = node_now_ms(n);
    const gw_value *wanted = gw_map_get(&call->args, "tags");
    struct token_options o = {.ttl_ms = gw_map_int(&call->args, "ttl", 3600 * 1000),
                              .uses = (uint32_t)gw_map_int(&call->args, "uses", 1),
                              .tags = wanted && wanted->kind == GW_LIST ? &tags : NULL,
                              .urls = &urls};
    gw_err err = read_tags(wanted, &tags);
    err = err ? err : gw_strs_add(&urls, server_url(h->server));
    if (err) {
        gw_fail(&why, err, "out of memory for the token");
    } else {
        err = token_make(h->trust, &o, now_ms, &text, &why);
    }
    if (!err && (err = describe_token(h, &o, text, now_ms, &result)) != GW_OK) {
        gw_fail(&why, err, "out of memory for the token");
    }
    free(text);
    gw_strs_clear(&tags);
    gw_strs_clear(&urls);
    answer(call, err, &result, &why);
}

void op_tokens(struct node *n, struct op_call *call)
{
    struct gw_error why;
    gw_value list = gw_nil(), result = gw_nil();
    gw_err err = token_list(host_of(n)->trust, &list);
    err = err ? err : gw_map_set(&result, "tokens", list);
    if (err) {
        gw_fail(&why, err, "the tokens cannot be listed: %s", gw_err_text(err));
    }
    answer(call, err, &result, &why);
}

void op_revoke(struct node *n, struct op_call *call)
{
    struct gw_error why;
    gw_value result = gw_nil();
    const char *id = gw_map_str(&call->args, "token", "");
    gw_err err = token_revoke(host_of(n)->trust, id, &why);
    if (!err &&
        (gw_map_set(&result, "id", gw_str(id)) || gw_map_set(&result, "revoked", gw_bool(true)))) {
        err = gw_fail(&why, GW_ENOMEM, "out of memory");
    }
    answer(call, err, &result, &why);
}

void op_join(struct node *n, struct op_call *call)
{
    struct host *h = host_of(n);
    struct gw_error why;
    gw_value result = gw_nil();
    SSL *ssl = call->http_call ? http_ssl(call->http_call) : NULL;
    gw_err err = ssl ? join_answer(h->trust, ssl, &call->args, node_now_ms(n), &result, &why)
                     : gw_fail(&why, GW_EARG, "a host joins over TLS only");
    if (err) {
        log_warn("mesh.join", "name=%.64s refused: %s", gw_map_str(&call->args, "host_name", ""),
                 why.text);
    } else {
        log_info("mesh.join", "name=%.64s host_id=%s admitted",
                 gw_map_str(&call->args, "host_name", ""), gw_map_str(&result, "host_id", ""));
    }
    answer(call, err, &result, &why);
}

/* ---- renewal ---- */

void op_renew(struct node *n, struct op_call *call)
{
    struct host *h = host_of(n);
    struct gw_error why;
    gw_value result = gw_nil();
    char *cert = NULL;
    struct trust_peer peer = {.role = TRUST_HOST};
    gw_err err =
        call->peer ? GW_OK : gw_fail(&why, GW_EDENIED, "only a member host renews its certificate");
    if (!err) {
        peer.id = *call->peer; /* as its present certificate says */
        err = trust_renew_answer(h->trust, &peer, gw_map_str(&call->args, "csr", ""),
                                 node_now_ms(n), &cert, &why);
    }
    if (!err && gw_map_set(&result, "certificate", gw_str(cert)) != GW_OK) {
        err = gw_fail(&why, GW_ENOMEM, "out of memory");
    }
    free(cert);
    answer(call, err, &result, &why);
}

static void renewed(void *arg, gw_err err, const struct frame *f)
{
    struct host *h = arg;
    struct gw_error why;
    gw_value value = gw_nil();
    uint32_t code = GW_EFAIL;
    struct mp m = f ? f->rest : (struct mp){0};
    if (err == GW_OK && mp_read_u32(&m, &code) == GW_OK && code == GW_OK &&
        value_unpack(&m, &value) == GW_OK &&
        trust_renew_apply(h->trust, gw_map_str(&value, "certificate", ""), &why) == GW_OK) {
        log_info("cert.renewed", "until_ms=%lld", (long long)h->trust->cert_expires_ms);
    } else {
        log_warn("cert.renewal",
                 "a host that was asked for a new certificate did not give one; asking on");
    }
    gw_value_free(&value);
}

void trust_ops_renew(struct host *h)
{
    struct node *n = h->node;
    char *csr = NULL;
    if (!trust_renew_is_due(h->trust, node_now_ms(n)) ||
        trust_renew_if_due(h->trust, node_now_ms(n)) || h->trust->signer ||
        trust_renew_request(h->trust, &csr) != GW_OK) {
        return;
    }
    for (struct peer *p = n->peers; p; p = p->hh.next) {
        if (p->self || !p->up) {
            continue;
        }
        struct buf frame = {0};
        uint64_t stream = peer_stream(n);
        size_t at = frame_begin(&frame, FRAME_CALL, stream, 3);
        mp_str(&frame, "renew");
        mp_map(&frame, 1);
        mp_str(&frame, "csr");
        mp_str(&frame, csr);
        mp_nil(&frame);
        frame_end(&frame, at);
        peer_request(n, p, stream, &frame, 10000, renewed, h);
    }
    free(csr);
}
