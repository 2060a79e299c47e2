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
    uint64_t started, up, last_rx, handshake_deadline;
    uint64_t bytes_in, bytes_out;
    size_t unread; /* received bytes that no stream owner consumed yet */
    bool unverified;
};

void session_base_init(struct session *s, const struct session_ops *ops, const struct session_config *c);
void session_base_fini(struct session *s);
/* The one setter of state; logs, and delivers cb.state through the queue. Ignores going back. */
void session_set_state(struct session *s, enum session_state state);
/* The first error of a session wins; the text is quoted and cut. Then the state becomes DOWN. */
void session_fail(struct session *s, enum err err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
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
/* Three digits of ":status", or -1. */
int head_store_status(const struct head_store *h);

#endif
