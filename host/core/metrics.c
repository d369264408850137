/* The table of metrics, and the operation that prints it. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

#ifndef GODWIT_VERSION
#define GODWIT_VERSION "0.1.0"
#endif

const int64_t histogram_bounds_us[HISTOGRAM_BOUNDS] = {
    10,    25,    50,     100,    250,    500,     1000,    2500,    5000,     10000,
    25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000,
};

const char *const message_outcome_names[MESSAGE_OUTCOMES] = {
    [MESSAGE_OK] = "ok", [MESSAGE_ERROR] = "error", [MESSAGE_CRASHED] = "crashed"};

uint64_t histogram_count(const struct histogram *h)
{
    uint64_t sum = 0;
    for (size_t i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        sum += h->counts[i];
    }
    return sum;
}

typedef enum metric_type { COUNTER, GAUGE, HISTOGRAM } metric_type;
static const char *const type_names[] = {"counter", "gauge", "histogram"};

struct out {
    struct node *n;
    struct node_sample sample;
    const struct row *row;
    struct buf *text;
};

struct row {
    const char *name;
    metric_type type;
    const char *help; /* no backslash, no line break */
    void (*write)(struct out *o);
};

/* ---- lines ---- */

static void plain(struct out *o, uint64_t v)
{
    buf_addf(o->text, "%s %llu\n", o->row->name, (unsigned long long)v);
}

/* Values of labels are names and words of ours: nothing in them needs an escape. */
static void labelled(struct out *o, const char *label, const char *is, uint64_t v)
{
    buf_addf(o->text, "%s{%s=\"%s\"} %llu\n", o->row->name, label, is, (unsigned long long)v);
}

static double seconds(uint64_t us)
{
    return (double)us / 1e6;
}

static void histogram(struct out *o, const struct histogram *h)
{
    const char *name = o->row->name;
    uint64_t below = 0;
    for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
        below += h->counts[i];
        buf_addf(o->text, "%s_bucket{le=\"%.6g\"} %llu\n", name,
                 seconds((uint64_t)histogram_bounds_us[i]), (unsigned long long)below);
    }
    below += h->counts[HISTOGRAM_BOUNDS];
    buf_addf(o->text, "%s_bucket{le=\"+Inf\"} %llu\n", name, (unsigned long long)below);
    buf_addf(o->text, "%s_sum %.6f\n", name, seconds(h->sum_us));
    buf_addf(o->text, "%s_count %llu\n", name, (unsigned long long)below);
}

/* ---- rows ---- */

static void write_info(struct out *o)
{
    buf_addf(o->text, "%s{host=\"%s\",version=\"%s\"} 1\n", o->row->name, o->n->name,
             GODWIT_VERSION);
}

static void write_uptime(struct out *o)
{
    int64_t us = o->n->env->mono_us(o->n->env->ctx) - o->n->started_us;
    buf_addf(o->text, "%s %.3f\n", o->row->name, seconds((uint64_t)us));
}

static void write_agents(struct out *o)
{
    for (const struct type *t = o->n->types; t; t = t->hh.next) {
        for (size_t s = 0; s < AGENT_STATUS_COUNT; s++) {
            if (t->counts[s] > 0 ||
                (s == AGENT_ACTIVE && t->runner)) { /* what is offered is there at 0 */
                buf_addf(o->text, "%s{status=\"%s\",type=\"%s\"} %zu\n", o->row->name,
                         agent_status_names[s], t->name, t->counts[s]);
            }
        }
    }
}

static void write_queued(struct out *o)
{
    uint64_t sum = 0;
    for (const struct type *t = o->n->types; t; t = t->hh.next) {
        const struct live *live;
        LIST_FOREACH (live, &t->lives, of_type) {
            sum += live->queued;
        }
    }
    plain(o, sum);
}

static void write_stuck(struct out *o)
{
    plain(o, stuck_count(o->n));
}

static void write_messages(struct out *o)
{
    for (size_t i = 0; i < MESSAGE_OUTCOMES; i++) {
        labelled(o, "outcome", message_outcome_names[i], o->n->metrics.messages[i]);
    }
}

static void write_expired(struct out *o)
{
    plain(o, o->n->metrics.expired);
}

static void write_dead(struct out *o)
{
    plain(o, o->n->dead_count);
}

static void write_handler(struct out *o)
{
    histogram(o, &o->n->metrics.handler);
}

static void write_message(struct out *o)
{
    histogram(o, &o->n->metrics.message);
}

static void write_commits(struct out *o)
{
    plain(o, histogram_count(&o->n->metrics.commit));
}

