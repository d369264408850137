/* A program against a virtual mesh: a list of steps, each a list [verb, ...], as JSON. What a step
 * cannot mean is skipped. Hosts are numbers, modulo how many there are; names as in cast.h.
 *
 *   ["do", host, op, {args}]      an operation, asked and not waited for
 *   ["add", host, agent, n]       send add(number = n) under a key that is the agent's for this n
 *   ["relay", host, agent, to, n] the same by way of `agent`
 *   ["act", host, agent, {args}]  send act(args): player.h
 *   ["run", ms]                   time goes on
 *   ["cut", a, b]  ["part", a, b]  ["join", a, b]     links
 *   ["crash", host]  ["stop", host]  ["start", host]  ["runner", host]
 *   ["clock", host, ms]           the wall clock is set by so much
 *   ["commit", host, after, fate] its commit number `after` from now on meets a commit_fate
 *   ["frame", after, fate]        the same with frames of the handoff, a mesh_fate
 * Other verbs are the target's. */
#ifndef TESTS_FUZZ_PLAY_H
#define TESTS_FUZZ_PLAY_H

#include "tests/fuzz/cast.h"

#define PLAY_HOSTS   3
#define PLAY_NUMBERS 64 /* n of add and relay: modulo */
#define PLAY_CALLS   48
#define PLAY_STEPS   60

struct play {
    struct cast cast;
    struct mesh *m;
    size_t hosts;
    struct mesh_call *calls[PLAY_CALLS];
    size_t call_count;
    struct sent { /* one of add and relay */
        struct mesh_call *call;
        size_t agent, to; /* to: whose log it is to stand in */
        int64_t number;
        bool acked;
    } sent[PLAY_CALLS];
    size_t sent_count;
    struct {
        int64_t after;
        int fate;
    } commits[PLAY_HOSTS], frames;
    bool ends; /* something may have ended agents, or made a host forget what was its own */
};

struct play_verb {
    const char *name;
    void (*run)(struct play *p, const gw_value *step);
};

/* Hosts started and linked, one player at each of them (agents 0, 1, 2 of the cast), and a built-in
 * agent "desk". */
void play_open(struct play *p, size_t hosts);
/* All steps; the verbs of the target come first. */
void play_run(struct play *p, const uint8_t *data, size_t size, const struct play_verb *verbs,
              size_t count);
/* After healing: each agent once, each message at most once and, if it was answered, exactly once;
 * all of them live, move and count on. */
void play_expect_whole(struct play *p);
/* Start it when it is down; until it serves. */
void play_wait_ready(struct play *p, size_t host);
/* A new agent is made at `host`, counts, and the answers are right. */
void play_expect_serves(struct play *p, size_t host);
void play_close(struct play *p);

/* Whether programs may ask for it: what needs the files of a host the mesh has not, and after the
 * word of an operator (resolve) nothing could be expected any more. */
bool play_serves(const char *op);
bool play_is_over(const struct play *p); /* too much has happened for one input */
/* The mesh_frame_hook of a play (arg): a target that wants one of its own ends with this. */
mesh_fate play_on_frame(void *arg, size_t from, size_t to, const struct frame *frame);
/* For grammars. */
extern const char *const play_words[];
extern const char *const play_pieces[];

#endif
