/* The doors to the operation table: HTTP requests and CALL frames become struct op_call. */
#ifndef HOST_API_H
#define HOST_API_H

#include "host/net/server.h"

/* Route and run one HTTP request (path parameters, query and JSON body together are the arguments;
 * text values of path and query are typed by the signature). Answers JSON, or msgpack on Accept:
 * application/msgpack; errors as {"error": {"code", "message", "hint"}} with the status of the
 * code. GET /v1 lists the table. 405 with Allow when the path takes other methods. A body comes as
 * application/json or application/msgpack, and what changes something is refused to pages of other
 * origins: a browser that holds an operator certificate must not be steered by them. */
void api_http(struct node *node, struct http_call *http);

/* Serve CALL and CANCEL frames of a client link, of a runner (role operator), or of a peer (role
 * peer). `kind` says whether a call may carry a context: peers and runners any, clients only {text:
 * true}, which has string arguments converted as typed on a command line. Each CALL on a stream is
 * answered by exactly one REPLY, also after CANCEL; a CALL on stream 0 by none. One api_link per
 * link; all its open calls are told on_gone when it is freed. `send` sends a frame on whatever
 * carries this link. */
struct api_link;
struct api_link *api_link_new(struct node *node, link_kind kind, api_role role,
                              void (*send)(void *arg, struct buf *frame), void *arg);
/* The authenticated host at the other end (borrowed for the life of the link): op_call.peer of its
 * calls. */
void api_link_set_peer(struct api_link *l, const struct host_id *peer);
void api_link_frame(struct api_link *l, const struct frame *frame); /* CALL, CANCEL */
/* Whether its open calls hold so many bytes that nothing more should be read from a client's link;
 * then on_room (with the arg of api_link_new) is called once when half of them are done. */
bool api_link_is_full(struct api_link *l, void (*on_room)(void *arg));
void api_link_free(struct api_link *l); /* NULL allowed */

#endif
