/* An agent that takes a large file along: until it is active at the other host, with the file in
 * its folder there. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/bench/files.h"

#define CARRIED_MIB 256
#define ROUNDS      3
#define PATIENCE_MS 60000

static void send_to(struct gw_client *c, const char *id, const char *method, gw_value *args,
                    gw_value *ret)
{
    struct gw_error why;
    struct gw_send_options o = {.args = args};
    must(gw_client_send(c, id, method, args ? &o : NULL, PATIENCE_MS, ret, &why), &why, method);
}

/* Seconds until the agent is active at the other host, its file with it. */
static double carry(struct gw_client *from, struct gw_client *to, const char *file)
{
    char id[GW_ID_TEXT];
    struct gw_error why;
    gw_value args = gw_nil(), r = gw_nil();
    make_agent(from, "carrier", id);
    must(gw_map_set(&args, "path", gw_str(file)), NULL, "args");
    send_to(from, id, "take", &args, &r);
    double began = now_us();
    must(gw_client_dispatch(from, id, "onto", NULL, PATIENCE_MS, &r, &why), &why, "dispatch");
    double took = (now_us() - began) / 1e6;
    send_to(to, id, "came", NULL, &r);
    if (gw_map_int(gw_map_get(&r, "reply"), "bytes", 0) != (int64_t)CARRIED_MIB << 20) {
        fputs("bench: the file was not there when its agent arrived\n", stderr);
        exit(1);
    }
    while (access(file, F_OK) == 0) {
        usleep(1000);
    }
    must(gw_client_dispose(to, id, PATIENCE_MS, &r, &why), &why, "dispose");
    gw_value_free(&args);
    gw_value_free(&r);
    return took;
}

void case_carry(struct bench *b)
{
    char dir[280], file[320], carrier[300], url[80];
    struct samples s = {0};
    int pid;
    snprintf(dir, sizeof dir, "%s/carry", b->dir);
    snprintf(file, sizeof file, "%s/load", dir);
    snprintf(carrier, sizeof carrier, "%s/carrier.so", b->plugins);
    scratch_folder(dir);
    const char *first[] = {"--root", dir, "--plugin", carrier, NULL};
    host_start_with(b, "from", first, &pid);
    host_url(b, "from", url, sizeof url);
    const char *second[] = {"--root", dir, "--plugin", carrier, "--peer", url, NULL};
    host_start_with(b, "onto", second, &pid);
    struct gw_client *from = host_client(b, "from"), *to = host_client(b, "onto");
    host_wait_linked(b, "from");
    for (uint64_t i = 0; i < ROUNDS; i++) {
        make_file(file, (uint64_t)CARRIED_MIB << 20, 100 + i);
        sample_add(&s, CARRIED_MIB * MIB / 1e6 / carry(from, to, file));
    }
    report("move_256mib_file_mb_s", sample_at(&s, 0.5), "MB/s", -1, s.n, NULL, 0);
    gw_client_close(from);
    gw_client_close(to);
    host_stop(b, "from");
    host_stop(b, "onto");
    remove_tree(dir);
    sample_free(&s);
}
