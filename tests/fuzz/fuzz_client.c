/* What a host may send to a client: the answer to the upgrade, then frames for open calls and a
 * stream. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clients/lib/session.h"
#include "clients/lib/upgrade.h"

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static bool on_item(void *arg, const gw_value *item)
{
    size_t *count = arg;
    must(item != NULL);
    return ++*count < 100;
}

/* Two ordinary calls and a stream, numbers 1 to 3. */
static void open_calls(struct session *s, size_t *items)
{
    struct call *call;
    must(session_start(s, "show", NULL, NULL, NULL, &call, NULL) == GW_OK);
    must(session_start(s, "send", NULL, NULL, NULL, &call, NULL) == GW_OK);
    must(session_start(s, "events", NULL, on_item, items, &call, NULL) == GW_OK);
}

static void take_frames(struct session *s)
{
    struct gw_error why = {0};
    gw_err err;
    do {
        while ((err = session_take_frame(s, &why)) == GW_OK) {
        }
        must(err == GW_EAGAIN || (err == GW_EPROTO && why.text[0]));
        if (err == GW_EPROTO) {
            session_lost(s, &why);
            must(TAILQ_EMPTY(&s->calls.open));
        }
    } while (err == GW_EAGAIN && conn_is_open(&s->conn) &&
             session_exchange(s, conn_deadline(0), NULL) == GW_OK);
}

/* The first byte says whether the upgrade comes first; the rest is what the host sends. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fds[2];
    if (size < 1 || size > 100000) { /* what a socket holds unread */
        return 0;
    }
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    must(write(fds[1], data + 1, size - 1) == (ssize_t)(size - 1));
    must(shutdown(fds[1], SHUT_WR) == 0);
    struct session s;
    struct gw_error why = {0};
    session_init(&s);
    s.retry_ms = -1;
    snprintf(s.target.text, sizeof s.target.text, "host \"fuzz\"");
    s.conn.fd = fds[0];
    s.conn.read_needs = 1;
    s.conn.write_needs = 4;
    gw_err err = data[0] & 1
                     ? upgrade_client(&s.conn, "fuzz", "token", &s.in, conn_deadline(0), &why)
                     : GW_OK;
    must(err == GW_OK || why.text[0]);
    if (err == GW_OK) {
        size_t items = 0;
        open_calls(&s, &items);
        take_frames(&s);
    }
    session_deinit(&s);
    close(fds[1]);
    return 0;
}
