/* Built-in types: they run in the process of the host, by one more runner that cannot crash without
 * it. Their agents do not leave the host. Of most such types there is one agent under an alias that
 * everyone knows, the resident: made at start when it is missing, before the host is ready, and
 * neither copied nor disposed. It is no agent of the people who use the host, so counts and lists
 * leave it out unless it is asked for. */
#include "host/core/internal.h"

#include <stdlib.h>
#include <string.h>

const struct node_builtin *builtin_find(const struct node *n, const char *type)
{
    for (size_t i = 0; i < n->cfg.builtin_count; i++) {
        if (strcmp(n->cfg.builtins[i].type, type) == 0) {
            return &n->cfg.builtins[i];
        }
    }
    return NULL;
}

bool builtin_is_resident(const struct type *t)
{
    return t->builtin && t->builtin->alias;
}

gw_err builtin_check_travel(const struct node *n, const struct agent *a, struct gw_error *why)
{
    if (!a->type->builtin) {
        return GW_OK;
    }
    return gw_fail(why, GW_EREFUSED,
                   "agents of built-in type \"%s\" run in the host itself and do not leave \"%s\"",
                   a->type->name, n->name);
}

gw_err builtin_check_single(const struct node *n, const struct agent *a, struct gw_error *why)
{
    if (!builtin_is_resident(a->type)) {
        return GW_OK;
    }
    return gw_fail(
        why, GW_EREFUSED,
        "host \"%s\" keeps this agent of built-in type \"%s\" itself: it is neither copied "
        "nor disposed",
        n->name, a->type->name);
}

/* ---- residents ---- */

struct making {
    struct op_call call; /* first: the answer gives it back */
    LIST_ENTRY(making) link;
    struct node *n;
    const struct node_builtin *what;
};

static void making_free(struct making *m)
{
    LIST_REMOVE(m, link);
    gw_value_free(&m->call.args);
    free(m);
}

void builtins_free(struct node *n)
{
    while (!LIST_EMPTY(&n->makings)) {
        making_free(LIST_FIRST(&n->makings));
    }
}

static void made(struct op_call *call, gw_err err, gw_value *result, const struct gw_error *why)
{
    struct making *m = (struct making *)call;
    struct node *n = m->n;
    if (err != GW_OK) {
        log_error("builtin.missing", "type=%s %s", m->what->type,
                  why ? why->text : gw_err_text(err));
    } else {
        gw_value_free(result);
    }
    making_free(m);
    if (--n->boot_waits == 0 && !n->stopping) {
        node_boot_step(n);
    }
}

/* Whether it has to be made. */
static bool is_missing(struct node *n, const struct node_builtin *b)
{
    const struct alias *alias;
    HASH_FIND_STR(n->aliases, b->alias, alias);
    const struct agent *a = alias ? agent_find(n, &alias->agent) : NULL;
    if (a && a->type->builtin != b) {
        log_error("builtin.missing",
                  "type=%s its alias \"%s\" belongs to another agent; dispose that and start again",
                  b->type, b->alias);
    }
    return !alias;
}

static void make(struct node *n, const struct node_builtin *b)
{
    struct making *m = xcalloc(1, sizeof *m);
    m->n = n;
    m->what = b;
    LIST_INSERT_HEAD(&n->makings, m, link);
    m->call = (struct op_call){.op = op_find("create"), .role = ROLE_ADMIN, .answer = made};
    if (gw_map_set(&m->call.args, "type", gw_str(b->type)) != GW_OK ||
        gw_map_set(&m->call.args, "alias", gw_str(b->alias)) != GW_OK) {
        log_die("memory", "out of memory for the agents of the host itself");
    }
    create_here(n, &m->call);
}

bool builtins_boot(struct node *n)
{
    if (n->residents_made) {
        return false;
    }
    n->boot_waits = 1; /* answers that come at once do not end the boot */
    for (size_t i = 0; i < n->cfg.builtin_count; i++) {
        const struct node_builtin *b = &n->cfg.builtins[i];
        if (b->alias && is_missing(n, b)) {
            n->boot_waits++;
            make(n, b);
        }
    }
    n->residents_made = true;
    return --n->boot_waits > 0;
}
