/* Says numbered things to an agent as fast as it may: for tests of order and back-pressure.
 *
 *   flood HOST[,HOST…] AGENT METHOD WHO COUNT WINDOW [from N] [tell] [pad BYTES] [wait MS]
 *         [change N] [within SECONDS]
 *
 * Sends METHOD(who: WHO, n: N .. N + COUNT - 1; N is 1 if not said), each number under a key of its
 * own, with WINDOW of them on the way. A number that fails (host killed, no route) is said again
 * under its key until it is acknowledged, so a window of 1 keeps the order through everything.
 * Prints {acked, retried, busy, seconds, slowest_ms} and ends with 0 when all were acknowledged in
 * time. `pad`: so many bytes go along with each, as argument `pad`. `wait`: how long each may take
 * (20 s). Of several hosts the next one is used after each failure, and after N messages
 * (`change`). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <godwit/client.h>

struct said {
    gw_ticket ticket;
    long n;
    double begun;
};
struct flood {
    const char *host, *agent, *method, *who;
    long first, count, window, wait_ms;
    long change,
        since_change; /* acknowledged messages after which the next host is used; 0: none */
    const char *at;   /* the host in use, in the list */
    bool tell;
    char *pad; /* NULL: none */
    double until;
    struct gw_client *client;
    struct said *open;
    long next, acked, retried, busy;
    long *again; /* numbers that failed */
    size_t again_count;
    double slowest;
};

