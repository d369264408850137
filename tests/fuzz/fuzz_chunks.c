/* What the other end of the service "chunks" sends: to the host that answers, and to the one that
 * asks for a recipe or for chunks. The first byte says to whom. */
#include "tests/fuzz/fuzz.h"

#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/fetch_wire.h"
#include "protocol/base/log.h"

/* A stream that gives the input, then ends, and takes all that is written. */
struct input {
    const uint8_t *data;
    size_t n;
};

static gw_err in_read(void *ctx, void *to, size_t room, size_t *ret_n)
{
    struct input *in = ctx;
    size_t n = in->n < room ? in->n : room;
    if (n == 0) {
        return GW_ENOT_FOUND;
    }
    memcpy(to, in->data, n);
    in->data += n;
    in->n -= n;
    *ret_n = n;
    return GW_OK;
}

static gw_err in_write(void *ctx, const void *from, size_t n, size_t *ret_n)
{
    (void)ctx, (void)from;
    *ret_n = n;
    return GW_OK;
}

static gw_err in_wait(void *ctx, bool to_read, bool to_write, int timeout_ms)
{
    (void)ctx, (void)to_read, (void)to_write, (void)timeout_ms;
    return GW_OK;
}

static void in_describe(void *ctx, struct gw_error *why)
{
    (void)ctx;
    (void)gw_fail(why, GW_EUNREACHABLE, "the input ends");
}

static struct chunk_store *store;
static char folder[] = "/tmp/godwit-fuzz-XXXXXX";
static struct artifact_info info;
static const char content[] = "what the store of the fuzzer has";

static void must(gw_err err)
{
    if (err != GW_OK) {
        abort();
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static void clean(void)
{
    chunk_store_close(store);
    (void)nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void open_store(void)
{
    struct chunk_options o = {.quota = 1024 * 1024};
    struct artifact_meta meta = {.name = "fuzz"};
    struct artifact_writer *w = NULL;
    struct gw_error why;
    if (!mkdtemp(folder)) {
        abort();
    }
    must(chunk_store_open(folder, &o, &store, &why));
    must(artifact_writer_new(store, &meta, &w, &why));
    must(artifact_writer_add(w, content, sizeof content, &why));
    must(artifact_writer_finish(w, NULL, &info, &why));
    artifact_writer_free(w);
    atexit(clean);
}

static void ask_recipe(struct bulk_io *io)
{
    struct fetch_recipe r = {.count = 0};
    struct gw_error why = {0};
    uint64_t sum = 0;
    if (fetch_ask_recipe(io, &info.hash, 1u << 30, &r, &why) != GW_OK) {
        return;
    }
    for (size_t i = 0; i < r.count; i++) {
        sum += r.chunks[i].len;
    }
    if (sum != r.size || strlen(r.name) > LIMIT_ARTIFACT_NAME_BYTES) {
        abort();
    }
    fetch_recipe_free(&r);
}

static void ask_chunks(struct bulk_io *io, bool partial)
{
    struct chunk_ref refs[2] = {{.hash = chunk_hash_of("abc", 3), .len = 3},
                                {.hash = chunk_hash_of("defg", 4), .len = 4}};
    struct fetch_work work = {.store = store};
    struct fetch_source source = {.work = &work, .number = -1, .partial = partial};
    struct gw_error why = {0};
    pthread_mutex_init(&work.lock, NULL);
    must(fetch_plan_new(refs, NULL, 2, &work.plan));
    gw_err err = fetch_ask_chunks(io, &source, &why);
    if (err == GW_OK && work.err == GW_OK && !partial && fetch_plan_left(work.plan) > 0 &&
        source.chunks > 0 && source.bytes < 3) {
        abort();
    }
    fetch_plan_free(work.plan);
    pthread_mutex_destroy(&work.lock);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gw_error why = {0};
    if (size == 0) {
        return 0;
    }
    if (!store) {
        log_setup(LOG_ERROR, false);
        open_store();
    }
    struct input in = {data + 1, size - 1};
    struct bulk_io io = {&in, in_read, in_write, in_wait, in_describe};
    switch (data[0] % 4) {
    case 0: {
        gw_err err = fetch_serve(store, &io, &why);
        (void)err;
        break;
    }
    case 1: ask_recipe(&io); break;
    default: ask_chunks(&io, data[0] % 4 == 3); break;
    }
    return 0;
}
