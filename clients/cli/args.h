/* Arguments of methods on the command line: key=value and key:=JSON. */
#ifndef CLIENTS_CLI_ARGS_H
#define CLIENTS_CLI_ARGS_H

#include <godwit/types.h>

/* One map from `n` words.
 *   key=value   the text as typed; the host types it by the signature of the method (ret_text)
 *   key:=JSON   the value itself
 *   ret         a map, empty for no words; the caller's
 *   ret_text    whether a key=value is among them
 * Errors: GW_EARG names the word: no "=", a key that is no name, given twice, JSON that does not
 * parse (line and column), text that is not UTF-8; GW_ETOO_BIG above LIMIT_ARGS_BYTES in all. */
gw_err args_parse(char *const *words, int n, gw_value *ret, bool *ret_text,
                  struct gw_error *why) GW_MUST_USE;

#endif
