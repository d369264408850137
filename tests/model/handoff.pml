/* The handoff of one agent between two hosts, and its home: host/core/move_out.c, move_in.c; phases
 * and frames have the names they have there.
 *
 * The network is the worst there is: what was sent stays in a set and may be received again at any
 * later moment, in any order, after any crash; and LOSSES times something vanishes from it. Hosts
 * are killed at any point, CRASHES times together; a transaction in flight is then on disk or not.
 * ROLLBACKS times one is certainly rolled back (disk full). MOVES tickets are used, each from where
 * the agent then runs, so that it also comes back while its old move is not settled yet.
 *
 * Checked in every state: I1 (one host at most runs the agent), I2 (fences never fall), I3 and I6
 * (the source deletes only what has become active elsewhere). Checked when nothing more can happen:
 * the agent runs, once, no row of a move is left, home knows where.
 *
 * -DRESTORED: once a destination forgets what it has staged (its store was restored from a backup);
 * then a move may stay in doubt for ever, but nothing is deleted that is not active elsewhere.
 * -DBREAK_H1, H2, H3, H5 leave out that rule of the handoff: each of them has to be caught (H5 with
 * -DRESTORED). */
#ifndef MOVES
#define MOVES 3
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef LOSSES
#define LOSSES 1
#endif
#ifndef ROLLBACKS
#define ROLLBACKS 1
#endif
#define EPOCHS (MOVES + 2)

mtype = { /* status of a row (agent, epoch) */
    NONE, ACTIVE, STAGED, DEPARTED,
    /* out_phase; a departed agent is a row. OFFERING and FREEZING only stop it: part of STAGING */
    OUT_IDLE, OUT_STAGING, OUT_COMMITTING, OUT_GIVEN_UP /* only with BREAK_H3 */,
    /* in_phase; a staged agent is a row */
    IN_IDLE, IN_STORING, IN_COMMITTING
};

/* frames in the network, by ticket; RECEIPT and COMMIT are sets of nonces of their own */
#define STAGE     1
#define REFUSED   2 /* RECEIPT with a code */
#define ABORT     4
#define COMMITTED 8
#define UNKNOWN   16 /* COMMITTED with GW_EUNKNOWN */
#define QUERY     32
#define CANCELLED 64 /* QUERY_ANSWER */

#define STAGINGS 2 /* of one ticket, each with a nonce of its own */

typedef rows {
    /* on disk */
    mtype status[EPOCHS];
    byte ticket[EPOCHS];
    byte nonce[EPOCHS];
    byte live;   /* epoch of the ACTIVE row, 0 = none */
    byte staged; /* of the STAGED one */
    byte fence;
    /* in memory */
    bool runs;
    mtype leaving;
    byte out_ticket;
    byte out_nonce;
    mtype arriving;
    byte in_ticket
};
rows host[2];
byte ticket_count = 0;
byte source[MOVES + 1];
byte epoch[MOVES + 1]; /* at the source */
byte stagings[MOVES + 1];
byte net[MOVES + 1];
byte receipts[MOVES + 1];
byte commits[MOVES + 1];
byte home_epoch = 1;
byte home_host = 0;
bool was_active[EPOCHS]; /* ghost: the epoch has been active somewhere */
byte crashes = 0;
bool restored = false;
byte losses = 0;
byte rollbacks = 0;

#define SENT(t, what) ((net[t] & (what)) != 0)
#define SEND(t, what) net[t] = net[t] | (what)
#define HAS(set, nonce) ((set & (1 << (nonce))) != 0)
#define ADD(set, nonce) set = set | (1 << (nonce))

inline one_copy()
{
    assert(!(host[0].runs && host[1].runs)); /* I1 */
    assert(!(host[0].live && host[1].live))
}

inline raise_fence(h, to)
{
    assert(to >= host[h].fence); /* I2 */
    host[h].fence = to
}

