/* Selectors: how a host is named wherever one is asked for.
 *     NAME | https://host:port | HOST_ID (32 characters) | any | all
 *     tag:a,!tag:b,property:K=V,!property:K=V      every term must hold
 * A NAME that is also `any` or `all` cannot exist. */
#ifndef PROTOCOL_SELECTOR_H
#define PROTOCOL_SELECTOR_H

#include "protocol/base/id.h"

typedef enum selector_kind {
    SELECT_NAME,
    SELECT_URL,
    SELECT_ID,
    SELECT_ANY,
    SELECT_ALL,
    SELECT_TERMS,
} selector_kind;

struct selector_term {
    bool negated;
    bool property;
    char key[65];    /* tag, or property name */
    char value[257]; /* property value */
};
#define SELECTOR_TERMS 16
struct selector {
    selector_kind kind;
    char text[257]; /* as given: name or URL */
    struct host_id id;
    struct selector_term terms[SELECTOR_TERMS];
    size_t term_count;
};
/* What a selector looks at. All is borrowed, any pointer may be NULL. Names, property names and
 * values compare as they are; tags, and URLs but for a trailing slash, without case. */
struct selector_host {
    const char *name;
    const struct host_id *id;
    const gw_strs *urls;
    const gw_strs *tags;
    const gw_strs *properties; /* "K=V" */
};
/* GW_EARG with a sentence and a caret for terms. */
gw_err selector_parse(const char *text, struct selector *ret, struct gw_error *why) GW_MUST_USE;
bool selector_matches(const struct selector *s, const struct selector_host *host);

#endif
