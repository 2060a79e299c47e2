#include "app/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

#define BLOCK_SIZE 8192 /* payload of an ordinary block */

struct arena_block {
    struct arena_block *next;
    size_t size, used; /* payload */
    alignas(max_align_t) char payload[];
};

void arena_init(struct arena *a, size_t max) { *a = (struct arena){.left = max}; }

static struct arena_block *add_block(struct arena *a, size_t n) {
    size_t size = n > BLOCK_SIZE ? n : BLOCK_SIZE;
    if (size > SIZE_MAX - sizeof(struct arena_block)) return NULL;
    size_t whole = sizeof(struct arena_block) + size;
    if (whole > a->left) {
        /* Near the maximum only what is asked for. */
        size = n;
        whole = sizeof(struct arena_block) + size;
        if (whole > a->left) return NULL;
    }
    struct arena_block *b = calloc(1, whole);
    if (!b) return NULL;
    b->size = size;
    b->next = a->blocks;
    a->blocks = b;
    a->left -= whole;
    return b;
}

void *arena_alloc(struct arena *a, size_t n) {
    const size_t step = alignof(max_align_t);
    if (n > SIZE_MAX - step) return NULL;
    n = (n + step - 1) / step * step;
    struct arena_block *b = a->blocks;
    if (!b || b->size - b->used < n) b = add_block(a, n);
    if (!b) return NULL;
    void *p = b->payload + b->used;
    b->used += n;
    return p;
}

char *arena_dup(struct arena *a, const void *p, size_t n) {
    if (n == SIZE_MAX) return NULL;
    char *s = arena_alloc(a, n + 1);
    if (s && n) memcpy(s, p, n);
    return s;
}

void arena_free(struct arena *a) {
    while (a->blocks) {
        struct arena_block *b = a->blocks;
        a->blocks = b->next;
        secret_wipe(b->payload, b->used);
        free(b);
    }
    a->left = 0;
}
