/* owner.h - an owner of a stream that reads and writes as much as it can, and counts what it is told.
 *
 * What it writes is a pattern that depends on the place alone, so the reader's sum tells whether every byte came, in
 * order. Fields are for tests to read; `reading` may be set at any time (and owner_read() called then). The stream
 * is freed by the test. Fails the running cmocka case when an event is not its own.
 */
#ifndef ADIT_TESTS_LIB_OWNER_H
#define ADIT_TESTS_LIB_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/stream.h"

struct owner {
    struct stream *st;
    unsigned opens, ins, outs, deads; /* events */
    size_t read;
    bool eof, reading;
    uint32_t sum; /* of what was read */
    size_t to_write, written;
    bool finish; /* when all is written */
};

/* Takes the stream over; if `reading`, what comes is read at once. */
void own(struct owner *w, struct stream *st, bool reading);
/* Reads what there is. */
void owner_read(struct owner *w);
/* n bytes more of the pattern, as fast as they are taken, and then perhaps the end. */
void owner_write(struct owner *w, size_t n, bool finish);

/* The sum goes on over p; it begins with 1. */
uint32_t owner_sum(uint32_t sum, const uint8_t *p, size_t n);
/* That of the first n bytes that an owner writes. */
uint32_t owner_pattern_sum(size_t n);

#endif
