/* Entries of a tree of files: what parses keeps every rule of host/files/entry.h, packs again and
 * parses to the same; a wrong path is skipped, anything else leaves the cursor where it was. */
#include <stdlib.h>
#include <string.h>

#include "host/files/entry.h"
#include "protocol/limits.h"
#include "tests/fuzz/fuzz.h"

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check(const struct file_entry *e)
{
    must(e->type >= ENTRY_FILE && e->type <= ENTRY_LINK);
    must(entry_check_path(e->path, strlen(e->path), NULL) == GW_OK);
    must(e->path[0] != '/' && strlen(e->path) <= LIMIT_FILE_PATH_BYTES);
    must(e->type == ENTRY_FOLDER || strcmp(e->path, ".") != 0);
    must(!strstr(e->path, "//") && strncmp(e->path, "../", 3) != 0 && !strstr(e->path, "/../"));
    must((e->type == ENTRY_LINK) == (e->target != NULL));
    must(e->mode <= 07777 && e->size <= INT64_MAX);
    must(!e->target || (e->target[0] && strlen(e->target) <= LIMIT_FILE_TARGET_BYTES));
}

static void check_round(const struct file_entry *e)
{
    struct buf packed = {0}, again = {0};
    struct file_entry back = {0};
    entry_pack(e, &packed);
    must(buf_ok(&packed));
    struct mp m = mp_over(buf_span(&packed));
    must(entry_parse(&m, &back, NULL) == GW_OK && mp_done(&m));
    entry_pack(&back, &again);
    must(again.len == packed.len && memcmp(again.data, packed.data, packed.len) == 0);
    entry_clear(&back);
    buf_free(&packed);
    buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mp m = mp_over((struct span){data, size});
    while (!mp_done(&m)) {
        struct file_entry e = {0};
        struct gw_error why = {0};
        const uint8_t *before = m.p;
        gw_err err = entry_parse(&m, &e, &why);
        if (err) {
            must(why.text[0] && !e.path && !e.target);
            if (m.p == before) {
                must(err == GW_EPROTO);
                break;
            }
            continue;
        }
        must(m.p > before);
        check(&e);
        check_round(&e);
        entry_clear(&e);
    }
    return 0;
}
