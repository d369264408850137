/* Artifacts: up to a host and down again by the command over the unix socket, and by curl over TLS.
 * What goes up is on the disk at the end, and so is what the command gets, verified; beside them a
 * download by curl from nginx (TLS), which neither verifies nor waits for the disk. Every round has
 * content of its own: what a host has already would not be written again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/files.h"

#define ARTIFACT_MIB 256
#define ROUNDS       3

struct place {
    struct bench *b;
    struct file_peers peers;
    bool has_curl;
    char dir[280], from[300]; /* folders */
    char content[320], back[320], out[320];
    char cacert[320], cert[320], key[320];
    char url[80]; /* of the host */
    int pid;
};

struct rates {
    struct samples put, get, curl_put, curl_get, nginx;
};

static void add_rate(struct samples *s, double seconds)
{
    if (seconds > 0) {
        sample_add(s, ARTIFACT_MIB * MIB / 1e6 / seconds);
    }
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
    char peers[300];
    *p = (struct place){.b = b, .has_curl = process_exists("curl")};
    snprintf(p->dir, sizeof p->dir, "%s/artifacts", b->dir);
    snprintf(p->from, sizeof p->from, "%s/from", p->dir);
    snprintf(p->content, sizeof p->content, "%s/content", p->from);
    snprintf(p->back, sizeof p->back, "%s/back", p->dir);
    snprintf(p->out, sizeof p->out, "%s/out", p->dir);
    snprintf(p->cacert, sizeof p->cacert, "%s/mesh/ca.crt", b->home);
    snprintf(p->cert, sizeof p->cert, "%s/mesh/operator.crt", b->home);
    snprintf(p->key, sizeof p->key, "%s/mesh/operator.key", b->home);
    snprintf(peers, sizeof peers, "%s/peers", p->dir);
    scratch_folder(p->dir);
    make_folder(p->from);
    host_start(b, "store", NULL, &p->pid);
    host_url(b, "store", p->url, sizeof p->url);
    file_peers_open(&p->peers, peers, p->from, p->dir);
}

/* Content of its own where the peers serve it, nothing at the destination, a quiet disk. */
static void prepare(struct place *p, uint64_t seed)
{
    if (seed) {
        make_file(p->content, (uint64_t)ARTIFACT_MIB << 20, seed);
    }
    unlink(p->back);
    settle(p->dir);
}

static void by_command(struct place *p, uint64_t seed, struct rates *r)
{
    char id[128];
    prepare(p, seed);
    add_rate(&r->put, put(p, p->content, id, sizeof id));
    prepare(p, 0);
    add_rate(&r->get, get(p, id, p->back));
    must_equal(p->content, p->back);
}

static void by_curl(struct place *p, uint64_t seed, struct rates *r)
{
    char path[200];
    prepare(p, seed);
    add_rate(&r->curl_put, curl(p, "-T", p->content, "/v1/artifacts?name=content"));
    gw_value v = last_line(p->out);
    snprintf(path, sizeof path, "/v1/artifacts/%s/content", gw_map_str(&v, "artifact", ""));
    gw_value_free(&v);
    prepare(p, 0);
    add_rate(&r->curl_get, curl(p, "-o", p->back, path));
    must_equal(p->content, p->back);
    prepare(p, 0);
    add_rate(&r->nginx, peer_curl(&p->peers, "content", p->back));
}

void case_artifacts(struct bench *b)
{
    static struct place p;
    struct rates r = {0};
    open_store(&p, b);
    rss_peak_reset(p.pid);
    double before = rss_kb(p.pid);
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        by_command(&p, 200 + i, &r);
        if (p.has_curl) {
            by_curl(&p, 300 + i, &r);
        }
    }
    double nginx = sample_at(&r.nginx, 0.5);
    report("artifact_put_mb_s", sample_at(&r.put, 0.5), "MB/s", -1, r.put.n, NULL, 0);
    report("artifact_get_mb_s", sample_at(&r.get, 0.5), "MB/s", -1, r.get.n, "nginx, curl, TLS",
           nginx);
    if (p.has_curl) {
        report("artifact_put_mb_s_curl", sample_at(&r.curl_put, 0.5), "MB/s", -1, r.curl_put.n,
               NULL, 0);
        report("artifact_get_mb_s_curl", sample_at(&r.curl_get, 0.5), "MB/s", -1, r.curl_get.n,
               "nginx, curl, TLS", nginx);
    }
    report("artifact_rss_mb", (rss_peak_kb(p.pid) - before) / 1024, "MiB", -1, ROUNDS, NULL, 0);
    struct samples *all[] = {&r.put, &r.get, &r.curl_put, &r.curl_get, &r.nginx};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        sample_free(all[i]);
    }
    file_peers_close(&p.peers);
    host_stop(b, "store");
    remove_tree(p.dir);
}
