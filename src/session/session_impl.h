/* session_impl.h - what h2.c and h3.c share behind session.h: the common part of a session and of its streams.
 *
 * Private to src/session. session.c dispatches the public functions over `ops` and implements the helpers below.
 */
#ifndef ADIT_SESSION_SESSION_IMPL_H
#define ADIT_SESSION_SESSION_IMPL_H

#include "session/session.h"

struct session_ops {
    void (*free)(struct session *s);
    void (*in)(struct session *s, const uint8_t *p, size_t n, uint64_t now);
    void (*in_datagram)(struct session *s, const struct addr *remote, uint8_t ecn, const uint8_t *p, size_t n,
                        uint64_t now);
    bool (*out)(struct session *s, struct session_out *o, uint64_t now);
    void (*sent)(struct session *s, size_t n, uint64_t now);
    uint64_t (*deadline)(const struct session *s);
    void (*expire)(struct session *s, uint64_t now);
    struct stream *(*open)(struct session *s, const struct header *head, size_t n, bool fin, uint64_t now, int *err);
    unsigned (*capacity)(const struct session *s);
    void (*load)(const struct session *s, struct session_load *l); /* streams, congested */
    int (*respond)(struct stream *st, const struct header *head, size_t n, bool fin);
    void (*ping)(struct session *s, uint64_t now);
    void (*retire)(struct session *s, uint64_t now);
    void (*close)(struct session *s, enum err err, uint64_t now);
    void (*info)(const struct session *s, struct session_info *i);
};

/* Embedded first in struct h2 and struct h3. */
struct session {
    const struct session_ops *ops;
    struct session_config cfg; /* creds referenced */
    enum session_state state;
    enum err err;
    char err_text[256];
    struct defer state_node; /* delivers cb.state */
    unsigned untold;         /* bit n: entering state n was not delivered yet */
    uint64_t started, up, last_rx, handshake_deadline;
    uint64_t bytes_in, bytes_out;
    size_t unread; /* received bytes that no stream owner consumed yet */
    bool unverified;
};

/* What session_new() dispatches to. They set *out and return 0, or return ERR_NO_MEMORY / ERR_UPSTREAM_TLS. */
int h2_new(struct session **out, const struct session_config *c);
int h3_new(struct session **out, const struct session_config *c);

/* Copies the config, takes a reference to its creds, starts the clock of the handshake. cfg.accept is only good until
 * h3_new() returns. */
void session_base_init(struct session *s, const struct session_ops *ops, const struct session_config *c);
/* Gives the reference back and cancels what is queued; no callback follows. */
void session_base_fini(struct session *s);
/* The one setter of state; logs, stamps `up`, and delivers cb.state through the queue, once for each state entered.
 * Ignores going back. */
void session_set_state(struct session *s, enum session_state state, uint64_t now);
/* The first error of a session wins; the text is made printable and cut (pass foreign words as they came). Then the state
 * becomes DOWN. err may be ERR_OK: an orderly end. */
void session_fail(struct session *s, uint64_t now, enum err err, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void session_wake(struct session *s);

/* A received head: fields in one growing block, bounded by SESSION_HEAD_*. */
struct head_store {
    char *block;
    size_t used, cap;
    struct {
        uint32_t name, value;
        uint32_t name_len, value_len;
    } *fields;
    unsigned count, fields_cap;
};
/* 0, ERR_LIMIT or ERR_NO_MEMORY. */
int head_store_add(struct head_store *h, const void *name, size_t name_len, const void *value, size_t value_len);
const char *head_store_get(const struct head_store *h, const char *name, size_t *len);
void head_store_clear(struct head_store *h);
/* Three digits of ":status" (100..599), or -1. */
int head_store_status(const struct head_store *h);

/* Embedded first in the streams of H2 and H3. */
struct session_stream {
    struct stream st;
    struct session *session;  /* NULL once the session is gone or the stream has nothing to do with it any more */
    struct head_store head;   /* what session_stream_header() looks into */
    struct defer request_node; /* delivers cb.request */
    bool offered;             /* cb.request was called: somebody else owns the stream */
    char *authority;          /* client role: whom the request named, for the log; NULL: unknown */
};
void session_stream_init(struct session_stream *ss, struct session *s, const struct stream_ops *ops);
/* Cancels what is queued and frees the head; the caller frees the memory. */
void session_stream_fini(struct session_stream *ss);
/* Server role: delivers cb.request through the queue. Until it was delivered (`offered`) the stream is still the
 * session's, which must free it if it ends before. */
void session_stream_offer(struct session_stream *ss);

/* The streams that hold most unread bytes, most first. All zeros at the start. */
#define SESSION_HOLDERS 3
struct session_holders {
    const struct session_stream *stream[SESSION_HOLDERS];
    size_t bytes[SESSION_HOLDERS];
};
void session_holders_add(struct session_holders *h, const struct session_stream *ss, size_t bytes);
/* Says that the budget is used up, and by whom. */
void session_log_congestion(const struct session *s, const struct session_holders *h, unsigned streams,
                            unsigned suppressed);

#endif
