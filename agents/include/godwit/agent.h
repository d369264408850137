/* What the author of an agent writes against: one struct of state, a table of its fields, methods
 * with their signatures, hooks, and GW_AGENT to join them.
 *
 * Rules of a handler:
 * - An agent does one thing at a time; handlers of different agents of a plugin run in parallel, so
 *   static variables of a plugin need the author's own care.
 * - A handler is a transaction. When it returns GW_OK, the changed fields, the reply and everything
 *   recorded with the verbs below take effect together; with any other code none of it does, and
 * the tabled fields are as before.
 * - After a crash a handler may run again from its start: its blocking calls then get the answers
 * that were recorded the first time, as long as it makes them in the same order.
 * - `struct gw_call` and all texts borrowed from it are valid until the handler returns, and only
 * in the handler's thread.
 *
 * Build: cc -shared -fPIC -o counter.so counter.c */
#ifndef GODWIT_AGENT_H
#define GODWIT_AGENT_H

#include <godwit/err.h>
#include <godwit/field.h>
#include <godwit/types.h>

/* Raised whenever a structure of these headers changes; a plugin runs only where the number is
 * equal. */
#define GW_ABI 2

struct gw_call;

/* Methods, hooks and `run` share this form. */
typedef gw_err (*gw_handler)(struct gw_call *call);

/* The method changes nothing: it needs no commit, and may not dispatch, clone, tell or the like. */
#define GW_READ 1u

/* {signature, handler} is a whole row: what is left out is 0, and -Wextra need not tell. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
struct gw_method {
    const char
        *signature; /* "increment(by: int = 1) -> (count: int)"; the contract, checked for you */
    gw_handler handler;
    uint32_t flags; /* GW_READ or 0 */
};

/* How an agent sleeps. Who puts it to sleep decides; what he leaves open its on_deactivate decides,
 * then its type; else a message wakes it and nothing else does. */
#define GW_SLEEP_QUEUE    1u /* no message wakes it: one-way ones wait, others are told `inactive` */
#define GW_SLEEP_WAKE     2u /* a message wakes it, whatever on_deactivate or the type say */
#define GW_SLEEP_AT_START 4u /* wakes also when the host where it sleeps starts */
struct gw_sleep {
    int64_t wake_after_ms; /* wakes by itself when so much time has passed [1 .. 100 y]; 0: not */
    gw_time wake_at;       /* or when the clock of the host where it is shows this; ms 0: not */
    uint32_t flags;        /* GW_SLEEP_..., or 0 */
};

#define GW_NO_QUARANTINE UINT32_MAX

/* When the state is written to disk. In each class an answer leaves only when the messages before
 * it are as safe as their class says, whatever a handler does to others (tells, timers, wishes) is
 * durable before it takes effect, and an accepted one-way message or firing is handled once. */
typedef enum gw_durability {
    /* Before each reply leaves (default). */
    GW_EVERY_MESSAGE,
    /* At create, arrival, as a clone, when it falls asleep, at gw_save, at an orderly stop of the
     * host; and whenever something else of the agent is written: a handler that tells, sets timers
     * or wishes something, a one-way message or firing that was handled. In between state and
     * answers are in the memory of the host: the end of a runner loses nothing, the end of the host
     * what came after the last of these; a repeat of a lost request is then applied anew. */
    GW_TRANSITIONS,
    /* Once, when its life on a host begins: at create, arrival, as a clone. After the end of the
     * host it goes on from that state; `run` is not begun again. Sleep and moves keep the present
     * state. */
    GW_VOLATILE,
} gw_durability;

