/* The composition root: the one file that sees host, runner and command line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "agents/builtin/builtin.h"
#include "agents/runner/runner.h"
#include "clients/cli/cli.h"
#include "host/config.h"
#include "host/host.h"
#include "host/paths.h"
#include "host/trust/trust.h"
#include "persistence/failpoint.h"
#include "protocol/base/log.h"

static int fail(const struct gw_error *why)
{
    struct detach none = {0};
    return detach_failed(&none, why);
}

/* Join a mesh by token before anything else is opened; the endpoint that answered becomes a peer.
 */
static gw_err join(struct host_config *c, const char *home, struct gw_error *why)
{
    char url[256];
    char *token = NULL;
    GW_TRY(config_join_token(c, &token, why));
    if (!token) {
        return GW_OK;
    }
    gw_err err = join_request(home, c->name, token, &c->tags, url, why);
    sodium_memzero(token, strlen(token));
    free(token);
    return err ? err : gw_strs_add(&c->peers, url);
}

/* The types that run in the host itself. */
static const struct host_builtin builtins[] = {
    {&builtin_server_info, {"server-info", "server-info"}},
};

static int run(const struct host_config *c, const char *home, struct detach *d)
{
    return host_run(c, home, d, builtins, sizeof builtins / sizeof builtins[0]);
}

static int host_main(int argc, char **argv)
{
    struct host_config c = {0};
    struct gw_error why;
    struct detach d = {0};
    char home[PATHS_MAX], dir[PATHS_MAX], log[PATHS_MAX + 8];
    if (config_load(argc, argv, &c, &why) != GW_OK) {
        return fail(&why);
    }
    if (c.help) {
        config_help(stdout);
        host_config_free(&c);
        return 0;
    }
    if (failpoint_open(getenv("GODWIT_FAIL"), &why) != GW_OK) {
        failpoint_list(stderr);
        host_config_free(&c);
        return fail(&why);
    }
    log_setup((log_level)c.log_level, c.log_format == 1);
    int code = 1;
    if (paths_home(home, &why) != GW_OK || join(&c, home, &why) != GW_OK) {
        code = fail(&why);
    } else if (!c.detach) {
        code = run(&c, home, &d);
    } else if (paths_host_dir(home, c.name, dir, &why) != GW_OK) {
        code = fail(&why);
    } else {
        snprintf(log, sizeof log, "%s/log", dir);
        if (detach_begin(&d, log, &why) != GW_OK) {
            code = fail(&why);
        } else {
            code = d.starter ? detach_wait(&d, DETACH_WAIT_MS) : run(&c, home, &d);
        }
    }
    host_config_free(&c);
    return code;
}

static const struct cli_command extra[] = {
    {.name = "host", .args = "[OPTION]...", .summary = "run a host of the mesh", .main = host_main},
    {.name = "runner",
     .args = "",
     .summary = "hold one plugin for a host",
     .main = runner_main,
     .hidden = true},
};

int main(int argc, char **argv)
{
    if (sodium_init() < 0) {
        fputs("godwit: libsodium cannot be initialised\n", stderr);
        return 1;
    }
    return cli_main(argc, argv, extra, sizeof extra / sizeof extra[0]);
}
