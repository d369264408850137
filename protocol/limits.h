/* Every maximum of Godwit with unit and reason (invariant I8: what a peer can make a host hold has
 * a limit with a name). A row that an operator may change is also a setting in host/settings.def.
 */
#ifndef PROTOCOL_LIMITS_H
#define PROTOCOL_LIMITS_H

/* A table, aligned by hand. */
/* clang-format off */

/* -- decoding -- */
#define LIMIT_DEPTH 32               /* nested arrays and maps; deeper is a bomb */
#define LIMIT_NAME_BYTES 64          /* host, type, method, field, tag names */
#define LIMIT_ALIAS_BYTES 64         /* alias of an agent */
#define LIMIT_ERROR_TEXT_BYTES 320   /* sizeof gw_error.text */
#define LIMIT_SIGNATURE_BYTES 4096   /* one method signature */
#define LIMIT_FIELDS 256             /* rows of one field table */
#define LIMIT_DECODED_BYTES (256u * 1024 * 1024) /* lists of structs of one state: an empty element is
                                                    one byte packed and sizeof(element) here */

/* -- frames and links -- */
#define LIMIT_FRAME_BYTES (128u * 1024)            /* one frame on the wire: a fragment and room */
#define LIMIT_FRAGMENT_BYTES (64u * 1024)          /* payload of one fragment: bounds head-of-line delay */
#define LIMIT_MESSAGE_BYTES (80u * 1024 * 1024)    /* a reassembled frame: a state of 64 MiB sealed, and room */
#define LIMIT_LINK_REASSEMBLY_BYTES (160u * 1024 * 1024) /* all unfinished frames of one link */
#define LIMIT_LINK_OUT_BYTES (256u * 1024 * 1024)  /* queued output of one link; above it the link is closed */
#define LIMIT_LINK_FRAGMENTED 16                   /* unfinished frames of one link, each way */
#define LIMIT_CLIENT_FRAME_BYTES (5u * 1024 * 1024) /* a frame of a client link: LIMIT_ARGS_BYTES and room */
#define LIMIT_LINK_CALLS 4096                      /* open calls of one client link */
#define LIMIT_LINK_CALL_BYTES (16u * 1024 * 1024)  /* of them together; above it nothing more is read from the link */
#define LIMIT_PEER_CALLS 65536                     /* open calls of one peer link: those of its clients */
#define LIMIT_PEER_CALL_BYTES (128u * 1024 * 1024) /* of them together; above it a call is answered `busy` */
#define LIMIT_LINKS 512                            /* links to peers */
#define LIMIT_CLIENTS 1024                         /* client connections, HTTP and links */

/* -- data plane -- */
#define LIMIT_BULK_RUNNING 32                      /* threads of transfers of one class: dialled, served, local */
#define LIMIT_BULK_WAITING 1024                    /* transfers of one class that wait for a thread */
#define LIMIT_BULK_ORIGIN 8                        /* of the served: running for one host; others of it wait */
#define LIMIT_BULK_CLIENTS 24                      /* of the served: running for all clients together */
#define LIMIT_BULK_TURN_MS 300000                  /* a dialled connection waits so long for its turn there */
#define LIMIT_BULK_SLOW_MS 3600000                 /* a connection that moves next to nothing for so long ends: */
#define LIMIT_BULK_SLOW_BYTES 65536                /* ALIVE every 5 s is 4 KiB an hour, a basis names itself faster */
#define LIMIT_FILES_FAILED_TOLD 1000               /* files of one copy that are named when they fail: the rest is counted */
#define LIMIT_FILE_TRIES 10000                     /* interrupted copies of folders that a source remembers for a day */

/* -- HTTP -- */
#define LIMIT_HTTP_HEADER_BYTES (16u * 1024)       /* request line and headers together */
#define LIMIT_HTTP_BODY_BYTES (8u * 1024 * 1024)   /* held in memory: arguments as JSON, with room */
#define LIMIT_HTTP_ANONYMOUS_BYTES (64u * 1024) /* body from a client without credentials (join) */
#define LIMIT_HTTP_HEADERS 100       /* header lines of one request */
#define LIMIT_HTTP_PARAMS 64         /* parameters of one query */
#define LIMIT_HTTP_BODY_MS 60000     /* a request body must be whole after this */
#define LIMIT_HTTP_WRITE_MS 60000    /* an answer of which the client takes nothing for so long is dropped */
#define LIMIT_HTTP_STREAM_BYTES (4u * 1024 * 1024) /* unsent bytes of one event stream */
#define LIMIT_HTTP_HEADER_MS 10000   /* a request head must be whole after this, however it trickles */
#define LIMIT_HTTP_IDLE_MS 60000     /* a kept-alive connection without a request */
#define LIMIT_HTTP_YIELD_MS 2000     /* when all places are taken, one without certificate and request gives
                                        way after this: strangers must not lock members out */