inline delete_row(h, e)
{
    host[h].status[e] = NONE;
    host[h].ticket[e] = 0;
    host[h].nonce[e] = 0
}

inline out_ends(h)
{
    host[h].leaving = OUT_IDLE;
    host[h].out_ticket = 0;
    host[h].out_nonce = 0
}

inline in_ends(h)
{
    host[h].arriving = IN_IDLE;
    host[h].in_ticket = 0
}

/* ---- transactions: what stands on disk afterwards ---- */

inline write_departed(h, t)
{
    host[h].status[epoch[t]] = DEPARTED;
    host[h].ticket[epoch[t]] = t;
    host[h].nonce[epoch[t]] = host[h].out_nonce;
    host[h].live = 0;
    raise_fence(h, epoch[t] + 1)
}

inline write_staged(h, t)
{
    host[h].staged = epoch[t] + 1;
    host[h].live = (host[h].live == epoch[t] + 1 -> 0 : host[h].live); /* the same key */
    host[h].status[epoch[t] + 1] = STAGED;
    host[h].ticket[epoch[t] + 1] = t;
    host[h].nonce[epoch[t] + 1] = stagings[t]
}

inline write_active(h, t)
{
    host[h].staged = 0;
    host[h].live = epoch[t] + 1;
    host[h].status[epoch[t] + 1] = ACTIVE;
    host[h].ticket[epoch[t] + 1] = 0;
    host[h].nonce[epoch[t] + 1] = 0;
    raise_fence(h, epoch[t] + 1);
    was_active[epoch[t] + 1] = true
}

inline abort_move(h)
{
    SEND(host[h].out_ticket, ABORT);
    out_ends(h);
    host[h].runs = true;
    one_copy()
}

/* ---- one host, about its own agent ---- */

proctype Host(byte h)
{
    do
    :: atomic { /* a move begins: the agent is frozen, STAGE goes out */
        host[h].runs && host[h].leaving == OUT_IDLE && ticket_count < MOVES ->
        ticket_count++;
        source[ticket_count] = h;
        epoch[ticket_count] = host[h].live;
        host[h].leaving = OUT_STAGING;
        host[h].out_ticket = ticket_count;
        host[h].runs = false;
        SEND(ticket_count, STAGE)
    }
    :: atomic { /* STAGE again */
        host[h].leaving == OUT_STAGING && !SENT(host[h].out_ticket, STAGE) ->
        SEND(host[h].out_ticket, STAGE)
    }
    :: atomic { host[h].leaving == OUT_STAGING -> abort_move(h) } /* time-out, refusal, link down */
    :: atomic { /* RECEIPT: the commit point is handed to the storage thread */
        host[h].leaving == OUT_STAGING && receipts[host[h].out_ticket] != 0 ->
        if
        :: HAS(receipts[host[h].out_ticket], 1) -> host[h].out_nonce = 1
        :: HAS(receipts[host[h].out_ticket], 2) -> host[h].out_nonce = 2
        fi;
        host[h].leaving = OUT_COMMITTING
    }
    :: atomic {
        host[h].leaving == OUT_COMMITTING ->
        write_departed(h, host[h].out_ticket);
        ADD(commits[host[h].out_ticket], host[h].out_nonce);
        out_ends(h)
    }
    :: atomic {
        host[h].leaving == OUT_COMMITTING && rollbacks < ROLLBACKS ->
        rollbacks++;
        abort_move(h)
    }
#ifdef BREAK_H3
    :: atomic { /* a time-out gives up although the departed row may be on its way to the disk */
        host[h].leaving == OUT_COMMITTING ->
        SEND(host[h].out_ticket, ABORT);
        host[h].leaving = OUT_GIVEN_UP;
        host[h].runs = true;
        one_copy()
    }
    :: atomic {
        host[h].leaving == OUT_GIVEN_UP ->
        write_departed(h, host[h].out_ticket);
        out_ends(h)
    }
#endif
    :: atomic { /* the staged row is on disk: RECEIPT (H4) */
        host[h].arriving == IN_STORING ->
        write_staged(h, host[h].in_ticket);
        ADD(receipts[host[h].in_ticket], stagings[host[h].in_ticket]);
        in_ends(h)
    }
    :: atomic {
        host[h].arriving == IN_STORING && rollbacks < ROLLBACKS ->
        rollbacks++;
        in_ends(h)
    }
    :: atomic {
        host[h].arriving == IN_COMMITTING ->
        write_active(h, host[h].in_ticket);
        host[h].runs = true;
        SEND(host[h].in_ticket, COMMITTED);
        in_ends(h);
        one_copy()
    }
    :: atomic { /* still staged: the next COMMIT tries again */
        host[h].arriving == IN_COMMITTING && rollbacks < ROLLBACKS ->
        rollbacks++;
        in_ends(h)
    }
    :: atomic { /* LOCATE: after each change, at each link-up; the higher epoch wins */
        host[h].live > home_epoch ->
        home_epoch = host[h].live;
        home_host = h
    }
    od
}

