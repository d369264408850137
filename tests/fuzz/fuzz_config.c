/* The config file reader: any bytes give a config or a sentence, never a leak or a crash. */
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "host/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct host_config config = {0};
    struct gw_error why = {0};
    gw_err err = config_parse((struct span){data, size}, "fuzz", &config, &why);
    if (err != GW_OK && (!why.text[0] || !memchr(why.text, '\0', sizeof why.text))) {
        abort(); /* a failure says why */
    }
    if (config.tags.len > LIMIT_TAGS || config.properties.len > LIMIT_PROPERTIES) {
        abort();
    }
    host_config_free(&config);
    return 0;
}