#define LIMIT_CLIENTS_SURPLUS 16     /* connections over the limit that are told so; more are closed at once */
#define LIMIT_DESCRIPTORS_KEPT 600   /* that clients never get: store, runners, links to LIMIT_LINKS peers; of
                                        a process that may have fewer than 2,400 a quarter, at least
                                        LIMIT_DESCRIPTORS_LEAST */
#define LIMIT_DESCRIPTORS_LEAST 60   /* a host with a few plugins and peers has 48 open */

/* -- file sessions -- */
#define LIMIT_RECORD_BYTES (1024u * 1024 + 64)     /* DATA: 1 MiB and its head; more per record gains nothing */
#define LIMIT_RECORD_CONTROL_BYTES (80u * 1024)    /* every other record: the longest path and target, and room */
#define LIMIT_TRANSFER_WINDOW 1024                 /* entries that were told and are not finished: at 100 ms a round
                                                      10,000 small files a second */
#define LIMIT_TRANSFER_WINDOW_BYTES (256u * 1024)  /* of their paths and targets together; one is always allowed */
#define LIMIT_TRANSFER_OPEN 32                     /* files of one session that wait for their content: up to 3
                                                      descriptors each */
#define LIMIT_BASIS_CHUNKS 65536                   /* chunks of a file at the destination that are compared, some 70
                                                      GB: the table takes 3 MiB at the sender */
#define LIMIT_TRANSFER_SILENCE_MS 30000            /* a session without a byte either way for so long ends;
                                                      who computes or flushes for long says ALIVE */
#define LIMIT_TRANSFER_TRIES 3                     /* times that a file is sent which changes meanwhile */
#define LIMIT_COPY_BYTES (64u * 1024 * 1024)       /* of one COPY or HOLE record: the peer works on each in one go */

/* -- chunks from other hosts -- */
#define LIMIT_FETCH_SOURCES 4      /* hosts that one fetch asks at once: more share one disk here */
#define LIMIT_FETCH_ASKED 64       /* hosts that are asked whether they have something */
#define LIMIT_FETCH_SAMPLE 256     /* chunks that such a question names: 9 KiB */
#define LIMIT_FETCH_FLYING 16      /* chunks that one source is asked for ahead: about 16 MiB cover 100 ms at 1.3 Gbit/s */
#define LIMIT_FETCH_WANT 16        /* chunks that one record asks for */
#define LIMIT_FETCH_CHUNKS 4000000 /* of one artifact: 4 TB, and 150 MB of memory for their list */
#define LIMIT_FETCH_RUNNING 64     /* fetches of one host at once; more wait for nobody: busy */
#define LIMIT_FETCH_COPY_MS (24LL * 3600 * 1000) /* a copy that was fetched is kept so long: for the next one who asks */

/* -- agents -- */
#define LIMIT_STATE_BYTES (64u * 1024 * 1024) /* packed state of one agent */
#define LIMIT_ARGS_BYTES (4u * 1024 * 1024)   /* packed arguments or reply of one message */
#define LIMIT_MAILBOX_MESSAGES 10000          /* waiting messages of one agent */
#define LIMIT_MAILBOX_BYTES (64u * 1024 * 1024) /* of them together: as much as a state */
#define LIMIT_COMMITS_PER_AGENT 256           /* handlers of one agent whose transactions are on their way:
                                                 about what 10 ms of a slow disk hold */
#define LIMIT_COMMITS_BYTES (8u * 1024 * 1024) /* results of these, in memory until they are durable */
#define LIMIT_WAITING_CALLS 16384             /* calls of one host that wait before full mailboxes */
#define LIMIT_WAITING_BYTES (64u * 1024 * 1024) /* of them together: as much as a mailbox */
#define LIMIT_REQUESTS_PER_AGENT 1024         /* recorded answers of one agent */
#define LIMIT_REQUESTS_BYTES (8u * 1024 * 1024) /* of them together: they travel with the agent */
#define LIMIT_OWED_PER_AGENT 512              /* callers that one agent has yet to answer: half of its records */
#define LIMIT_UNSAVED_ANSWERS 512             /* of them in memory only: types that are not written at each
                                                 message */
