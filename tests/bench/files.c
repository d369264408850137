/* Files between two hosts, by the command that people use: mutual TLS, verified, on the disk when
 * it ends. Beside them, in turns within the same run, rsync over its daemon (not encrypted) and a
 * download by curl from nginx (TLS, not verified); neither of the two waits for the disk.
 * LONG=1 in the environment adds 10 GiB for the memory of the hosts. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/files.h"

#define LARGE_MIB   1024
#define ROUNDS      3
#define SMALL_COUNT 10000
#define SMALL_BYTES 4096
#define FIVE_S      5000

struct world {
    struct bench *b;
    struct file_peers peers;
    char dir[280], from[300], to[300], peer_to[300]; /* folders */
    char large[320], inserted[320], small[320];      /* what is sent */
    char out[320];                                   /* what a command says */
    int source_pid, sink_pid;
    char source_url[80], sink_url[80];
};

/* ---- two hosts of its own: one of them is killed ---- */

static void start_source(struct world *w)
{
    const char *options[] = {"--root", w->dir, NULL};
    host_start_with(w->b, "source", options, &w->source_pid);
    host_url(w->b, "source", w->source_url, sizeof w->source_url);
}

/* The second time where it was. */
static void start_sink(struct world *w)
{
    char asker[300];
    snprintf(asker, sizeof asker, "%s/asker.so", w->b->plugins);
    const char *listen = w->sink_url[0] ? w->sink_url + strlen("https://") : "127.0.0.1:0";
    const char *options[] = {"--root",      w->dir,     "--plugin", asker, "--peer",
                             w->source_url, "--listen", listen,     NULL};
    host_start_with(w->b, "sink", options, &w->sink_pid);
    host_url(w->b, "sink", w->sink_url, sizeof w->sink_url);
    host_wait_linked(w->b, "source");
}

static void open_world(struct world *w, struct bench *b)
{
    *w = (struct world){.b = b};
    snprintf(w->dir, sizeof w->dir, "%s/files", b->dir);
    snprintf(w->from, sizeof w->from, "%s/from", w->dir);
    snprintf(w->to, sizeof w->to, "%s/to", w->dir);
    snprintf(w->peer_to, sizeof w->peer_to, "%s/peer_to", w->dir);
    snprintf(w->large, sizeof w->large, "%s/large", w->from);
    snprintf(w->inserted, sizeof w->inserted, "%s/inserted", w->from);
    snprintf(w->small, sizeof w->small, "%s/small", w->from);
    snprintf(w->out, sizeof w->out, "%s/out", w->dir);
    scratch_folder(w->dir);
    make_folder(w->from);
    make_folder(w->to);
    make_folder(w->peer_to);
    make_file(w->large, (uint64_t)LARGE_MIB << 20, 1);
    make_inserted(w->inserted, w->large);
    make_small_files(w->small, SMALL_COUNT, SMALL_BYTES);
    start_source(w);
    start_sink(w);
    char peers[300];
    snprintf(peers, sizeof peers, "%s/peers", w->dir);
    file_peers_open(&w->peers, peers, w->from, w->peer_to);
}

static void close_world(struct world *w)
{
    file_peers_close(&w->peers);
    host_stop(w->b, "source");
    host_stop(w->b, "sink");
    remove_tree(w->dir);
}

/* ---- one push ---- */

static void push_argv(struct world *w, const char *option, const char *from, char *to, char **argv)
{
    int n = 0;
    const char *const words[] = {w->b->program, "--json", "-H", "source", "files",
                                 "push",        option,   from, to,       NULL};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (words[i] || i + 1 == sizeof words / sizeof words[0]) {
            argv[n++] = (char *)words[i];
        }
    }
}

/* To `name` in the folder of the sink; seconds. ret: the command's JSON. */
static double push(struct world *w, const char *option, const char *from, const char *name,
                   gw_value *ret)
{
    char to[400], *argv[10];
    snprintf(to, sizeof to, "sink:%s/%s", w->to, name);
    push_argv(w, option, from, to, argv);
    double took = process_must(argv, w->out);
    gw_value_free(ret);
    *ret = last_line(w->out);
    return took;
}

static void clear_destinations(struct world *w)
{
    remove_tree(w->to);
    remove_tree(w->peer_to);
    make_folder(w->to);
    make_folder(w->peer_to);
    settle(w->dir);
}

static double share_pct(const gw_value *done)
{
    double bytes = (double)gw_map_int(done, "bytes", 0);
    return bytes > 0 ? 100 * (double)gw_map_int(done, "sent_bytes", 0) / bytes : 100;
}

static void add_rate(struct samples *s, double bytes, double seconds)
{
    if (seconds > 0) {
        sample_add(s, bytes / 1e6 / seconds);
    }
}

/* ---- file_push_mb_s: one large file ---- */

