/* Method signatures: "increment(by: int = 1) -> (count: int)".
 *
 * The string is the contract: argument and reply check, defaults, help, typing of key=value on a
 * command line, service contracts, the source of generated stubs. Grammar:
 *     signature = name "(" [ param { "," param } ] ")" [ "->" "(" [ param { "," param } ] ")" ]
 *     param     = name ":" type [ "=" literal ]         (defaults on arguments only, from the
 * right) type      = base [ range ] [ "?" ] | "[" type "]" | "{" type "}"      ("[..]" also takes
 * "?") base      = bool int uint float string bytes time duration any agent artifact range     =
 * "[" [lo] ".." [hi] "]"      int, uint, float: value; string, bytes: length literal   = JSON
 * scalar (number, true, false, null, "text"); durations and sizes as "5s", "64K" `duration` is an
 * int of milliseconds, text form 250ms 5s 2h. `agent` is an id. `?` = may be absent or nil. Order
 * of arguments does not matter on the wire: they are a map. `artifact` is the text of a hash, 1 to
 * 128 letters and digits, and perhaps `@` and the id or name of a host that has it. Lengths are in
 * bytes. A bare number as default of a duration is milliseconds, as on the wire; typed on a command
 * line it is seconds. */
#ifndef PROTOCOL_SIGNATURE_H
#define PROTOCOL_SIGNATURE_H

#include <godwit/types.h>

#include "protocol/base/buf.h"

struct signature;

/* Parse. On GW_ESIGNATURE `why->text` names the fault, and `why->hint` shows the text (or its part
 * around the fault) with a caret under the place, on two lines. */
gw_err signature_parse(const char *text, struct signature **ret, struct gw_error *why) GW_MUST_USE;
void signature_free(struct signature *sig); /* NULL allowed */
const char *signature_name(const struct signature *sig);
/* Canonical text: one space after commas and colons. Borrowed. */
const char *signature_text(const struct signature *sig);
/* Check arguments (a map or nil) in place: unknown names, missing ones, wrong types and ranges are
 * GW_EARG with a sentence that names the parameter, the type wanted and what came; defaults are
 * filled in; ints widen to float. When `text`, string values are converted as typed on a command
 * line (for a string parameter they stay as they are; bytes are base64; lists and maps are JSON, a
 * list also "a,b,c"; any is JSON when it parses). Texts of ids and times become ids and times in
 * either case: JSON has no other form for them. On failure args may be partly converted. */
gw_err signature_check_args(const struct signature *sig, gw_value *args, bool text,
                            struct gw_error *why) GW_MUST_USE;
/* Convert one argument that came as text among others that did not (a path or query part of a
 * request), before signature_check_args of them all with text = false. A name that is no argument
 * is left for that check. */
gw_err signature_text_arg(const struct signature *sig, const char *name, gw_value *arg,
                          struct gw_error *why) GW_MUST_USE;
/* Check a reply. A signature without "->" takes any reply. */
gw_err signature_check_reply(const struct signature *sig, const gw_value *reply,
                             struct gw_error *why) GW_MUST_USE;
/* {name, args:[{name,type,default?,optional?}], reply:[…] (absent without "->"), text} */
gw_err signature_describe(const struct signature *sig, gw_value *ret) GW_MUST_USE;

#endif
