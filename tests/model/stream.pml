/* One stream of one-way messages to an agent that moves: host/core/tells.c at the sender, inbox.c
 * at the receiver.
 *
 * MESSAGES numbered messages stand in the sender's outbox and are offered one after the other, to
 * where the sender's host believes the agent to be. The agent moves MOVES times between two hosts
 * (handoff.pml is about whether it arrives); what is on its way to it, its answers and every repeat
 * may come at any later moment, at any host, or LOSSES times never. All hosts are killed at any
 * point, CRASHES times together, a transaction in flight is then on disk or not.
 *
 * Checked: I4 (each message is applied once, in the sender's order; none that was acknowledged is
 * missing in the end), I5 and H6 (nothing is acknowledged that is not on disk at the owner).
 *
 * -DBREAK_H6 acknowledges what is only parked, -DBREAK_I5 before the row is on disk, -DBREAK_MARK
 * leaves the marks behind when the agent moves: each of them has to be caught. */
#ifndef MESSAGES
#define MESSAGES 3
#endif
#ifndef MOVES
#define MOVES 2
#endif
#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef LOSSES
#define LOSSES 2
#endif

#define HAS(set, n) ((set & (1 << (n))) != 0)
#define ADD(set, n) set = set | (1 << (n))
#define DEL(set, n) set = set & ~(1 << (n))

/* The agent as it is on the disk of a host: part of the ticket when it moves. */
typedef agent {
    bool here;
    byte mark;    /* last number accepted from the sender */
    byte inbox;   /* accepted, not applied yet */
    byte applied; /* its state: how many it has applied */
};
agent row[2];
/* In the memory of a host. */
typedef memory {
    byte accepting; /* number whose acceptance is with the storage thread */
    byte applying;  /* number whose handler's transaction is */
    bool frozen
};
memory mem[2];
/* The departed agent, from the commit point of the source on. */
agent ticket;
bool travels = false;
byte going_to = 0;

byte outbox;            /* durable, at the sender's host */
byte believed = 0;      /* in its memory: where the agent is */
byte tells[2];          /* network: ACCEPT calls to each host */
byte accepted;          /* network: answers */
byte moves = 0;
byte crashes = 0;
byte losses = 0;

proctype Sender()
{
    byte n;
    do
    /* the first one that waits is offered; only one is on its way */
    :: atomic {
        outbox != 0 ->
        n = 1;
        do
        :: !HAS(outbox, n) -> n++
        :: else -> break
        od;
        if
        :: HAS(accepted, n) -> DEL(outbox, n) /* answered: the row goes */
        :: !HAS(accepted, n) && !HAS(tells[believed], n) -> ADD(tells[believed], n)
        :: !HAS(accepted, n) && HAS(tells[believed], n) && !row[believed].here &&
               (row[1 - believed].here) ->
            believed = 1 - believed /* MOVED */
        fi;
        n = 0
    }
    od
}

inline write_accepted(h)
{
    row[h].mark = mem[h].accepting;
    ADD(row[h].inbox, mem[h].accepting)
}

inline write_applied(h)
{
    assert(mem[h].applying == row[h].applied + 1); /* I4 */
    row[h].applied = mem[h].applying;
    DEL(row[h].inbox, mem[h].applying)
}

inline forget(h)
{
    mem[h].accepting = 0;
    mem[h].applying = 0;
    mem[h].frozen = false
}

#define FREE(h) (row[h].here && !mem[h].frozen)

proctype Receiver(byte h)
{
    byte n;
    do
    :: atomic { /* mark + 1: {inbox row, mark} is one transaction */
        FREE(h) && mem[h].accepting == 0 && HAS(tells[h], row[h].mark + 1) ->
        mem[h].accepting = row[h].mark + 1;
#ifdef BREAK_I5
        ADD(accepted, row[h].mark + 1)
#endif
    }
    :: atomic { /* durable: it is acknowledged */
        mem[h].accepting != 0 ->
        write_accepted(h);
        ADD(accepted, mem[h].accepting);
        mem[h].accepting = 0
    }
    :: atomic { /* at or below the mark: acknowledged again */
        FREE(h) && mem[h].accepting == 0 && row[h].mark >= 1 &&
        (tells[h] & ~accepted & ((2 << row[h].mark) - 1)) != 0 ->
        n = 1;
        do
        :: n <= row[h].mark && (!HAS(tells[h], n) || HAS(accepted, n)) -> n++
        :: else -> break
        od;
        ADD(accepted, n);
        n = 0
    }
#ifdef BREAK_H6
    :: atomic { /* parked while the agent is frozen, and acknowledged */
        row[h].here && mem[h].frozen && HAS(tells[h], row[h].mark + 1) &&
        !HAS(accepted, row[h].mark + 1) ->
        ADD(accepted, row[h].mark + 1)
    }
#endif
    :: atomic { /* its handler: the oldest row of the inbox */
        FREE(h) && mem[h].applying == 0 && row[h].inbox != 0 ->
        n = 1;
        do
        :: !HAS(row[h].inbox, n) -> n++
        :: else -> break
        od;
        mem[h].applying = n;
        n = 0
    }
    :: atomic {
        mem[h].applying != 0 ->
        write_applied(h);
        mem[h].applying = 0
    }
    /* a move: frozen; quiet once every transaction of the agent is on disk; the commit point */
    :: atomic { FREE(h) && !travels && moves < MOVES -> mem[h].frozen = true }
    :: atomic { row[h].here && mem[h].frozen -> mem[h].frozen = false } /* aborted */
    :: atomic {
        row[h].here && mem[h].frozen && mem[h].accepting == 0 && mem[h].applying == 0 &&
        moves < MOVES ->
        moves++;
        ticket.mark = row[h].mark;
        ticket.inbox = row[h].inbox;
        ticket.applied = row[h].applied;
#ifdef BREAK_MARK
        ticket.mark = 0;
#endif
        row[h].here = false;
        row[h].mark = 0;
        row[h].inbox = 0;
        row[h].applied = 0;
        mem[h].frozen = false;
        going_to = 1 - h;
        travels = true
    }
    :: atomic {
        travels && going_to == h ->
        row[h].here = true;
        row[h].mark = ticket.mark;
        row[h].inbox = ticket.inbox;
        row[h].applied = ticket.applied;
        travels = false
    }
    od
}

proctype World()
{
    byte h;
    do
    :: atomic {
        crashes < CRASHES ->
        crashes++;
        if
        :: h = 0
        :: h = 1
        fi;
        if
        :: mem[h].accepting != 0 -> write_accepted(h)
        :: true
        fi;
        if
        :: mem[h].applying != 0 -> write_applied(h)
        :: true
        fi;
        forget(h);
        h = 0
    }
    :: atomic { crashes < CRASHES -> crashes++; believed = 0 } /* the sender's host */
    :: atomic {
        losses < LOSSES ->
        losses++;
        if
        :: tells[0] = 0
        :: tells[1] = 0
        :: accepted = accepted & ~outbox /* answers that the sender has not seen yet */
        fi
    }
    od
}

/* When nothing more can happen. */
proctype End()
{
    byte h;
    timeout ->
    atomic {
        assert(row[0].here || row[1].here);
        h = (row[0].here -> 0 : 1);
        assert(outbox == 0);
        assert(row[h].mark == MESSAGES && row[h].inbox == 0);
        assert(row[h].applied == MESSAGES)
    }
}

init
{
    atomic {
        row[0].here = true;
        outbox = (1 << (MESSAGES + 1)) - 2;
        run Sender();
        run Receiver(0);
        run Receiver(1);
        run World();
        run End()
    }
}
