/* What an operator sets: the rows of host/settings.def from a config file and the command line.
 *
 * The file (`--config F`) is YAML: a map of keys to texts, or lists of texts for the lists. Unknown
 * and doubled keys, aliases and second documents are errors. An option overrides the file's key;
 * the first option of a list replaces the whole list of the file. Start-up only, one thread. */
#ifndef HOST_CONFIG_H
#define HOST_CONFIG_H

#include <stdio.h>

#include <godwit/types.h>

#include "protocol/base/buf.h"
#include "protocol/limits.h"

#define SETTING_TYPE_STRING char *
#define SETTING_TYPE_LIST   gw_strs
#define SETTING_TYPE_CHOICE                                                                        \
    int /* place in the row's words: log_level as enum log_level, log_format 1 = json */
#define SETTING_TYPE_COUNT uint64_t
#define SETTING_TYPE_SIZE  uint64_t /* bytes */

/* All-zero is empty; owned texts. */
struct host_config {
#define SETTING(kind, key, ...) SETTING_TYPE_##kind key;
#include "host/settings.def"
#undef SETTING
    /* options only */
    char *config; /* --config FILE */
    char *join;   /* --join FILE|-; NULL = not asked */
    bool detach;
    bool restored;      /* --restored */
    bool moved_machine; /* --moved-machine */
    bool json;          /* the ready line as JSON */
    bool help;          /* print config_help and end; nothing else was checked */
};

/* Read options (argv[0] is skipped) and the config file that they name, fill in defaults, check
 * all. ret   all-zero before; on failure empty again Errors: GW_EARG names the option, or the file
 * and key; GW_ENOT_FOUND, GW_EDENIED, GW_EIO, GW_ETOO_BIG for the file. */
gw_err config_load(int argc, char **argv, struct host_config *ret,
                   struct gw_error *why) GW_MUST_USE;
void host_config_free(struct host_config *config); /* NULL allowed; leaves it empty */

/* Read the content of a config file into a config (keys that are absent stay). `file` names it in
 * errors. The content is hostile; at most LIMIT_CONFIG_BYTES. */
gw_err config_parse(struct span text, const char *file, struct host_config *config,
                    struct gw_error *why) GW_MUST_USE;

/* The join token that --join names (a file, or - for standard input), else that of
 * $GODWIT_JOIN_TOKEN. ret_token   owned, one line without white space around; NULL when none was
 * asked for */
gw_err config_join_token(const struct host_config *config, char **ret_token,
                         struct gw_error *why) GW_MUST_USE;

/* The text of `godwit host --help`. */
void config_help(FILE *out);

#endif