static void large_file(struct world *w)
{
    struct samples ours = {0}, rsync = {0}, synced = {0}, curl = {0}, again = {0}, sent = {0};
    const double bytes = LARGE_MIB * MIB;
    char to[400];
    gw_value done = gw_nil();
    rss_peak_reset(w->source_pid);
    rss_peak_reset(w->sink_pid);
    double before = rss_kb(w->source_pid), before_sink = rss_kb(w->sink_pid);
    for (int i = 0; i < ROUNDS; i++) {
        clear_destinations(w);
        double first = push(w, NULL, w->large, "large", &done);
        add_rate(&ours, bytes, first);
        snprintf(to, sizeof to, "%s/large", w->to);
        if (i == 0) {
            must_equal(w->large, to);
        }
        sample_add(&again, first / push(w, NULL, w->large, "large", &done));
        sample_add(&sent, share_pct(&done));
        clear_destinations(w);
        add_rate(&rsync, bytes, peer_rsync(&w->peers, "-Wt", w->large, "large"));
        clear_destinations(w);
        snprintf(to, sizeof to, "%s/curl", w->peer_to);
        add_rate(&curl, bytes, peer_curl(&w->peers, "large", to));
        clear_destinations(w);
        add_rate(&synced, bytes, peer_rsync_synced(&w->peers, w->large, "large"));
    }
    report("file_push_mb_s", sample_at(&ours, 0.5), "MB/s", -1, ours.n, "rsync -W",
           sample_at(&rsync, 0.5));
    report("file_push_mb_s_curl", sample_at(&ours, 0.5), "MB/s", -1, ours.n, "nginx, curl, TLS",
           sample_at(&curl, 0.5));
    report("file_push_mb_s_synced", sample_at(&ours, 0.5), "MB/s", -1, ours.n, "rsync -W --fsync",
           sample_at(&synced, 0.5));
    report("file_push_again_times", sample_at(&again, 0.5), "faster", -1, again.n, NULL, 0);
    report("file_push_again_sent_pct", sample_at(&sent, 0.5), "%", -1, sent.n, NULL, 0);
    report("file_push_rss_source_mb", (rss_peak_kb(w->source_pid) - before) / 1024, "MiB", -1,
           ours.n, NULL, 0);
    report("file_push_rss_sink_mb", (rss_peak_kb(w->sink_pid) - before_sink) / 1024, "MiB", -1,
           ours.n, NULL, 0);
    gw_value_free(&done);
    sample_free(&ours);
    sample_free(&rsync);
    sample_free(&synced);
    sample_free(&curl);
    sample_free(&again);
    sample_free(&sent);
}

/* ---- file_small_per_s: many small ones ---- */

static void small_files(struct world *w)
{
    struct samples ours = {0}, rsync = {0}, again = {0};
    gw_value done = gw_nil();
    char from[400];
    snprintf(from, sizeof from, "%s/", w->small);
    for (int i = 0; i < ROUNDS; i++) {
        clear_destinations(w);
        double first = push(w, "-r", w->small, "small", &done);
        sample_add(&ours, SMALL_COUNT / first);
        sample_add(&again, first / push(w, "-r", w->small, "", &done));
        clear_destinations(w);
        double took = peer_rsync(&w->peers, "-rt", from, "small");
        if (took > 0) {
            sample_add(&rsync, SMALL_COUNT / took);
        }
    }
    report("file_small_per_s", sample_at(&ours, 0.5), "1/s", -1, ours.n, "rsync",
           sample_at(&rsync, 0.5));
    report("file_small_again_times", sample_at(&again, 0.5), "faster", -1, again.n, NULL, 0);
    gw_value_free(&done);
    sample_free(&ours);
    sample_free(&rsync);
    sample_free(&again);
}

/* ---- file_delta: one byte more, one byte less ---- */

static void one_byte(struct world *w)
{
    struct samples ours = {0}, sent = {0}, rsync = {0};
    const double bytes = LARGE_MIB * MIB;
    gw_value done = gw_nil();
    clear_destinations(w);
    push(w, NULL, w->large, "one", &done);
    peer_rsync(&w->peers, "-Wt", w->large, "one");
    settle(w->dir);
    for (int i = 0; i < ROUNDS; i++) {
        const char *from = i % 2 ? w->large : w->inserted;
        add_rate(&ours, bytes, push(w, "--overwrite", from, "one", &done));
        sample_add(&sent, share_pct(&done));
        settle(w->dir);
        if (i == 0) {
            add_rate(&rsync, bytes, peer_rsync(&w->peers, "-t", from, "one"));
            settle(w->dir);
        }
    }
    report("file_delta_mb_s", sample_at(&ours, 0.5), "MB/s", -1, ours.n, "rsync -t",
           sample_at(&rsync, 0.5));
    report("file_delta_sent_pct", sample_at(&sent, 0.5), "%", -1, sent.n, NULL, 0);
    gw_value_free(&done);
    sample_free(&ours);
    sample_free(&sent);
    sample_free(&rsync);
}

/* ---- file_resume_overhead_pct: the destination is killed at half ---- */