/* ---- frames of one ticket ---- */

#define S (source[t])
#define D (1 - source[t])
#define E (epoch[t])
#define DEPARTED_UNDER_T (host[S].status[E] == DEPARTED && host[S].ticket[E] == t)
#define STAGED_UNDER_T (host[D].status[E + 1] == STAGED && host[D].ticket[E + 1] == t)

proctype Ticket(byte t)
{
    byte i;
    do
    /* at the destination: STAGE */
    :: atomic { /* a repeat: the stored receipt */
        t <= ticket_count && SENT(t, STAGE) && STAGED_UNDER_T && host[D].arriving == IN_IDLE &&
        !HAS(receipts[t], host[D].nonce[E + 1]) ->
        ADD(receipts[t], host[D].nonce[E + 1])
    }
    :: atomic { /* H2 */
        t <= ticket_count && SENT(t, STAGE) && host[D].arriving == IN_IDLE && host[D].staged == 0 &&
#ifndef BREAK_H2
        E + 1 > host[D].fence &&
#endif
        stagings[t] < STAGINGS ->
        stagings[t]++;
        host[D].arriving = IN_STORING;
        host[D].in_ticket = t;
#ifdef BREAK_H2
        host[D].runs = (host[D].live == E + 1 -> false : host[D].runs)
#endif
    }
    /* COMMIT: bound to the nonce of the staged row */
    :: atomic {
        t <= ticket_count && STAGED_UNDER_T && host[D].arriving == IN_IDLE &&
        HAS(commits[t], host[D].nonce[E + 1]) ->
        host[D].arriving = IN_COMMITTING;
        host[D].in_ticket = t
    }
    :: atomic { /* a repeat: active here, or gone on since */
        t <= ticket_count && commits[t] != 0 && !SENT(t, COMMITTED) && host[D].fence >= E + 1 ->
        SEND(t, COMMITTED)
    }
    :: atomic { /* H5 */
        t <= ticket_count && commits[t] != 0 && !SENT(t, UNKNOWN) && host[D].fence < E + 1 &&
        !STAGED_UNDER_T && host[D].arriving == IN_IDLE ->
#ifdef BREAK_H5
        SEND(t, COMMITTED);
#endif
        SEND(t, UNKNOWN)
    }
    /* QUERY while staged; ABORT, and CANCELLED as its answer */
    :: atomic {
        t <= ticket_count && STAGED_UNDER_T && host[D].arriving == IN_IDLE && !SENT(t, QUERY) ->
        SEND(t, QUERY)
    }
    :: atomic {
        t <= ticket_count && STAGED_UNDER_T && host[D].arriving == IN_IDLE && SENT(t, ABORT | CANCELLED) ->
        delete_row(D, E + 1);
        host[D].staged = 0
    }
#ifdef BREAK_H1
    :: atomic { /* an ABORT of any ticket of this agent */
        t <= ticket_count && SENT(t, ABORT) && host[D].staged != 0 && host[D].arriving == IN_IDLE ->
        delete_row(D, host[D].staged);
        host[D].staged = 0
    }
#endif
    /* at the source: COMMIT is repeated as long as the departed row stands */
    :: atomic {
        t <= ticket_count && DEPARTED_UNDER_T && !HAS(commits[t], host[S].nonce[E]) ->
        ADD(commits[t], host[S].nonce[E])
    }
    :: atomic {
        t <= ticket_count && DEPARTED_UNDER_T && SENT(t, COMMITTED) ->
        assert(was_active[E + 1]); /* I3, I6 */
        delete_row(S, E)
    }
    /* QUERY: pending while the attempt lives, COMMIT for a departed row, else cancelled for ever */
    :: atomic {
        t <= ticket_count && SENT(t, QUERY) && !SENT(t, CANCELLED) && host[S].out_ticket != t &&
        !DEPARTED_UNDER_T ->
        SEND(t, CANCELLED)
    }
    od
}

