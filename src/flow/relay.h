/* relay.h - joins two streams until both directions have ended, by the closure table of doc/stream.md.
 *
 * Takes over both streams, moves bytes both ways with back-pressure (what one side does not accept is not consumed from
 * the other), passes EOF on as finish and an abort as reset, and reports once when it is over. The report comes from
 * the deferred queue or the loop; the relay frees both streams before it.
 */
#ifndef ADIT_FLOW_RELAY_H
#define ADIT_FLOW_RELAY_H

#include <stdint.h>

#include "base/loop.h"
#include "base/stream.h"
#include "flow/linger.h"

/* Bytes moved one way before other work gets its turn. */
#define RELAY_TURN (256 * 1024)
/* ms without a byte after which the last bytes of a side that died are given up, if idle_timeout is longer or none. */
#define RELAY_LAST_BYTES 60000

enum relay_side { RELAY_CLIENT, RELAY_FAR, RELAY_SELF };

struct relay_end {
    enum err err;        /* ERR_OK: both directions ended in order */
    enum relay_side by;  /* who ended it first: SELF for idle and shutdown */
    uint64_t up, down;   /* bytes from the client, bytes to the client (consumed at the source) */
    bool up_eof, down_eof; /* the direction ended in order */
};

struct relay;
typedef void relay_cb(const struct relay_end *end, void *arg);

struct relay_config {
    struct loop *loop;
    struct linger_set *lingers;
    struct stream *client, *far;
    uint32_t idle_timeout; /* ms without a byte either way; 0: none */
    relay_cb *done;
    void *arg;
};

/* NULL when out of memory; the streams are reset then. */
struct relay *relay_start(const struct relay_config *c);
/* Ends it now with this reason; `done` is called, from the deferred queue. */
void relay_abort(struct relay *r, enum err why);
/* Ends it now without a call; what was moved so far goes to *end (may be NULL), with ERR_SHUTDOWN unless it was over. */
void relay_free(struct relay *r, struct relay_end *end);

#endif
