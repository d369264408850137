/* Selectors and the short texts beside them: durations, sizes, times, ids. */
#include <stdlib.h>
#include <string.h>

#include "protocol/selector.h"
#include "protocol/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void try_selector(const char *text)
{
    static char tag[] = "lab", property[] = "rack=7", url[] = "https://h:1";
    char *tags[] = {tag}, *properties[] = {property}, *urls[] = {url};
    const gw_strs tag_list = {tags, 1, 1}, property_list = {properties, 1, 1},
                  url_list = {urls, 1, 1};
    const struct host_id id = {{1}};
    struct selector s;
    struct gw_error why = {0};
    if (selector_parse(text, &s, &why)) {
        must(why.text[0]);
        return;
    }
    (void)selector_matches(
        &s, &(struct selector_host){"lab", &id, &url_list, &tag_list, &property_list});
    must(s.kind != SELECT_NAME || name_is_valid(s.text));
    must(s.term_count <= SELECTOR_TERMS);
}

static void try_texts(const char *text)
{
    int64_t ms;
    uint64_t bytes;
    gw_time t, back;
    gw_id id;
    char shown[TEXT_TIME_SIZE], id_text[GW_ID_TEXT];
    must(text_duration(text, &ms) || ms >= 0);
    (void)!text_size(text, &bytes);
    if (text_time(text, &t) == GW_OK && t.ms >= -62167219200000 && t.ms < 253402300800000) {
        must(text_time(text_from_time(t, shown), &back) == GW_OK && back.ms == t.ms);
    }
    if (gw_id_parse(text, &id) == GW_OK) {
        gw_id again;
        must(gw_id_parse(gw_id_text(&id, id_text), &again) == GW_OK && gw_id_equal(&id, &again));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = strndup((const char *)data, size);
    must(text != NULL);
    try_selector(text);
    try_texts(text);
    struct gw_error why = {0};
    text_caret(&why, text, size % (strlen(text) + 1));
    must(strchr(why.hint, '^') != NULL);
    text_clean(text);
    free(text);
    return 0;
}