#define LIMIT_REQUEST_AGE_MS (24LL * 3600 * 1000) /* how long an answer is kept for a retry */
#define LIMIT_REQUESTS_KEPT 256               /* the newest of them stay whatever the clock says: it may be set */
#define LIMIT_TIMERS_PER_AGENT 256            /* waiting timers of one agent: they are held in memory */
#define LIMIT_TIMER_ARGS_BYTES 4096           /* packed arguments of one timer, in memory while it waits */
#define LIMIT_TIMER_PERIOD_MS 10              /* shortest period: each firing is two transactions */
#define LIMIT_TIMER_MS (100LL * 365 * 24 * 3600 * 1000) /* longest delay: times stay far from overflow */
#define LIMIT_TIMER_AT_MS 253402300799999LL   /* the end of 9999: later times have no text form */
#define LIMIT_TIMER_MISSED 1000               /* missed periods that are made up for */
#define LIMIT_CARRIED_PER_AGENT 64              /* files that travel with one agent: its handlers are told of all */
#define LIMIT_CARRIED_NAME_BYTES 200             /* of one such file: room for what a file system adds to 255 */
#define LIMIT_CARRIED_PATH_BYTES 1024            /* where it is: handlers are told of all of them */
#define LIMIT_MONITORS_PER_AGENT 1024         /* that one agent holds: they are held in memory */
#define LIMIT_WATCHERS_PER_AGENT 4096         /* monitors of others on one agent: its end tells each */
#define LIMIT_LOST_MS (365LL * 24 * 3600 * 1000) /* longest that a monitor waits for a lost host */
#define LIMIT_CRASHES 100                     /* .quarantine_after of a type: their times are kept */
#define LIMIT_WHEREABOUTS 256                 /* agents that one question about their hosts names */
#define LIMIT_STOPS 256                       /* of one itinerary: its row is written at each */
#define LIMIT_STOP_BYTES 4096                 /* packed arguments, and reply, of one stop */
#define LIMIT_STOP_TO_BYTES 512               /* selector of one stop */
#define LIMIT_REQUEST_KEY_BYTES 128           /* --op-key */
#define LIMIT_STREAM_WINDOW 64                /* unacknowledged messages of one stream */
#define LIMIT_STREAMS 65536                   /* other agents that one agent has told, or heard from */
#define LIMIT_OUTBOX_MESSAGES 10000           /* undelivered messages of one agent */
#define LIMIT_CHAIN 64                        /* asks that wait for each other, one in the other */
#define LIMIT_DEADLINE_MS (100LL * 365 * 24 * 3600 * 1000) /* farthest deadline: times stay far from overflow */
#define LIMIT_TRACE_STATE_BYTES 512           /* tracestate: what W3C asks to pass on, and no more */
#define LIMIT_TOPICS_PER_AGENT 64             /* subscriptions of one agent: they travel with it */
#define LIMIT_SUBSCRIPTIONS 65536             /* that one host knows, its own and those heard of: in memory */
#define LIMIT_PUBLISH_BYTES (64u * 1024 * 1024) /* arguments of one publication for all its subscribers: as much as a mailbox */
#define LIMIT_CREATED_KEYS 16384              /* remembered request keys of create and clone of one host */
#define LIMIT_ENDED_MS (30LL * 24 * 3600 * 1000) /* how long it is known that an agent has ended */
#define LIMIT_ENDED_CALM_MS (3600LL * 1000)   /* and so long after a start, or after the clock was set:
                                               * a clock that jumps must not end what is in doubt */
#define LIMIT_CREATED_KEPT 1024               /* the newest of them stay whatever the clock says */
#define LIMIT_HINTS 65536                     /* agents of which a host has merely heard where they are */
#define LIMIT_DEAD_KEPT 1000                  /* dead letters on disk; the oldest go first */
#define LIMIT_DEAD_BYTES (64u * 1024 * 1024)  /* of them together: as much as a mailbox */
#define LIMIT_REDIRECTS 8                     /* MOVED answers followed before asking home */
#define LIMIT_AGENTS 2000000                  /* agents of one host: asleep they take some 300 bytes each */
#define LIMIT_TICKET_AGENTS 256               /* agents under one ticket */
#define LIMIT_TICKET_BYTES (4u * 1024 * 1024) /* of states under one ticket of several: what is larger
                                                 goes alone, so that nobody waits for its neighbours' bytes */
#define LIMIT_STAGED_PER_PEER 4096            /* staged agents one peer may have here */
#define LIMIT_EPOCH (1ULL << 53)              /* exact in JSON numbers */
#define LIMIT_RUNNER_BLOCKED 64               /* handlers of one runner blocked in an ask */
#define LIMIT_ASKS_PER_HANDLER 256            /* asks of one handler that were not waited for: a fan-out over
                                                 a mesh of 200 hosts, and room */
