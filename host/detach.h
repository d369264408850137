/* `godwit host --detach`: the host goes on in the background, the starter waits until it serves.
 *
 *   starter ──fork──> middle (setsid, fork, _exit) ──> host: own session, no terminal, output to
 * its log └── waits for one word of the host: ready, or failed and why ──> its exit code
 *
 * Must be called before any thread, event base or library with a state exists. The host keeps the
 * current folder, so that relative paths of options still hold. Without detach_begin the same calls
 * speak on the standard streams of the process itself. */
#ifndef HOST_DETACH_H
#define HOST_DETACH_H

#include <godwit/err.h>
#include <stdbool.h>
#include <stdint.h>

/* All-zero: not detached. */
struct detach {
    bool on;        /* this process is the host in the background */
    bool starter;   /* this process has to call detach_wait and end */
    int fd;         /* between host and starter; -1 after the word */
    int64_t log_at; /* size of the log at the start, bytes */
    char log[1024]; /* its path */
};

/* How long a starter waits: a host with a large store recovers in seconds. */
#define DETACH_WAIT_MS 120000

/* Split. Returns twice with GW_OK: in the host (`on`) and in the starter (`starter`). Standard
 * input of the host is /dev/null, its output and errors are appended to `log_path` (made 0600).
 * Errors: GW_EDENIED, GW_EIO, GW_EDISK_FULL for the log; GW_EFAIL when there is no process. */
gw_err detach_begin(struct detach *d, const char *log_path, struct gw_error *why) GW_MUST_USE;

/* In the starter: wait for the host's word, print its ready line on standard output or its error on
 * standard error. A host that ends without a word is an error that shows the end of its log.
 * Returns the exit code of the starter: 0, that of the error, or 124 after `timeout_ms`. */
int detach_wait(struct detach *d, int64_t timeout_ms) GW_MUST_USE;

/* In the host, one of them, once. `line` holds no newline. */
void detach_ready(struct detach *d, const char *line);
/* Returns the exit code for `why`, so that main can `return detach_failed(&d, &why);`. */
int detach_failed(struct detach *d, const struct gw_error *why);

#endif