struct gw_type {
    uint32_t abi;        /* GW_ABI */
    uint32_t size;       /* sizeof(struct gw_type) */
    const char *name;    /* [A-Za-z0-9][A-Za-z0-9._-]*, at most 64 bytes */
    uint32_t version;    /* of the state, from 1; 0 counts as 1 */
    uint32_t state_size; /* bytes */
    const struct gw_field *fields;
    uint32_t field_count;
    const struct gw_method *methods;
    uint32_t method_count;
    gw_handler on_create;     /* once; the arguments of create are in the fields of those names */
    gw_handler on_dispatch;   /* before it leaves; failing keeps it here */
    gw_handler on_arrive;     /* on the new host */
    gw_handler on_clone;      /* in the copy, on its host */
    gw_handler on_retract;    /* instead of on_arrive, when it was called back to this host */
    gw_handler on_deactivate; /* before it goes to disk; failing keeps it awake, and who asked is
                                 told `refused` with the sentence */
    gw_handler on_activate;   /* back from disk */
    gw_handler on_dispose;    /* before its end; failing does not prevent it */
    gw_handler on_timer; /* a timer has fired: gw_timer_name; gw_arg_... is what was set with it */
    gw_handler on_down;  /* a monitor has fired: gw_down_ref, gw_down_agent, gw_down_reason */
    gw_handler run;      /* queued after create, arrive, clone, activate */
    /* A message that no method is there for: gw_method_name, gw_args_value; any reply. It answers
     * GW_ENOT_HANDLED to what it does not want. Without it such a message fails with
     * GW_EMETHOD_NOT_FOUND. */
    gw_handler on_message;
    /* Free members that are not in the table, whenever the struct leaves memory (tabled members are
     * freed for you). No gw_call: it may run at any time between handlers. */
    void (*on_unload)(void *state);
    /* Adapt a state just unpacked that was written by version `from` < .version; needed only when
     * the meaning of a field changes: renamed and added fields are seen to by the table. */
    gw_err (*upgrade)(void *state, uint32_t from);
    /* The oldest version of the type that understands a state that this one has written. 0: any,
     * or with .upgrade this version alone. An agent does not move to a host with an older one. */
    uint32_t oldest_reader;
    gw_durability durability;
    int64_t
        idle_timeout_ms; /* an agent that had nothing to do for so long falls asleep; 0: never */
    uint32_t sleep;      /* GW_SLEEP_...: how agents of this type sleep, where nobody else says */
    /* An agent whose handlers end their runner so often within that time is quarantined: it keeps
     * its last committed state and runs no more until `godwit activate` [1 .. 100]; 0: 10;
     * GW_NO_QUARANTINE: never. A type that gives a number has failing hooks counted, too. */
    uint32_t quarantine_after;
    int64_t quarantine_within_ms; /* 0: ten minutes */
};

#define GW_FIELDS(table)  .fields = (table), .field_count = sizeof(table) / sizeof((table)[0])
#define GW_METHODS(table) .methods = (table), .method_count = sizeof(table) / sizeof((table)[0])

/* Define an agent type; a plugin may hold several. The type is `gw_agent_<ident>`, static. */
#define GW_AGENT(ident, T, ...)                                                                    \
    static const struct gw_type gw_agent_##ident = {.abi = GW_ABI,                                 \
                                                    .size = sizeof(struct gw_type),                \
                                                    .name = #ident,                                \
                                                    .state_size = sizeof(T),                       \
                                                    __VA_ARGS__};                                  \
    static const struct gw_type *const gw_agent_entry_##ident                                      \
        __attribute__((used, section("gw_types"))) = &gw_agent_##ident

/* --- the call at hand --- */

/* The agent's struct: zero at create (apart from the arguments of create), kept between handlers.
 */
GW_API void *gw_state(struct gw_call *call);
GW_API gw_id gw_self(const struct gw_call *call);
GW_API const char *gw_type_name(const struct gw_call *call);
GW_API const char *gw_method_name(const struct gw_call *call); /* "" in a hook */
GW_API const char *gw_timer_name(const struct gw_call *call);  /* "" outside on_timer */
GW_API uint64_t gw_epoch(const struct gw_call *call);          /* +1 with each move */
GW_API const char *gw_host_name(struct gw_call *call);         /* where it runs now */
GW_API const char *gw_host_id(struct gw_call *call);           /* 32 characters */
GW_API const char *gw_home(struct gw_call *call); /* name or id of the host where it was created */
GW_API const char *
gw_from(struct gw_call *call); /* on_arrive, on_retract: the host it came from; else "" */
GW_API const char *gw_reason(struct gw_call *call); /* why this hook runs, for people; may be "" */
GW_API gw_id gw_sender(struct gw_call *call);       /* the asking agent; nil for people and tools */
GW_API gw_time gw_now(struct gw_call *call);

/* How long the caller still waits, in milliseconds: 0 = it has given up, GW_NO_DEADLINE = it set no
 * limit, and in hooks. A message whose deadline passes before its turn is not run at all; one that
 * has begun may look here how much is worth doing. */
#define GW_NO_DEADLINE INT64_MAX
GW_API int64_t gw_deadline_left_ms(struct gw_call *call);
/* This handler in the trace of the request that caused it, as the header `traceparent` of W3C Trace
 * Context (https://www.w3.org/TR/trace-context-1/): to be given to other systems that it calls.
 * What it asks and tells other agents is part of the trace without that. Borrowed. */
