/* h3_pair.h - what HTTP/3 tests need beside session_pair.h: the doorstep of the server, and a peer without HTTP/3.
 */
#ifndef ADIT_TESTS_LIB_H3_PAIR_H
#define ADIT_TESTS_LIB_H3_PAIR_H

#include "lib/session_pair.h"
#include "session/quic_accept.h"

/* session_pair_config_init() with a doorstep: its acceptor is shared by the process, so one pair at a time. */
void h3_pair_config_init(struct session_pair_config *c, bool retry);
/* Both are UP, else NULL. */
struct session_pair *h3_pair_new(const struct session_pair_config *c);
/* A CONNECT to example.test:443, answered with `status` at the server. False if it does not come through. */
bool h3_pair_tunnel(struct session_pair *p, int status, struct stream **client, struct stream **server);

/* What the doorstep did since h3_pair_config_init(). */
struct h3_pair_door {
    struct quic_acceptor acceptor;
    unsigned replies, sessions, dropped;
    struct quic_cid cids[64]; /* that lead to the server's session */
    unsigned n_cids;
};
extern struct h3_pair_door h3_pair_door;

/* ---- a peer of bytes ---- */

/* A QUIC session whose streams carry whatever the test puts into them. Everything that arrives is kept. */
#define QRAW_STREAMS 64
#define QRAW_OUT (4 << 20) /* bytes that may be written to one stream in all */
struct qraw_stream {
    int64_t id;
    uint8_t *in; /* as it came */
    size_t in_len;
    unsigned pieces;          /* times bytes or an end came */
    uint8_t last[64];         /* the first bytes of the last piece */
    size_t last_len;
    bool fin, last_fin, reset, closed;
    uint64_t reset_code, closed_code;
    uint8_t *out;
    size_t out_len, out_at;
    bool out_fin, out_fin_sent, blocked, stopped;
};
/* Both for struct session_pair_config.make, which cannot know the role: it takes it from the config. */
int qraw_new(struct session **out, const struct session_config *c);
struct qraw_stream *qraw_stream(struct session *s, int64_t id);
/* Opens one. */
int64_t qraw_open(struct session *s, bool bidi);
void qraw_write(struct session *s, int64_t id, const void *p, size_t n, bool fin);
void qraw_reset(struct session *s, int64_t id, uint64_t code);
void qraw_stop(struct session *s, int64_t id, uint64_t code);
/* CONNECTION_CLOSE of the application. */
void qraw_close(struct session *s, uint64_t code, uint64_t now);
struct quic;
struct quic *qraw_quic(struct session *s);
/* Does not give window back any more. */
void qraw_starve(struct session *s, bool starve);

#endif
