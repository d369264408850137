#include "clients/cli/copy_line.h"

#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "clients/cli/output.h"
#include "protocol/text.h"

#define RATE_S 3.0 /* over so long the rate is smoothed */

/* ---- what is known ---- */

static void take_path(struct copy_line *p, const char *path)
{
    GW_AUTO(buf_free) struct buf clean = {0};
    output_add_clean(path, &clean);
    if (!buf_ok(&clean)) {
        return; /* the one before stays */
    }
    size_t skip = clean.len >= sizeof p->path ? clean.len - sizeof p->path + 1 : 0;
    while (skip < clean.len && (clean.data[skip] & 0xc0) == 0x80) {
        skip++; /* not in the middle of a character */
    }
    memcpy(p->path, clean.data + skip, clean.len - skip);
    p->path[clean.len - skip] = '\0';
}

static void take_rate(struct copy_line *p, int64_t now_ms)
{
    double s = (double)(now_ms - p->rate_ms) / 1000;
    if (!p->begun) {
        p->begun = true;
    } else if (s < 0.05) {
        return; /* too short to measure: with the next one */
    } else {
        double rate = (double)(p->bytes - p->rate_bytes) / s;
        p->rate = p->rate > 0 ? p->rate + (rate - p->rate) * s / (s + RATE_S) : rate;
    }
    p->rate_ms = now_ms;
    p->rate_bytes = p->bytes;
}

void copy_line_take(struct copy_line *p, const gw_value *item, int64_t now_ms)
{
    p->files = gw_map_int(item, "files", p->files);
    p->files_total = gw_map_int(item, "files_total", p->files_total);
    p->bytes = gw_map_int(item, "bytes", p->bytes);
    p->bytes_total = gw_map_int(item, "bytes_total", p->bytes_total);
    p->sent_bytes = gw_map_int(item, "sent_bytes", p->sent_bytes);
    p->saved_bytes = gw_map_int(item, "saved_bytes", p->saved_bytes);
    const char *path = gw_map_str(item, "path", NULL);
    if (path) {
        take_path(p, path);
    }
    take_rate(p, now_ms);
}

/* ---- lines ---- */

static const char *bytes_text(int64_t bytes, char ret[TEXT_SHORT_SIZE])
{
    return text_from_bytes(bytes > 0 ? (uint64_t)bytes : 0, ret);
}

/* Columns of the character at p, and its bytes; 1 of each for what is none. */
static unsigned columns_of(const char *p, size_t *ret_bytes)
{
    wchar_t c;
    mbstate_t state = {0};
    size_t n = mbrtowc(&c, p, strlen(p), &state);
    int columns = n > 0 && n < (size_t)-2 ? wcwidth(c) : -1;
    *ret_bytes = n > 0 && n < (size_t)-2 ? n : 1;
    return columns < 0 ? 1 : (unsigned)columns;
}

static unsigned width_of(const char *text)
{
    unsigned sum = 0;
    for (size_t n; *text; text += n) {
        sum += columns_of(text, &n);
    }
    return sum;
}

/* The end of a path says most. */
static void add_path(const char *path, unsigned room, struct buf *out)
{
    unsigned width = width_of(path);
    size_t n;
    if (width > room) {
        if (room < 4) {
            return;
        }
        buf_addf(out, "...");
        while (width > room - 3) {
            width -= columns_of(path, &n);
            path += n;
        }
    }
    buf_addf(out, "%s", path);
}

/* Its parts are plain text of one column a byte, the path aside. */
void copy_line_add(const struct copy_line *p, unsigned width, struct buf *out)
{
    struct buf line = {0};
    char done[TEXT_SHORT_SIZE], all[TEXT_SHORT_SIZE], text[TEXT_SHORT_SIZE];
    bool counts = p->bytes_total > 0;
    int64_t of = counts ? p->bytes_total : p->files_total;
    int64_t is = counts ? p->bytes : p->files;
    is = is < of ? is : of;
    buf_addf(&line, "%3d%%  %s of %s", of > 0 ? (int)((double)is / (double)of * 100) : 0,
             bytes_text(p->bytes, done), bytes_text(p->bytes_total, all));
    if (p->rate >= 1) {
        double left_s = (double)(p->bytes_total - p->bytes) / p->rate;
        buf_addf(&line, "  %s/s", bytes_text((int64_t)p->rate, text));
        if (left_s >= 0 && left_s < 100 * 86400.0) {
            buf_addf(&line, "  %s left",
                     text_from_duration(((int64_t)left_s + (left_s > 0)) * 1000, text));
        }
    }
    if (p->saved_bytes > 0) {
        buf_addf(&line, "  saved %s", bytes_text(p->saved_bytes, text));
    }
    if (p->files_total > 1) {
        buf_addf(&line, "  %lld/%lld", (long long)p->files, (long long)p->files_total);
    }
    if (!buf_ok(&line)) {
        out->failed = true;
    } else if (line.len >= width) {
        buf_add(out, line.data, width);
    } else {
        buf_add(out, line.data, line.len);
        if (p->path[0] && line.len + 6 < width) {
            buf_addf(out, "  ");
            add_path(p->path, width - (unsigned)line.len - 2, out);
        }
    }
    buf_free(&line);
}

void copy_line_summary(const gw_value *done, bool dry_run, struct buf *out)
{
    char text[TEXT_SHORT_SIZE], time[TEXT_SHORT_SIZE], rate[TEXT_SHORT_SIZE];
    int64_t files = gw_map_int(done, "files", 0), bytes = gw_map_int(done, "bytes", 0);
    int64_t sent = gw_map_int(done, "sent_bytes", 0), saved = gw_map_int(done, "saved_bytes", 0);
    const gw_value *s = gw_map_get(done, "seconds");
    double seconds = s && s->kind == GW_FLOAT ? s->f : (double)gw_map_int(done, "seconds", 0);
    buf_addf(out, "%lld %s, %s", (long long)files, files == 1 ? "file" : "files",
             bytes_text(bytes, text));
    if (dry_run) {
        buf_addf(out, "; would send %s", bytes_text(sent, text));
    } else {
        buf_addf(out, " in %s", text_from_duration((int64_t)(seconds * 1000), time));
        if (seconds >= 0.001) {
            buf_addf(out, " (%s/s)", bytes_text((int64_t)((double)bytes / seconds), rate));
        }
        buf_addf(out, ", %s sent", bytes_text(sent, text));
    }
    if (saved > 0) {
        buf_addf(out, ", %s there already", bytes_text(saved, text));
    }
}

void copy_line_content(uint64_t bytes, uint64_t moved, double seconds, struct buf *out)
{
    char text[TEXT_SHORT_SIZE];
    buf_addf(out, "%s in ", text_from_bytes(bytes, text));
    buf_addf(out, "%s", text_from_duration((int64_t)(seconds * 1000), text));
    if (seconds >= 0.001 && moved > 0) {
        buf_addf(out, " (%s/s)", text_from_bytes((uint64_t)((double)moved / seconds), text));
    }
    if (moved < bytes) {
        buf_addf(out, ", %s there already", text_from_bytes(bytes - moved, text));
    }
}
