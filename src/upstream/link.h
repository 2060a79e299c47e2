/* link.h - one session with its sockets and timers: dials, pumps, checks its health, and says what became of it.
 *
 * A link is made for one transport and one set of addresses. Over TCP it dials by Happy Eyeballs and runs TLS and HTTP/2
 * on the winner; over UDP it tries the addresses in turn (one more every DIAL_STAGGER ms) and keeps the first QUIC
 * session that is up. The pool owns it and opens streams through it. Events come from the deferred queue or the loop,
 * never from inside an operation; the callback may free the link.
 *
 * Health: any received byte is life. The first health check goes out when the session is up; another when something was
 * sent that must be answered and nothing came for half the health timeout, and every LINK_CHECK_EVERY so that an
 * endpoint's dead-man timer (600 s without a new stream) never fires. LINK_SILENT comes when nothing at all was received
 * for the health timeout although an answer was due. A session from which nothing came for LINK_IDLE is asked
 * for a sign of life when it is used: the first stream goes out on it along with the question, and LINK_STALE follows
 * after LINK_VERIFY if there is no answer. A session that stays silent for LINK_DEAD_AFTER health timeouts is
 * ended, so that its flows learn of it; until then they may survive an outage.
 */
#ifndef ADIT_UPSTREAM_LINK_H
#define ADIT_UPSTREAM_LINK_H

#include "base/addr.h"
#include "base/loop.h"
#include "session/session.h"
#include "upstream/dialect.h"
#include "upstream/policy.h"

#define LINK_CHECK_EVERY 240000 /* ms between health checks of a session in use */
#define LINK_KEEPALIVE 25000    /* ms without a received byte before a PING goes out */
#define LINK_IDLE 15000         /* ms without a received byte after which a session is verified when it is used */
#define LINK_VERIFY 1000        /* ms for the answer, or three round trips if these are longer, but not more than */
#define LINK_VERIFY_MAX 2000
#define LINK_DEAD_AFTER 3       /* health timeouts of silence until the session is given up */
#define LINK_ADDRESSES 8        /* addresses tried; more are ignored */

enum link_event {
    LINK_UP,      /* the session takes streams */
    LINK_CHECKED, /* the health check was answered, and not by 401 or 407: link_check_status() tells */
    LINK_AUTH,    /* the health check was refused: credentials */
    LINK_SILENT,  /* once per silence; the link lives on */
    LINK_DRAIN,   /* no new streams any more */
    LINK_STALE,   /* once: link_verify() got no answer; the link lives on */
    LINK_ROOM,    /* asked for by link_want_room: streams may be opened again */
    LINK_ENDED,   /* never came up, or is down: link_error says why; free it */
};

struct link;
typedef void link_cb(struct link *l, enum link_event ev, void *arg);

struct link_config {
    struct loop *loop;
    enum transport transport;
    const struct addr *addrs; /* copied */
    size_t n_addrs;           /* >= 1 */
    struct session_config session; /* budgets and creds; the link sets kind, queue, cb, now and addresses */
    const struct dialect *dialect;
    const struct dialect_context *context; /* outlives the link */
    uint32_t health_timeout;  /* ms */
    link_cb *cb;
    void *arg;
};

/* Starts connecting. NULL when out of memory. */
struct link *link_new(const struct link_config *c);
/* Closes at once; streams that live die. NULL is allowed. */
void link_free(struct link *l);

/* Opens a stream with the head of `d`; NULL with *err as session_open. */
struct stream *link_open(struct link *l, const struct dest *d, int *err);
/* Streams that may be opened now; 0 unless up. */
unsigned link_capacity(const struct link *l);
/* What it carries now; cheap. All zeros unless up. */
struct link_load {
    unsigned streams, room;
    bool congested; /* over its buffer budget */
};
void link_load(const struct link *l, struct link_load *load);
/* Asks for one LINK_ROOM as soon as there is capacity. */
void link_want_room(struct link *l);
/* No new streams; LINK_ENDED when the last one has ended. */
void link_retire(struct link *l);
/* Asks for a sign of life that must come soon; LINK_STALE if it does not. Nothing unless up. */
void link_verify(struct link *l);
/* An answer is due from now on: a stream was opened or written to. Starts the watch for silence. */
void link_expect(struct link *l);

/* Status of the last answered health check; 0 if there was none. */
int link_check_status(const struct link *l);
enum transport link_transport(const struct link *l);
bool link_is_up(const struct link *l);
/* The address in use, or the last one tried. */
const struct addr *link_address(const struct link *l);
enum err link_error(const struct link *l);
const char *link_error_text(const struct link *l);
/* false before there is a session. */
bool link_info(const struct link *l, struct session_info *i);

#endif
