/* The rows of host/settings.def as a table, for the two files that fill a host_config from texts.
 */
#ifndef HOST_SETTING_H
#define HOST_SETTING_H

#include "host/config.h"

typedef enum setting_kind {
    SETTING_STRING,
    SETTING_LIST,
    SETTING_CHOICE,
    SETTING_COUNT,
    SETTING_SIZE,
} setting_kind;

struct setting {
    setting_kind kind;
    const char *key, *option, *metavar, *fallback;
    uint64_t least, most;
    gw_err (*check)(const char *text, struct gw_error *why);
    const char *help;
    size_t offset; /* of the member in struct host_config */
};
extern const struct setting settings[];
extern const size_t settings_count;

/* Set one setting from text; a LIST grows by one element (a doubled tag is dropped). GW_EARG says
 * what is wrong with the text, without the name of the setting. */
gw_err setting_set(const struct setting *s, struct host_config *config, const char *text,
                   struct gw_error *why) GW_MUST_USE;
/* Empty a LIST. */
void setting_clear(const struct setting *s, struct host_config *config);

#endif
