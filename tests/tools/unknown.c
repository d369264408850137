/* Asks a host for agents that nobody has, WINDOW at a time over one connection.
 *
 *   unknown HOST COUNT WINDOW [same]
 *
 * `same`: always for the same one. Prints {asked, not_found, other, seconds}; ends with 0 when each
 * was answered "not found". */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <godwit/client.h>

#include "protocol/base/id.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static long number(const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (*end || end == text || n < 1) {
        fprintf(stderr, "unknown: \"%s\" is not a number\n", text);
        exit(2);
    }
    return n;
}

/* An id of the right form. */
static void make_id(long n, char ret[GW_ID_TEXT])
{
    gw_id id = {{0x01, 0x90}};
    for (size_t i = 0; i < sizeof n; i++) {
        id.b[sizeof id.b - 1 - i] = (uint8_t)((unsigned long)n >> (8 * i));
    }
    gw_id_text(&id, ret);
}

static gw_err ask(struct gw_client *client, long n, struct gw_error *why)
{
    char id[GW_ID_TEXT];
    gw_ticket ticket;
    gw_value args = gw_nil();
    make_id(n, id);
    gw_err err = gw_map_set(&args, "agent", gw_str(id));
    err = err ? err : gw_map_set(&args, "method", gw_str("get"));
    err = err ? err : gw_client_start(client, "send", &args, &ticket, why);
    gw_value_free(&args);
    return err;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: unknown HOST COUNT WINDOW [same]\n");
        return 2;
    }
    long count = number(argv[2]), window = number(argv[3]), asked = 0, not_found = 0, other = 0;
    bool same = argc > 4 && strcmp(argv[4], "same") == 0;
    struct gw_client_options o = {.host = argv[1], .retry_ms = -1};
    struct gw_client *client;
    struct gw_error why;
    double begun = now();
    if (gw_client_open(&o, &client, &why) != GW_OK) {
        fprintf(stderr, "unknown: %s\n", why.text);
        return 1;
    }
    while (not_found + other < count) {
        while (asked < count && asked - not_found - other < window) {
            if (ask(client, same ? 1 : asked + 1, &why) != GW_OK) {
                fprintf(stderr, "unknown: %s\n", why.text);
                return 1;
            }
            asked++;
        }
        gw_ticket ticket = 0;
        gw_err err = gw_client_wait(client, &ticket, 30000, NULL, &why);
        if (!ticket) {
            fprintf(stderr, "unknown: %s\n", why.text);
            return 1;
        }
        if (err == GW_EAGENT_NOT_FOUND) {
            not_found++;
        } else if (other++ == 0) {
            fprintf(stderr, "unknown: %s: %s\n", gw_err_name(err), why.text);
        }
    }
    printf("{\"asked\": %ld, \"not_found\": %ld, \"other\": %ld, \"seconds\": %.3f}\n", asked,
           not_found, other, now() - begun);
    gw_client_close(client);
    return other == 0 ? 0 : 1;
}