GW_API const char *gw_trace(struct gw_call *call);

/* --- arguments: checked against the signature before the handler runs, defaults filled in ---
 * An argument that may be absent (`T?`) and is gives 0, false, "" or nil. Asking for a name that
 * the signature does not have, or for another type, is a bug of the handler: it fails with GW_EARG
 * and a sentence, whatever the handler returns. Texts and values are borrowed. */
GW_API bool gw_has_arg(struct gw_call *call, const char *name); /* there and not nil */
GW_API int64_t gw_arg_int(struct gw_call *call, const char *name);
GW_API uint64_t gw_arg_uint(struct gw_call *call, const char *name);
GW_API bool gw_arg_bool(struct gw_call *call, const char *name);
GW_API double gw_arg_float(struct gw_call *call, const char *name);
GW_API const char *gw_arg_str(struct gw_call *call, const char *name);
GW_API const uint8_t *gw_arg_bytes(struct gw_call *call, const char *name, size_t *ret_len);
GW_API gw_id gw_arg_id(struct gw_call *call, const char *name);
GW_API gw_time gw_arg_time(struct gw_call *call, const char *name);
GW_API const gw_value *gw_arg_value(struct gw_call *call, const char *name); /* NULL: absent */
/* All of them: a map or nil. In on_message as they came, from a command line as texts. */
GW_API const gw_value *gw_args_value(struct gw_call *call);

/* --- the reply: named members, checked against the signature when the handler returns --- */
GW_API gw_err gw_reply_int(struct gw_call *call, const char *name, int64_t v) GW_MUST_USE;
GW_API gw_err gw_reply_uint(struct gw_call *call, const char *name, uint64_t v) GW_MUST_USE;
GW_API gw_err gw_reply_bool(struct gw_call *call, const char *name, bool v) GW_MUST_USE;
GW_API gw_err gw_reply_float(struct gw_call *call, const char *name, double v) GW_MUST_USE;
GW_API gw_err gw_reply_str(struct gw_call *call, const char *name, const char *v) GW_MUST_USE;
GW_API gw_err gw_reply_strs(struct gw_call *call, const char *name, const gw_strs *v) GW_MUST_USE;
GW_API gw_err gw_reply_bytes(struct gw_call *call, const char *name, const void *data,
                             size_t len) GW_MUST_USE;
GW_API gw_err gw_reply_id(struct gw_call *call, const char *name, gw_id v) GW_MUST_USE;
GW_API gw_err gw_reply_time(struct gw_call *call, const char *name, gw_time v) GW_MUST_USE;
/* Takes ownership of `v` whatever happens. */
GW_API gw_err gw_reply_value(struct gw_call *call, const char *name, gw_value v) GW_MUST_USE;

/* --- reply later: this handler ends without a reply, another one of this agent answers ---
 * The token stands for the caller; keep it in the state (a gw_id). It is as durable as the state:
 * the answer may come after sleep, a move, or a crash of the host, and the caller waits until then,
 * or until its own time-out. An open call is kept for 24 hours, at most 512 an agent (the handler
 * fails with GW_EBUSY); its answer then for 24 hours, for a caller that has to ask again. A token
 * belongs to the agent: a clone has none.
 * In a method that was told, not asked, the token is nil, and an answer to nil goes nowhere. */
GW_API gw_err gw_reply_later(struct gw_call *call, gw_id *ret_token) GW_MUST_USE;
/* Recorded: the answer leaves when this handler returns GW_OK. Takes ownership of `reply` (a map or
 * nil; not checked against a signature). Exactly one answer: a second one fails the handler with
 * GW_ECONFLICT. A token that is not known (any more) is no failure, but an event `answer.lost`.
 * Not in on_dispatch and on_dispose (GW_ENOT_SUPPORTED). */
GW_API gw_err gw_answer(struct gw_call *call, gw_id token, gw_value reply) GW_MUST_USE;
/* The same, with a failure and its sentence. GW_EARG: `code` is none. */
GW_API gw_err gw_answer_fail(struct gw_call *call, gw_id token, gw_err code, const char *fmt, ...)
    GW_PRINTF(4, 5) GW_MUST_USE;

/* Say why the handler fails; returns `code`:  return gw_call_fail(call, GW_EARG, "no stop left");
 */
