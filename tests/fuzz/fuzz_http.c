/* An HTTP request up to the checked arguments of an operation: head, route, query, body. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "host/api_route.h"
#include "host/net/http_head.h"
#include "protocol/json.h"

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static bool inside(const char *p, const char *text, size_t n)
{
    return p >= text && p + strlen(p) < text + n;
}

static void check_head(const struct http_head *h, const char *text, size_t n)
{
    must(inside(h->method, text, n) && inside(h->path, text, n) && h->path[0] == '/');
    must(h->header_count <= LIMIT_HTTP_HEADERS);
    for (size_t i = 0; i < h->header_count; i++) {
        must(inside(h->headers[i].name, text, n) && inside(h->headers[i].value, text, n));
    }
    (void)http_head_has_word(http_head_get(h, "Connection"), "upgrade");
}

static gw_err build(const struct http_head *h, const char *body, size_t n, struct gw_error *why)
{
    const struct op *op = NULL;
    char allow[ROUTE_ALLOW_BYTES];
    gw_value args = {.kind = GW_MAP}, more = gw_nil();
    gw_err err = route_find(h->method, h->path, &op, &args, allow, why);
    err = err ? err : route_query(h->query, &args, why);
    for (size_t i = 0; err == GW_OK && i < args.map.n; i++) {
        struct gw_member *m = &args.map.items[i];
        err = signature_text_arg(op_signature(op), m->key, &m->value, why);
    }
    if (err == GW_OK && n > 0 && json_parse(body, n, &more, NULL) == GW_OK &&
        gw_map_set(&args, "args", more) != GW_OK) {
        abort();
    }
    err = err ? err : signature_check_args(op_signature(op), &args, false, why);
    gw_value_free(&args);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ops_init();
    size_t scanned = 0;
    size_t n = http_head_length((const char *)data, size, &scanned);
    if (n == 0 || n > LIMIT_HTTP_HEADER_BYTES) {
        return 0;
    }
    must(n <= size);
    char *text = calloc(1, n + 1);
    must(text != NULL);
    memcpy(text, data, n);
    struct http_head head;
    struct gw_error why = {0};
    int status = 0;
    if (http_head_parse(text, n, &head, &status, &why) != GW_OK) {
        must(status >= 400 && why.text[0] != '\0');
    } else {
        check_head(&head, text, n + 1);
        must(build(&head, (const char *)data + n, size - n, &why) == GW_OK || why.text[0] != '\0');
    }
    free(text);
    return 0;
}
