/* stream_suite.h - the tests that every implementation of base/stream.h must pass.
 *
 * A test program describes its kind of stream by a struct stream_factory and hands over to stream_suite_run(),
 * which runs every case twice, with either end in either part, each on fresh machinery. The suite owns the streams
 * that pair() makes and frees them; the factory owns everything else.
 */
#ifndef ADIT_TESTS_LIB_STREAM_SUITE_H
#define ADIT_TESTS_LIB_STREAM_SUITE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "base/stream.h"

struct stream_factory {
    const char *name;
    /* Fresh machinery for one case: a loop, a pair of sessions, ... NULL fails the case. */
    void *(*setup)(void);
    /* One more connected pair a <-> b that nobody owns and no byte has passed; called up to twice in a case. 0 or
     * a negative error. */
    int (*pair)(void *env, struct stream **a, struct stream **b);
    /* Drives everything, the deferred queue included, until nothing moves any more or 10 ms have passed without
     * anything moving. Called again and again. */
    void (*pump)(void *env);
    /* Instead of pump, where the test can drive the parts by itself: io() moves bytes and time without running
     * the deferred queue and says whether anything moved; the suite runs queue() in between and makes sure that no
     * event is delivered from io(). Time need not pass while nothing moves, except for what is under way. */
    bool (*io)(void *env);
    struct defer_queue *(*queue)(void *env);
    /* Both streams of every pair were freed. Not called after a failed assertion. */
    void (*teardown)(void *env);
    /* The most bytes that one direction may take while nobody reads: windows and buffers of both ends together. */
    size_t bound;
    /* What a reset makes the peer's err; 0 where the transport does not tell (then any negative value will do). */
    enum err reset_err;
};

/* Runs the suite and the program's `own` tests (may be NULL) as one cmocka group; returns main's exit value. */
int stream_suite_run(const struct stream_factory *f, const struct CMUnitTest *own, size_t own_count);

#endif