GW_API gw_err gw_call_fail(struct gw_call *call, gw_err code, const char *fmt, ...) GW_PRINTF(3, 4);
/* Where that sentence is kept, for functions with a `struct gw_error *why`. Never NULL. */
GW_API struct gw_error *gw_call_why(struct gw_call *call);

typedef enum gw_log_level { GW_LOG_DEBUG, GW_LOG_INFO, GW_LOG_WARN, GW_LOG_ERROR } gw_log_level;
/* A line for `godwit logs`, at most 1,023 bytes; leaves at once, also when the handler fails later.
 */
GW_API void gw_log(struct gw_call *call, gw_log_level level, const char *fmt, ...) GW_PRINTF(3, 4);

/* --- recorded: take effect when the handler returns GW_OK ---
 * GW_EREFUSED in a GW_READ method; GW_ETOO_BIG when all recorded together exceed 4 MiB. A handler
 * decides once where its agent goes: a second of dispatch, deactivate, dispose is GW_ECONFLICT. */

/* Move this agent to the host(s) that the selector names. When that turns out not to be possible,
 * the method `on_dispatch_failed(to: string, code: string, text: string)` is called, if the type
 * has it. */
GW_API gw_err gw_dispatch(struct gw_call *call, const char *selector) GW_MUST_USE;
/* Copy this agent to a host (NULL: here); on_clone runs in the copy. */
GW_API gw_err gw_clone(struct gw_call *call, const char *selector) GW_MUST_USE;
/* Put this agent to sleep on disk; the next message wakes it. */
GW_API gw_err gw_deactivate(struct gw_call *call) GW_MUST_USE;
/* The same, and how it sleeps. In on_deactivate: only how, for what the one who asked left open. */
GW_API gw_err gw_deactivate_with(struct gw_call *call, const struct gw_sleep *sleep) GW_MUST_USE;
GW_API gw_err gw_dispose(struct gw_call *call) GW_MUST_USE;
/* What is done when a stop cannot be reached (no such host, no link, no such type there...). */
typedef enum gw_stop_policy {
    GW_STOP_RETRY, /* try again after 1 s, 2 s, 4 s... as often as `retries` says, then skip it */
    GW_STOP_SKIP,
    GW_STOP_WAIT, /* try for ever, each 30 s at least, until the itinerary is cancelled */
} gw_stop_policy;
struct gw_stop {
    const char *to;     /* selector; a stop that is this very host is seen to without a journey */
    const char *method; /* runs there, once; NULL: only on_arrive */
    gw_value args;      /* of it: a map or nil, at most 4 KiB packed */
    gw_stop_policy policy;
    uint32_t retries; /* of GW_STOP_RETRY; 0 counts as 3 */
};
#define GW_STAY 1u /* do not go home after the last stop */
/* Send this agent round 1 to 256 hosts; then it goes home, waiting for it if need be. The list is
 * part of the agent, with the replies of the methods (4 KiB each): `godwit show` has it, and when
 * all is over the method on_itinerary_done(stops: any) is called, if the type has it, with a list
 * of {to, state: done|skipped|failed, host, reply, code, text}. Takes the place of an itinerary
 * that is not over. A move that somebody else orders does not end it; it rests while the agent
 * sleeps. Owns all `args` whatever happens. flags: GW_STAY or 0. */
GW_API gw_err gw_itinerary(struct gw_call *call, const struct gw_stop *stops, size_t count,
                           uint32_t flags) GW_MUST_USE;
/* End it here; what is done stays to be seen. GW_OK also when there is none. */
GW_API gw_err gw_itinerary_cancel(struct gw_call *call) GW_MUST_USE;
/* Send a message without waiting for an answer. Takes ownership of `args` (a map or nil). */
GW_API gw_err gw_tell(struct gw_call *call, gw_id agent, const char *method,
                      gw_value args) GW_MUST_USE;

/* How a message is sent, beyond to whom and what; all-zero is the usual way. */
struct gw_message_options {
    /* 1 to 9, 0 = normal (5): what waits at the other agent runs in this order, 9 first, and within
     * one priority in the order in which it came. */
    int priority;
    /* Not begun there after so many milliseconds from now; 0 = none. An ask then ends with
     * GW_ETIMEOUT, a tell is dropped with an event (message.expired). */
    int64_t deadline_ms;
    bool
        no_wake; /* not for a sleeping agent: an ask ends with GW_EINACTIVE, a tell with an event */
};
/* As gw_tell; GW_EARG when an option is out of its range. NULL = the usual way. */
GW_API gw_err gw_tell_with(struct gw_call *call, gw_id agent, const char *method, gw_value args,
                           const struct gw_message_options *options) GW_MUST_USE;

