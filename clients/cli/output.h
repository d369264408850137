/* What the commands print. Text of peers is cleaned of control characters before it reaches a
 * terminal; JSON carries it escaped. */
#ifndef CLIENTS_CLI_OUTPUT_H
#define CLIENTS_CLI_OUTPUT_H

#include "clients/cli/cli.h"
#include "protocol/base/buf.h"

/* One JSON object on one line of standard output. */
gw_err output_json(const gw_value *v, struct gw_error *why) GW_MUST_USE;
/* A result: JSON with --json, else as output_card. */
gw_err output_result(const struct cli *cli, const gw_value *v, struct gw_error *why) GW_MUST_USE;
/* For people: a map as "key: value" lines with aligned values, nested maps and lists below their
 * key, lists of like maps as tables; a scalar alone as its text; nil as nothing. */
gw_err output_card(const gw_value *v, struct gw_error *why) GW_MUST_USE;
/* The same without alignment, as replies of methods are shown. */
gw_err output_reply(const gw_value *v, struct gw_error *why) GW_MUST_USE;
/* Append the same to a buffer (tests). */
void output_add_block(const gw_value *v, unsigned indent, bool align, struct buf *out);

/* Append one value as text on one line: text cleaned, lists with commas, maps as JSON, times in
 * UTC. */
void output_add_text(const gw_value *v, struct buf *out);
/* Append cleaned text; line breaks become '?' too. */
void output_add_clean(const char *text, struct buf *out);
/* The same as an owned string, "" for nil and NULL. Without memory the process ends with code 1. */
char *output_text(const gw_value *v);

/* A remark on standard error, not with -q. */
void output_note(const struct cli *cli, const char *fmt, ...) GW_PRINTF(2, 3);
/* "godwit: text" and the hint on standard error, or the JSON form. */
void output_error(const struct cli *cli, gw_err err, const struct gw_error *why);
/* After Ctrl-C: only what is worth to know, the hint. */
void output_interrupted(const struct cli *cli, const struct gw_error *why);

#endif