static void write_groups(struct out *o)
{
    plain(o, o->sample.store_groups);
}

static void write_rollbacks(struct out *o)
{
    plain(o, o->n->metrics.rollbacks);
}

static void write_waiting(struct out *o)
{
    plain(o, o->sample.store_waiting);
}

static void write_commit(struct out *o)
{
    histogram(o, &o->n->metrics.commit);
}

static void write_moves(struct out *o)
{
    labelled(o, "end", "out", o->n->moves_out_count);
    labelled(o, "end", "in", o->n->moves_in_count);
    labelled(o, "end", "aborted", o->n->moves_aborted_count);
}

static void write_moves_open(struct out *o)
{
    plain(o, node_moves_count(o->n));
}

static void write_move(struct out *o)
{
    histogram(o, &o->n->metrics.move);
}

static void write_links(struct out *o)
{
    uint64_t up = 0;
    for (const struct peer *p = o->n->peers; p; p = p->hh.next) {
        up += p->up && !p->self;
    }
    plain(o, up);
}

static void write_peers(struct out *o)
{
    uint64_t named = 0;
    for (const struct peer *p = o->n->peers; p; p = p->hh.next) {
        named += p->name[0] && !p->self;
    }
    plain(o, named);
}

static void write_runners(struct out *o)
{
    for (runner_state s = RUNNER_STARTING; s <= RUNNER_BROKEN; s++) {
        uint64_t count = 0;
        for (size_t i = 0; i < o->n->runner_count; i++) {
            count += o->n->runners[i].state == s;
        }
        labelled(o, "state", runner_state_name(s), count);
    }
}

static void write_restarts(struct out *o)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < o->n->runner_count; i++) {
        sum += o->n->runners[i].restarts;
    }
    plain(o, sum);
}

static void write_clients(struct out *o)
{
    plain(o, o->sample.client_links);
}

static void write_events(struct out *o)
{
    plain(o, o->n->metrics.events);
}

static void both_ways(struct out *o, const uint64_t v[2])
{
    labelled(o, "direction", "sent", v[0]);
    labelled(o, "direction", "received", v[1]);
}

static void write_transfers(struct out *o)
{
    both_ways(o, o->sample.file_transfers);
}

static void write_transfers_open(struct out *o)
{
    both_ways(o, o->sample.file_transfers_open);
}

static void write_files(struct out *o)
{
    both_ways(o, o->sample.files);
}

static void write_file_bytes(struct out *o)
{
    both_ways(o, o->sample.file_bytes);
}

static void write_rss(struct out *o)
{
    plain(o, o->sample.rss_bytes);
}

static void write_fetched_chunks(struct out *o)
{
    for (size_t i = 0; i < o->sample.fetched_count; i++) {
        labelled(o, "from", o->sample.fetched[i].host, o->sample.fetched[i].chunks);
    }
}

static void write_fetched_bytes(struct out *o)
{
    for (size_t i = 0; i < o->sample.fetched_count; i++) {
        labelled(o, "from", o->sample.fetched[i].host, o->sample.fetched[i].bytes);
    }
}

static void write_artifacts(struct out *o)
{
    plain(o, o->sample.artifacts.artifacts);
}

static void write_uploads(struct out *o)
{
    plain(o, o->sample.artifacts.uploads);
}

static void write_artifact_bytes(struct out *o)
{
    plain(o, o->sample.artifacts.bytes);
}

static void write_stored_bytes(struct out *o)
{
    plain(o, o->sample.artifacts.stored_bytes);
}

static void write_quota_bytes(struct out *o)
{
    plain(o, o->sample.artifacts.quota_bytes);
}

static void write_artifact_traffic(struct out *o)
{
    labelled(o, "direction", "received", o->sample.artifacts.received_bytes);
    labelled(o, "direction", "sent", o->sample.artifacts.sent_bytes);
}