/* --- topics: recorded as well ---
 * A subscription is durable, travels with the agent and ends with it; a clone has none. Each
 * publication reaches each subscriber once, as a one-way message in the order of its publisher:
 * the method that the publisher names, "on_topic" by default (or on_message); gw_topic says of
 * which topic. At most 64 topics an agent, 65,536 subscriptions that a host knows (the handler
 * fails with GW_EBUSY). Not in on_dispatch and on_dispose (GW_ENOT_SUPPORTED). */
typedef enum gw_scope {
    GW_SCOPE_HOST, /* what is published on the host where the agent then is */
    GW_SCOPE_MESH, /* what is published anywhere; other hosts hear of it a moment later */
} gw_scope;
/* Again: its scope is set anew. */
GW_API gw_err gw_subscribe(struct gw_call *call, const char *topic, gw_scope scope) GW_MUST_USE;
GW_API gw_err gw_unsubscribe(struct gw_call *call, const char *topic) GW_MUST_USE;
/* To all that are subscribed when this handler is committed. Takes ownership of `args` (a map or
 * nil); method NULL = "on_topic". GW_ETOO_BIG: more than 64 MiB for all of them together. */
GW_API gw_err gw_publish(struct gw_call *call, const char *topic, const char *method,
                         gw_value args) GW_MUST_USE;
GW_API const char *gw_topic(struct gw_call *call); /* of the message at hand; "" = none */
/* Ask another agent from a type that runs in the host itself, where no handler may wait. When the
 * answer has come, the method `then` of this agent runs as one more message. Of these arguments it
 * gets those that its signature names:
 *     reply: {any}?    what was answered; absent when the ask failed
 *     code: string?    name of the failure; absent when it went well
 *     text: string?    its sentence
 * gw_sender is the agent that was asked. Allowed in GW_READ methods, too; at most 256 in a handler
 * (GW_EBUSY). Not durable: what has not been answered when the host ends never is. In types of
 * plugins GW_ENOT_SUPPORTED: there gw_ask waits. Takes ownership of `args` (a map or nil). */
GW_API gw_err gw_ask_then(struct gw_call *call, gw_id agent, const char *method, gw_value args,
                          const char *then) GW_MUST_USE;

/* Make the state durable as it is now.
 * In `run`: at once, with all that was recorded so far (tells, timers; those take effect then), and
 * return when it is on disk. Meanwhile the agent handles messages that waited: they see, and may
 * change, the struct, so texts borrowed from it before are void. After a crash `run` begins again
 * from the state of its last save. GW_ECANCELLED: it is saved, and the agent is to move, sleep or
 * end, or the host stops: return soon (a move gives up after 5 s); `run` begins again where the
 * agent goes on. Any other error: nothing since the last save is kept (a full disk), the struct is
 * as it was then. In a short handler of a GW_TRANSITIONS type: recorded; the state is written when
 * the handler returns. GW_EVERY_MESSAGE: written then anyway. GW_EREFUSED in a GW_VOLATILE type and
 * in GW_READ methods, GW_EBUSY when 64 handlers of the plugin wait, GW_EINLINE in `run` of a
 * built-in type. */
GW_API gw_err gw_save(struct gw_call *call) GW_MUST_USE;

/* --- timers: recorded as well ---
 * When one is due, on_timer runs as one more message of the agent. Timers are durable and part of
 * the agent: they wake it from sleep, travel with it, and each firing is handled once, also when
 * the host is killed. They are known by name; setting one again replaces it, and a firing that has
 * not been handled yet is then void. `args` (a map or nil, at most 4 KiB packed; owned by the call
 * whatever happens) is what on_timer sees. At most 256 timers an agent (the handler fails with
 * GW_EBUSY). Not in on_dispatch and on_dispose (GW_ENOT_SUPPORTED). A clone has none of them. */

/* Once, after so many milliseconds of time that passes, whatever the clock is set to [0 .. 100 y].
 */
GW_API gw_err gw_timer(struct gw_call *call, const char *name, int64_t delay_ms,
                       gw_value args) GW_MUST_USE;
/* Every period_ms [10 ms .. 100 y], first after one. Periods that were missed (host down, agent
 * frozen, on_timer still at work) fire once together; the beat is kept. */
GW_API gw_err gw_timer_every(struct gw_call *call, const char *name, int64_t period_ms,
                             gw_value args) GW_MUST_USE;
