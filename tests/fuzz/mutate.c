/* Changes of an input that is a tree, for libFuzzer: each result parses again, so no run is spent
 * on what the JSON reader refuses. Linked with the targets of FUZZ_TREES only. */
#include "tests/fuzz/fuzz.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/json.h"
#include "protocol/limits.h"

#define NODES_MOST 2048

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size,
                                 uint8_t *out, size_t max_size, unsigned seed);

static uint64_t chance;

static size_t any(size_t n) /* [0 .. n-1] */
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return n > 0 ? (size_t)(chance % n) : 0;
}

static void start(unsigned seed)
{
    chance = 0x9e3779b97f4a7c15ull ^ (uint64_t)seed << 17 ^ seed;
    (void)any(1);
}

/* --- the members of a tree --- */
static gw_value *nodes[NODES_MOST];
static size_t node_count;

static void gather(gw_value *v)
{
    if (node_count == NODES_MOST) {
        return;
    }
    nodes[node_count++] = v;
    for (size_t i = 0; v->kind == GW_LIST && i < v->list.n; i++) {
        gather(&v->list.items[i]);
    }
    for (size_t i = 0; v->kind == GW_MAP && i < v->map.n; i++) {
        gather(&v->map.items[i].value);
    }
}

static gw_value *any_node(gw_value *root)
{
    node_count = 0;
    gather(root);
    return nodes[any(node_count)];
}

static size_t count_of(const char *const *list)
{
    size_t n = 0;
    while (list && list[n]) {
        n++;
    }
    return n;
}

static const char *any_word(void)
{
    size_t n = count_of(fuzz_grammar.words);
    return n > 0 ? fuzz_grammar.words[any(n)] : "";
}

static bool any_piece(gw_value *ret)
{
    size_t n = count_of(fuzz_grammar.pieces);
    const char *text = n > 0 ? fuzz_grammar.pieces[any(n)] : "[]";
    return json_parse(text, strlen(text), ret, NULL) == GW_OK;
}

static void replace(gw_value *v, gw_value with)
{
    gw_value_free(v);
    *v = with;
}

/* --- one change --- */
static gw_value any_int(int64_t near)
{
    static const int64_t edges[] = {0,           1,        2,
                                    3,           7,        8,
                                    15,          16,       17,
                                    31,          32,       63,
                                    64,          127,      128,
                                    255,         256,      257,
                                    1000,        1023,     1024,
                                    4096,        10000,    65535,
                                    65536,       1 << 20,  1LL << 32,
                                    INT32_MAX,   1000000,  UINT32_MAX,
                                    LIMIT_EPOCH, 60000,    INT64_MAX,
                                    INT64_MIN,   -1,       -2,
                                    100,         86400000, INT64_MAX / 1000};
    switch (any(4)) {
    case 0: return gw_int(near < INT64_MAX ? near + 1 : 0);
    case 1: return gw_int(near > INT64_MIN ? near - 1 : 0);
    case 2: return gw_int((int64_t)any(300));
    default: return gw_int(edges[any(sizeof edges / sizeof edges[0])]);
    }
}

static gw_value any_leaf(void)
{
    switch (any(9)) {
    case 0: return gw_nil();
    case 1: return gw_bool(any(2));
    case 2: return (gw_value){.kind = GW_LIST};
    case 3: return (gw_value){.kind = GW_MAP};
    case 4: return gw_float((double)any(1000) / 8);
    case 5: return any_int(0);
    default: return gw_str(any_word());
    }
}

/* Bytes as libFuzzer likes them; of a string what is no plain ASCII becomes '?'. */
static void change_bytes(gw_value *v)
{
    uint8_t data[512];
    size_t n = v->s.n < sizeof data ? v->s.n : sizeof data;
    gw_value out = gw_nil();
    memcpy(data, v->s.p ? v->s.p : "", n);
    n = LLVMFuzzerMutate(data, n, sizeof data);
    for (size_t i = 0; v->kind == GW_STR && i < n; i++) {
        data[i] = data[i] >= ' ' && data[i] < 0x7f ? data[i] : '?';
    }
    gw_err err = v->kind == GW_STR ? gw_value_set_str(&out, (char *)data, n)
                                   : gw_value_set_bytes(&out, data, n);
    if (err == GW_OK) {
        replace(v, out);
    }
}

static void remove_item(gw_value *v, size_t i)
{
    gw_value_free(&v->list.items[i]);
    v->list.n--;
    memmove(&v->list.items[i], &v->list.items[i + 1], (v->list.n - i) * sizeof v->list.items[0]);
}

/* Takes item. */
static void insert_item(gw_value *v, size_t at, gw_value item)
{
    if (gw_list_add(v, item) == GW_OK) {
        gw_value last = v->list.items[v->list.n - 1];
        memmove(&v->list.items[at + 1], &v->list.items[at],
                (v->list.n - 1 - at) * sizeof v->list.items[0]);
        v->list.items[at] = last;
    }
}

