/* arena.h - memory that goes as one: what a configuration file and its snapshot are made of.
 *
 * Blocks are taken as needed up to a maximum and are all zeroed and freed together, so that whatever secret was
 * put there leaves no trace. Nothing is freed singly. The owner embeds `struct arena` by value; no callbacks.
 */
#ifndef ADIT_APP_ARENA_H
#define ADIT_APP_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t left;                /* bytes that may still be taken from the allocator */
};

/* max in bytes: most that is taken from the allocator, own bookkeeping included. */
void arena_init(struct arena *a, size_t max);
/* n zeroed bytes, aligned for any type; NULL when the maximum or the memory is used up. */
void *arena_alloc(struct arena *a, size_t n);
/* A copy of n bytes with a NUL after them; NULL like arena_alloc(). */
char *arena_dup(struct arena *a, const void *p, size_t n);
/* Zeroes and frees everything. The arena is empty then and has no room. */
void arena_free(struct arena *a);

#endif
