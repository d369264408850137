#include "host/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/setting.h"
#include "protocol/base/log.h"

/* Options that are no settings: they say how to start, not how to be. */
enum start_option {
    START_CONFIG = 1000,
    START_JOIN,
    START_DETACH,
    START_RESTORED,
    START_MOVED,
    START_JSON,
    START_QUIET,
    START_VERBOSE,
    START_NO_COLOR,
    START_HELP,
};
static const struct {
    enum start_option value;
    const char *name, *metavar, *help;
} start_options[] = {
    {START_CONFIG, "config", "FILE", "read settings from this file; options override its keys"},
    {START_JOIN, "join", "FILE|-", "join a mesh with the token in this file, or on standard input"},
    {START_DETACH, "detach", NULL, "come back when the host serves; it logs to hosts/NAME/log"},
    {START_RESTORED, "restored", NULL,
     "its store was put back to an older copy, and that is right"},
    {START_MOVED, "moved-machine", NULL,
     "its folder came from another machine, and it does not run there any more"},
    {START_JSON, "json", NULL, "say ready as JSON: name, host_id, url, pid"},
    {START_QUIET, "quiet", NULL, "the same as --log-level warn (-q)"},
    {START_VERBOSE, "verbose", NULL, "the same as --log-level debug (-v)"},
    {START_NO_COLOR, "no-color", NULL, "taken as with other commands; a host prints no colours"},
    {START_HELP, "help", NULL, "show this (-h)"},
};
#define START_COUNT (sizeof start_options / sizeof start_options[0])
#define OPTIONS_MAX 64

/* --- reading files --- */

/* Read at most `cap` bytes from a descriptor; one more is GW_ETOO_BIG. */
static gw_err read_all(int fd, const char *file, size_t cap, struct buf *ret, struct gw_error *why)
{
    for (;;) {
        if (!buf_reserve(ret, 4096)) {
            return gw_fail(why, GW_ENOMEM, "out of memory");
        }
        ssize_t n = read(fd, ret->data + ret->len, 4096);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return gw_fail(why, GW_EIO, "cannot read \"%s\": %s", file, strerror(errno));
        }
        if (n == 0) {
            return GW_OK;
        }
        ret->len += (size_t)n;
        if (ret->len > cap) {
            return gw_fail(why, GW_ETOO_BIG, "\"%s\" is larger than %zu bytes", file, cap);
        }
    }
}

static gw_err read_file(const char *file, size_t cap, struct buf *ret, struct gw_error *why)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        gw_err err = errno == ENOENT ? GW_ENOT_FOUND : errno == EACCES ? GW_EDENIED : GW_EIO;
        return gw_fail(why, err, "cannot open \"%s\": %s", file, strerror(errno));
    }
    gw_err err = read_all(fd, file, cap, ret, why);
    close(fd);
    return err;
}

/* --- options --- */

struct options {
    struct option
        longs[OPTIONS_MAX]; /* getopt_long's form; values: row of settings, or start_option */
};

static void build_options(struct options *o)
{
    size_t n = 0;
    memset(o, 0, sizeof *o);
    for (size_t i = 0; i < settings_count; i++) {
        o->longs[n++] = (struct option){settings[i].option, required_argument, NULL, (int)i};
    }
    for (size_t i = 0; i < START_COUNT && n < OPTIONS_MAX - 1; i++) {
        o->longs[n++] = (struct option){start_options[i].name,
                                        start_options[i].metavar ? required_argument : no_argument,
                                        NULL, (int)start_options[i].value};
    }
}
_Static_assert(START_COUNT < OPTIONS_MAX, "room for the terminating row");

static gw_err replace(char **member, const char *text, struct gw_error *why)
{
    char *copy = strdup(text);
    if (!copy) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    free(*member);
    *member = copy;
    return GW_OK;
}

