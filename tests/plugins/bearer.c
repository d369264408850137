/* An agent that makes artifacts, sends them and reads them. For tests/system/agent_artifacts.bats.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <godwit/artifact.h>

struct bearer {
    char *held; /* an artifact that it keeps */
};

static const struct gw_field fields[] = {GW_FIELD(struct bearer, held)};

/* A file of `kib` KiB that no other seed has a part of. */
static gw_err write_noise(struct gw_call *call, const char *name, int64_t kib, uint64_t seed,
                          const char **ret_path)
{
    const char *folder;
    char *path = NULL;
    uint64_t block[128];
    GW_TRY(gw_work_dir(call, &folder));
    if (asprintf(&path, "%s/%s", folder, name) < 0) {
        return GW_ENOMEM;
    }
    FILE *f = fopen(path, "w");
    if (!f) {
        gw_err err = gw_call_fail(call, GW_EIO, "cannot write \"%s\"", path);
        free(path);
        return err;
    }
    for (int64_t i = 0; i < kib; i++) {
        for (size_t j = 0; j < 128; j++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            block[j] = seed ^ (seed >> 29);
        }
        (void)fwrite(block, 1, sizeof block, f);
    }
    bool good = fclose(f) == 0;
    *ret_path = path;
    return good ? GW_OK : gw_call_fail(call, GW_EIO, "cannot write \"%s\"", name);
}

static gw_err put(struct gw_call *call)
{
    const char *path;
    struct gw_artifact a;
    struct gw_artifact_options o = {.ttl_ms = gw_arg_int(call, "ttl"),
                                    .type = "application/x-noise"};
    GW_TRY(write_noise(call, gw_arg_str(call, "name"), gw_arg_int(call, "kib"),
                       gw_arg_uint(call, "seed"), &path));
    gw_err err = gw_artifact_put(call, path, &o, &a);
    free((void *)path);
    GW_TRY(err);
    GW_TRY(gw_reply_uint(call, "size", a.size));
    return gw_reply_artifact(call, "artifact", &a);
}

static gw_err put_text(struct gw_call *call)
{
    const char *text = gw_arg_str(call, "text");
    struct gw_artifact a;
    GW_TRY(gw_artifact_put_bytes(call, text, strlen(text), NULL, &a));
    return gw_reply_artifact(call, "artifact", &a);
}

static gw_err put_path(struct gw_call *call)
{
    struct gw_artifact a;
    GW_TRY(gw_artifact_put(call, gw_arg_str(call, "path"), NULL, &a));
    return gw_reply_artifact(call, "artifact", &a);
}

static gw_err fetch(struct gw_call *call)
{
    struct gw_artifact a;
    const char *path;
    GW_TRY(gw_arg_artifact(call, "what", &a));
    GW_TRY(gw_artifact_fetch(call, &a, &path));
    return gw_reply_str(call, "path", path);
}

static gw_err info(struct gw_call *call)
{
    struct gw_artifact a, about;
    GW_TRY(gw_arg_artifact(call, "what", &a));
    GW_TRY(gw_artifact_info(call, &a, &about));
    GW_TRY(gw_reply_str(call, "name", about.name));
    GW_TRY(gw_reply_str(call, "type", about.type));
    GW_TRY(gw_reply_str(call, "host", about.host));
    GW_TRY(gw_reply_bool(call, "expires", about.expires.ms != 0));
    return gw_reply_uint(call, "size", about.size);
}

static gw_err drop(struct gw_call *call)
{
    struct gw_artifact a;
    GW_TRY(gw_arg_artifact(call, "what", &a));
    return gw_artifact_drop(call, &a);
}

static gw_err hand(struct gw_call *call)
{
    const char *path;
    gw_value reply = {0}, args = {0};
    struct gw_artifact a;
    GW_TRY(write_noise(call, "handed", 40, 7, &path));
    GW_TRY(gw_map_set(&args, "fail", gw_bool(gw_arg_bool(call, "fail"))));
    gw_err err =
        gw_send_artifact(call, gw_arg_id(call, "to"), "take", args, "what", path, NULL, &a, &reply);
    free((void *)path);
    GW_TRY(err);
    gw_value_free(&reply);
    return gw_reply_artifact(call, "artifact", &a);
}

static gw_err take(struct gw_call *call)
{
    struct bearer *b = gw_state(call);
    struct gw_artifact a;
    char text[GW_ARTIFACT_TEXT];
    GW_TRY(gw_arg_artifact(call, "what", &a));
    if (gw_arg_bool(call, "fail")) {
        return gw_call_fail(call, GW_EREFUSED, "it does not want it");
    }
    free(b->held);
    b->held = strdup(gw_artifact_text(&a, text));
    return b->held ? GW_OK : GW_ENOMEM;
}

/* Read what it took: only now it is fetched. */
static gw_err count(struct gw_call *call)
{
    const struct bearer *b = gw_state(call);
    struct gw_artifact a;
    const char *path;
    int64_t n = 0;
    if (!b->held || gw_artifact_parse(b->held, &a) != GW_OK) {
        return gw_call_fail(call, GW_ENOT_FOUND, "it holds nothing");
    }
    GW_TRY(gw_artifact_fetch(call, &a, &path));
    FILE *f = fopen(path, "r");
    if (!f) {
        return gw_call_fail(call, GW_EIO, "cannot read \"%s\"", path);
    }
    while (getc(f) != EOF) {
        n++;
    }
    fclose(f);
    return gw_reply_int(call, "bytes", n);
}

static const struct gw_method methods[] = {
    {"put(name: string, kib: int = 1, seed: uint = 1, ttl: duration = 0) -> "
     "(artifact: artifact, size: uint)",
     put},
    {"put_text(text: string) -> (artifact: artifact)", put_text},
    {"put_path(path: string) -> (artifact: artifact)", put_path},
    {"fetch(what: artifact) -> (path: string)", fetch},
    {"info(what: artifact) -> (name: string, type: string, host: string, expires: bool, size: "
     "uint)",
     info, GW_READ},
    {"drop(what: artifact)", drop},
    {"hand(to: agent, fail: bool = false) -> (artifact: artifact)", hand},
    {"take(what: artifact, fail: bool = false)", take},
    {"count() -> (bytes: int)", count},
};

GW_AGENT(bearer, struct bearer, GW_FIELDS(fields), GW_METHODS(methods));