/* What the source writes to the connection for one whole file; more than the file by what TLS and
 * records take. */
static double wire_bytes(struct world *w)
{
    gw_value done = gw_nil();
    clear_destinations(w);
    double before = written_bytes(w->source_pid);
    push(w, NULL, w->large, "whole", &done);
    gw_value_free(&done);
    return written_bytes(w->source_pid) - before;
}

static double interrupted_bytes(struct world *w)
{
    struct process p;
    char to[400], *argv[10];
    gw_value done = gw_nil();
    clear_destinations(w);
    double before = written_bytes(w->source_pid);
    snprintf(to, sizeof to, "sink:%s/cut", w->to);
    push_argv(w, NULL, w->large, to, argv);
    process_start(&p, argv, w->out);
    while (process_runs(&p) && folder_bytes(w->to) < ((uint64_t)LARGE_MIB << 20) / 2) {
        usleep(1000);
    }
    host_kill("sink");
    if (process_end(&p, NULL) == 0) {
        fputs("bench: the push ended before the destination was killed\n", stderr);
        exit(1);
    }
    start_sink(w);
    push(w, NULL, w->large, "cut", &done);
    gw_value_free(&done);
    return written_bytes(w->source_pid) - before;
}

static void resume(struct world *w)
{
    struct samples over = {0};
    double whole = wire_bytes(w);
    for (int i = 0; i < ROUNDS; i++) {
        sample_add(&over, 100 * (interrupted_bytes(w) - whole) / whole);
    }
    report("file_resume_overhead_pct", sample_at(&over, 0.5), "%", -1, over.n, NULL, 0);
    sample_free(&over);
}

/* ---- message_us_during_push ---- */

static void send_until(struct gw_client *c, const char *id, struct process *p, size_t most,
                       struct samples *s)
{
    struct gw_error why;
    gw_value r = gw_nil();
    while (s->n < most && (!p || process_runs(p))) {
        double began = now_us();
        must(gw_client_send(c, id, "echo", NULL, FIVE_S, &r, &why), &why, "echo");
        sample_add(s, now_us() - began);
    }
    gw_value_free(&r);
}

static void messages_meanwhile(struct world *w)
{
    struct samples alone = {0}, meanwhile = {0};
    struct process p;
    char id[GW_ID_TEXT], to[400], *argv[10];
    struct gw_client *source = host_client(w->b, "source"), *sink = host_client(w->b, "sink");
    make_agent(sink, "asker", id);
    send_until(source, id, NULL, 2000, &alone);
    for (int i = 0; i < ROUNDS; i++) {
        clear_destinations(w);
        snprintf(to, sizeof to, "sink:%s/busy", w->to);
        push_argv(w, NULL, w->large, to, argv);
        process_start(&p, argv, w->out);
        while (process_runs(&p) && folder_bytes(w->to) == 0) {
            usleep(1000);
        }
        send_until(source, id, &p, (size_t)-1, &meanwhile);
        if (process_end(&p, NULL) != 0) {
            fputs("bench: a push failed\n", stderr);
            exit(1);
        }
    }
    report("message_remote_us_idle", sample_at(&alone, 0.5), "us", sample_at(&alone, 0.99), alone.n,
           NULL, 0);
    report("message_remote_us_in_push", sample_at(&meanwhile, 0.5), "us",
           sample_at(&meanwhile, 0.99), meanwhile.n, NULL, 0);
    gw_client_close(source);
    gw_client_close(sink);
    sample_free(&alone);
    sample_free(&meanwhile);
}

/* ---- LONG=1: ten gibibytes in one file ---- */

static void memory(struct world *w)
{
    char huge[400];
    gw_value done = gw_nil();
    snprintf(huge, sizeof huge, "%s/huge", w->from);
    clear_destinations(w);
    make_file(huge, (uint64_t)10 << 30, 2);
    rss_peak_reset(w->source_pid);
    rss_peak_reset(w->sink_pid);
    double before = rss_kb(w->source_pid), before_sink = rss_kb(w->sink_pid);
    double took = push(w, NULL, huge, "huge", &done);
    report("file_push_10gib_mb_s", 10 * 1024 * MIB / 1e6 / took, "MB/s", -1, 1, NULL, 0);
    report("file_push_10gib_rss_source_mb", (rss_peak_kb(w->source_pid) - before) / 1024, "MiB", -1,
           1, NULL, 0);
    report("file_push_10gib_rss_sink_mb", (rss_peak_kb(w->sink_pid) - before_sink) / 1024, "MiB",
           -1, 1, NULL, 0);
    gw_value_free(&done);
    remove_tree(huge);
    clear_destinations(w);
}

void case_files(struct bench *b)
{
    static struct world w;
    open_world(&w, b);
    large_file(&w);
    small_files(&w);
    one_byte(&w);
    resume(&w);
    messages_meanwhile(&w);
    if (getenv("LONG")) {
        memory(&w);
    }
    close_world(&w);
}