static const struct row rows[] = {
    {"godwit_info", GAUGE, "Always 1; host and version as labels.", write_info},
    {"godwit_uptime_seconds", GAUGE, "Time since the host started.", write_uptime},
    {"godwit_agents", GAUGE, "Agents that live here, by status and type.", write_agents},
    {"godwit_mailbox_queued", GAUGE, "Messages and hooks that wait in mailboxes.", write_queued},
    {"godwit_handlers_stuck", GAUGE, "Handlers that run longer than the setting stuck_after.",
     write_stuck},
    {"godwit_messages_total", COUNTER, "Messages to agents that have ended here, by outcome.",
     write_messages},
    {"godwit_messages_expired_total", COUNTER,
     "Messages whose deadline passed before they began; they were not run.", write_expired},
    {"godwit_dead_letters", GAUGE, "Messages that were given up and wait for somebody to look.",
     write_dead},
    {"godwit_handler_seconds", HISTOGRAM, "Run of a handler or hook, there and back.",
     write_handler},
    {"godwit_message_seconds", HISTOGRAM, "A message, from its acceptance here to its answer.",
     write_message},
    {"godwit_store_commits_total", COUNTER, "Transactions that ended.", write_commits},
    {"godwit_store_groups_total", COUNTER, "Groups of transactions, one flush each.", write_groups},
    {"godwit_store_rollbacks_total", COUNTER, "Transactions that could not be written.",
     write_rollbacks},
    {"godwit_store_waiting", GAUGE, "Transactions and reads that the storage thread has not done.",
     write_waiting},
    {"godwit_store_commit_seconds", HISTOGRAM,
     "A transaction, from its submission until it is durable.", write_commit},
    {"godwit_moves_total", COUNTER,
     "Moves of agents that ended: out, in, or aborted at the source.", write_moves},
    {"godwit_moves_open", GAUGE, "Moves and clones under way, in and out.", write_moves_open},
    {"godwit_move_seconds", HISTOGRAM, "A move out, from its begin until the destination has it.",
     write_move},
    {"godwit_links_up", GAUGE, "Links to other hosts that are up.", write_links},
    {"godwit_peers", GAUGE, "Other hosts of the mesh that this one knows.", write_peers},
    {"godwit_runners", GAUGE, "Runners, by state.", write_runners},
    {"godwit_runner_restarts_total", COUNTER, "Ends of runners that were not asked to end.",
     write_restarts},
    {"godwit_client_links", GAUGE, "Links of clients that are open.", write_clients},
    {"godwit_events_total", COUNTER, "Events written.", write_events},
    {"godwit_file_transfers_total", COUNTER, "Copies of files with other hosts that have ended.",
     write_transfers},
    {"godwit_file_transfers_open", GAUGE, "Copies of files with other hosts under way.",
     write_transfers_open},
    {"godwit_files_total", COUNTER, "Files that were copied, those that were there already too.",
     write_files},
    {"godwit_file_bytes_total", COUNTER, "Content of files that crossed the wire.",
     write_file_bytes},
    {"godwit_fetch_chunks_total", COUNTER,
     "Chunks of artifacts that came from other hosts, by the host they came from.",
     write_fetched_chunks},
    {"godwit_fetch_bytes_total", COUNTER, "Bytes of these chunks.", write_fetched_bytes},
    {"godwit_artifacts", GAUGE, "Artifacts that are here.", write_artifacts},
    {"godwit_artifact_uploads", GAUGE, "Uploads that are not finished.", write_uploads},
    {"godwit_artifact_bytes", GAUGE, "Sizes of all artifacts together.", write_artifact_bytes},
    {"godwit_artifact_stored_bytes", GAUGE,
     "What they take on disk: each chunk once, unfinished uploads included.", write_stored_bytes},
    {"godwit_artifact_quota_bytes", GAUGE, "What they may take.", write_quota_bytes},
    {"godwit_artifact_traffic_bytes_total", COUNTER,
     "Contents of artifacts that clients have sent and got.", write_artifact_traffic},
    {"godwit_resident_bytes", GAUGE, "Resident memory of the host process, without its runners.",
     write_rss},
};

void metrics_render(struct node *n, struct buf *out)
{
    struct out o = {.n = n, .text = out};
    if (n->cfg.sample) {
        n->cfg.sample(n->env->ctx, &o.sample);
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        o.row = &rows[i];
        buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", o.row->name, o.row->help, o.row->name,
                 type_names[o.row->type]);
        o.row->write(&o);
    }
}

void op_metrics(struct node *n, struct op_call *call)
{
    GW_AUTO(buf_free) struct buf text = {0};
    gw_value result = gw_nil(), v = gw_nil();
    struct gw_error why;
    metrics_render(n, &text);
    gw_err err =
        buf_ok(&text) ? gw_value_set_str(&v, (const char *)text.data, text.len) : GW_ENOMEM;
    if (err == GW_OK) {
        err = gw_map_set(&result, "text", v);
    }
    if (err == GW_OK) {
        op_ok(call, &result);
        return;
    }
    gw_value_free(&result);
    gw_fail(&why, err, "the metrics could not be put together: %s", gw_err_text(err));
    op_fail(call, &why);
}