static gw_err start_option(int value, const char *text, struct host_config *config,
                           struct gw_error *why)
{
    switch (value) {
    case START_CONFIG: return replace(&config->config, text, why);
    case START_JOIN: return replace(&config->join, text, why);
    case START_DETACH: config->detach = true; return GW_OK;
    case START_RESTORED: config->restored = true; return GW_OK;
    case START_MOVED: config->moved_machine = true; return GW_OK;
    case START_JSON: config->json = true; return GW_OK;
    case START_QUIET: config->log_level = LOG_WARN; return GW_OK;
    case START_VERBOSE: config->log_level = LOG_DEBUG; return GW_OK;
    case START_NO_COLOR: return GW_OK;
    case START_HELP: config->help = true; return GW_OK;
    default: return GW_EFAIL;
    }
}

static gw_err bad_option(int kind, char **argv, struct gw_error *why)
{
    const char *text = optind > 0 && argv[optind - 1] ? argv[optind - 1] : "?";
    gw_fail(why, GW_EARG,
            kind == ':' ? "option \"%.60s\" needs a value" : "unknown option \"%.60s\"", text);
    gw_hint(why, "godwit host --help lists the options");
    return GW_EARG;
}

/* Two passes over the same options: first what says how to start (the file among it), then, on top
 * of the file, the settings. */
static gw_err read_options(int argc, char **argv, bool settings_pass, struct host_config *config,
                           struct gw_error *why)
{
    struct options o;
    bool replaced[OPTIONS_MAX] = {false};
    build_options(&o);
    optind = 0; /* glibc: begin anew */
    opterr = 0;
    for (int value; (value = getopt_long(argc, argv, "+:hqv", o.longs, NULL)) != -1;) {
        if (value == ':' || value == '?') {
            return bad_option(value, argv, why);
        }
        value = value == 'h'   ? START_HELP
                : value == 'q' ? START_QUIET
                : value == 'v' ? START_VERBOSE
                               : value;
        if (value >= START_CONFIG) {
            /* What sets a setting (the level of the log) belongs on top of the file, like settings.
             */
            bool late = value == START_QUIET || value == START_VERBOSE;
            if (settings_pass == late) {
                GW_TRY(start_option(value, optarg, config, why));
            }
            continue;
        }
        if (!settings_pass) {
            continue;
        }
        const struct setting *s = &settings[value];
        if (!replaced[value]) {
            setting_clear(s, config); /* the options are the whole list */
            replaced[value] = true;
        }
        gw_err err = setting_set(s, config, optarg, why);
        if (err != GW_OK) {
            gw_prefix(why, "option \"--%s\"", s->option);
            return err;
        }
    }
    if (optind < argc) {
        gw_fail(why, GW_EARG, "unexpected argument \"%.60s\"", argv[optind]);
        gw_hint(why, "godwit host --help lists the options");
        return GW_EARG;
    }
    return GW_OK;
}

/* --- the whole --- */

static gw_err set_defaults(struct host_config *config, struct gw_error *why)
{
    for (size_t i = 0; i < settings_count; i++) {
        if (*settings[i].fallback) {
            GW_TRY(setting_set(&settings[i], config, settings[i].fallback, why));
        }
    }
    return GW_OK;
}

static gw_err load(int argc, char **argv, struct host_config *config, struct gw_error *why)
{
    GW_TRY(set_defaults(config, why));
    GW_TRY(read_options(argc, argv, false, config, why));
    if (config->help) {
        return GW_OK;
    }
    if (config->config) {
        GW_AUTO(buf_free) struct buf text = {0};
        gw_err err = read_file(config->config, LIMIT_CONFIG_BYTES, &text, why);
        if (err != GW_OK) {
            gw_prefix(why, "config file");
            return err;
        }
        GW_TRY(config_parse(buf_span(&text), config->config, config, why));
    }
    GW_TRY(read_options(argc, argv, true, config, why));
    if (!config->name) {
        gw_fail(why, GW_EARG, "the host has no name");
        gw_hint(why, "give --name N, or the key name in the config file");
        return GW_EARG;
    }
    return GW_OK;
}

