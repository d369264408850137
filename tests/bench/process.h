/* Programs that the bench runs: their time, the last line they print, and that none of them stays
 * behind. */
#ifndef TESTS_BENCH_PROCESS_H
#define TESTS_BENCH_PROCESS_H

#include <godwit/types.h>
#include <stdbool.h>

struct process {
    int pid;
    double began_us;
    char out[300]; /* file with its stdout */
};

/* argv[0] is looked for in PATH, argv ends with NULL. `out`: file for its stdout, NULL: dropped. It
 * is killed when the bench ends by itself. */
void process_start(struct process *p, char *const *argv, const char *out);
bool process_runs(struct process *p);
void process_signal(struct process *p, int sig);
/* Wait for its end: its exit code, 128 + n after a signal; *ret_s (NULL allowed) how long it ran.
 */
int process_end(struct process *p, double *ret_s);
/* Start and end; the bench fails when the program does. Returns how long it ran. */
double process_must(char *const *argv, const char *out);
/* Whether a program is in PATH. */
bool process_exists(const char *name);

/* The last line of a file as JSON; nil when it is none. */
gw_value last_line(const char *path);

#endif