/* As gw_timer_every, but missed periods are made up for, one firing each, the last 1,000 of them.
 */
GW_API gw_err gw_timer_each(struct gw_call *call, const char *name, int64_t period_ms,
                            gw_value args) GW_MUST_USE;
/* Once, when the clock of the host where the agent then is shows `at`; at once when that is past.
 */
GW_API gw_err gw_timer_at(struct gw_call *call, const char *name, gw_time at,
                          gw_value args) GW_MUST_USE;
/* No firing of that name is handled after this handler. GW_OK also when there is none. */
GW_API gw_err gw_timer_cancel(struct gw_call *call, const char *name) GW_MUST_USE;

/* --- files: recorded as well ---
 * A registered file is part of the agent: when that moves, the file has come before on_arrive (or
 * on_retract) runs, in the agent's work folder, under its name, with its content, permissions and
 * time of change; the flow begins while the agent still runs, and what changes meanwhile is sent
 * again. With GW_MOVE the file is removed where it was once the agent is active elsewhere, unless
 * somebody has changed it since: then both stay, with an event (file.kept). With GW_COPY it stays.
 * A clone gets copies of all of them before on_clone. A file that is gone, or changes again and
 * again, calls the move off: the agent goes on where it is. At most 64 an agent (GW_EBUSY). Not in
 * on_dispatch and on_dispose (GW_ENOT_SUPPORTED). */
typedef enum gw_file_mode { GW_MOVE, GW_COPY } gw_file_mode;

/* Again under this name: it takes the place of the one before. `path` is absolute, at most 1,024
 * bytes, below the agent's work folder or the roots of the host (else the handler fails with
 * GW_EDENIED); it is looked at when the agent moves. `name`: 1 to 200 bytes of UTF-8 without "/"
 * and control characters (GW_EARG). */
GW_API gw_err gw_file(struct gw_call *call, const char *path, const char *name,
                      gw_file_mode mode) GW_MUST_USE;
/* It does not travel any more; the file itself stays. GW_OK also when there is none. */
GW_API gw_err gw_file_drop(struct gw_call *call, const char *name) GW_MUST_USE;
/* Where it is on this host, or NULL when none has this name. Good until this handler registers or
 * drops a file, or returns. */
GW_API const char *gw_file_path(struct gw_call *call, const char *name);
/* All of them: list of maps {name, path, mode: "move"|"copy"}. */
GW_API gw_err gw_files(struct gw_call *call, gw_value *ret_files) GW_MUST_USE;

/* --- monitors: recorded as well ---
 * A monitor watches one agent, or one host, and fires once: on_down runs, as one more message of
 * this agent, and the monitor is gone. It is durable and part of this agent: it travels, sleeps and
 * survives crashes with it, and it follows the agent that it watches through moves. Not in
 * on_dispatch and on_dispose (GW_ENOT_SUPPORTED), not of itself (GW_EARG). At most 1,024 an agent
 * (the handler fails with GW_EBUSY). A clone has none of them. */

typedef enum gw_down {
    GW_DOWN_NONE,      /* not in on_down */
    GW_DOWN_DISPOSED,  /* the agent has ended */
    GW_DOWN_CRASHED,   /* it is quarantined: its handlers crashed again and again */
    GW_DOWN_HOST_LOST, /* the host, or that of the agent, cannot be reached for too long */
    GW_DOWN_NOT_FOUND, /* there was no such agent or host any more when the watch began */
    GW_DOWN_REFUSED,   /* it is watched by as many as can be */
} gw_down;

#define GW_NEVER (-1) /* struct gw_monitor.lost_ms: only the word of its host counts */

struct gw_monitor {
    gw_id agent;      /* whom to watch, or nil and: */
    const char *host; /* name or id of a host */
    /* A host that this agent's host cannot reach for so many milliseconds is lost, and the agent on
     * it with it [1 .. a year, GW_NEVER]; 0: by the setting lost_after of the host. */
    int64_t lost_ms;
};

/* ret_ref (NULL allowed): names the monitor, in on_down and gw_demonitor. */
GW_API gw_err gw_monitor(struct gw_call *call, gw_id agent, gw_id *ret_ref) GW_MUST_USE;
GW_API gw_err gw_monitor_host(struct gw_call *call, const char *host, gw_id *ret_ref) GW_MUST_USE;
GW_API gw_err gw_monitor_with(struct gw_call *call, const struct gw_monitor *what,
                              gw_id *ret_ref) GW_MUST_USE;
