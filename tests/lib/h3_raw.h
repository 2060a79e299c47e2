/* h3_raw.h - an HTTP/3 client, and a server of which the test writes every byte of every stream.
 *
 * On top of h3_pair.h. Everything here fails the running cmocka case when it does not come through.
 */
#ifndef ADIT_TESTS_LIB_H3_RAW_H
#define ADIT_TESTS_LIB_H3_RAW_H

#include "lib/h3_pair.h"
#include "lib/owner.h"

/* What every case says in every other line. */
static inline struct session *client(struct session_pair *p) { return p->side[PAIR_CLIENT].session; }
static inline struct session *server(struct session_pair *p) { return p->side[PAIR_SERVER].session; }
static inline void settle(struct session_pair *p) { session_pair_settle(p, 100 * PAIR_MS); }

/* A CONNECT to example.test:443. */
extern const struct header h3raw_connect[2];

/* An adit client, and a qraw server. */
struct session_pair_config h3raw_config(void);
/* Of this config (NULL: that one), both UP, and the server's SETTINGS came. */
struct session_pair *h3raw_pair(const struct session_pair_config *c);
/* Both UP, of any config; a raw server has said nothing yet. */
struct session_pair *h3raw_up(struct session_pair_config *c);
/* The server's control stream with empty SETTINGS. */
void h3raw_settings(struct session_pair *p);

/* A CONNECT by the client, with an owner that reads. */
void h3raw_open(struct session_pair *p, struct owner *w, bool fin);
/* HEADERS with only a status, by the server. */
void h3raw_answer(struct session_pair *p, int64_t id, int status);
/* One CONNECT, number n of the session, answered unless status is 0: the server's side of it. */
struct qraw_stream *h3raw_tunnel(struct session_pair *p, struct owner *w, unsigned n, int status);

/* The frames in what came on a stream. */
struct h3raw_frames {
    size_t count, data; /* frames, and bytes in DATA */
    unsigned first_type, last_type;
    size_t last_len;
    uint32_t sum; /* of DATA */
    bool whole;
};
struct h3raw_frames h3raw_parse(const struct qraw_stream *t);
/* What deployed endpoints need: HEADERS, DATA of an owner's pattern, ..., and at the very end 00 00 with the
 * FIN on it. */
void h3raw_assert_end(const struct qraw_stream *t, size_t payload);

#endif
