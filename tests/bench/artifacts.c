/* Artifacts: up to a host and down again by the command, beside curl that does the same over TLS.
 * Every round has content of its own: what a host has already would not be written again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/files.h"

#define ARTIFACT_MIB 512
#define ROUNDS       3
#define PATIENCE_MS  60000

struct place {
    struct bench *b;
    char dir[280], out[320], cacert[320], cert[320], key[320];
    char url[80]; /* of the host */
    int pid;
};

static void add_rate(struct samples *s, double mib, double seconds)
{
    sample_add(s, mib * MIB / 1e6 / seconds);
}

/* ---- artifact_put_mb_s, artifact_get_mb_s ---- */

static double put(struct place *p, const char *file, char *ret_id, size_t room)
{
    char *argv[] = {(char *)p->b->program, (char *)"--json", (char *)"-H", (char *)"store",
                    (char *)"artifacts",   (char *)"put",    (char *)file, NULL};
    double took = process_must(argv, p->out);
    gw_value v = last_line(p->out);
    snprintf(ret_id, room, "%s", gw_map_str(&v, "artifact", ""));
    gw_value_free(&v);
    return took;
}

static double get(struct place *p, const char *id, const char *to)
{
    char *argv[] = {(char *)p->b->program,
                    (char *)"--json",
                    (char *)"-H",
                    (char *)"store",
                    (char *)"artifacts",
                    (char *)"get",
                    (char *)id,
                    (char *)to,
                    NULL};
    return process_must(argv, p->out);
}

static double curl(struct place *p, const char *option, const char *file, const char *path)
{
    char url[400];
    snprintf(url, sizeof url, "%s%s", p->url, path);
    char *argv[] = {(char *)"curl",
                    (char *)"-sS",
                    (char *)"--fail",
                    (char *)"--cacert",
                    p->cacert,
                    (char *)"--cert",
                    p->cert,
                    (char *)"--key",
                    p->key,
                    (char *)option,
                    (char *)file,
                    (char *)"-X",
                    (char *)(option[1] == 'T' ? "POST" : "GET"),
                    url,
                    NULL};
    return process_must(argv, option[1] == 'T' ? p->out : NULL);
}

static void open_store(struct place *p, struct bench *b)
{
    struct gw_error why;
    gw_value status = gw_nil();
    *p = (struct place){.b = b};
    snprintf(p->dir, sizeof p->dir, "%s/artifacts", b->dir);
    snprintf(p->out, sizeof p->out, "%s/out", p->dir);
    snprintf(p->cacert, sizeof p->cacert, "%s/mesh/ca.crt", b->home);
    snprintf(p->cert, sizeof p->cert, "%s/mesh/operator.crt", b->home);
    snprintf(p->key, sizeof p->key, "%s/mesh/operator.key", b->home);
    scratch_folder(p->dir);
    host_start(b, "store", NULL, &p->pid);
    struct gw_client *c = host_client(b, "store");
    must(gw_client_call(c, "status", NULL, PATIENCE_MS, &status, &why), &why, "status");
    snprintf(p->url, sizeof p->url, "%s", gw_map_str(&status, "url", ""));
    gw_value_free(&status);
    gw_client_close(c);
}

/* Content by content: put, get, and the same by curl under content of its own. */
static void one_round(struct place *p, uint64_t seed, struct samples s[4])
{
    char file[320], back[320], path[200], id[128];
    bool has_curl = process_exists("curl");
    snprintf(file, sizeof file, "%s/content", p->dir);
    snprintf(back, sizeof back, "%s/back", p->dir);
    for (int by_curl = 0; by_curl <= (has_curl ? 1 : 0); by_curl++) {
        make_file(file, (uint64_t)ARTIFACT_MIB << 20, seed * 2 + (uint64_t)by_curl);
        unlink(back);
        settle(p->dir);
        if (by_curl) {
            add_rate(&s[2], ARTIFACT_MIB, curl(p, "-T", file, "/v1/artifacts?name=content"));
            gw_value v = last_line(p->out);
            snprintf(path, sizeof path, "/v1/artifacts/%s/content", gw_map_str(&v, "artifact", ""));
            gw_value_free(&v);
            settle(p->dir);
            add_rate(&s[3], ARTIFACT_MIB, curl(p, "-o", back, path));
        } else {
            add_rate(&s[0], ARTIFACT_MIB, put(p, file, id, sizeof id));
            settle(p->dir);
            add_rate(&s[1], ARTIFACT_MIB, get(p, id, back));
        }
        must_equal(file, back);
    }
}

void case_artifacts(struct bench *b)
{
    static struct place p;
    struct samples s[4] = {0};
    open_store(&p, b);
    rss_peak_reset(p.pid);
    double before = rss_kb(p.pid);
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        one_round(&p, i, s);
    }
    report("artifact_put_mb_s", sample_at(&s[0], 0.5), "MB/s", -1, s[0].n, "curl, the same API",
           sample_at(&s[2], 0.5));
    report("artifact_get_mb_s", sample_at(&s[1], 0.5), "MB/s", -1, s[1].n, "curl, the same API",
           sample_at(&s[3], 0.5));
    report("artifact_rss_mb", (rss_peak_kb(p.pid) - before) / 1024, "MiB", -1, ROUNDS, NULL, 0);
    for (int i = 0; i < 4; i++) {
        sample_free(&s[i]);
    }
    host_stop(b, "store");
    remove_tree(p.dir);
}
