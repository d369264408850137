/* A signature in the first line, JSON of arguments after it: the canonical text is a fixed point,
 * and arguments that pass pass again. */
#include <stdlib.h>
#include <string.h>

#include "protocol/json.h"
#include "protocol/signature.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check(const struct signature *sig, const gw_value *args, bool text)
{
    gw_value once = {0}, twice = {0};
    struct gw_error why = {0};
    must(gw_value_copy(args, &once) == GW_OK);
    if (signature_check_args(sig, &once, text, &why) == GW_OK) {
        must(gw_value_copy(&once, &twice) == GW_OK);
        must(signature_check_args(sig, &twice, false, &why) == GW_OK);
        must(gw_value_equal(&once, &twice));
        gw_value_free(&twice);
    } else {
        must(why.text[0]);
    }
    (void)!signature_check_reply(sig, args, &why);
    gw_value_free(&once);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
    size_t n = end ? (size_t)(end - data) : size;
    char *text = strndup((const char *)data, n);
    struct signature *sig = NULL, *again = NULL;
    struct gw_error why = {0};
    gw_value args = {0}, described = {0};
    must(text != NULL);
    if (signature_parse(text, &sig, &why)) {
        must(why.text[0]);
        free(text);
        return 0;
    }
    /* Canonical text has blanks that the source may lack, so that it can pass the length limit. */
    if (signature_parse(signature_text(sig), &again, NULL) == GW_OK) {
        must(strcmp(signature_text(again), signature_text(sig)) == 0);
    } else {
        must(strlen(signature_text(sig)) > 4096);
    }
    must(signature_describe(sig, &described) == GW_OK);
    if (end && json_parse((const char *)end + 1, size - n - 1, &args, NULL) == GW_OK) {
        check(sig, &args, false);
        check(sig, &args, true);
        gw_value_free(&args);
    }
    gw_value_free(&described);
    signature_free(sig);
    signature_free(again);
    free(text);
    return 0;
}