/* No on_down for that monitor after this handler. GW_OK also when there is none. */
GW_API gw_err gw_demonitor(struct gw_call *call, gw_id ref) GW_MUST_USE;

/* In on_down; nil, "" and GW_DOWN_NONE elsewhere. gw_reason gives the reason as text. */
GW_API gw_id gw_down_ref(struct gw_call *call);
GW_API gw_id gw_down_agent(struct gw_call *call);      /* nil: a host was watched */
GW_API const char *gw_down_host(struct gw_call *call); /* the host, or where the agent was; "" */
GW_API gw_down gw_down_reason(struct gw_call *call);

/* --- blocking: the handler waits, other agents go on ---
 * Failures are those of the other side, and: GW_EBUSY too many handlers of this plugin wait
 * already; GW_EDEADLOCK the call would come back to an agent that waits for it; GW_EINLINE in a
 * built-in type. The sentence is in gw_call_why. Values given are owned by the call whatever
 * happens; `ret_x` is written only on success and then owned by the caller. */

GW_API gw_err gw_ask(struct gw_call *call, gw_id agent, const char *method, gw_value args,
                     gw_value *ret_reply) GW_MUST_USE;
/* An ask has at most the time that the caller of this handler has left (gw_deadline_left_ms);
 * GW_ETIMEOUT when that, or the time of the options, is over. NULL = as gw_ask. */
GW_API gw_err gw_ask_with(struct gw_call *call, gw_id agent, const char *method, gw_value args,
                          const struct gw_message_options *options,
                          gw_value *ret_reply) GW_MUST_USE;

/* Ask without waiting, several at once; the futures are the call's, valid until the handler
 * returns. Each ask leaves at once, as gw_ask does, and counts as one verb of the handler: a re-run
 * after a crash repeats it and gets the recorded answer. One that nobody has waited for when the
 * handler returns goes on at the other agent, its answer is dropped. An agent that asks back fails
 * with GW_EDEADLOCK, whether it is waited for or not. At most 256 asks of a handler may be open,
 * answers that were not taken included (GW_EBUSY). Time-outs are milliseconds of waiting: 0 only
 * looks, GW_FOREVER has no limit; the ask goes on after GW_ETIMEOUT and may be waited for again. */
struct gw_future;
GW_API gw_err gw_ask_async(struct gw_call *call, gw_id agent, const char *method, gw_value args,
                           struct gw_future **ret_future) GW_MUST_USE;
GW_API gw_err gw_ask_async_with(struct gw_call *call, gw_id agent, const char *method,
                                gw_value args, const struct gw_message_options *options,
                                struct gw_future **ret_future) GW_MUST_USE;
/* Make an agent without waiting, as gw_create; gw_wait then gives a map with `agent` (its id as
 * text), `type`, `host`, `epoch`. */
GW_API gw_err gw_create_async(struct gw_call *call, const char *type, gw_value state,
                              const char *where, struct gw_future **ret_future) GW_MUST_USE;
/* Wait for the answer and take it, once: its failures are those of gw_ask. GW_ETIMEOUT of the wait
 * (gw_future_done is then false) or of the ask itself; GW_ENOT_FOUND it was taken before; GW_EBUSY
 * too many handlers wait: the ask stays open. ret_reply NULL: dropped. */
GW_API gw_err gw_wait(struct gw_call *call, struct gw_future *future, int64_t timeout_ms,
                      gw_value *ret_reply) GW_MUST_USE;
/* Wait until one of them is answered, well or not; gw_wait then takes it without waiting. Of
 * several that are, it is the one whose answer came first. NULL and those that were taken are
 * passed over. GW_ENOT_FOUND none is left; GW_ETIMEOUT; GW_EBUSY. */
GW_API gw_err gw_wait_any(struct gw_call *call, struct gw_future *const *futures, size_t n,
                          int64_t timeout_ms, size_t *ret_index) GW_MUST_USE;
/* Wait until all of them are answered, well or not. */
GW_API gw_err gw_wait_all(struct gw_call *call, struct gw_future *const *futures, size_t n,
                          int64_t timeout_ms) GW_MUST_USE;
/* Whether it is answered, or taken. */
GW_API bool gw_future_done(struct gw_call *call, const struct gw_future *future);

/* --- folders on the disk of the present host ---
 * No part of the state: what is written there is neither undone when the handler fails, nor durable
 * unless the handler flushes it, nor does it travel (what shall is registered, or an artifact).
 * Paths are absolute and borrowed until the handler returns; they are the same each time. The host
 * measures a folder now and then while it is in use: GW_ETOO_BIG when it was found larger than the
 * quota of the host's owner, until less is in it. GW_EDISK_FULL, GW_EIO: it cannot be made. */

