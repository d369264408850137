/* Others that are measured in the same run (tests/bench/peers/). What is not installed stays 0, and
 * the lines of the table that would name it do without. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/bench/bench.h"

#define ERLANG "tests/bench/peers/erlang.sh"

static void take(struct peers *p, const char *line)
{
    const struct {
        const char *name;
        double *to;
    } rows[] = {
        {"spawn_per_s", &p->spawn_per_s},     {"local_ns", &p->local_ns},
        {"call_local_ns", &p->call_local_ns}, {"call_us", &p->call_us},
        {"call_per_s_64", &p->call_per_s_64}, {"move_us", &p->move_us},
        {"move_per_s_64", &p->move_per_s_64},
    };
    size_t len = strcspn(line, " ");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strlen(rows[i].name) == len && strncmp(line, rows[i].name, len) == 0) {
            *rows[i].to = strtod(line + len, NULL);
        }
    }
}

void peers_measure(struct peers *p)
{
    char line[256];
    int ends[2], status;
    if (access(ERLANG, X_OK) != 0 || pipe(ends) != 0) {
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], 1);
        close(ends[0]);
        close(ends[1]);
        execl(ERLANG, ERLANG, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    FILE *f = fdopen(ends[0], "r");
    while (f && fgets(line, sizeof line, f)) {
        take(p, line);
    }
    if (f) {
        fclose(f);
    }
    waitpid(pid, &status, 0);
    if (p->local_ns > 0) {
        printf(
            "erlang in this run: spawn %.0f/s, local round trip %.0f ns, gen_server:call %.0f ns; "
            "between nodes over TLS: call %.1f us, %.0f/s at 64, move %.1f us, %.0f/s at 64\n",
            p->spawn_per_s, p->local_ns, p->call_local_ns, p->call_us, p->call_per_s_64, p->move_us,
            p->move_per_s_64);
    }
}
