#include "clients/cli/copy_show.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define LINE_WIDTH 80 /* of a terminal that does not say */
#define SHOW_MS    50

int64_t copy_show_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void copy_show_wipe(struct copy_show *s)
{
    if (s->shown) {
        fprintf(stderr, "\r\x1b[K");
        s->shown = false;
    }
}

static void show_line(struct copy_show *s)
{
    GW_AUTO(buf_free) struct buf text = {0};
    struct winsize size;
    bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
    /* A full last column would make some terminals go to the next line. */
    copy_line_add(&s->line, known ? size.ws_col - 1u : LINE_WIDTH - 1u, &text);
    if (buf_ok(&text)) {
        fprintf(stderr, "\r%.*s\x1b[K", (int)text.len, (const char *)text.data);
        s->shown = true;
    }
}

static bool shows(const struct cli *cli)
{
    return cli->tty && !cli->quiet && !cli->json;
}

void copy_show_item(struct copy_show *s, const struct cli *cli, const gw_value *item)
{
    int64_t now = copy_show_now_ms();
    copy_line_take(&s->line, item, now);
    if (shows(cli) && now - s->shown_ms >= SHOW_MS) {
        s->shown_ms = now;
        show_line(s);
    }
}

void copy_show_bytes(struct copy_show *s, const struct cli *cli, uint64_t bytes, uint64_t total,
                     const char *name)
{
    GW_AUTO(gw_value_free) gw_value item = gw_nil();
    if (!shows(cli) || copy_show_now_ms() - s->shown_ms < SHOW_MS) {
        return;
    }
    if (gw_map_set(&item, "bytes", gw_uint(bytes)) == GW_OK &&
        gw_map_set(&item, "bytes_total", gw_uint(total)) == GW_OK &&
        gw_map_set(&item, "path", gw_str(name)) == GW_OK) {
        copy_show_item(s, cli, &item);
    }
}