static long number(const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (*end || end == text || n < 0) {
        fprintf(stderr, "flood: \"%s\" is not a number\n", text);
        exit(2);
    }
    return n;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void pause_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static gw_err start(struct flood *f, struct said *s, struct gw_error *why)
{
    gw_value args = gw_nil(), inner = gw_nil();
    char key[96];
    snprintf(key, sizeof key, "%.40s-%ld", f->who, s->n);
    gw_err err = gw_map_set(&inner, "who", gw_str(f->who));
    err = err ? err : gw_map_set(&inner, "n", gw_int(s->n));
    err = err || !f->pad ? err : gw_map_set(&inner, "pad", gw_str(f->pad));
    err = err ? err : gw_map_set(&args, "args", inner);
    err = err ? err : gw_map_set(&args, "agent", gw_str(f->agent));
    err = err ? err : gw_map_set(&args, "method", gw_str(f->method));
    err = err ? err : gw_map_set(&args, "key", gw_str(key));
    err = err ? err : gw_map_set(&args, "timeout", gw_int(f->wait_ms));
    err = err || !f->tell ? err : gw_map_set(&args, "tell", gw_bool(true));
    s->begun = now();
    err = err ? err : gw_client_start(f->client, "send", &args, &s->ticket, why);
    gw_value_free(&args);
    return err;
}

/* The next host of the list, round and round. */
static void next_host(struct flood *f, char *ret, size_t cap)
{
    if (!f->at || !*f->at) {
        f->at = f->host;
    }
    size_t n = strcspn(f->at, ",");
    snprintf(ret, cap, "%.*s", (int)n, f->at);
    f->at += n + (f->at[n] == ',');
}

static bool has_choice(const struct flood *f)
{
    return strchr(f->host, ',') != NULL;
}

/* Everything that is open is said again, over a new connection. */
static void reconnect(struct flood *f)
{
    char host[256];
    struct gw_client_options o = {.host = host, .retry_ms = -1};
    next_host(f, host, sizeof host);
    f->since_change = 0;
    for (long i = 0; i < f->window; i++) {
        if (f->open[i].ticket) {
            f->again[f->again_count++] = f->open[i].n;
            f->open[i].ticket = 0;
        }
    }
    gw_client_close(f->client);
    f->client = NULL;
    while (gw_client_open(&o, &f->client, NULL) != GW_OK && now() < f->until) {
        pause_ms(20);
        next_host(f, host, sizeof host);
    }
}

static bool fill(struct flood *f)
{
    for (long i = 0; i < f->window; i++) {
        struct said *s = &f->open[i];
        struct gw_error why;
        if (s->ticket || (f->again_count == 0 && f->next >= f->first + f->count)) {
            continue;
        }
        s->n = f->again_count > 0 ? f->again[--f->again_count] : f->next++;
        if (start(f, s, &why) != GW_OK) {
            s->ticket = 0;
            f->again[f->again_count++] = s->n;
            return false;
        }
    }
    return true;
}

static void ended(struct flood *f, gw_ticket ticket, gw_err err, const struct gw_error *why)
{
    for (long i = 0; i < f->window; i++) {
        struct said *s = &f->open[i];
        if (s->ticket != ticket) {
            continue;
        }
        double took = now() - s->begun;
        f->slowest = took > f->slowest ? took : f->slowest;
        s->ticket = 0;
        if (err == GW_OK) {
            f->acked++;
            return;
        }
        if (f->retried++ < 5) {
            fprintf(stderr, "flood: %ld: %s: %s\n", s->n, gw_err_name(err), why->text);
        }
        f->busy += err == GW_EBUSY;
        f->again[f->again_count++] = s->n;
        pause_ms(20);
    }
}

static int run(struct flood *f)
{
    double begun = now();
    reconnect(f);
    while (f->client && f->acked < f->count && now() < f->until) {
        gw_ticket ticket = 0;
        struct gw_error why = {0};
        if (!fill(f)) {
            reconnect(f);
            continue;
        }
        gw_err err = gw_client_wait(f->client, &ticket, 1000, NULL, &why);
        if (ticket) {
            ended(f, ticket, err, &why);
            f->since_change += err == GW_OK;
            if (has_choice(f) && (err != GW_OK || (f->change && f->since_change >= f->change))) {
                reconnect(f);
            }
        } else if (err != GW_ETIMEOUT) {
            reconnect(f);
        }
    }
    printf("{\"acked\": %ld, \"retried\": %ld, \"busy\": %ld, \"seconds\": %.3f, "
           "\"slowest_ms\": %.0f}\n",
           f->acked, f->retried, f->busy, now() - begun, f->slowest * 1e3);
    return f->acked == f->count ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc < 7) {
        fprintf(stderr, "usage: flood HOST[,HOST...] AGENT METHOD WHO COUNT WINDOW [from N] [tell] "
                        "[pad BYTES] [wait MS] [change N] [within SECONDS]\n");
        return 2;
    }
    struct flood f = {.host = argv[1], .agent = argv[2], .method = argv[3], .who = argv[4]};
    f.count = number(argv[5]);
    f.window = number(argv[6]);
    f.until = now() + 60;
    f.first = 1;
    f.wait_ms = 20000;
    for (int i = 7; i < argc; i++) {
        if (strcmp(argv[i], "from") == 0 && i + 1 < argc) {
            f.first = number(argv[++i]);
        } else if (strcmp(argv[i], "wait") == 0 && i + 1 < argc) {
            f.wait_ms = number(argv[++i]);
        } else if (strcmp(argv[i], "change") == 0 && i + 1 < argc) {
            f.change = number(argv[++i]);
        } else if (strcmp(argv[i], "tell") == 0) {
            f.tell = true;
        } else if (strcmp(argv[i], "pad") == 0 && i + 1 < argc) {
            size_t n = (size_t)number(argv[++i]);
            f.pad = calloc(1, n + 1);
            memset(f.pad, 'p', n);
        } else if (strcmp(argv[i], "within") == 0 && i + 1 < argc) {
            f.until = now() + (double)number(argv[++i]);
        }
    }
    f.next = f.first;
    f.open = calloc((size_t)f.window, sizeof *f.open);
    f.again = calloc((size_t)f.count + (size_t)f.window, sizeof *f.again);
    int code = run(&f);
    gw_client_close(f.client);
    free(f.open);
    free(f.again);
    free(f.pad);
    return code;
}