/* ---- the world ---- */

proctype World()
{
    byte h, t;
    do
    :: atomic { /* a host is killed, and starts again */
        crashes < CRASHES ->
        crashes++;
        if
        :: h = 0
        :: h = 1
        fi;
        if
        :: host[h].leaving == OUT_COMMITTING || host[h].leaving == OUT_GIVEN_UP ->
            write_departed(h, host[h].out_ticket)
        :: true
        fi;
        if
        :: host[h].arriving == IN_STORING -> write_staged(h, host[h].in_ticket)
        :: host[h].arriving == IN_COMMITTING -> write_active(h, host[h].in_ticket)
        :: true
        fi;
        out_ends(h);
        in_ends(h);
        host[h].runs = (host[h].live != 0);
        h = 0;
        one_copy()
    }
#ifdef RESTORED
    :: atomic {
        !restored ->
        restored = true;
        if
        :: h = 0
        :: h = 1
        fi;
        host[h].staged != 0 && host[h].arriving == IN_IDLE ->
        delete_row(h, host[h].staged);
        host[h].staged = 0;
        h = 0
    }
#endif
    :: atomic { /* something is lost */
        losses < LOSSES && ticket_count > 0 ->
        losses++;
        t = 1;
        do
        :: t < ticket_count -> t++
        :: break
        od;
        if
        :: net[t] = net[t] & ~STAGE
        :: net[t] = net[t] & ~ABORT
        :: net[t] = net[t] & ~COMMITTED
        :: net[t] = net[t] & ~(QUERY | CANCELLED)
        :: receipts[t] = 0
        :: commits[t] = 0
        fi;
        t = 0
    }
    od
}

/* When nothing more can happen. */
proctype End()
{
    byte e;
    timeout ->
#ifndef RESTORED
    atomic {
        assert(host[0].runs || host[1].runs);
        for (e : 1 .. EPOCHS - 1) {
            assert(host[0].status[e] != STAGED && host[1].status[e] != STAGED);
            assert(host[0].status[e] != DEPARTED && host[1].status[e] != DEPARTED)
        }
        assert(home_host == (host[0].runs -> 0 : 1));
        assert(host[home_host].live == home_epoch)
    }
#endif
    true
}

init
{
    byte i;
    atomic {
        for (i : 0 .. EPOCHS - 1) {
            host[0].status[i] = NONE;
            host[1].status[i] = NONE
        }
        i = 0;
        host[0].leaving = OUT_IDLE;
        host[1].leaving = OUT_IDLE;
        host[0].arriving = IN_IDLE;
        host[1].arriving = IN_IDLE;
        host[0].status[1] = ACTIVE;
        host[0].live = 1;
        host[0].fence = 1;
        host[1].fence = 0;
        host[0].runs = true;
        was_active[1] = true;
        run Host(0);
        run Host(1);
        for (i : 1 .. MOVES) {
            run Ticket(i)
        }
        i = 0;
        run World();
        run End()
    }
}
