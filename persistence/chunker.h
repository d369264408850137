/* Where a stream of bytes is cut into chunks: at places that its content decides, so that an
 * insertion moves only the cuts around it, and equal content gives equal chunks wherever it stands.
 *
 * A chunk has CHUNK_MIN to CHUNK_MAX bytes, about CHUNK_NORMAL; only the last of a stream may be
 * shorter. Where a cut falls depends on the 64 bytes before it and on where the chunk began, never
 * on the pieces in which the bytes come. All hosts of a mesh must cut alike to share chunks, so
 * these numbers and the table (gear.def) are for ever; hosts that differ still understand each
 * other, they only have less in common.
 *
 * Source:  FastCDC (Xia et al., USENIX ATC 2016) with a 64-bit gear hash and normalised chunking.
 * Threads: an object belongs to one thread; there is nothing shared. */
#ifndef PERSISTENCE_CHUNKER_H
#define PERSISTENCE_CHUNKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHUNK_MIN    (256u * 1024)
#define CHUNK_NORMAL (1024u * 1024)
#define CHUNK_MAX    (4096u * 1024)

/* By value, nothing to free. All zero is the start of a stream. */
struct chunker {
    uint64_t hash; /* of the last 64 bytes, once the chunk is nearly CHUNK_MIN long */
    uint32_t len;  /* bytes of the present chunk so far */
};

void chunker_init(struct chunker *c);
/* How many of the n > 0 bytes at p belong to the present chunk.
 *   ret_cut  it ends with them, and the next byte begins a new one
 * Returns 1..n; less than n only with *ret_cut. */
size_t chunker_feed(struct chunker *c, const uint8_t *p, size_t n, bool *ret_cut);

#endif