static void change_list(gw_value *root, gw_value *v)
{
    gw_value copy = gw_nil();
    size_t n = v->list.n, i = any(n);
    switch (n > 0 ? any(5) : 4) {
    case 0: remove_item(v, i); break;
    case 1: {
        size_t j = any(n);
        gw_value t = v->list.items[i];
        v->list.items[i] = v->list.items[j];
        v->list.items[j] = t;
        break;
    }
    case 2:
        if (gw_value_copy(&v->list.items[i], &copy) == GW_OK) {
            insert_item(v, any(n + 1), copy);
        }
        break;
    case 3:
        if (gw_value_copy(any_node(root), &copy) == GW_OK) {
            insert_item(v, any(n + 1), copy);
        }
        break;
    default: insert_item(v, any(n + 1), any_leaf()); break;
    }
}

static void change_map(gw_value *root, gw_value *v)
{
    gw_value copy = gw_nil();
    size_t n = v->map.n, i = any(n);
    if (n > 0 && any(3) == 0) {
        struct gw_member gone = v->map.items[i];
        v->map.items[i] = v->map.items[--v->map.n];
        gw_value_free(&gone.value);
        free(gone.key);
    } else if (any(3) == 0) {
        (void)!gw_map_set(v, any_word(), any_leaf());
    } else if (gw_value_copy(any_node(root), &copy) == GW_OK) {
        (void)!gw_map_set(v, any_word(), copy);
    }
}

static void change_node(gw_value *root, gw_value *v)
{
    gw_value copy = gw_nil();
    if (any(8) == 0) { /* another kind of thing altogether */
        if (any(2)) {
            replace(v, any_leaf());
        } else if (gw_value_copy(any_node(root), &copy) == GW_OK) {
            replace(v, copy);
        }
        return;
    }
    switch (v->kind) {
    case GW_BOOL: v->b = !v->b; break;
    case GW_INT: *v = any_int(v->i); break;
    case GW_STR:
        if (any(3)) {
            replace(v, gw_str(any_word()));
        } else {
            change_bytes(v);
        }
        break;
    case GW_BYTES: change_bytes(v); break;
    case GW_LIST: change_list(root, v); break;
    case GW_MAP: change_map(root, v); break;
    default: replace(v, any_leaf()); break;
    }
}

static void change(gw_value *root)
{
    gw_value piece = gw_nil();
    if (root->kind == GW_LIST && count_of(fuzz_grammar.pieces) > 0 &&
        any(4) == 0) { /* steps: what counts most is their order */
        if (any(3) && any_piece(&piece)) {
            insert_item(root, any(root->list.n + 1), piece);
        } else {
            change_list(root, root);
        }
        return;
    }
    change_node(root, any_node(root));
}

/* --- in and out --- */
static bool read_tree(const uint8_t *data, size_t size, gw_value *ret)
{
    return json_parse((const char *)data, size, ret, NULL) == GW_OK &&
           (ret->kind == GW_LIST || ret->kind == GW_MAP);
}

/* What does not fit loses its last steps. Frees the tree. */
static size_t write_tree(gw_value *v, uint8_t *out, size_t max_size)
{
    struct buf text = {0};
    bool ok = json_write(v, 0, &text) == GW_OK;
    while (ok && text.len > max_size && v->kind == GW_LIST && v->list.n > 0) {
        remove_item(v, v->list.n - 1);
        buf_reset(&text);
        ok = json_write(v, 0, &text) == GW_OK;
    }
    size_t n = ok && text.len <= max_size ? text.len : 0;
    memcpy(out, text.data ? text.data : out, n);
    buf_free(&text);
    gw_value_free(v);
    return n;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    gw_value root = gw_nil();
    start(seed);
    if (!read_tree(data, size, &root)) {
        gw_value_free(&root);
        if (!any_piece(&root)) {
            return 0;
        }
        if (root.kind == GW_LIST) { /* a step: the list of it alone */
            gw_value list = gw_nil();
            (void)!gw_list_add(&list, root);
            root = list;
        }
    }
    for (size_t i = 0, n = 1 + any(4); i < n; i++) {
        change(&root);
    }
    return write_tree(&root, data, max_size);
}

/* A member of b in a place of a, or steps of b behind some of a. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size,
                                 uint8_t *out, size_t max_size, unsigned seed)
{
    gw_value one = gw_nil(), two = gw_nil(), copy = gw_nil();
    start(seed);
    if (!read_tree(a, a_size, &one) || !read_tree(b, b_size, &two)) {
        gw_value_free(&one);
        gw_value_free(&two);
        return 0;
    }
    if (one.kind == GW_LIST && two.kind == GW_LIST && any(2)) {
        size_t at = any(one.list.n + 1), from = any(two.list.n + 1), n = 1 + any(8);
        for (size_t i = from; i < two.list.n && i < from + n; i++) {
            if (gw_value_copy(&two.list.items[i], &copy) == GW_OK) {
                insert_item(&one, at++, copy);
            }
        }
    } else if (gw_value_copy(any_node(&two), &copy) == GW_OK) {
        replace(any_node(&one), copy);
    }
    gw_value_free(&two);
    return write_tree(&one, out, max_size);
}