/* The scratch folder of this agent, empty at first: kept over sleep and restarts of the host,
 * removed when the agent ends or has moved away. Setting work_quota. */
GW_API gw_err gw_work_dir(struct gw_call *call, const char **ret_path) GW_MUST_USE;
/* The folder of all agents of this type on this host; it stays when they go. They share it: names
 * and locks are their own care. Setting storage_quota. */
GW_API gw_err gw_storage(struct gw_call *call, const char **ret_path) GW_MUST_USE;
typedef enum gw_folder_kind { GW_FOLDER_WORK, GW_FOLDER_STORAGE } gw_folder_kind;
struct gw_folder {
    const char *path; /* as above */
    uint64_t bytes;   /* on disk, measured now */
    uint64_t quota;   /* bytes; 0 = none */
};
/* One of them, also when it is over its quota: here an agent learns what to remove. */
GW_API gw_err gw_folder_look(struct gw_call *call, gw_folder_kind kind,
                             struct gw_folder *ret) GW_MUST_USE;

/* `state` sets fields of the new agent (a map or nil); `where` is a selector (NULL: here). */
GW_API gw_err gw_create(struct gw_call *call, const char *type, gw_value state, const char *where,
                        gw_id *ret_agent) GW_MUST_USE;
/* The same, and the new agent is a child of this one, wherever both live from then on. at_end: what
 * becomes of it when this agent ends. GW_EBUSY: 4,096 children and watchers are there already. */
typedef enum gw_parent_end {
    GW_END_WITH_PARENT, /* it is disposed, its children with it */
    GW_OUTLIVE_PARENT,  /* it lives on, without a parent */
} gw_parent_end;
GW_API gw_err gw_create_child(struct gw_call *call, const char *type, gw_value state,
                              const char *where, gw_parent_end at_end,
                              gw_id *ret_agent) GW_MUST_USE;
/* The members of the mesh: list of maps {name, host_id, url, state, tags, properties, self}. */
GW_API gw_err gw_hosts(struct gw_call *call, gw_value *ret_hosts) GW_MUST_USE;
/* The same verbs about another agent. */
GW_API gw_err gw_dispatch_to(struct gw_call *call, gw_id agent, const char *selector) GW_MUST_USE;
/* Bring it back: here (NULL), or to the host that the selector names. There on_retract runs, in a
 * type without it on_arrive. */
GW_API gw_err gw_retract(struct gw_call *call, gw_id agent, const char *selector) GW_MUST_USE;
GW_API gw_err gw_clone_of(struct gw_call *call, gw_id agent, const char *selector,
                          gw_id *ret_clone) GW_MUST_USE;
GW_API gw_err gw_deactivate_other(struct gw_call *call, gw_id agent) GW_MUST_USE;
GW_API gw_err gw_deactivate_other_with(struct gw_call *call, gw_id agent,
                                       const struct gw_sleep *sleep) GW_MUST_USE;
GW_API gw_err gw_activate_other(struct gw_call *call, gw_id agent) GW_MUST_USE;
GW_API gw_err gw_dispose_other(struct gw_call *call, gw_id agent) GW_MUST_USE;

/* --- how a plugin shows itself to the runner; nothing below is for authors --- */

/* The first two members never change, so that any runner can name the numbers of any plugin. */
struct gw_plugin {
    uint32_t abi;       /* GW_ABI of its build */
    uint32_t type_size; /* sizeof(struct gw_type) of its build */
    const struct gw_type *const *types;
    size_t type_count;
};

#ifndef GW_NO_PLUGIN_INFO /* the runtime's own sources are no plugin */
extern const struct gw_type *const __start_gw_types[] __attribute__((weak, visibility("hidden")));
extern const struct gw_type *const __stop_gw_types[] __attribute__((weak, visibility("hidden")));
GW_API const struct gw_plugin *gw_plugin_info(void);
/* Weak: each source of a plugin brings one, the linker keeps one. */
__attribute__((weak)) const struct gw_plugin *gw_plugin_info(void)
{
    static struct gw_plugin info = {.abi = GW_ABI, .type_size = sizeof(struct gw_type)};
    info.types = __start_gw_types;
    info.type_count = (size_t)(__stop_gw_types - __start_gw_types);
    return &info;
}
#endif

#endif