#define LIMIT_INLINE_ASKS 65536               /* asks of the built-in agents of one host that wait for answers */
#define LIMIT_HANDLER_MS 30000                /* a handler that runs longer is reported, not ended */
#define LIMIT_PAGE 1000                       /* rows of one list answer */

/* -- mesh -- */
#define LIMIT_HELLO_MS 10000     /* a link is closed when its HELLO takes longer: starts read millions of rows in less */
#define LIMIT_BOOTS_TOLD 32      /* starts of a host that its HELLO names: a peer that has not met it for
                                    longer knows its store only roughly */
#define LIMIT_MEMBERS 4096       /* hosts that one host remembers */
#define LIMIT_HOSTS_NAMED 65536  /* hosts known by their id alone: homes of agents, hosts that they watch */
#define LIMIT_TAGS 64            /* of one host */
#define LIMIT_PROPERTIES 64      /* of one host */
#define LIMIT_PROPERTY_BYTES 256 /* one K=V: each member carries all of them */
#define LIMIT_URLS 8             /* ways to reach one host */

/* -- settings -- */
#define LIMIT_CONFIG_BYTES (256u * 1024) /* a config file; real ones are below 4 KiB */
#define LIMIT_SETTING_PEERS 64           /* seeds; the members that they know are learnt */
#define LIMIT_SETTING_PATHS 64           /* plugins, and roots */
#define LIMIT_TOKEN_BYTES (16u * 1024)   /* a join token as text */

/* -- trust -- */
#define LIMIT_KEY_FILE_BYTES (64u * 1024)  /* key, certificate or token record on disk */
#define LIMIT_TOKEN_USES 1000              /* hosts one token admits: its record names each */
#define LIMIT_TOKEN_TTL_MS (366LL * 24 * 3600 * 1000) /* a forgotten token dies within a year */
#define LIMIT_TOKENS 1024                  /* token records of one mesh */
#define LIMIT_JOIN_CSR_BYTES (8u * 1024)   /* PEM of a certificate request or certificate in a join */
#define LIMIT_JOIN_ANSWER_BYTES (64u * 1024) /* HTTP answer to a join, head included */
#define LIMIT_JOIN_MS 10000                /* one endpoint: connect, handshake, answer */

/* -- files -- */
#define LIMIT_FILE_PATH_BYTES (64u * 1024)   /* path of one entry of a tree: 256 folders with the longest names */
#define LIMIT_FILE_NAME_BYTES 255            /* one part of it: what file systems take */
#define LIMIT_FILE_TARGET_BYTES 4095         /* target of a link: what Linux takes */
#define LIMIT_FILE_SOURCES 262144            /* sources of one copy, matches of patterns counted: their names
                                                are held in memory */
#define LIMIT_FILE_EXCLUDES 1024             /* patterns of one copy: each entry is held against all of them */
#define LIMIT_FILE_PATTERN_BYTES 4096        /* one pattern: as long as a path that one call takes */
#define LIMIT_FILE_PATTERN_PARTS 128         /* parts of a source's pattern: each holds a descriptor while it is looked at */
#define LIMIT_FILE_LATER_BYTES (64u * 1024 * 1024) /* paths of folders of one copy, which get mode and time at
                                                      its end: about a million */

/* -- store -- */
#define LIMIT_STORE_KEY_BYTES 256              /* ids, epochs, and a name */
#define LIMIT_STORE_INLINE_BYTES (256u * 1024) /* larger values are files of their own */
#define LIMIT_EVENTS_KEPT 100000               /* event rows on disk; the oldest go first */

/* -- artifacts -- */
#define LIMIT_ARTIFACT_NAME_BYTES 255 /* as long as a file's may be */
#define LIMIT_ARTIFACT_TYPE_BYTES 127 /* media type */
#define LIMIT_ARTIFACTS 1000000       /* of one host, uploads included: some 500 bytes on disk each */
#define LIMIT_ARTIFACT_UPLOAD_MS (24LL * 3600 * 1000) /* an upload that nobody goes on with ends after this */
#define LIMIT_ARTIFACT_TTL_MS (100LL * 365 * 24 * 3600 * 1000) /* longest: times stay far from overflow */
#define LIMIT_CHUNK_LOOSE_MS (24LL * 3600 * 1000) /* a chunk that no artifact needs yet: so long somebody
                                                     may still be fetching the others */
#define LIMIT_CHUNK_COUNTED_BYTES 4096 /* a smaller chunk counts so much: its rows */

#endif