gw_err config_load(int argc, char **argv, struct host_config *ret, struct gw_error *why)
{
    struct host_config config = {0};
    gw_err err = load(argc, argv, &config, why);
    if (err != GW_OK) {
        host_config_free(&config);
        return err;
    }
    *ret = config;
    return GW_OK;
}

void host_config_free(struct host_config *config)
{
    if (!config) {
        return;
    }
    for (size_t i = 0; i < settings_count; i++) {
        if (settings[i].kind == SETTING_STRING) {
            free_charp((char **)(void *)((char *)config + settings[i].offset));
        }
        setting_clear(&settings[i], config);
    }
    free(config->config);
    free(config->join);
    *config = (struct host_config){0};
}

gw_err config_join_token(const struct host_config *config, char **ret_token, struct gw_error *why)
{
    GW_AUTO(buf_free) struct buf text = {0};
    const char *from_env = getenv("GODWIT_JOIN_TOKEN");
    if (config->join && strcmp(config->join, "-") == 0) {
        GW_TRY(read_all(STDIN_FILENO, "standard input", LIMIT_TOKEN_BYTES, &text, why));
    } else if (config->join) {
        GW_TRY(read_file(config->join, LIMIT_TOKEN_BYTES, &text, why));
    } else if (from_env && *from_env) {
        buf_add(&text, from_env, strnlen(from_env, LIMIT_TOKEN_BYTES + 1));
    } else {
        *ret_token = NULL;
        return GW_OK;
    }
    buf_add(&text, "", 1);
    if (!buf_ok(&text)) {
        return gw_fail(why, GW_ENOMEM, "out of memory");
    }
    char *token = (char *)text.data, *end = token + text.len - 1;
    token += strspn(token, " \t\r\n");
    while (end > token && isspace((unsigned char)end[-1])) {
        end--;
    }
    *end = '\0';
    size_t n = strlen(token);
    if (n == 0 || token + n != end || strcspn(token, " \t\r\n") != n || n > LIMIT_TOKEN_BYTES) {
        gw_fail(why, GW_EARG, "%s holds no join token",
                !config->join                    ? "GODWIT_JOIN_TOKEN"
                : strcmp(config->join, "-") == 0 ? "standard input"
                                                 : config->join);
        gw_hint(why, "make one with: godwit mesh token (on a host that holds the key of the mesh)");
        return GW_EARG;
    }
    *ret_token = strdup(token);
    return *ret_token ? GW_OK : gw_fail(why, GW_ENOMEM, "out of memory");
}

static void help_line(FILE *out, const char *option, const char *metavar, const char *help)
{
    char left[80];
    snprintf(left, sizeof left, "--%s%s%s", option, metavar ? " " : "", metavar ? metavar : "");
    if (strlen(left) > 24) {
        fprintf(out, "  %s\n%-27s %s", left, "", help);
    } else {
        fprintf(out, "  %-25s %s", left, help);
    }
}

void config_help(FILE *out)
{
    fputs("usage: godwit host --name N [OPTION]...\n\n"
          "Run a host of the mesh. Settings, each also a key of the config file:\n",
          out);
    for (size_t i = 0; i < settings_count; i++) {
        const struct setting *s = &settings[i];
        help_line(out, s->option, s->metavar, s->help);
        if (s->kind == SETTING_LIST) {
            fprintf(out, " (repeatable)\n");
        } else if (*s->fallback) {
            fprintf(out, " [%s]\n", s->fallback);
        } else {
            fputs("\n", out);
        }
    }
    fputs("\nHow to start:\n", out);
    for (size_t i = 0; i < START_COUNT; i++) {
        help_line(out, start_options[i].name, start_options[i].metavar, start_options[i].help);
        fputs("\n", out);
    }
    fputs("\nFiles stand below $GODWIT_HOME (default ~/.godwit). A token may also come from\n"
          "$GODWIT_JOIN_TOKEN; it is never an argument, which other users could read.\n",
          out);
}
